//! A value of the graph as an affine map of layers that exist already.

use super::linear::Linear;
use super::{Extent, Source};
use crate::graph::bounded::Bounded;

/// One linear contribution.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) source: Source,
    pub(super) map: Linear,
}

/// `bias + sum over links of map(source)`.
#[derive(Debug, Clone)]
pub(super) struct Term {
    pub(super) links: Vec<Link>,
    pub(super) bias: Vec<Bounded>,
    /// The shape of the value.
    pub(super) extent: Extent,
}

impl Term {
    /// A source itself.
    pub(super) fn identity(source: Source, extent: Extent) -> Self {
        let links = vec![Link { source, map: Linear::Diagonal(None) }];
        Self { links, bias: vec![Bounded::ZERO; extent.len()], extent }
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.bias.len()
    }

    /// The source that this is, if it is one unchanged.
    pub(super) fn unchanged(&self) -> Option<Source> {
        match &self.links[..] {
            [Link { source, map: Linear::Diagonal(None) }] => {
                self.bias.iter().all(|b| b.is_exact_zero()).then_some(*source)
            }
            _ => None,
        }
    }

    /// Costs next to nothing to compute twice.
    pub(super) fn is_light(&self) -> bool {
        matches!(&self.links[..], [link] if link.map.is_light())
    }

    /// The shape that its convolutions give it; `None` without convolutions.
    pub(super) fn convolved(&self) -> Option<Extent> {
        self.links.iter().find_map(|link| match &link.map {
            Linear::Conv(_, geometry) => Some(geometry.output),
            _ => None,
        })
    }

    /// Adds a constant to each value.
    pub(super) fn shift(&mut self, by: &[Bounded]) {
        for (bias, &by) in self.bias.iter_mut().zip(by) {
            *bias = bias.add(by);
        }
    }

    /// Each value multiplied or divided by a constant; `None` if a map cannot take that in.
    pub(super) fn scaled(&self, by: &[Bounded], op: fn(Bounded, Bounded) -> Bounded) -> Option<Self> {
        let scale = |link: &Link| Some(Link { source: link.source, map: link.map.scaled(by, op)? });
        let links = self.links.iter().map(scale).collect::<Option<Vec<_>>>()?;
        let bias = self.bias.iter().zip(by).map(|(&x, &by)| op(x, by)).collect();
        Some(Self { links, bias, extent: self.extent })
    }

    /// The sum of two values of the same size, whose convolutions (if any) give the same shape.
    pub(super) fn plus(mut self, other: Self) -> Self {
        self.shift(&other.bias);
        let len = self.len();
        for link in other.links {
            let sum = self.links.iter_mut().find_map(|have| {
                let same = have.source == link.source;
                let sum = if same { have.map.plus(&link.map, len) } else { None };
                sum.map(|sum| (have, sum))
            });
            match sum {
                Some((have, sum)) => have.map = sum,
                None => self.links.push(link),
            }
        }
        self
    }
}
