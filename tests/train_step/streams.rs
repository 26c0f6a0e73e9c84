//! `random_words`, `dropout`: the host's bits, masks that depend on member, step and layer alone.

use wavehull::gpu::Recording;
use wavehull::ops::Coefficient;
use wavehull::ops::dropout::{self, Dropout};
use wavehull::ops::random::{self, Draw, Stream, purpose};
use wavehull::{ErrorKind, Gpu, Tensor};

use crate::common::{self, Random, U, broken};
use crate::{assert_independent, bits, on_both, per_slot};

/// Key and step of a slot.
type Member = (u64, u32);

const MEMBERS: [Member; 3] = [(7, 0), (0x1234_5678_9abc_def0, 41), (u64::MAX, u32::MAX)];

fn streams(gpu: &Gpu, members: &[Member]) -> Tensor<u32> {
    let words: Vec<u32> = members.iter().flat_map(|&(key, step)| Stream::new(key).words(step, true)).collect();
    common::tensor(gpu, &[members.len(), 4], &words)
}

fn words(gpu: &Gpu, members: &[Member], draw: Draw, n: usize) -> (Recording, Tensor<u32>) {
    let out = common::poisoned(gpu, &[members.len(), n]);
    let mut recording = Recording::new();
    random::words(&mut recording, gpu.caps(), &streams(gpu, members), draw, &out).unwrap();
    (recording, out)
}

#[test]
fn the_device_draws_the_published_words() {
    on_both("the_device_draws_the_published_words", |gpu| {
        for (member, draw, expected) in [
            ((0, 0), Draw::default(), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            (
                (u64::MAX, u32::MAX),
                Draw { layer: u32::MAX, purpose: u32::MAX, first: u32::MAX },
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                (0x299f_31d0_a409_3822, 0x1319_8a2e),
                Draw { layer: 0x85a3_08d3, purpose: 0x0370_7344, first: 0x243f_6a88 },
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            let (recording, out) = words(gpu, &[member], draw, 4);
            assert_eq!(common::run(gpu, &recording, &out, false), expected);
        }
    });
}

#[test]
fn the_device_draws_the_hosts_words() {
    on_both("the_device_draws_the_hosts_words", |gpu| {
        for n in [1, 4, 67, 300] {
            let draw = Draw { layer: 5, purpose: purpose::DROPOUT, first: 0 };
            let (recording, out) = words(gpu, &MEMBERS, draw, n);
            let word = |&(key, step): &Member, i| Stream::new(key).word(i, 5, step, purpose::DROPOUT);
            let expected: Vec<u32> = MEMBERS.iter().flat_map(|m| (0..n).map(move |i| word(m, i))).collect();
            assert_eq!(common::run(gpu, &recording, &out, true), expected, "{n} words");
        }
    });
}

#[test]
fn broken_random_words_are_noticed() {
    let Some(gpu) = common::device("broken_random_words_are_noticed", false) else { return };
    let (recording, out) = words(gpu, &MEMBERS, Draw { layer: 5, purpose: 3, first: 0 }, 300);
    let good: Vec<u32> = common::run(gpu, &recording, &out, true);
    for (from, to) in [
        ("p.first + q", "p.first + q % 64u"),
        ("streams[stream + 2u]", "streams[2]"),
        ("step, p.purpose)", "0u, p.purpose)"),
        ("streams[stream + 1u])", "0u)"),
    ] {
        let bad = broken(&recording, "random_words", from, to);
        assert_ne!(common::run(gpu, &bad, &out, true), good, "'{to}' went unseen");
    }
}

/// A slot that dropout runs on.
#[derive(Clone, Debug)]
struct Slot {
    member: Member,
    rate: f64,
    x: Vec<f32>,
}

fn slots(n: usize) -> Vec<Slot> {
    let rates = [0.1, 0.5, 0.9];
    let slot = |(i, &member): (usize, &Member)| Slot { member, rate: rates[i], x: Random::new(i as u64 + 1).floats(n) };
    MEMBERS.iter().enumerate().map(slot).collect()
}

/// Dropout of slots of this shape, each with its own rate, and its result.
fn record(gpu: &Gpu, slots: &[Slot], shape: &[usize], channels: bool, layer: u32) -> (Recording, Tensor) {
    let shape = [&[slots.len()], shape].concat();
    let members: Vec<Member> = slots.iter().map(|s| s.member).collect();
    let xs: Vec<f32> = slots.iter().flat_map(|s| s.x.clone()).collect();
    let rates: Vec<f32> = slots.iter().flat_map(|s| dropout::coefficients(s.rate).unwrap()).collect();
    let table = common::tensor(gpu, &[slots.len(), 2], &rates);
    let (x, out) = (common::tensor(gpu, &shape, &xs), common::poisoned(gpu, &shape));
    let dropout = Dropout { rate: Coefficient::Slots(&table, 0), layer, channels };
    let mut recording = Recording::new();
    dropout::record(&mut recording, gpu.caps(), &dropout, &streams(gpu, &members), &x, &out).unwrap();
    (recording, out)
}

/// Value and tolerance of every element: places in memory count, channels of a sample share their word.
fn oracle(slot: &Slot, shape: &[usize], channels: bool, layer: u32) -> Vec<(f64, f64)> {
    let (key, step) = slot.member;
    let columns = *shape.last().unwrap();
    let pitch = columns.next_multiple_of(4);
    let rows_of_sample: usize = shape[1.min(shape.len() - 1)..shape.len() - 1].iter().product();
    let value = |(i, &x): (usize, &f32)| {
        let (row, column) = (i / columns, i % columns);
        let row = if channels { row / rows_of_sample } else { row };
        let word = Stream::new(key).word(row * pitch + column, layer, step, purpose::DROPOUT);
        let kept = f64::from(random::uniform(word)) >= slot.rate;
        let value = if kept { f64::from(x) / (1.0 - slot.rate) } else { 0.0 };
        // The rounding of the scale (and of the rate that it is worked out from), and of the product.
        (value, value.abs() * U * (1.5 + slot.rate / (1.0 - slot.rate)))
    };
    slot.x.iter().enumerate().map(value).collect()
}

#[test]
fn dropout_masks_are_the_hosts() {
    on_both("dropout_masks_are_the_hosts", |gpu| {
        for (shape, channels) in [
            (&[1][..], false),
            (&[300], false),
            (&[5, 7], false),
            (&[3, 5, 5, 6], false),
            (&[3, 5, 5, 6], true),
            (&[9, 3], true),
            (&[2, 17, 4, 64], true),
        ] {
            let slots = slots(shape.iter().product());
            let (recording, out) = record(gpu, &slots, shape, channels, 3);
            let expected: Vec<_> = slots.iter().flat_map(|s| oracle(s, shape, channels, 3)).collect();
            common::compare(&common::run(gpu, &recording, &out, true), &expected)
                .unwrap_or_else(|why| panic!("{shape:?}, channels {channels}: {why}"));
        }
    });
}

#[test]
fn dropout_of_a_slot_knows_nothing_of_the_others() {
    let Some(gpu) = common::device("dropout_of_a_slot_knows_nothing_of_the_others", false) else { return };
    for channels in [false, true] {
        let broken = Slot { member: (1, 1), rate: 0.3, x: vec![f32::NAN; 3 * 70 * 5] };
        assert_independent(&slots(3 * 70 * 5), &broken, |slots| {
            let (recording, out) = record(gpu, slots, &[3, 70, 5], channels, 1);
            per_slot(&common::run(gpu, &recording, &out, true), slots.len())
        });
    }
}

#[test]
fn layers_and_steps_draw_masks_of_their_own_with_the_share_that_was_asked_for() {
    let Some(gpu) = common::device("layers_and_steps_draw_masks_of_their_own_with_the_share", false) else { return };
    let n = 40_000;
    let mask = |step, layer| {
        let slot = Slot { member: (9, step), rate: 0.25, x: vec![1.0; n] };
        let (recording, out) = record(gpu, &[slot], &[n], false, layer);
        common::run(gpu, &recording, &out, true).iter().map(|&v| v != 0.0).collect::<Vec<_>>()
    };
    let masks = [mask(0, 0), mask(1, 0), mask(0, 1)];
    // Five standard deviations of a count.
    let spread = |p: f64| 5.0 * (n as f64 * p * (1.0 - p)).sqrt();
    for (i, mask) in masks.iter().enumerate() {
        let kept = mask.iter().filter(|&&kept| kept).count() as f64;
        assert!((kept - 0.75 * n as f64).abs() < spread(0.75), "mask {i} keeps {kept}");
        for other in &masks[..i] {
            let both = mask.iter().zip(other).filter(|&(&a, &b)| a && b).count() as f64;
            assert!((both - 0.5625 * n as f64).abs() < spread(0.5625), "masks keep {both} together");
        }
    }
}

#[test]
fn a_rate_of_zero_is_the_identity_and_in_place_is_the_same() {
    on_both("a_rate_of_zero_is_the_identity_and_in_place_is_the_same", |gpu| {
        let (streams, n) = (streams(gpu, &MEMBERS[..2]), 77);
        let mut xs = Random::new(2).floats(2 * n);
        xs[..4].copy_from_slice(&[f32::NAN, f32::INFINITY, f32::from_bits(1), -0.0]);
        for rate in [0.0, 0.5] {
            let dropout = Dropout { rate: Coefficient::Fixed(rate), layer: 0, channels: false };
            let (x, out) = (common::tensor(gpu, &[2, n], &xs), common::poisoned(gpu, &[2, n]));
            let mut apart = Recording::new();
            dropout::record(&mut apart, gpu.caps(), &dropout, &streams, &x, &out).unwrap();
            let apart = bits(&common::run(gpu, &apart, &out, true));
            let mut in_place = Recording::new();
            dropout::in_place(&mut in_place, gpu.caps(), &dropout, &streams, &x).unwrap();
            assert_eq!(bits(&common::run(gpu, &in_place, &x, true)), apart, "rate {rate}");
            assert_eq!(apart == bits(&xs), rate == 0.0, "rate {rate}");
        }
    });
}

#[test]
fn broken_dropout_is_noticed() {
    let Some(gpu) = common::device("broken_dropout_is_noticed", false) else { return };
    let shape = [6, 5, 7];
    for (from, to) in [
        ("* scale);", "* (scale * 1.0001));"),
        ("vec4<u32>(8u)", "vec4<u32>(7u)"),
        ("p.layer, step", "p.layer, 0u"),
        ("vec4<u32>(draw, p.layer", "vec4<u32>(draw, 0u"),
        ("streams[stream + 1u]", "streams[1]"),
        ("(q / p.sample_quads) * p.channel_quads", "0u"),
        ("p.column + 1u", "p.column"),
        ("select(vec4<u32>(0u), scaled, kept)", "scaled"),
    ] {
        let slots = slots(shape.iter().product());
        let (recording, out) = record(gpu, &slots, &shape, true, 3);
        let bad = broken(&recording, "dropout", from, to);
        let expected: Vec<_> = slots.iter().flat_map(|s| oracle(s, &shape, true, 3)).collect();
        let got: Vec<f32> = common::run(gpu, &bad, &out, true);
        assert!(common::compare(&got, &expected).is_err(), "'{to}' went unseen");
    }
}

#[test]
fn dropout_that_does_not_fit_is_refused() {
    let Some(gpu) = common::device("dropout_that_does_not_fit_is_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::<f32>::uninit(gpu, shape).unwrap();
    let try_it = |rate: f32, channels: bool, members: usize, x: &[usize], out: &[usize]| {
        let dropout = Dropout { rate: Coefficient::Fixed(rate), layer: 0, channels };
        let streams = Tensor::uninit(gpu, &[members, 4]).unwrap();
        let recorded = dropout::record(&mut Recording::new(), gpu.caps(), &dropout, &streams, &t(x), &t(out));
        recorded.map_err(|e| e.kind())
    };
    assert_eq!(try_it(0.5, false, 2, &[2, 3], &[2, 3]), Ok(()));
    assert_eq!(try_it(1.0, false, 2, &[2, 3], &[2, 3]), Err(ErrorKind::BadInput));
    assert_eq!(try_it(0.5, true, 2, &[2, 3], &[2, 3]), Err(ErrorKind::Internal), "no samples with channels");
    assert_eq!(try_it(0.5, false, 3, &[2, 3], &[2, 3]), Err(ErrorKind::Internal), "streams of other slots");
    assert_eq!(try_it(0.5, false, 2, &[2, 4], &[2, 3]), Err(ErrorKind::Internal));
}
