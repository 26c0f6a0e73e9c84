//! Recording products of a layer's maps with matrices of columns: forward for intervals and attacks, backward for gradients and
//! for the rows of a walk. The kernels are `map_dense`, `map_conv` and `map_conv_mixed`, `map_sparse` and
//! `map_diagonal`.

use super::kernels::{self, ACCUMULATE, Over, Tile};
use super::network::{BACKWARD, ConvShape, DeviceEdge, DeviceMap, DeviceSparse, FORWARD};
use super::walk::{Push, Step, Window, conv_tile, is_mixed, offsets};
use crate::error::Result;
use crate::gpu::{Binding, Caps, Grid, Recording};
use crate::graph::Extent;
use crate::ops::word;
use crate::tensor::Tensor;

/// A matrix of values, one column a box, candidate or row: element (value, column) at `value * pitch + column`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sheet<'a> {
    pub memory: &'a Tensor,
    pub pitch: usize,
}

/// A product of a map with columns whose number is known: all values of one layer become values of another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product<'a> {
    pub edge: &'a DeviceEdge,
    /// `FORWARD` from the edge's source to its layer, or `BACKWARD`.
    pub direction: usize,
    /// The extents of what is read and what is written.
    pub extents: [Extent; 2],
    pub from: Sheet<'a>,
    pub to: Sheet<'a>,
    pub columns: usize,
    /// Add to what the destination holds.
    pub accumulate: bool,
    /// Magnitudes of the map.
    pub abs: bool,
}

/// The rows of a walk, as products see them.
#[derive(Debug, Clone, Copy)]
pub(super) struct WalkRows<'a> {
    pub rows: &'a Tensor<u32>,
    pub row_count: &'a Tensor<u32>,
    /// They stood elsewhere before the last compaction.
    pub moved: bool,
    /// Active neurons that the coefficients belong to, and how many.
    pub list: Option<(&'a Tensor<u32>, &'a Tensor<u32>)>,
    /// What the rows bound.
    pub target: Extent,
    /// Rows at most.
    pub capacity: usize,
}

/// Channels (terms of a dense map) first <= k < end of every dispatch of a long sum.
fn pieces(edge: &DeviceEdge, direction: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (channels, piece) = (edge.channels(direction), edge.piece(direction).max(1));
    (0..channels.max(1)).step_by(piece).map(move |first| (first, (first + piece).min(channels)))
}

fn flags(accumulate: bool) -> u32 {
    if accumulate { ACCUMULATE } else { 0 }
}

impl Product<'_> {
    /// Records the product.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] if a size does not fit 32 bits, or a binding its kernel.
    pub fn record(&self, recording: &mut Recording, caps: &Caps) -> Result<()> {
        let [_, to] = self.extents;
        let over = Over { abs: self.abs, ..Over::default() };
        let work = 2.0 * (self.edge.chunk(self.direction) * to.len() * self.columns) as f64;
        match &self.edge.map {
            DeviceMap::Dense { .. } => self.record_dense(recording, caps, over, work),
            DeviceMap::Conv { .. } => self.record_conv(recording, caps, over, work),
            DeviceMap::Sparse { backward, forward } => {
                let map = if self.direction == FORWARD { forward } else { backward };
                let params = kernels::MapSparse {
                    n: word(map.rows)?,
                    columns: word(self.columns)?,
                    lda: word(self.from.pitch)?,
                    ldc: word(self.to.pitch)?,
                    flags: flags(self.accumulate),
                    ..Default::default()
                };
                let bindings = sparse_bindings(map, self.from.memory, self.to.memory);
                recording.dispatch(&kernels::map_sparse(over), bindings, &params, folded(self.columns, map.rows)?, work)
            }
            DeviceMap::Diagonal(weight) => {
                let window = Window::whole(to);
                let mut params = diagonal(window, window, to)?;
                params.columns = word(self.columns)?;
                params.lda = word(self.from.pitch)?;
                params.ldc = word(self.to.pitch)?;
                params.flags = flags(self.accumulate);
                let bindings = vec![weight.binding(), self.from.memory.binding(), self.to.memory.binding()];
                let grid = folded(self.columns, to.len())?;
                recording.dispatch(&kernels::map_diagonal(over), bindings, &params, grid, work)
            }
        }
    }

    fn record_dense(&self, recording: &mut Recording, caps: &Caps, over: Over, work: f64) -> Result<()> {
        let DeviceMap::Dense { backward, forward } = &self.edge.map else { return Ok(()) };
        let weight = if self.direction == FORWARD { forward } else { backward };
        let n = self.extents[1].len();
        let tile = Tile::choose(caps, n, Some(self.columns), true);
        let grid = direct(tile.group(), self.columns, n, 1)?;
        for (first, end) in pieces(self.edge, self.direction) {
            let params = kernels::MapDense {
                n: word(n)?,
                columns: word(self.columns)?,
                first: word(first)?,
                end: word(end)?,
                ldw: word(weight.row_stride())?,
                lda: word(self.from.pitch)?,
                ldc: word(self.to.pitch)?,
                flags: flags(self.accumulate || first > 0),
                ..Default::default()
            };
            let bindings = vec![weight.binding(), self.from.memory.binding(), self.to.memory.binding()];
            recording.dispatch(&kernels::map_dense(over, tile), bindings, &params, grid.clone(), work)?;
        }
        Ok(())
    }

    fn record_conv(&self, recording: &mut Recording, caps: &Caps, over: Over, work: f64) -> Result<()> {
        let DeviceMap::Conv { backward, forward, shape } = &self.edge.map else { return Ok(()) };
        let [from, to] = self.extents;
        let back = self.direction == BACKWARD;
        let weight = if back { backward } else { forward };
        let tile = Tile::choose(caps, to.channels, Some(self.columns), false);
        let places = to.height * to.width;
        let grid = direct(tile.group(), self.columns, to.channels, places)?;
        // Backward, the offset of whole images is minus the padding; forward, the kernel takes the padding itself.
        let off = shape.pad.map(|pad| if back { -(pad as i32) } else { pad as i32 });
        for (first, end) in pieces(self.edge, self.direction) {
            let params = kernels::MapConv {
                a_h: word(from.height)?,
                a_w: word(from.width)?,
                a_c: word(from.channels)?,
                columns: word(self.columns)?,
                c_h: word(to.height)?,
                c_w: word(to.width)?,
                c_c: word(to.channels)?,
                flags: flags(self.accumulate || first > 0),
                first: word(first)?,
                end: word(end)?,
                off_y: off[0],
                off_x: off[1],
                ldw: word(weight.row_stride())?,
                lda: word(self.from.pitch)?,
                ldc: word(self.to.pitch)?,
                ..conv_params(shape, back)?
            };
            let bindings = vec![weight.binding(), self.from.memory.binding(), self.to.memory.binding()];
            recording.dispatch(&kernels::map_conv(over, back, tile), bindings, &params, grid.clone(), work)?;
        }
        Ok(())
    }
}

/// The geometry of a convolution, for columns that stand nowhere in an image. Taps that read something lie `step` apart and what
/// they read `index`: backward a tap reads only where the stride divides.
fn conv_params(shape: &ConvShape, back: bool) -> Result<kernels::MapConv> {
    let of = |axis: usize| {
        let (stride, dilation) = (shape.stride[axis], shape.dilation[axis]);
        let step = if back { stride / gcd(stride, dilation) } else { 1 };
        let index = if back { -((step * dilation / stride) as i32) } else { dilation as i32 };
        (step as i32, index)
    };
    let ((step_y, index_y), (step_x, index_x)) = (of(0), of(1));
    Ok(kernels::MapConv {
        step_y,
        step_x,
        index_y,
        index_x,
        taps_h: word(shape.taps[0])?,
        taps_w: word(shape.taps[1])?,
        stride_y: word(shape.stride[0])?,
        stride_x: word(shape.stride[1])?,
        dilation_y: word(shape.dilation[0])?,
        dilation_x: word(shape.dilation[1])?,
        t_w: 1,
        t_c: 1,
        ..Default::default()
    })
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Coefficients `from` on the z of a step's layer, pushed through one edge of it to its source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pushed<'a> {
    pub edge: &'a DeviceEdge,
    pub step: &'a Step,
    pub push: &'a Push,
    pub source: Extent,
    pub from: Sheet<'a>,
    pub to: Sheet<'a>,
}

impl Pushed<'_> {
    /// Records the product for rows of a walk; `grid` is the device's, for as many rows as there are.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] if a size does not fit 32 bits, or a binding its kernel.
    pub fn record(&self, recording: &mut Recording, caps: &Caps, rows: &WalkRows<'_>, grid: &Grid) -> Result<()> {
        let to = self.push.window;
        let work = 2.0 * (self.edge.chunk(BACKWARD) * to.len() * rows.capacity) as f64;
        let over = Over { walk: true, moved: rows.moved, ..Over::default() };
        match &self.edge.map {
            DeviceMap::Dense { backward, .. } => {
                let over = Over { list: rows.list.is_some(), ..over };
                let kernel = kernels::map_dense(over, Tile::choose(caps, to.len(), None, true));
                let mut bindings = self.bindings(backward, rows);
                bindings.extend(rows.list.into_iter().flat_map(|(list, count)| [list.binding(), count.binding()]));
                for piece in pieces(self.edge, BACKWARD) {
                    let params = self.dense_params(backward, rows, piece)?;
                    recording.dispatch(&kernel, bindings.clone(), &params, grid.clone(), work)?;
                }
                Ok(())
            }
            DeviceMap::Conv { backward, shape, .. } => {
                let mixed = is_mixed(shape, self.step.window, to);
                let kernel = kernels::map_conv(Over { mixed, ..over }, true, conv_tile(caps, mixed, to.channels));
                for piece in pieces(self.edge, BACKWARD) {
                    let params = self.conv_params(backward, shape, rows, piece)?;
                    recording.dispatch(&kernel, self.bindings(backward, rows), &params, grid.clone(), work)?;
                }
                Ok(())
            }
            DeviceMap::Sparse { backward, .. } => {
                let params = kernels::MapSparse {
                    n: word(backward.rows)?,
                    lda: word(self.from.pitch)?,
                    ldc: word(self.to.pitch)?,
                    flags: flags(self.push.accumulate),
                    ..Default::default()
                };
                let mut bindings = sparse_bindings(backward, self.from.memory, self.to.memory);
                bindings.extend([rows.rows.binding(), rows.row_count.binding()]);
                recording.dispatch(&kernels::map_sparse(over), bindings, &params, grid.clone(), work)
            }
            DeviceMap::Diagonal(weight) => {
                let mut params = diagonal(self.step.window, to, self.source)?;
                params.lda = word(self.from.pitch)?;
                params.ldc = word(self.to.pitch)?;
                params.flags = flags(self.push.accumulate);
                (params.t_w, params.t_c) = (word(rows.target.width)?, word(rows.target.channels)?);
                let bindings = self.bindings(weight, rows);
                recording.dispatch(&kernels::map_diagonal(over), bindings, &params, grid.clone(), work)
            }
        }
    }

    /// What products with the numbers of one tensor bind, lists aside.
    fn bindings(&self, weight: &Tensor, rows: &WalkRows<'_>) -> Vec<Binding> {
        let [from, to] = [self.from, self.to].map(|sheet| sheet.memory.binding());
        vec![weight.binding(), from, to, rows.rows.binding(), rows.row_count.binding()]
    }

    fn dense_params(
        &self,
        weight: &Tensor,
        rows: &WalkRows<'_>,
        (first, end): (usize, usize),
    ) -> Result<kernels::MapDense> {
        Ok(kernels::MapDense {
            n: word(self.push.window.len())?,
            first: word(first)?,
            end: word(end)?,
            ldw: word(weight.row_stride())?,
            lda: word(self.from.pitch)?,
            ldc: word(self.to.pitch)?,
            ld_list: rows.list.map_or(Ok(0), |(list, _)| word(list.row_stride()))?,
            flags: flags(self.push.accumulate || first > 0),
            ..Default::default()
        })
    }

    fn conv_params(
        &self,
        weight: &Tensor,
        shape: &ConvShape,
        rows: &WalkRows<'_>,
        (first, end): (usize, usize),
    ) -> Result<kernels::MapConv> {
        let (a, c) = (self.step.window, self.push.window);
        let (off, slope) = offsets(shape.stride, shape.pad, a, c);
        Ok(kernels::MapConv {
            a_h: word(a.rows.size)?,
            a_w: word(a.columns.size)?,
            a_c: word(a.channels)?,
            c_h: word(c.rows.size)?,
            c_w: word(c.columns.size)?,
            c_c: word(c.channels)?,
            flags: flags(self.push.accumulate || first > 0),
            first: word(first)?,
            end: word(end)?,
            off_y: off[0],
            off_x: off[1],
            slope_y: slope[0],
            slope_x: slope[1],
            t_w: word(rows.target.width)?,
            t_c: word(rows.target.channels)?,
            ldw: word(weight.row_stride())?,
            lda: word(self.from.pitch)?,
            ldc: word(self.to.pitch)?,
            ..conv_params(shape, true)?
        })
    }
}

fn sparse_bindings(map: &DeviceSparse, from: &Tensor, to: &Tensor) -> Vec<Binding> {
    vec![map.starts.binding(), map.terms.binding(), from.binding(), to.binding()]
}

/// The geometry of a diagonal map from window `a` to window `c` of an image.
fn diagonal(a: Window, c: Window, image: Extent) -> Result<kernels::MapDiagonal> {
    let (off, slope) = offsets([1, 1], [0, 0], a, c);
    Ok(kernels::MapDiagonal {
        a_h: word(a.rows.size)?,
        a_w: word(a.columns.size)?,
        c_h: word(c.rows.size)?,
        c_w: word(c.columns.size)?,
        channels: word(image.channels)?,
        image_h: word(image.height)?,
        image_w: word(image.width)?,
        off_y: off[0],
        off_x: off[1],
        slope_y: slope[0],
        slope_x: slope[1],
        c_y: c.rows.offset,
        c_x: c.columns.offset,
        c_sy: c.rows.stride,
        c_sx: c.columns.stride,
        t_w: 1,
        t_c: 1,
        ..Default::default()
    })
}

/// Workgroups of `values` values and `per` columns, at each of `places` places.
fn direct((values, per): (u32, u32), columns: usize, n: usize, places: usize) -> Result<Grid> {
    let along = word(n.div_ceil(values as usize))?;
    Ok(Grid::Direct([word(columns.div_ceil(per as usize))?, along, word(places)?]))
}

/// Workgroups of 32 columns and two values.
fn folded(columns: usize, n: usize) -> Result<Grid> {
    let along = n.div_ceil(2);
    let columns = word(columns.div_ceil(32))?;
    Ok(Grid::Direct([columns, word(along.min(32_768))?, word(along.div_ceil(32_768))?]))
}
