//! The verifier: attack, early exit, full analysis, attack again, for all queries of one network at once.

use std::time::Duration;
use web_time::Instant;

use super::attack::{Aim, Effort, Ground, attack};
use super::bounds::{Bounds, Mode};
use super::network::DeviceChain;
use super::proof::{Claim, LayerProof, QueryProof};
use super::property::{Conjunction, Property, Query, Row};
use super::soundness::{Rounding, Soundness, round_down, round_up};
use super::state::{Spec, batch_capacity};
use crate::error::{Error, Result};
use crate::gpu::{Control, Gpu, Recording};
use crate::graph::{Chain, Graph};

/// Conditions of a query that the second attack concentrates on.
const PROMISING: usize = 3;

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

/// The answer for one property.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// No counterexample exists.
    Holds,
    /// There is one, and here it is.
    Violated(Box<Counterexample>),
    /// Neither was shown, and why.
    Unknown(String),
}

/// What is known of one property.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The answer.
    pub verdict: Verdict,
    /// The tightest margin: over all conditions, the smallest of the best lower bounds of their rows. Positive where the
    /// property holds; `None` where no bound was computed.
    pub margin: Option<f64>,
    /// One proof a query, in order, if it holds and proofs were asked for.
    pub proof: Option<Vec<QueryProof>>,
    /// Seconds from the start of the call to this answer.
    pub seconds: f64,
}

/// A network on a device, ready to verify properties.
#[derive(Debug)]
pub struct Verifier {
    gpu: Gpu,
    graph: Graph,
    chain: Chain,
    net: DeviceChain,
    rounding: Rounding,
    options: VerifyOptions,
}

/// A query on its way, with its place in the caller's list.
struct Open<'a> {
    property: usize,
    index: usize,
    query: &'a Query,
    bounds: Vec<Option<Claim>>,
    /// How near the first attack came to each condition.
    losses: Vec<f32>,
    /// Where the linear bound of each condition's best row is least.
    corners: Vec<Option<Vec<f32>>>,
    state: State,
    proof: Option<QueryProof>,
    overflow: bool,
}

#[derive(PartialEq)]
enum State {
    Undecided,
    Holds,
    Violated(Box<Counterexample>),
}

impl Open<'_> {
    /// Takes the corner of each open condition's best row from those of all rows of this query.
    fn keep_corners(&mut self, corners: &[f32], n_in: usize) {
        let mut first = 0;
        for (conjunction, condition) in self.query.unsafe_if.iter().enumerate() {
            if let Some(claim) = self.bounds[conjunction].filter(|claim| claim.bound <= 0.0) {
                let row = first + claim.row;
                self.corners[conjunction] = Some(corners[row * n_in..(row + 1) * n_in].to_vec());
            }
            first += condition.len();
        }
    }
}

impl Verifier {
    /// Puts a network on a device.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] if the network is not a chain of affine layers and ReLUs; memory errors.
    pub async fn new_async(gpu: &Gpu, graph: &Graph, options: VerifyOptions) -> Result<Self> {
        let chain = Chain::from_graph(graph)?;
        let net = DeviceChain::new(gpu, &chain).await?;
        let rounding = Rounding::new(options.soundness, &chain);
        Ok(Self { gpu: gpu.clone(), graph: graph.clone(), chain, net, rounding, options })
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
        let start = Instant::now();
        for property in properties {
            self.check_fit(property)?;
        }
        let mut open: Vec<Open<'_>> = Vec::new();
        for (property, p) in properties.iter().enumerate() {
            open.extend(p.queries.iter().enumerate().map(|(index, query)| Open {
                property,
                index,
                query,
                bounds: vec![None; query.unsafe_if.len()],
                losses: vec![0.0; query.unsafe_if.len()],
                corners: vec![None; query.unsafe_if.len()],
                state: if query.unsafe_if.is_empty() { State::Holds } else { State::Undecided },
                proof: None,
                overflow: false,
            }));
        }
        let mut finished = vec![None; properties.len()];
        let stages: [(&str, bool); 5] = [
            ("attack", self.options.attack),
            ("early exit", self.options.early_exit && !self.options.all_rows),
            ("bounds", true),
            ("attack from corners", self.options.attack),
            ("attack", self.options.attack),
        ];
        let effort = Effort { starts: 1, steps: 15, seed: self.options.seed };
        let mut late = false;
        for (number, (name, on)) in stages.into_iter().enumerate() {
            late = late || self.options.timeout.is_some_and(|limit| start.elapsed() >= limit);
            if !on || late {
                continue;
            }
            log::debug!("stage {name}: {} queries open", open.iter().filter(|q| q.state == State::Undecided).count());
            match number {
                0 => self.attack_open(&mut open, usize::MAX, effort, control).await?,
                1 => self.bound_open(&mut open, false, control).await?,
                2 => self.bound_open(&mut open, true, control).await?,
                3 => self.attack_open(&mut open, usize::MAX, Effort { steps: 40, ..effort }, control).await?,
                _ => {
                    self.attack_open(&mut open, PROMISING, Effort { starts: 12, steps: 40, ..effort }, control).await?
                }
            }
            for q in &open {
                let done = settled(&open, q.property);
                if done && finished[q.property].is_none() {
                    finished[q.property] = Some(start.elapsed().as_secs_f64());
                }
            }
        }
        let total = start.elapsed().as_secs_f64();
        Ok((0..properties.len()).map(|p| self.outcome(&open, p, finished[p].unwrap_or(total), late)).collect())
    }

    fn check_fit(&self, property: &Property) -> Result<()> {
        for (what, declared, has) in [
            ("inputs", property.inputs, self.chain.input_len()),
            ("outputs", property.outputs, self.chain.output_len()),
        ] {
            if declared != has {
                return Err(Error::bad_input(format!(
                    "the property declares {declared} {what}, the network has {has}"
                ))
                .with_help("check that the property belongs to this network"));
            }
        }
        Ok(())
    }

    fn outcome(&self, open: &[Open<'_>], property: usize, seconds: f64, late: bool) -> Outcome {
        let mine: Vec<&Open<'_>> = open.iter().filter(|q| q.property == property).collect();
        let known: Vec<f64> = mine.iter().flat_map(|q| q.bounds.iter().flatten().map(|c| c.bound)).collect();
        let margin = known.iter().copied().reduce(f64::min);
        let violated = mine.iter().find_map(|q| match &q.state {
            State::Violated(found) => Some(found.clone()),
            _ => None,
        });
        let holds = mine.iter().all(|q| q.state == State::Holds);
        let verdict = match violated {
            Some(found) => Verdict::Violated(found),
            None if holds => Verdict::Holds,
            None if late => Verdict::Unknown("timeout".to_owned()),
            None if mine.iter().any(|q| q.overflow) => {
                Verdict::Unknown("magnitudes beyond 2^40: f32 bounds say nothing".to_owned())
            }
            None => Verdict::Unknown("the bound is not tight enough, and no counterexample was found".to_owned()),
        };
        let proofs = mine.into_iter().map(|q| q.proof.clone()).collect::<Option<Vec<_>>>();
        Outcome { proof: proofs.filter(|_| holds), verdict, margin, seconds }
    }

    /// Analyses all undecided queries, batch by batch: with interval bounds only, or layer by layer.
    async fn bound_open(&self, open: &mut [Open<'_>], full: bool, control: &Control) -> Result<()> {
        let todo: Vec<usize> = undecided(open);
        let rows = todo.iter().map(|&i| row_count(open[i].query)).max().unwrap_or(0).max(1);
        let capacity = batch_capacity(&self.gpu, &self.net, rows);
        let phase = if full { "bounds" } else { "early exit" };
        for (number, batch) in todo.chunks(capacity).enumerate() {
            control.report(phase, (number * capacity) as u64, todo.len() as u64, "boxes");
            control.cancel.check()?;
            self.bound_batch(open, batch, rows, full, control).await?;
        }
        control.report(phase, todo.len() as u64, todo.len() as u64, "boxes");
        Ok(())
    }

    async fn bound_batch(
        &self,
        open: &mut [Open<'_>],
        batch: &[usize],
        rows: usize,
        full: bool,
        control: &Control,
    ) -> Result<()> {
        let queries: Vec<&Query> = batch.iter().map(|&i| open[i].query).collect();
        let lower: Vec<f32> = queries.iter().flat_map(|q| q.input.lo_out.iter().map(|&v| round_down(v))).collect();
        let upper: Vec<f32> = queries.iter().flat_map(|q| q.input.hi_out.iter().map(|&v| round_up(v))).collect();
        let spec = specification(&queries, rows, self.chain.output_len());
        let mode = Mode { all_rows: self.options.all_rows, intersect: self.options.intersect };
        let bounds = Bounds::new(&self.gpu, &self.net, self.rounding, mode, (&lower, &upper), &spec).await?;
        let mut recording = Recording::new();
        for layer in 0..self.net.layers.len() {
            bounds.record_interval(&mut recording, layer)?;
            // The first layer's intervals are exact, and a layer without a ReLU has no line to tighten.
            if full && layer > 0 && self.net.layers[layer].relu {
                bounds.record_refine(&mut recording, layer)?;
            }
            bounds.record_lines(&mut recording, layer)?;
        }
        bounds.record_queries(&mut recording)?;
        let margins = bounds.queries.lower.record_read(&mut recording);
        let bad = bounds.bad.record_read(&mut recording);
        let corners = (full && self.options.attack).then(|| bounds.queries.corner.record_read(&mut recording));
        let mut output = self.gpu.run_async(&recording, control).await?;
        let corners = corners.map_or_else(Vec::new, |ticket| bounds.queries.corner.take(&mut output, ticket));
        let margins = bounds.queries.lower.take(&mut output, margins);
        let bad = bounds.bad.take(&mut output, bad);
        let mut held = Vec::new();
        for (place, (&i, margins)) in batch.iter().zip(margins.chunks(rows.max(1))).enumerate() {
            if bad[place] != 0 {
                open[i].overflow = full;
                continue;
            }
            open[i].bounds = claims(open[i].query, margins);
            if open[i].bounds.iter().all(|c| c.as_ref().is_some_and(|c| c.bound > 0.0)) {
                open[i].state = State::Holds;
                held.push((place, i));
            } else if !corners.is_empty() {
                open[i].keep_corners(&corners[place * rows * self.net.n_in()..], self.net.n_in());
            }
        }
        if self.options.proofs && !held.is_empty() {
            self.keep_proofs(open, &bounds, &held, full, control).await?;
        }
        Ok(())
    }

    /// Reads back slopes and bounds, and makes a proof of every query that held in this batch.
    async fn keep_proofs(
        &self,
        open: &mut [Open<'_>],
        bounds: &Bounds<'_>,
        held: &[(usize, usize)],
        full: bool,
        control: &Control,
    ) -> Result<()> {
        let mut recording = Recording::new();
        let relus: Vec<usize> = (0..self.net.layers.len()).filter(|&k| self.net.layers[k].relu).collect();
        let tickets: Vec<_> = relus
            .iter()
            .map(|&k| {
                let state = &bounds.layers[k];
                let refined = (full && k > 0).then(|| state.refined.record_read(&mut recording));
                (state.lower.record_read(&mut recording), state.upper.record_read(&mut recording), refined)
            })
            .collect();
        let mut output = self.gpu.run_async(&recording, control).await?;
        let mut layers = Vec::new();
        for (&k, (lower, upper, refined)) in relus.iter().zip(tickets) {
            let state = &bounds.layers[k];
            let refined = refined.map(|ticket| state.refined.take(&mut output, ticket));
            layers.push((state.lower.take(&mut output, lower), state.upper.take(&mut output, upper), refined));
        }
        for &(place, i) in held {
            let of_layer = |(lower, upper, refined): &(Vec<f32>, Vec<f32>, Option<Vec<u32>>), n: usize| {
                let at = place * n..(place + 1) * n;
                let flags = refined.as_ref().map(|flags| &flags[at.clone()]);
                layer_proof(&lower[at.clone()], &upper[at.clone()], flags)
            };
            let proofs = layers.iter().zip(&relus).map(|(l, &k)| of_layer(l, self.net.layers[k].n_out)).collect();
            let claims = open[i].bounds.iter().flatten().cloned().collect();
            open[i].proof = Some(QueryProof { layers: proofs, claims });
        }
        Ok(())
    }

    /// Attacks the `most` nearest conditions of every undecided query, of those that no bound excludes.
    async fn attack_open(&self, open: &mut [Open<'_>], most: usize, effort: Effort, control: &Control) -> Result<()> {
        let todo = undecided(open);
        let queries: Vec<&Query> = todo.iter().map(|&i| open[i].query).collect();
        let ends = |i: usize| queries[i].input.lo.iter().zip(&queries[i].input.hi).map(|(&l, &h)| inward(l, h));
        let lower: Vec<f32> = (0..queries.len()).flat_map(|i| ends(i).map(|e| e.0).collect::<Vec<_>>()).collect();
        let upper: Vec<f32> = (0..queries.len()).flat_map(|i| ends(i).map(|e| e.1).collect::<Vec<_>>()).collect();
        let rows = queries.iter().map(|q| row_count(q)).max().unwrap_or(0).max(1);
        let spec = specification(&queries, rows, self.chain.output_len());
        let constants: Vec<f32> = spec.state.iter().step_by(2).copied().collect();
        let mut aims = Vec::new();
        let mut meaning = Vec::new();
        for (place, &i) in todo.iter().enumerate() {
            for conjunction in nearest(&open[i], most) {
                let conditions = &open[i].query.unsafe_if;
                let before: usize = conditions[..conjunction].iter().map(Conjunction::len).sum();
                let start = open[i].corners[conjunction].clone();
                let count = conditions[conjunction].len();
                aims.push(Aim { query: place, first_row: place * rows + before, rows: count, start });
                meaning.push((i, conjunction));
            }
        }
        let ground = Ground { lower: &lower, upper: &upper, coefficients: &spec.coefficients, constants: &constants };
        let mut finds = attack(&self.gpu, &self.net, &ground, &aims, effort, control).await?;
        finds.sort_by(|a, b| a.loss.total_cmp(&b.loss));
        for find in finds {
            let (i, conjunction) = meaning[find.aim];
            open[i].losses[conjunction] = find.loss;
            // f32 may put a loss on the wrong side of 0 by rounding; f64 decides.
            if find.loss <= 1e-4
                && open[i].state == State::Undecided
                && let Some(found) = self.confirm(&open[i], conjunction, &find.x)?
            {
                open[i].state = State::Violated(Box::new(found));
            }
        }
        Ok(())
    }

    /// Replays a point in f64: clamped to the decimals of the property, and believed only if every row's value clears
    /// f64's own error.
    fn confirm(&self, open: &Open<'_>, conjunction: usize, x: &[f32]) -> Result<Option<Counterexample>> {
        let input = &open.query.input;
        let x: Vec<f64> =
            x.iter().zip(input.lo.iter().zip(&input.hi)).map(|(&v, (&l, &h))| f64::from(v).clamp(l, h)).collect();
        let y = self.graph.eval_f64_bounded(&x)?;
        let fulfilled = open.query.unsafe_if[conjunction].iter().all(|row| surely_fulfilled(row, &y));
        let y = y.into_iter().map(|(value, _)| value).collect();
        Ok(fulfilled.then_some(Counterexample { query: open.index, conjunction, x, y }))
    }
}

/// Whether `coefficients . y + constant <= 0` (or `< 0`) for every output within its error.
fn surely_fulfilled(row: &Row, y: &[(f64, f64)]) -> bool {
    let mut value = row.constant;
    let mut error = row.slop;
    let mut size = row.constant.abs();
    for &(j, c) in &row.coefficients {
        let (v, e) = y[j];
        value += c * v;
        size += (c * v).abs();
        error += c.abs() * e + row.coefficient_rel * c.abs() * (v.abs() + e);
    }
    // Every one of the at most n + 1 additions and n products errs by at most 2^-53 of the sum of magnitudes.
    error += 2.0 * (row.coefficients.len() + 2) as f64 * f64::EPSILON * size;
    let top = value + error * (1.0 + 1e-12);
    if row.strict { top < 0.0 } else { top <= 0.0 }
}

fn settled(open: &[Open<'_>], property: usize) -> bool {
    let mut mine = open.iter().filter(|q| q.property == property);
    let violated = open.iter().any(|q| q.property == property && matches!(q.state, State::Violated(_)));
    violated || mine.all(|q| q.state == State::Holds)
}

/// Undecided queries of properties that no query has violated yet.
fn undecided(open: &[Open<'_>]) -> Vec<usize> {
    (0..open.len()).filter(|&i| open[i].state == State::Undecided && !settled(open, open[i].property)).collect()
}

fn row_count(query: &Query) -> usize {
    query.unsafe_if.iter().map(Conjunction::len).sum()
}

/// The conditions that no bound excludes, those first to which the attack came nearest.
fn nearest(open: &Open<'_>, most: usize) -> Vec<usize> {
    let excluded = |c: &usize| open.bounds[*c].as_ref().is_some_and(|claim| claim.bound > 0.0);
    let mut all: Vec<usize> = (0..open.bounds.len()).filter(|c| !excluded(c)).collect();
    all.sort_by(|&a, &b| open.losses[a].total_cmp(&open.losses[b]));
    all.truncate(most);
    all
}

/// The largest box of f32 values inside `[l, h]`, or the value nearest to it where there is none.
fn inward(l: f64, h: f64) -> (f32, f32) {
    let (low, high) = (round_up(l), round_down(h));
    if low <= high { (low, high) } else { (((l + h) / 2.0) as f32, ((l + h) / 2.0) as f32) }
}

/// The rows of all queries, each padded to `rows`.
fn specification(queries: &[&Query], rows: usize, outputs: usize) -> Spec {
    let mut spec = Spec { rows, outputs, ..Spec::default() };
    for query in queries {
        let all: Vec<&Row> = query.unsafe_if.iter().flatten().collect();
        for index in 0..rows {
            let mut dense = vec![0.0_f32; outputs];
            let (mut constant, mut error) = (0.0, 0.0);
            if let Some(row) = all.get(index) {
                for &(j, c) in &row.coefficients {
                    dense[j] = c as f32;
                    let exact = f64::from(dense[j]) == c;
                    let rel = row.coefficient_rel + if exact { 0.0 } else { 2.0_f64.powi(-23) };
                    spec.rel = spec.rel.max(round_up(rel));
                }
                constant = row.constant as f32;
                error = round_up((f64::from(constant) - row.constant).abs() + row.slop);
            }
            spec.coefficients.extend(dense);
            spec.state.extend([constant, error]);
            spec.used.push(u32::from(index < all.len()));
        }
    }
    spec
}

/// The best row of every condition.
fn claims(query: &Query, margins: &[f32]) -> Vec<Option<Claim>> {
    let mut first = 0;
    query
        .unsafe_if
        .iter()
        .enumerate()
        .map(|(conjunction, condition)| {
            let rows = &margins[first..first + condition.len()];
            first += condition.len();
            let (row, &bound) = rows.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
            Some(Claim { conjunction, row, bound: f64::from(bound) })
        })
        .collect()
}

/// Lower slopes as relax_neurons.wgsl chose them from these bounds, and the bounds of refined neurons.
fn layer_proof(lower: &[f32], upper: &[f32], refined: Option<&[u32]>) -> LayerProof {
    let slopes = lower.iter().zip(upper).map(|(&l, &h)| if l >= 0.0 || h > -l { 1.0 } else { 0.0 }).collect();
    let refined = refined.map_or_else(Vec::new, |flags| {
        (0..flags.len()).filter(|&j| flags[j] != 0).map(|j| (j, f64::from(lower[j]), f64::from(upper[j]))).collect()
    });
    LayerProof { slopes, refined }
}
