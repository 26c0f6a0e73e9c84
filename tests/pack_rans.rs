//! rANS and exponent coding: the device's bytes against the naive twin's, round trips, sizes against the entropy, damaged bytes.
#![cfg(feature = "pack")]

mod common;

use common::{Random, device, say};
use wavehull::gpu::Recording;
use wavehull::pack::codec::rans::{CHUNK, Layout, Plane, Streams, Workspace, encoded_bits, encoded_bits_async};
use wavehull::pack::codec::rans::{record_decode, record_encode, reference};
use wavehull::pack::codec::{exponent, rans};
use wavehull::pack::{Element, Kind, Values};
use wavehull::{Control, ErrorKind, Gpu, Result, Tensor};

const ELEMENTS: [Element; 6] = [Element::I4, Element::I8, Element::U8, Element::I16, Element::F16, Element::Bf16];

fn values(element: Element, codes: &[u16]) -> Values {
    let shape = [1, 1, codes.len()];
    let made = if element.bits() == 16 {
        Values::from_halves("t", Kind::Activations, element, &shape, codes.to_vec())
    } else {
        let bytes = codes.iter().map(|&c| c.to_le_bytes()[0]).collect();
        Values::from_bytes("t", Kind::Activations, element, &shape, bytes)
    };
    made.unwrap()
}

fn normal(random: &mut Random) -> f64 {
    let radius = (-2.0 * (0.5 + 0.5 * random.unit()).max(1e-300).ln()).sqrt();
    radius * (std::f64::consts::PI * random.unit()).cos()
}

/// The bit pattern of a number, as a quantiser or a rounding would give it.
fn pattern(element: Element, x: f64) -> u16 {
    let whole = |bound: f64| (x.round().clamp(-bound - 1.0, bound) as i32) as u16;
    match element {
        Element::I4 => whole(7.0) & 0xff,
        Element::I8 => whole(127.0) & 0xff,
        Element::U8 => whole(254.0).min(255),
        Element::I16 => whole(32767.0),
        Element::F16 => half::f16::from_f64(x).to_bits(),
        Element::Bf16 => half::bf16::from_f64(x).to_bits(),
    }
}

fn any_pattern(element: Element, bits: u64) -> u16 {
    match element {
        Element::I4 => (((bits as u16 & 15) ^ 8).wrapping_sub(8)) & 0xff,
        Element::I8 | Element::U8 => bits as u16 & 0xff,
        _ => bits as u16,
    }
}

/// Codes of one of several kinds of tensors.
fn codes(element: Element, kind: usize, len: usize, random: &mut Random) -> Vec<u16> {
    let one = any_pattern(element, random.bits() >> 20);
    let other = any_pattern(element, random.bits() >> 20);
    let scale = 2f64.powf(4.0 + 3.0 * random.unit()) * if element == Element::I16 { 40.0 } else { 1.0 };
    let scale = if element.is_float() { 0.02 } else { scale };
    (0..len)
        .map(|i| match kind % 8 {
            0 => one,
            1 => {
                if random.below(4096) == 0 {
                    one
                } else {
                    other
                }
            }
            2 => any_pattern(element, random.bits() >> 20),
            3 => any_pattern(element, i as u64 * if element.bits() == 16 { 257 } else { 1 }),
            4 => {
                if i == len / 2 {
                    one
                } else {
                    other
                }
            }
            // A map after ReLU.
            5 => pattern(element, (scale * normal(random)).max(0.0)),
            // Another distribution in each part: lanes of different lengths.
            6 => pattern(element, scale * normal(random) * (1.0 + i as f64 / len as f64).powi(4) / 8.0),
            _ => pattern(element, scale * normal(random)),
        })
        .collect()
}

fn encode(gpu: &Gpu, element: Element, words: &[u32], len: usize) -> Result<Vec<u32>> {
    let tensor = Tensor::from_slice(gpu, &[words.len()], words)?;
    let control = Control::default();
    if element.is_float() {
        exponent::encode(gpu, element, &tensor, len, &control)
    } else {
        rans::encode(gpu, element, &tensor, len, &control)
    }
}

fn decode(gpu: &Gpu, element: Element, payload: &[u32], len: usize) -> Result<Vec<u32>> {
    let control = Control::default();
    let out = if element.is_float() {
        exponent::decode(gpu, element, payload, len, &control)?
    } else {
        rans::decode(gpu, element, payload, len, &control)?
    };
    Ok(out.to_array(gpu)?.into_raw_vec_and_offset().0)
}

fn on_both(test: &str, check: impl Fn(&Gpu, bool)) {
    for checked in [false, true] {
        if let Some(gpu) = device(test, checked) {
            check(gpu, checked);
        }
    }
}

/// Device and twin write the same and read it back.
fn same(gpu: &Gpu, values: &Values) {
    let (element, len) = (values.element(), values.len());
    let words = values.words();
    let twin = reference::encode(element, &words, len).unwrap();
    let what = format!("{len} values of {}", element.name());
    let coded = encode(gpu, element, &words, len).unwrap();
    if let Some(at) = (0..twin.len().max(coded.len())).find(|&i| twin.get(i) != coded.get(i)) {
        panic!("{what}: word {at} of {} is {:x?}, the twin's {:x?}", twin.len(), coded.get(at), twin.get(at));
    }
    assert_eq!(encoded_bits(values).total(), 32 * twin.len() as u64, "{what}");
    assert!(decode(gpu, element, &coded, len).unwrap() == words, "{what}");
}

/// A length whose logarithm is uniform.
fn length(random: &mut Random, bits: f64) -> usize {
    (2f64.powf((0.5 + 0.5 * random.unit()) * bits) as usize - 1).min(CHUNK)
}

#[test]
fn the_twin_reads_what_it_wrote() {
    let mut random = Random::new(1);
    for round in 0..3000 {
        let element = ELEMENTS[round % 6];
        let len = length(&mut random, 14.0);
        let values = values(element, &codes(element, random.below(8), len, &mut random));
        let words = values.words();
        let coded = reference::encode(element, &words, len).unwrap();
        assert_eq!(encoded_bits(&values).total(), 32 * coded.len() as u64);
        assert!(reference::decode(element, &coded, len).unwrap() == words, "{len} of {}", element.name());
    }
}

#[test]
fn the_device_writes_the_twins_bytes_and_reads_them_back() {
    on_both("the_device_writes_the_twins_bytes_and_reads_them_back", |gpu, checked| {
        let (rounds, bits) = if checked { (200, 16.0) } else { (900, 20.0) };
        let mut random = Random::new(2);
        for round in 0..rounds {
            let element = ELEMENTS[round % 6];
            let len = length(&mut random, bits);
            same(gpu, &values(element, &codes(element, random.below(8), len, &mut random)));
        }
    });
}

#[test]
fn lanes_and_blocks_end_anywhere() {
    on_both("lanes_and_blocks_end_anywhere", |gpu, checked| {
        let mut random = Random::new(3);
        let mut lens = vec![0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 511, 512, 513, 1023, 1024, 1025, 2047, 2049];
        lens.extend([8191, 8192, 8193, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 65_540, 65_664, 131_073]);
        if !checked {
            lens.extend([524_287, 524_288, 524_289, CHUNK - 1, CHUNK]);
        }
        for (i, &len) in lens.iter().enumerate() {
            for element in if len > 200_000 { vec![ELEMENTS[i % 6]] } else { ELEMENTS.to_vec() } {
                same(gpu, &values(element, &codes(element, i, len, &mut random)));
            }
        }
    });
}

#[test]
fn chunks_of_a_batch_are_those_of_single_ones() {
    on_both("chunks_of_a_batch_are_those_of_single_ones", |gpu, _| {
        let mut random = Random::new(4);
        for (element, plane) in [(Element::I8, Plane::Bytes), (Element::Bf16, Plane::High { rotate: true })] {
            let (len, chunks) = (70_003, 3);
            let layout = Layout::new(len).unwrap();
            let each: Vec<Vec<u32>> =
                (0..chunks).map(|kind| values(element, &codes(element, 5 + kind, len, &mut random)).words()).collect();
            let batch = common::tensor(gpu, &[chunks, layout.words(element)], &each.concat());
            let workspace = pollster::block_on(Workspace::new_async(gpu, &layout, chunks, true)).unwrap();
            let streams = pollster::block_on(Streams::new_async(gpu, &layout, chunks, plane, None)).unwrap();
            let out = common::poisoned::<u32>(gpu, batch.shape());
            let bad = common::poisoned::<u32>(gpu, &[chunks]);
            let mut recording = Recording::new();
            record_encode(&mut recording, gpu.caps(), (plane, &layout), &batch, &workspace, &streams).unwrap();
            record_decode(&mut recording, (plane, &layout), &streams, &out, &bad).unwrap();
            assert!(common::run(gpu, &recording, &out, true) == each.concat(), "{}", element.name());
            assert_eq!(bad.to_array(gpu).unwrap().into_raw_vec_and_offset().0, [0; 3]);
            let totals = streams.totals.to_array(gpu).unwrap();
            let units = streams.units.to_array(gpu).unwrap();
            for (chunk, words) in each.iter().enumerate() {
                let single = reference::encode(element, words, len).unwrap();
                let length = single[0] as usize;
                let total = totals[[chunk]] as usize;
                let found: Vec<u32> = (0..total).map(|i| units[[chunk, i]]).collect();
                assert!(single[length - total..length] == found, "chunk {chunk}");
            }
        }
    });
}

/// What a batch of one gives with kernel `name` changed: whether streams or values are not what they should be.
fn differs(gpu: &Gpu, words: &[u32], len: usize, (name, old, new): (&str, &str, &str)) -> bool {
    let layout = Layout::new(len).unwrap();
    let how = (Plane::Bytes, &layout);
    let values = common::tensor(gpu, &[1, words.len()], words);
    let workspace = pollster::block_on(Workspace::new_async(gpu, &layout, 1, true)).unwrap();
    let streams = pollster::block_on(Streams::new_async(gpu, &layout, 1, Plane::Bytes, None)).unwrap();
    let (out, bad) = (common::poisoned::<u32>(gpu, &[1, words.len()]), common::poisoned::<u32>(gpu, &[1]));
    let mut recording = Recording::new();
    record_encode(&mut recording, gpu.caps(), how, &values, &workspace, &streams).unwrap();
    record_decode(&mut recording, how, &streams, &out, &bad).unwrap();
    let recording = common::broken(&recording, name, old, new);
    let found = common::run(gpu, &recording, &out, true);
    let twin = reference::encode(Element::I8, words, len).unwrap();
    let total = streams.totals.to_array(gpu).unwrap()[[0]] as usize;
    let units = streams.units.to_array(gpu).unwrap();
    let stream = (0..total.min(units.len())).map(|i| &units[[0, i]]);
    let bad = bad.to_array(gpu).unwrap()[[0]];
    total > twin.len() || !stream.eq(&twin[twin.len() - total..]) || found != words || bad != 0
}

#[test]
fn a_broken_kernel_is_noticed() {
    let Some(gpu) = device("a_broken_kernel_is_noticed", true) else { return };
    let mut random = Random::new(10);
    let mut of = |kind, len| (values(Element::I8, &codes(Element::I8, kind, len, &mut random)).words(), len);
    // Three symbols of the same count share 4096: the first one gets the slot that is left over.
    let thirds: Vec<u16> = (0..30_000).map(|i| i % 3).collect();
    let thirds = (values(Element::I8, &thirds).words(), thirds.len());
    let tensors = [of(3, 70_003), of(6, 70_003), (vec![0x0707_0707, 0x07], 5), thirds];
    let seen = |change| tensors.iter().any(|(words, len)| differs(gpu, words, *len, change));
    assert!(!seen(("rans_decode", "held >> 16u", "held >> 16u")));
    for change in [
        ("rans_histogram", "${b}u < inside", "${b}u < max(inside, 4u)"),
        ("rans_table", "other == key && t < s", "other == key && t > s"),
        ("rans_table", "own.x == 0u", "own.x == 9u"),
        ("rans_encode", "(x >> 20u) >= f", "(x >> 20u) > f"),
        ("rans_encode", "rest -= select(0, i32(f), more)", "rest -= select(0, 1, more)"),
        ("rans_encode", "rest += select(0, i32(f), fewer)", "rest += select(0, 1, fewer)"),
        ("rans_encode", "filling & ~mask", "filling & mask"),
        ("rans_encode", "if ((n & 1u) == 1u) {", "if ((n & 1u) == 2u) {"),
        ("rans_offsets", "rest - fewest", "rest"),
        ("rans_offsets", "b < block", "b + 1u < block"),
        ("rans_pack", "u < record.y", "u <= record.y"),
        ("rans_decode", "held >> 16u", "held & 0xffffu"),
        ("rans_decode", "four &= mask", "four &= ~0u"),
        ("rans_decode", "slot - (entry & 0xffffu)", "slot + 1u - (entry & 0xffffu)"),
    ] {
        assert!(seen(change), "{change:?} changes nothing");
    }
}

/// Order-0 entropy of what is coded, and bits that are stored as they are, for a tensor.
fn entropy(element: Element, codes: &[u16]) -> f64 {
    let of = |part: &dyn Fn(u16) -> usize| {
        let mut counts = vec![0_u32; 256];
        codes.iter().for_each(|&c| counts[part(c)] += 1);
        let n = codes.len() as f64;
        counts.iter().filter(|&&c| c > 0).map(|&c| f64::from(c) * (n / f64::from(c)).log2()).sum::<f64>()
    };
    let (low, high) = (|c: u16| usize::from(c & 255), |c: u16| usize::from(c >> 8));
    match element {
        Element::I4 | Element::I8 | Element::U8 => of(&low),
        Element::I16 => of(&low) + of(&high),
        Element::F16 | Element::Bf16 => of(&move |c| high(c.rotate_left(1))) + 8.0 * codes.len() as f64,
    }
}

#[test]
fn sizes_are_near_the_entropy() {
    let mut random = Random::new(5);
    for element in ELEMENTS {
        for kind in 0..8 {
            let len = 1 << 20;
            let codes = codes(element, kind, len, &mut random);
            let values = values(element, &codes);
            let size = encoded_bits(&values);
            let bound = entropy(element, &codes);
            let (a_value, over) = (size.total() as f64 / len as f64, (size.total() as f64 - bound) / len as f64);
            say(&format!("{} kind {kind}: {a_value:.4} bits a value, {over:.4} over the entropy", element.name()));
            // A state, a length and half a word a lane of 2048 values; twice, and a table, where two planes are coded.
            let planes = if element == Element::I16 { 2.0 } else { 1.0 };
            assert!(over < 0.01 * bound / len as f64 + 0.03 * planes, "{} kind {kind}: {over}", element.name());
        }
    }
}

#[test]
fn the_device_counts_what_the_twin_counts() {
    on_both("the_device_counts_what_the_twin_counts", |gpu, checked| {
        let mut random = Random::new(6);
        for round in 0..if checked { 24 } else { 48 } {
            let element = ELEMENTS[round % 6];
            let len = length(&mut random, 18.0);
            let values = values(element, &codes(element, round / 6, len, &mut random));
            let counted = pollster::block_on(encoded_bits_async(gpu, &values, &Control::default())).unwrap();
            assert_eq!(counted, encoded_bits(&values), "{len} of {}", element.name());
        }
        // More than a chunk.
        let values = values(Element::U8, &codes(Element::U8, 7, CHUNK + 77, &mut random));
        if !checked {
            let counted = pollster::block_on(encoded_bits_async(gpu, &values, &Control::default())).unwrap();
            assert_eq!(counted, encoded_bits(&values));
        }
    });
}

#[test]
fn floats_of_weights_shrink_as_published() {
    let mut random = Random::new(7);
    let len = 1 << 20;
    for (element, published) in [(Element::Bf16, 0.67), (Element::F16, 0.85)] {
        // Rows of different scale, as layers of a network have.
        let codes: Vec<u16> = (0..len)
            .map(|i| pattern(element, 0.02 * (1.0 + (i / 65_536 % 4) as f64 / 2.0) * normal(&mut random)))
            .collect();
        let ratio = encoded_bits(&values(element, &codes)).total() as f64 / (16 * len) as f64;
        let (shift, bits, stored) = if element == Element::Bf16 { (7, 8, 8.0) } else { (10, 5, 11.0) };
        let mut counts = vec![0_u32; 1 << bits];
        codes.iter().for_each(|&c| counts[usize::from(c >> shift) & ((1 << bits) - 1)] += 1);
        let counts = counts.into_iter().filter(|&c| c > 0).map(f64::from);
        let exponent: f64 = counts.map(|c| c / len as f64 * (len as f64 / c).log2()).sum();
        let alone = (exponent + stored) / 16.0;
        say(&format!("{}: {ratio:.4} of 16 bits; entropy of exponents and the rest {alone:.4}", element.name()));
        assert!(ratio < published + 0.005 && ratio < alone + 0.002, "{}: {ratio}", element.name());
    }
}

/// Damaged bytes give an error with its place, or other values, the same on device and twin.
#[test]
fn damaged_bytes_are_refused_or_decode_alike() {
    on_both("damaged_bytes_are_refused_or_decode_alike", |gpu, checked| {
        let mut random = Random::new(8);
        let (mut refused, mut total) = (0, 0);
        for round in 0..if checked { 600 } else { 1500 } {
            let element = ELEMENTS[round % 6];
            let len = 1 + length(&mut random, 12.0);
            let values = values(element, &codes(element, random.below(8), len, &mut random));
            let mut payload = reference::encode(element, &values.words(), len).unwrap();
            damage(&mut payload, &mut random);
            let twin = reference::decode(element, &payload, len);
            let found = decode(gpu, element, &payload, len);
            total += 1;
            match (&twin, &found) {
                (Ok(a), Ok(b)) => assert!(a == b, "{len} of {}", element.name()),
                (Err(a), Err(b)) => {
                    refused += 1;
                    assert_eq!((a.kind(), a.to_string()), (ErrorKind::BadInput, b.to_string()));
                    assert!(a.to_string().starts_with("word "), "{a}");
                }
                _ => panic!("{len} of {}: twin {twin:?}, device {found:?}", element.name()),
            }
        }
        say(&format!("{refused} of {total} damaged payloads refused"));
    });
}

fn damage(payload: &mut Vec<u32>, random: &mut Random) {
    match random.below(8) {
        0 => payload.truncate(random.below(payload.len())),
        1 => payload.push(random.bits() as u32),
        2 => {
            let at = random.below(payload.len());
            payload[at] = [0, 1, 0xffff, u32::MAX, random.bits() as u32][random.below(5)];
        }
        3 => {
            let at = random.below(payload.len());
            payload.remove(at);
        }
        4 => payload[0] = payload[0].wrapping_add(random.below(9) as u32).wrapping_sub(4),
        5 => {
            let (a, b) = (random.below(payload.len()), random.below(payload.len()));
            payload.swap(a, b);
        }
        _ => {
            let at = random.below(payload.len());
            payload[at] ^= 1 << random.below(32);
        }
    }
}

#[test]
fn bytes_of_chance_are_refused() {
    let mut random = Random::new(9);
    for round in 0..20_000 {
        let element = ELEMENTS[round % 6];
        let len = length(&mut random, 10.0);
        let mut payload: Vec<u32> = (0..random.below(200)).map(|_| random.bits() as u32 >> random.below(32)).collect();
        if let Some(first) = payload.len().checked_sub(random.below(3)).filter(|_| !payload.is_empty()) {
            payload[0] = first as u32;
        }
        if len > 0 || !payload.is_empty() {
            assert_eq!(reference::decode(element, &payload, len).unwrap_err().kind(), ErrorKind::BadInput);
        }
    }
}
