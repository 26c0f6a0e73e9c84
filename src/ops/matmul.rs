//! Matrix products: batched, with shared operands, transposes, bias and ReLU, and split-K.
//!
//! Kernels: `matmul` (direct: registers only) and `matmul_tiled` (workgroup memory). Both walk k in ascending order with
//! one fused multiply-add an output and term, so they agree bit for bit where the device rounds alike.

use super::{strided_grid, word};
use crate::error::{Error, Result};
use crate::gpu::{Access, Binding, Caps, Grid, Kernel, Recording, params};
use crate::tensor::Tensor;

const MATMUL: &str = include_str!("../../shaders/ops/matmul.wgsl");
const MATMUL_TILED: &str = include_str!("../../shaders/ops/matmul_tiled.wgsl");
const SPLIT_SUM: &str = include_str!("../../shaders/ops/split_sum.wgsl");
const BIAS: u32 = 1;
const RELU: u32 = 2;

/// Terms of one split-K chunk where a plan asks for short sums. A function of nothing, so that results never depend on
/// batch, budget or device; 128 keeps the traffic of the planes below a tenth of the arithmetic.
pub const CHUNK: usize = 128;

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
    pad0: u32,
    pad1: u32,
    pad2: u32,
});
params!(SplitSumParams {
    n: u32,
    ld: u32,
    plane: u32,
    chunks: u32,
    len: u32,
    threads: u32,
    stride_bias: u32,
    flags: u32,
    m: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});

/// Which kernel computes a product, and its tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// `matmul`: `rows` x `columns` outputs an invocation, `lanes` invocations a workgroup.
    Direct {
        /// Rows of the tile.
        rows: u32,
        /// Columns of the tile, a multiple of 4.
        columns: u32,
        /// Invocations of a workgroup, side by side along the columns.
        lanes: u32,
    },
    /// `matmul_tiled`: 64 x 64 outputs a workgroup of 256.
    Tiled,
}

impl Variant {
    /// The variant for a product of `n` columns on this device. A table: software devices want registers only, GPUs
    /// workgroup memory; narrow products want narrow tiles. The choice never changes a result.
    pub fn choose(caps: &Caps, n: usize) -> Self {
        if !caps.is_software() && caps.max_invocations >= 256 {
            return Self::Tiled;
        }
        Self::Direct {
            rows: 16,
            columns: if n <= 32 {
                4
            } else if n <= 64 {
                8
            } else {
                16
            },
            lanes: 8,
        }
    }

    /// Rows and columns of outputs of one workgroup.
    pub fn tile(self) -> (u32, u32) {
        match self {
            Self::Direct { rows, columns, lanes } => (rows, columns * lanes),
            Self::Tiled => (64, 64),
        }
    }

    fn kernel(self, flags: &[&'static str]) -> Kernel {
        let gather = flags.contains(&"GATHER");
        let mut bindings = vec![Access::Read, Access::Read, Access::Write];
        bindings.resize(if gather { 7 } else { 4 }, Access::Read);
        let kernel = match self {
            Self::Direct { rows, columns, lanes } => Kernel::new::<MatmulParams>("matmul", MATMUL, &bindings)
                .define("TM", rows)
                .define("TN", columns)
                .define("TN4", columns / 4)
                .define("LANES", lanes),
            Self::Tiled => Kernel::new::<MatmulParams>("matmul_tiled", MATMUL_TILED, &bindings),
        };
        flags.iter().fold(kernel, |kernel, flag| kernel.flag(flag, true))
    }
}

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
    /// Multiply by `|b|`.
    pub abs_b: bool,
    /// `[n]`, or `[batch, n]`.
    pub bias: Option<&'a Tensor>,
    /// `max(., 0)` at the end.
    pub relu: bool,
    /// The kernel; `None` for [`Variant::choose`].
    pub variant: Option<Variant>,
}

struct Shape {
    batch: usize,
    m: usize,
    n: usize,
    k: usize,
}

/// The operands of a product over gathered rows and terms, as bound propagation uses it.
#[derive(Debug, Clone)]
pub struct Gather<'a> {
    /// `[rows, 4]`: for every row of `c` its owner, its slot (not used here), the row of `a` and the number of parts
    /// that have terms.
    pub rows: &'a Tensor<u32>,
    /// `[owners, k]`: the rows of `b` that count, at the front.
    pub k_list: &'a Tensor<u32>,
    /// `[owners]`: how many count.
    pub k_count: &'a Tensor<u32>,
    /// `[1]`: number of rows, a multiple of the tile's rows.
    pub row_count: &'a Tensor<u32>,
    /// The grid: `(rows / tile rows, columns, chunks)`, written by the device.
    pub grid: Binding,
    /// Expected number of rows, for cutting submissions.
    pub expected: usize,
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
        Matmul { bias: None, relu: false, ..*self }.dispatch(recording, caps, [a, b, planes], &shape, chunk)
    }

    fn dispatch(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        [a, b, c]: [&Tensor; 3],
        shape: &Shape,
        chunk: usize,
    ) -> Result<()> {
        let Shape { batch, m, n, k } = *shape;
        let chunks = k.div_ceil(chunk).max(1);
        let variant = self.variant.unwrap_or_else(|| Variant::choose(caps, n));
        let mut flags = Vec::new();
        for (on, flag) in [(self.trans_a, "TRANS_A"), (self.trans_b, "TRANS_B"), (self.abs_b, "ABS_B")] {
            if on {
                flags.push(flag);
            }
        }
        let bias_batched = self.bias.is_some_and(|t| t.shape().len() > 1);
        let params = MatmulParams {
            m: word(m)?,
            n: word(n)?,
            k: word(k)?,
            chunk: word(chunk)?,
            lda: word(a.row_stride())?,
            ldb: word(b.row_stride())?,
            ldc: word(c.row_stride())?,
            chunks: word(chunks)?,
            stride_a: word(batch_stride(a))?,
            stride_b: word(batch_stride(b))?,
            stride_c: word(m * c.row_stride())?,
            stride_bias: self.bias.filter(|_| bias_batched).map_or(Ok(0), |t| word(t.row_stride()))?,
            flags: if self.bias.is_some() { BIAS } else { 0 } | if self.relu { RELU } else { 0 },
            ..Default::default()
        };
        let (rows, columns) = variant.tile();
        let grid = [params.m.div_ceil(rows), params.n.div_ceil(columns), word(batch * chunks)?];
        // Without a bias the slot is bound to `a`, which the kernel then does not read there.
        let bias = self.bias.unwrap_or(a);
        let bindings = vec![a.binding(), b.binding(), c.binding(), bias.binding()];
        let work = 2.0 * batch as f64 * m as f64 * n as f64 * k as f64;
        recording.dispatch(&variant.kernel(&flags), bindings, &params, Grid::Direct(grid), work)
    }

    fn shape(&self, a: &Tensor, b: &Tensor, c: &Tensor) -> Result<Shape> {
        let (batch_a, a0, a1) = matrix(a).ok_or_else(|| shape_error("a", a))?;
        let (batch_b, b0, b1) = matrix(b).ok_or_else(|| shape_error("b", b))?;
        let (batch, m, n) = matrix(c).ok_or_else(|| shape_error("c", c))?;
        let (am, k) = if self.trans_a { (a1, a0) } else { (a0, a1) };
        let (bk, bn) = if self.trans_b { (b1, b0) } else { (b0, b1) };
        let bias_fits = self.bias.is_none_or(|t| t.shape() == [n] || t.shape() == [batch, n]);
        if am != m || bn != n || bk != k || batch_a != batch || batch_b != batch || !bias_fits {
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

/// Records `planes[part][r, :] = sum over the part's k of a[source(r), k] b[k_list[owner(r)][k], :]` for all gathered
/// rows r; `planes` is `[chunks, rows, n]`, `a` `[rows, k]`, `b` `[k, n]`. The result is the sum of the planes.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit.
pub fn record_gathered(
    recording: &mut Recording,
    variant: Variant,
    a: &Tensor,
    b: &Tensor,
    planes: &Tensor,
    gather: Gather<'_>,
) -> Result<()> {
    let (&[k, n], &[chunks, capacity, width]) = (b.shape(), planes.shape()) else {
        return Err(shape_error("planes", planes));
    };
    if width < n || chunks < k.div_ceil(CHUNK) {
        return Err(shape_error("planes", planes));
    }
    let params = MatmulParams {
        m: word(capacity)?,
        n: word(n)?,
        k: word(k)?,
        chunk: word(CHUNK)?,
        lda: word(a.row_stride())?,
        ldb: word(b.row_stride())?,
        ldc: word(planes.row_stride())?,
        chunks: word(k.div_ceil(CHUNK))?,
        // Without a batch, the stride of `a` is free: it carries the stride of `k_list`.
        stride_a: word(gather.k_list.row_stride())?,
        stride_c: word(capacity * planes.row_stride())?,
        ..Default::default()
    };
    let bindings = vec![
        a.binding(),
        b.binding(),
        planes.binding(),
        gather.rows.binding(),
        gather.k_list.binding(),
        gather.k_count.binding(),
        gather.row_count.binding(),
    ];
    let work = 2.0 * gather.expected as f64 * n as f64 * k as f64;
    recording.dispatch(&variant.kernel(&["GATHER"]), bindings, &params, Grid::Indirect(gather.grid), work)
}

/// Records `c = act(sum of planes + bias)`, the end of a split-K product: `planes` `[batch, chunks, m, n]`, `c` `[batch, m, n]`.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit.
pub fn split_sum(
    recording: &mut Recording,
    caps: &Caps,
    planes: &Tensor,
    bias: Option<&Tensor>,
    relu: bool,
    c: &Tensor,
) -> Result<()> {
    let (&[batch, chunks, m, n], Some(target)) = (planes.shape(), matrix(c)) else {
        return Err(shape_error("planes", planes));
    };
    if target != (batch, m, n) || bias.is_some_and(|t| t.shape() != [n] && t.shape() != [batch, n]) {
        return Err(shape_error("c", c));
    }
    let (groups, threads) = strided_grid(batch * m * n, caps.max_workgroups)?;
    let params = SplitSumParams {
        n: word(n)?,
        ld: word(planes.row_stride())?,
        plane: word(m * planes.row_stride())?,
        chunks: word(chunks)?,
        len: word(batch * m * n)?,
        threads,
        stride_bias: bias.filter(|t| t.shape().len() > 1).map_or(Ok(0), |t| word(t.row_stride()))?,
        flags: if bias.is_some() { BIAS } else { 0 } | if relu { RELU } else { 0 },
        m: word(m)?,
        ..Default::default()
    };
    let bindings = vec![planes.binding(), bias.unwrap_or(planes).binding(), c.binding()];
    let work = (batch * chunks * m * n) as f64;
    recording.dispatch(&split_sum_kernel(), bindings, &params, Grid::Direct([groups, 1, 1]), work)
}

fn split_sum_kernel() -> Kernel {
    Kernel::new::<SplitSumParams>("split_sum", SPLIT_SUM, &[Access::Read, Access::Read, Access::Write])
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
    let tiles = [(16, 16), (16, 8), (16, 4), (8, 8), (4, 4)];
    let direct = tiles.map(|(rows, columns)| Variant::Direct { rows, columns, lanes: 8 });
    let mut all = vec![split_sum_kernel()];
    for variant in direct.into_iter().chain([Variant::Tiled]) {
        for flags in [&[][..], &["TRANS_A"], &["TRANS_B"], &["TRANS_A", "TRANS_B"], &["ABS_B"], &["GATHER"]] {
            all.push(variant.kernel(flags));
        }
    }
    all
}
