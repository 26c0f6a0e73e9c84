//! Convolutions and average pools.

use super::Extent;
use super::linear::Linear;
use super::lower::{Lowering, check_terms, refused, too_big};
use super::sparse::Terms;
use super::term::Term;
use super::weights::{Geometry, Weights};
use crate::error::Result;
use crate::graph::bounded::Bounded;
use crate::graph::shape::{self, MAX_ELEMENTS};
use crate::graph::{Node, ValueId, Window};

impl Lowering<'_> {
    /// The extent of a value in front of or behind windows.
    fn spatial(&self, node: &Node, id: ValueId) -> Result<Extent> {
        let shape = &self.graph.value(id).shape;
        match shape[..] {
            [1, channels, height, width] => Ok(Extent { channels, height, width }),
            _ => Err(refused(node, &format!("has an operand or result of shape {shape:?}, not [1, C, H, W]"))),
        }
    }

    pub(super) fn conv(&mut self, node: &Node, window: &Window) -> Result<Term> {
        self.constant_weights(node)?;
        let (input, output) = (self.spatial(node, node.inputs[0])?, self.spatial(node, node.output)?);
        let [.., height, width] = self.graph.value(node.inputs[1]).shape[..] else {
            return Err(refused(node, "has weights of fewer than two dimensions"));
        };
        let geometry = Geometry::new(input, output, [height, width], window);
        let map = if window.groups != 1 {
            self.grouped(node, &geometry, window.groups)?
        } else {
            let (numbers, rel) = self.numbers(node.inputs[1], &node.name)?;
            if output.height * output.width == 1 {
                single_window(node, &geometry, &numbers, rel)?
            } else {
                Linear::Conv(Weights::new(numbers, [output.channels, input.channels, geometry.area()], rel), geometry)
            }
        };
        let term = self.take(node.inputs[0])?;
        let mut term = self.followed(term, &map, &node.name)?;
        self.shift_channels(node, &mut term, output)?;
        Ok(term)
    }

    /// Refuses weights and biases that are not constants.
    fn constant_weights(&self, node: &Node) -> Result<()> {
        match node.inputs[1..].iter().any(|id| self.computed[id.0]) {
            true => Err(refused(node, "has computed weights or a computed bias")),
            false => Ok(()),
        }
    }

    /// Adds the third operand, one number a channel.
    fn shift_channels(&self, node: &Node, term: &mut Term, output: Extent) -> Result<()> {
        if let Some(&id) = node.inputs.get(2) {
            let plane = output.height * output.width;
            let bias = self.constant(id)?;
            let shift: Vec<Bounded> = bias.data.iter().flat_map(|&b| std::iter::repeat_n(b, plane)).collect();
            term.shift(&shift);
        }
        Ok(())
    }

    /// A convolution with groups.
    fn grouped(&self, node: &Node, geometry: &Geometry, groups: usize) -> Result<Linear> {
        let (input, output) = (geometry.input, geometry.output);
        let depth = input.channels / groups.max(1);
        let rows = output.channels / groups.max(1);
        check_terms(node, &[output.len(), depth, geometry.area()])?;
        let weights = &self.constant(node.inputs[1])?.data;
        let plane = input.height * input.width;
        let mut terms = Terms::new(input.len());
        for m in 0..output.channels {
            let first = m / rows * depth;
            for at in geometry.positions() {
                terms.push((0..depth).flat_map(|c| {
                    let taps = geometry.taps(at);
                    taps.map(move |(tap, offset)| {
                        ((first + c) * plane + offset, weights[(m * depth + c) * geometry.area() + tap])
                    })
                }));
            }
        }
        Ok(Linear::Sparse(terms))
    }
}

/// A convolution with one window, as a dense layer.
fn single_window(node: &Node, geometry: &Geometry, numbers: &[f32], rel: f64) -> Result<Linear> {
    let (input, rows) = (geometry.input, geometry.output.channels);
    if shape::elements(&[rows, input.len()]).is_err() {
        return Err(too_big(node, &format!("a dense layer of more than {MAX_ELEMENTS} weights")));
    }
    let plane = input.height * input.width;
    let mut data = vec![0.0; rows * input.len()];
    for (channel, weights) in numbers.chunks_exact(geometry.area().max(1)).enumerate() {
        for (tap, offset) in geometry.taps([0, 0]) {
            data[channel * plane + offset] = weights[tap];
        }
    }
    Ok(Linear::Dense(Weights::new(data, [rows, input.len(), 1], rel)))
}
