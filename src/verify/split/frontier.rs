//! The boxes of one query that wait to be bounded.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// A box that waits.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Lower ends of all inputs, then upper ends.
    pub ends: Box<[f32]>,
    /// The conditions that no bound has excluded on a box around it, ascending.
    pub open: Arc<[usize]>,
    /// The tightest margin of the box that it is a part of.
    pub margin: f32,
    /// Cuts from the query's box.
    pub depth: u32,
}

/// Worst margin first; of equal ones, the larger box.
impl Ord for Node {
    fn cmp(&self, other: &Self) -> Ordering {
        other.margin.total_cmp(&self.margin).then(other.depth.cmp(&self.depth))
    }
}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Node {}

/// Waiting boxes, worst margin first. When there are too many to keep, it goes depth-first: what comes then is taken before
/// all else, so that no more than the parts of one path for each box of a round come on top.
#[derive(Debug)]
pub(super) struct Frontier {
    worst_first: BinaryHeap<Node>,
    newest_first: Vec<Node>,
    most: usize,
}

impl Frontier {
    /// An empty frontier that goes depth-first beyond `most` boxes.
    pub fn new(most: usize) -> Self {
        Self { worst_first: BinaryHeap::new(), newest_first: Vec::new(), most }
    }

    pub fn push(&mut self, node: Node) {
        if self.worst_first.len() < self.most {
            self.worst_first.push(node);
        } else {
            self.newest_first.push(node);
        }
    }

    pub fn pop(&mut self) -> Option<Node> {
        self.newest_first.pop().or_else(|| self.worst_first.pop())
    }

    pub fn len(&self) -> usize {
        self.worst_first.len() + self.newest_first.len()
    }

    /// The tightest margin of all.
    pub fn margin(&self) -> Option<f32> {
        let heap = self.worst_first.peek().map(|node| node.margin);
        heap.into_iter().chain(self.newest_first.iter().map(|node| node.margin)).min_by(f32::total_cmp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(margin: f32, depth: u32) -> Node {
        Node { ends: [0.0, 1.0].into(), open: [0].into(), margin, depth }
    }

    #[test]
    fn the_worst_margin_comes_first() {
        let mut frontier = Frontier::new(9);
        [-1.0, -3.0, -2.0].into_iter().for_each(|margin| frontier.push(node(margin, 0)));
        assert_eq!(frontier.margin(), Some(-3.0));
        let order: Vec<f32> = std::iter::from_fn(|| frontier.pop()).map(|node| node.margin).collect();
        assert_eq!(order, [-3.0, -2.0, -1.0]);
    }

    #[test]
    fn a_full_frontier_grows_by_a_path_only() {
        let mut frontier = Frontier::new(4);
        frontier.push(node(-1.0, 0));
        let (mut most, mut leaves) = (0, 0_u32);
        while let Some(top) = frontier.pop() {
            if top.depth == 12 {
                leaves += 1;
                continue;
            }
            for _ in 0..2 {
                frontier.push(node(top.margin, top.depth + 1));
            }
            most = most.max(frontier.len());
        }
        assert_eq!(leaves, 1 << 12, "no box is lost");
        assert!(most <= 4 + 12 + 1, "{most} boxes at once");
    }
}
