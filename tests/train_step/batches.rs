//! `batch_rows`, `batch_labels`, `batch_images`: samples by index, crops, flips and noise that the host can foretell.

use wavehull::gpu::Recording;
use wavehull::ops::random::{Stream, below, purpose};
use wavehull::train::batch::{self, Augment, Images, Pixels, pack_bytes};
use wavehull::train::loss::IGNORED;
use wavehull::{ErrorKind, Gpu, Tensor};

use crate::common::{self, Random, U, broken};
use crate::{assert_independent, on_both, per_slot};

const SET: usize = 11;

/// Indices of a batch, one of which is no sample.
fn ids(seed: u64, n: usize) -> Vec<u32> {
    let mut random = Random::new(seed + 1);
    (0..n).map(|i| if i % 6 == 5 { IGNORED } else { random.below(SET) as u32 }).collect()
}

#[test]
fn rows_and_labels_are_gathered_bit_by_bit() {
    on_both("rows_and_labels_are_gathered_bit_by_bit", |gpu| {
        for (shape, samples) in [(&[1][..], 1), (&[5], 70), (&[64], 3), (&[300], 9), (&[3, 7], 9)] {
            for slots in [1, 3] {
                let n = shape.iter().product();
                let mut random = Random::new(n as u64);
                let words: Vec<u32> = (0..SET * n).map(|_| random.bits() as u32).collect();
                let table = common::tensor(gpu, &[&[SET], shape].concat(), &words);
                let of_slots: Vec<u32> = (0..slots).flat_map(|b| ids(b as u64, samples)).collect();
                for shared in [false, true] {
                    let list = if shared { ids(0, samples) } else { of_slots.clone() };
                    let ids = common::tensor(gpu, &[if shared { 1 } else { slots }, samples], &list);
                    let out: Tensor<u32> = common::poisoned(gpu, &[&[slots, samples], shape].concat());
                    let mut recording = Recording::new();
                    batch::rows(&mut recording, gpu.caps(), &table, &ids, &out).unwrap();
                    let list = if shared { list.repeat(slots) } else { list };
                    let row = |&id: &u32| words.chunks(n).nth(id as usize).map_or(vec![0; n], <[u32]>::to_vec);
                    let expected: Vec<u32> = list.iter().flat_map(row).collect();
                    assert_eq!(common::run(gpu, &recording, &out, true), expected, "{shape:?} x {samples} x {slots}");
                    let labels = common::tensor(gpu, &[SET], &words[..SET]);
                    let out: Tensor<u32> = common::poisoned(gpu, &[slots, samples]);
                    let mut recording = Recording::new();
                    batch::labels(&mut recording, gpu.caps(), &labels, &ids, &out).unwrap();
                    let label = |&id: &u32| words[..SET].get(id as usize).copied().unwrap_or(IGNORED);
                    let expected: Vec<u32> = list.iter().map(label).collect();
                    assert_eq!(common::run(gpu, &recording, &out, false), expected);
                }
            }
        }
    });
}

/// How a batch of images is made.
#[derive(Clone, Copy, Debug)]
struct Case {
    size: [usize; 3],
    out: [usize; 2],
    flat: bool,
    bytes: bool,
    /// Padding, flip, noise.
    augment: Option<(usize, bool, f32)>,
}

/// Key, step and indices of a slot.
#[derive(Clone, Debug)]
struct Slot {
    key: u64,
    step: u32,
    ids: Vec<u32>,
}

fn slots(samples: usize) -> Vec<Slot> {
    let slot = |(i, (key, step))| Slot { key, step, ids: ids(i, samples) };
    (0..).zip([(5, 0), (u64::MAX, 9), (1 << 40, 9)]).map(slot).collect()
}

const SCALE: [f32; 4] = [0.5, 2.0, 3.0, 0.25];
const SHIFT: [f32; 4] = [0.125, -1.0, 0.5, 0.0];

fn pixels(case: &Case) -> Vec<f32> {
    let mut random = Random::new(3);
    let n = SET * case.size.iter().product::<usize>();
    (0..n).map(|_| if case.bytes { random.below(256) as f32 } else { random.unit() as f32 }).collect()
}

fn record(gpu: &Gpu, case: &Case, slots: &[Slot]) -> (Recording, Tensor) {
    let elements: usize = case.size.iter().product();
    let values = pixels(case);
    let bytes: Vec<u8> = values.iter().map(|&v| v as u8).collect();
    let packed = common::tensor(gpu, &[SET, elements.div_ceil(4)], &pack_bytes(&bytes, elements));
    let floats = common::tensor(gpu, &[SET, elements], &values);
    let pixels = if case.bytes { Pixels::Bytes(&packed) } else { Pixels::Floats(&floats) };
    let images = Images { pixels, size: case.size, scale: SCALE, shift: SHIFT };
    let samples = slots[0].ids.len();
    let ids: Vec<u32> = slots.iter().flat_map(|s| s.ids.clone()).collect();
    let ids = common::tensor(gpu, &[slots.len(), samples], &ids);
    let words: Vec<u32> = slots.iter().flat_map(|s| Stream::new(s.key).words(s.step, true)).collect();
    let streams = common::tensor(gpu, &[slots.len(), 4], &words);
    let augment = case.augment.map(|(padding, flip, noise)| Augment { streams: &streams, padding, flip, noise });
    let [h, w] = case.out;
    let shape = if case.flat { vec![h * w * case.size[2]] } else { vec![h, w, case.size[2]] };
    let out = common::poisoned(gpu, &[&[slots.len(), samples], &shape[..]].concat());
    let mut recording = Recording::new();
    batch::images(&mut recording, gpu.caps(), &images, &ids, augment.as_ref(), &out).unwrap();
    (recording, out)
}

/// Four normal numbers of a block as the kernel draws them.
fn normals(block: [u32; 4]) -> [f64; 4] {
    let u = block.map(|word| (f64::from(word >> 8) + 0.5) / 16_777_216.0);
    let pair = |a: f64, b: f64| {
        let (radius, angle) = ((-2.0 * a.ln()).sqrt(), std::f64::consts::TAU * (b - 0.5));
        [radius * angle.cos(), radius * angle.sin()]
    };
    [pair(u[0], u[1]), pair(u[2], u[3])].concat().try_into().unwrap()
}

fn oracle(case: &Case, slot: &Slot) -> Vec<(f64, f64)> {
    let ([height, width, channels], [h, w]) = (case.size, case.out);
    let pixels = pixels(case);
    let stream = Stream::new(slot.key);
    let mut expected = Vec::new();
    let places = if case.flat { channels } else { channels.next_multiple_of(4) };
    let quads = (h * w * places).div_ceil(4);
    for (n, &id) in slot.ids.iter().enumerate() {
        let (padding, flip, noise) = case.augment.unwrap_or_default();
        let draw = stream.block([n as u32, 0, slot.step, purpose::AUGMENT]);
        let room = [height + 2 * padding - h, width + 2 * padding - w];
        let offset = if case.augment.is_some() {
            [below(draw[0], room[0] + 1), below(draw[1], room[1] + 1)]
        } else {
            room.map(|r| r / 2)
        };
        let mirror = flip && draw[2] >> 31 == 1;
        for place in 0..h * w * channels {
            let (y, x, c) = (place / channels / w, place / channels % w, place % channels);
            let x = if mirror { w - 1 - x } else { x };
            let inside = (padding..padding + height).contains(&(y + offset[0]))
                && (padding..padding + width).contains(&(x + offset[1]));
            let Some(image) = pixels.chunks(height * width * channels).nth(id as usize) else {
                expected.push((0.0, 0.0));
                continue;
            };
            let at = || ((y + offset[0] - padding) * width + x + offset[1] - padding) * channels + c;
            let raw = if inside { f64::from(image[at()]) } else { 0.0 };
            let k = if channels > 4 { 0 } else { c };
            let (scaled, shift) = (raw * f64::from(SCALE[k]), f64::from(SHIFT[k]));
            let (value, parts) = (scaled + shift, scaled.abs() + shift.abs());
            let memory = place / channels * places + c;
            let block = stream.block([(n * quads + memory / 4) as u32, 0, slot.step, purpose::NOISE]);
            let random = f64::from(noise) * normals(block)[memory % 4];
            // WGSL: cos is off by 2^-11 and multiplied by a radius below 6; log by 2^-21, of which the root of a small
            // number makes 2^-9.
            let off = f64::from(noise) * (6.0 / 2048.0 + 1.0 / 512.0);
            expected.push((value + random, off + 2.0 * U * (parts + random.abs())));
        }
    }
    expected
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (size, out) in [
        ([7, 5, 1], [7, 5]),
        ([6, 9, 3], [6, 9]),
        ([6, 9, 4], [4, 6]),
        ([3, 4, 6], [3, 4]),
        ([28, 28, 1], [28, 28]),
        ([1, 1, 300], [1, 1]),
    ] {
        for flat in [false, true] {
            for bytes in [false, true] {
                for augment in [None, Some((2, false, 0.0)), Some((0, true, 0.0)), Some((1, true, 0.1))] {
                    if !flat || out == size[..2] {
                        cases.push(Case { size, out, flat, bytes, augment });
                    }
                }
            }
        }
    }
    cases
}

#[test]
fn images_are_those_the_host_foretells() {
    on_both("images_are_those_the_host_foretells", |gpu| {
        for case in cases() {
            let slots = slots(13);
            let (recording, out) = record(gpu, &case, &slots);
            let expected: Vec<_> = slots.iter().flat_map(|s| oracle(&case, s)).collect();
            common::compare(&common::run(gpu, &recording, &out, true), &expected)
                .unwrap_or_else(|why| panic!("{case:?}: {why}"));
        }
    });
}

#[test]
fn augmentation_of_a_slot_knows_nothing_of_the_others() {
    let Some(gpu) = common::device("augmentation_of_a_slot_knows_nothing_of_the_others", false) else { return };
    let case = Case { size: [6, 9, 3], out: [6, 9], flat: false, bytes: true, augment: Some((2, true, 0.1)) };
    let broken = Slot { key: 0, step: 3, ids: vec![IGNORED; 13] };
    assert_independent(&slots(13), &broken, |slots| {
        let (recording, out) = record(gpu, &case, slots);
        per_slot(&common::run(gpu, &recording, &out, true), slots.len())
    });
}

#[test]
fn shifts_and_flips_are_spread_over_all_they_may_be() {
    // One bright pixel in the middle: where it ends says what was drawn.
    let Some(gpu) = common::device("shifts_and_flips_are_spread_over_all_they_may_be", false) else { return };
    let (size, samples) = ([5, 6, 1], 2000);
    let mut image = vec![0.0; 30];
    image[2 * 6 + 2] = 1.0;
    let table = common::tensor(gpu, &[1, 30], &image);
    let images = Images { pixels: Pixels::Floats(&table), size, scale: [1.0; 4], shift: [0.0; 4] };
    let streams = common::tensor(gpu, &[1, 4], &Stream::new(3).words(1, true));
    let ids = common::tensor(gpu, &[1, samples], &vec![0; samples]);
    let out = common::poisoned(gpu, &[1, samples, 30]);
    let augment = Augment { streams: &streams, padding: 2, flip: true, noise: 0.0 };
    let mut recording = Recording::new();
    batch::images(&mut recording, gpu.caps(), &images, &ids, Some(&augment), &out).unwrap();
    let got: Vec<f32> = common::run(gpu, &recording, &out, true);
    let mut counts = [[0_u32; 6]; 5];
    for sample in got.chunks(30) {
        let at = sample.iter().position(|&v| v > 0.5).unwrap();
        counts[at / 6][at % 6] += 1;
    }
    for (y, row) in counts.iter().enumerate() {
        for (x, &count) in row.iter().enumerate() {
            // Of 25 shifts in two forms, one ends in column 0 or 5 and two in each between: 40 or 80 of 2,000, within five
            // deviations.
            let mean = if x == 0 || x == 5 { 40.0 } else { 80.0 };
            assert!((f64::from(count) - mean).abs() < 5.0 * f64::sqrt(mean), "{count} at {y}, {x}: {counts:?}");
        }
    }
}

#[test]
fn broken_batches_are_noticed() {
    let Some(gpu) = common::device("broken_batches_are_noticed", false) else { return };
    let case = Case { size: [6, 9, 3], out: [6, 9], flat: false, bytes: true, augment: Some((2, true, 0.1)) };
    for (from, to) in [
        ("sy >= 0 && ", ""),
        ("sx < i32(p.width)", "sx <= i32(p.width)"),
        ("p.out_width - 1u - x", "p.out_width - x"),
        ("(draw.z >> 31u) != 0u", "(draw.w >> 31u) != 0u"),
        ("mul_high(draw.y", "mul_high(draw.x"),
        ("p.padding - p.out_height + 1u", "p.padding - p.out_height"),
        ("at % 4u * 8u", "(3u - at % 4u) * 8u"),
        ("of_channel(p.shift, c)", "p.shift.x"),
        ("vec4<f32>(p.noise)", "vec4<f32>(p.noise * 1.1)"),
        ("vec4<u32>(n * p.quads + q, 0u, step, 5u)", "vec4<u32>(q, 0u, step, 5u)"),
        ("vec4<u32>(n, 0u, step, 4u)", "vec4<u32>(n, 0u, 0u, 4u)"),
        ("v, known)", "v, true)"),
    ] {
        let slots = slots(13);
        let (recording, out) = record(gpu, &case, &slots);
        let bad = broken(&recording, "batch_images", from, to);
        let expected: Vec<_> = slots.iter().flat_map(|s| oracle(&case, s)).collect();
        let got: Vec<f32> = common::run(gpu, &bad, &out, true);
        assert!(common::compare(&got, &expected).is_err(), "'{to}' went unseen");
    }
    let table = common::tensor(gpu, &[SET, 5], &Random::new(1).floats(SET * 5));
    let of_labels = common::tensor(gpu, &[SET], &(0..SET as u32).collect::<Vec<_>>());
    let list = common::tensor(gpu, &[2, 70], &[ids(0, 70), ids(1, 70)].concat());
    let (out, labels) = (common::poisoned(gpu, &[2, 70, 5]), common::poisoned::<u32>(gpu, &[2, 70]));
    let mut recording = Recording::new();
    batch::rows(&mut recording, gpu.caps(), &table, &list, &out).unwrap();
    batch::labels(&mut recording, gpu.caps(), &of_labels, &list, &labels).unwrap();
    let good = (common::run_raw(gpu, &recording, &out), common::run_raw(gpu, &recording, &labels));
    for (kernel, from, to) in [
        ("batch_rows", "table[source + q], id < p.rows", "table[source + q], true"),
        ("batch_rows", "ids[b * p.stride_ids + n]", "ids[n]"),
        ("batch_labels", "labels[min(id, p.rows - 1u)], id < p.rows", "labels[min(id, p.rows - 1u)], true"),
        ("batch_labels", "ids[b * p.stride_ids + n]", "ids[n]"),
    ] {
        let bad = broken(&recording, kernel, from, to);
        let got = (common::run_raw(gpu, &bad, &out), common::run_raw(gpu, &bad, &labels));
        assert!(got != good, "'{to}' of {kernel} went unseen");
    }
}

#[test]
fn batches_that_do_not_fit_are_refused() {
    let Some(gpu) = common::device("batches_that_do_not_fit_are_refused", false) else { return };
    let try_it = |table: &[usize], size: [usize; 3], ids: &[usize], out: &[usize], noise: f32| {
        let table = Tensor::uninit(gpu, table).unwrap();
        let streams = Tensor::uninit(gpu, &[out[0], 4]).unwrap();
        let images = Images { pixels: Pixels::Floats(&table), size, scale: SCALE, shift: SHIFT };
        let augment = Augment { streams: &streams, padding: 1, flip: false, noise };
        let (ids, out) = (Tensor::uninit(gpu, ids).unwrap(), Tensor::uninit(gpu, out).unwrap());
        let recorded = batch::images(&mut Recording::new(), gpu.caps(), &images, &ids, Some(&augment), &out);
        recorded.map_err(|e| e.kind())
    };
    assert_eq!(try_it(&[3, 12], [2, 3, 2], &[2, 7], &[2, 7, 4, 5, 2], 0.0), Ok(()));
    assert_eq!(try_it(&[3, 12], [2, 3, 2], &[1, 7], &[2, 7, 12], 0.0), Ok(()));
    assert_eq!(try_it(&[3, 12], [2, 3, 2], &[2, 7], &[2, 7, 4, 6, 2], 0.0), Err(ErrorKind::Internal), "too wide");
    assert_eq!(try_it(&[3, 12], [2, 3, 2], &[2, 6], &[2, 7, 12], 0.0), Err(ErrorKind::Internal));
    assert_eq!(try_it(&[3, 11], [2, 3, 2], &[2, 7], &[2, 7, 12], 0.0), Err(ErrorKind::Internal));
    assert_eq!(try_it(&[3, 12], [2, 3, 2], &[2, 7], &[2, 7, 12], -1.0), Err(ErrorKind::BadInput));
    assert_eq!(
        try_it(&[1, 1 << 20], [1 << 10, 1 << 10, 1], &[1, 1], &[1, 1, 1 << 10, 1 << 10, 1], 0.0),
        Err(ErrorKind::TooBig)
    );
}
