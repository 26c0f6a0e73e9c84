//! The layers of `wavehull::hash` against their definition in f64, with bounds checks and without: forward, loss and gradients for every kind of
//! active set. How far they may be apart is derived in `bounds`. Outputs and paddings start as poison.

#![cfg(feature = "hash")]

mod bounds;
mod case;
#[path = "../common/mod.rs"]
mod common;

use case::{Case, Given, Mode, Recorded, Sizes, given};
use wavehull::gpu::Recording;
use wavehull::hash::layer::loss::{self, LossStep};
use wavehull::hash::layer::{self, Active, DeviceBatch, Hidden, Loss};
use wavehull::hash::{Batch, SparseSet, set::Lists};
use wavehull::{ErrorKind, Gpu, Options, Tensor};

const MODES: [Mode; 3] = [Mode::All, Mode::Shared, Mode::Own];
const LOSSES: [(Loss, bool); 3] = [(Loss::Softmax, false), (Loss::Softmax, true), (Loss::Bce, false)];

const SMALL: Sizes =
    Sizes { samples: 9, features: 70, labels: 140, hidden: 20, relu: true, own: 67, shared: 66, value: 1.0 };

/// Runs `check` on the trusted and on the checked device.
fn on_both(test: &str, check: impl Fn(&Gpu)) {
    for checked in [false, true] {
        if let Some(gpu) = common::device(test, checked) {
            check(gpu);
        }
    }
}

/// Compares every stage of a step with what it must give for what the device read, and the whole with what it must give for the weights.
fn verify(case: &Case, mode: Mode, loss: Loss, corrected: bool, got: &Given) -> Result<(), String> {
    let problem = case.problem(mode, loss, corrected);
    let compare = |what: &str, got: &[f32], near: &bounds::Near| {
        common::compare(got, near).map_err(|e| format!("{mode:?} {loss:?} {corrected}: {what}: {e}"))
    };
    let (h, z, dz) = (bounds::exact(&got.h), bounds::exact(&got.z), bounds::exact(&got.dz));
    compare("h", &got.h, &bounds::forward(&problem))?;
    compare("logits", &got.z, &bounds::logits(&problem, &h))?;
    let (losses, gradient) = bounds::losses(&problem, &z);
    compare("losses", &got.losses, &losses)?;
    compare("dz", &got.dz, &gradient)?;
    compare("dh", &got.dh, &bounds::hidden_gradient(&problem, &h, &dz))?;
    if mode != Mode::Own {
        compare("dw", &got.dw, &bounds::row_gradient(&problem, &h, &dz))?;
    }
    let h = bounds::forward(&problem);
    let (losses, dz) = bounds::losses(&problem, &bounds::logits(&problem, &h));
    compare("losses of the whole", &got.losses, &losses)?;
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| losses.iter().map(of).sum::<f64>() / losses.len() as f64;
    let rounding = 80.0 * common::U * mean(&|(x, _)| x.abs());
    compare("mean", &[got.mean], &vec![(mean(&|(x, _)| *x), mean(&|(_, e)| *e) + rounding)])?;
    compare("dz of the whole", &got.dz, &dz)?;
    compare("dh of the whole", &got.dh, &bounds::hidden_gradient(&problem, &h, &dz))?;
    if mode != Mode::Own {
        compare("dw of the whole", &got.dw, &bounds::row_gradient(&problem, &h, &dz))?;
    }
    // What the optimiser's kernel sums: the gradients of the rows of both tables, here without rounding from what the device holds.
    let (of_h, of_dz, of_dh) = (bounds::exact(&got.h), bounds::exact(&got.dz), bounds::exact(&got.dh));
    let (step, dh) = (problem.step(), bounds::hidden_gradient(&problem, &h, &dz));
    let input = [&of_dh, &dh].map(|dh| bounds::input_gradient(&problem, dh));
    let output = [(&of_h, &of_dz), (&h, &dz)].map(|(h, dz)| bounds::output_gradient(&problem, h, dz));
    if !bounds::within(&input[0], &input[1], &step.d_input) || !bounds::within(&output[0], &output[1], &step.d_output) {
        return Err(format!("{mode:?} {loss:?} {corrected}: gradients of the tables"));
    }
    Ok(())
}

fn hold(gpu: &Gpu, case: &Case, mode: Mode, loss: Loss, corrected: bool) {
    let got = given(gpu, case, mode, loss, corrected);
    verify(case, mode, loss, corrected, &got).unwrap();
    assert_eq!(got.faults, 0);
    // The probabilities of a softmax sum to 1, and so do its targets.
    if loss == Loss::Softmax {
        let active = got.dz.len() / got.losses.len();
        for row in got.dz.chunks(active) {
            let (sum, all) = row.iter().fold((0.0, 0.0), |(s, a), &g| (s + f64::from(g), a + f64::from(g.abs())));
            let bound = (active as f64 / 256.0 + 40.0) * common::U * (all + 1.0 / got.losses.len() as f64);
            assert!(sum.abs() <= 4.0 * bound, "{sum:e} of {all}");
        }
    }
}

#[test]
fn a_step_of_each_mode_agrees_with_the_oracle() {
    let cases = [
        SMALL,
        Sizes { samples: 1, features: 3, labels: 9, hidden: 1, relu: true, own: 1, shared: 1, value: 1.0 },
        Sizes { samples: 3, features: 33, labels: 8, hidden: 4, relu: false, own: 4, shared: 6, value: 100.0 },
        Sizes { samples: 18, features: 200, labels: 300, hidden: 130, relu: true, own: 129, shared: 259, value: 1.0 },
    ];
    on_both("a_step_of_each_mode_agrees_with_the_oracle", |gpu| {
        for (seed, sizes) in (1..).zip(cases) {
            let case = Case::new(seed, sizes);
            for mode in MODES {
                for (loss, corrected) in LOSSES {
                    hold(gpu, &case, mode, loss, corrected);
                }
            }
        }
    });
}

#[test]
fn wide_layers_agree_with_the_oracle() {
    // More than 4,096 active labels are for wider workgroups, more than 16,384 for several sets of marks.
    let wide = Sizes { samples: 4, hidden: 6, labels: 16_900, own: 4_101, shared: 5_000, ..SMALL };
    let Some(gpu) = common::device("wide_layers_agree_with_the_oracle", false) else { return };
    let case = Case::new(11, wide);
    for (mode, (loss, corrected)) in MODES.into_iter().zip(LOSSES) {
        hold(gpu, &case, mode, loss, corrected);
        hold(gpu, &case, Mode::All, loss, corrected);
    }
}

#[test]
fn equal_sets_give_equal_bits_whatever_the_mode() {
    on_both("equal_sets_give_equal_bits_whatever_the_mode", |gpu| {
        for (seed, hidden) in [(5, 20), (6, 128)] {
            let mut case = Case::new(seed, Sizes { hidden, own: 140, shared: 140, samples: 33, ..SMALL });
            // Of parts of 128 labels there are three.
            case = if hidden == 128 {
                Case::new(seed, Sizes { hidden, own: 300, shared: 300, labels: 300, ..SMALL })
            } else {
                case
            };
            for (loss, corrected) in LOSSES {
                let [all, shared, own] = MODES.map(|mode| given(gpu, &case, mode, loss, corrected));
                assert_eq!(all, shared);
                assert_eq!(Given { dw: all.dw.clone(), ..own }, all);
            }
        }
    });
}

#[test]
fn windows_give_the_same_bits() {
    let Some(whole) = common::device("windows_give_the_same_bits", false) else { return };
    let mut options = Options::default();
    options.max_binding = Some(64 << 10);
    let small = Gpu::open(&options).unwrap();
    // Five windows of the output table, three of the input table, two of ids and logits.
    let sizes = Sizes { samples: 40, features: 2_000, labels: 3_000, hidden: 21, own: 600, shared: 610, ..SMALL };
    let case = Case::new(21, sizes);
    for (mode, (loss, corrected)) in [Mode::Own, Mode::Shared, Mode::Own].into_iter().zip(LOSSES) {
        let expected = given(whole, &case, mode, loss, corrected);
        verify(&case, mode, loss, corrected, &expected).unwrap();
        let recorded = Recorded::new(&small, &case, mode, loss, corrected);
        let most = small.caps().max_binding;
        for command in recorded.whole.commands() {
            let wavehull::gpu::Command::Dispatch(d) = command else { continue };
            assert!(d.bindings.iter().all(|b| b.size <= most), "{}", d.kernel.name);
        }
        assert!(recorded.whole.dispatches() > 10);
        assert_eq!(recorded.run(&small, mode), expected, "{mode:?}");
    }
}

#[test]
fn weights_of_16_bits_are_read_as_the_numbers_that_they_are() {
    on_both("weights_of_16_bits_are_read_as_the_numbers_that_they_are", |gpu| {
        // Rows of 12 words, and of 10 with two behind them.
        for hidden in [20, 18] {
            let mut case = Case::new(31, Sizes { hidden, ..SMALL });
            for table in [&mut case.input, &mut case.output] {
                table.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits() & 0xffff_0000));
            }
            for mode in [Mode::Shared, Mode::Own] {
                case.bf16 = false;
                let expected = given(gpu, &case, mode, Loss::Softmax, false);
                case.bf16 = true;
                assert_eq!(given(gpu, &case, mode, Loss::Softmax, false), expected, "{mode:?}");
            }
        }
    });
}

/// A batch of samples without features with these labels.
fn labelled(labels: &[&[u32]], count: usize) -> Batch {
    let mut lists = Lists { offsets: vec![0], ids: Vec::new() };
    for of in labels {
        lists.ids.extend_from_slice(of);
        lists.offsets.push(lists.ids.len());
    }
    let features = Lists { offsets: vec![0; labels.len() + 1], ids: Vec::new() };
    let set = SparseSet { feature_count: 0, label_count: count, features, values: Vec::new(), labels: lists };
    Batch::new(&set, &(0..labels.len() as u32).collect::<Vec<_>>()).unwrap()
}

/// Losses, gradients and faults for these logits, all labels being active.
fn loss_of(gpu: &Gpu, loss: Loss, batch: &Batch, logits: &[f32]) -> (Vec<f32>, Vec<f32>, u32) {
    let (samples, active) = (batch.samples, logits.len() / batch.samples);
    let device = DeviceBatch::new(gpu, batch).unwrap();
    let faults = Tensor::from_slice(gpu, &[1], &[0_u32]).unwrap();
    let results = ["losses", "dz", "faults"].map(|what| {
        let z = common::tensor(gpu, &[samples, active], logits);
        let losses = common::poisoned(gpu, &[samples]);
        let step = LossStep {
            loss,
            correction: None,
            active: Active::All,
            batch: &device,
            logits: &z,
            losses: &losses,
            faults: &faults,
        };
        let mut recording = Recording::new();
        step.record(&mut recording, gpu.caps()).unwrap();
        match what {
            "losses" => common::run_raw(gpu, &recording, &losses)[..samples].to_vec(),
            "dz" => common::run::<u32>(gpu, &recording, &z.words(), true),
            _ => common::run_raw(gpu, &recording, &faults)[..1].to_vec(),
        }
    });
    let floats = |words: &[u32]| words.iter().map(|&w| f32::from_bits(w)).collect();
    (floats(&results[0]), floats(&results[1]), results[2][0])
}

#[test]
fn losses_of_hostile_logits_agree_with_the_oracle() {
    let mut random = common::Random::new(7);
    let mut rows: Vec<Vec<f32>> = Vec::new();
    // All far below 0 (a maximum that starts from 0 loses them), far above, far apart, equal, and zeros of both signs.
    for (middle, spread) in [(-1e4, 3.0), (1e4, 3.0), (0.0, 300.0), (-3e4, 0.0), (0.0, 1e-3), (-3e38, 0.0)] {
        rows.push((0..75).map(|_| middle + spread * random.unit() as f32).collect());
    }
    rows.push((0..75).map(|i| if i % 2 == 0 { 0.0 } else { -0.0 }).collect());
    rows.push((0..75).map(|i| if i == 74 { 1e30 } else { -1e30 }).collect());
    let all: [&[u32]; 8] = [&[0], &[74], &[3, 17, 18, 60], &[5, 6], &(0..75).collect::<Vec<_>>(), &[2], &[], &[74]];
    on_both("losses_of_hostile_logits_agree_with_the_oracle", |gpu| {
        let batch = labelled(&all, 75);
        let logits: Vec<f32> = rows.concat();
        for loss in [Loss::Softmax, Loss::Bce] {
            let problem = layer::reference::Problem {
                batch: &batch,
                hidden: Hidden { elements: 1, relu: true },
                input: &[],
                output: &[],
                sets: layer::reference::Sets::All(75),
                loss,
                correction: None,
            };
            let (losses, gradient, faults) = loss_of(gpu, loss, &batch, &logits);
            let (of_loss, of_gradient) = bounds::losses(&problem, &bounds::exact(&logits));
            // The sum of a sample of BCE may leave the numbers of f32.
            let finite: Vec<usize> = (0..8).filter(|&i| of_loss[i].0 < 1e38).collect();
            let pick = |i: &usize| losses[*i];
            let near = finite.iter().map(|&i| of_loss[i]).collect::<Vec<_>>();
            common::compare(&finite.iter().map(pick).collect::<Vec<_>>(), &near).unwrap_or_else(|e| panic!("{e}"));
            common::compare(&gradient, &of_gradient).unwrap_or_else(|e| panic!("{loss:?} gradient: {e}"));
            assert_eq!(faults, 0);
            loss::check(faults).unwrap();
        }
    });
}

#[test]
fn labels_in_the_second_set_of_marks_count() {
    let Some(gpu) = common::device("labels_in_the_second_set_of_marks_count", false) else { return };
    let count = 16_900;
    let batch = labelled(&[&[16_383, 16_384, 16_700], &[16_899], &[0]], count);
    let logits = common::Random::new(12).floats(3 * count);
    for loss in [Loss::Softmax, Loss::Bce] {
        let problem = layer::reference::Problem {
            batch: &batch,
            hidden: Hidden { elements: 1, relu: true },
            input: &[],
            output: &[],
            sets: layer::reference::Sets::All(count),
            loss,
            correction: None,
        };
        let (losses, gradient, faults) = loss_of(gpu, loss, &batch, &logits);
        let (of_loss, of_gradient) = bounds::losses(&problem, &bounds::exact(&logits));
        common::compare(&losses, &of_loss).unwrap_or_else(|e| panic!("{loss:?}: {e}"));
        common::compare(&gradient, &of_gradient).unwrap_or_else(|e| panic!("{loss:?} gradient: {e}"));
        assert_eq!(faults, 0);
    }
}

#[test]
fn what_is_no_number_and_labels_that_are_not_active_end_in_an_error() {
    on_both("what_is_no_number_and_labels_that_are_not_active_end_in_an_error", |gpu| {
        for (at, value) in [(0, f32::NAN), (76, f32::INFINITY), (149, f32::NEG_INFINITY), (74, f32::NAN)] {
            let mut logits = vec![0.5; 150];
            logits[at] = value;
            for loss in [Loss::Softmax, Loss::Bce] {
                let (.., faults) = loss_of(gpu, loss, &labelled(&[&[1], &[]], 75), &logits);
                let error = loss::check(faults).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::BadInput, "{error}");
                assert!(error.to_string().contains("diverged") && error.help().is_some(), "{error}");
            }
        }
        // NaN behind a row is nobody's.
        let (.., faults) = loss_of(gpu, Loss::Softmax, &labelled(&[&[1], &[2]], 5), &[1.0; 10]);
        assert_eq!(faults, 0);
        let (.., faults) = loss_of(gpu, Loss::Softmax, &labelled(&[&[1], &[75, 76]], 77), &[1.0; 150]);
        assert_eq!(loss::check(faults).unwrap_err().kind(), ErrorKind::Internal);
    });
}

#[test]
fn the_mean_is_that_of_all_samples() {
    on_both("the_mean_is_that_of_all_samples", |gpu| {
        for samples in [1, 63, 64, 65, 200, 1031] {
            let losses: Vec<f32> = common::Random::new(samples as u64).floats(samples);
            let on = common::tensor(gpu, &[samples], &losses);
            let means = common::poisoned(gpu, &[5]);
            let mut recording = Recording::new();
            loss::mean(&mut recording, &on, &means, 3).unwrap();
            let got = common::run_raw(gpu, &recording, &means);
            let (sum, all) = losses.iter().fold((0.0, 0.0), |(s, a), &x| (s + f64::from(x), a + f64::from(x.abs())));
            // A lane sums a 64th of them, one lane all lanes, and the scale is rounded.
            let bound = (samples.div_ceil(64) + 66) as f64 * common::U * all / samples as f64;
            common::compare(&[f32::from_bits(got[3])], &[(sum / samples as f64, bound)]).unwrap();
            assert!([0, 1, 2, 4].iter().all(|&i| got[i] == common::POISON), "{samples}: others were written");
        }
    });
}

#[test]
fn samples_of_very_many_entries_are_summed_whole() {
    // Loops of software devices end after 65,535 rounds.
    let Some(gpu) = common::device("samples_of_very_many_entries_are_summed_whole", false) else { return };
    let count = 70_000;
    let features =
        Lists { offsets: vec![0, 2, count + 2, count + 2], ids: [3, 9].into_iter().chain(0..70_000).collect() };
    let labels = Lists { offsets: vec![0, 0, 0, 0], ids: Vec::new() };
    let values = common::Random::new(3).floats(count + 2);
    let set = SparseSet { feature_count: count, label_count: 1, features, values, labels };
    let batch = Batch::new(&set, &[0, 1, 2]).unwrap();
    let hidden = Hidden { elements: 3, relu: false };
    let input = common::Random::new(4).floats((count + 1) * hidden.width());
    let device = DeviceBatch::new(gpu, &batch).unwrap();
    assert_eq!((device.longest, device.entries, device.samples), (count + 1, count + 5, 3));
    let (h, table) = (common::poisoned(gpu, &[3, 4]), case::rows(gpu, &input, 4));
    let mut recording = Recording::new();
    layer::forward(&mut recording, gpu.caps(), &device, &table, hidden, &h).unwrap();
    assert_eq!(recording.dispatches(), 3);
    let got = common::run(gpu, &recording, &h, false);
    let input: Vec<f64> = input.iter().map(|&x| f64::from(x)).collect();
    let (sets, loss) = (layer::reference::Sets::All(1), Loss::Softmax);
    let problem =
        layer::reference::Problem { batch: &batch, hidden, input: &input, output: &[], sets, loss, correction: None };
    common::compare(&got, &bounds::forward(&problem)).unwrap();
    // Of a bound of 70,000 roundings little is noticed: a sum without its last entry, the bias, is further off.
    assert!((f64::from(got[4]) - problem.forward()[4]).abs() < 0.01);
}

#[test]
fn batches_on_the_device_grow_and_shrink() {
    let Some(gpu) = common::device("batches_on_the_device_grow_and_shrink", false) else { return };
    let small = Case::new(1, Sizes { samples: 2, own: 8, ..SMALL });
    let large = Case::new(2, Sizes { samples: 64, own: 8, ..SMALL });
    let mut batch = DeviceBatch::new(gpu, &small.batch).unwrap();
    for case in [&small, &large, &small] {
        batch.write(gpu, &case.batch).unwrap();
        let table = case::rows(gpu, &case.input, case.hidden.width());
        let h = common::poisoned(gpu, &[case.batch.samples, case.hidden.width()]);
        let mut recording = Recording::new();
        layer::forward(&mut recording, gpu.caps(), &batch, &table, case.hidden, &h).unwrap();
        let got = common::run(gpu, &recording, &h, false);
        common::compare(&got, &bounds::forward(&case.problem(Mode::All, Loss::Softmax, false))).unwrap();
        let words = |t: &Tensor<u32>, n: usize| common::run_raw(gpu, &Recording::new(), t)[..n].to_vec();
        assert_eq!(words(&batch.touched.list, 2)[0] as usize, case.batch.touched_rows());
        assert_eq!(words(&batch.sorted, 2), case.batch.entries[0]);
    }
}

#[test]
fn broken_kernels_are_noticed() {
    let Some(gpu) = common::device("broken_kernels_are_noticed", false) else { return };
    let case = Case::new(9, SMALL);
    for (mode, name, from, to) in [
        (Mode::Own, "csr_forward", "column == vec4<u32>(p.hidden)", "column > vec4<u32>(p.hidden)"),
        (Mode::Own, "csr_forward", "min(at + p.most, end)", "min(at + p.most, end - 1u)"),
        (Mode::Own, "pair_logits", "x.w, w_${v}.w", "x.w, w_${v}.z"),
        (Mode::Own, "pair_gradient", "min((t + 1u) * p.part, p.places)", "min((t + 1u) * p.part, p.places - 1u)"),
        (Mode::Own, "hidden_gradient", "& (h[item] > vec4<f32>(0.0))", ""),
        (Mode::Shared, "row_tail", "h[b * p.width4 + q]", "h[b * p.width4]"),
        (Mode::Shared, "panel_rows", "ids[place]", "ids[0]"),
        (Mode::Shared, "active_loss", "y * share", "y"),
        (Mode::Shared, "active_loss", "log(whole)", "0.99 * log(whole)"),
        (Mode::Shared, "loss_mean", "total * p.scale", "total"),
    ] {
        let mut recorded = Recorded::new(gpu, &case, mode, Loss::Softmax, false);
        verify(&case, mode, Loss::Softmax, false, &recorded.run(gpu, mode)).unwrap();
        recorded.whole = common::broken(&recorded.whole, name, from, to);
        if name == "csr_forward" || name == "pair_logits" || name == "panel_rows" {
            recorded.up_to_logits = common::broken(&recorded.up_to_logits, name, from, to);
        }
        let got = recorded.run(gpu, mode);
        assert!(verify(&case, mode, Loss::Softmax, false, &got).is_err(), "{name}: {to} is not noticed");
    }
}
