//! Elementwise operators with broadcasting over up to four axes. Kernel: `elementwise`.

use super::{windows, word};
use crate::error::{Error, Result};
use crate::gpu::{Access, Binding, Caps, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

const ELEMENTWISE: &str = include_str!("../../shaders/ops/elementwise.wgsl");

params!(ElementwiseParams {
    shape: [u32; 4],
    stride_x: [u32; 4],
    stride_y: [u32; 4],
    stride_out: [u32; 4],
    rows: u32,
    across: u32,
    row_step: u32,
    column_step: u32,
    alpha: f32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});

/// An operator of two operands. Of a gradient, `x` is what comes from above and `y` the function's output or, where it says
/// so, its input.
#[derive(Debug, Clone, Copy, PartialEq)]
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
    /// `x y (1 - y)`, the gradient through a logistic function whose output was `y`
    SigmoidGradient,
    /// `x (1 - y^2)`, the gradient through a hyperbolic tangent whose output was `y`
    TanhGradient,
    /// `y > 0 ? x : alpha x`, the gradient through [`Unary::LeakyRelu`] whose input (or, for alpha >= 0, output) was `y`
    LeakyReluGradient(f32),
    /// The gradient through [`Unary::Gelu`] whose **input** was `y`
    GeluGradient,
    /// The gradient through [`Unary::Silu`] whose **input** was `y`
    SiluGradient,
    /// The gradient through [`Unary::Softplus`] whose **input** was `y`
    SoftplusGradient,
}

/// An operator of one operand.
#[derive(Debug, Clone, Copy, PartialEq)]
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
    /// `x > 0 ? x : alpha x`
    LeakyRelu(f32),
    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`, torch's GELU with `approximate='tanh'`
    Gelu,
    /// `x / (1 + exp(-x))`
    Silu,
    /// `log(1 + exp(x))`
    Softplus,
    /// `x` times a constant
    Scale(f32),
}

impl Binary {
    /// All of them, with some constant where they take one.
    pub const ALL: [Self; 11] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::Div,
        Self::ReluGradient,
        Self::SigmoidGradient,
        Self::TanhGradient,
        Self::LeakyReluGradient(0.01),
        Self::GeluGradient,
        Self::SiluGradient,
        Self::SoftplusGradient,
    ];

    fn wgsl(self) -> &'static str {
        match self {
            Self::Add => "x + y",
            Self::Sub => "x - y",
            Self::Mul => "x * y",
            Self::Div => "x / y",
            Self::ReluGradient => "select(vec4<f32>(0.0), x, y > vec4<f32>(0.0))",
            Self::SigmoidGradient => "x * (y * (1.0 - y))",
            Self::TanhGradient => "x * ((1.0 - y) * (1.0 + y))",
            Self::LeakyReluGradient(_) => "x * select(vec4<f32>(p.alpha), vec4<f32>(1.0), y > vec4<f32>(0.0))",
            Self::GeluGradient => "x * gelu_slope(y)",
            Self::SiluGradient => "x * silu_slope(y)",
            Self::SoftplusGradient => "x * sigmoid_of(y)",
        }
    }

    fn constant(self) -> f32 {
        if let Self::LeakyReluGradient(alpha) = self { alpha } else { 0.0 }
    }
}

impl Unary {
    /// All of them, with some constant where they take one.
    pub const ALL: [Self; 11] = [
        Self::Relu,
        Self::Neg,
        Self::Abs,
        Self::Exp,
        Self::Sigmoid,
        Self::Tanh,
        Self::LeakyRelu(0.01),
        Self::Gelu,
        Self::Silu,
        Self::Softplus,
        Self::Scale(0.3),
    ];

    fn wgsl(self) -> &'static str {
        match self {
            Self::Relu => "max(x, vec4<f32>(0.0))",
            Self::Neg => "-x",
            Self::Abs => "abs(x)",
            Self::Exp => "exp(x)",
            Self::Sigmoid => "sigmoid_of(x)",
            Self::Tanh => "tanh_of(x)",
            Self::LeakyRelu(_) => "select(p.alpha * x, x, x > vec4<f32>(0.0))",
            Self::Gelu => "gelu_of(x)",
            Self::Silu => "silu_of(x)",
            Self::Softplus => "softplus_of(x)",
            Self::Scale(_) => "p.alpha * x",
        }
    }

    fn constant(self) -> f32 {
        if let Self::LeakyRelu(alpha) | Self::Scale(alpha) = self { alpha } else { 0.0 }
    }
}

/// Records `out = op(x, y)`; `x` and `y` broadcast to the shape of `out` as in NumPy.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not broadcast or have more than four axes, [`crate::ErrorKind::TooBig`]
/// if no window along the first axis fits a binding.
pub fn binary(recording: &mut Recording, caps: &Caps, op: Binary, x: &Tensor, y: &Tensor, out: &Tensor) -> Result<()> {
    record(recording, caps, (&kernel(op.wgsl(), false), op.constant()), &[x, y, out])
}

/// Records `out = op(x)`; `x` broadcasts to the shape of `out`.
///
/// # Errors
/// As [`binary`].
pub fn unary(recording: &mut Recording, caps: &Caps, op: Unary, x: &Tensor, out: &Tensor) -> Result<()> {
    record(recording, caps, (&kernel(op.wgsl(), false), op.constant()), &[x, x, out])
}

/// Records `x = op(x)`.
///
/// # Errors
/// As [`binary`].
pub fn unary_in_place(recording: &mut Recording, caps: &Caps, op: Unary, x: &Tensor) -> Result<()> {
    record(recording, caps, (&kernel(op.wgsl(), true), op.constant()), &[x])
}

/// Records a kernel with its constant over its operands, the result last: in one dispatch, or in windows along the first
/// axis that is not 1.
fn record(recording: &mut Recording, caps: &Caps, kernel: (&Kernel, f32), operands: &[&Tensor]) -> Result<()> {
    let Some(&out) = operands.last() else { return Err(Error::internal("an elementwise kernel without a result")) };
    let (mut shape, mut strides) = view(operands, out)?;
    if operands.iter().all(|t| t.shape() == out.shape() && t.strides() == out.strides()) && without_gaps(out) {
        // One long row: no places to work out.
        shape = [1, 1, 1, out.len()];
        strides.fill([0, 0, 0, 1]);
    }
    let axis = shape.iter().position(|&length| length > 1).unwrap_or(3);
    let along: Vec<usize> = strides.iter().map(|s| s[axis]).collect();
    let bindings: Vec<_> = operands.iter().map(|t| t.binding()).collect();
    for range in windows::ranges(shape[axis], &along, &bindings, caps.max_binding)? {
        let part = |(t, s): (&&Tensor, &usize)| windows::binding(t, &range, *s, shape[axis]);
        let bindings = operands.iter().zip(&along).map(part).collect::<Result<Vec<_>>>()?;
        let mut window = shape;
        window[axis] = range.len();
        dispatch(recording, caps, kernel, bindings, window, &strides)?;
    }
    Ok(())
}

/// Records one dispatch over an array of this shape, the result's strides last.
fn dispatch(
    recording: &mut Recording,
    caps: &Caps,
    (kernel, alpha): (&Kernel, f32),
    bindings: Vec<Binding>,
    shape: [usize; 4],
    strides: &[[usize; 4]],
) -> Result<()> {
    let words = |sizes: [usize; 4]| -> Result<[u32; 4]> {
        Ok([word(sizes[0])?, word(sizes[1])?, word(sizes[2])?, word(sizes[3])?])
    };
    let most = caps.max_workgroups.min(16_384);
    let (rows, quads) = (word(shape[0] * shape[1] * shape[2])?, word(shape[3].div_ceil(4))?);
    let across = quads.next_power_of_two().min(64);
    // Where there are workgroups enough, an invocation takes several vectors: what it works out first is not for one alone
    // (twice as fast on a software device).
    let enough = if caps.is_software() { 32 } else { 8192 };
    let fewer = |groups: u32| if groups >= enough { groups.div_ceil(8) } else { groups };
    let row_groups = fewer(rows.div_ceil(64 / across)).min(most);
    let column_groups = fewer(quads.div_ceil(across)).min((most / row_groups).max(1));
    let of = |index: usize| strides.get(index).copied().map_or(Ok([0; 4]), words);
    let (x, y, out) = if strides.len() == 1 { ([0; 4], [0; 4], of(0)?) } else { (of(0)?, of(1)?, of(2)?) };
    let params = ElementwiseParams {
        shape: words(shape)?,
        stride_x: x,
        stride_y: y,
        stride_out: out,
        rows,
        across,
        row_step: row_groups * (64 / across),
        column_step: column_groups * across,
        alpha,
        ..Default::default()
    };
    let work = shape.iter().map(|&length| length as f64).product();
    recording.dispatch(kernel, bindings, &params, Grid::Direct([row_groups, column_groups, 1]), work)
}

/// The shape of the result as four axes, and every operand's strides along them.
fn view(operands: &[&Tensor], out: &Tensor) -> Result<([usize; 4], Vec<[usize; 4]>)> {
    let axes = out.shape().len();
    if axes > 4 || out.is_empty() {
        return Err(Error::internal(format!("an elementwise result of shape {:?}", out.shape())));
    }
    let mut shape = [1; 4];
    shape[4 - axes..].copy_from_slice(out.shape());
    let strides = operands.iter().map(|t| broadcast(t, out)).collect::<Result<Vec<_>>>()?;
    if strides.iter().any(|s| s[..3].iter().any(|stride| stride % 4 != 0)) {
        return Err(Error::internal(format!("rows of shape {:?} do not start at whole vectors", out.shape())));
    }
    Ok((shape, strides))
}

/// Whether elements follow each other without padding between rows.
fn without_gaps(t: &Tensor) -> bool {
    t.row_stride() == t.columns() && !t.strides().contains(&0)
}

/// Strides of `t` along the four axes of `out`, 0 where it is repeated.
fn broadcast(t: &Tensor, out: &Tensor) -> Result<[usize; 4]> {
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
        *slot = if length == 1 { 0 } else { stride };
    }
    Ok(strides)
}

fn kernel(expression: &'static str, in_place: bool) -> Kernel {
    let bindings: &[Access] = if in_place { &[Access::Write] } else { &[Access::Read, Access::Read, Access::Write] };
    Kernel::new::<ElementwiseParams>("elementwise", ELEMENTWISE, bindings)
        .define("EXPR", expression)
        .flag("IN_PLACE", in_place)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let binary = Binary::ALL.iter().map(|op| kernel(op.wgsl(), false));
    let unary = Unary::ALL.iter().flat_map(|op| [false, true].map(|in_place| kernel(op.wgsl(), in_place)));
    binary.chain(unary).collect()
}
