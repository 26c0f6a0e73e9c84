//! Operators that summarise or move codes: pools, means, reshapes, padding, concatenation.

use super::lower::{Lowering, Op, product};
use super::model::Type;
use super::products::{length, same_shape, slide};
use crate::error::Result;
use crate::pack::integer::{Bounds, Multiplier, Pool, PoolKind, StepKind, Tensor, Window};

/// Codes that mean the same in both tensors.
fn same_scale(op: &Op<'_>, from: &Tensor, to: &Tensor) -> Result<()> {
    if from.scale == to.scale && from.zero_point == to.zero_point {
        return Ok(());
    }
    Err(op.unsupported("an output of another scale than its input's"))
}

/// `AVERAGE_POOL_2D` and `MAX_POOL_2D`.
pub(super) fn pool(lowering: &mut Lowering<'_, '_>, op: Op<'_>) -> Result<()> {
    let (input, output) = (lowering.computed(&op, 0)?, lowering.define(op.output()?)?);
    let [from, to] = [input, output].map(|tensor| &lowering.tensors[tensor]);
    same_scale(&op, from, to)?;
    let stride = [length(&op, 2, 0)?, length(&op, 1, 0)?];
    let filter = [length(&op, 4, 0)?, length(&op, 3, 0)?];
    let padding = op.options()?.byte(0)?;
    let [top, _, rows] = slide(&op, padding, [from.shape[0], filter[0], stride[0], 1])?;
    let [left, _, columns] = slide(&op, padding, [from.shape[1], filter[1], stride[1], 1])?;
    same_shape(&op, to, [rows, columns, from.shape[2]])?;
    let window = Window { filter, stride, dilation: [1, 1], padding: [top, left] };
    let bounds = super::lower::bounds(&op, op.options()?.byte(5)?, to)?;
    let kind = if op.table.code == 17 { PoolKind::Max } else { PoolKind::Average };
    lowering.push(StepKind::Pool(Pool { kind, input, window, bounds }), output);
    Ok(())
}

/// `MEAN` of the whole map of each channel.
pub(super) fn mean(lowering: &mut Lowering<'_, '_>, op: Op<'_>) -> Result<()> {
    let input = lowering.computed(&op, 0)?;
    let axes = integers(lowering, &op, 1)?;
    let rank = i32::try_from(lowering.model.tensor(op.needed(0)?)?.shape.len()).unwrap_or(0);
    let mut axes: Vec<i32> = axes.into_iter().map(|axis| if axis < 0 { axis + rank } else { axis }).collect();
    axes.sort_unstable();
    if axes != [1, 2] || rank != 4 {
        return Err(op.unsupported(format!("the mean along axes {axes:?} of {rank}")));
    }
    let output = lowering.define(op.output()?)?;
    let [from, to] = [input, output].map(|tensor| &lowering.tensors[tensor]);
    let [height, width, channels] = from.shape;
    same_shape(&op, to, [1, 1, channels])?;
    let real = f64::from(from.scale) / f64::from(to.scale);
    let multiplier = Multiplier::new(real).and_then(|m| m.over(height * width));
    let multiplier = multiplier.ok_or_else(|| op.unsupported("a factor of 2^30 or more"))?;
    let window = Window { filter: [height, width], stride: [1, 1], dilation: [1, 1], padding: [0, 0] };
    let kind = PoolKind::Mean(multiplier);
    lowering.push(StepKind::Pool(Pool { kind, input, window, bounds: Bounds::ALL }), output);
    Ok(())
}

/// `RESHAPE`, `SQUEEZE` and `EXPAND_DIMS`.
pub(super) fn reshape(lowering: &mut Lowering<'_, '_>, op: Op<'_>) -> Result<()> {
    let (input, output) = (lowering.computed(&op, 0)?, lowering.define(op.output()?)?);
    let [from, to] = [input, output].map(|tensor| &lowering.tensors[tensor]);
    if from.len() != to.len() {
        return Err(op.malformed(format!("its output has shape {:?}, its input {:?}", to.shape, from.shape)));
    }
    lowering.push(StepKind::Reshape { input }, output);
    Ok(())
}

/// Which of ours an axis of the file is, by the number of axes.
fn axis_of(rank: usize, axis: usize) -> Option<usize> {
    match (rank, axis) {
        (4, 1..=3) => Some(axis - 1),
        (3, 1) => Some(0),
        (3, 2) | (2, 1) => Some(2),
        _ => None,
    }
}

/// `PAD` with the code of 0.
pub(super) fn pad(lowering: &mut Lowering<'_, '_>, op: Op<'_>) -> Result<()> {
    let input = lowering.computed(&op, 0)?;
    let widths = integers(lowering, &op, 1)?;
    let rank = lowering.model.tensor(op.needed(0)?)?.shape.len();
    let output = lowering.define(op.output()?)?;
    let [from, to] = [input, output].map(|tensor| &lowering.tensors[tensor]);
    same_scale(&op, from, to)?;
    let (mut at, mut shape) = ([0; 3], from.shape);
    if widths.len() != 2 * rank {
        return Err(op.malformed(format!("{} widths of padding for {rank} axes", widths.len())));
    }
    for (axis, pair) in widths.chunks_exact(2).enumerate() {
        if pair == [0, 0] {
            continue;
        }
        let pair = [usize::try_from(pair[0]), usize::try_from(pair[1])];
        let (Some(ours), [Ok(before), Ok(behind)]) = (axis_of(rank, axis), pair) else {
            return Err(op.unsupported(format!("padding along axis {axis} of {rank}")));
        };
        at[ours] = before;
        shape[ours] += before + behind;
    }
    same_shape(&op, to, shape)?;
    let fill = to.zero_point as i8;
    lowering.push(StepKind::Join { parts: vec![(input, at)], fill }, output);
    Ok(())
}

/// `CONCATENATION` along an axis.
pub(super) fn concatenation(lowering: &mut Lowering<'_, '_>, op: Op<'_>) -> Result<()> {
    let count = op.table.inputs.len();
    lowering.spend(count.saturating_mul(32))?;
    let first = lowering.model.tensor(op.needed(0)?)?;
    let rank = first.shape.len();
    let options = op.options()?;
    let axis = options.integer(0, 0)?;
    let axis = if axis < 0 { axis.saturating_add(i32::try_from(rank).unwrap_or(0)) } else { axis };
    let Some(along) = usize::try_from(axis).ok().and_then(|axis| axis_of(rank, axis)) else {
        return Err(op.unsupported(format!("axis {axis} of {rank}")));
    };
    if options.byte(1)? != 0 {
        return Err(op.unsupported("an activation"));
    }
    let output = lowering.define(op.output()?)?;
    let to = lowering.tensors[output].clone();
    let (mut parts, mut shape) = (Vec::new(), to.shape);
    shape[along] = 0;
    for i in 0..count {
        let part = lowering.computed(&op, i)?;
        let from = &lowering.tensors[part];
        same_scale(&op, from, &to)?;
        let mut at = [0; 3];
        at[along] = shape[along];
        shape[along] += from.shape[along];
        let others = (0..3).all(|axis| axis == along || from.shape[axis] == to.shape[axis]);
        if !others || shape[along] > to.shape[along] {
            return Err(op.malformed(format!("input {i} of shape {:?} in an output {:?}", from.shape, to.shape)));
        }
        parts.push((part, at));
    }
    same_shape(&op, &to, shape)?;
    lowering.push(StepKind::Join { parts, fill: to.zero_point as i8 }, output);
    Ok(())
}

/// The few numbers of a stored input.
fn integers(lowering: &Lowering<'_, '_>, op: &Op<'_>, i: usize) -> Result<Vec<i32>> {
    let described = lowering.model.tensor(op.needed(i)?)?;
    let size = match described.element {
        Type::Int32 => 4,
        Type::Int64 => 8,
        other => return Err(op.unsupported(format!("input {i} is {}", other.name()))),
    };
    let len = product(described.shape.iter()).unwrap_or(0);
    if len > 16 || described.data.len() != len * size {
        return Err(op.unsupported(format!("input {i} is not a few stored numbers")));
    }
    // The low half of a long is all of it for lengths and axes.
    let word = |bytes: &[u8]| i32::from_le_bytes(std::array::from_fn(|i| bytes[i]));
    Ok(described.data.chunks_exact(size).map(word).collect())
}
