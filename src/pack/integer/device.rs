//! Integer inference on the device.

use super::{Activations, Network, Operand, Samples, StepKind, add, conv, copy, pool, softmax, table, unpacked, words};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Caps, Control, Recording};
use crate::{Gpu, Tensor as Memory};

/// Bytes of codes on the device at a time. Results do not depend on it.
const CODES: usize = 128 << 20;

/// A tensor's codes for a part of the samples: words, each place from a word's start on.
#[derive(Debug, Clone)]
pub(super) struct Map {
    pub(super) memory: Memory<u32>,
    pub(super) samples: usize,
    pub(super) shape: [usize; 3],
}

impl Map {
    /// Words of a place.
    pub(super) fn quads(&self) -> usize {
        words(self.shape[2])
    }

    /// Places of all samples.
    pub(super) fn places(&self) -> usize {
        self.samples * self.shape[0] * self.shape[1]
    }

    /// Words of all samples.
    pub(super) fn words(&self) -> usize {
        self.places() * self.quads()
    }
}

/// What a step keeps on the device.
#[derive(Debug)]
pub(super) enum Stored {
    Nothing,
    Product(conv::Stored),
    Constants([Option<Memory<u32>>; 2]),
    Table(Memory<u32>),
}

/// A network on a device, with room for a number of samples.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    network: &'a Network,
    stored: Vec<Stored>,
    /// Of each tensor; one whose codes lie like those of another shares its memory.
    pub(super) memory: Vec<Memory<u32>>,
    pub(super) room: usize,
}

impl<'a> Plan<'a> {
    /// Uploads the weights, and makes room for at most so many samples.
    pub(super) async fn new(gpu: &Gpu, network: &'a Network, samples: usize, bytes: usize) -> Result<Self> {
        let roots = network.roots();
        let sizes: Vec<usize> = network.tensors.iter().map(|t| t.positions() * words(t.channels())).collect();
        let of_sample: usize = (0..sizes.len()).filter(|&i| roots[i] == i).map(|i| sizes[i]).sum();
        let largest = sizes.iter().copied().max().unwrap_or(1);
        let bound = usize::try_from(gpu.caps().max_binding / 4).unwrap_or(usize::MAX);
        if largest > bound {
            let what = format!("a sample of '{}' has a tensor of {} bytes", network.name, 4 * largest);
            let help = format!("the device binds {} bytes at most", gpu.caps().max_binding);
            return Err(Error::new(ErrorKind::TooBig, what).with_help(help));
        }
        let room = samples.min(bytes / 4 / of_sample.max(1)).min(bound / largest.max(1)).max(1);
        let mut memory: Vec<Memory<u32>> = Vec::with_capacity(sizes.len());
        for (i, size) in sizes.iter().enumerate() {
            let own = roots[i] == i;
            memory.push(if own { Memory::uninit_async(gpu, &[room * size]).await? } else { memory[roots[i]].clone() });
        }
        let mut stored = Vec::with_capacity(network.steps.len());
        for step in &network.steps {
            stored.push(store(gpu, network, &step.kind, step.output).await?);
        }
        Ok(Self { network, stored, memory, room })
    }

    fn map(&self, tensor: usize, samples: usize) -> Result<Map> {
        let t = &self.network.tensors[tensor];
        let view = self.memory[tensor].view(&[samples * t.positions() * words(t.channels())]);
        let memory = view.ok_or_else(|| Error::internal(format!("no room for {samples} samples")))?;
        Ok(Map { memory, samples, shape: t.shape })
    }

    /// All steps, for so many samples.
    pub(super) fn record(&self, caps: &Caps, samples: usize) -> Result<Recording> {
        let mut recording = Recording::new();
        for (step, stored) in self.network.steps.iter().zip(&self.stored) {
            let to = self.map(step.output, samples)?;
            let map = |tensor| self.map(tensor, samples);
            let tensors = &self.network.tensors;
            match (&step.kind, stored) {
                (StepKind::Product(p), Stored::Product(s)) => {
                    let zeros = [tensors[p.input].zero_point, tensors[step.output].zero_point];
                    conv::record(&mut recording, caps, (p, s), zeros, [&map(p.input)?, &to])?;
                }
                (StepKind::Binary(b), Stored::Constants(constants)) => {
                    let operand = |k: usize| match (&b.operands[k], &constants[k]) {
                        (Operand::Tensor(tensor), _) => map(*tensor),
                        (Operand::Constant(c), Some(memory)) => {
                            let places = c.codes.len() / to.shape[2];
                            Ok(Map { memory: memory.clone(), samples: 1, shape: [places, 1, to.shape[2]] })
                        }
                        _ => Err(Error::internal("a constant was not stored")),
                    };
                    let operands = [&operand(0)?, &operand(1)?];
                    add::record(&mut recording, caps, b, tensors[step.output].zero_point, operands, &to)?;
                }
                (StepKind::Pool(p), _) => {
                    let zeros = [tensors[p.input].zero_point, tensors[step.output].zero_point];
                    pool::record(&mut recording, caps, p, zeros, [&map(p.input)?, &to])?;
                }
                (StepKind::Table { input, .. }, Stored::Table(codes)) => {
                    table::record(&mut recording, caps, codes, &map(*input)?, &to)?;
                }
                (StepKind::Softmax { input, .. }, Stored::Table(exponentials)) => {
                    softmax::record(&mut recording, caps, exponentials, &map(*input)?, &to)?;
                }
                (StepKind::Reshape { input }, _) => copy::reshape(&mut recording, caps, &map(*input)?, &to)?,
                (StepKind::Join { parts, fill }, _) => {
                    for (i, &(part, at)) in parts.iter().enumerate() {
                        let fill = (i == 0).then_some(*fill);
                        copy::join(&mut recording, caps, &map(part)?, at, fill, &to)?;
                    }
                }
                _ => return Err(Error::internal("a step was stored as another")),
            }
        }
        Ok(recording)
    }

    /// Codes of every tensor for some samples, whose packed codes are given.
    pub(super) async fn run(
        &self,
        gpu: &Gpu,
        input: &[u32],
        samples: usize,
        control: &Control,
    ) -> Result<Vec<Vec<i8>>> {
        self.run_recorded(gpu, self.record(gpu.caps(), samples)?, (input, samples), control).await
    }

    /// The same with a recording that was made before.
    pub(super) async fn run_recorded(
        &self,
        gpu: &Gpu,
        mut recording: Recording,
        (input, samples): (&[u32], usize),
        control: &Control,
    ) -> Result<Vec<Vec<i8>>> {
        gpu.upload(self.memory[self.network.input].buffer(), bytemuck::cast_slice(input))?;
        let roots = self.network.roots();
        let mut tickets = Vec::with_capacity(roots.len());
        for (i, &root) in roots.iter().enumerate() {
            let map = self.map(i, samples)?;
            tickets.push((root == i).then(|| (map.memory.record_read(&mut recording), map)));
        }
        let mut output = gpu.run_async(&recording, control).await?;
        let mut codes: Vec<Vec<i8>> = Vec::with_capacity(roots.len());
        for (ticket, root) in tickets.into_iter().zip(roots) {
            codes.push(match ticket {
                Some((ticket, map)) => unpacked(&map.memory.take(&mut output, ticket), map.shape[2]),
                None => codes[root].clone(),
            });
        }
        Ok(codes)
    }
}

async fn store(gpu: &Gpu, network: &Network, kind: &StepKind, output: usize) -> Result<Stored> {
    let upload = async |words: Vec<u32>| Memory::from_slice_async(gpu, &[words.len()], &words).await;
    Ok(match kind {
        StepKind::Product(p) => {
            let [from, to] = [p.input, output].map(|tensor| &network.tensors[tensor]);
            Stored::Product(conv::Stored::new(gpu, p, from, to).await?)
        }
        StepKind::Binary(b) => {
            let mut constants = [None, None];
            for (operand, constant) in b.operands.iter().zip(&mut constants) {
                if let Operand::Constant(c) = operand {
                    *constant = Some(upload(super::packed(&c.codes, network.tensors[output].channels())).await?);
                }
            }
            Stored::Constants(constants)
        }
        StepKind::Table { codes, .. } => Stored::Table(upload(super::packed(&codes[..], 4)).await?),
        StepKind::Softmax { exponentials, .. } => {
            Stored::Table(upload(exponentials.iter().map(|&e| e.cast_unsigned()).collect()).await?)
        }
        StepKind::Pool(_) | StepKind::Reshape { .. } | StepKind::Join { .. } => Stored::Nothing,
    })
}

impl Network {
    /// For each tensor the one whose memory it shares: itself, or what it is the reshaped form of with the same channels.
    fn roots(&self) -> Vec<usize> {
        let mut roots: Vec<usize> = (0..self.tensors.len()).collect();
        for step in &self.steps {
            if let StepKind::Reshape { input } = step.kind
                && self.tensors[input].channels() == self.tensors[step.output].channels()
            {
                roots[step.output] = roots[input];
            }
        }
        roots
    }

    /// The codes of every tensor for a batch of samples, computed on the device, in parts if they are many. No result depends on how many
    /// there are.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] for input that is no whole number of samples or holds what is no number; [`ErrorKind::TooBig`] for a tensor that the
    /// device cannot bind; the errors of [`Gpu::run_async`].
    pub async fn run_async(&self, gpu: &Gpu, samples: Samples<'_>, control: &Control) -> Result<Activations> {
        let input = self.codes(samples)?;
        self.run_in_parts(gpu, &input, CODES, control).await
    }

    /// The same with another bound on the bytes of codes at a time.
    pub(super) async fn run_in_parts(
        &self,
        gpu: &Gpu,
        input: &[i8],
        bytes: usize,
        control: &Control,
    ) -> Result<Activations> {
        let samples = input.len() / self.input().len();
        let mut codes = vec![Vec::new(); self.tensors.len()];
        if samples == 0 {
            return Ok(Activations { samples, codes });
        }
        let plan = Plan::new(gpu, self, samples, bytes).await?;
        let mut done = 0;
        for part in input.chunks(plan.room * self.input().len()) {
            control.cancel.check()?;
            control.report("integer inference", done as u64, samples as u64, "samples");
            let count = part.len() / self.input().len();
            let packed = super::packed(part, self.input().channels());
            let computed = plan.run(gpu, &packed, count, control).await?;
            for (all, part) in codes.iter_mut().zip(computed) {
                all.extend(part);
            }
            done += count;
        }
        control.report("integer inference", done as u64, samples as u64, "samples");
        Ok(Activations { samples, codes })
    }

    /// Blocking twin of [`Network::run_async`].
    ///
    /// # Errors
    /// Those of [`Network::run_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run(&self, gpu: &Gpu, samples: Samples<'_>, control: &Control) -> Result<Activations> {
        pollster::block_on(self.run_async(gpu, samples, control))
    }
}
