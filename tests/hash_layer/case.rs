//! Random problems, on the host and on a device.

use std::collections::BTreeSet;

use wavehull::gpu::Recording;
use wavehull::hash::layer::loss::{self, LossStep};
use wavehull::hash::layer::reference::{Problem, Sets};
use wavehull::hash::layer::{self, Active, DeviceBatch, Hidden, Loss, pairs, shared};
use wavehull::hash::set::{Lists, SparseSet};
use wavehull::hash::{Batch, Rows};
use wavehull::{Gpu, Tensor};

use crate::common::{self, Random};

/// Which active sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    All,
    Shared,
    Own,
}

/// Sizes of a problem.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub samples: usize,
    pub features: usize,
    pub labels: usize,
    pub hidden: usize,
    pub relu: bool,
    /// Active labels of each sample.
    pub own: usize,
    /// Active labels of all samples.
    pub shared: usize,
    /// Largest magnitude of values.
    pub value: f32,
}

pub struct Case {
    pub batch: Batch,
    pub hidden: Hidden,
    pub input: Vec<f32>,
    pub output: Vec<f32>,
    pub labels: usize,
    pub own: Vec<u32>,
    pub own_len: usize,
    pub shared: Vec<u32>,
    pub correction: Vec<f32>,
    /// Whether the device stores its tables in 16 bits.
    pub bf16: bool,
    f64s: [Vec<f64>; 3],
}

/// These labels and random ones up to so many, ascending.
fn filled(random: &mut Random, labels: &[u32], count: usize, of: usize) -> Vec<u32> {
    let mut set: BTreeSet<u32> = labels.iter().copied().collect();
    assert!(set.len() <= count && count <= of);
    if count == of {
        return (0..of as u32).collect();
    }
    while set.len() < count {
        set.insert(random.below(of) as u32);
    }
    set.into_iter().collect()
}

/// Of the samples the second has no features, the third no labels.
fn sparse(random: &mut Random, sizes: &Sizes) -> SparseSet {
    let mut set = SparseSet { feature_count: sizes.features, label_count: sizes.labels, ..SparseSet::default() };
    (set.features.offsets, set.labels.offsets) = (vec![0], vec![0]);
    let add = |lists: &mut Lists, random: &mut Random, count: usize, of: usize| {
        lists.ids.extend(filled(random, &[], count.min(of), of));
        lists.offsets.push(lists.ids.len());
    };
    for sample in 0..sizes.samples {
        let features = if sample == 1 { 0 } else { 1 + random.below(30) };
        add(&mut set.features, random, features, sizes.features);
        let most = sizes.own.min(sizes.shared / sizes.samples).max(1);
        let labels = if sample == 2 { 0 } else { 1 + random.below(most.min(9)) };
        add(&mut set.labels, random, labels, sizes.labels);
    }
    set.values = (0..set.features.ids.len()).map(|_| sizes.value * random.unit() as f32).collect();
    set.check().unwrap();
    set
}

/// A table `[rows, width]`, zeros behind the hidden elements and the bias.
fn table(random: &mut Random, rows: usize, hidden: Hidden) -> Vec<f32> {
    let mut all = Vec::new();
    for _ in 0..rows {
        let mut row = random.floats(hidden.elements + 1);
        row.resize(hidden.width(), 0.0);
        all.extend(row);
    }
    all
}

impl Case {
    pub fn new(seed: u64, sizes: Sizes) -> Self {
        let random = &mut Random::new(seed);
        let set = sparse(random, &sizes);
        let batch = Batch::new(&set, &(0..sizes.samples as u32).collect::<Vec<_>>()).unwrap();
        let hidden = Hidden { elements: sizes.hidden, relu: sizes.relu };
        let own = (0..sizes.samples).flat_map(|i| filled(random, set.labels.row(i), sizes.own, sizes.labels)).collect();
        let shared = filled(random, &set.labels.ids, sizes.shared, sizes.labels);
        let (input, output) = (table(random, sizes.features + 1, hidden), table(random, sizes.labels, hidden));
        let correction = random.floats(sizes.labels).iter().map(|x| 3.0 * x - 4.0).collect::<Vec<_>>();
        let f64s = [&input, &output, &correction].map(|of| of.iter().map(|&x| f64::from(x)).collect());
        let (labels, own_len) = (sizes.labels, sizes.own);
        Self { batch, hidden, input, output, labels, own, own_len, shared, correction, bf16: false, f64s }
    }

    pub fn problem(&self, mode: Mode, loss: Loss, corrected: bool) -> Problem<'_> {
        let sets = match mode {
            Mode::All => Sets::All(self.labels),
            Mode::Shared => Sets::Shared(&self.shared),
            Mode::Own => Sets::Own(&self.own, self.own_len),
        };
        let [input, output, correction] = &self.f64s;
        let correction = corrected.then_some(&correction[..]);
        Problem { batch: &self.batch, hidden: self.hidden, input, output, sets, loss, correction }
    }
}

/// What a device gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    pub h: Vec<f32>,
    pub z: Vec<f32>,
    pub losses: Vec<f32>,
    pub mean: f32,
    pub dz: Vec<f32>,
    pub dh: Vec<f32>,
    /// Of shared sets.
    pub dw: Vec<f32>,
    pub faults: u32,
}

pub fn rows(gpu: &Gpu, elements: &[f32], width: usize) -> Rows {
    let count = elements.len() / width;
    let mut rows = pollster::block_on(Rows::uninit_async(gpu, count, width, 0)).unwrap();
    rows.weights = common::tensor(gpu, &[count, width], elements);
    rows
}

/// The same with weights of 16 bits, two a word.
fn halves(gpu: &Gpu, elements: &[f32], width: usize) -> Rows {
    let word = |two: &[f32]| two[0].to_bits() >> 16 | two[1].to_bits() & 0xffff_0000;
    let words: Vec<u32> = elements.chunks(2).map(word).collect();
    let mut rows = rows(gpu, elements, width);
    rows.weights = common::tensor(gpu, &[rows.len(), width / 2], &words).words();
    rows
}

/// The tensors of a step and its recordings: up to the logits, and whole.
pub struct Recorded {
    h: Tensor,
    z: Tensor,
    losses: Tensor,
    means: Tensor,
    dh: Tensor,
    dw: Tensor,
    faults: Tensor<u32>,
    pub up_to_logits: Recording,
    pub whole: Recording,
}

impl Recorded {
    pub fn new(gpu: &Gpu, case: &Case, mode: Mode, loss: Loss, corrected: bool) -> Self {
        let (caps, width, samples) = (gpu.caps(), case.hidden.width(), case.batch.samples);
        let batch = DeviceBatch::new(gpu, &case.batch).unwrap();
        let table = if case.bf16 { halves } else { rows };
        let (input, output) = (table(gpu, &case.input, width), table(gpu, &case.output, width));
        let own = common::tensor(gpu, &[samples, case.own_len], &case.own);
        let ids = common::tensor(gpu, &[case.shared.len()], &case.shared);
        let correction = common::tensor(gpu, &[case.labels], &case.correction);
        let (active, count) = match mode {
            Mode::All => (Active::All, case.labels),
            Mode::Shared => (Active::Shared(&ids), case.shared.len()),
            Mode::Own => (Active::Own(&own), case.own_len),
        };
        let new = |shape: &[usize]| common::poisoned::<f32>(gpu, shape);
        let (h, dh, z) = (new(&[samples, width]), new(&[samples, width]), new(&[samples, count]));
        let (losses, means) = (new(&[samples]), new(&[5]));
        let (panel, dw) = (new(&[count, width]), new(&[count, width]));
        let scratch = new(&[layer::scratch(samples, count, case.hidden.elements)]);
        let faults = Tensor::from_slice(gpu, &[4], &[0_u32; 4]).unwrap();
        let mut r = Recording::new();
        layer::forward(&mut r, caps, &batch, &input, case.hidden, &h).unwrap();
        let panel = if mode == Mode::All { output.weights.clone() } else { panel };
        match mode {
            Mode::Own => pairs::logits(&mut r, caps, &h, &output, &own, &z).unwrap(),
            Mode::All => shared::logits(&mut r, caps, &h, &panel, &z).unwrap(),
            Mode::Shared => {
                shared::panel(&mut r, caps, &output, &ids, &panel).unwrap();
                shared::logits(&mut r, caps, &h, &panel, &z).unwrap();
            }
        }
        let up_to_logits = r.clone();
        let correction = corrected.then_some(&correction);
        LossStep { loss, correction, active, batch: &batch, logits: &z, losses: &losses, faults: &faults }
            .record(&mut r, caps)
            .unwrap();
        loss::mean(&mut r, &losses, &means, 3).unwrap();
        if mode == Mode::Own {
            pairs::hidden_gradient(&mut r, caps, case.hidden, &h, (&output, &own, &z), &scratch, &dh).unwrap();
        } else {
            shared::hidden_gradient(&mut r, caps, case.hidden, &h, [&z, &panel], &scratch, &dh).unwrap();
            shared::row_gradient(&mut r, caps, &z, &h, &dw).unwrap();
        }
        Self { h, z, losses, means, dh, dw, faults, up_to_logits, whole: r }
    }

    /// Runs it, and sees that what nobody may write is still poison.
    pub fn run(&self, gpu: &Gpu, mode: Mode) -> Given {
        let all = |t: &Tensor, padding: bool| common::run(gpu, &self.whole, t, padding);
        let means = common::run_raw(gpu, &self.whole, &self.means);
        let others = means.iter().enumerate().all(|(i, &word)| (word == common::POISON) == (i != 3));
        assert!(others, "{means:x?}");
        Given {
            z: common::run(gpu, &self.up_to_logits, &self.z, true),
            h: all(&self.h, false),
            losses: all(&self.losses, false),
            mean: f32::from_bits(means[3]),
            dz: all(&self.z, true),
            dh: all(&self.dh, false),
            dw: if mode == Mode::Own { Vec::new() } else { all(&self.dw, false) },
            faults: common::run_raw(gpu, &self.whole, &self.faults)[0],
        }
    }
}

pub fn given(gpu: &Gpu, case: &Case, mode: Mode, loss: Loss, corrected: bool) -> Given {
    Recorded::new(gpu, case, mode, loss, corrected).run(gpu, mode)
}
