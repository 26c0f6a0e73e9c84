//! Bound propagation for a batch of boxes: intervals, then back-substitution of chosen rows (DeepPoly / CROWN).
//!
//! All state of a batch lives on the device; the host only writes down what shall happen. Which neurons are unstable,
//! how many rows that makes and which rows are decided on the way is known to the device alone (compaction, indirect
//! dispatch), so a whole analysis is one recording.

use super::kernels::{self, Flag, Level};
use super::network::{DeviceChain, DeviceLayer};
use super::soundness::Rounding;
use super::state::{LayerState, Plan, QueryState, Selection, Spec, Walk};
use crate::error::{Error, Result};
use crate::gpu::{Binding, Caps, Gpu, Grid, Recording};
use crate::ops::matmul::{self, Gather, Matmul, Variant};
use crate::ops::row_compact::{self, RowPlan};
use crate::ops::{strided_grid, word};
use crate::tensor::{Element, Tensor, pitch};

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
    net: &'a DeviceChain,
    caps: &'a Caps,
    rounding: Rounding,
    mode: Mode,
    batch: usize,
    box_lower: Tensor,
    box_upper: Tensor,
    /// One state for each layer.
    pub layers: Vec<LayerState>,
    /// The output rows.
    pub queries: QueryState,
    /// `[batch]`: non-zero where a magnitude left the range in which bounds mean something.
    pub bad: Tensor<u32>,
    centre: Tensor,
    spread: Tensor,
    centre_planes: Tensor,
    spread_planes: Tensor,
    walk: Walk,
}

/// What the rows of a walk are bounds of.
struct Target<'b> {
    source: &'b Tensor,
    rows_of_source: usize,
    n: usize,
    sides: u32,
    lower: &'b Tensor,
    upper: &'b Tensor,
    selection: &'b Selection,
    state: &'b Tensor,
    /// The layer whose lines are applied first.
    start: usize,
    /// Whether every row of the source ends with a bound on the relative error of its coefficients.
    has_rel: bool,
    keep: Flag,
    form: Option<&'b Tensor>,
}

impl<'a> Bounds<'a> {
    /// Memory for a batch, with its boxes (`[batch, inputs]`, rounded outward) and rows uploaded.
    pub async fn new(
        gpu: &'a Gpu,
        net: &'a DeviceChain,
        rounding: Rounding,
        (mode, plan): (Mode, Plan),
        (lower, upper): (&[f32], &[f32]),
        spec: &Spec,
    ) -> Result<Self> {
        let n_in = net.n_in();
        let batch = lower.len() / n_in.max(1);
        let mut layers = Vec::new();
        for layer in &net.layers {
            layers.push(LayerState::new(gpu, batch, layer.n_out).await?);
        }
        let (widest_in, widest_out) = (net.widest_in(), net.widest_out());
        let chunks = net.layers.iter().map(|l| l.n_in.div_ceil(matmul::CHUNK)).max().unwrap_or(1);
        let bad = Tensor::from_slice_async(gpu, &[batch], &vec![0; batch]).await?;
        Ok(Self {
            net,
            caps: gpu.caps(),
            rounding,
            mode,
            batch,
            box_lower: Tensor::from_slice_async(gpu, &[batch, n_in], lower).await?,
            box_upper: Tensor::from_slice_async(gpu, &[batch, n_in], upper).await?,
            layers,
            queries: QueryState::new(gpu, batch, n_in, spec).await?,
            bad,
            centre: Tensor::uninit_async(gpu, &[batch * pitch(widest_in)]).await?,
            spread: Tensor::uninit_async(gpu, &[2 * batch * pitch(widest_in)]).await?,
            centre_planes: Tensor::uninit_async(gpu, &[chunks * batch * pitch(widest_out)]).await?,
            spread_planes: Tensor::uninit_async(gpu, &[2 * chunks * batch * pitch(widest_out)]).await?,
            walk: Walk::new(gpu, net, Plan { batch, ..plan }, spec.rows).await?,
        })
    }

    /// Interval bounds of a layer from the bounds of what feeds it.
    pub fn record_interval(&self, recording: &mut Recording, index: usize) -> Result<()> {
        let layer = &self.net.layers[index];
        let (lower, upper, relu) = match index.checked_sub(1) {
            Some(before) => {
                let state = &self.layers[before];
                (&state.lower, &state.upper, self.net.layers[before].relu)
            }
            None => (&self.box_lower, &self.box_upper, false),
        };
        let centre = self.centre.reshaped(&[self.batch, layer.n_in])?;
        let spread = self.spread.reshaped(&[2 * self.batch, layer.n_in])?;
        let (len, groups, threads) = self.strided(layer.n_in)?;
        let prepare = kernels::IntervalPrepare {
            n: word(layer.n_in)?,
            ld: word(lower.row_stride())?,
            len,
            threads,
            batch: word(self.batch)?,
            relu: u32::from(relu),
            u: self.rounding.u,
            tiny: self.rounding.tiny,
            ..Default::default()
        };
        let bindings = vec![lower.binding(), upper.binding(), centre.binding(), spread.binding(), self.bad.binding()];
        recording.dispatch(&kernels::interval_prepare(), bindings, &prepare, groups, f64::from(len))?;

        let chunks = layer.n_in.div_ceil(matmul::CHUNK);
        let centre_planes = self.centre_planes.reshaped(&[1, chunks, self.batch, layer.n_out])?;
        let spread_planes = self.spread_planes.reshaped(&[1, chunks, 2 * self.batch, layer.n_out])?;
        let weight = &layer.weight_t;
        Matmul::default().record_split(recording, self.caps, &centre, weight, &centre_planes, matmul::CHUNK)?;
        let magnitudes = Matmul { abs_b: true, ..Matmul::default() };
        magnitudes.record_split(recording, self.caps, &spread, weight, &spread_planes, matmul::CHUNK)?;
        self.record_interval_finish(recording, index, layer, &centre_planes, &spread_planes)
    }

    fn record_interval_finish(
        &self,
        recording: &mut Recording,
        index: usize,
        layer: &DeviceLayer,
        centre_planes: &Tensor,
        spread_planes: &Tensor,
    ) -> Result<()> {
        let state = &self.layers[index];
        let (len, groups, threads) = self.strided(layer.n_out)?;
        let finish = kernels::IntervalFinish {
            n: word(layer.n_out)?,
            ld: word(state.lower.row_stride())?,
            len,
            threads,
            batch: word(self.batch)?,
            chunks: word(layer.n_in.div_ceil(matmul::CHUNK))?,
            u: self.rounding.u,
            g: self.rounding.gamma(matmul::depth(layer.n_in, matmul::CHUNK) + 8),
            weight_rel: layer.weight_rel,
            tiny: self.rounding.tiny,
            ..Default::default()
        };
        let bindings = vec![
            centre_planes.binding(),
            spread_planes.binding(),
            layer.bias_pair.binding(),
            state.lower.binding(),
            state.upper.binding(),
            state.weight_sum.binding(),
            self.bad.binding(),
        ];
        recording.dispatch(&kernels::interval_finish(), bindings, &finish, groups, f64::from(len))
    }

    /// Lines of a layer from its final bounds, and the list of neurons that have any.
    pub fn record_lines(&self, recording: &mut Recording, index: usize) -> Result<()> {
        let (layer, state) = (&self.net.layers[index], &self.layers[index]);
        let whole = 0..layer.n_out;
        self.record_select(
            recording,
            Flag::Active,
            !layer.relu,
            whole,
            &state.lower,
            &state.upper,
            &state.active.flags,
        )?;
        state.active.compact(recording, self.caps)?;
        let (len, groups, threads) = self.strided(layer.n_out)?;
        let params = kernels::RelaxNeurons {
            n: word(layer.n_out)?,
            ld: word(state.lower.row_stride())?,
            len,
            threads,
            relu: u32::from(layer.relu),
            chunk: word(matmul::CHUNK)?,
            chunks: word(layer.n_out.div_ceil(matmul::CHUNK))?,
            u: self.rounding.u,
            g_c: self.rounding.gamma(Rounding::constant_depth(layer.n_out)),
            weight_rel: layer.weight_rel,
            tiny: self.rounding.tiny,
            ..Default::default()
        };
        let bindings = vec![
            state.lower.binding(),
            state.upper.binding(),
            state.weight_sum.binding(),
            layer.bias_pair.binding(),
            state.active.count.binding(),
            state.active.list.binding(),
            state.lines.binding(),
        ];
        recording.dispatch(&kernels::relax_neurons(), bindings, &params, groups, f64::from(len))
    }

    /// Back-substitution of a layer's unstable neurons (or all), chunk by chunk as the room for rows allows.
    pub fn record_refine(&self, recording: &mut Recording, index: usize) -> Result<()> {
        let (layer, state) = (&self.net.layers[index], &self.layers[index]);
        let all = self.mode.all_rows;
        let n = layer.n_out;
        self.record_select(recording, Flag::Unstable, all, 0..n, &state.lower, &state.upper, &state.refined)?;
        let target = Target {
            source: &layer.weight,
            rows_of_source: n,
            n,
            sides: 2,
            lower: &state.lower,
            upper: &state.upper,
            selection: &state.active,
            state: &self.walk.state,
            start: index - 1,
            has_rel: false,
            keep: Flag::StillUnstable,
            form: None,
        };
        let (len, groups, threads) = self.strided(n)?;
        let start = kernels::RowStart {
            n: word(n)?,
            ld: word(state.weight_sum.row_stride())?,
            len,
            threads,
            weight_rel: layer.weight_rel,
            u: self.rounding.u,
            ..Default::default()
        };
        let bindings = vec![layer.bias_pair.binding(), state.weight_sum.binding(), self.walk.state.binding()];
        recording.dispatch(&kernels::row_start(), bindings, &start, groups, f64::from(len))?;
        let most = self.walk.capacity / self.batch / 2;
        for first in (0..n).step_by(most.max(1)) {
            let range = first..(first + most).min(n);
            self.record_select(
                recording,
                Flag::Unstable,
                all,
                range.clone(),
                &state.lower,
                &state.upper,
                &state.active.flags,
            )?;
            self.record_walk(recording, &target, range)?;
        }
        Ok(())
    }

    /// Back-substitution of the output rows of all boxes.
    pub fn record_queries(&self, recording: &mut Recording) -> Result<()> {
        let q = &self.queries;
        let rows = q.lower.columns();
        let target = Target {
            source: &q.spec,
            rows_of_source: q.spec.shape()[0],
            n: rows,
            sides: 1,
            lower: &q.lower,
            upper: &q.unused,
            selection: &q.selection,
            state: &q.state,
            start: self.net.layers.len() - 1,
            has_rel: true,
            keep: Flag::StillUndecided,
            form: Some(&q.form),
        };
        self.record_walk(recording, &target, 0..rows)
    }

    /// Rows of the flagged elements of a target, from the layer that they are forms of back to the box.
    fn record_walk(&self, recording: &mut Recording, target: &Target<'_>, range: std::ops::Range<usize>) -> Result<()> {
        target.selection.compact(recording, self.caps)?;
        self.record_table(recording, target, target.start, true)?;
        for index in (0..=target.start).rev() {
            let level = if index == target.start { Level::First } else { Level::Hidden };
            self.record_relax(recording, target, index, level)?;
            self.record_finish(recording, target, self.net.layers[index].n_out, Level::Hidden)?;
            if !self.mode.all_rows {
                let flags = &target.selection.flags;
                self.record_select(recording, target.keep, false, range.clone(), target.lower, target.upper, flags)?;
                target.selection.compact(recording, self.caps)?;
            }
            self.record_table(recording, target, index, false)?;
            self.record_product(recording, index)?;
        }
        let input = Level::Input { form: target.form.is_some() };
        self.record_relax(recording, target, 0, input)?;
        self.record_finish(recording, target, self.net.n_in(), input)
    }

    /// The table of rows, and the grids for relaxing them and for their product with a layer's weights.
    fn record_table(&self, recording: &mut Recording, target: &Target<'_>, index: usize, first: bool) -> Result<()> {
        let (layer, walk) = (&self.net.layers[index], &self.walk);
        let variant = self.variant(layer.n_in);
        let (tile, columns) = variant.tile();
        let plan = RowPlan {
            sides: target.sides,
            tile,
            columns: word(layer.n_in)?.div_ceil(columns),
            chunks: word(layer.n_out.div_ceil(matmul::CHUNK))?,
            rows_a: 2,
            rows_c: 64,
            capacity: word(walk.capacity)?,
        };
        let selection = target.selection;
        let arguments = Binding::whole(&walk.arguments);
        row_compact::offsets(recording, plan, &selection.count, &walk.offset, &walk.row_count, &arguments)?;
        let params = kernels::RowTable {
            n: word(target.n)?,
            ld: word(selection.list.row_stride())?,
            sides: target.sides,
            tile,
            chunk: word(matmul::CHUNK)?,
            capacity: word(walk.capacity)?,
            ..Default::default()
        };
        let bindings = vec![
            selection.list.binding(),
            selection.count.binding(),
            walk.offset.binding(),
            walk.rows.binding(),
            walk.row_of.binding(),
            self.layers[index].active.count.binding(),
        ];
        let grid = Grid::Direct([word(self.batch)?, 1, 1]);
        recording.dispatch(&kernels::row_table(first), bindings, &params, grid, walk.capacity as f64)
    }

    fn record_relax(&self, recording: &mut Recording, target: &Target<'_>, index: usize, level: Level) -> Result<()> {
        let walk = &self.walk;
        let layer = &self.net.layers[index];
        let (a, n) = match level {
            Level::First => (target.source, layer.n_out),
            Level::Hidden => (&walk.planes, layer.n_out),
            Level::Input { .. } => (&walk.planes, layer.n_in),
        };
        let mut bindings = vec![a.binding(), walk.partial.binding(), walk.rows.binding(), self.bad.binding()];
        let ld_list = if matches!(level, Level::Input { .. }) {
            bindings.extend([self.box_lower.binding(), self.box_upper.binding()]);
            bindings.extend(target.form.map(Tensor::binding));
            self.box_lower.row_stride()
        } else {
            let state = &self.layers[index];
            let Selection { list, count, .. } = &state.active;
            bindings.extend([state.lines.binding(), list.binding(), count.binding(), walk.out.binding()]);
            list.row_stride()
        };
        let params = kernels::RelaxRows {
            n: word(n)?,
            lda: word(a.row_stride())?,
            ld_out: word(walk.out.row_stride())?,
            relu: u32::from(layer.relu),
            plane: word(walk.capacity * walk.planes.row_stride())?,
            rows_of_a: word(target.rows_of_source)?,
            sides: target.sides,
            ld_list: word(ld_list)?,
            g_c: self.rounding.gamma(Rounding::constant_depth(n)),
            has_rel: u32::from(level == Level::First && target.has_rel),
            ..Default::default()
        };
        let work = (walk.capacity * n) as f64;
        recording.dispatch(&kernels::relax_rows(level), bindings, &params, walk.grid(0), work)
    }

    fn record_finish(&self, recording: &mut Recording, target: &Target<'_>, n: usize, level: Level) -> Result<()> {
        let walk = &self.walk;
        let params = kernels::RowFinish {
            n: word(target.n)?,
            ld: word(target.lower.row_stride())?,
            sides: target.sides,
            keep: u32::from(self.mode.intersect),
            store: u32::from(self.mode.intersect || level != Level::Hidden),
            u: self.rounding.u,
            tiny: self.rounding.tiny,
            grow: self.rounding.grow(Rounding::constant_depth(n)),
            ..Default::default()
        };
        let bindings = vec![
            walk.partial.binding(),
            walk.rows.binding(),
            walk.row_count.binding(),
            target.state.binding(),
            target.lower.binding(),
            target.upper.binding(),
            self.bad.binding(),
        ];
        let work = (walk.capacity * 32) as f64;
        recording.dispatch(&kernels::row_finish(level), bindings, &params, walk.grid(2), work)
    }

    fn record_product(&self, recording: &mut Recording, index: usize) -> Result<()> {
        let (layer, walk) = (&self.net.layers[index], &self.walk);
        let Selection { list, count, .. } = &self.layers[index].active;
        let Grid::Indirect(grid) = walk.grid(1) else { return Ok(()) };
        let gather = Gather {
            rows: &walk.rows,
            k_list: list,
            k_count: count,
            row_count: &walk.row_count,
            grid,
            expected: walk.capacity / 2,
        };
        matmul::record_gathered(recording, self.variant(layer.n_in), &walk.out, &layer.weight, &walk.planes, gather)
    }

    #[expect(clippy::too_many_arguments, reason = "one selection is one flat question to one kernel")]
    fn record_select(
        &self,
        recording: &mut Recording,
        flag: Flag,
        all: bool,
        range: std::ops::Range<usize>,
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
            first: word(range.start)?,
            end: word(range.end)?,
            ..Default::default()
        };
        let bindings = vec![lower.binding(), upper.binding(), flags.binding()];
        recording.dispatch(&kernels::select_neurons(flag), bindings, &params, groups, f64::from(len))
    }

    fn strided(&self, n: usize) -> Result<(u32, Grid, u32)> {
        let (groups, threads) = strided_grid(self.batch * n, self.caps.max_workgroups)?;
        Ok((word(self.batch * n)?, Grid::Direct([groups, 1, 1]), threads))
    }

    /// All products of a walk use tiles of the same height, so that one padding serves every layer.
    fn variant(&self, n: usize) -> Variant {
        Variant::choose(self.caps, n)
    }
}

impl<T: Element> Tensor<T> {
    /// The front of this memory as an array of another shape.
    fn reshaped(&self, shape: &[usize]) -> Result<Self> {
        self.view(shape).ok_or_else(|| Error::internal(format!("no room for {shape:?} in {:?}", self.shape())))
    }
}
