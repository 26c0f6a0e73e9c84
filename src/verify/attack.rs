//! A batched gradient attack: projected sign-gradient descent from several starts for every open condition at once
//! (Madry et al., ICLR 2018). It only proposes points; nothing is believed before it is replayed in f64.

use super::kernels;
use super::maps::{Product, Sheet};
use super::network::{BACKWARD, DeviceNet, FORWARD, Order, code, column_pitch};
use crate::error::Result;
use crate::gpu::{Control, Gpu, Grid, Recording};
use crate::graph::{Activation, Source};
use crate::ops::{strided_grid, word};
use crate::tensor::Tensor;

/// First and last step, in widths of the box.
const STEPS: (f64, f64) = (0.25, 0.01);
/// Most candidates of one run: enough to fill a device, few enough that a run ends soon.
pub(super) const CANDIDATES: usize = 2048;

/// What a group of candidates tries to reach: all rows of one conjunction at or below 0 somewhere in one box.
#[derive(Debug, Clone)]
pub(super) struct Aim {
    /// Index of the box.
    pub query: usize,
    /// First row in the specification.
    pub first_row: usize,
    /// Number of rows.
    pub rows: usize,
    /// Where to start; the centre of the box without it.
    pub start: Option<Vec<f32>>,
    /// What the random points are drawn by: the query's place in its property and the conjunction, never a slot of a batch.
    pub member: u64,
}

/// Boxes and rows to attack.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    /// `[queries, inputs]`, rounded inward.
    pub lower: &'a [f32],
    /// `[queries, inputs]`, rounded inward.
    pub upper: &'a [f32],
    /// `[rows, outputs]`.
    pub coefficients: &'a [f32],
    /// `[rows]`.
    pub constants: &'a [f32],
}

/// How hard to try.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// Starts of each aim: its own first, then uniform points and such that share half of their coordinates with it.
    pub starts: usize,
    /// Gradient steps of each start.
    pub steps: usize,
    /// Seed of the random points; they depend on it, the aim's member and the start alone.
    pub seed: u64,
}

/// The best point that was found for an aim.
#[derive(Debug, Clone)]
pub(super) struct Find {
    /// Index of the aim.
    pub aim: usize,
    /// Largest row value there, as the device computed it.
    pub loss: f32,
    /// The point.
    pub x: Vec<f32>,
}

/// Attacks all aims; one find each, that of its best start, in order.
pub(super) async fn attack(
    gpu: &Gpu,
    net: &DeviceNet,
    ground: &Ground<'_>,
    aims: &[Aim],
    effort: Effort,
    control: &Control,
) -> Result<Vec<Find>> {
    let mut finds = Vec::new();
    let per_run = (CANDIDATES / effort.starts.max(1)).max(1);
    for (index, part) in aims.chunks(per_run).enumerate() {
        control.cancel.check()?;
        let run = Run::new(gpu, net, ground, part, effort).await?;
        finds.extend(run.execute(gpu, net, index * per_run, effort, control).await?);
    }
    Ok(finds)
}

/// Device state of one run: candidates are aims times starts, one column each.
struct Run {
    candidates: usize,
    /// Columns of every matrix of candidates.
    pitch: usize,
    /// Most rows of an aim.
    rows: usize,
    x: Tensor,
    lower: Tensor,
    upper: Tensor,
    query: Tensor<u32>,
    spec: Tensor,
    constants: Tensor,
    aim: Tensor<u32>,
    best: Tensor,
    best_x: Tensor,
    /// Outputs of every layer.
    values: Vec<Tensor>,
    /// Gradients on every layer's outputs, then on its z.
    gradients: Vec<Tensor>,
    gradient_x: Tensor,
}

impl Run {
    async fn new(gpu: &Gpu, net: &DeviceNet, ground: &Ground<'_>, aims: &[Aim], effort: Effort) -> Result<Self> {
        let n = net.n_in();
        let candidates = aims.len() * effort.starts;
        let pitch = column_pitch(candidates);
        let order = Order(net.input);
        let start = in_columns(&order.to_device(&starts(ground, aims, effort, n)), n, pitch);
        let (mut query, mut aim) = (Vec::new(), Vec::new());
        for target in aims.iter().flat_map(|target| std::iter::repeat_n(target, effort.starts)) {
            query.push(word(target.query)?);
            aim.extend([word(target.first_row)?, word(target.rows)?]);
        }
        let rows = ground.constants.len();
        let (mut values, mut gradients) = (Vec::new(), Vec::new());
        for layer in &net.layers {
            values.push(Tensor::uninit_async(gpu, &[layer.len() * pitch]).await?);
            gradients.push(Tensor::uninit_async(gpu, &[layer.len() * pitch]).await?);
        }
        let queries = ground.lower.len() / n.max(1);
        let outputs = Order(net.layers.last().map_or(net.input, |layer| layer.extent));
        let boxes = [ground.lower, ground.upper].map(|bound| order.to_device(bound));
        Ok(Self {
            candidates,
            pitch,
            rows: aims.iter().map(|aim| aim.rows).max().unwrap_or(0),
            x: Tensor::from_slice_async(gpu, &[n * pitch], &start).await?,
            lower: Tensor::from_slice_async(gpu, &[queries, n], &boxes[0]).await?,
            upper: Tensor::from_slice_async(gpu, &[queries, n], &boxes[1]).await?,
            query: Tensor::from_slice_async(gpu, &[candidates], &query).await?,
            spec: Tensor::from_slice_async(gpu, &[rows, net.n_out()], &outputs.to_device(ground.coefficients)).await?,
            constants: Tensor::from_slice_async(gpu, &[rows], ground.constants).await?,
            aim: Tensor::from_slice_async(gpu, &[2 * candidates], &aim).await?,
            best: Tensor::from_slice_async(gpu, &[candidates], &vec![3.0e38; candidates]).await?,
            best_x: Tensor::from_slice_async(gpu, &[n * pitch], &start).await?,
            values,
            gradients,
            gradient_x: Tensor::uninit_async(gpu, &[n * pitch]).await?,
        })
    }

    async fn execute(
        &self,
        gpu: &Gpu,
        net: &DeviceNet,
        first_aim: usize,
        effort: Effort,
        control: &Control,
    ) -> Result<Vec<Find>> {
        let mut recording = Recording::new();
        for step in 0..effort.steps {
            self.record_forward(&mut recording, gpu, net)?;
            self.record_backward(&mut recording, gpu, net)?;
            let progress = step as f64 / (effort.steps.max(2) - 1) as f64;
            let width = STEPS.0 * (STEPS.1 / STEPS.0).powf(progress);
            self.record_step(&mut recording, gpu, net, width as f32)?;
        }
        self.record_forward(&mut recording, gpu, net)?;
        let (best, best_x) = (self.best.record_read(&mut recording), self.best_x.record_read(&mut recording));
        let mut output = gpu.run_async(&recording, control).await?;
        let (best, best_x) = (self.best.take(&mut output, best), self.best_x.take(&mut output, best_x));
        let point = |candidate: usize| {
            let x: Vec<f32> = (0..net.n_in()).map(|j| best_x[j * self.pitch + candidate]).collect();
            Order(net.input).to_onnx(&x)
        };
        let of_aim = |(i, losses): (usize, &[f32])| {
            let (start, &loss) = losses.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1))?;
            Some(Find { aim: first_aim + i, loss, x: point(i * effort.starts + start) })
        };
        Ok(best.chunks(effort.starts.max(1)).enumerate().filter_map(of_aim).collect())
    }

    fn sheet<'a>(&self, memory: &'a Tensor) -> Sheet<'a> {
        Sheet { memory, pitch: self.pitch }
    }

    fn values_of(&self, source: Source) -> &Tensor {
        match source {
            Source::Input => &self.x,
            Source::Layer(index) => &self.values[index],
        }
    }

    /// The network's outputs, every candidate's loss and its gradient on them.
    fn record_forward(&self, recording: &mut Recording, gpu: &Gpu, net: &DeviceNet) -> Result<()> {
        for (layer, value) in net.layers.iter().zip(&self.values) {
            for (at, edge) in layer.edges.iter().enumerate() {
                let product = Product {
                    edge,
                    direction: FORWARD,
                    extents: [net.extent(edge.source), layer.extent],
                    from: self.sheet(self.values_of(edge.source)),
                    to: self.sheet(value),
                    columns: self.candidates,
                    accumulate: at > 0,
                    abs: false,
                };
                product.record(recording, gpu.caps())?;
            }
            self.record_activate(recording, gpu, (value, &layer.bias), layer.activation, false)?;
        }
        let Some((gradient, output)) = self.gradients.last().zip(self.values.last()) else { return Ok(()) };
        let params = kernels::AttackTarget {
            candidates: word(self.candidates)?,
            outputs: word(net.n_out())?,
            inputs: word(net.n_in())?,
            ld: word(self.pitch)?,
            ld_spec: word(self.spec.row_stride())?,
            ..Default::default()
        };
        let bindings = vec![
            output.binding(),
            self.x.binding(),
            self.spec.binding(),
            self.constants.binding(),
            self.aim.binding(),
            gradient.binding(),
            self.best.binding(),
            self.best_x.binding(),
        ];
        let grid = Grid::Direct([params.candidates.div_ceil(64), 1, 1]);
        let work = (self.candidates * (net.n_in() + self.rows * net.n_out())) as f64;
        recording.dispatch(&kernels::attack_target(), bindings, &params, grid, work)
    }

    fn record_activate(
        &self,
        recording: &mut Recording,
        gpu: &Gpu,
        (value, other): (&Tensor, &Tensor),
        activation: Activation,
        gradient: bool,
    ) -> Result<()> {
        let (groups, threads) = strided_grid(value.len(), gpu.caps().max_workgroups)?;
        let params = kernels::Activate {
            len: word(value.len())?,
            threads,
            ld: word(self.pitch)?,
            activation: code(activation),
            ..Default::default()
        };
        let grid = Grid::Direct([groups, 1, 1]);
        let bindings = vec![value.binding(), other.binding()];
        recording.dispatch(&kernels::activate(gradient), bindings, &params, grid, value.len() as f64)
    }

    fn record_backward(&self, recording: &mut Recording, gpu: &Gpu, net: &DeviceNet) -> Result<()> {
        // The last layer has its gradient; any other gets its own from the layers that read it, which come after it.
        let mut written = vec![false; net.layers.len()];
        let mut input_written = false;
        for (index, layer) in net.layers.iter().enumerate().rev() {
            let (gradient, value) = (&self.gradients[index], &self.values[index]);
            if layer.activation != Activation::None {
                self.record_activate(recording, gpu, (value, gradient), layer.activation, true)?;
            }
            for edge in &layer.edges {
                let (to, written) = match edge.source {
                    Source::Input => (&self.gradient_x, &mut input_written),
                    Source::Layer(source) => (&self.gradients[source], &mut written[source]),
                };
                let product = Product {
                    edge,
                    direction: BACKWARD,
                    extents: [layer.extent, net.extent(edge.source)],
                    from: self.sheet(gradient),
                    to: self.sheet(to),
                    columns: self.candidates,
                    accumulate: std::mem::replace(written, true),
                    abs: false,
                };
                product.record(recording, gpu.caps())?;
            }
        }
        Ok(())
    }

    fn record_step(&self, recording: &mut Recording, gpu: &Gpu, net: &DeviceNet, step: f32) -> Result<()> {
        let n = net.n_in();
        let (groups, threads) = strided_grid(self.candidates * n, gpu.caps().max_workgroups)?;
        let params = kernels::AttackStep {
            n: word(n)?,
            ld: word(self.lower.row_stride())?,
            len: word(self.candidates * n)?,
            threads,
            step,
            ldc: word(self.pitch)?,
            ..Default::default()
        };
        let bindings = vec![
            self.x.binding(),
            self.gradient_x.binding(),
            self.lower.binding(),
            self.upper.binding(),
            self.query.binding(),
        ];
        let work = (self.candidates * n) as f64;
        recording.dispatch(&kernels::attack_step(), bindings, &params, Grid::Direct([groups, 1, 1]), work)
    }
}

/// Where all candidates start, `[candidates, n]`: the starts of each aim behind each other.
fn starts(ground: &Ground<'_>, aims: &[Aim], effort: Effort, n: usize) -> Vec<f32> {
    let mut starts = Vec::with_capacity(aims.len() * effort.starts * n);
    for aim in aims {
        let at = aim.query * n..(aim.query + 1) * n;
        let (lower, upper) = (&ground.lower[at.clone()], &ground.upper[at]);
        let seed = effort.seed ^ aim.member.wrapping_mul(0xD134_2543_DE82_EF95);
        for attempt in 0..effort.starts {
            push_start(&mut starts, lower, upper, aim.start.as_deref(), attempt, seed);
        }
    }
    starts
}

/// Vectors of n values as the columns of a matrix with this pitch.
fn in_columns(vectors: &[f32], n: usize, pitch: usize) -> Vec<f32> {
    let mut out = vec![0.0; n * pitch];
    for (column, vector) in vectors.chunks(n.max(1)).enumerate() {
        vector.iter().enumerate().for_each(|(j, &value)| out[j * pitch + column] = value);
    }
    out
}

/// The aim's own start first; then by turns uniform points and points that share half of its coordinates.
fn push_start(out: &mut Vec<f32>, lower: &[f32], upper: &[f32], own: Option<&[f32]>, attempt: usize, seed: u64) {
    for (i, (&l, &h)) in lower.iter().zip(upper).enumerate() {
        let base = own.map_or(l + (h - l) * 0.5, |x| x[i]);
        let counter = seed.wrapping_add((attempt as u64) << 32).wrapping_add(2 * i as u64);
        let keep = attempt == 0 || (attempt.is_multiple_of(2) && uniform(counter) < 0.5);
        let value = if keep { base } else { l + (h - l) * uniform(counter + 1) };
        out.push(value.clamp(l.min(h), h.max(l)));
    }
}

/// SplitMix64 of a counter, as a number in [0, 1).
fn uniform(counter: u64) -> f32 {
    let mut z = counter.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1_u64 << 24) as f32
}
