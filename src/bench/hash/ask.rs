//! Asking a network that was trained a little: exactly, through hash tables, and through clusters.

use super::super::measure::Timing;
use super::super::oracle::wrong;
use super::super::{Context, Done, Measured, SEED};
use super::{BATCHES, Case, Size, Training};
use crate::error::Result;
use crate::hash::clusters::ClusterOptions;
use crate::hash::data::generate::generate;
use crate::hash::lsh::LshOptions;
use crate::hash::optimiser::Mode as Update;
use crate::hash::options::Mode;
use crate::hash::quality::{Quality, SparseQuality};
use crate::hash::{Network, Shortlist, Storage, width};

/// Passes over the set before a network is asked, and how often it is.
const PASSES: usize = 2;
const ASKED: usize = 3;

/// Questions to a network that was trained a little on labels drawn uniformly: exactly, or through a short list.
pub(super) fn ask(context: &Context<'_>, size: &Size, way: Option<usize>) -> Result<Done> {
    if size.asked.get().is_none() {
        let _ = size.asked.set(asked(context, size)?);
    }
    // The first one warms up.
    let Some([first, qualities @ .., last]) = size.asked.get().map(|asked| asked[way.unwrap_or(0)].as_slice()) else {
        return Err(crate::Error::internal("a network that was not asked"));
    };
    let all = || qualities.iter().chain([last]);
    let samples = last.samples as f64;
    let Some(found) = &last.sparse else { return Err(crate::Error::internal("an answer without a short list")) };
    if way.is_none() {
        let walls: Vec<f64> = all().map(|quality| quality.exact_seconds).collect();
        let timing = Timing::of(&walls, None, Some(first.exact_seconds));
        let scored = samples * size.labels as f64;
        let note = format!("{:.2e} labels scored a second, hidden layers included", scored / timing.seconds);
        let flop = 2.0 * width(size.hidden) as f64 * scored;
        return Measured::new(samples, "samples", timing).bound(flop).note(note).done();
    }
    let seconds = |quality: &Quality| quality.sparse.as_ref().map_or(0.0, |sparse| sparse.seconds);
    let walls: Vec<f64> = all().map(seconds).collect();
    let timing = Timing::of(&walls, None, Some(seconds(first)));
    let note = recalls(size, found, last.exact_seconds / timing.seconds.max(1e-12));
    Measured::new(samples, "samples", timing).note(note).done()
}

fn recalls(size: &Size, found: &SparseQuality, times: f64) -> String {
    format!(
        "recall@10 {:.3}, recall@1 {:.3}, {:.1} % of the labels scored, {times:.2} times the exact rate; built in {:.2} s",
        found.recall_10,
        found.recall_1,
        100.0 * found.candidates / size.labels as f64,
        found.build_seconds
    )
}

/// Trains, and asks about samples that were not trained on, through hash tables and through clusters.
fn asked(context: &Context<'_>, size: &Size) -> Result<[Vec<Quality>; 2]> {
    let (gpu, set, control) = (size.gpu(context)?, size.set()?, &context.meter.control);
    let case = Case { mode: Mode::Uniform, update: Update::CatchUp, storage: Storage::F32 };
    let mut training = Training::new(&gpu, set, size.options(case), control)?;
    training.run(PASSES * BATCHES)?;
    pollster::block_on(training.trainer.wait_async())?;
    pollster::block_on(training.trainer.read_async())?;
    let network: Network = training.trainer.into_network();
    let count = if size.quick { 64 } else { 256 };
    let test = generate(&size.recipe(), set.len()..set.len() + count, 0)?;
    let chosen: Vec<u32> = (0..crate::ops::word(count)?).collect();
    // What `hash eval --sparse` and `--clustered` take.
    let tables = LshOptions { codes: 4, tables: 200, bucket: 64, seed: SEED, ..LshOptions::default() };
    let ways = [Shortlist::Tables(tables), Shortlist::Clusters(ClusterOptions::default())];
    let ask = |way: &Shortlist| -> Result<Vec<Quality>> {
        let qualities: Vec<Quality> =
            (0..ASKED).map(|_| network.quality(&test, &chosen, Some(way), control)).collect::<Result<_>>()?;
        for sparse in qualities.iter().filter_map(|quality| quality.sparse.as_ref()) {
            // Chance would find as many of the best as it scores.
            let chance = sparse.candidates / size.labels as f64;
            let better = sparse.recall_10 > chance && sparse.recall_10 <= 1.0;
            if !better {
                return Err(wrong(format!("recall@10 {} of {chance} of the labels", sparse.recall_10)));
            }
        }
        Ok(qualities)
    };
    Ok([ask(&ways[0])?, ask(&ways[1])?])
}
