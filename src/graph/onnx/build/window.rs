//! Convolutions and pools: their attributes, and 1-D windows as 2-D ones of height 1.

use super::{Builder, Site};
use crate::error::Result;
use crate::graph::onnx::attributes::Attributes;
use crate::graph::onnx::reshape;
use crate::graph::{Op, Value, ValueId, Window};
use std::sync::Arc;

/// The rule by which padding is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Auto {
    /// What the file says.
    Given,
    /// As many windows as strides fit the input, so that padding is split evenly; an odd rest goes to the end.
    SameUpper,
    /// The same, an odd rest goes to the beginning.
    SameLower,
}

/// The padding of a window, which the size of the input may decide.
struct Frame {
    window: Window,
    auto: Auto,
}

impl Frame {
    /// The attributes of all windows, for `dims` spatial dimensions.
    fn new(site: &Site<'_>, attributes: &Attributes<'_>, dims: usize) -> Result<Self> {
        let strides = list(site, "strides", attributes.ints("strides")?, dims)?;
        let dilations = list(site, "dilations", attributes.ints("dilations")?, dims)?;
        let pads = list(site, "pads", attributes.ints("pads")?, 2 * dims)?;
        let group = attributes.int("group", 1)?;
        let groups = usize::try_from(group).map_err(|_| site.bad(&format!("attribute 'group' is {group}")))?;
        let (begin, end) = pads.as_deref().unwrap_or_default().split_at(pads.as_ref().map_or(0, |_| dims));
        let window = Window {
            strides: pair(strides.as_deref(), 1),
            begin: pair(Some(begin), 0),
            end: pair(Some(end), 0),
            dilations: pair(dilations.as_deref(), 1),
            groups,
        };
        let auto = match attributes.string("auto_pad")? {
            "" | "NOTSET" => Auto::Given,
            rule @ ("VALID" | "SAME_UPPER" | "SAME_LOWER") => {
                if pads.is_some_and(|pads| pads.iter().any(|&pad| pad > 0)) {
                    return Err(site.bad(&format!("attribute 'pads' stands beside 'auto_pad' {rule}")));
                }
                match rule {
                    "SAME_UPPER" => Auto::SameUpper,
                    "SAME_LOWER" => Auto::SameLower,
                    _ => Auto::Given,
                }
            }
            rule => {
                return Err(site
                    .unsupported(&format!("attribute 'auto_pad' is '{rule}'"))
                    .with_help("supported are NOTSET, VALID, SAME_UPPER and SAME_LOWER"));
            }
        };
        Ok(Self { window, auto })
    }

    /// The window for an input of this size. Sums saturate: shape inference refuses what comes of it.
    fn resolve(&self, kernel: [usize; 2], input: [usize; 2]) -> Window {
        let mut window = self.window;
        for (axis, &len) in input.iter().enumerate() {
            if self.auto == Auto::Given || window.strides[axis] == 0 {
                continue;
            }
            let stride = window.strides[axis];
            let last = len.div_ceil(stride).saturating_sub(1).saturating_mul(stride);
            let missing = last.saturating_add(span(&window, kernel, axis)).saturating_sub(len);
            let (less, more) = (missing / 2, missing - missing / 2);
            [window.begin[axis], window.end[axis]] =
                if self.auto == Auto::SameUpper { [less, more] } else { [more, less] };
        }
        window
    }
}

/// Rows or columns from the first tap of a window to its last.
fn span(window: &Window, kernel: [usize; 2], axis: usize) -> usize {
    kernel[axis].saturating_sub(1).saturating_mul(window.dilations[axis]).saturating_add(1)
}

/// A list of numbers that are not negative; its length must be `len`.
fn list(site: &Site<'_>, name: &str, list: Option<&[i64]>, len: usize) -> Result<Option<Vec<usize>>> {
    let Some(list) = list else {
        return Ok(None);
    };
    if list.len() != len {
        return Err(site.bad(&format!("attribute '{name}' is {list:?} where {len} numbers are expected")));
    }
    let converted: Option<Vec<usize>> = list.iter().map(|&n| usize::try_from(n).ok()).collect();
    converted.map(Some).ok_or_else(|| {
        site.unsupported(&format!("attribute '{name}' is {list:?}, and negative numbers are not supported"))
            .with_help("crop with a Slice instead of negative padding")
    })
}

/// A list of one or two numbers as two: 1-D windows have height 1, stride 1 and no padding in the dimension that they lack.
fn pair(list: Option<&[usize]>, default: usize) -> [usize; 2] {
    match list {
        Some(&[row, column]) => [row, column],
        Some(&[column]) => [default, column],
        _ => [default; 2],
    }
}

/// The window of a pool that counts in ceiling mode, and whether that changes anything: it has one window more where a
/// rest of the input is left over and that window starts inside the input or the padding in front.
fn ceiling(mut window: Window, kernel: [usize; 2], input: [usize; 2]) -> (Window, bool) {
    let mut changed = false;
    for (axis, &len) in input.iter().enumerate() {
        let (stride, begin, end) = (window.strides[axis], window.begin[axis], window.end[axis]);
        let span = span(&window, kernel, axis);
        let start = len.saturating_add(begin);
        let padded = start.saturating_add(end);
        // Less than a window may be there, but not less by a stride.
        if stride == 0 || span > padded.saturating_add(stride - 1) {
            continue;
        }
        let room = padded.saturating_sub(span);
        let mut last = room.div_ceil(stride).saturating_mul(stride);
        if last >= start {
            last = last.saturating_sub(stride);
        }
        let needed = last.saturating_add(span).saturating_sub(start);
        if needed > end {
            window.end[axis] = needed;
            changed = true;
        }
    }
    (window, changed)
}

impl<'a> Builder<'a> {
    /// The number of spatial dimensions of an operand, 1 or 2.
    fn dims(&self, site: &Site<'a>, x: ValueId) -> Result<usize> {
        match self.shape(x) {
            [_, _, _] => Ok(1),
            [_, _, _, _] => Ok(2),
            shape @ ([] | [_] | [_, _]) => {
                Err(site
                    .bad(&format!("an operand of shape {shape:?} where [1, channels, (height,) width] is expected")))
            }
            shape => Err(site
                .unsupported(&format!("windows over {} dimensions (shape {shape:?})", shape.len() - 2))
                .with_help("only 1-D and 2-D windows are supported")),
        }
    }

    /// An operand `[.., .., width]` as `[.., .., 1, width]`.
    fn lift(&mut self, site: &Site<'a>, suffix: &str, x: ValueId) -> Result<ValueId> {
        match *self.shape(x) {
            [a, b, width] => self.step(site, suffix, Op::Reshape, vec![x], vec![a, b, 1, width]),
            _ => Ok(x),
        }
    }

    /// A constant weight `[.., .., width]` as `[.., .., 1, width]`, under the name that it has.
    fn lift_weight(&mut self, weight: ValueId) -> ValueId {
        let Value { name, shape, constant } = self.values[weight.0].clone();
        let (&[a, b, width], Some(constant)) = (&shape[..], constant) else { return weight };
        let shape = vec![a, b, 1, width];
        match constant.to_shape(shape.clone()) {
            Ok(lifted) => {
                let constant = Some(Arc::new(lifted.into_owned()));
                self.leftovers = true;
                self.push(Value { name, shape, constant })
            }
            Err(_) => weight,
        }
    }

    /// Adds a node with windows; `dims` is the number of spatial dimensions that the result has in the file.
    fn windowed(&mut self, site: &Site<'a>, op: Op, inputs: Vec<ValueId>, dims: usize) -> Result<()> {
        if dims == 2 {
            return self.emit(site, op, inputs, vec![]);
        }
        let image = self.step(site, "image", op, inputs, vec![])?;
        let shape = [&self.shape(image)[..2], &self.shape(image)[3..]].concat();
        self.emit(site, Op::Reshape, vec![image], shape)
    }

    pub(super) fn conv(&mut self, site: &Site<'a>) -> Result<()> {
        let transposed = site.op == "ConvTranspose";
        let known = ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides", "output_padding"];
        let attributes = site.attributes(&known[..if transposed { 7 } else { 6 }])?;
        let (x, weight) = (self.operand(site, 0)?, self.fixed(site, 1, "weight")?);
        let dims = self.dims(site, x)?;
        if self.shape(weight).len() != dims + 2 {
            let (x, weight) = (self.shape(x), self.shape(weight));
            return Err(site.bad(&format!("a weight of shape {weight:?} for an operand of shape {x:?}")));
        }
        let (x, weight) = (self.lift(site, "rows", x)?, self.lift_weight(weight));
        let mut operands = vec![x, weight];
        if site.operand(2).is_some() {
            operands.push(self.fixed(site, 2, "bias")?);
        }
        let kernel = [self.shape(weight)[2], self.shape(weight)[3]];
        if let Some(declared) = list(site, "kernel_shape", attributes.ints("kernel_shape")?, dims)?
            && pair(Some(&declared), 1) != kernel
        {
            let weight = self.shape(weight);
            return Err(site.bad(&format!("attribute 'kernel_shape' is {declared:?}, the weight has shape {weight:?}")));
        }
        let frame = Frame::new(site, &attributes, dims)?;
        if !transposed {
            let input = [self.shape(x)[2], self.shape(x)[3]];
            return self.windowed(site, Op::Conv(frame.resolve(kernel, input)), operands, dims);
        }
        if frame.auto != Auto::Given {
            return Err(site
                .unsupported("attribute 'auto_pad' is SAME_UPPER or SAME_LOWER")
                .with_help("export with explicit 'pads' and 'output_padding'"));
        }
        let output_padding = list(site, "output_padding", attributes.ints("output_padding")?, dims)?;
        let output_padding = pair(output_padding.as_deref(), 0);
        self.windowed(site, Op::ConvTranspose { window: frame.window, output_padding }, operands, dims)
    }

    pub(super) fn pool(&mut self, site: &Site<'a>) -> Result<()> {
        let max = site.op == "MaxPool";
        let last = if max { "storage_order" } else { "count_include_pad" };
        let known = ["auto_pad", "dilations", "kernel_shape", "pads", "strides", "ceil_mode", last];
        let attributes = site.attributes(&known)?;
        let x = self.operand(site, 0)?;
        let dims = self.dims(site, x)?;
        let x = self.lift(site, "rows", x)?;
        let kernel = list(site, "kernel_shape", attributes.ints("kernel_shape")?, dims)?;
        let kernel = pair(Some(&kernel.ok_or_else(|| site.bad("attribute 'kernel_shape' is missing"))?), 1);
        let input = [self.shape(x)[2], self.shape(x)[3]];
        let mut window = Frame::new(site, &attributes, dims)?.resolve(kernel, input);
        let count_include_pad = !max && attributes.flag("count_include_pad")?;
        if attributes.flag("ceil_mode")? {
            let (wider, changed) = ceiling(window, kernel, input);
            if changed && count_include_pad {
                return Err(site
                    .unsupported("a window in ceiling mode reaches beyond the padding that is to be counted")
                    .with_help("export with 'ceil_mode' 0 and padding that fits"));
            }
            window = wider;
        }
        let op =
            if max { Op::MaxPool { kernel, window } } else { Op::AveragePool { kernel, window, count_include_pad } };
        self.windowed(site, op, vec![x], dims)
    }

    pub(super) fn global_pool(&mut self, site: &Site<'a>) -> Result<()> {
        site.attributes(&[])?;
        let x = self.operand(site, 0)?;
        let dims = self.dims(site, x)?;
        let x = self.lift(site, "rows", x)?;
        let kernel = [self.shape(x)[2], self.shape(x)[3]];
        let op = whole(site.op == "GlobalMaxPool", kernel);
        self.windowed(site, op, vec![x], dims)
    }

    /// `ReduceMax` and `ReduceMean`: a pool whose one window is all that is reduced, behind a Transpose where that is
    /// not last.
    pub(super) fn reduce(&mut self, site: &Site<'a>) -> Result<()> {
        let attributes = site.attributes(&["axes", "keepdims", "noop_with_empty_axes"])?;
        let x = self.operand(site, 0)?;
        let shape = self.shape(x).to_vec();
        let list = self.integers(site, attributes.ints("axes")?, 1, "axes")?.unwrap_or_default();
        if list.is_empty() && attributes.flag("noop_with_empty_axes")? {
            return self.alias(site);
        }
        let mut reduced = vec![list.is_empty(); shape.len()];
        for at in list {
            reduced[reshape::axis(at, shape.len(), false).map_err(|why| site.bad(&why))?] = true;
        }
        let (last, first): (Vec<usize>, Vec<usize>) = (0..shape.len()).partition(|&axis| reduced[axis]);
        let count = |axes: &[usize]| axes.iter().map(|&axis| shape[axis]).product::<usize>();
        let (rows, window) = (count(&first), count(&last));
        let perm = [first.as_slice(), &last].concat();
        let sorted = perm.is_sorted();
        let x = if sorted { x } else { self.step(site, "turned", Op::Transpose { perm }, vec![x], vec![])? };
        let x = self.step(site, "rows", Op::Reshape, vec![x], vec![1, rows, 1, window])?;
        let y = self.step(site, "reduced", whole(site.op == "ReduceMax", [1, window]), vec![x], vec![])?;
        let keep = attributes.int("keepdims", 1)? != 0;
        let kept = shape.iter().zip(&reduced).filter(|(_, reduced)| keep || !**reduced);
        let result = kept.map(|(&dim, &reduced)| if reduced { 1 } else { dim }).collect();
        self.emit(site, Op::Reshape, vec![y], result)
    }
}

/// A pool with one window.
fn whole(max: bool, kernel: [usize; 2]) -> Op {
    let window = Window { strides: [1; 2], begin: [0; 2], end: [0; 2], dilations: [1; 2], groups: 1 };
    if max { Op::MaxPool { kernel, window } } else { Op::AveragePool { kernel, window, count_include_pad: false } }
}
