//! `group_widths`, `width_pack`, `width_unpack`.

use wavehull::Gpu;
use wavehull::gpu::Recording;
use wavehull::pack::Element;
use wavehull::pack::codec::layout::Packed;
use wavehull::pack::codec::width::{self, Tile, reference};
use wavehull::tensor::Tensor;

use crate::common::{self, POISON, Random, broken};
use crate::{INTEGERS, KINDS, bytes, on_both, words};

/// Sizes around groups, vectors, blocks and rows of them.
const SIZES: [usize; 14] = [1, 3, 4, 15, 16, 17, 31, 33, 500, 4096, 8191, 8193, 3 * 8192 + 5, 40_000];

struct Coding {
    expected: Vec<u32>,
    packed: Packed,
    recording: Recording,
}

fn poison(gpu: &Gpu, tensor: &Tensor<u32>) {
    gpu.upload(tensor.buffer(), bytemuck::cast_slice(&vec![POISON; common::words(tensor)])).unwrap();
}

fn coding(gpu: &Gpu, element: Element, tile: Tile, values: &[u32], len: usize) -> Coding {
    let packed = width::room(gpu, element, len).unwrap();
    for tensor in [&packed.index, &packed.widths, &packed.data] {
        poison(gpu, tensor);
    }
    // Behind the last word of values there is poison, too.
    let device = common::tensor(gpu, &[values.len()], values);
    let mut recording = Recording::new();
    width::encode(&mut recording, gpu.caps(), tile, &device, &packed).unwrap();
    Coding { expected: reference::encode(element, values, len), packed, recording }
}

impl Coding {
    /// Index, widths and data are the twin's; what is behind them is poison.
    fn check(&self, gpu: &Gpu, recording: &Recording) -> Result<(), String> {
        let Packed { index, widths, data, layout, .. } = &self.packed;
        let (head, rest) = self.expected.split_at(layout.head());
        let (first, second) = head.split_at(layout.blocks());
        for (what, tensor, expected) in [("index", index, first), ("widths", widths, second), ("data", data, rest)] {
            let memory = common::run_raw(gpu, recording, tensor);
            let differs = memory[..expected.len()].iter().zip(expected).position(|(a, b)| a != b);
            if let Some(at) = differs {
                return Err(format!("word {at} of {what} is {:#x}, not {:#x}", memory[at], expected[at]));
            }
            if memory[expected.len()..].iter().any(|&word| word != POISON) {
                return Err(format!("something behind {what} was written"));
            }
        }
        Ok(())
    }
}

struct Decoding {
    expected: Vec<u32>,
    values: Tensor<u32>,
    recording: Recording,
}

fn decoding(gpu: &Gpu, element: Element, tile: Tile, values: &[u32], len: usize) -> Decoding {
    let payload = reference::encode(element, values, len);
    let packed = width::upload(gpu, element, &payload, len).unwrap();
    let out = common::poisoned(gpu, &[values.len()]);
    let mut recording = Recording::new();
    width::decode(&mut recording, gpu.caps(), tile, &packed, &out).unwrap();
    Decoding { expected: values.to_vec(), values: out, recording }
}

impl Decoding {
    /// The values, zeros up to a whole vector, and poison.
    fn check(&self, gpu: &Gpu, recording: &Recording) -> Result<(), String> {
        let memory = common::run_raw(gpu, recording, &self.values);
        let mut expected = self.expected.clone();
        expected.resize(expected.len().next_multiple_of(4), 0);
        expected.resize(memory.len(), POISON);
        match memory.iter().zip(&expected).position(|(a, b)| a != b) {
            Some(at) => Err(format!("word {at} is {:#x}, not {:#x}", memory[at], expected[at])),
            None => Ok(()),
        }
    }
}

#[test]
fn kernels_give_the_words_of_the_twin() {
    on_both("kernels_give_the_words_of_the_twin", |gpu| {
        let mut random = Random::new(1);
        for (at, &len) in SIZES.iter().enumerate() {
            for element in INTEGERS {
                for tile in Tile::ALL {
                    let kind = (at + random.below(2)) % KINDS;
                    let values = words(&bytes(&mut random, element, len, kind));
                    let title = || format!("{len} {element:?}, distribution {kind}, {tile:?}");
                    let c = coding(gpu, element, tile, &values, len);
                    c.check(gpu, &c.recording).unwrap_or_else(|why| panic!("coding {}: {why}", title()));
                    let d = decoding(gpu, element, tile, &values, len);
                    d.check(gpu, &d.recording).unwrap_or_else(|why| panic!("decoding {}: {why}", title()));
                }
            }
        }
    });
}

#[test]
fn every_distribution_comes_back() {
    let Some(gpu) = common::device("every_distribution_comes_back", false) else { return };
    let mut random = Random::new(2);
    for kind in 0..KINDS {
        for element in INTEGERS {
            let len = 9000 + random.below(8192);
            let values = words(&bytes(&mut random, element, len, kind));
            let tile = Tile::of(gpu.caps());
            let c = coding(gpu, element, tile, &values, len);
            c.check(gpu, &c.recording).unwrap_or_else(|why| panic!("coding {len} {element:?} {kind}: {why}"));
            let d = decoding(gpu, element, tile, &values, len);
            d.check(gpu, &d.recording).unwrap_or_else(|why| panic!("decoding {len} {element:?} {kind}: {why}"));
            assert_eq!(reference::decode(element, &c.expected, len).unwrap(), values, "{len} {element:?} {kind}");
        }
    }
}

#[test]
fn some_values_come_out_of_the_middle() {
    let mut random = Random::new(3);
    for element in INTEGERS {
        let len = 30_000;
        let values = words(&bytes(&mut random, element, len, 2));
        let payload = reference::encode(element, &values, len);
        let all = reference::decode_range(element, &payload, len, 0..len).unwrap();
        for _ in 0..100 {
            let (a, b) = (random.below(len + 1), random.below(len + 1));
            let range = a.min(b)..a.max(b);
            let part = reference::decode_range(element, &payload, len, range.clone()).unwrap();
            assert_eq!(part, all[range.clone()], "{element:?} {range:?}");
        }
    }
}

#[test]
fn broken_codecs_are_noticed() {
    let Some(gpu) = common::device("broken_codecs_are_noticed", false) else { return };
    let mut random = Random::new(4);
    let len = 2 * 8192 + 1000;
    // Groups whose values have one width, and groups of one outlier each.
    let both = [bytes(&mut random, Element::I8, 8192, 6), bytes(&mut random, Element::I8, len - 8192, 5)].concat();
    let values = words(&both);
    for (kernel, from, to) in [
        ("group_widths", "select(0u, p.is_signed,", "select(0u, 0u * p.is_signed,"),
        ("group_widths", "bits | (bits >> 8u)", "bits"),
        ("group_widths", "atomicAdd(&total, sum)", "atomicMax(&total, sum)"),
        ("width_pack", "select(word, over_", "select(0u, over_"),
        ("width_pack", "to += bit / 32u", "to += 1u"),
        ("width_pack", "<< vec4<u32>(2u * width))", "<< vec4<u32>(width))"),
        ("width_pack", "starts[g / ${WIDTHS}u] +", "0u +"),
    ] {
        for tile in [Tile::ALL[1], Tile::ALL[2]] {
            let c = coding(gpu, Element::I8, tile, &values, len);
            c.check(gpu, &c.recording).unwrap();
            assert!(c.check(gpu, &broken(&c.recording, kernel, from, to)).is_err(), "'{to}' went unseen");
        }
    }
    for (from, to) in [
        ("<< (31u - bit % 32u)", "<< (30u - bit % 32u)"),
        ("width + 31u", "width + 30u"),
        ("var low = data[place + bit / 32u]", "var low = data[place]"),
        ("begin + starts", "starts"),
    ] {
        let d = decoding(gpu, Element::I8, Tile::ALL[2], &values, len);
        d.check(gpu, &d.recording).unwrap();
        assert!(d.check(gpu, &broken(&d.recording, "width_unpack", from, to)).is_err(), "'{to}' went unseen");
    }
}
