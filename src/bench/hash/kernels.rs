//! The kernels of a step with hash tables beside what bounds them: rows that are updated or catch up, tables that are built and looked up, and the ranking of all labels.

use super::super::measure::Profiled;
use super::super::oracle::{Random, U, gamma, near, wrong};
use super::super::roofs::{COPY_ROOF, FMA_ROOF};
use super::super::{Context, Done, Measured, SEED, Spec};
use crate::error::Result;
use crate::gpu::{Gpu, Recording};
use crate::hash::lsh::{Hasher, LshOptions, LshTables, Query, QueryWorkspace};
use crate::hash::optimiser::{Entries, Mode, Optimiser, Rule, Which};
use crate::hash::predict::Exact;
use crate::hash::rows::{Rows, RowsPart};
use crate::hash::width;
use crate::ops::word;
use crate::tensor::Tensor;

use super::GROUP;

const HIDDEN: usize = 128;
const COLUMNS: usize = width(HIDDEN);
/// Samples that look up, or are asked about.
const SAMPLES: usize = 256;
/// Labels of a ranking.
const BEST: usize = 10;
/// Steps that rows are behind.
const GAP: u32 = 30;
const RATE: f64 = 1e-3;
/// Rows that are written at a time, and that are compared.
const PART: usize = 10_000;
const COMPARED: usize = 64;

pub(super) fn specs(context: &Context<'_>) -> Vec<Spec> {
    let labels = if context.quick() { 2000 } else { 100_000 };
    let spec = |name: &str, roof, run: fn(&Context<'_>, usize) -> Result<Done>| {
        Spec::new(GROUP, format!("{name}_{labels}"), Some(roof), move |context| run(context, labels))
    };
    vec![
        spec("row_update_panel", COPY_ROOF, update),
        spec("row_catch_up", COPY_ROOF, catch_up),
        spec("lsh_build", COPY_ROOF, build),
        spec("lsh_query", COPY_ROOF, query),
        spec("top_k_exact", FMA_ROOF, exact),
    ]
}

/// Rows as those of a trained network: weights, Adam's state, none touched.
fn part(random: &mut Random, first: usize, count: usize) -> RowsPart {
    let mut scaled = |scale: f32| -> Vec<f32> { random.values(count * COLUMNS).iter().map(|v| v * scale).collect() };
    let (weights, m) = (scaled(0.05), scaled(1e-3));
    let v = scaled(1e-3).iter().map(|v| v * v + 1e-9).collect();
    RowsPart { first, weights, state: vec![m, v], book: vec![[0; 4]; count] }
}

/// A table as it was before it was touched.
fn reset(gpu: &Gpu, rows: &Rows) -> Result<()> {
    let mut random = Random::new(SEED);
    for first in (0..rows.len()).step_by(PART) {
        rows.write(gpu, &part(&mut random, first, PART.min(rows.len() - first)))?;
    }
    // What was written reaches the device with the next run.
    let mut recording = Recording::new();
    recording.read(rows.book.binding());
    gpu.run(&recording, &crate::Control::default()).map(drop)
}

fn table(gpu: &Gpu, count: usize) -> Result<Rows> {
    let rows = Rows::uninit(gpu, count, COLUMNS, 2)?;
    reset(gpu, &rows)?;
    Ok(rows)
}

/// Adam's step of a quarter of the rows, whose gradients stand in a panel: all of them and their state read and written once, gradients read.
fn update(context: &Context<'_>, labels: usize) -> Result<Done> {
    let gpu = context.gpu;
    let (rows, mut random) = (table(gpu, labels)?, Random::new(SEED + 1));
    let ids = (0..labels / 4).map(|i| word(4 * i + random.below(4))).collect::<Result<Vec<u32>>>()?;
    let gradients: Vec<f32> = random.values(ids.len() * COLUMNS).iter().map(|g| g * 1e-2).collect();
    let list = Tensor::from_slice(gpu, &[ids.len()], &ids)?;
    let panel = Tensor::from_slice(gpu, &[ids.len(), COLUMNS], &gradients)?;
    let mut optimiser = Optimiser::new(gpu, Rule::adam(), Mode::Lazy, SEED)?;
    optimiser.begin(gpu, RATE)?;
    let places: Vec<usize> = (0..ids.len()).step_by((ids.len() / COMPARED).max(1)).collect();
    let some: Vec<u32> = places.iter().map(|&place| ids[place]).collect();
    let before = rows.read_listed(gpu, &some)?;
    let record = |recording: &mut Recording| {
        optimiser.record_update(recording, gpu.caps(), &rows, Which::Ids(&list), &Entries::Panel(&panel))
    };
    let check = || {
        let after = rows.read_listed(gpu, &some)?;
        for (i, place) in places.iter().enumerate() {
            for column in 0..COLUMNS {
                let g = f64::from(gradients[place * COLUMNS + column]);
                stepped(&before, &after, i * COLUMNS + column, g)?;
            }
        }
        Ok(())
    };
    let bytes = (4 * 7 * ids.len() * COLUMNS) as f64;
    let measured = context.measure(bytes, "B", &record, check)?;
    measured.note(format!("{} rows of {COLUMNS}, Adam", ids.len())).done()
}

/// One weight after Adam's first step.
fn stepped(before: &RowsPart, after: &RowsPart, at: usize, g: f64) -> Result<()> {
    let [w, m, v] = [&before.weights, &before.state[0], &before.state[1]].map(|values| f64::from(values[at]));
    let (mean, square) = (0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g);
    let scale = RATE / 0.1 / ((square / 0.001).sqrt() + 1e-8);
    let step = scale * mean;
    // Two roundings of the mean's terms, which may cancel; some of the quotient, in which the square has only terms of one sign; one of the weight.
    let tolerance =
        U * (w.abs() + step.abs()) + scale * 3.0 * U * (0.9 * m.abs() + 0.1 * g.abs()) + 20.0 * U * step.abs();
    near(&format!("weight {at}"), f64::from(after.weights[at]), w - step, tolerance)
}

/// All rows replay the steps that they missed.
fn catch_up(context: &Context<'_>, labels: usize) -> Result<Done> {
    let (gpu, control) = (context.gpu, &context.meter.control);
    let rows = table(gpu, labels)?;
    let mut optimiser = Optimiser::new(gpu, Rule::adam(), Mode::CatchUp, SEED)?;
    optimiser.resume(gpu, GAP, 0, |_| Ok(RATE))?;
    let record = |recording: &mut Recording| optimiser.record_catch_up(recording, gpu.caps(), &rows, Which::All, GAP);
    let some = 0..COMPARED.min(labels);
    let before = rows.read(gpu, some.clone())?;
    let first = context.meter.first(&record)?;
    if rows.read(gpu, some)?.weights != dense(gpu, &before)? {
        return Err(wrong(format!("rows that caught up {GAP} steps are not those of the dense kernel")));
    }
    let mut recording = Recording::new();
    record(&mut recording)?;
    let (timing, _) = context.meter.time_profiled(gpu, first.unwrap_or(0.0), |profile| {
        reset(gpu, &rows)?;
        let output = if profile { gpu.profile(&recording, control)? } else { gpu.run(&recording, control)? };
        Ok(Profiled { seconds: output.seconds, dispatches: output.kernel_times })
    })?;
    let bytes = (4 * 6 * labels * COLUMNS) as f64;
    let replayed = f64::from(GAP) * labels as f64 / timing.seconds;
    Measured::new(bytes, "B", timing).note(format!("{GAP} steps behind; {replayed:.2e} row steps/s")).done()
}

/// Weights of some rows after as many dense steps without a gradient.
fn dense(gpu: &Gpu, before: &RowsPart) -> Result<Vec<f32>> {
    let count = before.book.len();
    let rows = Rows::uninit(gpu, count, COLUMNS, 2)?;
    rows.write(gpu, before)?;
    let zeros = Tensor::from_slice(gpu, &[count, COLUMNS], &vec![0.0; count * COLUMNS])?;
    let mut optimiser = Optimiser::new(gpu, Rule::adam(), Mode::Dense, SEED)?;
    for _ in 0..GAP {
        optimiser.begin(gpu, RATE)?;
        let mut recording = Recording::new();
        optimiser.record_dense(&mut recording, gpu.caps(), &rows, &zeros)?;
        gpu.run(&recording, &crate::Control::default())?;
    }
    Ok(rows.read(gpu, 0..count)?.weights)
}

/// Tables over random rows.
struct Hashed {
    options: LshOptions,
    hasher: Hasher,
    tables: LshTables,
    host: Vec<f32>,
    rows: Tensor,
}

impl Hashed {
    fn new(gpu: &Gpu, labels: usize) -> Result<Self> {
        let options = LshOptions { seed: SEED, ..LshOptions::default() };
        let host: Vec<f32> = Random::new(SEED).values(labels * COLUMNS).iter().map(|v| v * 0.05).collect();
        Ok(Self {
            hasher: Hasher::new(gpu, &options, HIDDEN, 0)?,
            tables: LshTables::new(gpu, labels, &options)?,
            rows: Tensor::from_slice(gpu, &[labels, COLUMNS], &host)?,
            options,
            host,
        })
    }

    fn record(&self, recording: &mut Recording, gpu: &Gpu) -> Result<()> {
        self.tables.record_build(recording, gpu.caps(), &self.hasher, &self.rows)
    }

    /// Keys and ids `[tables, labels]`, all groups of tables one after the other.
    fn read(&self, gpu: &Gpu) -> Result<[Vec<u32>; 2]> {
        let mut both = [Vec::new(), Vec::new()];
        for (keys, ids) in self.tables.parts() {
            both[0].extend(keys.to_array(gpu)?);
            both[1].extend(ids.to_array(gpu)?);
        }
        Ok(both)
    }

    /// Keys of some rows are the host's, and every table has all labels in the order of their keys.
    fn check(&self, gpu: &Gpu) -> Result<()> {
        let labels = self.tables.labels();
        let [keys, ids] = self.read(gpu)?;
        for label in (0..labels).step_by((labels / COMPARED).max(1)) {
            let own = self.hasher.functions().keys(&self.host[label * COLUMNS..][..COLUMNS]);
            if (0..self.options.tables).any(|table| keys[table * labels + label] != own[table]) {
                return Err(wrong(format!("a key of row {label} is not the host's")));
            }
        }
        for (table, (keys, ids)) in keys.chunks(labels).zip(ids.chunks(labels)).enumerate() {
            // Pairs that rise name distinct labels, so all of them.
            let place = |id: u32| keys.get(id as usize).map(|&key| (key, id));
            let rises = ids.windows(2).all(|two| place(two[0]).is_some() && place(two[0]) < place(two[1]));
            if !rises {
                return Err(wrong(format!("table {table} does not have the labels in the order of their keys")));
            }
        }
        Ok(())
    }
}

/// Keys of all rows, and labels sorted by them.
fn build(context: &Context<'_>, labels: usize) -> Result<Done> {
    let gpu = context.gpu;
    let hashed = Hashed::new(gpu, labels)?;
    let record = |recording: &mut Recording| hashed.record(recording, gpu);
    let keys = hashed.options.tables * labels;
    let measured = context.measure(keys as f64, "keys", &record, || hashed.check(gpu))?;
    let LshOptions { codes, tables, .. } = hashed.options;
    // Rows are read once, keys and ids written once.
    let bytes = (4 * labels * COLUMNS + 8 * keys) as f64;
    measured.bound(bytes).note(format!("DWTA, K {codes}, L {tables}")).done()
}

/// Hidden vectors: about half of the elements are zeros, as behind a ReLU, and the bias is 1.
fn hidden(gpu: &Gpu) -> Result<(Vec<f32>, Tensor)> {
    let mut host: Vec<f32> = Random::new(SEED + 2).values(SAMPLES * COLUMNS).iter().map(|v| v.max(0.0)).collect();
    for row in host.chunks_exact_mut(COLUMNS) {
        row[HIDDEN..].fill(0.0);
        row[HIDDEN] = 1.0;
    }
    let h = Tensor::from_slice(gpu, &[SAMPLES, COLUMNS], &host)?;
    Ok((host, h))
}

/// What all tables hold for a batch of hidden vectors.
fn query(context: &Context<'_>, labels: usize) -> Result<Done> {
    let gpu = context.gpu;
    let hashed = Hashed::new(gpu, labels)?;
    let mut recording = Recording::new();
    hashed.record(&mut recording, gpu)?;
    gpu.run(&recording, &context.meter.control)?;
    let (host, h) = hidden(gpu)?;
    let query = Query::all(&hashed.options, 1);
    let workspace = QueryWorkspace::new(gpu, &hashed.options, SAMPLES)?;
    let out: Tensor<u32> = Tensor::uninit(gpu, &[SAMPLES, query.candidates()])?;
    let record = |recording: &mut Recording| {
        hashed.tables.record_query(recording, gpu.caps(), &hashed.hasher, &h, &workspace, &query, &out)
    };
    let check = || {
        let [keys, _] = hashed.read(gpu)?;
        let found: Vec<u32> = out.to_array(gpu)?.into_iter().collect();
        for sample in (0..SAMPLES).step_by(SAMPLES / 8) {
            let own = hashed.hasher.functions().keys(&host[sample * COLUMNS..][..COLUMNS]);
            for (table, &key) in own.iter().enumerate() {
                let of_table = &keys[table * labels..][..labels];
                let given = &found[sample * query.candidates() + table * query.bucket..][..query.bucket];
                let ids: Vec<u32> = given.iter().copied().filter(|&id| id != u32::MAX).collect();
                let there = of_table.iter().filter(|&&other| other == key).count();
                let right = |&id: &u32| of_table.get(id as usize) == Some(&key);
                if ids.len() != there.min(query.bucket) || !ids.iter().all(right) {
                    return Err(wrong(format!("table {table} gives sample {sample} other labels than its bucket's")));
                }
            }
        }
        Ok(())
    };
    let measured = context.measure(SAMPLES as f64, "samples", &record, check)?;
    // Every id is read from its bucket and written once.
    let candidates = SAMPLES * query.candidates();
    let note = format!("L {}, {} ids of a bucket at most", query.tables, query.bucket);
    measured.bound(8.0 * candidates as f64).note(note).done()
}

/// The best labels of a batch of hidden vectors among all.
fn exact(context: &Context<'_>, labels: usize) -> Result<Done> {
    let gpu = context.gpu;
    let host: Vec<f32> = Random::new(SEED).values(labels * COLUMNS).iter().map(|v| v * 0.05).collect();
    let rows = Tensor::from_slice(gpu, &[labels, COLUMNS], &host)?;
    let (vectors, h) = hidden(gpu)?;
    let exact = pollster::block_on(Exact::new_async(gpu, SAMPLES, labels, COLUMNS, BEST))?;
    let record = |recording: &mut Recording| exact.record(recording, gpu.caps(), &h, &rows);
    let check = || {
        let mut recording = Recording::new();
        let tickets = exact.top.record_read(&mut recording);
        let ranking = exact.top.take(&mut gpu.run(&recording, &context.meter.control)?, tickets)?;
        for sample in (0..SAMPLES).step_by(SAMPLES / 4) {
            let own = &vectors[sample * COLUMNS..][..COLUMNS];
            ranked(own, &host, ranking.row(sample), ranking.row_logits(sample))?;
        }
        Ok(())
    };
    let scored = (SAMPLES * labels) as f64;
    let measured = context.measure(scored, "labels", &record, check)?;
    measured.bound(2.0 * COLUMNS as f64 * scored).note(format!("best {BEST} of {labels} for {SAMPLES} samples")).done()
}

/// Logits are those of f64, and no other label has a larger one.
fn ranked(h: &[f32], rows: &[f32], best: &[u32], logits: &[f32]) -> Result<()> {
    let score = |row: &[f32]| {
        let terms = || h.iter().zip(row).map(|(a, b)| f64::from(*a) * f64::from(*b));
        (terms().sum::<f64>(), gamma(COLUMNS) * terms().map(f64::abs).sum::<f64>())
    };
    for (&label, &logit) in best.iter().zip(logits) {
        let (z, tolerance) = score(&rows[label as usize * COLUMNS..][..COLUMNS]);
        near(&format!("the logit of label {label}"), f64::from(logit), z, tolerance)?;
    }
    let least = logits.last().copied().map_or(f64::NEG_INFINITY, f64::from);
    for (label, row) in (0..).zip(rows.chunks_exact(COLUMNS)) {
        let (z, tolerance) = score(row);
        if z - tolerance > least && !best.contains(&label) {
            return Err(wrong(format!("label {label} with logit {z} is missing above {least}")));
        }
    }
    if best.len() == BEST { Ok(()) } else { Err(wrong(format!("{} labels of {BEST}", best.len()))) }
}
