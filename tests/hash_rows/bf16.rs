//! Weights in bf16, rounded stochastically.

use wavehull::gpu::Recording;
use wavehull::hash::optimiser::{Entries, Mode, Optimiser, Rule, Which};
use wavehull::hash::rows::{Rows, RowsPart, Storage};
use wavehull::{ErrorKind, Options, Tensor};

use crate::common::{self, Random, broken};
use crate::{bits, dense_step, on_both, random_part, run, table};

/// Halves stay, and what lies between two is rounded to either, unbiased: steps of SGD from a weight of 1 to 1 + share / 128.
fn rounded(gpu: &wavehull::Gpu, share: f32, seed: u64, change: &dyn Fn(&Recording) -> Recording) -> Vec<f32> {
    let (rows, columns) = (300, 36);
    let n = rows * columns;
    let part = RowsPart { weights: vec![1.0; n], book: vec![[0; 4]; rows], ..RowsPart::default() };
    let on_device = table(gpu, columns, Storage::Bf16, &part);
    let mut optimiser = Optimiser::new(gpu, Rule::Sgd, Mode::Dense, seed).unwrap();
    optimiser.begin(gpu, 1.0).unwrap();
    let gradients = Tensor::from_slice(gpu, &[rows, columns], &vec![-share / 128.0; n]).unwrap();
    let mut recording = Recording::new();
    optimiser.record_dense(&mut recording, gpu.caps(), &on_device, &gradients).unwrap();
    run(gpu, &change(&recording));
    on_device.read(gpu, 0..rows).unwrap().weights
}

/// How far the share that was rounded up is from the right one, in standard errors.
fn bias(values: &[f32], share: f32) -> f64 {
    let up = values.iter().filter(|v| **v > 1.0).count() as f64 / values.len() as f64;
    let share = f64::from(share);
    (up - share).abs() / (share * (1.0 - share) / values.len() as f64).sqrt()
}

#[test]
fn stochastic_rounding_is_unbiased_and_repeatable() {
    on_both("stochastic_rounding_is_unbiased_and_repeatable", |gpu| {
        let same = Recording::clone;
        for share in [0.0, 1.0] {
            assert!(rounded(gpu, share, 1, &same).iter().all(|&v| v == 1.0 + share / 128.0), "{share}");
        }
        for share in [0.125, 0.5, 0.71875, 1.0 / 1024.0] {
            let values = rounded(gpu, share, 2, &same);
            assert!(values.iter().all(|&v| v == 1.0 || v == 1.0 + 1.0 / 128.0));
            // Five standard errors of 10,800 draws.
            assert!(bias(&values, share) < 5.0, "{share}: {} standard errors", bias(&values, share));
            assert!(values == rounded(gpu, share, 2, &same) && values != rounded(gpu, share, 3, &same));
        }
    });
}

/// Equal weights with equal gradients: what they are rounded by is another for each step and for each table.
#[test]
fn steps_and_tables_are_rounded_by_numbers_of_their_own() {
    let Some(gpu) = common::device("steps_and_tables_are_rounded_by_numbers_of_their_own", false) else { return };
    let (rows, columns) = (40, 36);
    let stepped = |number: u32, step: u32| {
        let on_device = Rows::stored(gpu, rows, columns, 0, Storage::Bf16, number).unwrap();
        let weights = vec![1.0; rows * columns];
        on_device.write(gpu, &RowsPart { weights, book: vec![[0; 4]; rows], ..RowsPart::default() }).unwrap();
        let mut optimiser = Optimiser::new(gpu, Rule::Sgd, Mode::Dense, 8).unwrap();
        optimiser.resume(gpu, step - 1, 0, |_| Ok(1.0)).unwrap();
        dense_step(gpu, &mut optimiser, 1.0, &on_device, &vec![-0.5 / 128.0; rows * columns]);
        on_device.read(gpu, 0..rows).unwrap().weights
    };
    let first = stepped(0, 1);
    assert!(first == stepped(0, 1));
    for (number, step) in [(0, 2), (1, 1), (1, 2)] {
        let same = first.iter().zip(stepped(number, step)).filter(|(a, b)| **a == *b).count();
        // Half of 1,440 in the mean, with a deviation of 19.
        assert!((600..840).contains(&same), "table {number}, step {step}: {same} alike");
    }
}

#[test]
fn rounding_goes_to_a_neighbour_and_is_unbiased_for_either_sign_and_any_size() {
    on_both("rounding_goes_to_a_neighbour_and_is_unbiased_for_either_sign_and_any_size", |gpu| {
        let (rows, columns) = (200, 36);
        let mut random = Random::new(31);
        let sized = |random: &mut Random| (random.unit() * 2_f64.powi(random.below(40) as i32 - 20)) as f32;
        let halves = (0..rows * columns).map(|_| f32::from_bits(sized(&mut random).to_bits() & 0xffff_0000));
        let part = RowsPart { weights: halves.collect(), book: vec![[0; 4]; rows], ..RowsPart::default() };
        let gradients: Vec<f32> = (0..rows * columns).map(|_| sized(&mut random)).collect();
        let on_device = table(gpu, columns, Storage::Bf16, &part);
        let mut optimiser = Optimiser::new(gpu, Rule::Sgd, Mode::Dense, 8).unwrap();
        dense_step(gpu, &mut optimiser, 1.0, &on_device, &gradients);
        let got = on_device.read(gpu, 0..rows).unwrap().weights;
        let mut sums = [[0.0, 0.0]; 2];
        for ((&w, &g), &r) in part.weights.iter().zip(&gradients).zip(&got) {
            // The step is one fma with a coefficient of -1.
            let exact = w - g;
            let [below, above] = [0, 0x1_0000].map(|up| f32::from_bits((exact.to_bits() & 0xffff_0000) + up));
            assert!(r == below || (r == above && exact != below), "{r} for {exact}");
            let share = f64::from(r - exact) / f64::from((above - below).abs());
            let sum = &mut sums[usize::from(exact < 0.0)];
            *sum = [sum[0] + share, sum[1] + 1.0];
        }
        // Either way by less than one spacing, of variance at most a quarter: five standard errors.
        assert!(sums.iter().all(|[sum, n]| *n > 1000.0 && sum.abs() < 2.5 * n.sqrt()), "{sums:?}");
    });
}

#[test]
fn biased_rounding_is_noticed() {
    let Some(gpu) = common::device("biased_rounding_is_noticed", false) else { return };
    let change = |r: &Recording| broken(r, "row_dense", "p.rate, p.root)", "p.rate * 0.97, p.root)");
    assert!(bias(&rounded(gpu, 0.5, 2, &Recording::clone), 0.5) < 5.0);
    assert!(bias(&rounded(gpu, 0.9, 2, &change), 0.9) > 5.0);
}

#[test]
fn a_table_in_halves_follows_f32_and_does_not_depend_on_windows_or_lists() {
    let test = "a_table_in_halves_follows_f32_and_does_not_depend_on_windows_or_lists";
    let Some(whole) = common::device(test, false) else { return };
    let mut options = Options::default();
    options.max_binding = Some(64 << 10);
    let small = wavehull::Gpu::open(&options).unwrap();
    let mut start = random_part(&mut Random::new(6), 300, 132, 2);
    // What bf16 holds, so that both start alike.
    start.weights.iter_mut().for_each(|w| *w = f32::from_bits(w.to_bits() & 0xffff_0000));
    let gradients = Random::new(9).floats(300 * 132);
    let steps = |gpu: &wavehull::Gpu, storage: Storage, lists: bool| {
        let rows = table(gpu, 132, storage, &start);
        assert_eq!(rows.read(gpu, 3..9).unwrap().weights, start.weights[3 * 132..9 * 132]);
        let mut optimiser = Optimiser::new(gpu, Rule::adam(), Mode::Lazy, 5).unwrap();
        for _ in 0..3 {
            if lists {
                optimiser.begin(gpu, 1e-2).unwrap();
                let ids: Vec<u32> = (0..300).collect();
                let (ids, panel) = crate::uploaded(gpu, 132, &ids, &gradients);
                let mut recording = Recording::new();
                let panel = Entries::Panel(&panel);
                // A listed panel is larger than a small binding.
                optimiser.record_update(&mut recording, gpu.caps(), &rows, Which::Ids(&ids), &panel).unwrap();
                run(gpu, &recording);
            } else {
                dense_step(gpu, &mut optimiser, 1e-2, &rows, &gradients);
            }
        }
        (bits(gpu, &rows), rows.read(gpu, 0..300).unwrap())
    };
    let (expected, part) = steps(whole, Storage::Bf16, false);
    assert!(steps(whole, Storage::Bf16, true).0 == expected && steps(&small, Storage::Bf16, false).0 == expected);
    let (_, exact) = steps(whole, Storage::F32, false);
    // State does not see the weights; each of three roundings moves a weight by less than 2^-7 of itself.
    assert!(part.state == exact.state);
    for (half, full) in part.weights.iter().zip(&exact.weights) {
        assert!((half - full).abs() <= 3.1 * 2.0_f32.powi(-7) * (full.abs() + 0.04), "{half} for {full}");
    }
    assert!(part.weights != exact.weights);
}

#[test]
fn halves_do_not_catch_up() {
    let Some(gpu) = common::device("halves_do_not_catch_up", false) else { return };
    let rows = table(gpu, 4, Storage::Bf16, &random_part(&mut Random::new(3), 4, 4, 2));
    let mut optimiser = Optimiser::new(gpu, Rule::adam(), Mode::CatchUp, 0).unwrap();
    let step = optimiser.begin(gpu, 1e-3).unwrap();
    let mut recording = Recording::new();
    let error = optimiser.record_catch_up(&mut recording, gpu.caps(), &rows, Which::All, step).unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.help().is_some_and(|help| help.contains("lazy")));
}
