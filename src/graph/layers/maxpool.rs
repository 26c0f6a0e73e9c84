//! MaxPool as a balanced tree of ReLUs.
//!
//! `max(a, b) = b + max(a - b, 0)` for all real a and b, so a window of n elements needs n - 1 ReLUs in ceil(log2 n)
//! levels, and nothing is lost: the layers compute the maximum itself, with weights of 1 and -1 and without rounding.
//! An element that padding leaves alone in its pair goes up a level as it is. Each level is one layer that holds the
//! pairs of all windows; an element of level l is `x_j + r_1 + ... + r_l`, the last of the pair's `b`s and the ReLUs
//! above it, so no layer without an activation stands between.
//!
//! What bounds make of it: where the sign of d = a - b is known, the ReLU is 0 or d and the pair is exactly its larger
//! element. Otherwise, with l <= d <= u and s = u / (u - l), the ReLU's upper line s (d - l) gives `max(a, b) <= s a +
//! (1 - s) b - s l`, and with a lower slope t in [0, 1] `max(a, b) >= t a + (1 - t) b`. Both hold on the whole strip l
//! <= a - b <= u, and the upper one is the concave envelope of the maximum there: it touches both of the strip's edges,
//! where the maximum is b and a. l and u come from back-substituting the *difference*, which for neighbours in an image
//! is far narrower than the elements' own ranges suggest. The usual constant `max(u_a, u_b)` can be lower near the
//! corner (u_a, u_b) of the box when a and b vary independently, but it has no slope, so it cancels nothing further
//! down. Plain intervals lose more: `u_b + u` may exceed both elements' bounds.

use super::linear::Linear;
use super::lower::{Lowering, check_terms, refused};
use super::sparse::Terms;
use super::term::{Link, Term};
use super::weights::Geometry;
use super::{Activation, Extent, Source};
use crate::error::Result;
use crate::graph::bounded::Bounded;
use crate::graph::{Node, Window};

/// A sum of values with weight 1: one of the pool's inputs (level 0) and ReLUs of each level above it.
type Element = Vec<(usize, usize)>;

impl Lowering<'_> {
    pub(super) fn max_pool(&mut self, node: &Node, kernel: [usize; 2], window: &Window) -> Result<Term> {
        let (input, output) = (self.spatial(node, node.inputs[0])?, self.spatial(node, node.output)?);
        let geometry = Geometry { input, output, kernel, window: *window };
        let mut windows = elements(node, &geometry)?;
        let term = self.take(node.inputs[0])?;
        let base = self.closed(term, &node.name)?;
        let mut levels = base.links.iter().map(|link| (link.source, input.len())).collect::<Vec<_>>();
        while windows.iter().any(|window| window.len() > 1) {
            let mut rows = Vec::new();
            for window in &mut windows {
                *window = paired(window, levels.len(), &mut rows);
            }
            let count = rows.len();
            let layer = self.push(sum(&levels, &rows, Extent::flat(count)), Activation::Relu, &node.name)?;
            levels.extend(layer.links.iter().map(|link| (link.source, count)));
        }
        let rows: Vec<Row> = windows.into_iter().map(|window| row(&window.concat(), &[])).collect();
        Ok(sum(&levels, &rows, output))
    }
}

/// The elements of each window, one list a window.
fn elements(node: &Node, geometry: &Geometry) -> Result<Vec<Vec<Element>>> {
    let (input, channels) = (geometry.input, geometry.output.channels);
    let windows: Vec<Vec<usize>> = geometry.windows().collect();
    if windows.iter().any(Vec::is_empty) {
        return Err(refused(node, "has a window that lies in the padding"));
    }
    // An element takes part in one pair a level; pairs of the levels halve while their terms grow by 2.
    let inside: usize = windows.iter().map(Vec::len).sum();
    check_terms(node, &[channels, inside, 4])?;
    let plane = input.height * input.width;
    let of_channel = |c: usize| {
        let element = move |offset: &usize| vec![(0, c * plane + offset)];
        windows.iter().map(move |window| window.iter().map(element).collect())
    };
    Ok((0..channels).flat_map(of_channel).collect())
}

/// One row of a layer: (level, value, weight).
type Row = Vec<(usize, usize, Bounded)>;

/// `plus - minus`.
fn row(plus: &[(usize, usize)], minus: &[(usize, usize)]) -> Row {
    let weigh = |weight: Bounded| move |&(level, at): &(usize, usize)| (level, at, weight);
    let mut row: Row =
        plus.iter().map(weigh(Bounded::ONE)).chain(minus.iter().map(weigh(Bounded::ONE.neg()))).collect();
    row.sort_by_key(|&(level, at, _)| (level, at));
    row
}

/// The elements of a window one level up: `b + relu(a - b)` for each pair, whose differences go into `rows` as the
/// values of level `level`.
fn paired(window: &[Element], level: usize, rows: &mut Vec<Row>) -> Vec<Element> {
    let pair = |pair: &[Element]| match pair {
        [a, b] => {
            rows.push(row(a, b));
            let relu = (level, rows.len() - 1);
            b.iter().copied().chain([relu]).collect()
        }
        alone => alone.concat(),
    };
    window.chunks(2).map(pair).collect()
}

/// Rows over the levels' layers as a value; `levels` are sources and their numbers of values.
fn sum(levels: &[(Source, usize)], rows: &[Row], extent: Extent) -> Term {
    let links = levels.iter().enumerate().filter_map(|(level, &(source, width))| {
        let mut terms = Terms::new(width);
        for row in rows {
            terms.push(row.iter().filter(|term| term.0 == level).map(|&(_, at, weight)| (at, weight)));
        }
        (terms.count() > 0).then(|| Link { source, map: Linear::simplest(terms) })
    });
    Term { links: links.collect(), bias: vec![Bounded::ZERO; extent.len()], extent }
}
