//! Elementwise operators with broadcasting over up to four axes. Kernel: `elementwise`.

use super::{strided_grid, word};
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

const ELEMENTWISE: &str = include_str!("../../shaders/ops/elementwise.wgsl");

params!(ElementwiseParams {
    shape: [u32; 4],
    stride_x: [u32; 4],
    stride_y: [u32; 4],
    stride_out: [u32; 4],
    len: u32,
    threads: u32,
    pad0: u32,
    pad1: u32,
});

/// An operator of two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// `x + y`
    Add,
    /// `x - y`
    Sub,
    /// `x * y`
    Mul,
    /// `x / y`
    Div,
    /// `y > 0 ? x : 0`, the gradient `x` through a ReLU whose output was `y`
    ReluGradient,
}

/// An operator of one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unary {
    /// `max(x, 0)`
    Relu,
    /// `-x`
    Neg,
    /// `|x|`
    Abs,
    /// `exp(x)`; the caller keeps x below 88
    Exp,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// Hyperbolic tangent
    Tanh,
}

impl Binary {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Add, Self::Sub, Self::Mul, Self::Div, Self::ReluGradient];

    fn wgsl(self) -> &'static str {
        match self {
            Self::Add => "x + y",
            Self::Sub => "x - y",
            Self::Mul => "x * y",
            Self::Div => "x / y",
            Self::ReluGradient => "select(0.0, x, y > 0.0)",
        }
    }
}

impl Unary {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Relu, Self::Neg, Self::Abs, Self::Exp, Self::Sigmoid, Self::Tanh];

    fn wgsl(self) -> &'static str {
        match self {
            Self::Relu => "max(x, 0.0)",
            Self::Neg => "-x",
            Self::Abs => "abs(x)",
            Self::Exp => "exp(x)",
            Self::Sigmoid => "sigmoid_of(x)",
            Self::Tanh => "tanh_of(x)",
        }
    }
}

/// Records `out = op(x, y)`; `x` and `y` broadcast to the shape of `out` as in NumPy.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not broadcast or have more than four axes.
pub fn binary(recording: &mut Recording, caps: &Caps, op: Binary, x: &Tensor, y: &Tensor, out: &Tensor) -> Result<()> {
    let params = params_for(caps, out, Some(x), Some(y))?;
    let bindings = vec![x.binding(), y.binding(), out.binding()];
    let form = if alike(x, out) && alike(y, out) { Form::Flat } else { Form::Strided };
    record(recording, kernel(op.wgsl(), form), bindings, params, out)
}

/// Records `out = op(x)`; `x` broadcasts to the shape of `out`.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not broadcast or have more than four axes.
pub fn unary(recording: &mut Recording, caps: &Caps, op: Unary, x: &Tensor, out: &Tensor) -> Result<()> {
    let params = params_for(caps, out, Some(x), Some(x))?;
    let bindings = vec![x.binding(), x.binding(), out.binding()];
    let form = if alike(x, out) { Form::Flat } else { Form::Strided };
    record(recording, kernel(op.wgsl(), form), bindings, params, out)
}

/// Records `x = op(x)`.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for more than four axes.
pub fn unary_in_place(recording: &mut Recording, caps: &Caps, op: Unary, x: &Tensor) -> Result<()> {
    let params = params_for(caps, x, None, None)?;
    record(recording, kernel(op.wgsl(), Form::InPlace), vec![x.binding()], params, x)
}

fn record(
    recording: &mut Recording,
    kernel: Kernel,
    bindings: Vec<crate::gpu::Binding>,
    (params, groups): (ElementwiseParams, u32),
    out: &Tensor,
) -> Result<()> {
    recording.dispatch(&kernel, bindings, &params, Grid::Direct([groups, 1, 1]), out.len() as f64)
}

fn params_for(caps: &Caps, out: &Tensor, x: Option<&Tensor>, y: Option<&Tensor>) -> Result<(ElementwiseParams, u32)> {
    let axes = out.shape().len();
    if axes > 4 || out.is_empty() {
        return Err(Error::internal(format!("an elementwise result of shape {:?}", out.shape())));
    }
    let mut shape = [1; 4];
    for (slot, &length) in shape[4 - axes..].iter_mut().zip(out.shape()) {
        *slot = word(length)?;
    }
    let (groups, threads) = strided_grid(out.len(), caps.max_workgroups)?;
    let params = ElementwiseParams {
        shape,
        stride_x: x.map_or(Ok([0; 4]), |t| broadcast(t, out))?,
        stride_y: y.map_or(Ok([0; 4]), |t| broadcast(t, out))?,
        stride_out: broadcast(out, out)?,
        len: word(out.len())?,
        threads,
        ..Default::default()
    };
    Ok((params, groups))
}

/// Strides of `t` along the four axes of `out`, 0 where it is repeated.
fn broadcast(t: &Tensor, out: &Tensor) -> Result<[u32; 4]> {
    let missing = out.shape().len().checked_sub(t.shape().len());
    let fits = missing.is_some_and(|skip| {
        t.shape().iter().zip(&out.shape()[skip..]).all(|(&length, &wanted)| length == wanted || length == 1)
    });
    if !fits {
        return Err(Error::internal(format!("shape {:?} does not broadcast to {:?}", t.shape(), out.shape())));
    }
    let mut strides = [0; 4];
    let first = 4 - t.shape().len();
    for ((slot, &stride), &length) in strides[first..].iter_mut().zip(t.strides()).zip(t.shape()) {
        *slot = if length == 1 { 0 } else { word(stride)? };
    }
    Ok(strides)
}

/// How the operands lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Strided,
    Flat,
    InPlace,
}

/// Whether an operand lies as the result does, both without gaps.
fn alike(t: &Tensor, out: &Tensor) -> bool {
    t.shape() == out.shape() && t.strides() == out.strides() && out.row_stride() == out.columns()
}

fn kernel(expression: &'static str, form: Form) -> Kernel {
    let bindings: &[Access] =
        if form == Form::InPlace { &[Access::Write] } else { &[Access::Read, Access::Read, Access::Write] };
    Kernel::new::<ElementwiseParams>("elementwise", ELEMENTWISE, bindings)
        .define("EXPR", expression)
        .flag("FLAT", form == Form::Flat)
        .flag("IN_PLACE", form == Form::InPlace)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let binary = Binary::ALL.iter().flat_map(|op| [Form::Strided, Form::Flat].map(|form| kernel(op.wgsl(), form)));
    let forms = [Form::Strided, Form::Flat, Form::InPlace];
    let unary = Unary::ALL.iter().flat_map(|op| forms.map(|form| kernel(op.wgsl(), form)));
    binary.chain(unary).collect()
}
