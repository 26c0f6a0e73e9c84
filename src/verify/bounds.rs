//! Bound propagation for a batch of boxes: intervals, then back-substitution of chosen rows (DeepPoly / CROWN).
//!
//! All state of a batch lives on the device; the host only writes down what shall happen. Which neurons are unstable,
//! how many rows that makes and which rows are decided on the way is known to the device alone (compaction, indirect
//! dispatch), so a whole analysis is one recording.

mod rows;

use self::rows::Target;
use super::kernels::{self, Flag};
use super::maps::{Product, Sheet};
use super::network::{DeviceNet, FORWARD, Order, code, column_pitch};
use super::soundness::Rounding;
use super::state::{LayerState, Plan, QueryState, Room, Spec};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu, Grid, Recording};
use crate::graph::{Activation, Source};
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
    /// Centres of what goes into a layer and of what comes out, one column a box.
    centre: [Tensor; 2],
    /// Their radii, and behind them in every row their magnitudes.
    spread: [Tensor; 2],
    room: Room,
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
        if batch > plan.batch {
            return Err(Error::internal(format!("{batch} boxes for a plan of {}", plan.batch)));
        }
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
        self.record_interval_finish(recording, index, pitch)
    }

    /// Lower and upper bounds of a layer from the centres, radii and magnitudes of its sums.
    fn record_interval_finish(&self, recording: &mut Recording, index: usize, pitch: usize) -> Result<()> {
        let (layer, state) = (&self.net.layers[index], &self.layers[index]);
        let (len, groups, threads) = self.strided(layer.len())?;
        let params = kernels::IntervalFinish {
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
        recording.dispatch(&kernels::interval_finish(), bindings, &params, groups, f64::from(len))
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
        // A layer that is not compact has no list; its flags are bound in its stead and not read.
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

    /// Back-substitution of a layer's unstable neurons (or all), as many at a time as there is room for. Their bounds become
    /// tighter where they stand.
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
        target.record(recording, self, &state.refined)
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
        target.record(recording, self, &q.used)
    }

    /// What the output rows start with: constants, and what is known of their errors.
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

    /// Flags the elements (of `[batch, n]` bounds) that `flag` asks for, or all.
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

    /// Elements of `n` values a box, and the grid and number of invocations that share them out.
    fn strided(&self, n: usize) -> Result<(u32, Grid, u32)> {
        let (groups, threads) = strided_grid(self.batch * n, self.caps.max_workgroups)?;
        Ok((word(self.batch * n)?, Grid::Direct([groups, 1, 1]), threads))
    }
}
