//! What it costs: `cargo test --release --features hash --test hash_rows cost -- --ignored --nocapture --test-threads 1`.

use std::time::Instant;

use wavehull::gpu::Recording;
use wavehull::hash::optimiser::{Entries, Mode, Optimiser, Rule, Which};
use wavehull::hash::rows::{Rows, RowsPart};
use wavehull::{Control, Gpu, Options, Tensor};

use crate::common::{Random, say};
use crate::{distinct, random_part};

const COLUMNS: usize = 132;

fn filled(gpu: &Gpu, count: usize) -> Rows {
    let rows = Rows::uninit(gpu, count, COLUMNS, 2).unwrap();
    reset(gpu, &rows);
    rows
}

/// Weights like those of a trained network, and a state that was touched at step 0.
fn reset(gpu: &Gpu, rows: &Rows) {
    let mut random = Random::new(1);
    for first in (0..rows.len()).step_by(10_000) {
        let count = 10_000.min(rows.len() - first);
        let part = random_part(&mut random, count, COLUMNS, 2);
        rows.write(gpu, &RowsPart { first, ..part }).unwrap();
    }
}

/// Seconds of the processor that this process has used, which other work on the machine does not stretch.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Seconds, and those of the processor.
fn timed(gpu: &Gpu, recording: &Recording) -> [f64; 2] {
    let (start, used) = (Instant::now(), processor());
    gpu.run(recording, &Control::default()).unwrap();
    [start.elapsed().as_secs_f64(), processor() - used]
}

/// Time of what is recorded, each time from the same state: the best of `times`.
fn best(gpu: &Gpu, rows: &Rows, times: usize, record: impl Fn(&mut Recording)) -> String {
    let run = || {
        reset(gpu, rows);
        // What was written reaches the device with the next run.
        let mut recording = Recording::new();
        recording.read(rows.book.binding());
        timed(gpu, &recording);
        let mut recording = Recording::new();
        record(&mut recording);
        timed(gpu, &recording)
    };
    let least = |a: [f64; 2], b: [f64; 2]| [a[0].min(b[0]), a[1].min(b[1])];
    let [seconds, used] = (0..times).map(|_| run()).fold([f64::MAX; 2], least);
    format!("{:.1} ms, {:.0} ms of processor", seconds * 1e3, used * 1e3)
}

fn behind(gpu: &Gpu, gap: u32) -> Optimiser {
    let mut optimiser = Optimiser::new(gpu, Rule::adam(), Mode::CatchUp, 0).unwrap();
    optimiser.resume(gpu, gap, 0, |_| Ok(1e-3)).unwrap();
    optimiser
}

fn table_costs(gpu: &Gpu, count: usize, times: usize, gaps: &[u32]) {
    let rows = filled(gpu, count);
    for &gap in gaps {
        let optimiser = behind(gpu, gap);
        let sweep = best(gpu, &rows, times, |recording| {
            optimiser.record_catch_up(recording, gpu.caps(), &rows, Which::All, gap).unwrap();
        });
        say(&format!("{count} x {COLUMNS}: sweep of gaps of {gap}: {sweep}"));
    }
    let optimiser = behind(gpu, 1);
    let gradients = Tensor::from_slice(gpu, &[count, COLUMNS], &vec![1e-3; count * COLUMNS]).unwrap();
    let dense = best(gpu, &rows, times, |recording| {
        optimiser.record_dense(recording, gpu.caps(), &rows, &gradients).unwrap();
    });
    say(&format!("{count} x {COLUMNS}: a dense step: {dense}"));
}

#[test]
#[ignore = "a measurement"]
fn cost_of_rows_of_a_step() {
    let gpu = Gpu::open(&Options::default()).unwrap();
    say(&format!("{}", gpu.caps()));
    let rows = filled(&gpu, 25_918);
    let mut random = Random::new(3);
    let ids = distinct(&mut random, rows.len(), 2400);
    let (ids_on, panel) = crate::uploaded(&gpu, COLUMNS, &ids, &vec![1e-3; 2400 * COLUMNS]);
    for gap in [1, 30, 280, 4096] {
        let optimiser = behind(&gpu, gap);
        let ms = best(&gpu, &rows, 5, |recording| {
            optimiser.record_catch_up(recording, gpu.caps(), &rows, Which::Ids(&ids_on), gap).unwrap();
        });
        say(&format!("2400 x {COLUMNS} rows catch up {gap} steps: {ms}"));
    }
    let optimiser = behind(&gpu, 1);
    let ms = best(&gpu, &rows, 5, |recording| {
        let panel = Entries::Panel(&panel);
        optimiser.record_update(recording, gpu.caps(), &rows, Which::Ids(&ids_on), &panel).unwrap();
    });
    say(&format!("2400 x {COLUMNS} rows updated from a panel: {ms}"));
    // A batch of 256 samples of 22 features: one row (the bias) has 256 entries, the others few; and the same without it.
    for heavy in [256, 1] {
        let counts: Vec<usize> = (0..2400).map(|i| if i == 2399 { heavy } else { [1, 1, 2, 4][i % 4] }).collect();
        let total: usize = counts.iter().sum();
        let list = crate::list(&gpu, &ids, &counts, 2400);
        let words: Vec<u32> = (0..total).flat_map(|_| [random.below(256) as u32, 1.0_f32.to_bits()]).collect();
        let entries = Tensor::from_slice(&gpu, &[words.len()], &words).unwrap();
        let sources = Tensor::from_slice(&gpu, &[256, COLUMNS], &random.floats(256 * COLUMNS)).unwrap();
        let ms = best(&gpu, &rows, 5, |recording| {
            let entries = Entries::Samples { entries: &entries, sources: &sources };
            optimiser.record_update(recording, gpu.caps(), &rows, Which::Touched(&list), &entries).unwrap();
        });
        say(&format!("2400 x {COLUMNS} rows updated from {total} entries, one row of {heavy}: {ms}"));
    }
}

/// Active sets of 1,000 labels a sample, 256 samples: ten entries a row and more.
#[test]
#[ignore = "a measurement"]
fn cost_of_pairs() {
    let gpu = Gpu::open(&Options::default()).unwrap();
    let (count, samples, per_sample) = (25_918, 256, 1000);
    let rows = filled(&gpu, count);
    let mut random = Random::new(3);
    let ids: Vec<u32> = (0..count as u32).collect();
    let mut order: Vec<u32> = (0..(samples * per_sample) as u32).collect();
    random.shuffle(&mut order);
    let mut counts = vec![order.len() / count; count];
    counts[0] += order.len() % count;
    let list = crate::list(&gpu, &ids, &counts, count);
    let order = Tensor::from_slice(&gpu, &[order.len()], &order).unwrap();
    let coefficients = Tensor::from_slice(&gpu, &[order.len()], &random.floats(order.len())).unwrap();
    let sources = Tensor::from_slice(&gpu, &[samples, COLUMNS], &random.floats(samples * COLUMNS)).unwrap();
    let entries = Entries::Pairs { order: &order, coefficients: &coefficients, per_sample, sources: &sources };
    let optimiser = behind(&gpu, 1);
    for (what, to) in [("four at a time", "e + 4u <= end"), ("one at a time", "e + 4u <= min(end, 3u)")] {
        let time = best(&gpu, &rows, 5, |recording| {
            let mut own = Recording::new();
            optimiser.record_update(&mut own, gpu.caps(), &rows, Which::Touched(&list), &entries).unwrap();
            *recording = crate::common::broken(&own, "row_update", "e + 4u <= end", to);
        });
        say(&format!("{count} x {COLUMNS} rows updated from {} pairs, {what}: {time}", order.len()));
    }
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_table_of_25918() {
    let gpu = Gpu::open(&Options::default()).unwrap();
    table_costs(&gpu, 25_918, 3, &[1, 30, 280, 1000, 4096]);
}

#[test]
#[ignore = "a measurement, and 1.5 GB of device memory"]
fn cost_of_a_table_of_670091() {
    let mut options = Options::default();
    options.memory_budget = Some(2 << 30);
    table_costs(&Gpu::open(&options).unwrap(), 670_091, 1, &[30, 280]);
}
