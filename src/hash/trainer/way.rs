//! A step's way through the output layer, by the mode: all labels, labels that the batch shares, or labels of each sample's own.

use std::collections::BTreeMap;

use super::index::Index;
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu, ReadTicket, Recording};
use crate::hash::active::{
    ActiveSet, BatchLabels, Candidates, Choice, Distribution, Draws, Negatives, SampleCandidates, SampleChoice,
    SampleSets, SharedSet, log_inclusion,
};
use crate::hash::layer::loss::LossStep;
use crate::hash::layer::{self, Active, DeviceBatch, pairs, shared};
use crate::hash::network::Network;
use crate::hash::optimiser::{Entries, Optimiser, Which};
use crate::hash::options::{Mode, Options};
use crate::hash::{Batch, SparseSet, data};
use crate::tensor::Tensor;

/// Sizes of shared sets are multiples of this, so that few different ones need memory. A size depends on the batch alone.
const GRAIN: usize = 256;

/// What a step has before it comes to the output layer.
pub(super) struct Step<'a> {
    pub caps: &'a Caps,
    pub options: &'a Options,
    pub network: &'a Network,
    pub optimiser: &'a Optimiser,
    pub index: Option<&'a Index>,
    pub batch: &'a DeviceBatch,
    pub h: &'a Tensor,
    pub dh: &'a Tensor,
    pub losses: &'a Tensor,
    pub faults: &'a Tensor<u32>,
    /// The optimiser's number of the step, from 1 on.
    pub number: u32,
}

/// Memory for one shape of steps.
struct Room {
    /// `[B, A]`: logits, then their gradients.
    z: Tensor,
    scratch: Tensor,
    kind: Kind,
}

enum Kind {
    /// All labels: the gradient of every row.
    All { gradients: Tensor },
    /// Shared labels: their rows and the gradients of these, and what is taken from logits.
    Shared { set: Box<SharedSet>, panel: Tensor, gradients: Tensor, correction: Option<Tensor> },
    /// Labels of each sample.
    Own(Box<SampleSets>),
}

/// What a mode knows of the training set.
struct Known {
    /// The share of samples that have each label.
    frequency: Vec<f64>,
    /// How labels are drawn, if not uniformly.
    distribution: Option<Distribution>,
    /// Labels of the sample that has most.
    longest: usize,
}

/// A mode's way.
pub(super) struct Way {
    known: Option<Known>,
    /// By samples and active labels.
    rooms: BTreeMap<[usize; 2], Room>,
    /// What draws, and how many draws a step has.
    draws: Option<(Draws, usize)>,
    /// `[batch, C]`, of the largest batch: what hash tables return.
    candidates: Option<Tensor<u32>>,
    /// The room of the step, and its labels, as far as the host knows them.
    now: [usize; 2],
    distinct: usize,
    longest: usize,
}

impl Way {
    /// The way through all labels, whatever the mode.
    pub(super) fn all() -> Self {
        let rooms = BTreeMap::new();
        Self { known: None, rooms, draws: None, candidates: None, now: [0; 2], distinct: 0, longest: 0 }
    }

    /// The way of the options' mode.
    pub(super) async fn new_async(gpu: &Gpu, set: &SparseSet, options: &Options) -> Result<Self> {
        if options.mode == Mode::Full {
            return Ok(Self::all());
        }
        let counts = data::frequencies(&set.labels, set.label_count);
        let frequency = counts.iter().map(|&count| f64::from(count) / set.len().max(1) as f64).collect();
        let distribution = match options.mode {
            Mode::LogUniform => {
                let mut ranked: Vec<u32> = (0..crate::ops::word(set.label_count)?).collect();
                ranked.sort_by_key(|&label| std::cmp::Reverse(counts[label as usize]));
                Some(Distribution::log_uniform(&ranked)?)
            }
            _ => None,
        };
        let draws = match &distribution {
            Some(distribution) => {
                let size = (options.negatives + GRAIN).min(set.label_count);
                let count = distribution.enough(size);
                Some((Draws::new_async(gpu, distribution, count).await?, count))
            }
            None => None,
        };
        let longest = (0..set.len()).map(|i| set.labels.row(i).len()).max().unwrap_or(0);
        Ok(Self { known: Some(Known { frequency, distribution, longest }), draws, ..Self::all() })
    }

    /// Makes room for the step of a batch.
    pub(super) async fn prepare_async(
        &mut self,
        gpu: &Gpu,
        batch: &Batch,
        options: &Options,
        network: &Network,
    ) -> Result<()> {
        let labels = network.labels();
        (self.distinct, self.longest) = (batch.distinct_labels(), batch.most_labels());
        let active = match &self.known {
            None => labels,
            Some(known) if options.mode == Mode::Slide => {
                options.active.max(known.longest).next_multiple_of(4).min(labels / 4 * 4).max(4)
            }
            Some(_) => (self.distinct + options.negatives).max(1).next_multiple_of(GRAIN).min(labels),
        };
        self.now = [batch.samples, active];
        if !self.rooms.contains_key(&self.now) {
            let room = self.room_async(gpu, options, network).await?;
            self.rooms.insert(self.now, room);
        }
        Ok(())
    }

    async fn room_async(&self, gpu: &Gpu, options: &Options, network: &Network) -> Result<Room> {
        let [samples, active] = self.now;
        let (labels, hidden) = (network.labels(), network.hidden());
        let rows = async |count: usize| Tensor::uninit_async(gpu, &[count, hidden.width()]).await;
        let kind = match &self.known {
            None => Kind::All { gradients: rows(labels).await? },
            Some(_) if options.mode == Mode::Slide => {
                let counted = match options.choice {
                    SampleChoice::First => 0,
                    _ => options.lsh.tables * options.lsh.bucket,
                };
                let set = SampleSets::new_async(gpu, labels, self.now, counted, options.seed).await?;
                Kind::Own(Box::new(set))
            }
            Some(known) => {
                let correction = match options.correction {
                    true => Some(self.correction_async(gpu, known, options).await?),
                    false => None,
                };
                let set = Box::new(SharedSet::new_async(gpu, labels, active, options.seed).await?);
                Kind::Shared { set, panel: rows(active).await?, gradients: rows(active).await?, correction }
            }
        };
        let scratch = layer::scratch(samples, active, hidden.elements);
        Ok(Room {
            z: Tensor::uninit_async(gpu, &[samples, active]).await?,
            scratch: Tensor::uninit_async(gpu, &[scratch]).await?,
            kind,
        })
    }

    /// The logarithm of each label's chance to be in a set of the step's size.
    async fn correction_async(&self, gpu: &Gpu, known: &Known, options: &Options) -> Result<Tensor> {
        let negatives = match (&known.distribution, &self.draws) {
            (Some(distribution), Some((_, draws))) => Negatives::Draws(distribution, *draws),
            _ => Negatives::Uniform,
        };
        // A small last batch may leave less room than its labels are expected to take.
        let [samples, active] = self.now;
        let expected: f64 = known.frequency.iter().map(|f| -(samples as f64 * (-f).ln_1p()).exp_m1()).sum();
        let least = expected.ceil() as usize + options.negatives.max(1);
        let size = active.max(least).min(known.frequency.len());
        let list = log_inclusion(&known.frequency, samples, size, negatives)?;
        Tensor::from_slice_async(gpu, &[list.len()], &list).await
    }

    /// Makes room for what hash tables return for so many samples or fewer.
    pub(super) async fn candidates_async(&mut self, gpu: &Gpu, most: usize, count: usize) -> Result<()> {
        if self.candidates.as_ref().is_none_or(|list| list.shape() != [most, count]) {
            self.candidates = Some(Tensor::uninit_async(gpu, &[most, count]).await?);
        }
        Ok(())
    }

    /// Records active labels, logits, loss, gradients of hidden elements, and the optimiser's step of the labels' rows.
    pub(super) fn record(&self, recording: &mut Recording, step: &Step<'_>) -> Result<()> {
        let Some(room) = self.rooms.get(&self.now) else { return Err(Error::internal("a step without room")) };
        match &room.kind {
            Kind::All { gradients } => record_all(recording, step, room, gradients),
            Kind::Shared { set, panel, gradients, correction } => {
                self.record_shared_set(recording, step, set)?;
                record_shared(recording, step, room, &set.active, [panel, gradients], correction.as_ref())
            }
            Kind::Own(sets) => {
                self.record_own_sets(recording, step, sets)?;
                record_own(recording, step, room, &sets.active)
            }
        }
    }

    fn labels<'a>(&self, batch: &'a DeviceBatch) -> BatchLabels<'a> {
        BatchLabels {
            offsets: &batch.label_offsets,
            ids: &batch.labels,
            samples: batch.samples,
            entries: batch.label_entries,
            distinct: self.distinct,
            longest: self.longest,
        }
    }

    /// Records what hash tables return for the samples.
    fn record_query(&self, recording: &mut Recording, step: &Step<'_>) -> Result<Tensor<u32>> {
        let room = self.candidates.as_ref().and_then(|list| list.view(&[step.batch.samples, list.columns()]));
        let (Some(index), Some(candidates)) = (step.index, room) else {
            return Err(Error::internal("a look-up without hash tables"));
        };
        index.record_query(recording, step.caps, step.h, step.number, &candidates)?;
        Ok(candidates)
    }

    fn record_shared_set(&self, recording: &mut Recording, step: &Step<'_>, set: &SharedSet) -> Result<()> {
        let missing = || Error::internal(format!("the mode '{}' without its lists", step.options.mode.name()));
        let list;
        let candidates = match step.options.mode {
            Mode::LogUniform => Candidates::Draws(&self.draws.as_ref().ok_or_else(missing)?.0),
            Mode::HashUnion | Mode::HashMost => {
                list = self.record_query(recording, step)?;
                let choice = if step.options.mode == Mode::HashMost { Choice::Most } else { Choice::Seeded };
                Candidates::List(&list, choice)
            }
            Mode::Neighbours => {
                let list = step.index.and_then(Index::neighbours).ok_or_else(missing)?;
                Candidates::Neighbours(list, Choice::Most)
            }
            _ => Candidates::Uniform,
        };
        set.record(recording, step.caps, step.number, &self.labels(step.batch), &candidates)
    }

    fn record_own_sets(&self, recording: &mut Recording, step: &Step<'_>, sets: &SampleSets) -> Result<()> {
        let ids = self.record_query(recording, step)?;
        let Options { lsh, choice, .. } = step.options;
        let candidates = SampleCandidates { ids: &ids, groups: lsh.tables, choice: *choice };
        sets.record(recording, step.caps, step.number, &self.labels(step.batch), Some(&candidates))
    }

    /// Records a read of what the step's sets are made of, if they are sets.
    pub(super) fn record_statistics(&self, recording: &mut Recording) -> Option<ReadTicket> {
        let active = match &self.rooms.get(&self.now)?.kind {
            Kind::All { .. } => return None,
            Kind::Shared { set, .. } => &set.active,
            Kind::Own(sets) => &sets.active,
        };
        Some(active.statistics.record_read(recording))
    }
}

/// Labels, candidates and fill of one of the step's sets, and the rows that the step touches.
pub(super) fn counted(words: &[u32], sets: usize) -> [f64; 4] {
    let of_set = |count: u32| f64::from(count) / sets as f64;
    [of_set(words[0]), of_set(words[1]), of_set(words[2]), f64::from(words[3])]
}

fn loss_step<'a>(step: &Step<'a>, room: &'a Room, active: Active<'a>, correction: Option<&'a Tensor>) -> LossStep<'a> {
    LossStep {
        loss: step.options.loss,
        correction,
        active,
        batch: step.batch,
        logits: &room.z,
        losses: step.losses,
        faults: step.faults,
    }
}

fn record_all(recording: &mut Recording, step: &Step<'_>, room: &Room, gradients: &Tensor) -> Result<()> {
    let &Step { caps, optimiser, network, h, dh, number, .. } = step;
    let output = &network.output;
    optimiser.record_catch_up_to_update(recording, caps, output, Which::All, number - 1)?;
    shared::logits(recording, caps, h, &output.weights, &room.z)?;
    loss_step(step, room, Active::All, None).record(recording, caps)?;
    let factors = [&room.z, &output.weights];
    shared::hidden_gradient(recording, caps, network.hidden(), h, factors, &room.scratch, dh)?;
    shared::row_gradient(recording, caps, &room.z, h, gradients)?;
    optimiser.record_dense(recording, caps, output, gradients)
}

fn record_shared(
    recording: &mut Recording,
    step: &Step<'_>,
    room: &Room,
    active: &ActiveSet,
    [panel, gradients]: [&Tensor; 2],
    correction: Option<&Tensor>,
) -> Result<()> {
    let &Step { caps, optimiser, network, h, dh, number, .. } = step;
    let (output, listed) = (&network.output, Which::Touched(&active.touched));
    optimiser.record_catch_up_to_update(recording, caps, output, listed, number - 1)?;
    shared::panel(recording, caps, output, &active.ids, panel)?;
    shared::logits(recording, caps, h, panel, &room.z)?;
    loss_step(step, room, Active::Shared(&active.ids), correction).record(recording, caps)?;
    shared::hidden_gradient(recording, caps, network.hidden(), h, [&room.z, panel], &room.scratch, dh)?;
    shared::row_gradient(recording, caps, &room.z, h, gradients)?;
    optimiser.record_update(recording, caps, output, listed, &Entries::Panel(gradients))
}

fn record_own(recording: &mut Recording, step: &Step<'_>, room: &Room, active: &ActiveSet) -> Result<()> {
    let &Step { caps, optimiser, network, h, dh, number, .. } = step;
    let (output, listed) = (&network.output, Which::Touched(&active.touched));
    let Some(order) = &active.order else { return Err(Error::internal("sets of samples without an order")) };
    optimiser.record_catch_up_to_update(recording, caps, output, listed, number - 1)?;
    pairs::logits(recording, caps, h, output, &active.ids, &room.z)?;
    loss_step(step, room, Active::Own(&active.ids), None).record(recording, caps)?;
    let factors = (output, &active.ids, &room.z);
    pairs::hidden_gradient(recording, caps, network.hidden(), h, factors, &room.scratch, dh)?;
    let per_sample = active.ids.columns();
    let entries = Entries::Pairs { order, coefficients: &room.z, per_sample, sources: h };
    optimiser.record_update(recording, caps, output, listed, &entries)
}
