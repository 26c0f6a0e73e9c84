//! Products with a matrix of bytes, plain or coded with a width a group, which is decoded on its way into the sums. Kernel: `packed_matmul`.
//!
//! `y[m, n] = sum over k of x[m, k] scale[n] W[n, k]`. Where x has few rows, memory is what such a product waits for, and a coded matrix brings
//! the same numbers in fewer bytes. Both forms give the same bits.
//!
//! Tried on a software device (2 cores shared with other work, Mesa 22.3, 2048 x 2048, GB of weights a second, plain and coded): one row of x, 8 lanes of 4
//! rows of W 2.0 and 0.87, 64 lanes of 1 row 1.5 and 0.67; 4 rows of x, 4 at a time 0.84 and 0.47, one at a time 0.55 and 0.09; 16 rows of x, 4 at a
//! time 0.09 and 0.10, 8 at a time (and 2 of W) 0.04 and 0.03. There decoding costs more than the memory that it saves; no GPU has run them yet.

use super::layout::Packed;
use super::width;
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Gpu, Grid, Kernel, Recording, params};
use crate::ops::matmul::split_sum;
use crate::ops::word;
use crate::pack::values::Element;
use crate::tensor::Tensor;

const PACKED_MATMUL: &str = include_str!("../../../shaders/pack/packed_matmul.wgsl");

/// Terms of a sum that one invocation adds up: rows of W are cut there, so that there is work enough for a GPU. Never depends on a device.
pub const CHUNK: usize = 256;

params!(PackedMatmulParams { m: u32, n: u32, depth: u32, chunks: u32, ld_x: u32, ld_y: u32, plane: u32, pad0: u32 });

/// How the work is shared out; never changes a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Invocations of a workgroup.
    pub lanes: u32,
    /// Rows of W that an invocation takes.
    pub rows: u32,
    /// Rows of x that an invocation takes: 1, 4 or 8.
    pub samples: u32,
}

impl Tile {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self { lanes: 8, rows: 4, samples: 1 },
        Self { lanes: 8, rows: 4, samples: 4 },
        Self { lanes: 64, rows: 1, samples: 1 },
        Self { lanes: 64, rows: 1, samples: 4 },
        Self { lanes: 64, rows: 1, samples: 8 },
    ];

    /// What a device gets for so many rows of x.
    pub fn of(caps: &Caps, m: usize) -> Self {
        match (caps.is_software(), m) {
            (true, 1) => Self::ALL[0],
            (true, _) => Self::ALL[1],
            (false, 1) => Self::ALL[2],
            (false, 2..=4) => Self::ALL[3],
            (false, _) => Self::ALL[4],
        }
    }
}

/// A matrix `[n, depth]` of signed bytes on the device.
#[derive(Debug, Clone)]
pub struct Matrix {
    n: usize,
    depth: usize,
    stored: Stored,
}

#[derive(Debug, Clone)]
enum Stored {
    Plain(Tensor<u32>),
    Packed { packed: Box<Packed>, starts: Tensor<u32> },
}

impl Matrix {
    /// As it is: `words` hold the bytes of the rows, 4 a word; `depth` is a multiple of 32.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for another depth or another number of words; those of [`Tensor::uninit_async`].
    pub async fn plain_async(gpu: &Gpu, n: usize, depth: usize, words: &[u32]) -> Result<Self> {
        check(n, depth, words)?;
        let stored = Stored::Plain(Tensor::from_slice_async(gpu, &[words.len()], words).await?);
        Ok(Self { n, depth, stored })
    }

    /// Blocking twin of [`Matrix::plain_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn plain(gpu: &Gpu, n: usize, depth: usize, words: &[u32]) -> Result<Self> {
        pollster::block_on(Self::plain_async(gpu, n, depth, words))
    }

    /// Coded.
    ///
    /// # Errors
    /// Those of [`Matrix::plain_async`].
    pub async fn packed_async(gpu: &Gpu, n: usize, depth: usize, words: &[u32]) -> Result<Self> {
        check(n, depth, words)?;
        let payload = width::reference::encode(Element::I8, words, n * depth);
        Self::coded_async(gpu, n, depth, &payload).await
    }

    /// Blocking twin of [`Matrix::packed_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn packed(gpu: &Gpu, n: usize, depth: usize, words: &[u32]) -> Result<Self> {
        pollster::block_on(Self::packed_async(gpu, n, depth, words))
    }

    /// From the payload of all its values ([`width`]), whose structure is checked.
    ///
    /// # Errors
    /// Those of [`width::upload_async`]; [`crate::ErrorKind::BadInput`] for a depth that is no multiple of 32.
    pub async fn coded_async(gpu: &Gpu, n: usize, depth: usize, payload: &[u32]) -> Result<Self> {
        if depth == 0 || n == 0 || !depth.is_multiple_of(width::GROUP) || n.checked_mul(depth).is_none() {
            return Err(Error::bad_input(format!("a matrix of {n} rows of {depth} values"))
                .with_help("fill rows up with zeros to a multiple of 32 values"));
        }
        let packed = width::upload_async(gpu, Element::I8, payload, n * depth).await?;
        let layout = packed.layout;
        let widths = &payload[layout.blocks()..layout.head()];
        let (groups, chunks) = (depth / width::GROUP, depth.div_ceil(CHUNK));
        let mut starts = Vec::with_capacity(n * chunks);
        let mut begin = 0;
        for group in 0..layout.groups() {
            if (group % groups).is_multiple_of(CHUNK / width::GROUP) {
                starts.push(word(begin)?);
            }
            begin += layout.width(widths, group);
        }
        let starts = Tensor::from_slice_async(gpu, &[starts.len()], &starts).await?;
        Ok(Self { n, depth, stored: Stored::Packed { packed: Box::new(packed), starts } })
    }

    /// Bytes that a product reads of it.
    pub fn bytes(&self) -> usize {
        4 * match &self.stored {
            Stored::Plain(words) => words.len(),
            Stored::Packed { packed, starts } => packed.widths.len() + packed.data.len() + starts.len(),
        }
    }
}

fn check(n: usize, depth: usize, words: &[u32]) -> Result<()> {
    if depth == 0 || n == 0 || !depth.is_multiple_of(width::GROUP) || Some(words.len() * 4) != n.checked_mul(depth) {
        let what = format!("a matrix of {n} rows of {depth} values in {} words", words.len());
        return Err(Error::bad_input(what).with_help("fill rows up with zeros to a multiple of 32 values"));
    }
    Ok(())
}

/// The longest chain of roundings that a term of a product passes through.
pub fn depth(k: usize) -> usize {
    k.min(CHUNK) + 1 + k.div_ceil(CHUNK)
}

/// Where the sums of chunks wait, for depths beyond one of them.
///
/// # Errors
/// Those of [`Tensor::uninit_async`].
pub async fn planes_async(gpu: &Gpu, m: usize, matrix: &Matrix) -> Result<Tensor> {
    Tensor::uninit_async(gpu, &[1, matrix.depth.div_ceil(CHUNK), m, matrix.n]).await
}

/// Blocking twin of [`planes_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn planes(gpu: &Gpu, m: usize, matrix: &Matrix) -> Result<Tensor> {
    pollster::block_on(planes_async(gpu, m, matrix))
}

/// Records `y` `[1, m, n]` = `x` `[m, depth]` times the matrix, rows of which count `scale` `[n]` fold; `planes` are those of [`planes_async`].
///
/// # Errors
/// [`crate::ErrorKind::Internal`] for shapes that do not fit.
pub fn record(
    recording: &mut Recording,
    caps: &Caps,
    tile: Tile,
    (x, matrix, scale): (&Tensor, &Matrix, &Tensor),
    planes: &Tensor,
    y: &Tensor,
) -> Result<()> {
    let &[m, columns] = x.shape() else { return Err(misfit(x, matrix, y)) };
    let chunks = matrix.depth.div_ceil(CHUNK);
    let shapes = y.shape() == [1, m, matrix.n] && planes.shape() == [1, chunks, m, matrix.n];
    if columns != matrix.depth || scale.shape() != [matrix.n] || !shapes || m == 0 {
        return Err(misfit(x, matrix, y));
    }
    let params = PackedMatmulParams {
        m: word(m)?,
        n: word(matrix.n)?,
        depth: word(matrix.depth)?,
        chunks: word(chunks)?,
        ld_x: word(x.row_stride() / 4)?,
        ld_y: word(planes.row_stride())?,
        plane: word(m * planes.row_stride())?,
        ..Default::default()
    };
    let mut bindings = vec![x.binding(), scale.binding(), planes.binding()];
    let packed = match &matrix.stored {
        Stored::Plain(words) => {
            bindings.push(words.binding());
            false
        }
        Stored::Packed { packed, starts } => {
            bindings.extend([packed.widths.binding(), packed.data.binding(), starts.binding()]);
            true
        }
    };
    let across = word(matrix.n.div_ceil((tile.lanes * tile.rows) as usize))?;
    let grid = Grid::Direct([across, word(chunks)?, word(m)?.div_ceil(tile.samples)]);
    let work = 2.0 * m as f64 * matrix.n as f64 * matrix.depth as f64;
    recording.dispatch(&kernel(packed, tile), bindings, &params, grid, work)?;
    split_sum(recording, caps, planes, None, false, y)
}

fn misfit(x: &Tensor, matrix: &Matrix, y: &Tensor) -> Error {
    let (x, y, n, depth) = (x.shape(), y.shape(), matrix.n, matrix.depth);
    Error::internal(format!("a product of {x:?} with a matrix of {n} rows of {depth} into {y:?}"))
}

fn kernel(packed: bool, tile: Tile) -> Kernel {
    let (read, write) = (Access::Read, Access::Write);
    let bindings = if packed { vec![read, read, write, read, read, read] } else { vec![read, read, write, read] };
    Kernel::new::<PackedMatmulParams>("packed_matmul", PACKED_MATMUL, &bindings)
        .define("LANES", tile.lanes)
        .define("ROWS", tile.rows)
        .define("MT", tile.samples)
        .flag("PACKED", packed)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    [false, true].into_iter().flat_map(|packed| Tile::ALL.map(|tile| kernel(packed, tile))).collect()
}
