//! `loss_count`, `loss_classes`, `loss_elements`, `loss_sum`: losses and gradients against f64, whose own gradients are
//! checked by differences.

use wavehull::gpu::Recording;
use wavehull::ops::Coefficient;
use wavehull::train::loss::{self, ElementLoss, IGNORED, LossOut};
use wavehull::{Control, ErrorKind, Gpu, Tensor};

use crate::common::{self, Random, U, broken};
use crate::{assert_independent, bits, on_both};

/// Values with their tolerances.
pub(crate) type Expected = Vec<(f64, f64)>;

/// A slot of a classification: its logits row by row, labels, smoothing.
#[derive(Clone, Debug)]
struct Slot {
    logits: Vec<f32>,
    labels: Vec<u32>,
    smoothing: f32,
}

fn slot(seed: u64, rows: usize, classes: usize, smoothing: f32) -> Slot {
    let mut random = Random::new(seed * 1000 + (rows * 7 + classes) as u64);
    // Large numbers, whose exponentials overflow, and small ones; every fifth label is none, every tenth by one.
    let logit = |random: &mut Random, i: usize| {
        random.unit() as f32 * if (i / classes).is_multiple_of(3) { 200.0 } else { 3.0 }
    };
    let logits = (0..rows * classes).map(|i| logit(&mut random, i)).collect();
    let label = |random: &mut Random, i| match i % 10 {
        4 => IGNORED,
        9 => classes as u32,
        _ => random.below(classes) as u32,
    };
    let labels = (0..rows).map(|i| label(&mut random, i)).collect();
    Slot { logits, labels, smoothing }
}

/// What a slot ends with: gradient, and (mean, correct, counted, sum).
struct Outcome {
    gradient: Expected,
    results: Expected,
}

/// Loss and gradient of a row in f64 (no division by the count).
fn row_of(x: &[f64], label: usize, smoothing: f64) -> (f64, Vec<f64>) {
    let top = x.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = x.iter().map(|x| (x - top).exp()).sum();
    let log = |x: f64| x - top - sum.ln();
    let n = x.len() as f64;
    let loss = -(1.0 - smoothing) * log(x[label]) - smoothing / n * x.iter().map(|&x| log(x)).sum::<f64>();
    let wanted = |j| smoothing / n + if j == label { 1.0 - smoothing } else { 0.0 };
    (loss, x.iter().enumerate().map(|(j, &x)| log(x).exp() - wanted(j)).collect())
}

/// After the header of loss_classes.wgsl, with one rounding more or less where it is easier so.
fn oracle(slot: &Slot, classes: usize) -> Outcome {
    let s = f64::from(slot.smoothing);
    let n = slot.labels.iter().filter(|&&label| label < classes as u32).count().max(1) as f64;
    let depth = (classes.div_ceil(4) + 10) as f64 * U;
    let (mut gradient, mut losses, mut correct) = (Vec::new(), Vec::new(), 0.0);
    for (row, &label) in slot.logits.chunks(classes).zip(&slot.labels) {
        if label >= classes as u32 {
            gradient.extend(vec![(0.0, 0.0); classes]);
            continue;
        }
        let x: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
        let top = x.iter().copied().fold(f64::MIN, f64::max);
        let label = label as usize;
        let (loss, g) = row_of(&x, label, s);
        let sum: f64 = x.iter().map(|x| (x - top).exp()).sum();
        let error = |x: f64| (3.0 + 3.0 * (x - top).abs()) * U;
        let of_sum = depth + x.iter().map(|&x| (x - top).exp() * error(x)).sum::<f64>() / sum;
        let log = 2.0_f64.powi(-21).max(3.0 * U * sum.ln());
        let linear = s / classes as f64 * x.iter().map(|x| (x - top).abs()).sum::<f64>();
        let straight = (1.0 - s) * (x[label] - top).abs();
        losses.push((loss, of_sum + log + 5.0 * U * (sum.ln() + straight + linear) + depth * linear));
        correct += if x.iter().all(|&v| v <= x[label]) { 1.0 } else { 0.0 };
        for (j, &g) in g.iter().enumerate() {
            let p = (x[j] - top).exp() / sum;
            let parts = p + s / classes as f64 + if j == label { 1.0 - s } else { 0.0 };
            gradient.push((g / n, (p * (error(x[j]) + of_sum) + 8.0 * U * parts) / n + 2.0_f64.powi(-126)));
        }
    }
    Outcome { gradient, results: sums(&losses, correct, n, losses.len() as f64) }
}

/// Mean, correct, counted and sum with their tolerances.
pub(crate) fn sums(losses: &[(f64, f64)], correct: f64, n: f64, counted: f64) -> Expected {
    let sum: f64 = losses.iter().map(|l| l.0).sum();
    let depth = (losses.len().div_ceil(256) + 8) as f64 * U;
    let off = losses.iter().map(|l| l.1 + depth * l.0.abs()).sum::<f64>();
    vec![(sum / n, (off + 3.0 * U * sum.abs()) / n), (correct, 0.0), (counted, 0.0), (sum, off)]
}

/// What a recording writes to.
struct Recorded {
    recording: Recording,
    gradient: Tensor,
    results: Tensor,
}

/// `middle`: the axes between slots and classes.
fn record(gpu: &Gpu, slots: &[Slot], middle: &[usize], classes: usize, fixed: bool) -> Recorded {
    let b = slots.len();
    let shape = [&[b], middle, &[classes]].concat();
    let logits = common::tensor(gpu, &shape, &slots.iter().flat_map(|s| s.logits.clone()).collect::<Vec<_>>());
    let labels: Vec<u32> = slots.iter().flat_map(|s| s.labels.clone()).collect();
    let labels = common::tensor(gpu, &[&[b], middle].concat(), &labels);
    let smoothing: Vec<f32> = slots.iter().flat_map(|s| [0.0, s.smoothing]).collect();
    let table = common::tensor(gpu, &[b, 2], &smoothing);
    let smoothing = if fixed { Coefficient::Fixed(slots[0].smoothing) } else { Coefficient::Slots(&table, 1) };
    let (gradient, results) = (common::poisoned(gpu, &shape), common::poisoned(gpu, &[b, 4]));
    let scratch = common::poisoned(gpu, &loss::scratch_of_classes(&shape));
    let out = LossOut { gradient: Some(&gradient), scratch: &scratch, results: &results };
    let mut recording = Recording::new();
    loss::cross_entropy(&mut recording, gpu.caps(), smoothing, &logits, &labels, &out).unwrap();
    Recorded { recording, gradient, results }
}

/// Middle axes and classes; rows beyond a workgroup and beyond what the sum takes in one go, sizes around all forms.
const SHAPES: [(&[usize], usize); 11] = [
    (&[300], 20),
    (&[8, 9], 75),
    (&[1], 1),
    (&[5], 3),
    (&[70], 10),
    (&[6, 5], 7),
    (&[300], 4),
    (&[3], 128),
    (&[3], 129),
    (&[4, 3], 260),
    (&[2], 1001),
];

#[test]
fn cross_entropy_agrees_with_f64() {
    on_both("cross_entropy_agrees_with_f64", |gpu| {
        for (middle, classes) in SHAPES {
            let rows = middle.iter().product();
            for (fixed, smoothing) in [(true, [0.0; 3]), (true, [0.1; 3]), (false, [0.0, 0.1, 0.4])] {
                let slots: Vec<Slot> = (0..3).map(|i| slot(i as u64, rows, classes, smoothing[i])).collect();
                let r = record(gpu, &slots, middle, classes, fixed);
                let expected: Vec<Outcome> = slots.iter().map(|s| oracle(s, classes)).collect();
                let gradient: Expected = expected.iter().flat_map(|e| e.gradient.clone()).collect();
                let results: Expected = expected.iter().flat_map(|e| e.results.clone()).collect();
                common::compare(&common::run(gpu, &r.recording, &r.gradient, true), &gradient)
                    .unwrap_or_else(|why| panic!("gradient, {middle:?} x {classes}, {smoothing:?}: {why}"));
                common::compare(&common::run(gpu, &r.recording, &r.results, false), &results)
                    .unwrap_or_else(|why| panic!("results, {middle:?} x {classes}, {smoothing:?}: {why}"));
            }
        }
    });
}

#[test]
fn gradients_of_the_oracles_are_their_differences() {
    let mut random = Random::new(4);
    let h = 1e-5;
    let difference = |f: &dyn Fn(&[f64]) -> f64, x: &[f64], j: usize| {
        let moved =
            |by: f64| f(&x.iter().enumerate().map(|(i, v)| if i == j { v + by } else { *v }).collect::<Vec<_>>());
        (moved(h) - moved(-h)) / (2.0 * h)
    };
    for smoothing in [0.0, 0.2] {
        let x: Vec<f64> = (0..9).map(|_| 3.0 * random.unit()).collect();
        let (_, g) = row_of(&x, 4, smoothing);
        for (j, g) in g.iter().enumerate() {
            // h^2 / 6 times a third derivative below 1, and roundings of 1e-15 / h.
            assert!((g - difference(&|x| row_of(x, 4, smoothing).0, &x, j)).abs() < 1e-9, "element {j}");
        }
    }
    for loss in [ElementLoss::MeanSquare, ElementLoss::BinaryLogits] {
        for t in [0.0, 0.3, 1.0] {
            let x = 2.0 * random.unit();
            let g = element_of(loss, x, t).1;
            assert!((g - difference(&|x| element_of(loss, x[0], t).0, &[x], 0)).abs() < 1e-9, "{loss:?}");
        }
    }
}

/// All that a recording leaves of every slot, as bits.
fn outcome(gpu: &Gpu, r: &Recorded, slots: usize) -> Vec<Vec<u32>> {
    gpu.run(&r.recording, &Control::default()).unwrap();
    let gradient = bits(&r.gradient.to_array(gpu).unwrap().into_raw_vec_and_offset().0);
    let results = bits(&r.results.to_array(gpu).unwrap().into_raw_vec_and_offset().0);
    let parts = gradient.chunks(gradient.len() / slots).zip(results.chunks(4));
    parts.map(|(gradient, results)| [gradient, results].concat()).collect()
}

#[test]
fn losses_of_a_slot_know_nothing_of_the_others() {
    let Some(gpu) = common::device("losses_of_a_slot_know_nothing_of_the_others", false) else { return };
    for (middle, classes) in [(&[70][..], 10), (&[300], 20), (&[5, 3], 260)] {
        let rows = middle.iter().product();
        let slots: Vec<Slot> = (0..3).map(|i| slot(i as u64, rows, classes, 0.1 * i as f32)).collect();
        let bad = Slot { logits: vec![f32::NAN; rows * classes], ..slot(9, rows, classes, 0.1) };
        assert_independent(&slots, &bad, |slots| {
            outcome(gpu, &record(gpu, slots, middle, classes, false), slots.len())
        });
    }
    for loss in [ElementLoss::MeanSquare, ElementLoss::BinaryLogits] {
        let slots: Vec<Vec<f32>> = (0..3).map(|i| Random::new(i).floats(30 * 67)).collect();
        assert_independent(&slots, &vec![f32::NAN; 30 * 67], |slots| {
            outcome(gpu, &record_elements(gpu, loss, slots, &[30, 67], false), slots.len())
        });
    }
}

#[test]
fn nan_counts_as_wrong_and_ties_go_to_the_first() {
    on_both("nan_counts_as_wrong_and_ties_go_to_the_first", |gpu| {
        for classes in [4, 200] {
            let mut logits = vec![0.0; 4 * classes];
            logits[2 * classes] = f32::NAN;
            logits[3 * classes] = f32::NAN;
            // Ties: the first class is right, the second is not. NaN: wrong. Ignored: neither, and its NaN reaches nothing.
            let mut slot = Slot { logits, labels: vec![0, 1, 1, IGNORED], smoothing: 0.0 };
            let of = |slot: &Slot| {
                let r = record(gpu, std::slice::from_ref(slot), &[4], classes, true);
                let gradient: Vec<f32> = common::run(gpu, &r.recording, &r.gradient, true);
                assert!(gradient[3 * classes..].iter().all(|g| g.to_bits() == 0), "an ignored row has a gradient");
                common::run(gpu, &r.recording, &r.results, false)
            };
            let results = of(&slot);
            assert!(results[0].is_nan() && results[3].is_nan(), "{results:?}");
            assert_eq!(results[1..3], [1.0, 3.0]);
            slot.labels[2] = IGNORED;
            let results = of(&slot);
            assert!((f64::from(results[0]) - (classes as f64).ln()).abs() < 1e-5, "{results:?}");
            slot.labels = vec![IGNORED; 4];
            assert_eq!(of(&slot), [0.0; 4]);
        }
    });
}

#[test]
fn evaluation_shared_labels_and_parts_of_larger_memory_give_the_same_results() {
    let Some(gpu) = common::device("evaluation_shared_labels_and_parts_of_larger_memory", false) else { return };
    let labels = slot(5, 30, 10, 0.0).labels;
    let slots: Vec<Slot> = (0..3).map(|i| Slot { labels: labels.clone(), ..slot(i, 30, 10, 0.0) }).collect();
    let r = record(gpu, &slots, &[30], 10, true);
    let expected: Vec<u32> = outcome(gpu, &r, 3).iter().flat_map(|words| words[300..].to_vec()).collect();
    let logits = common::tensor(gpu, &[3, 30, 10], &slots.iter().flat_map(|s| s.logits.clone()).collect::<Vec<_>>());
    let memory = common::poisoned::<f32>(gpu, &[256]);
    let results = memory.at(128, &[3, 4]).unwrap();
    let scratch = common::poisoned(gpu, &[3, 3, 30]);
    let out = LossOut { gradient: None, scratch: &scratch, results: &results };
    let of_set = common::tensor(gpu, &[30], &labels);
    for shared in [of_set.shared(3), of_set.view(&[1, 30]).unwrap()] {
        let mut recording = Recording::new();
        loss::cross_entropy(&mut recording, gpu.caps(), Coefficient::Fixed(0.0), &logits, &shared, &out).unwrap();
        let raw = common::run_raw(gpu, &recording, &memory);
        assert_eq!(raw[128..140], expected);
        assert!(raw[..128].iter().chain(&raw[140..]).all(|&word| word == common::POISON), "neighbours were written");
    }
}

/// Loss and gradient of an element.
fn element_of(loss: ElementLoss, x: f64, t: f64) -> (f64, f64) {
    match loss {
        ElementLoss::MeanSquare => ((x - t).powi(2), 2.0 * (x - t)),
        ElementLoss::BinaryLogits => (x.max(0.0) - x * t + (-x.abs()).exp().ln_1p(), 1.0 / (1.0 + (-x).exp()) - t),
    }
}

fn targets(loss: ElementLoss, n: usize) -> Vec<f32> {
    let mut random = Random::new(n as u64 + 77);
    let target = |random: &mut Random| match loss {
        ElementLoss::MeanSquare => random.unit() as f32,
        ElementLoss::BinaryLogits => [0.0, 1.0, 0.25, 0.75][random.below(4)],
    };
    (0..n).map(|_| target(&mut random)).collect()
}

/// Inputs are ten times what the slots hold.
fn record_elements(gpu: &Gpu, loss: ElementLoss, slots: &[Vec<f32>], shape: &[usize], shared: bool) -> Recorded {
    let b = slots.len();
    let whole = [&[b], shape].concat();
    let x = common::tensor(gpu, &whole, &slots.iter().flatten().map(|x| x * 10.0).collect::<Vec<_>>());
    let one = targets(loss, shape.iter().product());
    let t = common::tensor(gpu, shape, &one).shared(b);
    let apart = common::tensor(gpu, &whole, &one.repeat(b));
    let (gradient, results) = (common::poisoned(gpu, &whole), common::poisoned(gpu, &[b, 4]));
    let scratch = common::poisoned(gpu, &loss::scratch_of_elements(&whole));
    let out = LossOut { gradient: Some(&gradient), scratch: &scratch, results: &results };
    let mut recording = Recording::new();
    loss::elements(&mut recording, gpu.caps(), loss, &x, if shared { &t } else { &apart }, &out).unwrap();
    Recorded { recording, gradient, results }
}

/// After the header of loss_elements.wgsl.
fn oracle_of_elements(loss: ElementLoss, x: &[f32]) -> Outcome {
    let n = x.len() as f64;
    let (mut gradient, mut losses, mut correct) = (Vec::new(), Vec::new(), 0.0);
    for (&x, &t) in x.iter().zip(&targets(loss, x.len())) {
        let (x, t) = (f64::from(x * 10.0), f64::from(t));
        let (value, g) = element_of(loss, x, t);
        let e = (-x.abs()).exp();
        let (off, off_g) = match loss {
            ElementLoss::MeanSquare => (3.0 * U * value, 4.0 * U * g.abs()),
            ElementLoss::BinaryLogits => {
                let moved = (3.0 + 2.0 * x.abs()) * U * e;
                let log = if e < 0.0157 { e * (2e-8 + 6.0 * U) } else { 2.0_f64.powi(-21) + U };
                (moved + log + 3.0 * U * (2.0 * x.abs() + value), moved + 8.0 * U)
            }
        };
        // A piece adds up 18 roundings, of sums that never fall.
        losses.push((value, off + 18.0 * U * value));
        correct += f64::from(u8::from(loss == ElementLoss::BinaryLogits && (x > 0.0) == (t > 0.5)));
        gradient.push((g / n, off_g / n));
    }
    Outcome { gradient, results: sums(&losses, correct, n, n) }
}

#[test]
fn losses_of_elements_agree_with_f64() {
    on_both("losses_of_elements_agree_with_f64", |gpu| {
        for loss in [ElementLoss::MeanSquare, ElementLoss::BinaryLogits] {
            for shape in [&[1, 1][..], &[5, 3], &[7, 64], &[3, 65], &[70, 130], &[2, 3, 5, 7], &[9]] {
                for shared in [false, true] {
                    let n = shape.iter().product();
                    let slots: Vec<Vec<f32>> = (0..2).map(|i| Random::new(i + 5).floats(n)).collect();
                    let r = record_elements(gpu, loss, &slots, shape, shared);
                    let expected: Vec<Outcome> = slots.iter().map(|x| oracle_of_elements(loss, x)).collect();
                    let gradient: Expected = expected.iter().flat_map(|e| e.gradient.clone()).collect();
                    let results: Expected = expected.iter().flat_map(|e| e.results.clone()).collect();
                    common::compare(&common::run(gpu, &r.recording, &r.gradient, true), &gradient)
                        .unwrap_or_else(|why| panic!("gradient, {loss:?} {shape:?}: {why}"));
                    common::compare(&common::run(gpu, &r.recording, &r.results, false), &results)
                        .unwrap_or_else(|why| panic!("results, {loss:?} {shape:?}: {why}"));
                }
            }
        }
    });
}

#[test]
fn confident_logits_keep_their_precision() {
    on_both("confident_logits_keep_their_precision", |gpu| {
        // exp(x) just below the seam of the series at 1/64, and far below; log(1 + e) would be off by 2^-21 there.
        for x in [-4.17_f32, -5.0, -8.0, -30.0] {
            let (x_of, t) = (common::tensor(gpu, &[1, 1, 1], &[x]), common::tensor(gpu, &[1, 1, 1], &[0.0]));
            let (scratch, results) = (common::poisoned(gpu, &[1, 3, 1]), common::poisoned(gpu, &[1, 4]));
            let out = LossOut { gradient: None, scratch: &scratch, results: &results };
            let mut recording = Recording::new();
            loss::elements(&mut recording, gpu.caps(), ElementLoss::BinaryLogits, &x_of, &t, &out).unwrap();
            let exact = f64::from(x).exp().ln_1p();
            let off = |got: &[f32]| (f64::from(got[0]) - exact).abs() / exact;
            let tolerance = 2e-8 + (12.0 + 2.0 * f64::from(x.abs())) * U;
            let got = off(&common::run(gpu, &recording, &results, false));
            assert!(got <= tolerance, "{x}: off by {got:e}, allowed {tolerance:e}");
            if x > -6.0 {
                let bad = broken(&recording, "loss_elements", "e * (0.5", "e * (0.51");
                assert!(off(&common::run(gpu, &bad, &results, false)) > tolerance, "{x}: a broken series went unseen");
            }
        }
    });
}

/// Whether what a recording leaves is what was expected.
fn seen(gpu: &Gpu, recording: &Recording, r: &Recorded, expected: &[Outcome]) -> bool {
    let read = |tensor: &Tensor| -> Vec<f32> {
        let raw = common::run_raw(gpu, recording, tensor);
        common::places(tensor).into_iter().map(|i| f32::from_bits(raw[i])).collect()
    };
    let gradient: Expected = expected.iter().flat_map(|e| e.gradient.clone()).collect();
    let results: Expected = expected.iter().flat_map(|e| e.results.clone()).collect();
    common::compare(&read(&r.gradient), &gradient).is_err() || common::compare(&read(&r.results), &results).is_err()
}

#[test]
fn broken_losses_are_noticed() {
    let Some(gpu) = common::device("broken_losses_are_noticed", false) else { return };
    for (rows, classes) in [(130, 10), (300, 21), (30, 261)] {
        let slots: Vec<Slot> = (0..2).map(|i| slot(i, rows, classes, 0.1)).collect();
        let expected: Vec<Outcome> = slots.iter().map(|s| oracle(s, classes)).collect();
        for (kernel, from, to) in [
            ("loss_classes", "- spread - hit) / rows", "- spread - hit) / (rows * 1.0001)"),
            ("loss_classes", "- spread - hit)", "- hit)"),
            ("loss_classes", "- spread * sums.y", ""),
            (
                "loss_classes",
                "vec3<f32>(loss, select(0.0, 1.0, correct), 1.0), counted)",
                "vec3<f32>(loss, 1.0, 1.0), true)",
            ),
            ("loss_classes", "max(partial[0].z, 1.0)", "f32(p.rows)"),
            ("loss_classes", "totals += vec4<f32>(of_row, 0.0)", "totals = vec4<f32>(of_row, 0.0)"),
            ("loss_classes", "max(results[b * p.stride_results + 2u], 1.0)", "f32(p.rows)"),
            ("loss_classes", "largest = max(max(top.x, top.y), max(top.z, top.w))", "largest = 0.0"),
            ("loss_classes", "select(vec4<f32>(0.0), exp(d), inside)", "exp(d)"),
            ("loss_classes", "sums.z == 0.0", "sums.z <= 1.0"),
            ("loss_sum", "s.x / max(s.z, 1.0)", "s.x / f32(p.rows)"),
        ] {
            // With hundreds of classes hardly a label comes second; a small batch is done in one dispatch.
            let whole = rows * classes <= 4096;
            let of_whole = from.contains("partial[0].z") || from.contains("totals");
            let of_parts = kernel == "loss_sum" || from.contains("results[b");
            if (classes > 100 && to == "sums.z <= 1.0") || (of_whole && !whole) || (of_parts && whole) {
                continue;
            }
            let r = record(gpu, &slots, &[rows], classes, false);
            let bad = broken(&r.recording, kernel, from, to);
            assert!(seen(gpu, &bad, &r, &expected), "{classes} classes: '{to}' of {kernel} went unseen");
        }
    }
    let slots: Vec<Slot> = (0..2).map(|i| slot(i, 300, 20, 0.1)).collect();
    let expected: Vec<Outcome> = slots.iter().map(|s| oracle(s, 20)).collect();
    for (kernel, from, to) in [("loss_sum", "q += 64u", "q += 65u"), ("loss_count", "row += 64u", "row += 63u")] {
        let r = record(gpu, &slots, &[300], 20, false);
        let bad = broken(&r.recording, kernel, from, to);
        assert!(seen(gpu, &bad, &r, &expected), "'{to}' of {kernel} went unseen");
    }
    for (loss, from, to) in [
        (ElementLoss::MeanSquare, "2.0 * (x - t) / p.elements", "1.9999 * (x - t) / p.elements"),
        (ElementLoss::MeanSquare, "select(vec4<f32>(0.0), loss, inside)", "loss"),
        (ElementLoss::MeanSquare, "first + 16u", "first + 15u"),
        (ElementLoss::BinaryLogits, "max(x, vec4<f32>(0.0)) - x * t", "x - x * t"),
        (ElementLoss::BinaryLogits, "agree & inside", "inside"),
    ] {
        let slots: Vec<Vec<f32>> = (0..2).map(|i| Random::new(i + 5).floats(4 * 67)).collect();
        let expected: Vec<Outcome> = slots.iter().map(|x| oracle_of_elements(loss, x)).collect();
        let r = record_elements(gpu, loss, &slots, &[4, 67], false);
        let bad = broken(&r.recording, "loss_elements", from, to);
        assert!(seen(gpu, &bad, &r, &expected), "{loss:?}: '{to}' went unseen");
    }
}

#[test]
fn losses_that_do_not_fit_are_refused() {
    let Some(gpu) = common::device("losses_that_do_not_fit_are_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::<f32>::uninit(gpu, shape).unwrap();
    let try_it = |smoothing: f32, logits: &[usize], labels: &[usize], scratch: &[usize], results: &[usize]| {
        let (scratch, results, gradient) = (t(scratch), t(results), t(logits));
        let labels = Tensor::uninit(gpu, labels).unwrap();
        let out = LossOut { gradient: Some(&gradient), scratch: &scratch, results: &results };
        let smoothing = Coefficient::Fixed(smoothing);
        let recorded = loss::cross_entropy(&mut Recording::new(), gpu.caps(), smoothing, &t(logits), &labels, &out);
        recorded.map_err(|e| e.kind())
    };
    assert_eq!(try_it(0.0, &[2, 5, 3], &[2, 5], &[2, 3, 5], &[2, 4]), Ok(()));
    assert_eq!(try_it(0.0, &[2, 5, 3], &[1, 5], &[2, 3, 5], &[2, 4]), Ok(()));
    assert_eq!(try_it(1.0, &[2, 5, 3], &[2, 5], &[2, 3, 5], &[2, 4]), Err(ErrorKind::BadInput));
    assert_eq!(try_it(0.0, &[2, 5, 3], &[3, 5], &[2, 3, 5], &[2, 4]), Err(ErrorKind::Internal));
    assert_eq!(try_it(0.0, &[2, 5, 3], &[2, 4], &[2, 3, 5], &[2, 4]), Err(ErrorKind::Internal));
    assert_eq!(try_it(0.0, &[2, 5, 3], &[2, 5], &[2, 3, 4], &[2, 4]), Err(ErrorKind::Internal));
    assert_eq!(try_it(0.0, &[2, 5, 3], &[2, 5], &[2, 3, 5], &[1, 4]), Err(ErrorKind::Internal));
    assert_eq!(try_it(0.0, &[2, 3], &[2], &[2, 3, 1], &[2, 4]), Err(ErrorKind::Internal), "no rows");
}
