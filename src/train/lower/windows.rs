//! Convolutions: forward, and the gradients for their input and their parameters.

use super::layout::Layout;
use super::{Frame, Lowering, Place};
use crate::Tensor;
use crate::error::{Error, Result};
use crate::graph::{Node, Op, Window};
use crate::ops::conv::Conv;
use crate::train::table::Field;

fn conv(window: &Window) -> Conv<'static> {
    Conv {
        stride: window.strides,
        pad: window.begin,
        dilation: window.dilations,
        groups: window.groups,
        ..Conv::default()
    }
}

impl Frame<'_> {
    /// A place as images `[slots, batch, rows, columns, channels]`.
    fn images(&self, place: Place, batch: usize, [h, w, c]: [usize; 3]) -> Result<Tensor> {
        self.view(place, &[batch, h, w, c])
    }
}

impl Lowering<'_> {
    fn conv_field(&self, node: &Node, window: &Window) -> Result<Field> {
        let field = self.field(node, 1)?;
        let &[_, _, c, m] = field.shape.as_slice() else {
            return Err(Self::refuse(node, "its weight has not four axes"));
        };
        let n = m / window.groups.max(1);
        let native = window.groups == 1 || (c == 1 && n == 1) || (c.is_multiple_of(4) && n.is_multiple_of(4));
        if native { Ok(field) } else { Err(Self::refuse(node, "groups need one channel each, or multiples of 4")) }
    }

    fn image_dims(&self, value: crate::graph::ValueId, node: &Node) -> Result<[usize; 3]> {
        let layout = Layout::image(self.shape(value)).ok_or_else(|| Self::refuse(node, "its result is no image"))?;
        Ok([layout.dims[0], layout.dims[1], layout.dims[2]])
    }

    pub(super) fn conv_forward(&mut self, index: usize, node: &Node, window: Window) -> Result<()> {
        let weight = self.conv_field(node, &window)?;
        let bias = if node.inputs.len() > 2 { Some(self.field(node, 2)?) } else { None };
        let (x, from) = self.image(node.inputs[0], node)?;
        let to = self.image_dims(node.output, node)?;
        let out = self.define(node.output, Layout { dims: to.to_vec(), image: true });
        let (relu, batch) = (self.fuse_relu(index), self.batch);
        self.saved.insert(index, vec![x]);
        self.step(&[x], &[out], move |recording, frame| {
            let bias = bias.as_ref().map(|field| field.of(&frame.tables.parameters)).transpose()?;
            let conv = Conv { bias: bias.as_ref(), relu, ..conv(&window) };
            let (x, out) = (frame.images(x, batch, from)?, frame.images(out, batch, to)?);
            conv.record(recording, frame.caps, &x, &weight.of(&frame.tables.parameters)?, &out)
        });
        Ok(())
    }

    pub(super) fn conv_input(&mut self, node: &Node, window: Window, g: Place) -> Result<()> {
        let weight = self.conv_field(node, &window)?;
        let layout = Layout::image(self.shape(node.inputs[0])).ok_or_else(|| Error::internal("no image"))?;
        let (to, from) = (self.image_dims(node.inputs[0], node)?, self.image_dims(node.output, node)?);
        let (out, batch) = (self.samples(&layout), self.batch);
        self.step(&[g], &[out], move |recording, frame| {
            let conv = Conv { transposed: true, trans_weight: true, ..conv(&window) };
            let (g, out) = (frame.images(g, batch, from)?, frame.images(out, batch, to)?);
            conv.record(recording, frame.caps, &g, &weight.of(&frame.tables.parameters)?, &out)
        });
        self.give(node.inputs[0], out, &layout)
    }

    /// The gradient for the input of the convolution that this is the transpose of, and a bias.
    pub(super) fn transposed_forward(&mut self, index: usize, node: &Node, window: Window) -> Result<()> {
        let weight = self.conv_field(node, &window)?;
        if window.groups != 1 {
            return Err(Self::refuse(node, "transposed convolutions in groups cannot be trained"));
        }
        let bias = if node.inputs.len() > 2 { Some(self.field(node, 2)?) } else { None };
        let (x, from) = self.image(node.inputs[0], node)?;
        let to = self.image_dims(node.output, node)?;
        let out = self.define(node.output, Layout { dims: to.to_vec(), image: true });
        let (relu, batch) = (self.fuse_relu(index), self.batch);
        self.saved.insert(index, vec![x]);
        self.step(&[x], &[out], move |recording, frame| {
            let bias = bias.as_ref().map(|field| field.of(&frame.tables.parameters)).transpose()?;
            let conv = Conv { transposed: true, trans_weight: true, bias: bias.as_ref(), relu, ..conv(&window) };
            let (x, out) = (frame.images(x, batch, from)?, frame.images(out, batch, to)?);
            conv.record(recording, frame.caps, &x, &weight.of(&frame.tables.parameters)?, &out)
        });
        Ok(())
    }

    /// That convolution itself.
    pub(super) fn transposed_input(&mut self, node: &Node, window: Window, g: Place) -> Result<()> {
        let weight = self.conv_field(node, &window)?;
        let layout = Layout::image(self.shape(node.inputs[0])).ok_or_else(|| Error::internal("no image"))?;
        let (to, from) = (self.image_dims(node.inputs[0], node)?, self.image_dims(node.output, node)?);
        let (out, batch) = (self.samples(&layout), self.batch);
        self.step(&[g], &[out], move |recording, frame| {
            let (g, out) = (frame.images(g, batch, from)?, frame.images(out, batch, to)?);
            conv(&window).record(recording, frame.caps, &g, &weight.of(&frame.tables.parameters)?, &out)
        });
        self.give(node.inputs[0], out, &layout)
    }

    pub(super) fn conv_parameter(
        &mut self,
        index: usize,
        node: &Node,
        window: Window,
        operand: usize,
        g: Place,
    ) -> Result<()> {
        let (mut to, batch) = (self.image_dims(node.output, node)?, self.batch);
        if operand == 2 {
            let field = self.field(node, 2)?;
            self.column_sums(g, batch * to[0] * to[1], to[2], field);
            return Ok(());
        }
        let weight = self.conv_field(node, &window)?;
        let mut from = self.image_dims(node.inputs[0], node)?;
        let Some(&[mut x]) = self.saved.get(&index).map(Vec::as_slice) else {
            return Err(Error::internal("a convolution without its input"));
        };
        let mut g = g;
        if matches!(node.op, Op::ConvTranspose { .. }) {
            // What one reads is what the other writes.
            std::mem::swap(&mut to, &mut from);
            std::mem::swap(&mut x, &mut g);
        }
        let shape = |dims: [usize; 3]| [&[1, batch], &dims[..]].concat();
        let planes = conv(&window).gradient_planes(&shape(from), &shape(to), &[&[1], &weight.shape[..]].concat());
        let planes = planes.map(|planes| (self.place(&planes[1..]), planes[1..].to_vec()));
        let scratch: Vec<Place> = planes.iter().map(|(place, _)| *place).collect();
        self.step(&[x, g], &scratch, move |recording, frame| {
            let (x, g) = (frame.images(x, batch, from)?, frame.images(g, batch, to)?);
            let planes = planes.as_ref().map(|(place, shape)| frame.view(*place, shape)).transpose()?;
            let dw = frame.gradient(&weight)?;
            conv(&window).weight_gradient(recording, frame.caps, [&x, &g], planes.as_ref(), &dw)
        });
        Ok(())
    }
}
