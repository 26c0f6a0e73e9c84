//! Convolutions of slots, each with its weight in a table, and weights that are stored for the transposed map.

use wavehull::gpu::Recording;
use wavehull::ops::conv::{Conv, Weight};
use wavehull::{ErrorKind, Gpu, Tensor};

use crate::common::{self, broken};
use crate::conv::{Case, Operands, PLAIN, VARIANTS, bits, cases};
use crate::on_both;

/// A table with fields, all of it poison but the elements of the fields; `fields` has shapes, and elements row by row.
pub fn table(gpu: &Gpu, fields: &[(Vec<usize>, Vec<Vec<f32>>)]) -> (Tensor, Vec<Tensor>) {
    let rows = fields[0].1.len();
    // A gap of one aligned place between neighbours.
    let room = |shape: &[usize]| (shape.iter().product::<usize>() * 4).next_multiple_of(64) + 64;
    let width = 64 + fields.iter().map(|(shape, _)| room(shape)).sum::<usize>();
    let table = common::poisoned(gpu, &[rows, width]);
    let mut memory = vec![common::POISON; common::words(&table)];
    let mut first = 64;
    let mut tensors = Vec::new();
    for (shape, elements) in fields {
        let field = table.field(first, shape).unwrap();
        for (place, value) in common::places(&field).into_iter().zip(elements.iter().flatten()) {
            memory[first + place] = value.to_bits();
        }
        first += room(shape);
        tensors.push(field);
    }
    gpu.upload(table.buffer(), bytemuck::cast_slice(&memory)).unwrap();
    (table, tensors)
}

/// How a case is run: whether the weight is stored for the transposed map, and whether slots share their images.
#[derive(Debug, Clone, Copy)]
struct Mode {
    trans_weight: bool,
    shared: bool,
}

const MODES: [Mode; 3] = [
    Mode { trans_weight: false, shared: false },
    Mode { trans_weight: true, shared: false },
    Mode { trans_weight: true, shared: true },
];

/// The weight as the mode stores it.
pub fn pack(case: &Case, trans_weight: bool, operands: &Operands) -> Weight {
    let forward = case.transposed == trans_weight;
    let pack = if forward { Weight::forward } else { Weight::transposed };
    pack(&operands.weight.view(), case.groups).unwrap()
}

fn record(gpu: &Gpu, case: &Case, mode: Mode, slots: &[Operands]) -> (Recording, Tensor) {
    let [read, written] = case.channels();
    let packed: Vec<Weight> = slots.iter().map(|o| pack(case, mode.trans_weight, o)).collect();
    let weights = packed.iter().map(|w| w.elements.iter().copied().collect()).collect();
    let biases = slots.iter().map(|o| o.bias.clone()).collect();
    let (_, fields) = table(gpu, &[(packed[0].elements.shape().to_vec(), weights), (vec![written], biases)]);
    let image = [case.batch, case.size[0], case.size[1], read];
    let x = if mode.shared {
        common::tensor(gpu, &image, &slots[0].x)
    } else {
        let all: Vec<f32> = slots.iter().flat_map(|o| o.x.clone()).collect();
        common::tensor(gpu, &[&[slots.len()], &image[..]].concat(), &all)
    };
    let [out_h, out_w] = case.out_size();
    let out = common::poisoned(gpu, &[slots.len(), case.batch, out_h, out_w, written]);
    let conv = Conv {
        stride: case.stride,
        pad: case.pad,
        dilation: case.dilation,
        groups: packed[0].groups,
        transposed: case.transposed,
        trans_weight: mode.trans_weight,
        bias: case.bias.then_some(&fields[1]),
        relu: case.relu,
        variant: case.variant,
    };
    let mut recording = Recording::new();
    conv.record(&mut recording, gpu.caps(), &x, &fields[0], &out).unwrap();
    (recording, out)
}

fn nan(operands: &Operands) -> Operands {
    let all = |v: &[f32]| vec![f32::NAN; v.len()];
    Operands { x: all(&operands.x), weight: operands.weight.mapv(|_| f32::NAN), bias: all(&operands.bias) }
}

/// Three slots, the middle one full of NaN (its weight and bias, where the images are shared).
fn operands(case: &Case, seed: u64, shared: bool) -> Vec<Operands> {
    let mut slots: Vec<Operands> = (0..3).map(|slot| case.operands(seed * 10 + slot)).collect();
    slots[1] = nan(&slots[1]);
    if shared {
        let x = slots[0].x.clone();
        slots.iter_mut().for_each(|slot| slot.x.clone_from(&x));
    }
    slots
}

/// Some of the geometries for every run; slots cross tiles by themselves, for their pixels are no multiples of one.
fn corners() -> Vec<Case> {
    let all = cases();
    [0, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13].map(|i| all[i]).to_vec()
}

#[test]
fn slots_agree_with_f64_whatever_their_neighbours_hold() {
    on_both("slots_agree_with_f64_whatever_their_neighbours_hold", |gpu| {
        for (seed, case) in (1..).zip(corners()) {
            for transposed in [false, true] {
                for mode in MODES {
                    let case = Case { transposed, ..case };
                    let slots = operands(&case, seed, mode.shared);
                    let (recording, out) = record(gpu, &case, mode, &slots);
                    let got = common::run(gpu, &recording, &out, true);
                    let length = got.len() / 3;
                    for slot in [0, 2] {
                        common::compare(&got[slot * length..][..length], &case.oracle(&slots[slot]))
                            .unwrap_or_else(|why| panic!("slot {slot}, {mode:?}, {case:?}: {why}"));
                    }
                }
            }
        }
    });
}

#[test]
fn a_slot_has_the_bits_that_it_has_alone_in_every_variant() {
    let name = "a_slot_has_the_bits_that_it_has_alone_in_every_variant";
    let Some(gpu) = common::device(name, false) else { return };
    for base in [
        Case { read: 17, written: 70, stride: [2, 1], ..PLAIN },
        Case { read: 4, written: 8, groups: 3, stride: [1, 2], ..PLAIN },
        Case { read: 1, written: 1, groups: 9, ..PLAIN },
    ] {
        for transposed in [false, true] {
            let base = Case { transposed, ..base };
            let slots = operands(&base, 7, false);
            // Alone, with operands of four axes and the weight in its own order: the convolution that has no slots.
            let alone = |slot: usize| {
                let (recording, out) = base.record(gpu, &slots[slot]);
                bits(&common::run(gpu, &recording, &out, true))
            };
            let alone = [alone(0), alone(2)];
            for (variant, mode) in VARIANTS.into_iter().flat_map(|v| MODES.map(|m| (v, m))).filter(|(_, m)| !m.shared) {
                let case = Case { variant: Some(variant), ..base };
                let (recording, out) = record(gpu, &case, mode, &slots);
                let got = bits(&common::run(gpu, &recording, &out, true));
                let length = got.len() / 3;
                let same = got[..length] == alone[0] && got[2 * length..] == alone[1];
                assert!(same, "{variant:?}, {mode:?}, {case:?}");
            }
        }
    }
}

#[test]
fn broken_slots_are_noticed() {
    let Some(gpu) = common::device("broken_slots_are_noticed", false) else { return };
    let check = |case: Case, trans_weight: bool, name: &str, from: &str, to: &str| {
        let mode = Mode { trans_weight, shared: false };
        let slots: Vec<Operands> = (0..2).map(|slot| case.operands(90 + slot)).collect();
        let (recording, out) = record(gpu, &case, mode, &slots);
        let oracle: Vec<(f64, f64)> = slots.iter().flat_map(|o| case.oracle(o)).collect();
        common::compare(&common::run(gpu, &recording, &out, true), &oracle).unwrap();
        // Into memory of its own, for what a broken kernel leaves out would still be right in the other.
        let (recording, out) = record(gpu, &case, mode, &slots);
        let raw = common::run_raw(gpu, &broken(&recording, name, from, to), &out);
        let got: Vec<f32> = common::places(&out).into_iter().map(|i| f32::from_bits(raw[i])).collect();
        assert!(common::compare(&got, &oracle).is_err(), "'{to}' in '{name}' went unseen");
    };
    let direct = Case { written: 40, variant: Some(wavehull::ops::conv::Variant::Direct { columns: 16 }), ..PLAIN };
    check(direct, false, "conv", "slot * p.slot_x", "0u * p.slot_x");
    check(direct, false, "conv", "slot * p.slot_bias", "0u");
    check(direct, false, "conv", "slot * p.slot_w / 4u", "0u");
    check(direct, true, "conv", "channels_${j} * p.ld_w", "channels_${j} * (p.ld_w - 4u)");
    let groups = Case { read: 4, written: 8, groups: 2, ..direct };
    check(groups, true, "conv", "slot * p.slot_w + part * p.c", "slot * p.slot_w");
    check(groups, true, "conv", "/ phases % p.parts", "/ phases % 1u");
    let tiled = Case { variant: Some(wavehull::ops::conv::Variant::Tiled), ..direct };
    check(tiled, true, "conv_tiled", "slot * p.slot_x", "0u * p.slot_x");
    check(tiled, true, "conv_tiled", "k_mine * 17u + id / 16u", "k_mine * 17u + id / 16u % 8u");
    check(tiled, false, "conv_tiled", "slot * p.slot_w", "0u * p.slot_w");
    let depthwise = Case { read: 1, written: 1, groups: 9, ..PLAIN };
    check(depthwise, false, "conv_depthwise", "slot * p.slot_w", "0u * p.slot_w");
    check(depthwise, true, "conv_depthwise", "slot * p.slot_x", "0u * p.slot_x");
}

#[test]
fn slots_that_do_not_fit_are_refused() {
    let Some(gpu) = common::device("slots_that_do_not_fit_are_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::uninit(gpu, shape).unwrap();
    let try_it = |conv: Conv<'_>, x: &[usize], w: &[usize], out: &Tensor| {
        conv.record(&mut Recording::new(), gpu.caps(), &t(x), &t(w), out).map_err(|e| e.kind())
    };
    let plain = Conv { pad: [1, 1], ..Conv::default() };
    let (x, w, out) = ([3, 2, 5, 5, 8], [3, 3, 3, 8, 4], [3, 2, 5, 5, 4]);
    assert_eq!(try_it(plain, &x, &w, &t(&out)), Ok(()));
    assert_eq!(try_it(plain, &x[1..], &w[1..], &t(&out)), Ok(()), "all shared");
    assert_eq!(try_it(Conv { trans_weight: true, ..plain }, &x, &[3, 3, 3, 4, 8], &t(&out)), Ok(()));
    let refused = Err(ErrorKind::Internal);
    assert_eq!(try_it(Conv { trans_weight: true, ..plain }, &x, &w, &t(&out)), refused);
    assert_eq!(try_it(plain, &[2, 2, 5, 5, 8], &w, &t(&out)), refused);
    assert_eq!(try_it(plain, &x[1..], &w, &t(&out[1..])), refused);
    assert_eq!(try_it(plain, &x, &w, &t(&out[1..]).shared(3)), refused);
    assert_eq!(try_it(Conv { bias: Some(&t(&[2, 4])), ..plain }, &x, &w, &t(&out)), refused);
}
