//! Operators with products: convolutions, dense layers, sums and products of two tensors.

use std::sync::Arc;

use super::lower::{Lowering, Op, bounds, product};
use super::model::{Described, Type};
use crate::error::Result;
use crate::pack::integer::{
    Binary, BinaryKind, Constant, Multiplier, Operand, Product, ProductKind, Rescale, StepKind, Tensor, Window,
};
use crate::pack::{Granularity, Shape};

/// Bytes that a filter's numbers take at most, here and on the device.
const FILTER: usize = 32;

/// Padding of a window along one axis, before and behind, and the places that it has.
pub(super) fn slide(op: &Op<'_>, padding: i8, [len, filter, stride, dilation]: [usize; 4]) -> Result<[usize; 3]> {
    let impossible = || op.malformed(format!("a window of {filter} every {stride} on {len}"));
    if filter == 0 || stride == 0 || dilation == 0 {
        return Err(impossible());
    }
    let reach = (filter - 1).checked_mul(dilation).and_then(|reach| reach.checked_add(1)).ok_or_else(impossible)?;
    match padding {
        0 => {
            let places = len.div_ceil(stride);
            let missing = ((places - 1) * stride).checked_add(reach).ok_or_else(impossible)?.saturating_sub(len);
            Ok([missing / 2, missing - missing / 2, places])
        }
        1 if reach <= len => Ok([0, 0, (len - reach) / stride + 1]),
        1 => Err(impossible()),
        other => Err(op.unsupported(format!("padding {other}"))),
    }
}

/// A positive length of an option.
pub(super) fn length(op: &Op<'_>, field: usize, default: i32) -> Result<usize> {
    let value = op.options()?.integer(field, default)?;
    usize::try_from(value)
        .ok()
        .filter(|&n| (1..=1 << 24).contains(&n))
        .ok_or_else(|| op.malformed(format!("an option is {value}")))
}

/// `CONV_2D` and `DEPTHWISE_CONV_2D`.
pub(super) fn conv(lowering: &mut Lowering<'_, '_>, op: Op<'_>) -> Result<()> {
    let depthwise = op.table.code == 4;
    let (input, weights) = (lowering.computed(&op, 0)?, op.needed(1)?);
    let described = lowering.model.tensor(weights)?;
    let [first, height, width, last] = four_axes(&op, &described)?;
    let from = lowering.tensors[input].shape;
    let (filters, groups) = if depthwise { (last, from[2]) } else { (first, from[2].checked_div(last).unwrap_or(0)) };
    let fits = if depthwise { first == 1 } else { last > 0 && from[2].is_multiple_of(last) };
    if !fits || groups == 0 || !filters.is_multiple_of(groups) || filters == 0 {
        return Err(op.malformed(format!("weights of another number of channels than {}", from[2])));
    }
    let (activation, dilation) = if depthwise { (4, 5) } else { (3, 4) };
    let stride = [length(&op, 2, 0)?, length(&op, 1, 0)?];
    let dilation = [length(&op, dilation + 1, 1)?, length(&op, dilation, 1)?];
    let padding = op.options()?.byte(0)?;
    let [top, bottom, rows] = slide(&op, padding, [from[0], height, stride[0], dilation[0]])?;
    let [left, right, columns] = slide(&op, padding, [from[1], width, stride[1], dilation[1]])?;
    let window = Window { filter: [height, width], stride, dilation, padding: [top, left] };
    let shape = Shape {
        input: from,
        filter: [height, width],
        filters,
        stride,
        padding: [top, left, bottom, right],
        dilation,
        groups,
    };
    let output = lowering.define(op.output()?)?;
    same_shape(&op, &lowering.tensors[output], [rows, columns, filters])?;
    let kind = if depthwise { ProductKind::Depthwise } else { ProductKind::Conv };
    let axis = if depthwise { 3 } else { 0 };
    let activation = op.options()?.byte(activation)?;
    finish(lowering, op, Parts { kind, input, output, shape, window, weights, described, axis, activation })
}

/// `FULLY_CONNECTED`: of the channels of each place, or of the whole map.
pub(super) fn dense(lowering: &mut Lowering<'_, '_>, op: Op<'_>) -> Result<()> {
    let (input, weights) = (lowering.computed(&op, 0)?, op.needed(1)?);
    let described = lowering.model.tensor(weights)?;
    let lengths: Vec<usize> = described.shape.iter().take(3).map(|n| usize::try_from(n).unwrap_or(0)).collect();
    let [filters, depth] = lengths[..] else {
        return Err(op.malformed(format!("weights of shape {lengths:?}")));
    };
    let options = op.options()?;
    if options.byte(1)? != 0 {
        return Err(op.unsupported("shuffled weights"));
    }
    let [height, width, channels] = lowering.tensors[input].shape;
    let (filter, places) = if depth == channels {
        ([1, 1], [height, width])
    } else if depth == height * width * channels {
        ([height, width], [1, 1])
    } else {
        return Err(op.unsupported(format!("products of {depth} values of a map {:?}", [height, width, channels])));
    };
    if filters == 0 || depth == 0 {
        return Err(op.malformed("no weights"));
    }
    let output = op.output()?;
    let declared = product(lowering.model.tensor(output)?.shape.iter());
    if declared != (places[0] * places[1]).checked_mul(filters) {
        return Err(op.malformed("its output has another shape"));
    }
    let output = lowering.define_as(output, [places[0], places[1], filters])?;
    let window = Window { filter, stride: [1, 1], dilation: [1, 1], padding: [0, 0] };
    let shape = Shape::dense(places[0] * places[1], depth, filters);
    let (kind, activation) = (ProductKind::Conv, options.byte(0)?);
    finish(lowering, op, Parts { kind, input, output, shape, window, weights, described, axis: 0, activation })
}

/// What is known of a product before its numbers are read.
struct Parts<'a> {
    kind: ProductKind,
    input: usize,
    output: usize,
    shape: Shape,
    window: Window,
    weights: usize,
    described: Described<'a>,
    axis: i32,
    activation: i8,
}

fn finish(lowering: &mut Lowering<'_, '_>, op: Op<'_>, parts: Parts<'_>) -> Result<()> {
    let Parts { kind, input, output, shape, window, weights, described, axis, activation } = parts;
    lowering.spend(shape.filters.saturating_mul(FILTER).saturating_add(described.name.len()))?;
    let [from, to] = [input, output].map(|tensor| lowering.tensors[tensor].clone());
    let rescale = rescale(&op, &described, axis, (&from, &to), shape.filters)?;
    let bias = bias(lowering, &op, shape.filters)?;
    let one = matches!(&rescale, Rescale::Real(scales) if scales.len() == 1) || described.scales.len() == 1;
    let product = Product {
        kind,
        input,
        shape,
        window,
        weights: lowering.int8(weights, &described)?,
        weights_name: described.name.to_owned(),
        granularity: if one { Granularity::Tensor } else { Granularity::Channel },
        bias,
        rescale,
        bounds: bounds(&op, activation, &to)?,
    };
    lowering.push(StepKind::Product(Box::new(product)), output);
    Ok(())
}

/// Factors from sums to codes.
fn rescale(
    op: &Op<'_>,
    weights: &Described<'_>,
    axis: i32,
    (from, to): (&Tensor, &Tensor),
    filters: usize,
) -> Result<Rescale> {
    let count = weights.scales.len();
    if count != 1 && (count != filters || weights.axis != axis) {
        return Err(op.unsupported(format!("{count} scales of weights along axis {}", weights.axis)));
    }
    if weights.zero_points.len() > count {
        return Err(weights.what.malformed(format!("{} zero points for {count} scales", weights.zero_points.len())));
    }
    if weights.zero_points.iter().any(|zero| zero != 0) {
        return Err(op.unsupported("weights with a zero point other than 0"));
    }
    let real = |scale: f32| f64::from(from.scale) * f64::from(scale) / f64::from(to.scale);
    if weights.scales.iter().any(|scale| !scale.is_finite() || scale < 0.0) {
        return Err(weights.what.malformed("a scale is no positive number"));
    }
    if op.table.code == 9 {
        return Ok(Rescale::Real(weights.scales.iter().map(real).collect()));
    }
    let scale = |filter: usize| weights.scales.get(filter % count).unwrap_or(0.0);
    let fixed: Option<Vec<_>> = (0..filters).map(|filter| Multiplier::new(real(scale(filter)))).collect();
    fixed.map(Rescale::Fixed).ok_or_else(|| op.unsupported("a factor of 2^30 or more"))
}

fn bias(lowering: &Lowering<'_, '_>, op: &Op<'_>, filters: usize) -> Result<Option<Arc<[i32]>>> {
    let Some(tensor) = op.input(2) else { return Ok(None) };
    let described = lowering.model.tensor(tensor)?;
    if described.element != Type::Int32 || described.data.len() != filters.saturating_mul(4) {
        return Err(op.unsupported(format!("a bias that is not {filters} int32")));
    }
    let word = |four: &[u8]| i32::from_le_bytes(std::array::from_fn(|i| four[i]));
    Ok(Some(described.data.chunks_exact(4).map(word).collect()))
}

fn four_axes(op: &Op<'_>, described: &Described<'_>) -> Result<[usize; 4]> {
    let lengths: Vec<usize> = described.shape.iter().take(5).map(|n| usize::try_from(n).unwrap_or(0)).collect();
    <[usize; 4]>::try_from(lengths).map_err(|lengths| op.malformed(format!("weights of shape {lengths:?}")))
}

pub(super) fn same_shape(op: &Op<'_>, to: &Tensor, shape: [usize; 3]) -> Result<()> {
    if to.shape == shape {
        return Ok(());
    }
    Err(op.malformed(format!("its output has shape {:?}, its input makes {shape:?}", to.shape)))
}

/// `ADD` and `MUL`.
pub(super) fn binary(lowering: &mut Lowering<'_, '_>, op: Op<'_>) -> Result<()> {
    let output = lowering.define(op.output()?)?;
    let to = lowering.tensors[output].clone();
    let (a, scale_a, zero_a) = operand(lowering, &op, 0, &to)?;
    let (b, scale_b, zero_b) = operand(lowering, &op, 1, &to)?;
    let factor = |real: f64| Multiplier::new(real).ok_or_else(|| op.unsupported("a factor of 2^30 or more"));
    let (kind, rescale) = if op.table.code == 0 {
        // Exactly as TFLite: the larger scale doubled is 1, after a shift to the left by 20.
        let twice = 2.0 * f64::from(scale_a.max(scale_b));
        let out = twice / (f64::from(1_u32 << 20) * f64::from(to.scale));
        if out >= 1.0 {
            return Err(op.unsupported("an output whose scale is a millionth of its inputs'"));
        }
        let each = [factor(f64::from(scale_a) / twice)?, factor(f64::from(scale_b) / twice)?];
        (BinaryKind::Add(each), factor(out)?)
    } else {
        // In f32, as there.
        (BinaryKind::Multiply, factor(f64::from(scale_a * scale_b / to.scale))?)
    };
    let bounds = bounds(&op, op.table.options.map_or(Ok(0), |options| options.byte(0))?, &to)?;
    let binary = Binary { kind, operands: [a, b], zero_points: [zero_a, zero_b], rescale, bounds };
    lowering.push(StepKind::Binary(Box::new(binary)), output);
    Ok(())
}

/// An operand with its scale and zero point: computed or stored, of the output's shape or of one place.
fn operand(lowering: &mut Lowering<'_, '_>, op: &Op<'_>, i: usize, to: &Tensor) -> Result<(Operand, f32, i32)> {
    let tensor = op.needed(i)?;
    let described = lowering.model.tensor(tensor)?;
    let unfit = |shape: &[usize]| op.unsupported(format!("an operand of shape {shape:?} for an output {:?}", to.shape));
    if described.data.is_empty() {
        let ours = lowering.computed(op, i)?;
        let Tensor { shape, scale, zero_point, .. } = lowering.tensors[ours];
        let fits = shape == to.shape || shape == [1, 1, to.shape[2]];
        return if fits { Ok((Operand::Tensor(ours), scale, zero_point)) } else { Err(unfit(&shape)) };
    }
    let (scale, zero_point) = super::lower::scale_of(&described)?;
    let codes = lowering.int8(tensor, &described)?;
    let channels = to.shape[2];
    let codes = if codes.len() == 1 && channels > 1 {
        lowering.spend(channels)?;
        vec![codes[0]; channels].into()
    } else {
        codes
    };
    let last = described.shape.iter().last().and_then(|n| usize::try_from(n).ok());
    let places = codes.len() / channels;
    let fits = places == 1 || places == to.shape[0] * to.shape[1];
    if codes.len() % channels != 0 || !fits || (places > 1 && last != Some(channels)) {
        return Err(unfit(&[codes.len()]));
    }
    Ok((Operand::Constant(Constant { codes }), scale, zero_point))
}
