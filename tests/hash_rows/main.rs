//! Ring 1: tables of rows and their optimisers (`row_update`, `row_dense`, `row_catch_up`).
#![cfg(feature = "hash")]

mod bf16;
mod catch_up;
#[path = "../common/mod.rs"]
mod common;
mod cost;
mod rules;
mod table;
mod update;

use wavehull::gpu::Recording;
use wavehull::hash::optimiser::{Entries, Optimiser, Rule, Which};
use wavehull::hash::rows::{Rows, RowsPart, Storage, Touched};
use wavehull::{Control, Gpu, Tensor};

use common::Random;

/// Runs `check` on the trusted and on the checked device.
fn on_both(test: &str, check: impl Fn(&Gpu)) {
    for checked in [false, true] {
        if let Some(gpu) = common::device(test, checked) {
            check(gpu);
        }
    }
}

/// The rules with their usual numbers.
const RULES: [Rule; 3] = [Rule::adam(), Rule::adagrad(), Rule::Sgd];

/// A table that holds `part`.
fn table(gpu: &Gpu, columns: usize, storage: Storage, part: &RowsPart) -> Rows {
    let rows = Rows::stored(gpu, part.book.len(), columns, part.state.len(), storage, 1).unwrap();
    rows.write(gpu, part).unwrap();
    rows
}

/// Random rows with a state that a rule could have reached.
fn random_part(random: &mut Random, rows: usize, columns: usize, states: usize) -> RowsPart {
    let n = rows * columns;
    let mut state = vec![random.floats(n).iter().map(|v| 0.01 * v).collect::<Vec<f32>>()];
    state.push(random.floats(n).iter().map(|v| 1e-4 * v * v).collect());
    // Adagrad has squares only.
    let state = state[2 - states..].to_vec();
    RowsPart { first: 0, weights: random.floats(n), state, book: vec![[0; 4]; rows] }
}

/// Bits of all of a table.
fn bits(gpu: &Gpu, rows: &Rows) -> Vec<Vec<u32>> {
    let part = rows.read(gpu, 0..rows.len()).unwrap();
    part_bits(&part)
}

fn part_bits(part: &RowsPart) -> Vec<Vec<u32>> {
    let bits = |values: &Vec<f32>| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
    [vec![bits(&part.weights)], part.state.iter().map(bits).collect()].concat()
}

fn run(gpu: &Gpu, recording: &Recording) {
    gpu.run(recording, &Control::default()).unwrap();
}

/// A list whose row i has `counts[i]` entries. Behind it stands what a longer list of an earlier step left.
fn list(gpu: &Gpu, rows: &[u32], counts: &[usize], capacity: usize) -> Touched {
    let touched = Touched::uninit(gpu, capacity).unwrap();
    let poison = vec![common::POISON; common::words(&touched.list)];
    gpu.upload(touched.list.buffer(), bytemuck::cast_slice(&poison)).unwrap();
    let stale: Vec<[u32; 2]> = (0..).map(|row| [row, row]).take(capacity + 2).collect();
    touched.write(gpu, &stale).unwrap();
    let word = |n: usize| u32::try_from(n).unwrap();
    let mut words = vec![[word(rows.len()), word(counts.iter().sum())]];
    let mut first = 0;
    for (&row, &count) in rows.iter().zip(counts) {
        words.push([row, word(first)]);
        first += count;
    }
    words.push([u32::MAX, word(first)]);
    touched.write(gpu, &words).unwrap();
    touched
}

/// Distinct ids below `n`, ascending.
fn distinct(random: &mut Random, n: usize, count: usize) -> Vec<u32> {
    let mut all: Vec<u32> = (0..u32::try_from(n).unwrap()).collect();
    random.shuffle(&mut all);
    all.truncate(count);
    all.sort_unstable();
    all
}

/// One step of all rows with these gradients.
fn dense_step(gpu: &Gpu, optimiser: &mut Optimiser, rate: f64, rows: &Rows, gradients: &[f32]) {
    optimiser.begin(gpu, rate).unwrap();
    let gradients = Tensor::from_slice(gpu, &[rows.len(), rows.columns()], gradients).unwrap();
    let mut recording = Recording::new();
    optimiser.record_dense(&mut recording, gpu.caps(), rows, &gradients).unwrap();
    run(gpu, &recording);
}

/// One step of listed rows with the gradients of a panel.
fn panel_step(gpu: &Gpu, optimiser: &mut Optimiser, rate: f64, rows: &Rows, ids: &[u32], panel: &[f32]) {
    optimiser.begin(gpu, rate).unwrap();
    let (ids, panel) = uploaded(gpu, rows.columns(), ids, panel);
    let mut recording = Recording::new();
    let (which, through) = (Which::Ids(&ids), optimiser.step() - 1);
    optimiser.record_catch_up(&mut recording, gpu.caps(), rows, which, through).unwrap();
    optimiser.record_update(&mut recording, gpu.caps(), rows, which, &Entries::Panel(&panel)).unwrap();
    run(gpu, &recording);
}

fn uploaded(gpu: &Gpu, columns: usize, ids: &[u32], panel: &[f32]) -> (Tensor<u32>, Tensor) {
    let panel = Tensor::from_slice(gpu, &[ids.len(), columns], panel).unwrap();
    (Tensor::from_slice(gpu, &[ids.len()], ids).unwrap(), panel)
}

/// Catches up through the last step, everywhere or in some rows.
fn catch_up(gpu: &Gpu, optimiser: &Optimiser, rows: &Rows, ids: Option<&[u32]>) -> Recording {
    let mut recording = Recording::new();
    let ids = ids.map(|ids| Tensor::from_slice(gpu, &[ids.len()], ids).unwrap());
    let which = ids.as_ref().map_or(Which::All, Which::Ids);
    optimiser.record_catch_up(&mut recording, gpu.caps(), rows, which, optimiser.step()).unwrap();
    recording
}
