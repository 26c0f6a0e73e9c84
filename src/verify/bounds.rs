//! Bound propagation for a batch of boxes: intervals, then back-substitution of chosen rows (DeepPoly / CROWN).
//!
//! All state of a batch lives on the device; the host only writes down what shall happen. Which neurons are unstable,
//! how many rows that makes and which rows are decided on the way is known to the device alone (compaction, indirect
//! dispatch), so a whole analysis is one recording.

use super::kernels::{self, Flag, Relax};
use super::maps::{Product, Pushed, Sheet, WalkRows};
use super::network::{DeviceMap, DeviceNet, FORWARD, Order, TILE, code, column_pitch};
use super::soundness::Rounding;
use super::state::{LayerState, Plan, QueryState, Room, Selection, Spec};
use super::walk::{FINISH, Push, Step, Walk, Window, first_channels, lanes, offsets};
use crate::error::Result;
use crate::gpu::{Binding, Caps, Gpu, Grid, Recording};
use crate::graph::{Activation, Extent, Source};
use crate::ops::{strided_grid, word};
use crate::tensor::Tensor;

/// Which bounds are computed and kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mode {
    /// Back-substitute every neuron and never drop a row, instead of unstable neurons until they are decided.
    pub all_rows: bool,
    /// Keep the tightest of the interval bound and every level's bound, instead of the last level's alone.
    pub intersect: bool,
}

/// Device state of a batch of boxes.
#[derive(Debug)]
pub(super) struct Bounds<'a> {
    net: &'a DeviceNet,
    caps: &'a Caps,
    rounding: Rounding,
    mode: Mode,
    batch: usize,
    plan: Plan,
    box_lower: Tensor,
    box_upper: Tensor,
    box_lines: Tensor,
    /// One state for each layer.
    pub layers: Vec<LayerState>,
    /// The output rows.
    pub queries: QueryState,
    /// `[batch]`: non-zero where a magnitude left the range in which bounds mean something.
    pub bad: Tensor<u32>,
    /// Centres, and radii beside magnitudes, of what goes into a layer and what comes out.
    centre: [Tensor; 2],
    spread: [Tensor; 2],
    room: Room,
}

/// What the rows of a walk are bounds of.
struct Target<'b> {
    walk: &'b Walk,
    n: usize,
    sides: usize,
    lower: &'b Tensor,
    upper: &'b Tensor,
    /// What the rows start with: constants and errors.
    state: &'b Tensor,
    keep: Flag,
    /// Rows are dropped when they are decided.
    drop: bool,
    form: Option<&'b Tensor>,
}

impl<'a> Bounds<'a> {
    /// Memory for a batch, with its boxes (`[batch, inputs]` in the network's order, rounded outward) and rows uploaded.
    pub async fn new(
        gpu: &'a Gpu,
        net: &'a DeviceNet,
        rounding: Rounding,
        (mode, plan): (Mode, Plan),
        (lower, upper): (&[f32], &[f32]),
        spec: &Spec,
    ) -> Result<Self> {
        let n_in = net.n_in();
        let batch = lower.len() / n_in.max(1);
        let plan = Plan { batch, ..plan };
        let order = Order(net.input);
        let mut layers = Vec::new();
        for layer in &net.layers {
            layers.push(LayerState::new(gpu, batch, layer.len(), layer.is_compact()).await?);
        }
        let columns = column_pitch(batch);
        let widest = net.widest();
        let (one, two) = ([widest * columns], [2 * widest * columns]);
        let outputs = Order(net.layers.last().map_or(net.input, |layer| layer.extent));
        let spec = Spec { coefficients: outputs.to_device(&spec.coefficients), ..spec.clone() };
        Ok(Self {
            net,
            caps: gpu.caps(),
            rounding,
            mode,
            batch,
            plan,
            box_lower: Tensor::from_slice_async(gpu, &[batch, n_in], &order.to_device(lower)).await?,
            box_upper: Tensor::from_slice_async(gpu, &[batch, n_in], &order.to_device(upper)).await?,
            box_lines: Tensor::uninit_async(gpu, &[batch * n_in * 8]).await?,
            layers,
            queries: QueryState::new(gpu, batch, n_in, &spec).await?,
            bad: Tensor::from_slice_async(gpu, &[batch], &vec![0; batch]).await?,
            centre: [Tensor::uninit_async(gpu, &one).await?, Tensor::uninit_async(gpu, &one).await?],
            spread: [Tensor::uninit_async(gpu, &two).await?, Tensor::uninit_async(gpu, &two).await?],
            room: Room::new(gpu, net, plan, spec.rows).await?,
        })
    }

    /// What the input needs before anything else.
    pub fn record_input(&self, recording: &mut Recording) -> Result<()> {
        let (len, groups, threads) = self.strided(self.net.n_in())?;
        let params = kernels::BoxLines {
            n: word(self.net.n_in())?,
            ld: word(self.box_lower.row_stride())?,
            len,
            threads,
            u: self.rounding.u,
            g_c: self.rounding.gamma(self.net.constant_depth[0]),
            ..Default::default()
        };
        let bindings = vec![self.box_lower.binding(), self.box_upper.binding(), self.box_lines.binding()];
        recording.dispatch(&kernels::box_lines(), bindings, &params, groups, f64::from(len))
    }

    /// Interval bounds of a layer from the bounds of what feeds it.
    pub fn record_interval(&self, recording: &mut Recording, index: usize) -> Result<()> {
        let layer = &self.net.layers[index];
        let pitch = column_pitch(self.batch);
        for (at, edge) in layer.edges.iter().enumerate() {
            self.record_prepare(recording, edge.source, pitch)?;
            let product = |from, to, width: usize, abs| Product {
                edge,
                direction: FORWARD,
                extents: [self.net.extent(edge.source), layer.extent],
                from: Sheet { memory: from, pitch: width * pitch },
                to: Sheet { memory: to, pitch: width * pitch },
                columns: if width == 1 { self.batch } else { pitch + self.batch },
                accumulate: at > 0,
                abs,
            };
            product(&self.centre[0], &self.centre[1], 1, false).record(recording, self.caps)?;
            product(&self.spread[0], &self.spread[1], 2, true).record(recording, self.caps)?;
        }
        let state = &self.layers[index];
        let (len, groups, threads) = self.strided(layer.len())?;
        let finish = kernels::IntervalFinish {
            n: word(layer.len())?,
            ld: word(state.lower.row_stride())?,
            len,
            threads,
            batch: word(self.batch)?,
            ldc: word(pitch)?,
            u: self.rounding.u,
            g: self.rounding.gamma(layer.depth_in + 8),
            weight_rel: layer.weight_rel,
            tiny: self.rounding.tiny,
            ..Default::default()
        };
        let bindings = vec![
            self.centre[1].binding(),
            self.spread[1].binding(),
            layer.bias_pair.binding(),
            state.lower.binding(),
            state.upper.binding(),
            state.weight_sum.binding(),
            self.bad.binding(),
        ];
        recording.dispatch(&kernels::interval_finish(), bindings, &finish, groups, f64::from(len))
    }

    /// Centres, radii and magnitudes of a source's values, one column a box.
    fn record_prepare(&self, recording: &mut Recording, source: Source, pitch: usize) -> Result<()> {
        let (lower, upper, activation) = match source {
            Source::Layer(index) => {
                (&self.layers[index].lower, &self.layers[index].upper, self.net.layers[index].activation)
            }
            Source::Input => (&self.box_lower, &self.box_upper, Activation::None),
        };
        let smooth = matches!(activation, Activation::Sigmoid | Activation::Tanh);
        let n = lower.columns();
        let (groups, threads) = strided_grid(n * pitch, self.caps.max_workgroups)?;
        let params = kernels::IntervalPrepare {
            n: word(n)?,
            ld: word(lower.row_stride())?,
            len: word(n * pitch)?,
            threads,
            batch: word(self.batch)?,
            activation: code(activation),
            ldc: word(pitch)?,
            u: self.rounding.u,
            tiny: self.rounding.tiny,
            ..Default::default()
        };
        let mut bindings = vec![
            lower.binding(),
            upper.binding(),
            self.centre[0].binding(),
            self.spread[0].binding(),
            self.bad.binding(),
        ];
        bindings.extend(smooth.then(|| self.net.logistic.binding()));
        let grid = Grid::Direct([groups, 1, 1]);
        recording.dispatch(&kernels::interval_prepare(smooth), bindings, &params, grid, (n * pitch) as f64)
    }

    /// Lines of a layer from its final bounds, and the list of neurons that have any.
    pub fn record_lines(&self, recording: &mut Recording, index: usize) -> Result<()> {
        let (layer, state) = (&self.net.layers[index], &self.layers[index]);
        if let Some(active) = &state.active {
            self.record_select(recording, Flag::Active, false, &state.lower, &state.upper, &active.flags)?;
            active.compact(recording, self.caps)?;
        }
        let (len, groups, threads) = self.strided(layer.len())?;
        let params = kernels::RelaxNeurons {
            n: word(layer.len())?,
            ld: word(state.lower.row_stride())?,
            len,
            threads,
            activation: code(layer.activation),
            compact: u32::from(state.active.is_some()),
            terms: word(layer.terms_back)?,
            writes: word(layer.writes_back)?,
            u: self.rounding.u,
            g_c: self.rounding.gamma(self.net.constant_depth[index + 1]),
            weight_rel: layer.weight_rel,
            tiny: self.rounding.tiny,
            ..Default::default()
        };
        // A layer that is not compact has no list; its bounds are bound in its stead and not read.
        let (count, list) = match &state.active {
            Some(active) => (active.count.binding(), active.list.binding()),
            None => (state.refined.binding(), state.refined.binding()),
        };
        let mut bindings = vec![
            state.lower.binding(),
            state.upper.binding(),
            state.weight_sum.binding(),
            layer.bias_pair.binding(),
            count,
            list,
            state.lines.binding(),
        ];
        bindings.extend(layer.is_smooth().then(|| self.net.logistic.binding()));
        recording.dispatch(&kernels::relax_neurons(layer.is_smooth()), bindings, &params, groups, f64::from(len))
    }

    /// Back-substitution of a layer's unstable neurons (or all), as many at a time as there is room for.
    pub fn record_refine(&self, recording: &mut Recording, index: usize) -> Result<()> {
        let (layer, state) = (&self.net.layers[index], &self.layers[index]);
        let n = layer.len();
        // A smooth function is nowhere linear: every neuron's bounds are worth tightening, and none is ever decided.
        let all = self.mode.all_rows || layer.is_smooth();
        self.record_select(recording, Flag::Unstable, all, &state.lower, &state.upper, &state.refined)?;
        let (len, groups, threads) = self.strided(n)?;
        let start = kernels::RowStart {
            n: word(n)?,
            ld: word(state.weight_sum.row_stride())?,
            len,
            threads,
            weight_rel: layer.weight_rel + self.rounding.gamma(layer.start_writes),
            u: self.rounding.u,
            ..Default::default()
        };
        let bindings = vec![layer.bias_pair.binding(), state.weight_sum.binding(), self.room.state.binding()];
        recording.dispatch(&kernels::row_start(), bindings, &start, groups, f64::from(len))?;
        let target = Target {
            walk: &self.net.walks.layers[index],
            n,
            sides: 2,
            lower: &state.lower,
            upper: &state.upper,
            state: &self.room.state,
            keep: Flag::StillUnstable,
            drop: !all,
            form: None,
        };
        self.record_target(recording, &target, &state.refined)
    }

    /// Back-substitution of the output rows of all boxes.
    pub fn record_queries(&self, recording: &mut Recording) -> Result<()> {
        let q = &self.queries;
        let rows = q.lower.columns();
        self.record_given(recording, rows)?;
        let target = Target {
            walk: &self.net.walks.queries,
            n: rows,
            sides: 1,
            lower: &q.lower,
            upper: &q.unused,
            state: &self.room.state,
            keep: Flag::StillUndecided,
            drop: !self.mode.all_rows,
            form: Some(&q.form),
        };
        self.record_target(recording, &target, &q.used)
    }

    fn record_given(&self, recording: &mut Recording, rows: usize) -> Result<()> {
        let Some((layer, state)) = self.net.layers.last().zip(self.layers.last()) else { return Ok(()) };
        let q = &self.queries;
        let slots = self.batch * rows;
        let params = kernels::RowGiven {
            slots: word(slots)?,
            rows: word(rows)?,
            outputs: word(layer.len())?,
            ld_spec: word(q.spec.row_stride())?,
            grow: self.rounding.grow(layer.len() + 8),
            ld_list: word(state.lower.row_stride())?,
            ..Default::default()
        };
        let mut bindings = vec![q.spec.binding(), q.given.binding(), state.lines.binding(), self.room.state.binding()];
        bindings.extend(state.active.iter().flat_map(|active| [active.list.binding(), active.count.binding()]));
        let grid = Grid::Direct([word(slots.div_ceil(64))?, 1, 1]);
        let kernel = kernels::row_given(state.active.is_some());
        recording.dispatch(&kernel, bindings, &params, grid, (slots * layer.len()) as f64)
    }

    /// Walks with all chosen elements of a target, chunk by chunk.
    fn record_target(&self, recording: &mut Recording, target: &Target<'_>, chosen: &Tensor<u32>) -> Result<()> {
        let capacity = self.plan.capacity(self.net, target.walk, target.n);
        let all = self.room.all.of(self.batch, target.n)?;
        let all = Selection { flags: chosen.clone(), ..all };
        all.compact(recording, self.caps)?;
        let chunk = self.room.chunk.of(self.batch, target.n)?;
        // Every box's rows are padded to a tile: whole tiles, so that no row of the last box is cut off.
        let most = (capacity / self.batch / TILE * TILE / target.sides).max(1);
        for first in (0..target.n).step_by(most) {
            let params = kernels::RowChunk {
                n: word(target.n)?,
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
            let grid = Grid::Direct([word(self.batch)?, 1, 1]);
            recording.dispatch(&kernels::row_chunk(), bindings, &params, grid, chosen.len() as f64)?;
            self.record_walk(recording, target, &chunk, capacity)?;
        }
        Ok(())
    }

    /// Rows of the selected elements of a target, from their start back to the box.
    fn record_walk(
        &self,
        recording: &mut Recording,
        target: &Target<'_>,
        selection: &Selection,
        capacity: usize,
    ) -> Result<()> {
        self.record_table(recording, target, selection, capacity, true)?;
        for push in &target.walk.first {
            self.record_first(recording, target, push, capacity)?;
        }
        for step in &target.walk.steps {
            self.record_relax(recording, target, step, capacity)?;
            self.record_finish(recording, target, step, capacity)?;
            let Source::Layer(index) = step.source else { continue };
            let moved = step.cut && target.drop;
            if moved {
                self.record_select(recording, target.keep, false, target.lower, target.upper, &selection.flags)?;
                selection.compact(recording, self.caps)?;
                self.record_table(recording, target, selection, capacity, false)?;
            }
            self.record_pushes(recording, target, (step, index), capacity, moved)?;
        }
        Ok(())
    }

    fn record_pushes(
        &self,
        recording: &mut Recording,
        target: &Target<'_>,
        (step, index): (&Step, usize),
        capacity: usize,
        moved: bool,
    ) -> Result<()> {
        let layer = &self.net.layers[index];
        let active = self.layers[index].active.as_ref();
        let rows = WalkRows {
            rows: &self.room.rows,
            row_count: &self.room.row_count,
            moved,
            list: active.map(|active| (&active.list, &active.count)),
            target: self.extent_of(target),
            capacity,
        };
        for push in &step.pushes {
            let edge = &layer.edges[push.edge];
            let pushed = Pushed {
                edge,
                step,
                push,
                source: self.net.extent(edge.source),
                from: Sheet { memory: &self.room.slots[step.out], pitch: capacity },
                to: Sheet { memory: &self.room.slots[push.slot], pitch: capacity },
            };
            pushed.record(recording, self.caps, &rows, &self.room.grid(push.grid))?;
        }
        Ok(())
    }

    /// The extent of what a walk's rows bound; given rows have no place in an image.
    fn extent_of(&self, target: &Target<'_>) -> Extent {
        target.walk.target.map_or(Extent::flat(target.n), |index| self.net.layers[index].extent)
    }

    /// The table of rows, and the grids of all dispatches of the walk.
    fn record_table(
        &self,
        recording: &mut Recording,
        target: &Target<'_>,
        selection: &Selection,
        capacity: usize,
        first: bool,
    ) -> Result<()> {
        let room = &self.room;
        let tile = word(TILE)?;
        let params = kernels::RowOffsets {
            segments: word(self.batch)?,
            sides: word(target.sides)?,
            tile,
            capacity: word(capacity)?,
            first_shape: word(target.walk.first_shape)?,
            grids: word(target.walk.grids)?,
            ..Default::default()
        };
        let bindings = vec![
            selection.count.binding(),
            room.offset.binding(),
            room.row_count.binding(),
            Binding::whole(&room.arguments),
            self.net.walks.shapes.binding(),
        ];
        let work = (self.batch + target.walk.grids) as f64;
        recording.dispatch(&kernels::row_offsets(), bindings, &params, Grid::Direct([1, 1, 1]), work)?;
        let params = kernels::RowTable {
            n: word(target.n)?,
            ld: word(selection.list.row_stride())?,
            sides: word(target.sides)?,
            tile,
            capacity: word(capacity)?,
            ..Default::default()
        };
        let bindings = vec![
            selection.list.binding(),
            selection.count.binding(),
            room.offset.binding(),
            room.rows.binding(),
            room.row_of.binding(),
        ];
        let grid = Grid::Direct([word(self.batch)?, 1, 1]);
        recording.dispatch(&kernels::row_table(first), bindings, &params, grid, capacity as f64)
    }

    /// The coefficients that rows start with, through one edge of the target or as given.
    fn record_first(&self, recording: &mut Recording, target: &Target<'_>, push: &Push, capacity: usize) -> Result<()> {
        let room = &self.room;
        let slot = &room.slots[push.slot];
        let element = self.extent_of(target);
        let walk = [room.rows.binding(), room.row_count.binding()];
        let mut params = kernels::RowFirst {
            n: word(push.window.len())?,
            ldc: word(capacity)?,
            flags: u32::from(push.accumulate),
            sides: word(target.sides)?,
            rows_of_m: 1,
            c_w: word(push.window.columns.size)?,
            c_c: word(first_channels(push.window))?,
            dilation_y: 1,
            dilation_x: 1,
            t_w: word(element.width)?,
            t_c: word(element.channels)?,
            ..Default::default()
        };
        let work = (push.window.len() * capacity) as f64;
        let grid = room.grid(push.grid);
        let Some(index) = target.walk.target else {
            let spec = &self.queries.spec;
            params.ldm = word(spec.row_stride())?;
            params.rows_of_m = word(spec.shape()[0])?;
            let mut bindings = vec![spec.binding(), slot.binding()];
            bindings.extend(walk);
            return recording.dispatch(&kernels::row_first(false), bindings, &params, grid, work);
        };
        let edge = &self.net.layers[index].edges[push.edge];
        match &edge.map {
            DeviceMap::Dense { backward, .. } => {
                params.ldm = word(backward.row_stride())?;
                params.rows_of_m = word(backward.shape()[0])?;
                let mut bindings = vec![backward.binding(), slot.binding()];
                bindings.extend(walk);
                recording.dispatch(&kernels::row_first(false), bindings, &params, grid, work)
            }
            DeviceMap::Conv { backward, shape, .. } => {
                let place = Window::place(element);
                let (off, slope) = offsets(shape.stride, shape.pad, place, push.window);
                params.ldm = word(backward.row_stride())?;
                (params.taps_h, params.taps_w) = (word(shape.taps[0])?, word(shape.taps[1])?);
                (params.dilation_y, params.dilation_x) = (word(shape.dilation[0])?, word(shape.dilation[1])?);
                (params.off_y, params.off_x) = (off[0], off[1]);
                (params.slope_y, params.slope_x) = (slope[0], slope[1]);
                let mut bindings = vec![backward.binding(), slot.binding()];
                bindings.extend(walk);
                recording.dispatch(&kernels::row_first(true), bindings, &params, grid, work)
            }
            DeviceMap::Sparse { .. } | DeviceMap::Diagonal(_) => {
                if !push.accumulate {
                    let size = (push.window.len() * capacity * 4) as u64;
                    recording.clear(Binding { size, ..slot.binding() });
                }
                self.record_first_sparse(recording, target, push, index, capacity)
            }
        }
    }

    fn record_first_sparse(
        &self,
        recording: &mut Recording,
        target: &Target<'_>,
        push: &Push,
        index: usize,
        capacity: usize,
    ) -> Result<()> {
        let edge = &self.net.layers[index].edges[push.edge];
        let (element, image, c) = (self.extent_of(target), self.net.extent(edge.source), push.window);
        let params = kernels::RowFirstSparse {
            ldc: word(capacity)?,
            sides: word(target.sides)?,
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
        let room = &self.room;
        let common = [room.slots[push.slot].binding(), room.rows.binding(), room.row_count.binding()];
        let (diagonal, bindings) = match &edge.map {
            DeviceMap::Diagonal(weights) => (true, [vec![weights.binding()], common.to_vec()].concat()),
            DeviceMap::Sparse { forward, .. } => {
                let (starts, terms) = (vec![forward.starts.binding()], vec![forward.terms.binding()]);
                (false, [starts, common.to_vec(), terms].concat())
            }
            DeviceMap::Dense { .. } | DeviceMap::Conv { .. } => return Ok(()),
        };
        let work = (capacity * edge.terms[FORWARD]) as f64;
        recording.dispatch(&kernels::row_first_sparse(diagonal), bindings, &params, room.grid(push.grid), work)
    }

    fn record_relax(&self, recording: &mut Recording, target: &Target<'_>, step: &Step, capacity: usize) -> Result<()> {
        let room = &self.room;
        let extent = self.net.extent(step.source);
        let whole = step.window.is_whole(extent);
        let element = self.extent_of(target);
        let mut params = kernels::RelaxRows {
            n: word(extent.len())?,
            ld: word(capacity)?,
            slices: word(step.slices)?,
            terms: word(step.window.len())?,
            c_h: word(step.window.rows.size)?,
            c_w: word(step.window.columns.size)?,
            channels: word(extent.channels)?,
            image_h: word(extent.height)?,
            image_w: word(extent.width)?,
            t_w: word(element.width)?,
            t_c: word(element.channels)?,
            c_y: step.window.rows.offset,
            c_x: step.window.columns.offset,
            c_sy: step.window.rows.stride,
            c_sx: step.window.columns.stride,
            ..Default::default()
        };
        let common = [room.slots[step.slot].binding(), room.partial.binding(), room.rows.binding(), self.bad.binding()];
        let mut bindings = common.to_vec();
        let how = match step.source {
            Source::Input => {
                bindings.push(self.box_lines.binding());
                match target.form {
                    Some(form) if whole => {
                        bindings.push(form.binding());
                        params.ld_form = word(form.row_stride())?;
                        Relax::InputForm
                    }
                    _ if whole => Relax::Input,
                    _ => Relax::InputWindow,
                }
            }
            Source::Layer(index) => {
                let state = &self.layers[index];
                bindings.push(state.lines.binding());
                match &state.active {
                    Some(active) => {
                        params.ld_list = word(active.list.row_stride())?;
                        bindings.extend([
                            active.list.binding(),
                            active.count.binding(),
                            room.slots[step.out].binding(),
                        ]);
                        Relax::Compact
                    }
                    None if whole => Relax::Whole,
                    None => Relax::Window,
                }
            }
        };
        let kernel = kernels::relax_rows(how, word(lanes(self.caps))?);
        recording.dispatch(&kernel, bindings, &params, room.grid(step.grid), (capacity * step.window.len()) as f64)
    }

    fn record_finish(
        &self,
        recording: &mut Recording,
        target: &Target<'_>,
        step: &Step,
        capacity: usize,
    ) -> Result<()> {
        let room = &self.room;
        let input = step.source == Source::Input;
        let d = self.rounding.u * (step.slices + 8) as f32;
        let params = kernels::RowFinish {
            n: word(target.n)?,
            ld_target: word(target.lower.row_stride())?,
            sides: word(target.sides)?,
            keep: u32::from(self.mode.intersect),
            store: u32::from(step.cut && (self.mode.intersect || input)),
            slices: word(step.slices)?,
            ld: word(capacity)?,
            d,
            tiny: self.rounding.tiny,
            grow: self.rounding.grow(step.constant_depth()),
            ..Default::default()
        };
        let bindings = vec![
            room.partial.binding(),
            room.rows.binding(),
            room.row_count.binding(),
            target.state.binding(),
            target.lower.binding(),
            target.upper.binding(),
            self.bad.binding(),
        ];
        recording.dispatch(
            &kernels::row_finish(input),
            bindings,
            &params,
            room.grid(FINISH),
            (capacity * step.slices) as f64,
        )
    }

    fn record_select(
        &self,
        recording: &mut Recording,
        flag: Flag,
        all: bool,
        lower: &Tensor,
        upper: &Tensor,
        flags: &Tensor<u32>,
    ) -> Result<()> {
        let n = lower.columns();
        let (len, groups, threads) = self.strided(n)?;
        let params = kernels::SelectNeurons {
            n: word(n)?,
            ld: word(lower.row_stride())?,
            len,
            threads,
            all: u32::from(all),
            ..Default::default()
        };
        let bindings = vec![lower.binding(), upper.binding(), flags.binding()];
        recording.dispatch(&kernels::select_neurons(flag), bindings, &params, groups, f64::from(len))
    }

    fn strided(&self, n: usize) -> Result<(u32, Grid, u32)> {
        let (groups, threads) = strided_grid(self.batch * n, self.caps.max_workgroups)?;
        Ok((word(self.batch * n)?, Grid::Direct([groups, 1, 1]), threads))
    }
}
