//! Steps that move elements: other layouts, Reshape, Transpose, Concat, Select, Pad, and their gradients.

use std::sync::Arc;

use super::layout::Layout;
use super::{Home, Lowering, Place};
use crate::error::{Error, Result};
use crate::graph::{Node, Op, ValueId};
use crate::ops::gather::{self, NOTHING, Otherwise};

impl Lowering<'_> {
    /// Records the move of elements by an order of words; words that it does not name become `fill`, or stay as they are.
    fn moved(&mut self, x: Place, from: &Layout, order: Vec<u32>, fill: Option<f32>, out: Place, to: &Layout) {
        let (rows, words_x, words_out) = (self.batch, from.words(), to.words());
        let index = self.indices.len();
        self.indices.push(order);
        let otherwise = fill.map_or(Otherwise::Keep, Otherwise::Fill);
        // What keeps words of its result reads it, in a way.
        let reads = if fill.is_none() { vec![x, out] } else { vec![x] };
        self.step(&reads, &[out], move |recording, frame| {
            let (x, out) = (frame.rows(x, rows, words_x)?, frame.rows(out, rows, words_out)?);
            gather::elements(recording, frame.caps, &x, frame.index(index), otherwise, &out)
        });
    }

    /// An array in another layout: its element `i` is element `source(i)` of `x`, both row-major as in the graph.
    pub(super) fn reordered(&mut self, x: Place, from: &Layout, to: &Layout, source: &dyn Fn(usize) -> usize) -> Place {
        let out = self.samples(to);
        let mut order = vec![NOTHING; to.words()];
        for i in 0..to.dims.iter().product() {
            order[to.place(i)] = from.place(source(i)) as u32;
        }
        self.moved(x, from, order, Some(0.0), out, to);
        out
    }

    /// A computed value in the graph's own order of elements.
    pub(super) fn plain(&mut self, value: ValueId) -> Result<(Place, Layout)> {
        let (place, layout) = self.computed(value)?;
        let plain = Layout::plain(self.shape(value));
        if layout == plain || layout.is_dense() && plain.is_dense() {
            return Ok((place, plain));
        }
        let place = self.reordered(place, &layout, &plain, &|i| i);
        Ok((place, plain))
    }

    /// A computed `[1, C, L]` with channels last.
    pub(super) fn sequence(&mut self, value: ValueId) -> Result<(Place, Layout)> {
        let (place, layout) = self.computed(value)?;
        let sequence = Layout::sequence(self.shape(value)).ok_or_else(|| Error::internal("no sequence"))?;
        if layout == sequence {
            return Ok((place, layout));
        }
        Ok((self.reordered(place, &layout, &sequence, &|i| i), sequence))
    }

    /// A computed value with all axes from `axis` on as one row.
    pub(super) fn wide(&mut self, value: ValueId, axis: usize) -> Result<(Place, Layout)> {
        let shape = self.shape(value);
        let (place, plain) = self.plain(value)?;
        if axis + 1 >= shape.len() {
            return Ok((place, plain));
        }
        let dims = vec![shape[..axis].iter().product(), shape[axis..].iter().product()];
        let wide = Layout { dims, image: false };
        if plain.is_dense() && wide.is_dense() {
            return Ok((place, wide));
        }
        Ok((self.reordered(place, &plain, &wide, &|i| i), wide))
    }

    /// A computed value with channels last.
    pub(super) fn image(&mut self, value: ValueId, node: &Node) -> Result<(Place, [usize; 3])> {
        let (place, layout) = self.computed(value)?;
        let image =
            Layout::image(self.shape(value)).ok_or_else(|| Self::refuse(node, "its input is no image [1, C, H, W]"))?;
        let dims = [image.dims[0], image.dims[1], image.dims[2]];
        if layout == image || layout.is_dense() && image.is_dense() {
            return Ok((place, dims));
        }
        Ok((self.reordered(place, &layout, &image, &|i| i), dims))
    }

    /// Where element `i` of a moving node's result comes from, for one of its operands; `None` for elements of others.
    fn source(&self, node: &Node, operand: usize) -> Result<Box<dyn Fn(usize) -> Option<usize>>> {
        let output = self.shape(node.output).to_vec();
        let input = self.shape(node.inputs[operand]).to_vec();
        Ok(match &node.op {
            Op::Reshape => Box::new(Some),
            Op::Transpose { perm } => {
                let perm = perm.clone();
                Box::new(move |i| {
                    let place = coordinates(i, &output);
                    let mut from = vec![0; place.len()];
                    perm.iter().zip(&place).for_each(|(&axis, &at)| from[axis] = at);
                    Some(flat(&from, &input))
                })
            }
            Op::Select { indices } => {
                let indices = Arc::clone(indices);
                Box::new(move |i| Some(indices[i]))
            }
            Op::Concat { axis } => {
                let axis = *axis;
                let before: usize = node.inputs[..operand].iter().map(|&v| self.shape(v)[axis]).sum();
                Box::new(move |i| {
                    let mut place = coordinates(i, &output);
                    place[axis] = place[axis].checked_sub(before).filter(|&at| at < input[axis])?;
                    Some(flat(&place, &input))
                })
            }
            Op::Pad { pads, .. } => {
                let pads = pads.clone();
                Box::new(move |i| {
                    let mut place = coordinates(i, &output);
                    for ((at, pad), length) in place.iter_mut().zip(&pads).zip(&input) {
                        *at = at.checked_sub(pad[0]).filter(|at| at < length)?;
                    }
                    Some(flat(&place, &input))
                })
            }
            _ => return Err(Error::internal("not a moving node")),
        })
    }

    /// Whether a Reshape makes an image of one row of a sequence that has its channels last, or the reverse.
    fn is_one_row(&self, node: &Node) -> bool {
        let image = self.computed(node.inputs[0]).is_ok_and(|(_, layout)| layout.image);
        let pair = |long: &[usize], short: &[usize]| matches!((long, short), (&[1, c, 1, l], &[1, channels, length]) if (c, l) == (channels, length));
        let (x, y) = (self.shape(node.inputs[0]), self.shape(node.output));
        image && (pair(x, y) || pair(y, x))
    }

    /// Forward steps of a node that moves elements.
    pub(super) fn move_forward(&mut self, node: &Node) -> Result<()> {
        let mut to = Layout::plain(self.shape(node.output));
        if matches!(node.op, Op::Reshape)
            && let Ok((place, from)) = self.computed(node.inputs[0])
            && (from.is_dense() && to.is_dense() || self.is_one_row(node))
        {
            if self.is_one_row(node) {
                to = from;
            }
            self.homes[node.output.0] = Some(Home::Place(place, to));
            return Ok(());
        }
        // Padding, and what no operand gives, is written by the first move.
        let fill = if let Op::Pad { value, .. } = node.op { value } else { 0.0 };
        let out = self.define(node.output, to.clone());
        for (operand, &value) in node.inputs.iter().enumerate() {
            if operand > 0 && !matches!(node.op, Op::Concat { .. }) {
                break;
            }
            let (x, from) = self.computed(value)?;
            let source = self.source(node, operand)?;
            let mut order = vec![NOTHING; to.words()];
            for i in 0..to.dims.iter().product() {
                if let Some(j) = source(i) {
                    order[to.place(i)] = from.place(j) as u32;
                }
            }
            self.moved(x, &from, order, (operand == 0).then_some(fill), out, &to);
        }
        Ok(())
    }

    /// The gradient of an operand of a node that moves elements: they move back.
    pub(super) fn move_backward(&mut self, node: &Node, operand: usize, g: Place) -> Result<()> {
        let value = node.inputs[operand];
        let (_, from) = self.computed(node.output)?;
        let (_, to) = self.computed(value)?;
        if matches!(node.op, Op::Reshape) && (from == to && self.is_one_row(node) || from.is_dense() && to.is_dense()) {
            return self.give(value, g, &to);
        }
        let source = self.source(node, operand)?;
        let mut order = vec![NOTHING; to.words()];
        for i in 0..from.dims.iter().product() {
            if let Some(j) = source(i) {
                let slot = &mut order[to.place(j)];
                if *slot != NOTHING {
                    return Err(Self::refuse(node, "it takes an element twice, which has no gradient here"));
                }
                *slot = from.place(i) as u32;
            }
        }
        let out = self.samples(&to);
        self.moved(g, &from, order, Some(0.0), out, &to);
        self.give(value, out, &to)
    }
}

fn coordinates(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut place = vec![0; shape.len()];
    for (at, &length) in place.iter_mut().zip(shape).rev() {
        *at = index % length;
        index /= length;
    }
    place
}

fn flat(place: &[usize], shape: &[usize]) -> usize {
    place.iter().zip(shape).fold(0, |index, (&at, &length)| index * length + at)
}
