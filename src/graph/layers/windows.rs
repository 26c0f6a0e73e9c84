//! Convolutions, their transposes and average pools.

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
    pub(super) fn spatial(&self, node: &Node, id: ValueId) -> Result<Extent> {
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
        let geometry = Geometry { input, output, kernel: [height, width], window: *window };
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

    pub(super) fn conv_transpose(&mut self, node: &Node, window: &Window) -> Result<Term> {
        self.constant_weights(node)?;
        let (input, output) = (self.spatial(node, node.inputs[0])?, self.spatial(node, node.output)?);
        let [.., height, width] = self.graph.value(node.inputs[1]).shape[..] else {
            return Err(refused(node, "has weights of fewer than two dimensions"));
        };
        // The convolution that this is the transpose of, whose windows lie in the result.
        let geometry = Geometry { input: output, output: input, kernel: [height, width], window: *window };
        let map = Linear::Sparse(self.transposed(node, &geometry)?);
        let term = self.take(node.inputs[0])?;
        let mut term = self.followed(term, &map, &node.name)?;
        self.shift_channels(node, &mut term, output)?;
        Ok(term)
    }

    /// `z[m, y s + i d - p] = sum weight[c, m, i] x[c, y]`: for each place of a plane of z, the places of a plane of x
    /// that reach it and the taps that do so.
    fn transposed(&self, node: &Node, geometry: &Geometry) -> Result<Terms> {
        let (from, to, groups) = (geometry.output, geometry.input, geometry.window.groups);
        let (depth, rows) = (from.channels / groups, to.channels / groups);
        check_terms(node, &[from.len(), rows, geometry.area()])?;
        let weights = &self.constant(node.inputs[1])?.data;
        let plane = from.height * from.width;
        let mut reached = vec![Vec::new(); to.height * to.width];
        for (place, at) in geometry.positions().enumerate() {
            geometry.taps(at).for_each(|(tap, offset)| reached[offset].push((place, tap)));
        }
        let mut terms = Terms::new(from.len());
        for m in 0..to.channels {
            let first = m / rows * depth;
            for reached in &reached {
                terms.push((first..first + depth).flat_map(|c| {
                    let weight = (c * rows + m % rows) * geometry.area();
                    reached.iter().map(move |&(place, tap)| (c * plane + place, weights[weight + tap]))
                }));
            }
        }
        Ok(terms)
    }

    pub(super) fn average_pool(
        &mut self,
        node: &Node,
        kernel: [usize; 2],
        window: &Window,
        count_include_pad: bool,
    ) -> Result<Term> {
        let (input, output) = (self.spatial(node, node.inputs[0])?, self.spatial(node, node.output)?);
        let geometry = Geometry { input, output, kernel, window: *window };
        let windows: Vec<Vec<usize>> = geometry.windows().collect();
        let inside: usize = windows.iter().map(Vec::len).sum();
        check_terms(node, &[output.channels, inside])?;
        let plane = input.height * input.width;
        let mut terms = Terms::new(input.len());
        for c in 0..output.channels {
            for window in &windows {
                let count = if count_include_pad { geometry.area() } else { window.len() };
                let share = Bounded::ONE.div(Bounded::exact(count as f64));
                terms.push(window.iter().map(|offset| (c * plane + offset, share)));
            }
        }
        let term = self.take(node.inputs[0])?;
        self.followed(term, &Linear::Sparse(terms), &node.name)
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
        let (depth, rows) = (input.channels / groups, output.channels / groups);
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
