//! Matrix products: batched, with shared operands, transposes, bias and ReLU, and split-K.
//!
//! Kernels: `matmul` (direct: registers only) and `matmul_tiled` (workgroup memory). Both walk k in ascending order with
//! one fused multiply-add an output and term, so they agree bit for bit where the device rounds alike.
//! Operands larger than one binding are walked in windows, with the same bits.

mod split;
mod variant;
mod windows;

pub use split::split_sum;
pub use variant::{Class, Variant};

use crate::error::{Error, Result};
use crate::gpu::{Caps, Kernel, Recording, params};
use crate::tensor::Tensor;

const MATMUL: &str = include_str!("../../../shaders/ops/matmul.wgsl");
const MATMUL_TILED: &str = include_str!("../../../shaders/ops/matmul_tiled.wgsl");
const BIAS: u32 = 1;
const RELU: u32 = 2;
/// The permutations, by their flags: with GATE, outputs are 0 where the array in the bias's place is not positive; with ACCUMULATE, sums go on
/// from what `c` holds.
const PERMUTATIONS: [&[&str]; 10] = [
    &[],
    &["TRANS_A"],
    &["TRANS_B"],
    &["TRANS_A", "TRANS_B"],
    &["GATE"],
    &["TRANS_B", "GATE"],
    &["ACCUMULATE"],
    &["TRANS_A", "ACCUMULATE"],
    &["TRANS_B", "ACCUMULATE"],
    &["TRANS_A", "TRANS_B", "ACCUMULATE"],
];

params!(MatmulParams {
    m: u32,
    n: u32,
    k: u32,
    chunk: u32,
    lda: u32,
    ldb: u32,
    ldc: u32,
    chunks: u32,
    stride_a: u32,
    stride_b: u32,
    stride_c: u32,
    stride_bias: u32,
    flags: u32,
    lanes: u32,
    ld_gate: u32,
    pad0: u32,
});

/// The longest chain of roundings that one term of a product of `k` terms passes through when it is split into chunks
/// of `chunk` terms: one of its own product, those of its chunk summed in any order, and those of the planes.
pub fn depth(k: usize, chunk: usize) -> usize {
    k.min(chunk) + k.div_ceil(chunk.max(1))
}

/// A matrix product `c = act(a b + bias)`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Matmul<'a> {
    /// `a` is stored `[.., k, m]`.
    pub trans_a: bool,
    /// `b` is stored `[.., n, k]`.
    pub trans_b: bool,
    /// `[n]`, or `[batch, n]`.
    pub bias: Option<&'a Tensor>,
    /// An array of the shape of `c`: where it is not positive, the output is 0. With the outputs of a ReLU, that is the gradient through it. It excludes a
    /// bias, a transposed `a` and operands larger than a binding.
    pub gate: Option<&'a Tensor>,
    /// `max(., 0)` at the end.
    pub relu: bool,
    /// The kernel; `None` for [`Variant::tuned`]. One that the operands do not suit is replaced by a direct one.
    pub variant: Option<Variant>,
}

struct Shape {
    batch: usize,
    m: usize,
    n: usize,
    k: usize,
}

impl Matmul<'_> {
    /// Records `c = act(a b + bias)` for `a` `[batch, m, k]`, `b` `[batch, k, n]`, `c` `[batch, m, n]` (two axes mean a batch
    /// of one; see [`Tensor::shared`] for shared operands).
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] for shapes that do not fit.
    pub fn record(&self, recording: &mut Recording, caps: &Caps, a: &Tensor, b: &Tensor, c: &Tensor) -> Result<()> {
        let shape = self.shape(a, b, c)?;
        self.dispatch(recording, caps, [a, b, c], &shape, shape.k.max(1))
    }

    /// Records the planes of a split-K product: `planes` is `[batch, chunks, m, n]` with `chunks = ceil(k / chunk)`. Their sum
    /// is the product; bias and activation are [`split_sum`]'s.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] for shapes that do not fit.
    pub fn record_split(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        a: &Tensor,
        b: &Tensor,
        planes: &Tensor,
        chunk: usize,
    ) -> Result<()> {
        let mut first = planes.clone();
        let &[_, chunks, _, _] = planes.shape() else { return Err(shape_error("planes", planes)) };
        first = first.without_axis(1);
        let shape = self.shape(a, b, &first)?;
        if chunks != shape.k.div_ceil(chunk) {
            return Err(shape_error("planes", planes));
        }
        Matmul { bias: None, gate: None, relu: false, ..*self }.dispatch(recording, caps, [a, b, planes], &shape, chunk)
    }

    fn dispatch(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        operands: [&Tensor; 3],
        shape: &Shape,
        chunk: usize,
    ) -> Result<()> {
        let Shape { batch, m, n, k } = *shape;
        let chunks = k.div_ceil(chunk).max(1);
        let class = Class::of(batch * chunks * m * n, n);
        let mut variant = self.variant.unwrap_or_else(|| Variant::tuned(caps, class).fitted(m, n));
        if chunks > 1 && !chunk.is_multiple_of(4) && variant.wants_quads() {
            variant = Variant::DIRECT;
        }
        let product = windows::Product { matmul: self, variant, operands, shape, chunk, chunks };
        product.record(recording, caps.max_binding)
    }

    fn flags(&self) -> Vec<&'static str> {
        let flags = [(self.trans_a, "TRANS_A"), (self.trans_b, "TRANS_B"), (self.gate.is_some(), "GATE")];
        flags.into_iter().filter_map(|(on, flag)| on.then_some(flag)).collect()
    }

    fn shape(&self, a: &Tensor, b: &Tensor, c: &Tensor) -> Result<Shape> {
        let (batch_a, a0, a1) = matrix(a).ok_or_else(|| shape_error("a", a))?;
        let (batch_b, b0, b1) = matrix(b).ok_or_else(|| shape_error("b", b))?;
        let (batch, m, n) = matrix(c).ok_or_else(|| shape_error("c", c))?;
        let (am, k) = if self.trans_a { (a1, a0) } else { (a0, a1) };
        let (bk, bn) = if self.trans_b { (b1, b0) } else { (b0, b1) };
        let bias_fits = self.bias.is_none_or(|t| t.shape() == [n] || t.shape() == [batch, n]);
        let gate_fits = self.gate.is_none_or(|t| t.shape() == c.shape() && self.bias.is_none() && !self.trans_a);
        if !gate_fits || am != m || bn != n || bk != k || batch_a != batch || batch_b != batch || !bias_fits {
            return Err(Error::internal(format!(
                "a product of {:?} and {:?} into {:?} (transposed: {}, {})",
                a.shape(),
                b.shape(),
                c.shape(),
                self.trans_a,
                self.trans_b
            )));
        }
        Ok(Shape { batch, m, n, k })
    }
}

/// Batch, rows and columns of a tensor of two or three axes.
fn matrix(t: &Tensor) -> Option<(usize, usize, usize)> {
    match *t.shape() {
        [rows, columns] => Some((1, rows, columns)),
        [batch, rows, columns] => Some((batch, rows, columns)),
        _ => None,
    }
}

fn batch_stride(t: &Tensor) -> usize {
    if t.shape().len() == 3 { t.strides()[0] } else { 0 }
}

fn shape_error(name: &str, tensor: &Tensor) -> Error {
    Error::internal(format!("operand {name} of a matrix product has shape {:?}", tensor.shape()))
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let mut all = vec![split::kernel()];
    all.extend(Variant::catalogue());
    all
}
