//! Normalisations: batch, layer and group, forward and backward.

use super::layout::Layout;
use super::{Frame, Lowering, Place};
use crate::Tensor;
use crate::error::{Error, Result};
use crate::graph::{Node, ValueId};
use crate::ops::norm::{Backward, Running, batch, group, layer};
use crate::train::table::Field;

/// The share of a batch's statistics in the running ones, torch's.
const MOMENTUM: f32 = 0.1;

/// Which rows and columns of a sample a normalisation sees.
#[derive(Debug, Clone, Copy)]
struct Seen {
    samples: usize,
    /// Rows of a sample.
    rows: usize,
    n: usize,
}

impl Seen {
    fn view(self, frame: &Frame<'_>, place: Place) -> Result<Tensor> {
        frame.view(place, &[self.samples * self.rows, self.n])
    }

    fn by_sample(self, frame: &Frame<'_>, place: Place) -> Result<Tensor> {
        frame.view(place, &[self.samples, self.rows, self.n])
    }

    fn shape(self) -> [usize; 3] {
        [1, self.samples * self.rows, self.n]
    }
}

impl Lowering<'_> {
    /// A value with its channels last, and what a normalisation over channels sees.
    fn channels(&mut self, value: ValueId, node: &Node) -> Result<(Place, Layout, Seen)> {
        let shape = self.shape(value);
        let (place, layout) = match shape.len() {
            4 => {
                let (place, dims) = self.image(value, node)?;
                (place, Layout { dims: dims.to_vec(), image: true })
            }
            3 => self.sequence(value)?,
            2 => self.plain(value)?,
            _ => return Err(Self::refuse(node, "it takes [1, C], [1, C, L] or [1, C, H, W]")),
        };
        let seen = Seen { samples: self.batch, rows: layout.rows(), n: layout.columns() };
        Ok((place, layout, seen))
    }

    /// Scale and shift.
    fn affine(&self, node: &Node) -> Result<Field> {
        let field = self.field(node, 1)?;
        if field.shape.len() == 2 && field.shape[0] == 2 {
            Ok(field)
        } else {
            Err(Self::refuse(node, "scale and shift of unlike kinds"))
        }
    }

    pub(super) fn batch_norm(&mut self, index: usize, node: &Node, epsilon: f32) -> Result<()> {
        let affine = self.affine(node)?;
        let running = self.statistics.get(node.inputs[3]).cloned();
        let running = running.ok_or_else(|| Self::refuse(node, "its mean and variance must be constants"))?;
        let (x, layout, seen) = self.channels(node.inputs[0], node)?;
        let out = self.define(node.output, layout);
        if !self.training {
            self.step(&[x], &[out], move |recording, frame| {
                let (x, y) = (seen.view(frame, x)?, seen.view(frame, out)?);
                let running = running.of(&frame.tables.statistics)?;
                let affine = affine.of(&frame.tables.parameters)?;
                batch::apply(recording, frame.caps, &x, batch::Statistics::Running(&running, epsilon), &affine, &y)
            });
            return Ok(());
        }
        let [_, chunks, _, n] = batch::scratch(&seen.shape());
        let (parts, saved) = (self.place(&[chunks, 2, n]), self.place(&[2, n]));
        self.saved.insert(index, vec![x, saved]);
        self.step(&[x], &[parts, saved, out], move |recording, frame| {
            let (x, y) = (seen.view(frame, x)?, seen.view(frame, out)?);
            let (parts, saved) = (frame.view(parts, &[chunks, 2, n])?, frame.view(saved, &[2, n])?);
            let statistics = running.of(&frame.tables.statistics)?;
            let running = Running { statistics: &statistics, streams: frame.streams, momentum: MOMENTUM };
            batch::statistics(recording, frame.caps, &x, epsilon, Some(running), &parts, &saved)?;
            let affine = affine.of(&frame.tables.parameters)?;
            batch::apply(recording, frame.caps, &x, batch::Statistics::Saved(&saved), &affine, &y)
        });
        Ok(())
    }

    /// Sums of g and g h for both gradients, straight into the field of the affine part.
    pub(super) fn batch_norm_parameter(&mut self, index: usize, node: &Node, g: Place) -> Result<()> {
        let (x, saved, seen) = self.normalised(index, node)?;
        let affine = self.affine(node)?;
        let [_, chunks, _, n] = batch::scratch(&seen.shape());
        let parts = self.place(&[chunks, 2, n]);
        self.step(&[x, saved, g], &[parts], move |recording, frame| {
            let (x, g, saved) = (seen.view(frame, x)?, seen.view(frame, g)?, frame.view(saved, &[2, n])?);
            let parameters = affine.of(&frame.tables.parameters)?;
            let of = Backward { x: &x, g: &g, saved: &saved, affine: &parameters };
            let sums = affine.of(&frame.tables.gradients)?;
            batch::sums(recording, frame.caps, &of, &frame.view(parts, &[chunks, 2, n])?, &sums)
        });
        Ok(())
    }

    /// From the sums that the gradient of the affine part is.
    pub(super) fn batch_norm_input(&mut self, index: usize, node: &Node, g: Place) -> Result<()> {
        let (x, saved, seen) = self.normalised(index, node)?;
        let affine = self.affine(node)?;
        let (_, layout) = self.computed(node.output)?;
        let dx = self.samples(&layout);
        self.step(&[x, saved, g], &[dx], move |recording, frame| {
            let (x, g, saved) = (seen.view(frame, x)?, seen.view(frame, g)?, frame.view(saved, &[2, seen.n])?);
            let parameters = affine.of(&frame.tables.parameters)?;
            let of = Backward { x: &x, g: &g, saved: &saved, affine: &parameters };
            let sums = affine.of(&frame.tables.gradients)?;
            batch::input_gradient(recording, frame.caps, &of, &sums, &seen.view(frame, dx)?)
        });
        self.give(node.inputs[0], dx, &layout)
    }

    /// What the forward step left.
    fn normalised(&self, index: usize, node: &Node) -> Result<(Place, Place, Seen)> {
        let Some(&[x, saved, ..]) = self.saved.get(&index).map(Vec::as_slice) else {
            return Err(Error::internal("a normalisation without its statistics"));
        };
        let (_, layout) = self.computed(node.output)?;
        Ok((x, saved, Seen { samples: self.batch, rows: layout.rows(), n: layout.columns() }))
    }

    pub(super) fn layer_norm(&mut self, index: usize, node: &Node, (axis, epsilon): (usize, f32)) -> Result<()> {
        let affine = self.affine(node)?;
        let (x, layout) = self.wide(node.inputs[0], axis)?;
        let seen = Seen { samples: self.batch, rows: layout.rows(), n: layout.columns() };
        let rows = seen.samples * seen.rows;
        let out = self.define(node.output, layout);
        let saved = self.place(&[rows, 2]);
        self.saved.insert(index, vec![x, saved]);
        self.step(&[x], &[saved, out], move |recording, frame| {
            let (x, y) = (seen.view(frame, x)?, seen.view(frame, out)?);
            let affine = affine.of(&frame.tables.parameters)?;
            layer::forward(recording, frame.caps, &x, &affine, epsilon, &frame.view(saved, &[rows, 2])?, &y)
        });
        Ok(())
    }

    pub(super) fn layer_norm_parameter(&mut self, index: usize, node: &Node, g: Place) -> Result<()> {
        let (x, saved, seen) = self.normalised(index, node)?;
        let affine = self.affine(node)?;
        let [_, chunks, _, n] = layer::scratch(&seen.shape());
        let parts = self.place(&[chunks, 2, n]);
        self.step(&[x, saved, g], &[parts], move |recording, frame| {
            let saved = frame.view(saved, &[seen.samples * seen.rows, 2])?;
            let (x, g) = (seen.view(frame, x)?, seen.view(frame, g)?);
            let parameters = affine.of(&frame.tables.parameters)?;
            let of = Backward { x: &x, g: &g, saved: &saved, affine: &parameters };
            let out = affine.of(&frame.tables.gradients)?;
            layer::affine_gradient(recording, frame.caps, &of, &frame.view(parts, &[chunks, 2, n])?, &out)
        });
        Ok(())
    }

    pub(super) fn layer_norm_input(&mut self, index: usize, node: &Node, g: Place) -> Result<()> {
        let (x, saved, seen) = self.normalised(index, node)?;
        let affine = self.affine(node)?;
        let (_, layout) = self.computed(node.output)?;
        let dx = self.samples(&layout);
        self.step(&[x, saved, g], &[dx], move |recording, frame| {
            let saved = frame.view(saved, &[seen.samples * seen.rows, 2])?;
            let (x, g) = (seen.view(frame, x)?, seen.view(frame, g)?);
            let parameters = affine.of(&frame.tables.parameters)?;
            let of = Backward { x: &x, g: &g, saved: &saved, affine: &parameters };
            layer::input_gradient(recording, frame.caps, &of, &seen.view(frame, dx)?)
        });
        self.give(node.inputs[0], dx, &layout)
    }

    pub(super) fn group_norm(&mut self, index: usize, node: &Node, (groups, epsilon): (usize, f32)) -> Result<()> {
        let affine = self.affine(node)?;
        let (x, layout, seen) = self.channels(node.inputs[0], node)?;
        let out = self.define(node.output, layout);
        let [_, samples, chunks, _, n] = group::scratch(&[1, seen.samples, seen.rows, seen.n]);
        let parts = self.place(&[samples, chunks, 2, n]);
        let (channels, saved) = (self.place(&[samples, 2, n]), self.place(&[samples, 2, n]));
        self.saved.insert(index, vec![x, saved]);
        self.step(&[x], &[parts, channels, saved, out], move |recording, frame| {
            let (x, y) = (seen.by_sample(frame, x)?, seen.by_sample(frame, out)?);
            let of = |place| frame.view(place, &[samples, 2, n]);
            let (parts, saved) = (frame.view(parts, &[samples, chunks, 2, n])?, of(saved)?);
            group::statistics(recording, frame.caps, &x, (groups, epsilon), &parts, &of(channels)?, &saved)?;
            group::apply(recording, frame.caps, &x, &saved, &affine.of(&frame.tables.parameters)?, &y)
        });
        Ok(())
    }

    /// Sums by sample, kept for the gradient of the input, and added up into the field.
    pub(super) fn group_norm_parameter(&mut self, index: usize, node: &Node, g: Place) -> Result<()> {
        let (x, saved, seen) = self.normalised(index, node)?;
        let affine = self.affine(node)?;
        let [_, samples, chunks, _, n] = group::scratch(&[1, seen.samples, seen.rows, seen.n]);
        let (parts, sums) = (self.place(&[samples, chunks, 2, n]), self.place(&[samples, 2, n]));
        if let Some(kept) = self.saved.get_mut(&index) {
            kept.push(sums);
        }
        self.step(&[x, saved, g], &[parts, sums], move |recording, frame| {
            let of = |place| frame.view(place, &[samples, 2, n]);
            let (x, g, saved, sums) = (seen.by_sample(frame, x)?, seen.by_sample(frame, g)?, of(saved)?, of(sums)?);
            let parameters = affine.of(&frame.tables.parameters)?;
            let backward = Backward { x: &x, g: &g, saved: &saved, affine: &parameters };
            group::sums(recording, frame.caps, &backward, &frame.view(parts, &[samples, chunks, 2, n])?, &sums)?;
            group::affine_gradient(recording, frame.caps, &sums, &affine.of(&frame.tables.gradients)?)
        });
        Ok(())
    }

    pub(super) fn group_norm_input(&mut self, index: usize, node: &Node, groups: usize, g: Place) -> Result<()> {
        let (x, saved, seen) = self.normalised(index, node)?;
        let Some(&[_, _, sums]) = self.saved.get(&index).map(Vec::as_slice) else {
            return Err(Error::internal("a group norm without its sums"));
        };
        let affine = self.affine(node)?;
        let (_, layout) = self.computed(node.output)?;
        let (samples, n) = (seen.samples, seen.n);
        let (dx, folded) = (self.samples(&layout), self.place(&[samples, 2, n]));
        self.step(&[x, saved, g, sums], &[folded, dx], move |recording, frame| {
            let of = |place| frame.view(place, &[samples, 2, n]);
            let (x, g, saved) = (seen.by_sample(frame, x)?, seen.by_sample(frame, g)?, of(saved)?);
            let parameters = affine.of(&frame.tables.parameters)?;
            let backward = Backward { x: &x, g: &g, saved: &saved, affine: &parameters };
            let dx = seen.by_sample(frame, dx)?;
            group::input_gradient(recording, frame.caps, &backward, groups, &of(sums)?, &of(folded)?, &dx)
        });
        self.give(node.inputs[0], dx, &layout)
    }
}
