//! Pools, dropout and embeddings, forward and backward.

use super::layout::Layout;
use super::{Lowering, Place};
use crate::error::{Error, Result};
use crate::graph::{Node, Op};
use crate::ops::Coefficient;
use crate::ops::dropout::{self, Dropout};
use crate::ops::embedding;
use crate::ops::pool::{Pool, Pooling};

impl Lowering<'_> {
    /// The pool of a node.
    fn pool(node: &Node) -> Result<(Pool, Pooling)> {
        let (kernel, window, pooling) = match &node.op {
            Op::MaxPool { kernel, window } => (kernel, window, Pooling::Max),
            Op::AveragePool { kernel, window, count_include_pad: true } => (kernel, window, Pooling::MeanOfWindow),
            Op::AveragePool { kernel, window, .. } => (kernel, window, Pooling::Mean),
            _ => return Err(Error::internal("no pool")),
        };
        let pool = Pool { kernel: *kernel, stride: window.strides, pad: window.begin, dilation: window.dilations };
        Ok((pool, pooling))
    }

    pub(super) fn pool_forward(&mut self, index: usize, node: &Node) -> Result<()> {
        let (pool, pooling) = Self::pool(node)?;
        let (x, from) = self.image(node.inputs[0], node)?;
        let layout =
            Layout::image(self.shape(node.output)).ok_or_else(|| Self::refuse(node, "its result is no image"))?;
        let to = [layout.dims[0], layout.dims[1], layout.dims[2]];
        let out = self.define(node.output, layout.clone());
        let winners = self.training.then(|| self.samples(&layout)).filter(|_| pooling == Pooling::Max);
        self.saved.insert(index, winners.into_iter().collect());
        let writes: Vec<Place> = [Some(out), winners].into_iter().flatten().collect();
        let batch = self.batch;
        self.step(&[x], &writes, move |recording, frame| {
            let of = |place, dims| frame.stack(place, batch, dims);
            let (x, out) = (of(x, from)?, of(out, to)?);
            match winners {
                Some(winners) => pool.max_with_winners(recording, frame.caps, &x, &out, &of(winners, to)?.words()),
                None => pool.record(recording, frame.caps, pooling, &x, &out),
            }
        });
        Ok(())
    }

    pub(super) fn pool_backward(&mut self, index: usize, node: &Node, g: Place) -> Result<()> {
        let (pool, pooling) = Self::pool(node)?;
        let layouts = [node.inputs[0], node.output].map(|value| Layout::image(self.shape(value)));
        let [Some(own), Some(above)] = layouts else { return Err(Error::internal("a pool of no image")) };
        let dims = |layout: &Layout| [layout.dims[0], layout.dims[1], layout.dims[2]];
        let (to, from) = (dims(&own), dims(&above));
        let winners = self.saved.get(&index).and_then(|kept| kept.first().copied());
        let (dx, batch) = (self.samples(&own), self.batch);
        let reads: Vec<Place> = [Some(g), winners].into_iter().flatten().collect();
        self.step(&reads, &[dx], move |recording, frame| {
            let of = |place, dims| frame.stack(place, batch, dims);
            let (g, dx) = (of(g, from)?, of(dx, to)?);
            match winners {
                Some(winners) => pool.winners_gradient(recording, frame.caps, &of(winners, from)?.words(), &g, &dx),
                None => pool.mean_gradient(recording, frame.caps, pooling, &g, &dx),
            }
        });
        self.give(node.inputs[0], dx, &own)
    }

    pub(super) fn dropout_forward(&mut self, index: usize, node: &Node, rate: f32) -> Result<()> {
        if !self.training || rate == 0.0 {
            self.homes[node.output.0] = self.homes[node.inputs[0].0].clone();
            return Ok(());
        }
        let (x, layout) = self.computed(node.inputs[0])?;
        let out = self.define(node.output, layout.clone());
        self.drop(index, rate, [x, out], &layout);
        Ok(())
    }

    pub(super) fn dropout_backward(&mut self, index: usize, node: &Node, rate: f32, g: Place) -> Result<()> {
        let (_, layout) = self.computed(node.output)?;
        if rate == 0.0 {
            return self.give(node.inputs[0], g, &layout);
        }
        let dx = self.samples(&layout);
        self.drop(index, rate, [g, dx], &layout);
        self.give(node.inputs[0], dx, &layout)
    }

    /// Masks an array; with the gradient it is the gradient.
    fn drop(&mut self, index: usize, rate: f32, [x, out]: [Place; 2], layout: &Layout) {
        let shape = [self.batch * layout.rows(), layout.columns()];
        // Layers are numbered by their place in the network, so each has masks of its own.
        let dropout = move || Dropout { rate: Coefficient::Fixed(rate), layer: index as u32, channels: false };
        self.step(&[x], &[out], move |recording, frame| {
            let (x, out) = (frame.view(x, &shape)?, frame.view(out, &shape)?);
            dropout::record(recording, frame.caps, &dropout(), frame.streams, &x, &out)
        });
    }

    pub(super) fn embedding_forward(&mut self, index: usize, node: &Node) -> Result<()> {
        let table = self.field(node, 1)?;
        let (ids, from) = self.plain(node.inputs[0])?;
        let to = Layout::plain(self.shape(node.output));
        let (batch, n) = (self.batch, to.columns());
        let positions = from.rows() * from.columns();
        if from.rows() != 1 || to.rows() != positions {
            return Err(Self::refuse(node, "numbers of rows must stand in one axis"));
        }
        let out = self.define(node.output, to);
        self.saved.insert(index, vec![ids]);
        self.step(&[ids], &[out], move |recording, frame| {
            let (ids, out) = (frame.view(ids, &[batch, positions])?, frame.view(out, &[batch, positions, n])?);
            embedding::forward(recording, frame.caps, &ids, &table.of(&frame.tables.parameters)?, &out)
        });
        Ok(())
    }

    pub(super) fn embedding_parameter(
        &mut self,
        index: usize,
        node: &Node,
        padding: Option<usize>,
        g: Place,
    ) -> Result<()> {
        let table = self.field(node, 1)?;
        let Some(&[ids]) = self.saved.get(&index).map(Vec::as_slice) else {
            return Err(Error::internal("an embedding without its numbers"));
        };
        let to = Layout::plain(self.shape(node.output));
        let (batch, positions, n, v) = (self.batch, to.rows(), to.columns(), table.rows());
        let links = self.place(&[v + batch * positions]);
        self.step(&[ids, g], &[links], move |recording, frame| {
            let (ids, g) = (frame.view(ids, &[batch, positions])?, frame.view(g, &[batch, positions, n])?);
            let links = frame.view(links, &[v + batch * positions])?.words();
            embedding::links(recording, frame.caps, &ids, v, padding, &links)?;
            embedding::gradient(recording, frame.caps, &links, &g, &frame.gradient(&table)?)
        });
        Ok(())
    }
}
