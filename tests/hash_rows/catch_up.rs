//! Rows that catch up are what dense steps would have made of them, bit for bit.

use wavehull::gpu::Recording;
use wavehull::hash::optimiser::{HORIZON, Mode, Optimiser, Rule, Which};
use wavehull::hash::rows::{Rows, RowsPart, Storage};
use wavehull::{ErrorKind, Gpu, Options, Tensor};

use crate::common::{self, Random, broken};
use crate::{bits, catch_up, dense_step, on_both, panel_step, random_part, run, table};

/// Rises for a tenth of the way (from 0, which is a rate too), falls for the rest, with a jump in the middle.
fn schedule(t: u32, steps: u32) -> f64 {
    let (t, steps) = (f64::from(t), f64::from(steps));
    let rise = ((t - 1.0) / (0.1 * steps)).min(1.0);
    let jump = if t > 0.5 * steps { 3.0 } else { 1.0 };
    1e-2 * rise * jump * (1.0 - 0.9 * t / steps)
}

/// The same recorded gradients for a dense table and for one that catches up.
struct Race {
    rows: usize,
    columns: usize,
    steps: u32,
    start: RowsPart,
}

/// Rows of a step by a power law (low numbers often, the upper tenth never) and their gradients.
fn touched(race: &Race, random: &mut Random) -> (Vec<u32>, Vec<f32>) {
    let reach = race.rows as f64 * 0.9;
    let mut ids: Vec<u32> = (0..40).map(|_| (random.unit().abs().powi(4) * reach) as u32).collect();
    ids.sort_unstable();
    ids.dedup();
    let panel = (0..ids.len() * race.columns).map(|_| (random.unit() * 10_f64.powi(random.below(6) as i32 - 5)) as f32);
    (ids.clone(), panel.collect())
}

impl Race {
    fn new(rows: usize, columns: usize, steps: u32) -> Self {
        let mut start = random_part(&mut Random::new(1), rows, columns, 2);
        start.state.iter_mut().flatten().for_each(|v| *v = 0.0);
        start.weights.iter_mut().for_each(|w| *w *= 0.05);
        // A column of zeros behind, as tables have, and a row of them.
        start.weights.chunks_mut(columns).for_each(|row| row[columns - 1] = 0.0);
        start.weights[..columns].fill(0.0);
        Self { rows, columns, steps, start }
    }

    fn gradients(&self, ids: &[u32], panel: &[f32]) -> Vec<f32> {
        let mut gradients = vec![0.0; self.rows * self.columns];
        for (&row, from) in ids.iter().zip(panel.chunks(self.columns)) {
            gradients[row as usize * self.columns..][..self.columns].copy_from_slice(from);
        }
        gradients
    }

    /// Both tables after all steps, before the last sweep of the one that is behind. `between` sees both after each step.
    fn run(
        &self,
        gpu: &Gpu,
        mode: Mode,
        mut between: impl FnMut(u32, &Rows, &mut Optimiser, &Rows),
    ) -> (Rows, Optimiser, Rows) {
        let [dense, lazy] = [(); 2].map(|()| table(gpu, self.columns, Storage::F32, &self.start));
        let mut reference = Optimiser::new(gpu, Rule::adam(), Mode::Dense, 0).unwrap();
        let mut optimiser = Optimiser::new(gpu, Rule::adam(), mode, 0).unwrap();
        let mut random = Random::new(77);
        for t in 1..=self.steps {
            let (ids, panel) = touched(self, &mut random);
            let rate = schedule(t, self.steps);
            dense_step(gpu, &mut reference, rate, &dense, &self.gradients(&ids, &panel));
            panel_step(gpu, &mut optimiser, rate, &lazy, &ids, &panel);
            between(t, &dense, &mut optimiser, &lazy);
        }
        (dense, optimiser, lazy)
    }
}

fn race(gpu: &Gpu, race: &Race) {
    let mut random = Random::new(5);
    let (dense, optimiser, lazy) = race.run(gpu, Mode::CatchUp, |t, dense, optimiser, lazy| {
        if t % 131 == 40 {
            // Rows are read in between, some of them far behind.
            let ids = crate::distinct(&mut random, race.rows, 50);
            run(gpu, &catch_up(gpu, optimiser, lazy, Some(&ids)));
            let (all, own) = (bits(gpu, dense), bits(gpu, lazy));
            for &row in &ids {
                let range = row as usize * race.columns..(row as usize + 1) * race.columns;
                let same = all.iter().zip(&own).all(|(a, b)| a[range.clone()] == b[range.clone()]);
                assert!(same, "row {row} is read after step {t}");
            }
        } else if t == race.steps * 2 / 3 {
            let mut recording = Recording::new();
            optimiser.record_sweep(&mut recording, gpu.caps(), &[lazy], t).unwrap();
            run(gpu, &recording);
            assert!(bits(gpu, dense) == bits(gpu, lazy), "a sweep after step {t}");
        }
    });
    let book = lazy.book(gpu).unwrap();
    let behind = |line: &&[u32; 4]| line[0] + 10 < race.steps;
    assert!(book.iter().filter(behind).count() > race.rows / 10 && book.iter().any(|line| line[2] == 0));
    assert!(bits(gpu, &dense) != bits(gpu, &lazy), "nothing is behind");
    run(gpu, &catch_up(gpu, &optimiser, &lazy, None));
    assert!(bits(gpu, &dense) == bits(gpu, &lazy), "the end");
    assert!(lazy.book(gpu).unwrap().iter().all(|line| line[0] == race.steps));
}

#[test]
fn a_thousand_steps_on_5000_labels_equal_dense_steps_bit_for_bit() {
    let Some(gpu) = common::device("a_thousand_steps_on_5000_labels_equal_dense_steps_bit_for_bit", false) else {
        return;
    };
    race(gpu, &Race::new(5000, 8, 1000));
}

#[test]
fn fewer_steps_do_too_with_checks() {
    on_both("fewer_steps_do_too_with_checks", |gpu| race(gpu, &Race::new(300, 12, 250)));
}

#[test]
fn lazy_steps_do_not() {
    let Some(gpu) = common::device("lazy_steps_do_not", false) else { return };
    let (dense, optimiser, lazy) = Race::new(300, 12, 60).run(gpu, Mode::Lazy, |_, _, _, _| ());
    assert!(catch_up(gpu, &optimiser, &lazy, None).commands().is_empty());
    assert!(bits(gpu, &dense) != bits(gpu, &lazy));
}

/// Elements of every kind: sizes from subnormal to huge, zeros of both signs, powers of two (whose neighbour below is nearer), weights far larger and
/// far smaller than their moves.
fn hostile(random: &mut Random, rows: usize, columns: usize) -> RowsPart {
    let mut part = RowsPart { book: vec![[0; 4]; rows], state: vec![Vec::new(), Vec::new()], ..RowsPart::default() };
    let mut number = |low: i32, high: i32| {
        let size = 2_f64.powi(low + random.below((high - low) as usize) as i32);
        let mantissa = if random.below(3) == 0 { 1.0 } else { 1.0 + random.unit().abs() };
        let sign = if random.coin() { 1.0 } else { -1.0 };
        (match random.below(20) {
            0 => 0.0,
            1 => f64::from(f32::from_bits(1 + random.below(5000) as u32)),
            _ => size * mantissa,
        } * sign) as f32
    };
    for i in 0..rows * columns {
        // Whole vectors of ordinary elements, or one odd element would keep all of its vector from settling.
        let wide = (i / 4) % 2 == 0;
        part.weights.push(if wide { number(-30, 10) } else { number(-8, 1) });
        part.state[0].push(if wide { number(-60, 3) } else { number(-20, -8) });
        part.state[1].push(if wide { number(-126, 6) } else { number(-30, -10) }.abs());
    }
    part
}

struct Gaps {
    start: RowsPart,
    rule: Rule,
    first: u32,
    rate: fn(u32) -> f64,
}

const ROWS: usize = 96;
const COLUMNS: usize = 16;

impl Gaps {
    fn new(seed: u64, rule: Rule, first: u32, rate: fn(u32) -> f64) -> Self {
        let mut start = hostile(&mut Random::new(seed), ROWS, COLUMNS);
        start.book.iter_mut().for_each(|line| line[0] = first);
        Self { start, rule, first, rate }
    }

    /// What dense steps without gradients make of the table after each of these gaps.
    fn dense(&self, gpu: &Gpu, gaps: &[u32]) -> Vec<Vec<Vec<u32>>> {
        let rows = table(gpu, COLUMNS, Storage::F32, &self.start);
        let mut optimiser = Optimiser::new(gpu, self.rule, Mode::Dense, 0).unwrap();
        optimiser.resume(gpu, self.first, self.first, |t| Ok((self.rate)(t))).unwrap();
        let zeros = Tensor::from_slice(gpu, &[ROWS, COLUMNS], &[0.0; ROWS * COLUMNS]).unwrap();
        let mut seen = Vec::new();
        let mut done = 0;
        for &gap in gaps {
            let mut recording = Recording::new();
            while done < gap {
                done += 1;
                optimiser.begin(gpu, (self.rate)(self.first + done)).unwrap();
                optimiser.record_dense(&mut recording, gpu.caps(), &rows, &zeros).unwrap();
            }
            run(gpu, &recording);
            seen.push(bits(gpu, &rows));
        }
        seen
    }

    /// What a replay makes of it, perhaps by a broken kernel.
    fn replayed(&self, gpu: &Gpu, gap: u32, change: &dyn Fn(&Recording) -> Recording) -> Vec<Vec<u32>> {
        let rows = table(gpu, COLUMNS, Storage::F32, &self.start);
        let mut optimiser = Optimiser::new(gpu, self.rule, Mode::CatchUp, 0).unwrap();
        optimiser.resume(gpu, self.first + gap, self.first, |t| Ok((self.rate)(t))).unwrap();
        let recording = catch_up(gpu, &optimiser, &rows, None);
        if gap > 0 {
            run(gpu, &change(&recording));
        }
        bits(gpu, &rows)
    }
}

fn falling(t: u32) -> f64 {
    1e-2 / f64::from(t).sqrt()
}

fn rising(t: u32) -> f64 {
    1e-6 * f64::from(t)
}

/// Almost nothing, then suddenly much: what is settled for now moves later.
fn sudden(t: u32) -> f64 {
    if t % 1000 < 900 { 1e-7 } else { 0.1 }
}

/// Places at which two tables differ, for messages.
fn differences(a: &[Vec<u32>], b: &[Vec<u32>]) -> Vec<(usize, usize, u32, u32)> {
    let of = |(i, (a, b)): (usize, (&Vec<u32>, &Vec<u32>))| {
        let places = a.iter().zip(b).enumerate().filter(|(_, (a, b))| a != b);
        places.map(|(j, (a, b))| (i, j, *a, *b)).collect::<Vec<_>>()
    };
    a.iter().zip(b).enumerate().flat_map(of).take(4).collect()
}

#[test]
fn every_gap_of_hostile_rows_equals_dense_steps() {
    on_both("every_gap_of_hostile_rows_equals_dense_steps", |gpu| {
        let adam = |beta1, beta2| Rule::Adam { beta1, beta2, epsilon: 1e-8 };
        let cases = [
            Gaps::new(1, adam(0.9, 0.999), 0, falling),
            Gaps::new(2, adam(0.9, 0.999), 7, sudden),
            Gaps::new(3, adam(0.9, 0.999), 123_456, rising),
            Gaps::new(4, adam(0.5, 0.9), 1, sudden),
            Gaps::new(5, adam(0.0, 0.99), 3, falling),
            Gaps::new(6, adam(0.99, 0.5), 40, rising),
        ];
        for (number, case) in cases.iter().enumerate() {
            let mut gaps = vec![0, 1, 2, 7, 8, 9, 15, 16, 17, 33, 64, 100, 257, HORIZON - 1, HORIZON];
            let mut random = Random::new(number as u64 + 99);
            gaps.extend((0..9).map(|_| random.below(HORIZON as usize) as u32));
            gaps.extend((0..9).map(|_| random.below(300) as u32));
            gaps.sort_unstable();
            for (gap, expected) in gaps.iter().zip(case.dense(gpu, &gaps)) {
                let got = case.replayed(gpu, *gap, &Recording::clone);
                let differ = differences(&got, &expected);
                assert!(differ.is_empty(), "case {number}, a gap of {gap}: (table, element, got, dense) {differ:x?}");
            }
        }
    });
}

/// A mean square that fades faster than the mean makes moves grow: what is settled for now moves later.
#[test]
fn moves_that_grow_without_a_gradient_are_replayed() {
    let Some(gpu) = common::device("moves_that_grow_without_a_gradient_are_replayed", false) else { return };
    let n = ROWS * COLUMNS;
    let state = vec![vec![2_f32.powi(-20); n], vec![2_f32.powi(-10); n]];
    let start = RowsPart { first: 0, weights: vec![1.0; n], state, book: vec![[100; 4]; ROWS] };
    let rule = Rule::Adam { beta1: 0.99, beta2: 0.5, epsilon: 1e-8 };
    let case = Gaps { start, rule, first: 100, rate: |_| 1e-6 };
    for (gap, expected) in [8, 300].into_iter().zip(case.dense(gpu, &[8, 300])) {
        assert!(differences(&case.replayed(gpu, gap, &Recording::clone), &expected).is_empty(), "a gap of {gap}");
        let moved = expected[0].iter().any(|&bits| bits != 1_f32.to_bits());
        assert_eq!(moved, gap == 300, "a gap of {gap}");
    }
}

/// Below a power of two neighbours are half as far as above it: a move by 0.8 of that distance counts on that side only.
#[test]
fn moves_that_count_towards_zero_alone_are_replayed() {
    let Some(gpu) = common::device("moves_that_count_towards_zero_alone_are_replayed", false) else { return };
    let n = ROWS * COLUMNS;
    // Rows of 1 that fall, and of -1 that rise. The first eight steps, after which a replay first looks, have a rate of 0.
    let signs: Vec<f32> = (0..n).map(|i| if (i / COLUMNS).is_multiple_of(2) { 1.0 } else { -1.0 }).collect();
    let state = vec![signs.clone(), vec![1.0; n]];
    let start = RowsPart { first: 0, weights: signs, state, book: vec![[100_000; 4]; ROWS] };
    // By then the mean is 0.9^8, its square's root 0.996.
    let rate = |t| if t <= 100_008 { 0.0 } else { 1.6 * 0.5_f64.powi(25) * 0.996 / 0.9_f64.powi(8) };
    let case = Gaps { start, rule: Rule::adam(), first: 100_000, rate };
    let expected = &case.dense(gpu, &[20])[0];
    assert!(expected[0].iter().all(|&bits| f32::from_bits(bits).abs() < 1.0), "all move");
    assert!(differences(&case.replayed(gpu, 20, &Recording::clone), expected).is_empty());
}

#[test]
fn broken_replays_are_noticed() {
    let Some(gpu) = common::device("broken_replays_are_noticed", false) else { return };
    let case = |seed, rate| Gaps::new(seed, Rule::adam(), 0, rate);
    let gaps = [5, 100, 300, 990];
    let cases = [case(1, falling), case(2, sudden as fn(u32) -> f64)];
    let dense = cases.each_ref().map(|case| case.dense(gpu, &gaps));
    for (from, to) in [
        ("min(p.through - t, HORIZON)", "p.through - t - 1u"),
        ("moving = moving || !settled", "moving = moving && !settled"),
        ("changing = changing || !same_state", "changing = changing && !same_state"),
        ("ring[(t + 1u + 2u * ${j}u)", "ring[(t + 2u + 2u * ${j}u)"),
        ("ring[(t + 1u) & (2u * HORIZON - 1u)]", "ring[(t + 2u) & (2u * HORIZON - 1u)]"),
        ("if (left >= 7u", "if (left > 7u"),
        ("!settled(cells_${v}, left)", "!settled(cells_${v}, 1u)"),
        ("vec4<f32>(1.0009765625)", "vec4<f32>(0.5)"),
        ("let two = p.reach[j / 2u]", "let two = p.reach[0u]"),
        ("let nothing = vec4<f32>(p.zero)", "let nothing = vec4<f32>(p.zero + 1e-9)"),
    ] {
        let mut red = false;
        for (case, dense) in cases.iter().zip(&dense) {
            for (&gap, expected) in gaps.iter().zip(dense) {
                red |= case.replayed(gpu, gap, &|r| broken(r, "row_catch_up", from, to)) != *expected;
            }
        }
        assert!(red, "'{to}' went unseen");
    }
}

#[test]
fn windows_and_lists_catch_up_alike() {
    let Some(whole) = common::device("windows_and_lists_catch_up_alike", false) else { return };
    let mut options = Options::default();
    options.max_binding = Some(128 << 10);
    let small = Gpu::open(&options).unwrap();
    let start = {
        let mut start = hostile(&mut Random::new(8), 600, 132);
        start.book.iter_mut().enumerate().for_each(|(i, line)| line[0] = i as u32 / 2);
        start
    };
    let swept = |gpu: &Gpu, form: usize| {
        let rows = table(gpu, 132, Storage::F32, &start);
        let mut optimiser = Optimiser::new(gpu, Rule::adam(), Mode::CatchUp, 0).unwrap();
        optimiser.resume(gpu, 400, 0, |t| Ok(falling(t))).unwrap();
        let ids: Vec<u32> = (0..600).collect();
        let (list, ids_on) = (crate::list(gpu, &ids, &[1; 600], 605), Tensor::from_slice(gpu, &[600], &ids).unwrap());
        let which = [Which::All, Which::Touched(&list), Which::Ids(&ids_on)][form];
        let mut recording = Recording::new();
        optimiser.record_catch_up(&mut recording, gpu.caps(), &rows, which, 400).unwrap();
        assert!(gpu.caps().max_binding > 1 << 20 || recording.dispatches() > 4);
        run(gpu, &recording);
        (bits(gpu, &rows), rows.book(gpu).unwrap())
    };
    let expected = swept(whole, 0);
    assert!(expected.1.iter().all(|line| line[0] == 400));
    for form in 0..3 {
        assert!(swept(whole, form) == expected && swept(&small, form) == expected, "form {form}");
    }
}

#[test]
fn a_resumed_optimiser_replays_what_the_first_did() {
    let Some(gpu) = common::device("a_resumed_optimiser_replays_what_the_first_did", false) else { return };
    let start = random_part(&mut Random::new(3), 40, 8, 2);
    let go_on = |optimiser: &mut Optimiser, rows: &Rows| {
        for t in 31..=60 {
            panel_step(gpu, optimiser, falling(t), rows, &[t % 7], &[0.25; 8]);
        }
        run(gpu, &catch_up(gpu, optimiser, rows, None));
        bits(gpu, rows)
    };
    let rows = table(gpu, 8, Storage::F32, &start);
    let mut optimiser = Optimiser::new(gpu, Rule::adam(), Mode::CatchUp, 0).unwrap();
    for t in 1..=30 {
        panel_step(gpu, &mut optimiser, falling(t), &rows, &[t % 11], &[-0.5; 8]);
    }
    let saved = rows.read(gpu, 0..40).unwrap();
    let expected = go_on(&mut optimiser, &rows);
    let again = table(gpu, 8, Storage::F32, &saved);
    let mut resumed = Optimiser::new(gpu, Rule::adam(), Mode::CatchUp, 0).unwrap();
    resumed.resume(gpu, 30, 0, |t| Ok(falling(t))).unwrap();
    assert!(go_on(&mut resumed, &again) == expected);
    assert_eq!((resumed.step(), resumed.swept()), (60, 0));
}

#[test]
fn overdue_sweeps_and_unknown_steps_are_refused() {
    let Some(gpu) = common::device("overdue_sweeps_and_unknown_steps_are_refused", false) else { return };
    let rows = table(gpu, 4, Storage::F32, &random_part(&mut Random::new(3), 4, 4, 2));
    let mut optimiser = Optimiser::new(gpu, Rule::adam(), Mode::CatchUp, 0).unwrap();
    let mut recording = Recording::new();
    assert!(optimiser.record_catch_up(&mut recording, gpu.caps(), &rows, Which::All, 1).is_err());
    optimiser.resume(gpu, HORIZON - 1, 0, |_| Ok(1e-3)).unwrap();
    assert!(!optimiser.sweep_due());
    optimiser.begin(gpu, 1e-3).unwrap();
    assert!(optimiser.sweep_due());
    optimiser.begin(gpu, 1e-3).unwrap();
    assert_eq!(optimiser.begin(gpu, 1e-3).unwrap_err().kind(), ErrorKind::Internal);
    let through = optimiser.step() - 1;
    optimiser.record_sweep(&mut recording, gpu.caps(), &[&rows], through).unwrap();
    assert!(!optimiser.sweep_due() && optimiser.swept() == HORIZON);
    optimiser.begin(gpu, 1e-3).unwrap();
    assert_eq!(optimiser.resume(gpu, 9000, 12, |_| Ok(1e-3)).unwrap_err().kind(), ErrorKind::BadInput);
    assert_eq!(optimiser.begin(gpu, -1.0).unwrap_err().kind(), ErrorKind::BadInput);
}

#[test]
fn rows_of_an_old_checkpoint_catch_up_horizon_by_horizon() {
    let Some(gpu) = common::device("rows_of_an_old_checkpoint_catch_up_horizon_by_horizon", false) else { return };
    let start = hostile(&mut Random::new(12), 20, 8);
    let end = 2 * HORIZON + 777;
    let fresh = || Optimiser::new(gpu, Rule::adam(), Mode::CatchUp, 0).unwrap();
    // Swept as a training would.
    let (expected, mut optimiser) = (table(gpu, 8, Storage::F32, &start), fresh());
    for t in 1..=end {
        optimiser.begin(gpu, falling(t)).unwrap();
        if t % 3000 == 0 || t == end {
            let mut recording = Recording::new();
            optimiser.record_sweep(&mut recording, gpu.caps(), &[&expected], t).unwrap();
            run(gpu, &recording);
        }
    }
    let (rows, mut restored) = (table(gpu, 8, Storage::F32, &start), fresh());
    restored.restore(gpu, &[&rows], 0, end, |t| Ok(falling(t))).unwrap();
    assert_eq!((restored.step(), restored.swept()), (end, 2 * HORIZON));
    run(gpu, &catch_up(gpu, &restored, &rows, None));
    assert!(bits(gpu, &rows) == bits(gpu, &expected));
}
