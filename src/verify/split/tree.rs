//! One query on its way through splitting: its waiting boxes, its rows, and what was reached.

use std::ops::Range;
use std::sync::Arc;

use super::branching::{Weights, parts};
use super::frontier::{Frontier, Node};
use super::{Boxes, Splits};
use crate::verify::book::{Open, row_count, specification};
use crate::verify::soundness::{HUGE, round_down, round_up};
use crate::verify::state::Spec;

/// Cuts of the query's box before any of its parts is bounded: fewer parts than this would leave a device idle.
const FIRST: u32 = 6;
/// The margin of a box whose bounds say nothing.
const NOTHING: f32 = -(HUGE / 2.0) as f32;

/// A query that is split.
#[derive(Debug)]
pub(super) struct Tree {
    /// Its place in the book.
    pub query: usize,
    /// All its rows.
    pub spec: Spec,
    /// The rows of each condition.
    pub conditions: Vec<Range<usize>>,
    input_weights: Arc<[f64]>,
    waiting: Frontier,
    /// The worst margin of the boxes that cannot be cut any more, and their number.
    whole: (f32, u64),
    /// The smallest margin of the boxes that are done.
    least: f32,
    done: u64,
    bounded: u64,
}

/// A box that its bounds left open.
#[derive(Debug)]
pub(super) struct Survivor {
    pub node: Node,
    weights: Weights,
    /// The condition that is furthest from being excluded.
    pub condition: usize,
    /// Where the bound of that condition's best row is least; `None` if there is no bound.
    pub corner: Option<Vec<f32>>,
}

/// What the device said of one box.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    /// Lower bounds of the rows of the box's open conditions, one condition behind the other; `None`: no information.
    pub margins: Option<&'a [f32]>,
    /// The rows' linear forms on the inputs.
    pub forms: &'a [f32],
}

impl Tree {
    /// The tree of an undecided query, cut for the first time, for a network with these weights behind its inputs; at most
    /// `most` boxes wait worst-first. `None` if cutting cannot help: a condition without rows is fulfilled everywhere.
    pub fn new(
        query: usize,
        open: &Open<'_>,
        outputs: usize,
        (input_weights, most): (&Arc<[f64]>, usize),
    ) -> Option<Self> {
        let mut first = 0;
        let range = |rows: usize| {
            first += rows;
            first - rows..first
        };
        let conditions: Vec<Range<usize>> = open.query.unsafe_if.iter().map(|c| c.len()).map(range).collect();
        let bound = |c: &usize| open.bounds[*c].map_or(NOTHING, |claim| claim.bound as f32);
        let left: Arc<[usize]> = (0..conditions.len()).filter(|c| bound(c) <= 0.0).collect();
        if left.iter().any(|&c| conditions[c].is_empty()) {
            return None;
        }
        let spec = specification(&[open.query], row_count(open.query), outputs);
        let mut weights = Weights::new(input_weights);
        left.iter().filter_map(|&c| open.forms[c].as_ref()).for_each(|form| weights.add(form));
        let input = &open.query.input;
        let lower = input.lo_out.iter().map(|&l| round_down(l));
        let ends = lower.chain(input.hi_out.iter().map(|&h| round_up(h))).collect();
        let margin = left.iter().map(bound).min_by(f32::total_cmp).unwrap_or(NOTHING);
        let node = Node { ends, open: left, margin, depth: 0 };
        let mut tree = Self {
            query,
            spec,
            conditions,
            input_weights: input_weights.clone(),
            waiting: Frontier::new(most),
            whole: (f32::MAX, 0),
            least: f32::MAX,
            done: 0,
            bounded: 0,
        };
        tree.cut(node, &weights);
        Some(tree)
    }

    pub fn pop(&mut self) -> Option<Node> {
        self.waiting.pop()
    }

    /// Boxes that wait to be bounded.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether every part of the query's box is done.
    pub fn is_done(&self) -> bool {
        self.waiting.len() == 0 && self.whole.1 == 0
    }

    /// The rows of a box's open conditions.
    pub fn rows<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = usize> + 'a {
        node.open.iter().flat_map(|&c| self.conditions[c].clone())
    }

    /// Takes the bounds of a box: it is done, or comes back with the conditions that are left.
    pub fn take(&mut self, mut node: Node, answer: Answer<'_>) -> Option<Survivor> {
        self.bounded += 1;
        let Some(margins) = answer.margins else {
            node.margin = NOTHING;
            let condition = node.open.first().copied().unwrap_or_default();
            return Some(Survivor { node, weights: Weights::new(&self.input_weights), condition, corner: None });
        };
        let n = node.ends.len() / 2;
        let (mut left, mut weights, mut first) = (Vec::new(), Weights::new(&self.input_weights), 0);
        let mut worst = (f32::MAX, 0, 0);
        let mut excluded = f32::MAX;
        for &condition in node.open.iter() {
            let rows = first..first + self.conditions[condition].len();
            first = rows.end;
            let Some(row) = rows.max_by(|&a, &b| margins[a].total_cmp(&margins[b])) else { continue };
            if margins[row] > 0.0 {
                excluded = excluded.min(margins[row]);
                continue;
            }
            left.push(condition);
            weights.add(&answer.forms[row * n..(row + 1) * n]);
            if margins[row] < worst.0 {
                worst = (margins[row], condition, row);
            }
        }
        self.least = self.least.min(excluded);
        if left.is_empty() {
            self.done += 1;
            return None;
        }
        let (margin, condition, row) = worst;
        let form = &answer.forms[row * n..(row + 1) * n];
        let corner = (0..n).map(|i| if form[i] < 0.0 { node.ends[n + i] } else { node.ends[i] }).collect();
        if left.len() < node.open.len() {
            node.open = left.into();
        }
        node.margin = margin;
        Some(Survivor { node, weights, condition, corner: Some(corner) })
    }

    /// Cuts a box that stays open.
    pub fn split(&mut self, survivor: Survivor) {
        self.cut(survivor.node, &survivor.weights);
    }

    fn cut(&mut self, node: Node, weights: &Weights) {
        // How often is a function of the depth alone, so that the tree is the same in every company.
        let levels = if node.depth < FIRST { FIRST } else { 1 };
        let parts = parts(&node.ends, weights, levels);
        if parts.len() == 1 {
            self.whole = (self.whole.0.min(node.margin), self.whole.1 + 1);
            return;
        }
        for ends in parts {
            self.waiting.push(Node { ends, open: node.open.clone(), margin: node.margin, depth: node.depth + levels });
        }
    }

    /// What was reached so far.
    pub fn splits(&self) -> Splits {
        let waiting = self.waiting.margin().into_iter();
        let open = waiting.chain((self.whole.1 > 0).then_some(self.whole.0)).min_by(f32::total_cmp);
        let boxes = Boxes { done: self.done, left: self.waiting.len() as u64 + self.whole.1, bounded: self.bounded };
        Splits { boxes, margin: f64::from(open.unwrap_or(self.least)) }
    }
}
