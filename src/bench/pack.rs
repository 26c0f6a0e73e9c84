//! Codecs in device memory, against what memory allows: with B the copy's traffic and r compressed over original, decoding cannot
//! give more than B / (1 + r) and coding in two passes not take more than B / (2 + r). Compressible values beside random ones.
//!
//! B is the fastest copy of three. On a software device that is the driver's command, a memcpy that no kernel comes near, so the share of what a kernel
//! copies stands beside it.

use super::oracle::{Random, gamma, near, poisoned, poisoned_words, wrong};
use super::roofs::{COPY_ROOF, big, record_copy};
use super::{Context, Done, Measured, SEED, Spec};
use crate::error::Result;
use crate::gpu::{Gpu, Recording};
use crate::pack::Element;
use crate::pack::codec::layout::Packed;
use crate::pack::codec::matmul::{self, Matrix};
use crate::pack::codec::width::{self, Tile, reference};
use crate::tensor::Tensor;

const GROUP: &str = "pack";
/// The row of what a kernel copies.
const KERNEL_COPY: &str = "kernel_copy";
/// Values that are drawn; longer arrays repeat them.
const DRAWN: usize = 1 << 20;
/// Words of a block ([`crate::pack::codec::layout`]).
const BLOCK: usize = 2048;
/// Elements compared with f64.
const SAMPLES: usize = 128;

/// How values are distributed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Data {
    /// Laplace, of this scale, rounded.
    Laplace(f64),
    /// All bits random: nothing to gain.
    Random,
}

pub(super) fn specs(context: &Context<'_>) -> Vec<Spec> {
    let bytes = big(context);
    let mut specs = vec![Spec::new(GROUP, KERNEL_COPY, Some(COPY_ROOF), move |context| kernel_copy(context, bytes))];
    let cases = [
        ("i8_laplace", Element::I8, Data::Laplace(4.0)),
        ("i16_laplace", Element::I16, Data::Laplace(100.0)),
        ("i8_random", Element::I8, Data::Random),
    ];
    for (name, element, data) in cases {
        let spec = |what: &str, run: fn(&Context<'_>, usize, Element, Data) -> Result<Done>| {
            let name = format!("width_{what}_{name}");
            Spec::new(GROUP, name, Some(COPY_ROOF), move |context| run(context, bytes, element, data))
        };
        specs.extend([spec("decode", decode), spec("encode", encode)]);
    }
    let side = match (context.quick(), context.gpu.caps().is_software()) {
        (true, _) => 256,
        (false, true) => 4096,
        (false, false) => 16_384,
    };
    for m in [1, 16] {
        for (kind, data) in [("laplace", Data::Laplace(4.0)), ("random", Data::Random)] {
            for packed in [false, true] {
                if packed || data != Data::Random {
                    let form = if packed { format!("packed_{kind}") } else { "plain".to_owned() };
                    let name = format!("matmul_{form}_{m}x{side}x{side}");
                    let run = move |context: &Context<'_>| product(context, m, side, data, packed);
                    specs.push(Spec::new(GROUP, name, Some(COPY_ROOF), run));
                }
            }
        }
    }
    specs
}

impl Data {
    fn words(self, element: Element, bytes: usize) -> Vec<u32> {
        let mut random = Random::new(SEED);
        let most = f64::from((1_i32 << (element.bits() - 1)) - 1);
        let drawn: Vec<u32> = (0..DRAWN)
            .map(|_| match self {
                Self::Random => random.bits() as u32,
                Self::Laplace(scale) => {
                    let u = random.unit() - 0.5;
                    let value = -scale * u.signum() * (1.0 - 2.0 * u.abs()).max(1e-12).ln();
                    (value.round().clamp(-most, most) as i32).cast_unsigned()
                }
            })
            .collect();
        let a_word = 32 / element.bits() as usize;
        let mask = u32::MAX >> (32 - element.bits());
        let word = |some: &[u32]| some.iter().rev().fold(0, |word: u32, &v| word << element.bits() | v & mask);
        let part: Vec<u32> = drawn.chunks_exact(a_word).map(word).collect();
        part.iter().cycle().take(bytes / 4).copied().collect()
    }
}

/// Values, what they become, and compressed over original.
struct Case {
    words: Vec<u32>,
    payload: Vec<u32>,
    ratio: f64,
}

impl Case {
    fn new(element: Element, data: Data, bytes: usize) -> Self {
        let words = data.words(element, bytes);
        let payload = reference::encode(element, &words, count(element, bytes));
        let ratio = payload.len() as f64 / words.len() as f64;
        Self { words, payload, ratio }
    }
}

fn count(element: Element, bytes: usize) -> usize {
    8 * bytes / element.bits() as usize
}

/// What a kernel copies by 16 bytes.
fn kernel_copy(context: &Context<'_>, bytes: usize) -> Result<Done> {
    let gpu = context.gpu;
    let words = Data::Random.words(Element::I8, bytes);
    let from = Tensor::from_slice(gpu, &[words.len()], &words)?;
    let out = poisoned_words(gpu, &[words.len()])?;
    let record = |recording: &mut Recording| record_copy(recording, gpu.caps(), false, &from, &out);
    let check = || same("word", out.to_array(gpu)?.iter(), &words);
    context.measure(2.0 * bytes as f64, "B", &record, check)?.note("by 16 bytes").done()
}

/// With its share of the bound where a byte of values is `traffic` bytes for memory.
fn bounded(context: &Context<'_>, measured: Measured, ratio: f64, traffic: f64) -> Result<Done> {
    let rate = measured.work / measured.timing.seconds;
    let rates = context.rates.borrow();
    let share = |copy: &str| rates.get(copy).map(|copy| 100.0 * rate * traffic / copy);
    let mut note = format!("r {ratio:.3}");
    if let Some(share) = share(COPY_ROOF) {
        note += &format!(", {share:.0} % of B / {traffic:.2}");
    }
    if let Some(share) = share(KERNEL_COPY) {
        note += &format!(", {share:.0} % with a kernel's copy for B");
    }
    measured.note(format!("{note}, {:?}", Tile::of(context.gpu.caps()))).done()
}

fn decode(context: &Context<'_>, bytes: usize, element: Element, data: Data) -> Result<Done> {
    let gpu = context.gpu;
    let case = Case::new(element, data, bytes);
    let packed = width::upload(gpu, element, &case.payload, count(element, bytes))?;
    let out = poisoned_words(gpu, &[case.words.len()])?;
    let tile = Tile::of(gpu.caps());
    let record = |recording: &mut Recording| width::decode(recording, gpu.caps(), tile, &packed, &out);
    let check = || same("word", out.to_array(gpu)?.iter(), &case.words);
    let measured = context.measure(bytes as f64, "B", &record, check)?;
    bounded(context, measured, case.ratio, 1.0 + case.ratio)
}

fn encode(context: &Context<'_>, bytes: usize, element: Element, data: Data) -> Result<Done> {
    let gpu = context.gpu;
    let case = Case::new(element, data, bytes);
    let values = Tensor::from_slice(gpu, &[case.words.len()], &case.words)?;
    let packed = width::room(gpu, element, count(element, bytes))?;
    let tile = Tile::of(gpu.caps());
    let record = |recording: &mut Recording| width::encode(recording, gpu.caps(), tile, &values, &packed);
    let measured = context.measure(bytes as f64, "B", &record, || coded(gpu, &packed, &case.payload))?;
    bounded(context, measured, case.ratio, 2.0 + case.ratio)
}

/// Index, widths and data are those of the host.
fn coded(gpu: &Gpu, packed: &Packed, payload: &[u32]) -> Result<()> {
    let (index, rest) = payload.split_at(packed.layout.blocks());
    let (widths, data) = rest.split_at(packed.layout.width_words());
    same("index", packed.index.to_array(gpu)?.iter(), index)?;
    same("widths", packed.widths.to_array(gpu)?.iter(), widths)?;
    same("data", packed.data.to_array(gpu)?.iter().take(data.len()), data)
}

fn same<'a>(what: &str, found: impl Iterator<Item = &'a u32>, expected: &[u32]) -> Result<()> {
    match found.zip(expected).position(|(a, b)| a != b) {
        Some(at) => Err(wrong(format!("{what} {at} is not that of the host (block {})", at / BLOCK))),
        None => Ok(()),
    }
}

/// A product of few rows: the matrix is what memory brings.
fn product(context: &Context<'_>, m: usize, side: usize, data: Data, packed: bool) -> Result<Done> {
    let gpu = context.gpu;
    let words = data.words(Element::I8, side * side);
    let make = if packed { Matrix::packed } else { Matrix::plain };
    let matrix = make(gpu, side, side, &words)?;
    let mut random = Random::new(SEED + 1);
    let (host_x, host_scale) = (random.values(m * side), random.values(side));
    let x = Tensor::from_slice(gpu, &[m, side], &host_x)?;
    let scale = Tensor::from_slice(gpu, &[side], &host_scale)?;
    let (planes, y) = (matmul::planes(gpu, m, &matrix)?, poisoned(gpu, &[1, m, side])?);
    let tile = matmul::Tile::of(gpu.caps(), m);
    let operands = (&x, &matrix, &scale);
    let record = |recording: &mut Recording| matmul::record(recording, gpu.caps(), tile, operands, &planes, &y);
    let check = || {
        let y = y.to_array(gpu)?;
        for _ in 0..SAMPLES {
            let (i, j) = (random.below(m), random.below(side));
            let weight = |k: usize| (words[(j * side + k) / 4] >> (k % 4 * 8)).to_le_bytes()[0].cast_signed();
            let terms = || (0..side).map(|k| f64::from(host_x[i * side + k]) * f64::from(weight(k)));
            let s = f64::from(host_scale[j]);
            let tolerance = gamma(matmul::depth(side)) * s.abs() * terms().map(f64::abs).sum::<f64>();
            near(&format!("element ({i}, {j})"), f64::from(y[[0, i, j]]), s * terms().sum::<f64>(), tolerance)?;
        }
        Ok(())
    };
    let measured = context.measure((side * side) as f64, "B", &record, check)?;
    let plain = context.rates.borrow().get(&format!("matmul_plain_{m}x{side}x{side}")).copied();
    let rate = measured.work / measured.timing.seconds;
    let beside =
        plain.filter(|_| packed).map_or_else(String::new, |plain| format!(", {:.2} times plain", rate / plain));
    let ratio = matrix.bytes() as f64 / (side * side) as f64;
    measured.note(format!("bytes of weights a second; r {ratio:.3}{beside}, {tile:?}")).done()
}
