//! One chunk between host and device.

use super::device::{Plane, Streams, Workspace, record_decode, record_encode};
use super::payload::Coded;
use super::{Layout, damaged, enough, model, parts, split};
use crate::error::{Error, Result};
use crate::gpu::{Control, Gpu, Output, ReadTicket, Recording};
use crate::pack::Element;
use crate::tensor::{Tensor, pitch};

/// The plane of a chunk that is coded first.
pub(super) fn plane(element: Element) -> Plane {
    split(element).map_or(Plane::Bytes, |way| Plane::High { rotate: way.rotate })
}

/// A chunk's words as a batch of one.
pub(super) fn one(values: &Tensor<u32>, words: usize) -> Result<Tensor<u32>> {
    values.view(&[1, words]).ok_or_else(|| Error::internal(format!("{words} words in {:?}", values.shape())))
}

/// A plane that is being coded.
struct Pass {
    layout: Layout,
    workspace: Workspace,
    streams: Streams,
    /// Symbols, states, lengths, words of the stream.
    tickets: [ReadTicket; 4],
}

impl Pass {
    async fn record_async(
        gpu: &Gpu,
        recording: &mut Recording,
        (plane, layout): (Plane, Layout),
        values: &Tensor<u32>,
    ) -> Result<Self> {
        let workspace = Workspace::new_async(gpu, &layout, 1, true).await?;
        let streams = Streams::new_async(gpu, &layout, 1, plane, None).await?;
        record_encode(recording, gpu.caps(), (plane, &layout), values, &workspace, &streams)?;
        let read = [&streams.symbols, &streams.states, &workspace.halves, &streams.totals];
        let tickets = read.map(|tensor| tensor.record_read(recording));
        Ok(Self { layout, workspace, streams, tickets })
    }

    /// Without the streams, of which it says how many words there are.
    fn take(&self, output: &mut Output) -> Result<(Coded, usize)> {
        let [symbols, states, halves, totals] = self.tickets;
        let symbols = self.streams.symbols.take(output, symbols);
        let mut states = self.streams.states.take(output, states);
        let mut halves = self.workspace.halves.take(output, halves);
        states.truncate(self.layout.lanes());
        halves.truncate(self.layout.lanes());
        let total = self.streams.totals.take(output, totals).first().map_or(0, |&total| total as usize);
        let frequencies: Option<[u32; 256]> = symbols.iter().map(|&s| s >> 16).collect::<Vec<_>>().try_into().ok();
        let frequencies = frequencies.filter(|f| f.iter().sum::<u32>() == model::SUM);
        let frequencies = frequencies.ok_or_else(|| Error::internal("the device made no model of a chunk"))?;
        Ok((Coded { frequencies, states, halves, units: vec![] }, total))
    }
}

/// Codes a chunk of any element.
pub(in crate::pack::codec) async fn encode_any(
    gpu: &Gpu,
    element: Element,
    values: &Tensor<u32>,
    len: usize,
    control: &Control,
) -> Result<Vec<u32>> {
    let layout = Layout::new(len)?;
    enough(values.len(), &layout, element)?;
    if len == 0 {
        return Ok(vec![]);
    }
    let mut recording = Recording::new();
    let values = one(values, layout.words(element))?;
    let first = Pass::record_async(gpu, &mut recording, (plane(element), layout), &values).await?;
    let codes_low = split(element).is_some_and(|way| way.codes_low);
    let low = first.streams.low.clone();
    let second = match low.as_ref().filter(|_| codes_low) {
        Some(low) => Some(Pass::record_async(gpu, &mut recording, (Plane::Bytes, layout), low).await?),
        None => None,
    };
    let mut output = gpu.run_async(&recording, control).await?;
    let mut found = Vec::with_capacity(2);
    let mut recording = Recording::new();
    for pass in [Some(&first), second.as_ref()].into_iter().flatten() {
        let (coded, total) = pass.take(&mut output)?;
        found.push((coded, total, recording.read(pass.streams.units.part(0, total)?)));
    }
    let raw = low.filter(|_| !codes_low).map(|low| (low.record_read(&mut recording), low));
    let mut output = gpu.run_async(&recording, control).await?;
    let mut out = Vec::new();
    for (mut coded, total, ticket) in found {
        coded.units = output.take(ticket);
        coded.units.truncate(total);
        coded.write(&mut out);
    }
    if let Some((ticket, low)) = raw {
        out.extend(low.take(&mut output, ticket));
    }
    Ok(out)
}

/// Puts checked parts of a payload on the device.
async fn upload_async(gpu: &Gpu, layout: &Layout, coded: &Coded, plane: Plane) -> Result<Streams> {
    let streams = Streams::new_async(gpu, layout, 1, plane, Some(coded.units.len())).await?;
    let lanes = pitch(layout.lanes());
    let (records, _) = layout.records(&coded.halves);
    let mut records = records.concat();
    records.resize(4 * lanes, 0);
    let mut states = coded.states.clone();
    states.resize(lanes, 0);
    streams.symbols.write(gpu, &model::symbols(&coded.frequencies))?;
    streams.states.write(gpu, &states)?;
    streams.records.write(gpu, &records)?;
    gpu.upload(streams.units.buffer(), bytemuck::cast_slice(&coded.units))?;
    Ok(streams)
}

/// Decodes a chunk of any element.
pub(in crate::pack::codec) async fn decode_any(
    gpu: &Gpu,
    element: Element,
    payload: &[u32],
    len: usize,
    control: &Control,
) -> Result<Tensor<u32>> {
    let layout = Layout::new(len)?;
    let words = layout.words(element);
    let out = Tensor::uninit_async(gpu, &[1, words]).await?;
    let Some(parts) = parts(element, payload, &layout)? else { return flat(&out, words) };
    let plane = plane(element);
    let mut recording = Recording::new();
    let streams = upload_async(gpu, &layout, &parts.coded, plane).await?;
    let bad = Tensor::uninit_async(gpu, &[1]).await?;
    let mut checks = vec![(&bad, 0, &parts.coded)];
    let low_bad = Tensor::uninit_async(gpu, &[1]).await?;
    if let (Some((at, coded)), Some(low)) = (&parts.low, &streams.low) {
        let below = upload_async(gpu, &layout, coded, Plane::Bytes).await?;
        record_decode(&mut recording, (Plane::Bytes, &layout), &below, low, &low_bad)?;
        checks.push((&low_bad, *at, coded));
    } else if let Some(low) = &streams.low {
        low.write(gpu, parts.raw)?;
    }
    record_decode(&mut recording, (plane, &layout), &streams, &out, &bad)?;
    let tickets: Vec<ReadTicket> = checks.iter().map(|(bad, ..)| bad.record_read(&mut recording)).collect();
    let mut output = gpu.run_async(&recording, control).await?;
    for ((bad, at, coded), ticket) in checks.into_iter().zip(tickets) {
        let short = bad.take(&mut output, ticket).first().map_or(0, |&bad| bad as usize);
        if short != 0 {
            let lane = layout.lanes().saturating_sub(short);
            let what = format!("starts lane {lane}, which does not decode to its end");
            return Err(damaged(at + coded.word_of(lane), &what));
        }
    }
    flat(&out, words)
}

/// The words of a batch of one.
fn flat(out: &Tensor<u32>, words: usize) -> Result<Tensor<u32>> {
    out.view(&[words]).ok_or_else(|| Error::internal(format!("{words} words in {:?}", out.shape())))
}
