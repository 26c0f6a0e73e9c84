//! `interval_box`, `interval_relu`, `interval_sign` and `loss_certified` against f64.

use wavehull::gpu::Recording;
use wavehull::train::interval::{self, Bounded};
use wavehull::train::loss::{self, IGNORED, Intervals, LossOut, Right};
use wavehull::{Gpu, Tensor};

use crate::common::{self, Random, U, broken};
use crate::losses::{Expected, sums};
use crate::{assert_independent, bits, on_both, per_slot};

/// Words of a slot: more than a workgroup takes in one go.
const WORDS: usize = 300;

/// What a slot holds: numbers with centres behind them, radii, what comes from above for both, and its own radius.
#[derive(Clone, Debug)]
struct Slot {
    both: Vec<f32>,
    radii: Vec<f32>,
    above: Vec<f32>,
    of_radii: Vec<f32>,
    eps: f32,
}

fn slot(seed: u64) -> Slot {
    let mut random = Random::new(seed + 40);
    let radii = (0..WORDS).map(|i| if i % 7 == 0 { 0.0 } else { random.unit().abs() as f32 }).collect();
    let (both, above) = (random.floats(2 * WORDS), random.floats(2 * WORDS));
    let of_radii = random.floats(WORDS).iter().map(|v| 1.5 * v).collect();
    Slot { both, radii, above, of_radii, eps: 0.05 * (1 + seed) as f32 }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Boxes,
    Relu,
    Gradient,
}

const ALL: [(What, &str); 3] =
    [(What::Boxes, "interval_box"), (What::Relu, "interval_relu"), (What::Gradient, "interval_relu")];

/// A recording and its results.
struct Recorded {
    recording: Recording,
    both: Tensor,
    radii: Tensor,
}

fn record(gpu: &Gpu, what: What, slots: &[Slot]) -> Recorded {
    let b = slots.len();
    let of = |width: usize, part: fn(&Slot) -> &Vec<f32>| {
        common::tensor(gpu, &[b, width], &slots.iter().flat_map(|s| part(s).clone()).collect::<Vec<_>>())
    };
    let (both_in, radii_in) = (of(2 * WORDS, |s| &s.both), of(WORDS, |s| &s.radii));
    let (above, of_radii) = (of(2 * WORDS, |s| &s.above), of(WORDS, |s| &s.of_radii));
    let eps: Vec<f32> = slots.iter().flat_map(|s| [9.0, s.eps]).collect();
    let eps = common::tensor(gpu, &[b, 2], &eps);
    let (both, radii) = (common::poisoned(gpu, &[b, 2 * WORDS]), common::poisoned(gpu, &[b, WORDS]));
    let (x, g) = (Bounded { both: &both_in, radii: &radii_in }, Bounded { both: &above, radii: &of_radii });
    let out = Bounded { both: &both, radii: &radii };
    let mut recording = Recording::new();
    let (r, caps) = (&mut recording, gpu.caps());
    match what {
        // Of inputs, some are outside of 0..1.
        What::Boxes => interval::boxes(r, caps, &of_radii, (&eps, 1), out),
        What::Relu => interval::relu(r, caps, x, out),
        What::Gradient => interval::relu_gradient(r, caps, x, g, out),
    }
    .unwrap();
    Recorded { recording, both, radii }
}

/// Numbers, centres and radii with their tolerances: two roundings and a half.
fn oracle(what: What, slot: &Slot) -> [Expected; 2] {
    let number = |x: &f32| f64::from(*x);
    let (x, c): (Vec<f64>, Vec<f64>) =
        (slot.both[..WORDS].iter().map(number).collect(), slot.both[WORDS..].iter().map(number).collect());
    let mut found = [Vec::new(), Vec::new(), Vec::new()];
    for i in 0..WORDS {
        let (r, above) = (number(&slot.radii[i]), [slot.above[i], slot.above[WORDS + i], slot.of_radii[i]]);
        let [gx, gc, gr] = above.map(f64::from);
        let off = |size: f64| 3.0 * U * size;
        let of = match what {
            What::Boxes => {
                let v = gr.clamp(0.0, 1.0);
                let (low, high) = ((v - f64::from(slot.eps)).max(0.0), (v + f64::from(slot.eps)).min(1.0));
                [(gr, 0.0), ((low + high) / 2.0, off(1.5)), ((high - low) / 2.0, off(1.5))]
            }
            What::Relu => {
                let (low, high) = ((c[i] - r).max(0.0), (c[i] + r).max(0.0));
                let size = c[i].abs() + r;
                [(x[i].max(0.0), 0.0), ((low + high) / 2.0, off(size)), ((high - low) / 2.0, off(size))]
            }
            What::Gradient => {
                let low = if c[i] - r > 0.0 { (gc - gr) / 2.0 } else { 0.0 };
                let high = if c[i] + r > 0.0 { (gc + gr) / 2.0 } else { 0.0 };
                let size = gc.abs() + gr.abs();
                [(if x[i] > 0.0 { gx } else { 0.0 }, 0.0), (low + high, off(size)), (high - low, off(size))]
            }
        };
        found.iter_mut().zip(of).for_each(|(list, one)| list.push(one));
    }
    let [x, c, r] = found;
    [[x, c].concat(), r]
}

fn expected(what: What, slots: &[Slot]) -> [Expected; 2] {
    let all: Vec<_> = slots.iter().map(|slot| oracle(what, slot)).collect();
    [0, 1].map(|i| all.iter().flat_map(|of| of[i].clone()).collect())
}

#[test]
fn intervals_agree_with_f64() {
    on_both("intervals_agree_with_f64", |gpu| {
        let slots: Vec<Slot> = (0..3).map(slot).collect();
        for (what, _) in ALL {
            let r = record(gpu, what, &slots);
            let [both, radii] = expected(what, &slots);
            let found = common::run(gpu, &r.recording, &r.both, false);
            common::compare(&found, &both).unwrap_or_else(|why| panic!("{what:?}: {why}"));
            let found = common::run(gpu, &r.recording, &r.radii, false);
            common::compare(&found, &radii).unwrap_or_else(|why| panic!("{what:?}: {why}"));
        }
    });
}

/// All that a recording leaves of every slot, as bits.
fn outcome(gpu: &Gpu, r: &Recorded, slots: usize) -> Vec<Vec<u32>> {
    let both = per_slot(&common::run(gpu, &r.recording, &r.both, false), slots);
    let radii = per_slot(&common::run(gpu, &r.recording, &r.radii, false), slots);
    both.into_iter().zip(radii).map(|(both, radii)| [both, radii].concat()).collect()
}

#[test]
fn intervals_of_a_slot_know_nothing_of_the_others() {
    let Some(gpu) = common::device("intervals_of_a_slot_know_nothing_of_the_others", false) else { return };
    let slots: Vec<Slot> = (0..3).map(slot).collect();
    let mut bad = slot(7);
    [&mut bad.both, &mut bad.radii, &mut bad.above, &mut bad.of_radii].into_iter().for_each(|v| v.fill(f32::NAN));
    for (what, _) in ALL {
        assert_independent(&slots, &bad, |slots| outcome(gpu, &record(gpu, what, slots), slots.len()));
    }
}

fn differs(gpu: &Gpu, recording: &Recording, r: &Recorded, expected: &[Expected; 2]) -> bool {
    [&r.both, &r.radii].into_iter().zip(expected).any(|(tensor, expected)| {
        let raw = common::run_raw(gpu, recording, tensor);
        let found: Vec<f32> = common::places(tensor).into_iter().map(|i| f32::from_bits(raw[i])).collect();
        common::compare(&found, expected).is_err()
    })
}

#[test]
fn broken_intervals_are_noticed() {
    let Some(gpu) = common::device("broken_intervals_are_noticed", false) else { return };
    let slots: Vec<Slot> = (0..2).map(slot).collect();
    for (what, from, to) in [
        (What::Boxes, "max(v - eps, vec4<f32>(0.0))", "v - eps"),
        (What::Boxes, "min(v + eps, vec4<f32>(1.0))", "v + eps"),
        (What::Boxes, "0.5 * (high - low)", "vec4<f32>(eps)"),
        (What::Boxes, "clamp(x, vec4<f32>(0.0), vec4<f32>(1.0))", "x"),
        (What::Boxes, "+ p.column", ""),
        (What::Relu, "max(c - r, zero)", "max(c, zero) - r"),
        (What::Relu, "max(c + r, zero)", "c + r"),
        (What::Relu, "0.5 * (high - low)", "r"),
        (What::Relu, "= max(x, zero)", "= x"),
        (What::Gradient, "c - r > zero", "c > zero"),
        (What::Gradient, "c + r > zero", "c > zero"),
        (What::Gradient, "0.5 * (gc - gr)", "0.5 * (gc + gr)"),
        (What::Gradient, "= high - low", "= gr"),
        (What::Gradient, "gx, x > zero", "gx, c > zero"),
    ] {
        let name = ALL.iter().find(|(known, _)| *known == what).unwrap().1;
        let r = record(gpu, what, &slots);
        let bad = broken(&r.recording, name, from, to);
        assert!(differs(gpu, &bad, &r, &expected(what, &slots)), "{what:?}: '{to}' went unseen");
    }
}

/// Weights with zeros among them, shares, gradients before.
fn signed(gpu: &Gpu, mutation: Option<(&str, &str)>) -> Result<(), String> {
    let (slots, words) = (3, 259);
    let mut random = Random::new(3);
    let weights: Vec<f32> = (0..slots * words).map(|i| if i % 5 == 0 { 0.0 } else { random.unit() as f32 }).collect();
    let (shares, before) = (random.floats(slots * words), random.floats(slots * words));
    let oracle: Expected = (0..slots * words)
        .map(|i| {
            let [w, s, g] = [weights[i], shares[i], before[i]].map(f64::from);
            let sign = if w == 0.0 { 0.0 } else { w.signum() };
            (g + sign * s, U * (g.abs() + s.abs()))
        })
        .collect();
    let of = |values: &[f32]| common::tensor(gpu, &[slots, words], values);
    let (weights, shares, gradients) = (of(&weights), of(&shares), of(&before));
    let mut recording = Recording::new();
    interval::sign(&mut recording, gpu.caps(), &weights, &shares, &gradients).unwrap();
    let recording = mutation.map_or(recording.clone(), |(from, to)| broken(&recording, "interval_sign", from, to));
    let raw = common::run_raw(gpu, &recording, &gradients);
    let found: Vec<f32> = common::places(&gradients).into_iter().map(|i| f32::from_bits(raw[i])).collect();
    common::compare(&found, &oracle)
}

#[test]
fn gradients_of_magnitudes_come_with_the_sign() {
    on_both("gradients_of_magnitudes_come_with_the_sign", |gpu| {
        signed(gpu, None).unwrap();
        for (from, to) in [("+= sign", "= sign"), ("sign(", "abs("), ("sign(weights", "(weights")] {
            assert!(signed(gpu, Some((from, to))).is_err(), "'{to}' went unseen");
        }
    });
}

/// A slot of a classification: logits of samples and centres, radii, labels, the share of the samples' own loss.
#[derive(Clone, Debug)]
struct Rows {
    logits: Vec<f32>,
    radii: Vec<f32>,
    labels: Vec<u32>,
    share: f32,
}

fn rows(seed: u64, rows: usize, classes: usize) -> Rows {
    let mut random = Random::new(seed * 77 + (rows * 5 + classes) as u64);
    let scale = |i: usize| if (i / classes).is_multiple_of(3) { 200.0 } else { 3.0 };
    let logits = (0..2 * rows * classes).map(|i| random.unit() as f32 * scale(i)).collect();
    let radii = (0..rows * classes).map(|_| 0.3 * random.unit().abs() as f32).collect();
    let label = |i: usize| if i % 5 == 4 { IGNORED } else { random.below(classes) as u32 };
    let labels = (0..rows).map(label).collect();
    Rows { logits, radii, labels, share: 0.2 + 0.3 * seed as f32 }
}

/// Cross-entropy and its gradient, each with a tolerance, after the header: `big` bounds what was rounded when the numbers came about.
fn cross_entropy(v: &[f64], label: usize, big: f64) -> ((f64, f64), Expected) {
    let top = v.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = v.iter().map(|v| (v - top).exp()).sum();
    let p = |j: usize| (v[j] - top).exp() / sum;
    let error = |j: usize| (3.0 + 3.0 * (v[j] - top).abs()) * U + 3.0 * U * big;
    let depth = (v.len().div_ceil(4) + 10) as f64 * U;
    let of_sum = depth + (0..v.len()).map(|j| p(j) * error(j)).sum::<f64>();
    let log = 2.0_f64.powi(-21).max(3.0 * U * sum.ln());
    let loss = sum.ln() + top - v[label];
    let off = of_sum + log + 6.0 * U * (sum.ln() + top - v[label]) + 3.0 * U * big;
    let hit = |j: usize| f64::from(u8::from(j == label));
    let gradient = (0..v.len())
        .map(|j| (p(j) - hit(j), p(j) * (error(j) + of_sum) + 8.0 * U * (p(j) + hit(j)) + 2.0_f64.powi(-126)));
    ((loss, off), gradient.collect())
}

/// Gradients of logits and of radii, and results.
type Outcome = [Expected; 3];

fn outcome_of(slot: &Rows, classes: usize, right: Right) -> Outcome {
    let rows = slot.labels.len();
    let n = slot.labels.iter().filter(|&&label| label != IGNORED).count().max(1) as f64;
    let share = f64::from(slot.share);
    let row =
        |of: &[f32], row: usize| -> Vec<f64> { of[row * classes..][..classes].iter().map(|&v| v.into()).collect() };
    let (mut of_x, mut of_c, mut of_r) = (Vec::new(), Vec::new(), Vec::new());
    let (mut losses, mut correct) = (Vec::new(), 0.0);
    for (i, &label) in slot.labels.iter().enumerate() {
        if label == IGNORED {
            [&mut of_x, &mut of_c, &mut of_r].into_iter().for_each(|list| list.extend(vec![(0.0, 0.0); classes]));
            continue;
        }
        let label = label as usize;
        let (x, c, r) = (row(&slot.logits, i), row(&slot.logits, rows + i), row(&slot.radii, i));
        let worst: Vec<f64> = (0..classes).map(|j| if j == label { c[j] - r[j] } else { c[j] + r[j] }).collect();
        let big = c.iter().zip(&r).map(|(c, r)| c.abs() + r).fold(0.0, f64::max);
        let ((l0, off0), g0) = cross_entropy(&x, label, 0.0);
        let ((l1, off1), g1) = cross_entropy(&worst, label, big);
        let loss = share * l0 + (1.0 - share) * l1;
        losses.push((loss, share * off0 + (1.0 - share) * off1 + 5.0 * U * loss));
        let looked = if right == Right::Logits { &x } else { &worst };
        correct += f64::from(u8::from((0..classes).all(|j| j == label || looked[j] < looked[label])));
        let scaled = |(g, off): (f64, f64), s: f64| (s * g / n, (s * off + 4.0 * U * (s * g).abs()) / n);
        of_x.extend(g0.iter().map(|&g| scaled(g, share)));
        of_c.extend(g1.iter().map(|&g| scaled(g, 1.0 - share)));
        let signed = g1.iter().enumerate().map(|(j, &(g, off))| (if j == label { -g } else { g }, off));
        of_r.extend(signed.map(|g| scaled(g, 1.0 - share)));
    }
    [[of_x, of_c].concat(), of_r, sums(&losses, correct, n, losses.len() as f64)]
}

/// A recording and its results: gradients of logits and radii, results.
struct Loss {
    recording: Recording,
    tensors: [Tensor; 3],
}

fn record_loss(gpu: &Gpu, slots: &[Rows], classes: usize, right: Right) -> Loss {
    let (b, rows) = (slots.len(), slots[0].labels.len());
    let flat = |part: fn(&Rows) -> &Vec<f32>| slots.iter().flat_map(|s| part(s).clone()).collect::<Vec<_>>();
    let logits = common::tensor(gpu, &[b, 2 * rows, classes], &flat(|s| &s.logits));
    let radii = common::tensor(gpu, &[b, rows, classes], &flat(|s| &s.radii));
    let labels: Vec<u32> = slots.iter().flat_map(|s| s.labels.clone()).collect();
    let labels = common::tensor(gpu, &[b, rows], &labels);
    let shares: Vec<f32> = slots.iter().flat_map(|s| [9.0, s.share]).collect();
    let shares = common::tensor(gpu, &[b, 2], &shares);
    let tensors = [
        common::poisoned(gpu, &[b, 2 * rows, classes]),
        common::poisoned(gpu, &[b, rows, classes]),
        common::poisoned(gpu, &[b, 4]),
    ];
    let scratch = common::poisoned(gpu, &[b, 3, rows]);
    let [gradient, of_radii, results] = &tensors;
    let out = LossOut { gradient: Some(gradient), scratch: &scratch, results };
    let intervals = Intervals { radii: &radii, gradient: Some(of_radii), share: (&shares, 1), right };
    let mut recording = Recording::new();
    loss::certified(&mut recording, gpu.caps(), &logits, &intervals, &labels, &out).unwrap();
    Loss { recording, tensors }
}

fn compare_loss(
    gpu: &Gpu,
    r: &Loss,
    recording: &Recording,
    slots: &[Rows],
    classes: usize,
    right: Right,
) -> Result<(), String> {
    let all: Vec<Outcome> = slots.iter().map(|slot| outcome_of(slot, classes, right)).collect();
    for (i, tensor) in r.tensors.iter().enumerate() {
        let expected: Expected = all.iter().flat_map(|outcome| outcome[i].clone()).collect();
        let raw = common::run_raw(gpu, recording, tensor);
        let found: Vec<f32> = common::places(tensor).into_iter().map(|i| f32::from_bits(raw[i])).collect();
        common::compare(&found, &expected).map_err(|why| format!("array {i}: {why}"))?;
    }
    Ok(())
}

#[test]
fn the_certified_loss_agrees_with_f64() {
    on_both("the_certified_loss_agrees_with_f64", |gpu| {
        for (count, classes) in [(1, 1), (5, 3), (70, 10), (130, 4), (3, 129)] {
            for right in [Right::Logits, Right::Bounds] {
                let slots: Vec<Rows> = (0..3).map(|seed| rows(seed, count, classes)).collect();
                let r = record_loss(gpu, &slots, classes, right);
                compare_loss(gpu, &r, &r.recording, &slots, classes, right)
                    .unwrap_or_else(|why| panic!("{count} x {classes}, {right:?}: {why}"));
                // Nothing outside of rows and their padding is written.
                r.tensors.iter().enumerate().for_each(|(i, t)| drop(common::run::<f32>(gpu, &r.recording, t, i < 2)));
            }
        }
    });
}

#[test]
fn gradients_of_the_certified_oracle_are_its_differences() {
    let (slot, classes, h) = (rows(1, 3, 5), 5, 2.0_f32.powi(-10));
    let loss = |slot: &Rows| outcome_of(slot, classes, Right::Logits)[2][0].0;
    let [of_logits, of_radii, _] = outcome_of(&slot, classes, Right::Logits);
    let pick = |of_logits: bool, at: usize, by: f32| {
        let mut moved = slot.clone();
        let list = if of_logits { &mut moved.logits } else { &mut moved.radii };
        list[at] += by;
        (f64::from(list[at]), loss(&moved))
    };
    for (which, gradient) in [(true, of_logits), (false, of_radii)] {
        for (at, &(g, _)) in gradient.iter().enumerate() {
            let ((x1, y1), (x0, y0)) = (pick(which, at, h), pick(which, at, -h));
            assert!((g - (y1 - y0) / (x1 - x0)).abs() < 1e-6, "logits: {which}, element {at}");
        }
    }
}

#[test]
fn the_certified_loss_of_a_slot_knows_nothing_of_the_others() {
    let Some(gpu) = common::device("the_certified_loss_of_a_slot_knows_nothing_of_the_others", false) else { return };
    let slots: Vec<Rows> = (0..3).map(|seed| rows(seed, 70, 10)).collect();
    let mut bad = rows(5, 70, 10);
    [&mut bad.logits, &mut bad.radii].into_iter().for_each(|v| v.fill(f32::NAN));
    assert_independent(&slots, &bad, |slots| {
        let r = record_loss(gpu, slots, 10, Right::Bounds);
        let parts = r.tensors.each_ref().map(|tensor| {
            let raw = common::run_raw(gpu, &r.recording, tensor);
            let found: Vec<f32> = common::places(tensor).into_iter().map(|i| f32::from_bits(raw[i])).collect();
            found.chunks(found.len() / slots.len()).map(bits).collect::<Vec<_>>()
        });
        (0..slots.len()).map(|slot| parts.iter().flat_map(|part| part[slot].clone()).collect()).collect()
    });
}

#[test]
fn broken_certified_losses_are_noticed() {
    let Some(gpu) = common::device("broken_certified_losses_are_noticed", false) else { return };
    let slots: Vec<Rows> = (0..2).map(|seed| rows(seed, 130, 10)).collect();
    for (from, to) in [
        ("select(r, -r, indices(q) == vec4<u32>(t))", "r"),
        ("select(vec4<f32>(0.0), radii[at_radius + q], worst)", "radii[at_radius + q]"),
        ("select(share, 1.0 - share, worst)", "share"),
        ("select(g, -g, j == vec4<u32>(t))", "g"),
        ("(e - hit) / rows", "(e - hit) / f32(p.rows)"),
        ("loss += weight * of_part", "loss += of_part"),
        ("part == p.bounds", "part == 0u"),
        ("vec4<bool>(counted) & (j < classes)", "j < classes"),
        ("let largest = max(max(top.x, top.y), max(top.z, top.w))", "let largest = 0.0"),
        ("better & inside", "inside"),
        ("select(0.0, loss, counted)", "loss"),
        ("* p.plane] = select(0.0, 1.0, counted);", "* p.plane] = 1.0;"),
        ("row + part * p.rows", "row"),
    ] {
        let r = record_loss(gpu, &slots, 10, Right::Bounds);
        let bad = broken(&r.recording, "loss_certified", from, to);
        let seen = compare_loss(gpu, &r, &bad, &slots, 10, Right::Bounds).is_err();
        assert!(seen, "'{to}' for '{from}' went unseen");
    }
}
