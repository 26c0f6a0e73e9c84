//! rANS of bytes and exponent coding of bf16, from memory to memory of the device, beside the copy bandwidth.
//!
//! Work is what a codec has to move: with r = coded / plain, decoding n bytes reads r n and writes n; coding reads n twice (the model
//! needs all values before the first is coded) and writes r n. So an entry's share of the copy bandwidth B is that of B / (1 + r) or
//! B / (2 + r).

use super::oracle::{Random, poisoned_words, wrong};
use super::roofs::{COPY_ROOF, big};
use super::{Context, Done, SEED, Spec};
use crate::error::Result;
use crate::gpu::Recording;
use crate::pack::Element;
use crate::pack::codec::rans::{CHUNK, Layout, Plane, Streams, Workspace, record_decode, record_encode, reference};
use crate::tensor::Tensor;

const GROUP: &str = "pack";

pub(super) fn specs() -> Vec<Spec> {
    let spec = |name: &str, element: Element, run: fn(&Context<'_>, Element) -> Result<Done>| {
        Spec::new(GROUP, name, Some(COPY_ROOF), move |context| run(context, element))
    };
    vec![
        spec("rans_encode_i8", Element::I8, encode),
        spec("rans_decode_i8", Element::I8, decode),
        spec("exponent_encode_bf16", Element::Bf16, encode),
        spec("exponent_decode_bf16", Element::Bf16, decode),
    ]
}

/// Chunks of the same length: normal weights of scale 12 (i8) or 0.02 (bf16), another turn of the same in each chunk.
struct Case {
    element: Element,
    plane: Plane,
    layout: Layout,
    chunks: usize,
    words: Vec<u32>,
}

impl Case {
    fn new(context: &Context<'_>, element: Element) -> Result<Self> {
        let size = element.bits() as usize / 8;
        let bytes = big(context);
        let len = CHUNK.min(bytes / size);
        let layout = Layout::new(len)?;
        let mut random = Random::new(SEED);
        let of_chunk: Vec<u8> = (0..len)
            .flat_map(|_| {
                let x = random.normal();
                let code = match element {
                    Element::Bf16 => half::bf16::from_f64(0.02 * x).to_bits(),
                    _ => (12.0 * x).round().clamp(-128.0, 127.0) as i16 as u16,
                };
                code.to_le_bytes().into_iter().take(size)
            })
            .collect();
        let first: Vec<u32> = of_chunk.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let chunks = (bytes / (len * size)).max(1);
        let turned = |chunk: usize| {
            let (back, front) = first.split_at(chunk * 4099 % first.len());
            front.iter().chain(back).copied()
        };
        let words = (0..chunks).flat_map(turned).collect();
        let plane = if element == Element::Bf16 { Plane::High { rotate: true } } else { Plane::Bytes };
        Ok(Self { element, plane, layout, chunks, words })
    }

    /// Words of a chunk.
    fn each(&self) -> usize {
        self.words.len() / self.chunks
    }

    fn bytes(&self) -> f64 {
        4.0 * self.words.len() as f64
    }

    fn values(&self, context: &Context<'_>) -> Result<Tensor<u32>> {
        Tensor::from_slice(context.gpu, &[self.chunks, self.each()], &self.words)
    }

    /// Room for streams of at most one byte a coded byte, which these values need less of.
    fn streams(&self, context: &Context<'_>) -> Result<Streams> {
        let units = Some(self.layout.quads);
        pollster::block_on(Streams::new_async(context.gpu, &self.layout, self.chunks, self.plane, units))
    }

    fn workspace(&self, context: &Context<'_>) -> Result<Workspace> {
        pollster::block_on(Workspace::new_async(context.gpu, &self.layout, self.chunks, true))
    }

    /// Coded over plain bytes, from what is on the device: streams, low bytes, tables, states and lengths.
    fn ratio(&self, context: &Context<'_>, streams: &Streams) -> Result<f64> {
        let totals: u64 = streams.totals.to_array(context.gpu)?.iter().map(|&total| u64::from(total)).sum();
        let beside = 256 + 2 * self.layout.lanes() + if self.plane == Plane::Bytes { 0 } else { self.layout.quads };
        Ok((totals as f64 + (self.chunks * beside) as f64) / self.words.len() as f64)
    }

    fn note(&self, seconds: f64, r: f64, passes: &str) -> String {
        let rate = self.bytes() / seconds * 1e-9;
        let mib = self.bytes() / f64::from(1 << 20);
        format!(
            "{rate:.3} GB/s of plain bytes, r {r:.3}, {mib:.0} MiB in {} chunks; share is of B / ({passes} + r)",
            self.chunks
        )
    }

    /// The first and the last stream against the twin's.
    fn check(&self, context: &Context<'_>, streams: &Streams) -> Result<()> {
        let totals = streams.totals.to_array(context.gpu)?;
        let units = streams.units.to_array(context.gpu)?;
        for chunk in [0, self.chunks - 1] {
            let words = &self.words[chunk * self.each()..(chunk + 1) * self.each()];
            let twin = reference::encode(self.element, words, self.layout.len)?;
            let (end, total) = (twin[0] as usize, totals[[chunk]] as usize);
            let stream = (0..total).map(|i| &units[[chunk, i]]);
            if total > end || !twin[end - total..end].iter().eq(stream) {
                return Err(wrong(format!("the stream of chunk {chunk} is not that of the twin")));
            }
        }
        Ok(())
    }
}

fn encode(context: &Context<'_>, element: Element) -> Result<Done> {
    let case = Case::new(context, element)?;
    let (values, streams, workspace) = (case.values(context)?, case.streams(context)?, case.workspace(context)?);
    let record = |recording: &mut Recording| {
        let how = (case.plane, &case.layout);
        record_encode(recording, context.gpu.caps(), how, &values, &workspace, &streams)
    };
    let mut measured = context.measure(0.0, "B", &record, || case.check(context, &streams))?;
    let r = case.ratio(context, &streams)?;
    measured.work = (2.0 + r) * case.bytes();
    let note = case.note(measured.timing.seconds, r, "2");
    measured.note(note).done()
}

fn decode(context: &Context<'_>, element: Element) -> Result<Done> {
    let case = Case::new(context, element)?;
    let streams = case.streams(context)?;
    {
        let (values, workspace) = (case.values(context)?, case.workspace(context)?);
        let mut recording = Recording::new();
        let how = (case.plane, &case.layout);
        record_encode(&mut recording, context.gpu.caps(), how, &values, &workspace, &streams)?;
        context.gpu.run(&recording, &context.meter.control)?;
    }
    let out = poisoned_words(context.gpu, &[case.chunks, case.each()])?;
    let bad = poisoned_words(context.gpu, &[case.chunks])?;
    let record = |recording: &mut Recording| record_decode(recording, (case.plane, &case.layout), &streams, &out, &bad);
    let check = || {
        if bad.to_array(context.gpu)?.iter().any(|&lane| lane != 0)
            || !out.to_array(context.gpu)?.iter().eq(&case.words)
        {
            return Err(wrong("what is decoded is not what was coded".to_owned()));
        }
        Ok(())
    };
    let mut measured = context.measure(0.0, "B", &record, check)?;
    let r = case.ratio(context, &streams)?;
    measured.work = (1.0 + r) * case.bytes();
    let note = case.note(measured.timing.seconds, r, "1");
    measured.note(note).done()
}
