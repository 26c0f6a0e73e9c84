//! The verifier: attack, early exit, full analysis, attack again, for all queries of one network at once.

use std::time::Duration;
use web_time::Instant;

use super::attack::{Aim, Effort, Find, Ground, attack};
use super::book::{Book, Limit, Open, State, claims, inward, nearest, row_count, specification, surely_fulfilled};
use super::bounds::{Bounds, Mode};
use super::network::{DeviceNet, Order};
use super::proof::QueryProof;
use super::property::{Conjunction, Property, Query};
use super::soundness::{Rounding, Soundness, round_down, round_up};
use super::split::{Boxes, input_weights};
use super::state::{Plan, Spec, attack_capacity};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Control, Gpu, Output, Recording};
use crate::graph::{Graph, Layers};

/// Conditions of a query that the second attack concentrates on.
const PROMISING: usize = 3;
/// Dispatches after which an analysis is run that far before more is recorded: a network of a million neurons has hundreds of
/// thousands, of about a kilobyte each on the host.
const MOST_DISPATCHES: usize = 16_384;

/// How to verify.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// What bounds account for.
    pub soundness: Soundness,
    /// Look for counterexamples, before and after the analysis.
    pub attack: bool,
    /// Try the output rows on interval bounds first.
    pub early_exit: bool,
    /// Back-substitute every neuron and never drop a row (slower; for comparisons with other tools).
    pub all_rows: bool,
    /// Keep the tightest bound of intervals and all levels (off: the last level's alone, as plain CROWN does).
    pub intersect: bool,
    /// Keep what a proof needs for every query that holds.
    pub proofs: bool,
    /// Seed of the attack's random starts.
    pub seed: u64,
    /// Give up after this long; what is known by then is reported.
    pub timeout: Option<Duration>,
    /// Split the boxes of properties that are open after all else (`verify::split`), and stop each property this long after the
    /// start of the call. Without it nothing is split.
    pub cap: Option<Duration>,
    /// Most inputs that may vary in a box for it to be split: each more input makes splits less likely to pay.
    pub split_inputs: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            soundness: Soundness::Strict,
            attack: true,
            early_exit: true,
            all_rows: false,
            intersect: true,
            proofs: false,
            seed: 0,
            timeout: None,
            cap: None,
            split_inputs: 20,
        }
    }
}

/// A point of a query's box whose outputs fulfil one of its unsafe conditions, confirmed in f64.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Counterexample {
    /// The query.
    pub query: usize,
    /// The condition that is fulfilled.
    pub conjunction: usize,
    /// The input.
    pub x: Vec<f64>,
    /// The network's outputs there, evaluated in f64.
    pub y: Vec<f64>,
}

/// Why neither answer was shown.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The bound does not exclude a counterexample, and no attack found one.
    NotTight,
    /// Magnitudes from 2^40 on, in which f32 bounds say nothing.
    Overflow,
    /// The time limit was over.
    Timeout,
    /// The cap on splitting was over ([`VerifyOptions::cap`]).
    Cap,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotTight => "the bound is not tight enough, and no counterexample was found",
            Self::Overflow => "magnitudes beyond 2^40: f32 bounds say nothing",
            Self::Timeout => "timeout",
            Self::Cap => "the cap on its time is over",
        })
    }
}

/// The answer for one property.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// No counterexample exists.
    Holds,
    /// There is one, and here it is.
    Violated(Box<Counterexample>),
    /// Neither was shown, and why.
    Unknown(Reason),
}

/// What is known of one property.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The answer.
    pub verdict: Verdict,
    /// The tightest margin: over all conditions, the smallest of the best lower bounds of their rows; where boxes were split,
    /// over those that are left, or over all parts if none is. Positive where the property holds; `None` where no bound was
    /// computed.
    pub margin: Option<f64>,
    /// How far splitting came, if boxes were split.
    pub boxes: Option<Boxes>,
    /// One proof a query, in order, if it holds and proofs were asked for. What was shown by splitting has none yet.
    pub proof: Option<Vec<QueryProof>>,
    /// Seconds from the start of the call to this answer.
    pub seconds: f64,
}

/// A network on a device, ready to verify properties.
#[derive(Debug)]
pub struct Verifier {
    pub(super) gpu: Gpu,
    graph: Graph,
    pub(super) net: DeviceNet,
    /// For every input, the sum of magnitudes of the weights that it meets first; only where boxes may be split.
    pub(super) input_weights: Vec<f64>,
    pub(super) rounding: Rounding,
    pub(super) options: VerifyOptions,
}

/// One call on its way: its book, its clock and whom to tell.
pub(super) struct Call<'a, 'c, F> {
    pub book: Book<'a>,
    start: Instant,
    pub control: &'c Control,
    each: &'c mut F,
}

/// What a batch of boxes came to.
pub(super) struct Analysis<'a> {
    bounds: Bounds<'a>,
    /// `[batch, rows]`: the best lower bound of each row.
    pub margins: Vec<f32>,
    /// `[batch]`: non-zero where magnitudes were out of range and nothing else is meaningful.
    pub bad: Vec<u32>,
    /// `[batch, rows, inputs]`: the linear form on the inputs of each row that is not above 0; empty unless asked for.
    pub forms: Vec<f32>,
    /// Device seconds of each dispatch with its kernel's name, in order; empty unless asked for.
    pub kernels: Vec<(&'static str, f64)>,
}

/// How to analyse a batch of boxes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depth {
    /// Layer by layer, instead of interval bounds and the output rows alone.
    pub full: bool,
    /// Bring the linear forms to the host.
    pub forms: bool,
    /// Time every dispatch.
    pub profile: bool,
}

impl<F: FnMut(usize, Outcome)> Call<'_, '_, F> {
    pub fn settle(&mut self) {
        self.book.settle(self.start.elapsed().as_secs_f64(), &mut self.each);
    }
}

impl Verifier {
    /// Puts a network on a device.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] if the network cannot be written as layers (see [`Layers::from_graph`]); memory errors.
    pub async fn new_async(gpu: &Gpu, graph: &Graph, options: VerifyOptions) -> Result<Self> {
        let layers = Layers::from_graph(graph)?;
        let net = DeviceNet::new(gpu, &layers).await?;
        let rounding = Rounding::new(options.soundness, net.terms, net.largest);
        let input_weights = if options.cap.is_some() { input_weights(&layers) } else { Vec::new() };
        Ok(Self { gpu: gpu.clone(), graph: graph.clone(), net, input_weights, rounding, options })
    }

    /// Blocking twin of [`Verifier::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, graph: &Graph, options: VerifyOptions) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, graph, options))
    }

    /// Blocking twin of [`Verifier::verify_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn verify(&self, properties: &[&Property], control: &Control) -> Result<Vec<Outcome>> {
        pollster::block_on(self.verify_async(properties, control))
    }

    /// Verifies properties of this network, all their queries in common batches; one outcome each, in order.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if a property has other numbers of inputs or outputs than the network; device errors.
    pub async fn verify_async(&self, properties: &[&Property], control: &Control) -> Result<Vec<Outcome>> {
        let requests: Vec<_> = properties.iter().map(|&property| (property, None)).collect();
        let mut outcomes: Vec<Option<Outcome>> = vec![None; properties.len()];
        self.verify_each_async(&requests, control, |property, outcome| outcomes[property] = Some(outcome)).await?;
        let all: Option<Vec<Outcome>> = outcomes.into_iter().collect();
        all.ok_or_else(|| Error::internal("a property was left without an outcome"))
    }

    /// Verifies properties, each with a time limit of its own beside that of the options, and hands each outcome over as soon as
    /// it is final: what was handed over before an error or a cancellation stays known. The clock of all limits is that of the
    /// call; it is looked at between batches.
    ///
    /// # Errors
    /// Those of [`Verifier::verify_async`], and [`crate::ErrorKind::Cancelled`].
    pub async fn verify_each_async(
        &self,
        requests: &[(&Property, Option<Duration>)],
        control: &Control,
        mut each: impl FnMut(usize, Outcome),
    ) -> Result<()> {
        let start = Instant::now();
        let own = self.options.timeout;
        let mut limited = Vec::with_capacity(requests.len());
        for &(property, limit) in requests {
            self.check_fit(property)?;
            let times = limit.into_iter().chain(own).map(|limit| (limit, Reason::Timeout));
            let first = times.chain(self.options.cap.map(|cap| (cap, Reason::Cap))).min_by_key(|&(limit, _)| limit);
            limited.push((property, first.map(|(limit, reason)| Limit { seconds: limit.as_secs_f64(), reason })));
        }
        let mut call = Call { book: Book::new(&limited), start, control, each: &mut each };
        let effort = Effort { starts: 1, steps: 15, seed: self.options.seed };
        call.settle();
        if self.options.attack {
            self.attack_open(&mut call, usize::MAX, effort).await?;
        }
        if self.options.early_exit && !self.options.all_rows {
            self.bound_open(&mut call, false).await?;
        }
        self.bound_open(&mut call, true).await?;
        if self.options.attack {
            self.attack_open(&mut call, usize::MAX, Effort { steps: 40, ..effort }).await?;
            let starts = self.starts();
            self.attack_open(&mut call, PROMISING, Effort { starts, steps: 40, ..effort }).await?;
        }
        if self.options.cap.is_some() {
            self.split_open(&mut call).await?;
        }
        let now = start.elapsed().as_secs_f64();
        call.book.finish(now, &mut call.each);
        Ok(())
    }

    /// Starts of the last attack: as many as make a fixed amount of work for one condition, within reason.
    fn starts(&self) -> usize {
        (6_000_000 / self.net.work().max(1)).clamp(12, 64)
    }

    pub(super) fn check_fit(&self, property: &Property) -> Result<()> {
        for (what, declared, has) in
            [("inputs", property.inputs, self.net.n_in()), ("outputs", property.outputs, self.net.n_out())]
        {
            if declared != has {
                return Err(Error::bad_input(format!(
                    "the property declares {declared} {what}, the network has {has}"
                ))
                .with_help("check that the property belongs to this network"));
            }
        }
        Ok(())
    }

    /// Analyses all undecided queries, batch by batch: with interval bounds only, or layer by layer.
    async fn bound_open<F: FnMut(usize, Outcome)>(&self, call: &mut Call<'_, '_, F>, full: bool) -> Result<()> {
        let total = call.book.todo().len();
        let phase = if full { "bounds" } else { "early exit" };
        let mut seen = 0;
        // Queries of properties that are settled or late by then drop out of the list between batches.
        let mut next = 0;
        loop {
            let todo: Vec<usize> = call.book.todo().into_iter().filter(|&i| i >= next).collect();
            if todo.is_empty() {
                break;
            }
            let rows = todo.iter().map(|&i| row_count(call.book.open[i].query)).max().unwrap_or(0).max(1);
            let plan = Plan::new(&self.gpu, &self.net, todo.len(), rows)?;
            let batch = &todo[..plan.batch];
            next = batch.last().map_or(next, |last| last + 1);
            call.control.report(phase, seen as u64, total as u64, "boxes");
            call.control.cancel.check()?;
            self.bound_batch(&mut call.book.open, batch, (plan, rows), full, call.control).await?;
            seen += batch.len();
            call.settle();
        }
        call.control.report(phase, total as u64, total as u64, "boxes");
        Ok(())
    }

    async fn bound_batch(
        &self,
        open: &mut [Open<'_>],
        batch: &[usize],
        (plan, rows): (Plan, usize),
        full: bool,
        control: &Control,
    ) -> Result<()> {
        let queries: Vec<&Query> = batch.iter().map(|&i| open[i].query).collect();
        let lower: Vec<f32> = queries.iter().flat_map(|q| q.input.lo_out.iter().map(|&v| round_down(v))).collect();
        let upper: Vec<f32> = queries.iter().flat_map(|q| q.input.hi_out.iter().map(|&v| round_up(v))).collect();
        let spec = specification(&queries, rows, self.net.n_out());
        let depth = Depth { full, forms: full && (self.options.attack || self.options.cap.is_some()), profile: false };
        let analysis = self.analyse(plan, (&lower, &upper), &spec, depth, control).await?;
        let mut held = Vec::new();
        for (place, (&i, margins)) in batch.iter().zip(analysis.margins.chunks(rows.max(1))).enumerate() {
            if analysis.bad[place] != 0 {
                open[i].overflow = full;
                continue;
            }
            open[i].bounds = claims(open[i].query, margins);
            if open[i].bounds.iter().all(|c| c.as_ref().is_some_and(|c| c.bound > 0.0)) {
                open[i].state = State::Holds;
                held.push((place, i));
            } else if depth.forms {
                open[i].keep_forms(&analysis.forms[place * rows * self.net.n_in()..], self.net.n_in());
            }
        }
        if self.options.proofs && !held.is_empty() {
            self.keep_proofs(open, &analysis.bounds, &held, full, control).await?;
        }
        Ok(())
    }

    /// Bounds the rows of `spec` over boxes (`[batch, inputs]`, lower and upper ends).
    pub(super) async fn analyse(
        &self,
        plan: Plan,
        boxes: (&[f32], &[f32]),
        spec: &Spec,
        depth: Depth,
        control: &Control,
    ) -> Result<Analysis<'_>> {
        let mode = Mode { all_rows: self.options.all_rows, intersect: self.options.intersect };
        let bounds = Bounds::new(&self.gpu, &self.net, self.rounding, (mode, plan), boxes, spec).await?;
        let mut recording = Recording::new();
        let mut kernels = Vec::new();
        bounds.record_input(&mut recording)?;
        for layer in 0..self.net.layers.len() {
            bounds.record_interval(&mut recording, layer)?;
            if depth.full && self.net.layers[layer].is_refinable() {
                bounds.record_refine(&mut recording, layer)?;
            }
            bounds.record_lines(&mut recording, layer)?;
            if recording.dispatches() > MOST_DISPATCHES {
                kernels.extend(self.play(&std::mem::take(&mut recording), depth, control).await?.kernel_times);
            }
        }
        bounds.record_queries(&mut recording)?;
        let margins = bounds.queries.lower.record_read(&mut recording);
        let bad = bounds.bad.record_read(&mut recording);
        let forms = depth.forms.then(|| bounds.queries.form.record_read(&mut recording));
        let mut output = self.play(&recording, depth, control).await?;
        kernels.append(&mut output.kernel_times);
        let forms = forms.map_or_else(Vec::new, |ticket| bounds.queries.form.take(&mut output, ticket));
        let forms = Order(self.net.input).to_onnx(&forms);
        let margins = bounds.queries.lower.take(&mut output, margins);
        let bad = bounds.bad.take(&mut output, bad);
        Ok(Analysis { bounds, margins, bad, forms, kernels })
    }

    async fn play(&self, recording: &Recording, depth: Depth, control: &Control) -> Result<Output> {
        match depth.profile {
            true => self.gpu.profile_async(recording, control).await,
            false => self.gpu.run_async(recording, control).await,
        }
    }

    /// Attacks the `most` nearest conditions of every undecided query, of those that no bound excludes.
    async fn attack_open<F: FnMut(usize, Outcome)>(
        &self,
        call: &mut Call<'_, '_, F>,
        most: usize,
        effort: Effort,
    ) -> Result<()> {
        let todo = call.book.todo();
        let room = attack_capacity(&self.gpu, &self.net) / effort.starts.max(1);
        let mut rest = todo.as_slice();
        while !rest.is_empty() {
            call.control.report("attack", (todo.len() - rest.len()) as u64, todo.len() as u64, "boxes");
            let mut aims = 0;
            let fits = |&&i: &&usize| {
                aims += nearest(&call.book.open[i], most).len();
                aims <= room
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (group, later) = rest.split_at(count);
            rest = later;
            match self.attack_group(&mut call.book.open, group, most, effort, call.control).await {
                Err(error) if matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::TooBig) => {
                    log::warn!("no room for an attack: {error}");
                }
                other => other?,
            }
            call.settle();
        }
        Ok(())
    }

    async fn attack_group(
        &self,
        open: &mut [Open<'_>],
        group: &[usize],
        most: usize,
        effort: Effort,
        control: &Control,
    ) -> Result<()> {
        let queries: Vec<&Query> = group.iter().map(|&i| open[i].query).collect();
        let boxes = queries.iter().map(|q| q.input.lo.iter().zip(&q.input.hi).map(|(&l, &h)| inward(l, h)));
        let (lower, upper): (Vec<f32>, Vec<f32>) = boxes.flatten().unzip();
        let rows = queries.iter().map(|q| row_count(q)).max().unwrap_or(0).max(1);
        let spec = specification(&queries, rows, self.net.n_out());
        let constants: Vec<f32> = spec.state.iter().step_by(2).copied().collect();
        let mut aims = Vec::new();
        let mut meaning = Vec::new();
        for (place, &i) in group.iter().enumerate() {
            for conjunction in nearest(&open[i], most) {
                let conditions = &open[i].query.unsafe_if;
                let before: usize = conditions[..conjunction].iter().map(Conjunction::len).sum();
                let start = open[i].corner(conjunction);
                let member = (open[i].index as u64) << 32 | conjunction as u64;
                let (first_row, count) = (place * rows + before, conditions[conjunction].len());
                aims.push(Aim { query: place, first_row, rows: count, start, member });
                meaning.push((i, conjunction));
            }
        }
        let ground = Ground { lower: &lower, upper: &upper, coefficients: &spec.coefficients, constants: &constants };
        let mut finds = attack(&self.gpu, &self.net, &ground, &aims, effort, control).await?;
        finds.sort_by(|a, b| a.loss.total_cmp(&b.loss));
        // f32 may put a loss on the wrong side of 0 by rounding, the more the larger the values are; f64 decides.
        let size = finds.iter().map(|find| find.loss.abs()).filter(|loss| *loss < 1e30).fold(1.0, f32::max);
        for find in finds {
            let (i, conjunction) = meaning[find.aim];
            open[i].losses[conjunction] = find.loss;
            self.replay(&mut open[i], conjunction, &find, size)?;
        }
        Ok(())
    }

    /// Settles an undecided query with a find that is a counterexample, unless its loss is clearly above 0 for values of
    /// magnitude `size`.
    pub(super) fn replay(&self, open: &mut Open<'_>, conjunction: usize, find: &Find, size: f32) -> Result<()> {
        if find.loss <= 1e-4 * size
            && open.state == State::Undecided
            && let Some(found) = self.confirm(open, conjunction, &find.x)?
        {
            open.state = State::Violated(Box::new(found));
        }
        Ok(())
    }

    /// Replays a point in f64: clamped to the decimals of the property, and believed only if every row's value clears
    /// f64's own error.
    fn confirm(&self, open: &Open<'_>, conjunction: usize, x: &[f32]) -> Result<Option<Counterexample>> {
        let input = &open.query.input;
        let x: Vec<f64> = x.iter().enumerate().map(|(i, &v)| input.clamp(i, f64::from(v))).collect();
        let y = self.graph.eval_f64_bounded(&x)?;
        let fulfilled = open.query.unsafe_if[conjunction].iter().all(|row| surely_fulfilled(row, &y));
        let y = y.into_iter().map(|(value, _)| value).collect();
        Ok(fulfilled.then_some(Counterexample { query: open.index, conjunction, x, y }))
    }
}
