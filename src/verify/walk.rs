//! How rows walk back through a network: which layers, in which order, with which part of each layer, and where the
//! coefficients stand meanwhile. All of it follows from the network alone, so it is planned once.
//!
//! A walk keeps one matrix of coefficients a *pending* source. It takes the last pending layer, applies its lines, and pushes the
//! result through every edge to the layer's sources, where it is added to what is there: that is how paths of a residual
//! network meet. Where one source alone is pending (a *cut*) the rows are bounds of the quantity by that source's values,
//! so there they are evaluated, and those that are decided are dropped.
//!
//! A row that bounds element (y_t, x_t) of a convolutional layer depends on a window of every layer below (the dependence set of
//! GPUPoly): rows `stride * y_t + offset` to `+ size` and columns likewise. Windows grow with every convolution until they are
//! the whole image.

use super::kernels::Tile;
use super::network::{BACKWARD, ConvShape, DeviceEdge, DeviceLayer, DeviceMap, TILE};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Caps, Gpu};
use crate::graph::{Extent, Source};
use crate::ops::word;
use crate::tensor::Tensor;

/// The part of an axis that a row has coefficients for: `size` values from `stride * t + offset` on, t the place of the row's element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub stride: i32,
    pub offset: i32,
    pub size: usize,
}

impl Span {
    fn whole(size: usize) -> Self {
        Self { stride: 0, offset: 0, size }
    }

    /// The span, or all of an axis of `length` if it is as long, or the same for all elements: the linear form of a given row
    /// is kept where its window is the whole input.
    fn within(self, length: usize) -> Self {
        if self.stride == 0 || self.size >= length { Self::whole(length) } else { self }
    }

    /// The span of a convolution's source that this span of its result reads.
    fn through(self, conv: &ConvShape, axis: usize) -> Self {
        let (stride, pad) = (conv.stride[axis], conv.pad[axis] as i32);
        Self {
            stride: self.stride * stride as i32,
            offset: self.offset * stride as i32 - pad,
            size: (self.size - 1) * stride + (conv.taps[axis] - 1) * conv.dilation[axis] + 1,
        }
    }

    /// The smallest span with both in it; all of the axis where they move differently.
    fn union(self, other: Self, length: usize) -> Self {
        if self.stride != other.stride {
            return Self::whole(length);
        }
        let offset = self.offset.min(other.offset);
        let end = (self.offset + self.size as i32).max(other.offset + other.size as i32);
        Self { stride: self.stride, offset, size: (end - offset) as usize }.within(length)
    }
}

/// The part of a layer's values that a row has coefficients for: all channels of a span of rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub rows: Span,
    pub columns: Span,
    pub channels: usize,
}

impl Window {
    pub fn whole(extent: Extent) -> Self {
        let (rows, columns) = (Span::whole(extent.height), Span::whole(extent.width));
        Self { rows, columns, channels: extent.channels }
    }

    /// One element's own place.
    pub fn place(extent: Extent) -> Self {
        let one = Span { stride: 1, offset: 0, size: 1 };
        Self { rows: one.within(extent.height), columns: one.within(extent.width), channels: extent.channels }
    }

    pub fn is_whole(&self, extent: Extent) -> bool {
        self.rows == Span::whole(extent.height) && self.columns == Span::whole(extent.width)
    }

    /// Number of coefficients.
    pub fn len(&self) -> usize {
        self.rows.size * self.columns.size * self.channels
    }

    /// What an edge makes of it on its source.
    fn through(self, edge: &DeviceEdge, source: Extent) -> Self {
        match &edge.map {
            DeviceMap::Conv { shape, .. } => Self {
                rows: self.rows.through(shape, 0).within(source.height),
                columns: self.columns.through(shape, 1).within(source.width),
                channels: source.channels,
            },
            DeviceMap::Diagonal(_) => self,
            DeviceMap::Dense { .. } | DeviceMap::Sparse { .. } => Self::whole(source),
        }
    }

    /// The smallest window with both in it, or all of an axis.
    fn union(self, other: Self, extent: Extent) -> Self {
        Self {
            rows: self.rows.union(other.rows, extent.height),
            columns: self.columns.union(other.columns, extent.width),
            channels: self.channels,
        }
    }
}

/// Coefficients pushed through one edge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Push {
    /// The edge of the layer.
    pub edge: usize,
    /// Where the coefficients on its source stand.
    pub slot: usize,
    /// What they are.
    pub window: Window,
    /// Something stands there already.
    pub accumulate: bool,
    /// The grid of every dispatch.
    pub grid: usize,
}

/// One layer (or the input) of a walk.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub source: Source,
    /// Where the coefficients on its values stand.
    pub slot: usize,
    pub window: Window,
    /// The window is the whole layer.
    pub whole: bool,
    /// Where those behind its lines go, if they are compacted.
    pub out: usize,
    /// No other coefficients are pending.
    pub cut: bool,
    /// Parts that a row is summed in.
    pub slices: usize,
    pub grid: usize,
    pub pushes: Vec<Push>,
}

impl Step {
    /// Roundings that a term of a row's constant meets: those of its slice, which has whole places of a window or single values of a
    /// whole layer; then one a slice, and ten for the term's own operations.
    pub fn constant_depth(&self) -> usize {
        let places = self.window.rows.size * self.window.columns.size;
        let (parts, each) = if self.whole { (self.window.len(), 1) } else { (places, self.window.channels) };
        parts.div_ceil(self.slices) * each + self.slices + 10
    }
}

/// The way of the rows of one layer's neurons, or of the output rows, back to the input.
#[derive(Debug, Clone)]
pub(super) struct Walk {
    /// The layer that the rows bound; none for rows that were given on the last layer's values.
    pub target: Option<usize>,
    /// How rows start: pushes through the edges of the target (one, through no edge, for given rows).
    pub first: Vec<Push>,
    pub steps: Vec<Step>,
    /// First grid of this walk among those of the network, and how many.
    pub first_shape: usize,
    pub grids: usize,
    /// Coefficients in a slot, at most.
    pub widest: usize,
    /// Parts that a row is summed in, at most.
    pub slices: usize,
    /// Multiplications of the largest product of one row.
    pub heaviest: usize,
}

/// The grid of a `row_finish`, the first of every walk.
pub(super) const FINISH: usize = 0;

/// All walks of a network.
#[derive(Debug)]
pub(super) struct Walks {
    /// One for each layer.
    pub layers: Vec<Walk>,
    pub queries: Walk,
    /// Matrices of coefficients that exist at once, at most.
    pub slots: usize,
    /// `[grids, 4]`: rows of a workgroup, and the other two dimensions of each grid.
    pub shapes: Tensor<u32>,
}

impl Walks {
    pub async fn new(gpu: &Gpu, input: Extent, layers: &[DeviceLayer]) -> Result<Self> {
        Self::planned_for(gpu, gpu.caps(), input, layers).await
    }

    /// The walks as a device with these capabilities has them.
    pub(super) async fn planned_for(gpu: &Gpu, caps: &Caps, input: Extent, layers: &[DeviceLayer]) -> Result<Self> {
        let mut planner = Planner { caps, input, layers, shapes: Vec::new(), slots: 0 };
        let walks = (0..layers.len()).map(|index| planner.walk(Some(index))).collect::<Result<Vec<_>>>()?;
        let queries = planner.walk(None)?;
        let (slots, shapes) = (planner.slots, planner.shapes);
        let words: Vec<u32> = shapes.iter().flatten().copied().collect();
        let shapes = Tensor::from_slice_async(gpu, &[words.len()], &words).await?;
        Ok(Self { layers: walks, queries, slots, shapes })
    }

    /// [`Step::constant_depth`] at the input, then at each layer, the largest of all walks.
    pub fn constant_depths(&self, layers: usize) -> Vec<usize> {
        let mut depths = vec![0; layers + 1];
        for step in self.all().flat_map(|walk| &walk.steps) {
            let depth = &mut depths[place_of(step.source)];
            *depth = step.constant_depth().max(*depth);
        }
        depths
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Walk> {
        self.layers.iter().chain([&self.queries])
    }
}

/// Invocations of a workgroup that relaxes rows, each with a slice of the row.
pub(super) fn lanes(caps: &Caps) -> usize {
    if caps.is_software() { 8 } else { 32 }
}

/// Parts that the sums of a row over `terms` coefficients or places are made in: whole workgroups, short sums.
fn slices(caps: &Caps, terms: usize) -> usize {
    let lanes = lanes(caps);
    (lanes * terms.div_ceil(lanes * 64).clamp(1, 8)).min(terms.max(1))
}

struct Planner<'a> {
    caps: &'a Caps,
    input: Extent,
    layers: &'a [DeviceLayer],
    shapes: Vec<[u32; 4]>,
    slots: usize,
}

/// What a walk has pending, by the place of its source.
struct Pending {
    /// Of every source that the walk reaches.
    windows: Vec<Option<Window>>,
    /// Where coefficients on it stand, if some do.
    slots: Vec<Option<usize>>,
}

impl Planner<'_> {
    fn extent(&self, source: Source) -> Extent {
        match source {
            Source::Input => self.input,
            Source::Layer(index) => self.layers[index].extent,
        }
    }

    fn walk(&mut self, target: Option<usize>) -> Result<Walk> {
        let first_shape = self.shapes.len();
        let mut walk = Walk {
            target,
            first: Vec::new(),
            steps: Vec::new(),
            first_shape,
            grids: 0,
            widest: 1,
            slices: 1,
            heaviest: 1,
        };
        self.shapes.push([64, 1, 1, 0]);
        let mut pending = Pending { windows: self.windows(target), slots: vec![None; self.layers.len() + 1] };
        match target {
            Some(index) => {
                let place = Window::place(self.layers[index].extent);
                for edge in 0..self.layers[index].edges.len() {
                    let push = self.push(&mut walk, &mut pending, index, edge, place, true)?;
                    walk.first.push(push);
                }
            }
            None => {
                let push = self.given(&mut walk, &mut pending)?;
                walk.first.push(push);
            }
        }
        for at in (0..=self.layers.len()).rev() {
            if let (Some(slot), Some(window)) = (pending.slots[at], pending.windows[at]) {
                let step = self.step(&mut walk, &mut pending, at, slot, window)?;
                walk.slices = walk.slices.max(step.slices);
                walk.steps.push(step);
            }
        }
        walk.grids = self.shapes.len() - first_shape;
        Ok(walk)
    }

    /// Rows that are given on the last layer's values, through no edge.
    fn given(&mut self, walk: &mut Walk, pending: &mut Pending) -> Result<Push> {
        let last = self.layers.len();
        let window = pending.windows[last].unwrap_or(Window::whole(self.extent(source_at(last))));
        let slot = self.free_slot(pending);
        pending.slots[last] = Some(slot);
        let grid = self.shape(walk, 32, first_places(window))?;
        walk.widest = walk.widest.max(window.len());
        Ok(Push { edge: 0, slot, window, accumulate: false, grid })
    }

    /// The window of every source that the walk reaches, all paths to it together.
    fn windows(&self, target: Option<usize>) -> Vec<Option<Window>> {
        let mut windows: Vec<Option<Window>> = vec![None; self.layers.len() + 1];
        let spread = |windows: &mut Vec<Option<Window>>, layer: &DeviceLayer, window: Window| {
            for edge in &layer.edges {
                let extent = self.extent(edge.source);
                let mine = window.through(edge, extent);
                let entry = &mut windows[place_of(edge.source)];
                *entry = Some(entry.map_or(mine, |other| other.union(mine, extent)));
            }
        };
        match target {
            Some(index) => spread(&mut windows, &self.layers[index], Window::place(self.layers[index].extent)),
            None => windows[self.layers.len()] = self.layers.last().map(|layer| Window::whole(layer.extent)),
        }
        for (index, layer) in self.layers.iter().enumerate().rev() {
            if let Some(window) = windows[index + 1] {
                // Products with dense and sparse maps read their terms by number: they need the whole layer.
                let by_number =
                    layer.edges.iter().any(|e| matches!(e.map, DeviceMap::Dense { .. } | DeviceMap::Sparse { .. }));
                let window = if by_number { Window::whole(layer.extent) } else { window };
                windows[index + 1] = Some(window);
                spread(&mut windows, layer, window);
            }
        }
        windows
    }

    /// Takes a pending source: its coefficients are evaluated and go on to the sources of its layer.
    fn step(&mut self, walk: &mut Walk, pending: &mut Pending, at: usize, slot: usize, window: Window) -> Result<Step> {
        let source = source_at(at);
        let cut = pending.slots.iter().filter(|slot| slot.is_some()).count() == 1;
        let extent = self.extent(source);
        let whole = window.is_whole(extent);
        let slices = slices(self.caps, if whole { window.len() } else { window.rows.size * window.columns.size });
        let tile = word(TILE)?;
        let groups = if whole { slices.div_ceil(lanes(self.caps)) } else { slices };
        self.shapes.push([tile, word(groups)?, 1, 0]);
        let grid = self.shapes.len() - 1 - walk.first_shape;
        let mut step = Step { source, slot, window, whole, out: slot, cut, slices, grid, pushes: Vec::new() };
        let Source::Layer(index) = source else {
            pending.slots[at] = None;
            return Ok(step);
        };
        if self.layers[index].is_compact() {
            step.out = self.free_slot(pending);
            pending.slots[at] = Some(step.out);
        }
        for edge in 0..self.layers[index].edges.len() {
            let push = self.push(walk, pending, index, edge, window, false)?;
            step.pushes.push(push);
        }
        pending.slots[at] = None;
        Ok(step)
    }

    /// Coefficients in `window` of layer `index`'s z go through one of its edges; `first`: the walk's rows start there.
    fn push(
        &mut self,
        walk: &mut Walk,
        pending: &mut Pending,
        index: usize,
        number: usize,
        window: Window,
        first: bool,
    ) -> Result<Push> {
        let edge = &self.layers[index].edges[number];
        let place = place_of(edge.source);
        let to = pending.windows[place].unwrap_or(Window::whole(self.extent(edge.source)));
        let accumulate = pending.slots[place].is_some();
        let slot = pending.slots[place].unwrap_or_else(|| self.free_slot(pending));
        pending.slots[place] = Some(slot);
        let grid = if first { self.first_shape(walk, edge, to)? } else { self.product_shape(walk, edge, window, to)? };
        walk.widest = walk.widest.max(to.len());
        walk.heaviest = walk.heaviest.max(match &edge.map {
            DeviceMap::Conv { .. } | DeviceMap::Dense { .. } => edge.chunk(BACKWARD) * to.len(),
            _ => to.len(),
        });
        Ok(Push { edge: number, slot, window: to, accumulate, grid })
    }

    /// A slot that nothing pending stands in.
    fn free_slot(&mut self, pending: &Pending) -> usize {
        let taken = |slot: &usize| pending.slots.contains(&Some(*slot));
        let slot = (0..).find(|slot| !taken(slot)).unwrap_or(0);
        self.slots = self.slots.max(slot + 1);
        slot
    }

    /// A grid of workgroups of `rows` rows and one each of `along`, folded into two dimensions.
    fn shape(&mut self, walk: &Walk, rows: u32, along: usize) -> Result<usize> {
        self.shapes.push([rows, word(along.min(32_768))?, word(along.div_ceil(32_768))?, 0]);
        Ok(self.shapes.len() - 1 - walk.first_shape)
    }

    /// The grid of the kernel by which rows start.
    fn first_shape(&mut self, walk: &Walk, edge: &DeviceEdge, to: Window) -> Result<usize> {
        match &edge.map {
            DeviceMap::Dense { .. } | DeviceMap::Conv { .. } => self.shape(walk, 32, first_places(to)),
            DeviceMap::Sparse { .. } | DeviceMap::Diagonal(_) => self.shape(walk, 64, 1),
        }
    }

    /// The grid of a product with an edge's map, from one window to another.
    fn product_shape(&mut self, walk: &Walk, edge: &DeviceEdge, window: Window, to: Window) -> Result<usize> {
        match &edge.map {
            DeviceMap::Dense { .. } => {
                let (values, columns) = Tile::choose(self.caps, to.len(), None, true).group();
                self.shape(walk, columns, to.len().div_ceil(values as usize))
            }
            DeviceMap::Conv { shape, .. } => {
                let tile = conv_tile(self.caps, is_mixed(shape, window, to), to.channels);
                let places = to.rows.size * to.columns.size;
                if places > 65_535 {
                    let what = format!("a convolution over {places} places");
                    return Err(Error::new(ErrorKind::TooBig, what)
                        .with_help("images of at most 65,535 pixels can be verified"));
                }
                let (values, columns) = tile.group();
                self.shapes.push([columns, word(to.channels.div_ceil(values as usize))?, word(places)?, 0]);
                Ok(self.shapes.len() - 1 - walk.first_shape)
            }
            DeviceMap::Sparse { .. } | DeviceMap::Diagonal(_) => self.shape(walk, 32, to.len().div_ceil(2)),
        }
    }
}

/// Elements of a place in which rows start: all channels of it, or a piece of a layer without places.
pub(super) fn first_channels(window: Window) -> usize {
    if window.rows.size * window.columns.size > 1 { window.channels } else { window.channels.min(32) }
}

/// How many such places a window has.
fn first_places(window: Window) -> usize {
    window.len().div_ceil(first_channels(window))
}

/// The tile of a walk's product with a convolution.
pub(super) fn conv_tile(caps: &Caps, mixed: bool, channels: usize) -> Tile {
    let tile = Tile::choose(caps, channels, None, false);
    if mixed { Tile { columns: 4, ..tile } } else { tile }
}

/// Offsets of a product's windows: that of element 0, and how much it grows from element to element, each for rows and columns.
pub(super) fn offsets(stride: [usize; 2], pad: [usize; 2], a: Window, c: Window) -> ([i32; 2], [i32; 2]) {
    let of = |a: Span, c: Span, axis: usize| {
        let stride = stride[axis] as i32;
        (a.offset * stride - pad[axis] as i32 - c.offset, a.stride * stride - c.stride)
    };
    let (rows, columns) = (of(a.rows, c.rows, 0), of(a.columns, c.columns, 1));
    ([rows.0, columns.0], [rows.1, columns.1])
}

/// Whether offsets differ from row to row.
pub(super) fn is_mixed(shape: &ConvShape, a: Window, c: Window) -> bool {
    offsets(shape.stride, shape.pad, a, c).1 != [0, 0]
}

/// The place of a source in lists of all: the input first, then layer by layer.
fn place_of(source: Source) -> usize {
    match source {
        Source::Input => 0,
        Source::Layer(index) => index + 1,
    }
}

fn source_at(place: usize) -> Source {
    place.checked_sub(1).map_or(Source::Input, Source::Layer)
}
