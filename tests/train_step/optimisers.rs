//! `optimise`, `gradient_squares`, `gradient_clip`: torch's formulas in f64, empty slots, clipping, windows.

use wavehull::gpu::{Caps, Recording};
use wavehull::ops::elementwise::{self, Binary};
use wavehull::train::optimiser::tables::{Field, NormPlan, StepTables, record_norms, record_step};
use wavehull::train::{Optimiser, Schedule};
use wavehull::{Control, ErrorKind, Gpu, Tensor};

use crate::common::{self, Random, U, broken};
use crate::{assert_independent, bits, on_both};

/// Values with their tolerances.
type Expected = Vec<(f64, f64)>;

/// A slot before a step.
#[derive(Clone, Debug)]
struct Slot {
    optimiser: Optimiser,
    step: u64,
    lr: f64,
    live: bool,
    w: Vec<f32>,
    g: Vec<f32>,
    s: Vec<f32>,
    t: Vec<f32>,
}

fn slot(seed: u64, optimiser: Optimiser, step: u64, n: usize) -> Slot {
    let mut random = Random::new(seed + 11);
    let (w, g) = (random.floats(n), random.floats(n));
    // The first state is a mean square for RMSprop, the second for Adam; nothing that is fresh may count.
    let squares = |random: &mut Random| random.floats(n).iter().map(|v| v * v + 1e-4).collect::<Vec<f32>>();
    let (mut s, mut t) = match optimiser {
        Optimiser::RmsProp { .. } => (squares(&mut random), random.floats(n)),
        _ => (random.floats(n), squares(&mut random)),
    };
    if step == 0 {
        (s, t) = (vec![f32::NAN; n], vec![f32::NAN; n]);
    }
    Slot { optimiser, step, lr: 0.01 * (seed + 1) as f64, live: true, w, g, s, t }
}

/// One row of each kind, in families that may share an array.
fn families() -> Vec<Vec<Optimiser>> {
    let sgd =
        |momentum, dampening, nesterov, weight_decay| Optimiser::Sgd { momentum, dampening, nesterov, weight_decay };
    let rms = |alpha, momentum, weight_decay| Optimiser::RmsProp { alpha, eps: 1e-8, momentum, weight_decay };
    let adam = Optimiser::Adam { beta1: 0.8, beta2: 0.99, eps: 1e-3, weight_decay: 0.1 };
    let decoupled = Optimiser::AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.3 };
    vec![
        vec![Optimiser::sgd(), sgd(0.0, 0.0, false, 0.1)],
        vec![sgd(0.9, 0.0, false, 0.0), sgd(0.8, 0.0, true, 0.1), sgd(0.9, 0.3, false, 0.1), Optimiser::sgd()],
        vec![Optimiser::adam(), adam, Optimiser::adam_w(), decoupled],
        vec![Optimiser::rms_prop(), rms(0.9, 0.0, 0.1)],
        vec![rms(0.9, 0.7, 0.1), rms(0.99, 0.5, 0.0), Optimiser::rms_prop()],
    ]
}

fn state_tables(slots: &[Slot]) -> usize {
    slots.iter().map(|s| s.optimiser.state_tables()).max().unwrap()
}

/// Tables of an array, before a step.
struct Array {
    w: Tensor,
    g: Tensor,
    state: Vec<Tensor>,
    coefficients: Tensor,
}

fn array(gpu: &Gpu, slots: &[Slot], clip: Option<f64>) -> Array {
    let (b, n) = (slots.len(), slots[0].w.len());
    let table = |f: fn(&Slot) -> &Vec<f32>| {
        common::tensor(gpu, &[b, n], &slots.iter().flat_map(|s| f(s).clone()).collect::<Vec<_>>())
    };
    let rows = slots.iter().flat_map(|s| if s.live { s.optimiser.coefficients(s.step, s.lr, clip) } else { [0.0; 16] });
    let state = [table(|s| &s.s), table(|s| &s.t)][..state_tables(slots)].to_vec();
    let coefficients = common::tensor(gpu, &[b, 16], &rows.collect::<Vec<_>>());
    Array { w: table(|s| &s.w), g: table(|s| &s.g), state, coefficients }
}

fn record(caps: &Caps, slots: &[Slot], array: &Array, factors: Option<&Tensor>) -> Recording {
    let tables = StepTables {
        parameters: &array.w,
        gradients: &array.g,
        state: &array.state,
        coefficients: &array.coefficients,
        factors,
    };
    let mut recording = Recording::new();
    record_step(&mut recording, caps, slots[0].optimiser.formula(), &tables).unwrap();
    recording
}

/// What a step leaves: parameters and state, as bits, of every slot.
fn outcome(gpu: &Gpu, recording: &Recording, array: &Array) -> Vec<Vec<u32>> {
    gpu.run(recording, &Control::default()).unwrap();
    let slots = array.w.shape()[0];
    let mut words = vec![Vec::new(); slots];
    for table in std::iter::once(&array.w).chain(&array.state) {
        let values = bits(&table.to_array(gpu).unwrap().into_raw_vec_and_offset().0);
        for (of_slot, values) in words.iter_mut().zip(values.chunks(values.len() / slots)) {
            of_slot.extend(values);
        }
    }
    words
}

/// A number and what it may be off by.
#[derive(Clone, Copy)]
struct Near(f64, f64);

impl Near {
    /// A product with a coefficient that was rounded.
    fn times(self, c: f64) -> Self {
        Self(self.0 * c, self.1 * c.abs() + 2.0 * U * (self.0 * c).abs())
    }

    fn plus(self, other: Self) -> Self {
        let sum = self.0 + other.0;
        Self(sum, self.1 + other.1 + U * (sum.abs() + self.0.abs().max(other.0.abs())))
    }

    fn squared(self) -> Self {
        Self(self.0 * self.0, 2.0 * self.0.abs() * self.1 + self.1 * self.1 + U * self.0 * self.0)
    }

    fn root(self) -> Self {
        let root = self.0.sqrt();
        Self(root, if root > 0.0 { 0.51 * self.1 / root } else { self.1.sqrt() } + 4.0 * U * root)
    }

    fn over(self, other: Self) -> Self {
        let value = self.0 / other.0;
        Self(value, 1.01 * (self.1 + value.abs() * other.1) / other.0 + 3.0 * U * value.abs())
    }
}

/// Parameters, then state, of a slot after a step by torch's formulas, in the words of torch's documentation.
fn oracle(slot: &Slot, tables: usize) -> Expected {
    let first = slot.step == 0;
    let t = i32::try_from(slot.step).unwrap() + 1;
    let (mut ws, mut ss, mut ts) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..slot.w.len() {
        let exact = |x: f32| Near(f64::from(x), 0.0);
        let state = |x: f32| if first { Near(0.0, 0.0) } else { exact(x) };
        let (w, g, s1, s2) = (exact(slot.w[i]), exact(slot.g[i]), state(slot.s[i]), state(slot.t[i]));
        let (new, s, t) = match slot.optimiser {
            Optimiser::Sgd { momentum, dampening, nesterov, weight_decay } => {
                let d = g.plus(w.times(weight_decay));
                let v = if first { d } else { s1.times(momentum).plus(d.times(1.0 - dampening)) };
                let u = match (momentum == 0.0, nesterov) {
                    (true, _) => d,
                    (_, true) => d.plus(v.times(momentum)),
                    _ => v,
                };
                (w.plus(u.times(-slot.lr)), v, s2)
            }
            Optimiser::Adam { beta1, beta2, eps, weight_decay }
            | Optimiser::AdamW { beta1, beta2, eps, weight_decay } => {
                let coupled = matches!(slot.optimiser, Optimiser::Adam { .. });
                let d = if coupled { g.plus(w.times(weight_decay)) } else { g };
                let m = s1.times(beta1).plus(d.times(1.0 - beta1));
                let v = s2.times(beta2).plus(d.squared().times(1.0 - beta2));
                let root = v.root().times(1.0 / (1.0 - beta2.powi(t)).sqrt());
                let u = m.over(root.plus(Near(eps, U * eps)));
                let kept = if coupled { w } else { w.times(1.0 - slot.lr * weight_decay) };
                (kept.plus(u.times(-slot.lr / (1.0 - beta1.powi(t)))), m, v)
            }
            Optimiser::RmsProp { alpha, eps, momentum, weight_decay } => {
                let d = g.plus(w.times(weight_decay));
                let v = s1.times(alpha).plus(d.squared().times(1.0 - alpha));
                let u = d.over(v.root().plus(Near(eps, U * eps))).plus(s2.times(momentum));
                (w.plus(u.times(-slot.lr)), v, u)
            }
            _ => unreachable!(),
        };
        ws.push((new.0, new.1));
        ss.push((s.0, s.1));
        ts.push((t.0, t.1));
    }
    let state = [ss, ts].into_iter().take(tables).flatten();
    ws.into_iter().chain(state).collect()
}

fn check(gpu: &Gpu, recording: &Recording, slots: &[Slot], array: &Array) -> Result<(), String> {
    let tables = state_tables(slots);
    for (b, (words, slot)) in outcome(gpu, recording, array).iter().zip(slots).enumerate() {
        let got: Vec<f32> = words.iter().map(|&word| f32::from_bits(word)).collect();
        common::compare(&got, &oracle(slot, tables)).map_err(|why| format!("slot {b}, {:?}: {why}", slot.optimiser))?;
    }
    Ok(())
}

/// A family as slots at this step.
fn slots_of(family: &[Optimiser], step: u64, n: usize) -> Vec<Slot> {
    family.iter().enumerate().map(|(i, &optimiser)| slot(i as u64, optimiser, step, n)).collect()
}

#[test]
fn steps_are_torchs() {
    on_both("steps_are_torchs", |gpu| {
        for family in families() {
            for step in [0, 1, 700] {
                for n in [1, 70, 600] {
                    let slots = slots_of(&family, step, n);
                    let array = array(gpu, &slots, None);
                    let recording = record(gpu.caps(), &slots, &array, None);
                    check(gpu, &recording, &slots, &array).unwrap_or_else(|why| panic!("step {step}, {n}: {why}"));
                }
            }
        }
    });
}

#[test]
fn an_empty_slot_is_not_touched_and_slots_know_nothing_of_each_other() {
    let Some(gpu) = common::device("an_empty_slot_is_not_touched_and_slots_know_nothing", false) else { return };
    for family in families() {
        let tables = slots_of(&family, 5, 1).iter().map(|s| s.optimiser.state_tables()).max().unwrap();
        // The neediest member decides how many tables there are: all runs take as many.
        let needy = *family.iter().find(|o| o.state_tables() == tables).unwrap();
        let empty = Slot { live: false, g: vec![f32::NAN; 70], ..slot(3, needy, 5, 70) };
        let nan = Slot { g: vec![f32::NAN; 70], lr: 1e30, ..slot(4, needy, 5, 70) };
        for broken in [&empty, &nan] {
            let run = |slots: &[Slot]| {
                let with_needy = [slots, std::slice::from_ref(&empty)].concat();
                let array = array(gpu, &with_needy, None);
                let words = outcome(gpu, &record(gpu.caps(), &with_needy, &array, None), &array);
                let before = [&empty.w, &empty.s, &empty.t];
                let untouched = before[..=tables].iter().flat_map(|v| bits(v));
                assert!(words[slots.len()].iter().copied().eq(untouched), "an empty slot was written");
                words[..slots.len()].to_vec()
            };
            assert_independent(&slots_of(&family, 5, 70), broken, run);
        }
    }
}

#[test]
fn windows_of_slots_leave_the_same() {
    let Some(gpu) = common::device("windows_of_slots_leave_the_same", false) else { return };
    let mut small = gpu.caps().clone();
    small.max_binding = 64 << 10;
    let family = [Optimiser::adam(); 11];
    let slots = slots_of(&family, 3, 5056);
    let steps = |caps: &Caps| {
        let array = array(gpu, &slots, None);
        let recording = record(caps, &slots, &array, None);
        (recording.dispatches(), outcome(gpu, &recording, &array))
    };
    let (whole, parts) = (steps(gpu.caps()), steps(&small));
    assert!(whole.1.windows(2).all(|pair| pair[0] != pair[1]), "slots that are alike test nothing");
    assert!(whole.0 == 1 && parts.0 > 2, "{} dispatches", parts.0);
    assert!(whole.1 == parts.1);
}

/// Fields whose rows have padding, of one chunk and of several, with room between them.
fn fields() -> [Field; 4] {
    [Field::new(0, &[5, 3]), Field::new(64, &[9]), Field::new(128, &[3, 5000]), Field::new(15_168, &[2, 700, 6])]
}

const WIDTH: usize = 15_168 + 1400 * 8 + 32;

/// A table of gradients with NaN wherever no field is, and the square of its norm.
fn gradients(gpu: &Gpu, scales: &[f32]) -> (Tensor, Vec<f64>) {
    let mut values = vec![f32::from_bits(common::POISON); scales.len() * WIDTH];
    let mut squares = vec![0.0; scales.len()];
    let mut random = Random::new(8);
    for (b, &scale) in scales.iter().enumerate() {
        for field in fields() {
            for row in 0..field.rows {
                for column in 0..field.columns {
                    let value = scale * random.unit() as f32;
                    values[b * WIDTH + field.first + row * field.columns.next_multiple_of(4) + column] = value;
                    squares[b] += f64::from(value).powi(2);
                }
            }
        }
    }
    (common::tensor(gpu, &[scales.len(), WIDTH], &values), squares)
}

fn norms(gpu: &Gpu, scales: &[f32], limits: &[Option<f64>]) -> (Recording, Tensor, Expected) {
    let (table, squares) = gradients(gpu, scales);
    let plan = NormPlan::new(gpu, &fields()).unwrap();
    let rows: Vec<f32> = limits.iter().flat_map(|&l| Optimiser::sgd().coefficients(0, 0.1, l)).collect();
    let coefficients = common::tensor(gpu, &[limits.len(), 16], &rows);
    let (scratch, factors) =
        (common::poisoned(gpu, &plan.scratch(limits.len())), common::poisoned(gpu, &[limits.len(), 4]));
    let mut recording = Recording::new();
    record_norms(&mut recording, gpu.caps(), &plan, &table, &coefficients, &scratch, &factors).unwrap();
    let mut expected = Vec::new();
    for (square, limit) in squares.iter().zip(limits) {
        let norm = square.sqrt();
        // A sum of positive terms: 24 + 6 + 1 roundings of the square, half as many of the root, and 4 ulp of it.
        let off = norm * (16.0 + 4.0) * U;
        let factor = limit.map_or(1.0, |l| (l / (norm + 1e-6)).min(1.0));
        expected.push((factor, if factor < 1.0 { factor * 26.0 * U } else { 0.0 }));
        expected.extend([(norm, off), (0.0, 0.0), (0.0, 0.0)]);
    }
    (recording, factors, expected)
}

#[test]
fn norms_leave_padding_out_and_factors_keep_limits() {
    on_both("norms_leave_padding_out_and_factors_keep_limits", |gpu| {
        let limits = [None, Some(1e30), Some(0.5), Some(2.0)];
        let (recording, factors, expected) = norms(gpu, &[1.0, 1.0, 1e-2, 1e3], &limits);
        common::compare(&common::run(gpu, &recording, &factors, false), &expected).unwrap();
    });
}

#[test]
fn a_norm_knows_nothing_of_other_slots() {
    let Some(gpu) = common::device("a_norm_knows_nothing_of_other_slots", false) else { return };
    let (recording, factors, _) = norms(gpu, &[1.0, f32::NAN, 0.5], &[Some(0.5); 3]);
    let together: Vec<f32> = common::run(gpu, &recording, &factors, false);
    let (recording, factors, _) = norms(gpu, &[1.0], &[Some(0.5)]);
    assert_eq!(bits(&together[..4]), bits(&common::run(gpu, &recording, &factors, false)));
    assert!(together[4].is_nan() && together[8].is_finite(), "{together:?}");
}

#[test]
fn clipped_steps_use_their_own_factors() {
    on_both("clipped_steps_use_their_own_factors", |gpu| {
        for family in families() {
            let mut slots = slots_of(&family, 2, 70);
            let array = array(gpu, &slots, None);
            // Powers of two, so that the oracle's gradients are exact.
            let factor = |i: usize| [1.0, 0.25, 0.5, 0.125][i % 4];
            let factors: Vec<f32> = (0..slots.len()).flat_map(|i| [factor(i), f32::NAN, 0.0, 0.0]).collect();
            let factors = common::tensor(gpu, &[slots.len(), 4], &factors);
            let recording = record(gpu.caps(), &slots, &array, Some(&factors));
            for (i, slot) in slots.iter_mut().enumerate() {
                slot.g.iter_mut().for_each(|g| *g *= factor(i));
            }
            check(gpu, &recording, &slots, &array).unwrap();
        }
    });
}

#[test]
fn broken_optimisers_are_noticed() {
    let Some(gpu) = common::device("broken_optimisers_are_noticed", false) else { return };
    let families = families();
    for (family, step, from, to) in [
        (0, 1, "c0.z * old)", "c0.z * old * 1.0001)"),
        (0, 1, "fma(vec4<f32>(c0.w), old, g[b * p.stride_g + q])", "g[b * p.stride_g + q]"),
        (1, 1, "c1.y * d", "d"),
        (1, 1, "c2.y * d", "0.0 * d"),
        (1, 0, "select(state_s[b * p.stride_s + q], vec4<f32>(0.0), fresh)", "state_s[b * p.stride_s + q]"),
        (1, 1, "let c = (p.first + b) * p.stride_c;", "let c = 0u;"),
        (2, 1, "sqrt(t), vec4<f32>(c2.w)", "sqrt(t), vec4<f32>(0.0)"),
        (2, 1, "fma(vec4<f32>(c2.z), sqrt(t)", "fma(vec4<f32>(1.0), sqrt(t)"),
        (2, 1, "c1.w * (d * d)", "c1.w * d"),
        (3, 1, "sqrt(s) + c2.w", "sqrt(s + c2.w) * 1.0001"),
        (4, 1, "fma(vec4<f32>(c1.x), t, scaled)", "fma(vec4<f32>(c1.x), scaled, t)"),
        (2, 1, "c0.z * old)", "old)"),
    ] {
        let slots = slots_of(&families[family], step, 70);
        let array = array(gpu, &slots, None);
        let bad = broken(&record(gpu.caps(), &slots, &array, None), "optimise", from, to);
        assert!(check(gpu, &bad, &slots, &array).is_err(), "'{to}' went unseen");
    }
    for (kernel, from, to) in [
        ("gradient_squares", "select(s, fma(v, v, s), inside)", "fma(v, v, s)"),
        ("gradient_squares", "i += 64u", "i += 65u"),
        ("gradient_squares", "(chunk.w / 4u)", "(chunk.w / 4u + 1u)"),
        ("gradient_clip", "norm + 1e-6 <= limit", "norm <= 2.0 * limit"),
        ("gradient_clip", "limit <= 0.0 ||", ""),
        ("gradient_clip", "sqrt(sums[0])", "sqrt(sums[0]) * 1.0001"),
    ] {
        let (recording, factors, expected) = norms(gpu, &[1.0, 0.1, 1.0], &[None, Some(1e30), Some(45.0)]);
        let bad = broken(&recording, kernel, from, to);
        let got: Vec<f32> = common::run(gpu, &bad, &factors, false);
        assert!(common::compare(&got, &expected).is_err(), "'{to}' of {kernel} went unseen: {got:?}");
    }
}

#[test]
fn tables_that_do_not_fit_are_refused() {
    let Some(gpu) = common::device("tables_that_do_not_fit_are_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::<f32>::uninit(gpu, shape).unwrap();
    let (w, g, s, c) = (t(&[2, 64]), t(&[2, 64]), t(&[2, 64]), t(&[2, 16]));
    let try_it = |optimiser: Optimiser, gradients: &Tensor, state: &[Tensor]| {
        let tables = StepTables { parameters: &w, gradients, state, coefficients: &c, factors: None };
        record_step(&mut Recording::new(), gpu.caps(), optimiser.formula(), &tables).map_err(|e| e.kind())
    };
    assert_eq!(try_it(Optimiser::sgd(), &g, &[]), Ok(()));
    assert_eq!(try_it(Optimiser::adam(), &g, std::slice::from_ref(&s)), Err(ErrorKind::Internal));
    assert_eq!(try_it(Optimiser::sgd(), &t(&[2, 60]), &[]), Err(ErrorKind::Internal));
    assert_eq!(try_it(Optimiser::sgd(), &w, &[]), Err(ErrorKind::Internal), "a table twice");
    let plan = NormPlan::new(gpu, &[Field::new(0, &[65])]).unwrap();
    let (scratch, factors) = (t(&plan.scratch(2)), t(&[2, 4]));
    let norms = record_norms(&mut Recording::new(), gpu.caps(), &plan, &g, &c, &scratch, &factors);
    assert_eq!(norms.map_err(|e| e.kind()), Err(ErrorKind::Internal), "a field behind the end");
}

/// A member of a run of many steps: it starts at `start` in a slot where others were before.
#[derive(Clone, Debug)]
struct Member {
    optimiser: Optimiser,
    schedule: Schedule,
    clip: Option<f64>,
    target: f32,
    start: u64,
}

/// Parameters of every slot after some steps of one recording that is replayed: the gradient is the distance from a target. Before its start
/// a slot trains something else, whose state it finds.
fn trained(gpu: &Gpu, members: &[Member], steps: u64) -> Vec<Vec<u32>> {
    const N: usize = 90;
    let b = members.len();
    let first = |m: &Member| -> Vec<f32> { Random::new(m.target.to_bits().into()).floats(N) };
    let targets: Vec<f32> = members.iter().flat_map(|m| vec![m.target; N]).collect();
    let targets = Tensor::from_slice(gpu, &[b, N], &targets).unwrap();
    let w = Tensor::from_slice(gpu, &[b, N], &members.iter().flat_map(first).collect::<Vec<_>>()).unwrap();
    let t = |shape: &[usize]| common::poisoned::<f32>(gpu, shape);
    let (g, state, coefficients, factors) = (t(&[b, N]), [t(&[b, N]), t(&[b, N])], t(&[b, 16]), t(&[b, 4]));
    let plan = NormPlan::new(gpu, &[Field::new(0, &[N])]).unwrap();
    let scratch = t(&plan.scratch(b));
    let tables = StepTables {
        parameters: &w,
        gradients: &g,
        state: &state,
        coefficients: &coefficients,
        factors: Some(&factors),
    };
    let mut step = Recording::new();
    elementwise::binary(&mut step, gpu.caps(), Binary::Sub, &w, &targets, &g).unwrap();
    record_norms(&mut step, gpu.caps(), &plan, &g, &coefficients, &scratch, &factors).unwrap();
    record_step(&mut step, gpu.caps(), members[0].optimiser.formula(), &tables).unwrap();
    for now in 0..steps {
        if members.iter().any(|m| m.start == now && now > 0) {
            let mut all = w.to_array(gpu).unwrap().into_raw_vec_and_offset().0;
            for (of_slot, m) in all.chunks_mut(N).zip(members).filter(|(_, m)| m.start == now) {
                of_slot.copy_from_slice(&first(m));
            }
            w.write(gpu, &all).unwrap();
        }
        let row = |m: &Member| match now.checked_sub(m.start) {
            Some(age) => m.optimiser.coefficients(age, m.schedule.rate(0.05, age), m.clip),
            None => Optimiser::adam().coefficients(now, 0.3, None),
        };
        coefficients.write(gpu, &members.iter().flat_map(row).collect::<Vec<_>>()).unwrap();
        gpu.run(&step, &Control::default()).unwrap();
    }
    let left = w.to_array(gpu).unwrap().into_raw_vec_and_offset().0;
    left.chunks(N).map(bits).collect()
}

#[test]
fn fifty_steps_are_the_same_alone_and_in_any_company() {
    let Some(gpu) = common::device("fifty_steps_are_the_same_alone_and_in_any_company", false) else { return };
    let member = |optimiser, schedule, clip, target, start| Member { optimiser, schedule, clip, target, start };
    let cosine = Schedule::Cosine { steps: 50, least: 1e-3 };
    let warm = Schedule::WarmUp { steps: 10, then: Box::new(cosine.clone()) };
    let members = [
        member(Optimiser::adam(), Schedule::Constant, None, 0.5, 0),
        member(Optimiser::adam_w(), warm, Some(0.1), 0.25, 0),
        member(Optimiser::adam(), Schedule::OneCycle { steps: 25 }, Some(1e9), 0.75, 25),
        member(Optimiser::adam(), Schedule::Step { every: 9, factor: 0.5 }, Some(3.0), 0.1, 10),
    ];
    let broken = member(Optimiser::adam(), Schedule::Constant, Some(1.0), f32::NAN, 0);
    assert_independent(&members, &broken, |members| trained(gpu, members, 50));
    // What replaced another member after 25 steps is what it is without anyone before it, bit by bit.
    let (late, clean) = (&members[2..3], Member { start: 0, ..members[2].clone() });
    assert_eq!(trained(gpu, late, 50), trained(gpu, &[clean], 25));
    let learnt = trained(gpu, &members[..1], 50).concat();
    assert!(learnt.iter().all(|&w| (f32::from_bits(w) - 0.5).abs() < 0.3), "nothing was learnt");
}
