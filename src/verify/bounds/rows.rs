//! Recording of rows on their way back: their table, what they start with, and for every step of their walk the lines of a layer,
//! the rows' bounds by its values, and the products with its maps.

use super::Bounds;
use crate::error::Result;
use crate::gpu::{Binding, Grid, Recording};
use crate::graph::{Extent, Source};
use crate::ops::word;
use crate::tensor::Tensor;
use crate::verify::kernels::{self, Flag, Relax};
use crate::verify::maps::{Pushed, Sheet, WalkRows};
use crate::verify::network::{DeviceEdge, DeviceMap, FORWARD, TILE};
use crate::verify::state::{LayerState, Selection};
use crate::verify::walk::{FINISH, Push, Step, Walk, Window, first_channels, lanes, offsets};

/// What the rows of a walk are bounds of.
pub(super) struct Target<'a> {
    pub walk: &'a Walk,
    /// Elements of a box that may be bounded: neurons of a layer, or output rows.
    pub n: usize,
    /// Rows of an element: its lower and its upper bound, or its lower bound alone.
    pub sides: usize,
    /// `[batch, n]`, tightened by every cut of the walk; `upper` is not written where there is one side.
    pub lower: &'a Tensor,
    pub upper: &'a Tensor,
    /// What the rows start with: constants and errors.
    pub state: &'a Tensor,
    /// Which rows go on behind a cut,
    pub keep: Flag,
    /// if decided ones are dropped there.
    pub drop: bool,
    /// Where the rows' linear forms on the input go, if they are wanted.
    pub form: Option<&'a Tensor>,
}

impl Target<'_> {
    /// Records walks of all chosen elements (`chosen`: flags, `[batch, n]`), as many at a time as there is room for.
    pub fn record(&self, recording: &mut Recording, bounds: &Bounds<'_>, chosen: &Tensor<u32>) -> Result<()> {
        let (batch, room) = (bounds.batch, &bounds.room);
        let capacity = bounds.plan.capacity(bounds.net, self.walk, self.n);
        let all = Selection { flags: chosen.clone(), ..room.all.of(batch, self.n)? };
        all.compact(recording, bounds.caps)?;
        let chunk = room.chunk.of(batch, self.n)?;
        let rows = Rows { bounds, target: self, selection: &chunk, capacity };
        // Every box's rows are padded to a tile: whole tiles, so that no row of the last box is cut off.
        let most = (capacity / batch / TILE * TILE / self.sides).max(1);
        for first in (0..self.n).step_by(most) {
            let params = kernels::RowChunk {
                n: word(self.n)?,
                ld: word(chosen.row_stride())?,
                first: word(first)?,
                most: word(most)?,
                ..Default::default()
            };
            let bindings = vec![
                all.list.binding(),
                all.count.binding(),
                chunk.list.binding(),
                chunk.flags.binding(),
                chunk.count.binding(),
            ];
            let grid = Grid::Direct([word(batch)?, 1, 1]);
            recording.dispatch(&kernels::row_chunk(), bindings, &params, grid, chosen.len() as f64)?;
            rows.record(recording)?;
        }
        Ok(())
    }
}

/// Rows of the selected elements of a target: one walk.
struct Rows<'a> {
    bounds: &'a Bounds<'a>,
    target: &'a Target<'a>,
    selection: &'a Selection,
    /// Rows at most, which is also the pitch of their coefficients.
    capacity: usize,
}

impl Rows<'_> {
    /// From the rows' start back to the box.
    fn record(&self, recording: &mut Recording) -> Result<()> {
        let (bounds, target) = (self.bounds, self.target);
        self.record_table(recording, true)?;
        for push in &target.walk.first {
            self.record_first(recording, push)?;
        }
        for step in &target.walk.steps {
            self.record_relax(recording, step)?;
            self.record_finish(recording, step)?;
            let Source::Layer(index) = step.source else { continue };
            let moved = step.cut && target.drop;
            if moved {
                let flags = &self.selection.flags;
                bounds.record_select(recording, target.keep, false, target.lower, target.upper, flags)?;
                self.selection.compact(recording, bounds.caps)?;
                self.record_table(recording, false)?;
            }
            self.record_pushes(recording, step, index, moved)?;
        }
        Ok(())
    }

    /// The extent of what the rows bound; given rows have no place in an image.
    fn extent(&self) -> Extent {
        let index = self.target.walk.target;
        index.map_or(Extent::flat(self.target.n), |index| self.bounds.net.layers[index].extent)
    }

    /// The table of rows, and the grids of all dispatches of the walk.
    fn record_table(&self, recording: &mut Recording, first: bool) -> Result<()> {
        self.record_offsets(recording)?;
        let (selection, room) = (self.selection, &self.bounds.room);
        let params = kernels::RowTable {
            n: word(self.target.n)?,
            ld: word(selection.list.row_stride())?,
            sides: word(self.target.sides)?,
            tile: word(TILE)?,
            capacity: word(self.capacity)?,
            ..Default::default()
        };
        let bindings = vec![
            selection.list.binding(),
            selection.count.binding(),
            room.offset.binding(),
            room.rows.binding(),
            room.row_of.binding(),
        ];
        let grid = Grid::Direct([word(self.bounds.batch)?, 1, 1]);
        recording.dispatch(&kernels::row_table(first), bindings, &params, grid, self.capacity as f64)
    }

    fn record_offsets(&self, recording: &mut Recording) -> Result<()> {
        let (bounds, target) = (self.bounds, self.target);
        let params = kernels::RowOffsets {
            segments: word(bounds.batch)?,
            sides: word(target.sides)?,
            tile: word(TILE)?,
            capacity: word(self.capacity)?,
            first_shape: word(target.walk.first_shape)?,
            grids: word(target.walk.grids)?,
            ..Default::default()
        };
        let bindings = vec![
            self.selection.count.binding(),
            bounds.room.offset.binding(),
            bounds.room.row_count.binding(),
            Binding::whole(&bounds.room.arguments),
            bounds.net.walks.shapes.binding(),
        ];
        let work = (bounds.batch + target.walk.grids) as f64;
        recording.dispatch(&kernels::row_offsets(), bindings, &params, Grid::Direct([1, 1, 1]), work)
    }

    /// The coefficients that rows start with, through one edge of the target or as given.
    fn record_first(&self, recording: &mut Recording, push: &Push) -> Result<()> {
        let Some(index) = self.target.walk.target else {
            return self.record_first_matrix(recording, push, &self.bounds.queries.spec);
        };
        let edge = &self.bounds.net.layers[index].edges[push.edge];
        match &edge.map {
            DeviceMap::Dense { backward, .. } => self.record_first_matrix(recording, push, backward),
            DeviceMap::Conv { .. } => self.record_first_conv(recording, push, edge),
            DeviceMap::Sparse { .. } | DeviceMap::Diagonal(_) => self.record_first_sparse(recording, push, edge),
        }
    }

    /// What all dispatches of `row_first` have in common.
    fn first_params(&self, push: &Push) -> Result<kernels::RowFirst> {
        let element = self.extent();
        Ok(kernels::RowFirst {
            n: word(push.window.len())?,
            ldc: word(self.capacity)?,
            flags: u32::from(push.accumulate),
            sides: word(self.target.sides)?,
            rows_of_m: 1,
            c_w: word(push.window.columns.size)?,
            c_c: word(first_channels(push.window))?,
            dilation_y: 1,
            dilation_x: 1,
            t_w: word(element.width)?,
            t_c: word(element.channels)?,
            ..Default::default()
        })
    }

    /// Rows that start as rows of a matrix: of the specification, or of a dense map.
    fn record_first_matrix(&self, recording: &mut Recording, push: &Push, matrix: &Tensor) -> Result<()> {
        let mut params = self.first_params(push)?;
        params.ldm = word(matrix.row_stride())?;
        params.rows_of_m = word(matrix.shape()[0])?;
        self.dispatch_first(recording, push, (false, matrix), &params)
    }

    fn record_first_conv(&self, recording: &mut Recording, push: &Push, edge: &DeviceEdge) -> Result<()> {
        let DeviceMap::Conv { backward, shape, .. } = &edge.map else { return Ok(()) };
        let (off, slope) = offsets(shape.stride, shape.pad, Window::place(self.extent()), push.window);
        let mut params = self.first_params(push)?;
        params.ldm = word(backward.row_stride())?;
        // A place is a place here, however many channels it has: the kernel finds its tap by it.
        params.c_c = word(push.window.channels)?;
        (params.taps_h, params.taps_w) = (word(shape.taps[0])?, word(shape.taps[1])?);
        (params.dilation_y, params.dilation_x) = (word(shape.dilation[0])?, word(shape.dilation[1])?);
        (params.off_y, params.off_x) = (off[0], off[1]);
        (params.slope_y, params.slope_x) = (slope[0], slope[1]);
        self.dispatch_first(recording, push, (true, backward), &params)
    }

    fn dispatch_first(
        &self,
        recording: &mut Recording,
        push: &Push,
        (conv, matrix): (bool, &Tensor),
        params: &kernels::RowFirst,
    ) -> Result<()> {
        let room = &self.bounds.room;
        let slot = &room.slots[push.slot];
        let bindings = vec![matrix.binding(), slot.binding(), room.rows.binding(), room.row_count.binding()];
        let work = (push.window.len() * self.capacity) as f64;
        recording.dispatch(&kernels::row_first(conv), bindings, params, room.grid(push.grid), work)
    }

    fn record_first_sparse(&self, recording: &mut Recording, push: &Push, edge: &DeviceEdge) -> Result<()> {
        let (room, c) = (&self.bounds.room, push.window);
        let slot = &room.slots[push.slot];
        if !push.accumulate {
            let size = (c.len() * self.capacity * 4) as u64;
            recording.clear(Binding { size, ..slot.binding() });
        }
        let (element, image) = (self.extent(), self.bounds.net.extent(edge.source));
        let params = kernels::RowFirstSparse {
            ldc: word(self.capacity)?,
            sides: word(self.target.sides)?,
            c_w: word(c.columns.size)?,
            channels: word(c.channels)?,
            c_y: c.rows.offset,
            c_x: c.columns.offset,
            c_sy: c.rows.stride,
            c_sx: c.columns.stride,
            image_w: word(image.width)?,
            t_w: word(element.width)?,
            t_c: word(element.channels)?,
            ..Default::default()
        };
        let common = [slot.binding(), room.rows.binding(), room.row_count.binding()];
        let (diagonal, bindings) = match &edge.map {
            DeviceMap::Diagonal(weights) => (true, [vec![weights.binding()], common.to_vec()].concat()),
            DeviceMap::Sparse { forward, .. } => {
                let (starts, terms) = (vec![forward.starts.binding()], vec![forward.terms.binding()]);
                (false, [starts, common.to_vec(), terms].concat())
            }
            DeviceMap::Dense { .. } | DeviceMap::Conv { .. } => return Ok(()),
        };
        let work = (self.capacity * edge.terms[FORWARD]) as f64;
        recording.dispatch(&kernels::row_first_sparse(diagonal), bindings, &params, room.grid(push.grid), work)
    }

    /// The lines of a step's layer, or the ends of the box: coefficients on its values become coefficients on its z, or a bound.
    fn record_relax(&self, recording: &mut Recording, step: &Step) -> Result<()> {
        let (bounds, room) = (self.bounds, &self.bounds.room);
        let mut params = self.relax_params(step)?;
        let slot = room.slots[step.slot].binding();
        let mut bindings = vec![slot, room.partial.binding(), room.rows.binding(), bounds.bad.binding()];
        let how = match step.source {
            Source::Input => {
                bindings.push(bounds.box_lines.binding());
                match self.target.form {
                    Some(form) if step.whole => {
                        bindings.push(form.binding());
                        params.ld_form = word(form.row_stride())?;
                        Relax::InputForm
                    }
                    _ if step.whole => Relax::Input,
                    _ => Relax::InputWindow,
                }
            }
            Source::Layer(index) => {
                let LayerState { lines, active, .. } = &bounds.layers[index];
                bindings.push(lines.binding());
                match active {
                    Some(active) => {
                        params.ld_list = word(active.list.row_stride())?;
                        let out = room.slots[step.out].binding();
                        bindings.extend([active.list.binding(), active.count.binding(), out]);
                        Relax::Compact
                    }
                    None if step.whole => Relax::Whole,
                    None => Relax::Window,
                }
            }
        };
        let kernel = kernels::relax_rows(how, word(lanes(bounds.caps))?);
        let work = (self.capacity * step.window.len()) as f64;
        recording.dispatch(&kernel, bindings, &params, room.grid(step.grid), work)
    }

    fn relax_params(&self, step: &Step) -> Result<kernels::RelaxRows> {
        let (extent, element, window) = (self.bounds.net.extent(step.source), self.extent(), step.window);
        Ok(kernels::RelaxRows {
            n: word(extent.len())?,
            ld: word(self.capacity)?,
            slices: word(step.slices)?,
            terms: word(window.len())?,
            c_h: word(window.rows.size)?,
            c_w: word(window.columns.size)?,
            channels: word(extent.channels)?,
            image_h: word(extent.height)?,
            image_w: word(extent.width)?,
            t_w: word(element.width)?,
            t_c: word(element.channels)?,
            c_y: window.rows.offset,
            c_x: window.columns.offset,
            c_sy: window.rows.stride,
            c_sx: window.columns.stride,
            ..Default::default()
        })
    }

    /// The sums of a step become a part of the rows' constants and, at a cut, bounds of the target.
    fn record_finish(&self, recording: &mut Recording, step: &Step) -> Result<()> {
        let (bounds, target, room) = (self.bounds, self.target, &self.bounds.room);
        let input = step.source == Source::Input;
        let params = kernels::RowFinish {
            n: word(target.n)?,
            ld_target: word(target.lower.row_stride())?,
            sides: word(target.sides)?,
            keep: u32::from(bounds.mode.intersect),
            store: u32::from(step.cut && (bounds.mode.intersect || input)),
            slices: word(step.slices)?,
            ld: word(self.capacity)?,
            d: bounds.rounding.u * (step.slices + 8) as f32,
            tiny: bounds.rounding.tiny,
            grow: bounds.rounding.grow(step.constant_depth()),
            ..Default::default()
        };
        let bindings = vec![
            room.partial.binding(),
            room.rows.binding(),
            room.row_count.binding(),
            target.state.binding(),
            target.lower.binding(),
            target.upper.binding(),
            bounds.bad.binding(),
        ];
        let work = (self.capacity * step.slices) as f64;
        recording.dispatch(&kernels::row_finish(input), bindings, &params, room.grid(FINISH), work)
    }

    /// Coefficients on the z of layer `index` go through its edges.
    fn record_pushes(&self, recording: &mut Recording, step: &Step, index: usize, moved: bool) -> Result<()> {
        let (bounds, room) = (self.bounds, &self.bounds.room);
        let rows = WalkRows {
            rows: &room.rows,
            row_count: &room.row_count,
            moved,
            list: bounds.layers[index].active.as_ref().map(|active| (&active.list, &active.count)),
            target: self.extent(),
            capacity: self.capacity,
        };
        for push in &step.pushes {
            let edge = &bounds.net.layers[index].edges[push.edge];
            let pushed = Pushed {
                edge,
                step,
                push,
                source: bounds.net.extent(edge.source),
                from: Sheet { memory: &room.slots[step.out], pitch: self.capacity },
                to: Sheet { memory: &room.slots[push.slot], pitch: self.capacity },
            };
            pushed.record(recording, bounds.caps, &rows, &room.grid(push.grid))?;
        }
        Ok(())
    }
}
