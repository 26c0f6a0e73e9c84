//! One analysis by itself, without attacks, splits and verdicts, with the device's time of every dispatch: for measurements.

use web_time::Instant;

use super::book::{claims, row_count, specification};
use super::network::{BACKWARD, DeviceEdge, DeviceMap};
use super::property::{Property, Query};
use super::soundness::{HUGE, round_down, round_up};
use super::state::Plan;
use super::verifier::{Depth, Verifier};
use super::walk::{Walk, Window};
use crate::error::Result;
use crate::gpu::Control;
use crate::graph::Source;

/// How far an analysis goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Interval bounds of all layers, then back-substitution of the output rows alone.
    EarlyExit,
    /// Layer by layer, back-substitution of unstable neurons (of all with [`super::VerifyOptions::all_rows`]), then of the
    /// output rows.
    Full,
}

/// What one analysis found and took.
#[derive(Debug, Clone, Default)]
pub struct Measurement {
    /// The tightest margin of each property, in order: over all conditions, the smallest of the best lower bounds of their
    /// rows; `None` where magnitudes were out of range.
    pub margins: Vec<Option<f64>>,
    /// Wall-clock seconds: memory, uploads, computing and reading back.
    pub seconds: f64,
    /// Device seconds of each dispatch with its kernel's name, in order; empty unless asked for.
    pub kernels: Vec<(&'static str, f64)>,
}

impl Verifier {
    /// Analyses all queries of some properties, as many boxes at once as fit. With `profile`, every dispatch is timed by the
    /// device's clock, which makes the call slower (one pass a dispatch).
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] if a property has other numbers of inputs or outputs than the network; device errors.
    pub async fn measure_async(
        &self,
        properties: &[&Property],
        stage: Stage,
        profile: bool,
        control: &Control,
    ) -> Result<Measurement> {
        let start = Instant::now();
        for property in properties {
            self.check_fit(property)?;
        }
        let all: Vec<(usize, &Query)> = properties
            .iter()
            .enumerate()
            .flat_map(|(i, property)| property.queries.iter().map(move |q| (i, q)))
            .collect();
        let rows = all.iter().map(|(_, query)| row_count(query)).max().unwrap_or(0).max(1);
        let mut found = Measurement { margins: vec![Some(f64::INFINITY); properties.len()], ..Measurement::default() };
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            control.cancel.check()?;
            let plan = Plan::new(&self.gpu, &self.net, rest.len(), rows)?;
            let (batch, later) = rest.split_at(plan.batch);
            rest = later;
            let depth = Depth { full: stage == Stage::Full, forms: false, profile };
            self.measure_batch(batch, (plan, rows), depth, control, &mut found).await?;
        }
        found.seconds = start.elapsed().as_secs_f64();
        Ok(found)
    }

    /// Blocking twin of [`Verifier::measure_async`].
    ///
    /// # Errors
    /// Those of [`Verifier::measure_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn measure(
        &self,
        properties: &[&Property],
        stage: Stage,
        profile: bool,
        control: &Control,
    ) -> Result<Measurement> {
        pollster::block_on(self.measure_async(properties, stage, profile, control))
    }

    async fn measure_batch(
        &self,
        batch: &[(usize, &Query)],
        (plan, rows): (Plan, usize),
        depth: Depth,
        control: &Control,
        found: &mut Measurement,
    ) -> Result<()> {
        let queries: Vec<&Query> = batch.iter().map(|&(_, query)| query).collect();
        let lower: Vec<f32> = queries.iter().flat_map(|q| q.input.lo_out.iter().map(|&v| round_down(v))).collect();
        let upper: Vec<f32> = queries.iter().flat_map(|q| q.input.hi_out.iter().map(|&v| round_up(v))).collect();
        let spec = specification(&queries, rows, self.net.n_out());
        let analysis = self.analyse(plan, (&lower, &upper), &spec, depth, control).await?;
        for (place, (&(property, query), margins)) in batch.iter().zip(analysis.margins.chunks(rows)).enumerate() {
            let margin = claims(query, margins).iter().flatten().map(|claim| claim.bound).fold(f64::INFINITY, f64::min);
            // What no bound reached still has the number it started with, which says nothing.
            let known = analysis.bad[place] == 0 && margin > -HUGE / 4.0;
            let entry = &mut found.margins[property];
            *entry = entry.filter(|_| known).map(|least| least.min(margin));
        }
        found.kernels.extend(analysis.kernels);
        Ok(())
    }

    /// How many of `boxes` boxes with `rows` output rows each are analysed at once.
    ///
    /// # Errors
    /// [`crate::ErrorKind::TooBig`] if not even one box fits the memory budget and the adapter.
    pub fn boxes_at_once(&self, boxes: usize, rows: usize) -> Result<usize> {
        Ok(Plan::new(&self.gpu, &self.net, boxes, rows)?.batch)
    }

    /// Operations of the products in one box's analysis with `rows` output rows, multiply and add counted as two: the interval
    /// pass, the output rows and, in a full one, both bounds of every neuron that rows can tighten. Rows that are decided and
    /// dropped on the way, or never start because their neuron is stable, make the real number smaller. A row counts the coefficients of
    /// its windows (the dependence set) alone, those of them that lie outside the image included.
    pub fn operations(&self, stage: Stage, rows: usize) -> f64 {
        // One product with the centres, one with radii and magnitudes side by side.
        let intervals = 3.0 * 2.0 * self.net.work() as f64;
        let queries = rows as f64 * self.row_operations(&self.net.walks.queries);
        let neurons = self.net.layers.iter().zip(&self.net.walks.layers).filter(|(layer, _)| layer.is_refinable());
        let full = neurons.map(|(layer, walk)| 2.0 * layer.len() as f64 * self.row_operations(walk)).sum::<f64>();
        intervals + queries + if stage == Stage::Full { full } else { 0.0 }
    }

    /// Operations of the products on one row's way back.
    fn row_operations(&self, walk: &Walk) -> f64 {
        let of_layer = |index: usize, window: Window| {
            let pushes = self.net.layers[index].edges.iter().map(move |edge| products(edge, window));
            pushes.sum::<f64>()
        };
        let steps = walk.steps.iter().filter_map(|step| match step.source {
            Source::Layer(index) => Some(of_layer(index, step.window)),
            Source::Input => None,
        });
        2.0 * steps.sum::<f64>()
    }
}

/// Multiplications of one row's coefficients in a window of a layer with one map into it.
fn products(edge: &DeviceEdge, window: Window) -> f64 {
    let each = match &edge.map {
        DeviceMap::Conv { backward, shape, .. } => shape.taps[0] * shape.taps[1] * backward.shape()[1],
        DeviceMap::Dense { backward, .. } => backward.shape()[1],
        DeviceMap::Diagonal(_) => 1,
        // Rows of the transposed map are of about the same length.
        DeviceMap::Sparse { backward, .. } => return (backward.terms.len() / 2).max(edge.terms[BACKWARD]) as f64,
    };
    (window.len() * each) as f64
}
