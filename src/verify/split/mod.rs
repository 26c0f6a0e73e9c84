//! Input splitting, the simplest branch and bound: a box that no bound decides is cut in two along an input, and its parts are
//! boxes of a batch like any others, thousands at once.
//!
//! Rounds serve all open queries of a network alike: each gives its worst boxes, one recording bounds them all, one more
//! attacks those that stay open, and what is left of them is cut again. A box is done when every unsafe condition has a row
//! that is above 0 all over it; parts inherit what was excluded on the box around them. A query holds when all its boxes are
//! done. Which boxes there are depends on the query alone, so that company and clock only decide how far one gets.

mod branching;
mod frontier;
mod tree;

use std::sync::Arc;

use super::attack::{Aim, Effort, Find, Ground, attack};
use super::book::State;
use super::state::{Plan, Spec};
use super::verifier::{Call, Depth, Outcome, Verifier};
use crate::error::{ErrorKind, Result};
use crate::graph::{Layers, Source};
use frontier::Node;
use tree::{Answer, Survivor, Tree};

/// Host memory for waiting boxes.
const WAITING: usize = 256 << 20;
/// Operations of a round, by which its boxes are counted: a fraction of a second on two cores, and meant to
/// be one on a GPU. The clock is looked at between rounds.
const ROUND: (f64, f64) = (2.5e9, 1e11);
/// Fewest and most boxes of a round.
const BOXES: (usize, usize) = (16, 8192);
/// Boxes of a round that are attacked, those with the worst margins first.
const ATTACKED: usize = 1024;
/// Gradient steps of an attack on a box.
const STEPS: usize = 4;
/// Points of one query that are replayed in f64 in a round.
const REPLAYED: usize = 4;

/// Counts of the boxes of a property that was split.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Boxes {
    /// Boxes without a counterexample: with those that are left, they cover the property's.
    pub done: u64,
    /// Boxes that are still open.
    pub left: u64,
    /// Boxes that were bounded, those that were cut into others included.
    pub bounded: u64,
}

impl Boxes {
    /// The counts of both.
    pub(super) fn plus(self, other: Self) -> Self {
        Self { done: self.done + other.done, left: self.left + other.left, bounded: self.bounded + other.bounded }
    }
}

/// How far splitting one query came.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Splits {
    pub boxes: Boxes,
    /// The tightest margin of the boxes that are left, or of all if none is.
    pub margin: f64,
}

impl Verifier {
    /// Splits the boxes of undecided queries until they are decided or late.
    pub(super) async fn split_open<F: FnMut(usize, Outcome)>(&self, call: &mut Call<'_, '_, F>) -> Result<()> {
        let mut trees = self.trees(call);
        let size = self.round_size();
        for round in 0_usize.. {
            call.settle();
            call.control.cancel.check()?;
            let todo = call.book.todo();
            trees.retain(|tree| tree.waiting() > 0 && todo.binary_search(&tree.query).is_ok());
            if trees.is_empty() {
                break;
            }
            let waiting: usize = trees.iter().map(Tree::waiting).sum();
            let bounded: u64 = trees.iter().map(|tree| tree.splits().boxes.bounded).sum();
            call.control.report("splits", bounded, bounded + waiting as u64, "boxes");
            // Whoever is first takes what is left over, and gets something where there are more queries than boxes.
            let first = round.wrapping_mul(size) % trees.len();
            trees.rotate_left(first);
            self.round(call, &mut trees, size).await?;
        }
        Ok(())
    }

    /// A tree for every query that may be split.
    fn trees<F>(&self, call: &Call<'_, '_, F>) -> Vec<Tree> {
        let todo = call.book.todo();
        let node = 2 * 4 * self.net.n_in() + 2 * size_of::<Node>();
        let most = WAITING / node / todo.len().max(1);
        let varied = |&i: &usize| {
            let input = &call.book.open[i].query.input;
            input.lo.iter().zip(&input.hi).filter(|(l, h)| l < h).count()
        };
        let few = todo.iter().filter(|i| varied(i) <= self.options.split_inputs);
        let weights: Arc<[f64]> = self.input_weights.as_slice().into();
        few.filter_map(|&i| Tree::new(i, &call.book.open[i], self.net.n_out(), (&weights, most))).collect()
    }

    /// Boxes of a round, by the operations of the full analysis of one.
    fn round_size(&self) -> usize {
        let mut below = 0.0;
        let mut work = 0.0;
        for layer in &self.net.layers {
            work += 4.0 * layer.len() as f64 * below;
            below += layer.work() as f64;
        }
        let most = if self.gpu.caps().is_software() { ROUND.0 } else { ROUND.1 };
        ((most / f64::max(work, 1.0)) as usize).clamp(BOXES.0, BOXES.1)
    }

    /// Bounds up to `size` boxes of all trees alike, attacks those that stay open, and cuts them.
    async fn round<F: FnMut(usize, Outcome)>(
        &self,
        call: &mut Call<'_, '_, F>,
        trees: &mut [Tree],
        size: usize,
    ) -> Result<()> {
        let share = size.div_ceil(trees.len());
        let most = trees.iter().map(|tree| tree.spec.rows).max().unwrap_or(1);
        let plan = Plan::new(&self.gpu, &self.net, size.min(trees.iter().map(Tree::waiting).sum()), most)?;
        let picked = pick(trees, share.min(plan.batch), plan.batch);
        let mut survivors = self.bound_parts(call, trees, picked).await?;
        if self.options.attack {
            survivors.sort_by(|a, b| a.1.node.cmp(&b.1.node).reverse());
            let aimed = &survivors[..survivors.len().min(ATTACKED)];
            match self.attack_parts(call, trees, aimed).await {
                Err(error) if matches!(error.kind(), ErrorKind::OutOfMemory | ErrorKind::TooBig) => {
                    log::warn!("no room for an attack: {error}");
                }
                other => other?,
            }
        }
        for (tree, survivor) in survivors {
            trees[tree].split(survivor);
        }
        for tree in trees {
            let open = &mut call.book.open[tree.query];
            open.splits = Some(tree.splits());
            if tree.is_done() && open.state == State::Undecided {
                open.state = State::Holds;
            }
        }
        Ok(())
    }

    /// Bounds boxes, each given with its tree, and returns those that stay open.
    async fn bound_parts<F>(
        &self,
        call: &Call<'_, '_, F>,
        trees: &mut [Tree],
        picked: Vec<(usize, Node)>,
    ) -> Result<Vec<(usize, Survivor)>> {
        let n = self.net.n_in();
        let rows = picked.iter().map(|(tree, node)| trees[*tree].rows(node).count()).max().unwrap_or(0).max(1);
        let mut survivors = Vec::new();
        let mut waiting = picked;
        while !waiting.is_empty() {
            // What fits may have shrunk since the boxes were picked: others may use the device as well.
            let plan = Plan::new(&self.gpu, &self.net, waiting.len(), rows)?;
            let rest = waiting.split_off(plan.batch.clamp(1, waiting.len()));
            let batch = std::mem::replace(&mut waiting, rest);
            let (mut lower, mut upper) = (Vec::new(), Vec::new());
            let mut spec = Spec { rows, outputs: self.net.n_out(), ..Spec::default() };
            for (tree, node) in &batch {
                lower.extend_from_slice(&node.ends[..n]);
                upper.extend_from_slice(&node.ends[n..]);
                let tree = &trees[*tree];
                let used = tree.rows(node).map(|row| push_row(&mut spec, &tree.spec, row)).count();
                (used..rows).for_each(|_| push_padding(&mut spec));
            }
            let depth = Depth { full: true, forms: true, profile: false };
            let analysis = self.analyse(plan, (&lower, &upper), &spec, depth, call.control).await?;
            for (place, (tree, node)) in batch.into_iter().enumerate() {
                let at = place * rows..(place + 1) * rows;
                let forms = &analysis.forms[at.start * n..at.end * n];
                let margins = (analysis.bad[place] == 0).then(|| &analysis.margins[at]);
                survivors.extend(trees[tree].take(node, Answer { margins, forms }).map(|survivor| (tree, survivor)));
            }
        }
        Ok(survivors)
    }

    /// Attacks open boxes from where their bounds point.
    async fn attack_parts<F>(
        &self,
        call: &mut Call<'_, '_, F>,
        trees: &[Tree],
        aimed: &[(usize, Survivor)],
    ) -> Result<()> {
        let n = self.net.n_in();
        let lower: Vec<f32> = aimed.iter().flat_map(|(_, s)| s.node.ends[..n].iter().copied()).collect();
        let upper: Vec<f32> = aimed.iter().flat_map(|(_, s)| s.node.ends[n..].iter().copied()).collect();
        let coefficients: Vec<f32> = trees.iter().flat_map(|tree| tree.spec.coefficients.iter().copied()).collect();
        let constants: Vec<f32> = trees.iter().flat_map(|tree| tree.spec.state.iter().step_by(2).copied()).collect();
        let before = trees.iter().scan(0, |sum, tree| Some(std::mem::replace(sum, *sum + tree.spec.rows)));
        let before: Vec<usize> = before.collect();
        let aim = |(place, (tree, survivor)): (usize, &(usize, Survivor))| {
            let rows = &trees[*tree].conditions[survivor.condition];
            let first_row = before[*tree] + rows.start;
            Aim { query: place, first_row, rows: rows.len(), start: survivor.corner.clone(), member: 0 }
        };
        let aims: Vec<Aim> = aimed.iter().enumerate().map(aim).collect();
        let ground = Ground { lower: &lower, upper: &upper, coefficients: &coefficients, constants: &constants };
        let effort = Effort { starts: 1, steps: STEPS, seed: self.options.seed };
        let mut finds = attack(&self.gpu, &self.net, &ground, &aims, effort, call.control).await?;
        finds.sort_by(|a, b| a.loss.total_cmp(&b.loss));
        self.replay_finds(call, trees, aimed, &finds)
    }

    /// Replays the nearest finds of every query.
    fn replay_finds<F>(
        &self,
        call: &mut Call<'_, '_, F>,
        trees: &[Tree],
        aimed: &[(usize, Survivor)],
        finds: &[Find],
    ) -> Result<()> {
        let mut replayed = vec![0; trees.len()];
        for find in finds {
            let (tree, survivor) = &aimed[find.aim];
            if replayed[*tree] < REPLAYED {
                replayed[*tree] += 1;
                self.replay(&mut call.book.open[trees[*tree].query], survivor.condition, find, 1.0)?;
            }
        }
        Ok(())
    }
}

/// For every input, the sum of magnitudes of the weights that it meets first.
pub(super) fn input_weights(layers: &Layers) -> Vec<f64> {
    let mut sums = vec![0.0; layers.input_len()];
    for layer in &layers.layers {
        for edge in layer.edges.iter().filter(|edge| edge.source == Source::Input) {
            let add = |_, column: usize, weight: f32| sums[column] += f64::from(weight.abs());
            edge.map.for_each_weight(layers.input, layer.extent, add);
        }
    }
    sums
}

/// Takes up to `share` boxes of each tree, and then what is left of `size` in the order of the trees.
fn pick(trees: &mut [Tree], share: usize, size: usize) -> Vec<(usize, Node)> {
    let mut picked = Vec::with_capacity(size);
    for most in [share, size] {
        for (index, tree) in trees.iter_mut().enumerate() {
            let room = most.min(size - picked.len());
            picked.extend(std::iter::from_fn(|| tree.pop()).take(room).map(|node| (index, node)));
        }
    }
    picked
}

fn push_row(spec: &mut Spec, from: &Spec, row: usize) {
    spec.coefficients.extend_from_slice(&from.coefficients[row * from.outputs..(row + 1) * from.outputs]);
    spec.rel.push(from.rel[row]);
    spec.state.extend_from_slice(&from.state[2 * row..2 * row + 2]);
    spec.used.push(1);
}

/// A row that nobody asks for.
fn push_padding(spec: &mut Spec) {
    spec.coefficients.resize(spec.coefficients.len() + spec.outputs, 0.0);
    spec.rel.push(0.0);
    spec.state.extend([0.0, 0.0]);
    spec.used.push(0);
}
