//! Gradients summed from entries, in the three forms, and the step on listed rows alone.

use wavehull::gpu::Recording;
use wavehull::hash::Batch;
use wavehull::hash::optimiser::{Entries, Mode, Optimiser, Rule, Which, record_sums};
use wavehull::hash::rows::{RowsPart, Storage, Touched};
use wavehull::hash::set::{Lists, SparseSet};
use wavehull::{ErrorKind, Gpu, Options, Tensor};

use crate::common::{self, POISON, Random, U, broken};
use crate::{RULES, bits, distinct, list, on_both, part_bits, random_part, run, table};

/// A table, a list of some of its rows, and entries of each: none, few, many.
struct Case {
    start: RowsPart,
    rows: Vec<u32>,
    counts: Vec<usize>,
    columns: usize,
    per_sample: usize,
    /// Of each entry: the pair, its coefficient.
    entries: Vec<(usize, f32)>,
    sources: Vec<f32>,
}

fn case(seed: u64, columns: usize, states: usize) -> Case {
    let mut random = Random::new(seed);
    let (count, samples, per_sample) = (300, 90, 7);
    let rows = distinct(&mut random, count, 60);
    let counts: Vec<usize> = (0..60).map(|i| [1, 0, 2, 5, 4, 3, 64, 7, 90, 8][i % 10]).collect();
    // Every row has its entries from samples of their own, ascending, as a sort by label leaves them.
    let mut entries = Vec::new();
    for &n in &counts {
        for sample in distinct(&mut random, samples, n) {
            let coefficient = (random.unit() * [1.0, 1e-6, 1e3][random.below(3)]) as f32;
            entries.push((sample as usize * per_sample + random.below(per_sample), coefficient));
        }
    }
    let start = random_part(&mut random, count, columns, states);
    Case { start, rows, counts, columns, per_sample, entries, sources: random.floats(samples * columns) }
}

/// What a case is on a device.
struct Uploaded {
    touched: Touched,
    sources: Tensor,
    order: Tensor<u32>,
    coefficients: Tensor,
    entries: Tensor<u32>,
}

impl Case {
    fn upload(&self, gpu: &Gpu) -> Uploaded {
        let samples = self.sources.len() / self.columns;
        let order: Vec<u32> = self.entries.iter().map(|e| u32::try_from(e.0).unwrap()).collect();
        // Pairs that stand for several entries would have one coefficient: each entry gets a place of its own behind.
        let mut coefficients = vec![0.0; samples * self.per_sample];
        for &(pair, c) in &self.entries {
            coefficients[pair] = c;
        }
        let word = |sample: usize| u32::try_from(sample / self.per_sample).unwrap();
        let entries: Vec<u32> =
            self.entries.iter().flat_map(|&(pair, _)| [word(pair), coefficients[pair].to_bits()]).collect();
        Uploaded {
            touched: list(gpu, &self.rows, &self.counts, self.rows.len() + 9),
            sources: common::tensor(gpu, &[samples, self.columns], &self.sources),
            order: common::tensor(gpu, &[order.len()], &order),
            coefficients: common::tensor(gpu, &[coefficients.len()], &coefficients),
            entries: common::tensor(gpu, &[entries.len()], &entries),
        }
    }

    /// Sums in f64 with what f32 may be off: a chain of n roundings.
    fn sums(&self, up: &Uploaded, gpu: &Gpu) -> Vec<Vec<(f64, f64)>> {
        let coefficients = up.coefficients.to_array(gpu).unwrap();
        let mut at = 0;
        let mut sums = Vec::new();
        for &n in &self.counts {
            let mut row = vec![(0.0, 0.0); self.columns];
            for &(pair, _) in &self.entries[at..at + n] {
                let c = f64::from(coefficients[[pair]]);
                for (j, (sum, size)) in row.iter_mut().enumerate() {
                    let x = f64::from(self.sources[pair / self.per_sample * self.columns + j]);
                    (*sum, *size) = (*sum + c * x, *size + (c * x).abs());
                }
            }
            at += n;
            sums.push(row.into_iter().map(|(sum, size)| (sum, (n + 1) as f64 * U * size)).collect());
        }
        sums
    }
}

impl Uploaded {
    fn forms(&self, per_sample: usize) -> [Entries<'_>; 2] {
        let Self { order, coefficients, sources, entries, .. } = self;
        [Entries::Pairs { order, coefficients, per_sample, sources }, Entries::Samples { entries, sources }]
    }
}

fn recorded_sums(gpu: &Gpu, up: &Uploaded, entries: &Entries<'_>, columns: usize) -> (Recording, Tensor) {
    let out = common::poisoned(gpu, &[up.touched.capacity, columns]);
    let mut recording = Recording::new();
    record_sums(&mut recording, gpu.caps(), &up.touched, entries, &out).unwrap();
    (recording, out)
}

fn compare(case: &Case, expected: &[Vec<(f64, f64)>], got: &[f32]) -> Result<(), String> {
    for (i, row) in expected.iter().enumerate() {
        common::compare(&got[i * case.columns..][..case.columns], row).map_err(|why| format!("row {i}: {why}"))?;
    }
    let behind = &got[expected.len() * case.columns..];
    if behind.iter().all(|v| v.to_bits() == POISON) { Ok(()) } else { Err("written behind the list".into()) }
}

#[test]
fn sums_of_entries_are_those_of_f64() {
    on_both("sums_of_entries_are_those_of_f64", |gpu| {
        for columns in [4, 12, 132] {
            let case = case(columns as u64, columns, 0);
            let up = case.upload(gpu);
            let expected = case.sums(&up, gpu);
            let mut seen = Vec::new();
            for entries in up.forms(case.per_sample) {
                let (recording, out) = recorded_sums(gpu, &up, &entries, columns);
                let got = common::run::<f32>(gpu, &recording, &out, false);
                compare(&case, &expected, &got).unwrap_or_else(|why| panic!("{columns} columns: {why}"));
                seen.push(got.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
            }
            assert!(seen[0] == seen[1], "pairs and samples differ");
        }
    });
}

#[test]
fn broken_sums_are_noticed() {
    let Some(gpu) = common::device("broken_sums_are_noticed", false) else { return };
    let case = case(3, 12, 0);
    let up = case.upload(gpu);
    let expected = case.sums(&up, gpu);
    for (from, to) in [
        ("e + 4u <= end", "e + 4u < end + 2u"),
        ("list[i + 2u].y", "list[i + 2u].y - 1u"),
        ("quotient(pair, p.per_sample)", "quotient(pair, p.per_sample + 1u)"),
        ("fma(vec4<f32>(one.c)", "fma(vec4<f32>(one.c * 1.0001)"),
    ] {
        let (recording, out) = recorded_sums(gpu, &up, &up.forms(case.per_sample)[0], case.columns);
        let got = common::run::<f32>(gpu, &broken(&recording, "row_update", from, to), &out, false);
        assert!(compare(&case, &expected, &got).is_err(), "'{to}' went unseen");
    }
}

/// One step with entries, on a fresh table: all its bits, and its book.
fn stepped(gpu: &Gpu, rule: Rule, case: &Case, form: usize) -> (Vec<Vec<u32>>, Vec<[u32; 4]>) {
    let rows = table(gpu, case.columns, Storage::F32, &case.start);
    let up = case.upload(gpu);
    let mut optimiser = Optimiser::new(gpu, rule, Mode::Lazy, 0).unwrap();
    optimiser.begin(gpu, 1e-2).unwrap();
    let step = optimiser.begin(gpu, 1e-2).unwrap();
    assert_eq!(step, 2);
    let mut recording = Recording::new();
    let forms = up.forms(case.per_sample);
    if let Some(entries) = forms.get(form) {
        let which = Which::Touched(&up.touched);
        optimiser.record_update(&mut recording, gpu.caps(), &rows, which, entries).unwrap();
    } else {
        // The sums as a panel, by list and by ids.
        let (sums, out) = recorded_sums(gpu, &up, &forms[0], case.columns);
        run(gpu, &sums);
        let ids = Tensor::from_slice(gpu, &[case.rows.len()], &case.rows).unwrap();
        let short = out.view(&[case.rows.len(), case.columns]).unwrap();
        let (which, panel) = if form == 2 { (Which::Touched(&up.touched), &out) } else { (Which::Ids(&ids), &short) };
        optimiser.record_update(&mut recording, gpu.caps(), &rows, which, &Entries::Panel(panel)).unwrap();
    }
    run(gpu, &recording);
    (bits(gpu, &rows), rows.book(gpu).unwrap())
}

#[test]
fn every_form_of_entries_steps_listed_rows_alone_and_with_the_same_bits() {
    on_both("every_form_of_entries_steps_listed_rows_alone_and_with_the_same_bits", |gpu| {
        for rule in RULES {
            let case = case(17, 12, rule.states());
            let (expected, book) = stepped(gpu, rule, &case, 0);
            for form in 1..4 {
                let (got, its_book) = stepped(gpu, rule, &case, form);
                assert!(got == expected && its_book == book, "{rule:?}, form {form}");
            }
            let before = part_bits(&case.start);
            for (row, line) in book.iter().enumerate() {
                let listed = case.rows.binary_search(&(row as u32)).is_ok();
                let own = row * 12..(row + 1) * 12;
                let same = before.iter().zip(&expected).all(|(a, b)| a[own.clone()] == b[own.clone()]);
                assert!(listed || same, "{rule:?}: row {row} was not listed");
                assert_eq!(*line, if listed { [2, 2, 1, 0] } else { [0; 4] }, "{rule:?}, row {row}");
            }
            assert!(before[0] != expected[0]);
        }
    });
}

#[test]
fn listed_steps_are_dense_steps_of_the_same_gradients() {
    on_both("listed_steps_are_dense_steps_of_the_same_gradients", |gpu| {
        for rule in RULES {
            let case = case(23, 8, rule.states());
            let (stepped, _) = stepped(gpu, rule, &case, 0);
            let up = case.upload(gpu);
            let (sums, out) = recorded_sums(gpu, &up, &up.forms(case.per_sample)[0], 8);
            let sums = common::run::<f32>(gpu, &sums, &out, false);
            let mut gradients = vec![0.0; case.start.weights.len()];
            for (i, &row) in case.rows.iter().enumerate() {
                gradients[row as usize * 8..][..8].copy_from_slice(&sums[i * 8..][..8]);
            }
            let rows = table(gpu, 8, Storage::F32, &case.start);
            let mut optimiser = Optimiser::new(gpu, rule, Mode::Dense, 0).unwrap();
            optimiser.begin(gpu, 1e-2).unwrap();
            crate::dense_step(gpu, &mut optimiser, 1e-2, &rows, &gradients);
            let dense = bits(gpu, &rows);
            for &row in &case.rows {
                let own = row as usize * 8..(row as usize + 1) * 8;
                let same = stepped.iter().zip(&dense).all(|(a, b)| a[own.clone()] == b[own.clone()]);
                assert!(same, "{rule:?}: row {row}");
            }
        }
    });
}

#[test]
fn windows_of_a_table_give_the_bits_of_one_dispatch() {
    let Some(whole) = common::device("windows_of_a_table_give_the_bits_of_one_dispatch", false) else { return };
    let mut options = Options::default();
    options.max_binding = Some(64 << 10);
    let small = Gpu::open(&options).unwrap();
    for rule in RULES {
        let case = case(29, 132, rule.states());
        for form in 0..4 {
            let windows = table(&small, 132, Storage::F32, &case.start).windows(small.caps()).unwrap();
            assert!(windows.len() > 2, "{windows:?}");
            assert!(stepped(&small, rule, &case, form) == stepped(whole, rule, &case, form), "{rule:?}, form {form}");
        }
        let dense = |gpu: &Gpu| {
            let rows = table(gpu, 132, Storage::F32, &case.start);
            let mut optimiser = Optimiser::new(gpu, rule, Mode::Dense, 0).unwrap();
            crate::dense_step(gpu, &mut optimiser, 1e-2, &rows, &case.start.weights);
            bits(gpu, &rows)
        };
        assert!(dense(&small) == dense(whole), "{rule:?}, dense");
    }
}

#[test]
fn the_lists_of_a_batch_sum_its_samples() {
    let Some(gpu) = common::device("the_lists_of_a_batch_sum_its_samples", false) else { return };
    let mut random = Random::new(4);
    let mut set = SparseSet { feature_count: 40, label_count: 1, ..SparseSet::default() };
    (set.features.offsets, set.labels) = (vec![0], Lists { offsets: vec![0; 31], ids: vec![] });
    for _ in 0..30 {
        let count = random.below(9);
        set.features.ids.extend(distinct(&mut random, 40, count));
        set.features.offsets.push(set.features.ids.len());
    }
    set.values = random.floats(set.features.ids.len());
    set.check().unwrap();
    let chosen: Vec<u32> = (0..30).rev().collect();
    let batch = Batch::new(&set, &chosen).unwrap();
    let touched = Touched::uninit(gpu, 60).unwrap();
    touched.write(gpu, &batch.touched).unwrap();
    let sources = random.floats(30 * 8);
    let sources_on = Tensor::from_slice(gpu, &[30, 8], &sources).unwrap();
    let words: &[u32] = bytemuck::cast_slice(&batch.entries);
    let entries = Tensor::from_slice(gpu, &[words.len()], words).unwrap();
    let out = common::poisoned(gpu, &[60, 8]);
    let mut recording = Recording::new();
    let form = Entries::Samples { entries: &entries, sources: &sources_on };
    record_sums(&mut recording, gpu.caps(), &touched, &form, &out).unwrap();
    let got = common::run::<f32>(gpu, &recording, &out, false);
    for (i, line) in batch.touched[1..=batch.touched_rows()].iter().enumerate() {
        for j in 0..8 {
            let (mut sum, mut size) = (0.0, 0.0);
            for (at, &sample) in chosen.iter().enumerate() {
                let own = set.features.range(sample as usize);
                let ids = set.features.ids[own.clone()].iter().zip(&set.values[own]);
                let value = ids.filter(|(id, _)| **id == line[0]).map(|(_, v)| f64::from(*v)).next();
                let value = if line[0] == 40 { Some(1.0) } else { value };
                let term = value.unwrap_or(0.0) * f64::from(sources[at * 8 + j]);
                (sum, size) = (sum + term, size + term.abs());
            }
            common::compare(&got[i * 8 + j..=i * 8 + j], &[(sum, 31.0 * U * size)]).unwrap();
        }
    }
}

#[test]
fn misfits_are_refused() {
    let Some(gpu) = common::device("misfits_are_refused", false) else { return };
    let case = case(1, 8, 2);
    let up = case.upload(gpu);
    let rows = table(gpu, 8, Storage::F32, &case.start);
    let [mut optimiser, mut sgd] = [Rule::adam(), Rule::Sgd].map(|r| Optimiser::new(gpu, r, Mode::Lazy, 0).unwrap());
    let narrow = Tensor::uninit(gpu, &[up.touched.capacity, 4]).unwrap();
    let ids = Tensor::from_slice(gpu, &[3], &[1, 2, 3]).unwrap();
    let panel = Tensor::uninit(gpu, &[3, 8]).unwrap();
    let [pairs, _] = up.forms(case.per_sample);
    let touched = Which::Touched(&up.touched);
    let refuse = |optimiser: &Optimiser, which: Which<'_>, entries: Entries<'_>| {
        let mut recording = Recording::new();
        let error = optimiser.record_update(&mut recording, gpu.caps(), &rows, which, &entries).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    };
    refuse(&optimiser, touched, pairs);
    optimiser.begin(gpu, 1e-3).unwrap();
    sgd.begin(gpu, 1e-3).unwrap();
    refuse(&sgd, touched, pairs);
    refuse(&optimiser, touched, Entries::Panel(&narrow));
    refuse(&optimiser, touched, Entries::Panel(&panel));
    refuse(&optimiser, Which::Ids(&ids), pairs);
    refuse(&optimiser, Which::All, Entries::Panel(&panel));
    let mut recording = Recording::new();
    assert!(optimiser.record_dense(&mut recording, gpu.caps(), &rows, &panel).is_err());
    assert!(Optimiser::new(gpu, Rule::Adam { beta1: 1.0, beta2: 0.9, epsilon: 1e-8 }, Mode::Lazy, 0).is_err());
    let many = Tensor::uninit(gpu, &[200_001, 8]).unwrap();
    let form = Entries::Samples { entries: &up.entries, sources: &many };
    let error = optimiser.record_update(&mut recording, gpu.caps(), &rows, touched, &form).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig);
}
