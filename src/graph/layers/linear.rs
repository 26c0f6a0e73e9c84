//! Linear maps while a layer is being put together, and which of them become one.

use super::sparse::Terms;
use super::store::{self, round_up};
use super::weights::{Geometry, Weights};
use super::{Edge, Extent, Map, Source};
use crate::error::Result;
use crate::graph::Window;
use crate::graph::bounded::Bounded;

/// A linear map of a source's values.
#[derive(Debug, Clone)]
pub(super) enum Linear {
    /// A factor for each value, or all 1.
    Diagonal(Option<Vec<Bounded>>),
    /// A dense layer.
    Dense(Weights),
    /// A convolution.
    Conv(Weights, Geometry),
    /// Any other map.
    Sparse(Terms),
}

impl Linear {
    /// A sparse map in its simplest form, if its weights can be stored with a small relative error: a sum of terms may
    /// cancel down to its own rounding.
    fn folded(terms: Terms) -> Option<Self> {
        terms.folds().then(|| Self::simplest(terms))
    }

    /// A sparse map in its simplest form.
    pub(super) fn simplest(terms: Terms) -> Self {
        match terms.as_diagonal() {
            Some(factors) if factors.iter().all(|&factor| factor == Bounded::ONE) => Self::Diagonal(None),
            Some(factors) => Self::Diagonal(Some(factors)),
            None => Self::Sparse(terms),
        }
    }

    /// Costs next to nothing to do twice.
    pub(super) fn is_light(&self) -> bool {
        match self {
            Self::Diagonal(_) => true,
            Self::Sparse(terms) => terms.is_selection(),
            Self::Dense(_) | Self::Conv(..) => false,
        }
    }

    /// The map with each of its results multiplied (or divided) by a number; `None` if weights would underflow or a
    /// convolution's factors differ within a channel.
    pub(super) fn scaled(&self, by: &[Bounded], op: fn(Bounded, Bounded) -> Bounded) -> Option<Self> {
        match self {
            // Only the end of the layer decides what these factors become.
            Self::Diagonal(None) => Some(Self::Diagonal(Some(by.iter().map(|&by| op(Bounded::ONE, by)).collect()))),
            Self::Diagonal(Some(factors)) => {
                let scaled = factors.iter().zip(by).map(|(&x, &by)| op(x, by));
                Some(Self::Diagonal(Some(scaled.collect())))
            }
            Self::Dense(weights) => Some(Self::Dense(weights.scaled_rows(by, op))),
            Self::Conv(weights, geometry) => {
                let by = per_channel(by, geometry.output)?;
                Some(Self::Conv(weights.scaled_rows(&by, op), *geometry))
            }
            Self::Sparse(terms) => Some(Self::Sparse(terms.scaled_rows(by, op))),
        }
        .filter(Self::folds)
    }

    /// This map and then another one, if they become a map that costs no more than both: the source has the extent
    /// `source`.
    pub(super) fn then(&self, next: &Self, source: Extent) -> Option<Self> {
        match (self, next) {
            (Self::Diagonal(None), next) => Some(next.clone()),
            (Self::Diagonal(Some(factors)), Self::Dense(weights)) => Some(Self::Dense(weights.scaled_columns(factors))),
            (Self::Diagonal(Some(factors)), Self::Conv(weights, geometry)) => {
                let factors = per_channel(factors, geometry.input)?;
                Some(Self::Conv(weights.scaled_columns(&factors), *geometry))
            }
            (Self::Diagonal(Some(factors)), Self::Sparse(terms)) => Some(Self::simplest(terms.scaled_columns(factors))),
            (Self::Sparse(first), Self::Sparse(terms)) => {
                let grows = terms.count_behind(first) > terms.count() + first.count();
                if grows { None } else { Self::folded(terms.behind(first)) }
            }
            (Self::Sparse(first), Self::Dense(weights)) => dense_behind(weights, first).map(Self::Dense),
            (Self::Sparse(first), Self::Conv(weights, geometry)) => {
                let (weights, geometry) = conv_behind(weights, geometry, first, source)?;
                Some(Self::Conv(weights, geometry))
            }
            (Self::Dense(weights), Self::Sparse(terms)) => {
                let fits = terms.len() <= weights.rows();
                let rows = terms.selection().filter(|_| fits)?;
                let plain = rows.iter().flatten().all(|&(_, weight)| weight == Bounded::ONE);
                let from: Vec<Option<usize>> = rows.iter().map(|row| row.map(|(column, _)| column)).collect();
                plain.then(|| Self::Dense(weights.picked_rows(&from)))
            }
            _ => None,
        }
        .filter(Self::folds)
    }

    /// The sum of two maps of the same source of `len` values, if it is as simple as each.
    pub(super) fn plus(&self, other: &Self, len: usize) -> Option<Self> {
        match (self, other) {
            (Self::Diagonal(a), Self::Diagonal(b)) => {
                let factor = |factors: &Option<Vec<Bounded>>, i: usize| factors.as_ref().map_or(Bounded::ONE, |f| f[i]);
                let sum: Vec<Bounded> = (0..len).map(|i| factor(a, i).add(factor(b, i))).collect();
                sum.iter().all(|&x| store::stored(x).is_some()).then_some(Self::Diagonal(Some(sum)))
            }
            (Self::Sparse(a), Self::Sparse(b)) => Self::folded(a.plus(b)),
            _ => None,
        }
    }

    /// The map applied to a vector.
    pub(super) fn apply(&self, y: &[Bounded]) -> Vec<Bounded> {
        match self {
            Self::Diagonal(None) => y.to_vec(),
            Self::Diagonal(Some(factors)) => factors.iter().zip(y).map(|(f, &y)| f.mul(y)).collect(),
            Self::Dense(weights) => weights.apply(y),
            Self::Conv(weights, geometry) => geometry.convolve(weights, y),
            Self::Sparse(terms) => terms.apply(y),
        }
    }

    /// Whether every weight can be stored with a small relative error. True for diagonal maps: only the end of the
    /// layer decides what their factors become.
    fn folds(&self) -> bool {
        match self {
            Self::Diagonal(_) => true,
            Self::Dense(weights) | Self::Conv(weights, _) => weights.folds(),
            Self::Sparse(terms) => terms.folds(),
        }
    }

    /// The map as an edge of a layer of `len` values; `node` is what errors call it.
    pub(super) fn finish(self, source: Source, len: usize, node: &str) -> Result<Edge> {
        let (map, rel) = match self {
            Self::Diagonal(None) => (Map::Diagonal(vec![1.0; len]), 0.0),
            Self::Diagonal(Some(factors)) => {
                let (factors, rel) = store::weights(factors.into_iter(), node)?;
                (Map::Diagonal(factors), rel)
            }
            Self::Dense(weights) => weights.finish(node)?,
            Self::Conv(weights, geometry) => weights.finish_conv(&geometry, node)?,
            Self::Sparse(terms) => {
                let (sparse, rel) = terms.finish(node)?;
                (Map::Sparse(sparse), rel)
            }
        };
        Ok(Edge { source, map, rel: round_up(rel) })
    }
}

/// One factor for each channel, if factors do not differ within a channel.
fn per_channel(factors: &[Bounded], extent: Extent) -> Option<Vec<Bounded>> {
    let plane = extent.height * extent.width;
    factors.chunks(plane.max(1)).map(|channel| channel.iter().all(|x| *x == channel[0]).then_some(channel[0])).collect()
}

/// A dense layer behind a selection that repeats nothing and reads no more values than it has: its columns in another
/// order.
fn dense_behind(weights: &Weights, first: &Terms) -> Option<Weights> {
    if first.width() > weights.columns() {
        return None;
    }
    let selection = first.selection()?;
    let mut factors = vec![None; first.width()];
    for &(column, factor) in selection.iter().flatten() {
        if factors[column].replace(factor).is_some() {
            return None;
        }
    }
    let at: Vec<Option<usize>> = selection.iter().map(|term| term.map(|(column, _)| column)).collect();
    let moved = weights.moved_columns(first.width(), &at);
    let factors: Vec<Bounded> = factors.into_iter().map(|factor| factor.unwrap_or(Bounded::ONE)).collect();
    let plain = factors.iter().all(|&factor| factor == Bounded::ONE);
    Some(if plain { moved } else { moved.scaled_columns(&factors) })
}

/// A convolution behind zeros put round its source: they become its own padding, or more of it. Where the windows end
/// is for the output's extent to say, so only zeros above and on the left are counted.
fn conv_behind(weights: &Weights, geometry: &Geometry, first: &Terms, source: Extent) -> Option<(Weights, Geometry)> {
    let padded = geometry.input;
    if padded.channels != source.channels || padded.height < source.height || padded.width < source.width {
        return None;
    }
    let origin = (0..first.len()).find(|&row| first.row(row).next().is_some())?;
    let above = origin / padded.width % padded.height;
    let left = origin % padded.width;
    // Zeros round a part of the source would be no padding: windows could reach the rest.
    if above + source.height > padded.height || left + source.width > padded.width {
        return None;
    }
    let mut rows = first.rows();
    for c in 0..padded.channels {
        for y in 0..padded.height {
            for x in 0..padded.width {
                let inside = y >= above && x >= left && y - above < source.height && x - left < source.width;
                let expected = inside.then(|| (c * source.height + y - above) * source.width + x - left);
                let mut row = rows.next()?;
                let term = row.next();
                let fits = term.map(|(column, _)| column) == expected && row.next().is_none();
                if !fits || term.is_some_and(|(_, weight)| weight != Bounded::ONE) {
                    return None;
                }
            }
        }
    }
    let [top, begin] = geometry.window.begin;
    let window = Window { begin: [top + above, begin + left], ..geometry.window };
    Some((weights.clone(), Geometry { input: source, window, ..*geometry }))
}
