//! Softmax, normalisations and Dropout.

use super::{Builder, Site, Slot};
use crate::error::{Error, Result};
use crate::graph::onnx::{MASK, reshape, tensor};
use crate::graph::{Op, ValueId};
use ndarray::ArrayD;

/// Whether a constant is 0 up to the diagonal and at or below [`MASK`] beyond, in square matrices of `len`, all of them
/// alike.
fn is_causal(mask: &ArrayD<f32>, len: usize) -> bool {
    let square = mask.shape().ends_with(&[len, len]) && mask.len() == len * len;
    let fits = |(i, &x): (usize, &f32)| if i % len > i / len { x <= MASK } else { x == 0.0 };
    square && len > 1 && mask.iter().enumerate().all(fits)
}

impl<'a> Builder<'a> {
    /// The scores x, where a tensor is the sum of x and a causal mask.
    fn unmasked(&self, sum: ValueId) -> Option<ValueId> {
        let shape = self.shape(sum);
        let &[.., rows, columns] = shape else { return None };
        let node = self.nodes.iter().rev().find(|node| node.output == sum && node.op == Op::Add)?;
        let &[a, b] = node.inputs.as_slice() else { return None };
        let masks = |id: ValueId| self.values[id.0].constant.as_ref().is_some_and(|mask| is_causal(mask, columns));
        let scores = if masks(b) { a } else { Some(b).filter(|_| masks(a))? };
        (rows == columns && self.shape(scores) == shape).then_some(scores)
    }

    /// `Softmax`; before operator set 13 over all axes from the given one on.
    pub(super) fn softmax(&mut self, site: &Site<'a>) -> Result<()> {
        let attributes = site.attributes(&["axis"])?;
        let x = self.operand(site, 0)?;
        let shape = self.shape(x).to_vec();
        let default = if self.opset < 13 { 1 } else { -1 };
        let axis = reshape::axis(attributes.int("axis", default)?, shape.len(), false).map_err(|why| site.bad(&why))?;
        if axis + 1 == shape.len()
            && let Some(scores) = self.unmasked(x)
        {
            self.leftovers = true;
            return self.emit(site, Op::CausalSoftmax, vec![scores], vec![]);
        }
        if self.opset >= 13 || shape[axis + 1..].iter().all(|&dim| dim == 1) {
            return self.emit(site, Op::Softmax { axis }, vec![x], vec![]);
        }
        let matrix = vec![shape[..axis].iter().product(), shape[axis..].iter().product()];
        let flat = self.step(site, "flat", Op::Reshape, vec![x], matrix)?;
        let flat = self.step(site, "rows", Op::Softmax { axis: 1 }, vec![flat], vec![])?;
        self.emit(site, Op::Reshape, vec![flat], shape)
    }

    /// `BatchNormalization` at inference.
    pub(super) fn batch_normalization(&mut self, site: &Site<'a>) -> Result<()> {
        let known = ["epsilon", "momentum", "spatial", "training_mode", "is_test"];
        let attributes = site.attributes(&known)?;
        // Before operator set 14, further outputs are what asks for training.
        if attributes.flag("training_mode")? || site.node.output.iter().skip(1).any(|name| !name.is_empty()) {
            return Err(training(site));
        }
        if attributes.int("spatial", 1)? != 1 {
            return Err(site
                .unsupported("attribute 'spatial' is 0: statistics for each element instead of each channel")
                .with_help("export with operator set 9 or later"));
        }
        let epsilon = attributes.float("epsilon", 1e-5)?;
        let mut operands = vec![self.operand(site, 0)?];
        for (i, what) in ["scale", "bias", "mean", "variance"].into_iter().enumerate() {
            operands.push(self.fixed(site, i + 1, what)?);
        }
        let variance = self.values[operands[4].0].constant.iter().flat_map(|data| data.iter());
        if let Some(bad) = variance.copied().find(|&v| f64::from(v) + f64::from(epsilon) <= 0.0) {
            return Err(site.bad(&format!("a variance of {bad} with epsilon {epsilon}, whose sum must be positive")));
        }
        self.emit(site, Op::BatchNormalization { epsilon }, operands, vec![])
    }

    /// The scale and the bias of a normalisation; a bias that is not there is 0.
    fn scale_and_bias(&mut self, site: &Site<'a>) -> Result<[ValueId; 2]> {
        let scale = self.fixed(site, 1, "scale")?;
        if site.operand(2).is_some() {
            return Ok([scale, self.fixed(site, 2, "bias")?]);
        }
        let shape = self.shape(scale).to_vec();
        let name = format!("{}_bias", site.output()?);
        let zeros = tensor::float(&name, &shape, vec![0.0; shape.iter().product()])?;
        match self.constant(&name, zeros) {
            Slot::Float(bias) => Ok([scale, bias]),
            _ => Err(site.bad("a number became an integer")),
        }
    }

    pub(super) fn layer_normalization(&mut self, site: &Site<'a>) -> Result<()> {
        let attributes = site.attributes(&["axis", "epsilon", "stash_type"])?;
        let x = self.operand(site, 0)?;
        let rank = self.shape(x).len();
        let axis = reshape::axis(attributes.int("axis", -1)?, rank, false).map_err(|why| site.bad(&why))?;
        let epsilon = positive(site, attributes.float("epsilon", 1e-5)?)?;
        let [scale, bias] = self.scale_and_bias(site)?;
        self.emit(site, Op::LayerNormalization { axis, epsilon }, vec![x, scale, bias], vec![])
    }

    pub(super) fn group_normalization(&mut self, site: &Site<'a>) -> Result<()> {
        let attributes = site.attributes(&["num_groups", "epsilon", "stash_type"])?;
        if self.opset < 21 {
            return Err(site
                .unsupported("before operator set 21 it has one scale for each group instead of each channel")
                .with_help("export with operator set 21 or later"));
        }
        let count = attributes.int("num_groups", 0)?;
        let groups = usize::try_from(count).map_err(|_| site.bad(&format!("attribute 'num_groups' is {count}")))?;
        let epsilon = positive(site, attributes.float("epsilon", 1e-5)?)?;
        let x = self.operand(site, 0)?;
        let [scale, bias] = self.scale_and_bias(site)?;
        self.emit(site, Op::GroupNormalization { groups, epsilon }, vec![x, scale, bias], vec![])
    }

    pub(super) fn dropout(&mut self, site: &Site<'a>) -> Result<()> {
        let attributes = site.attributes(&["ratio", "is_test", "seed"])?;
        match self.integers(site, None, 2, "training_mode")?.as_deref() {
            None | Some([0]) => {}
            Some(_) => return Err(training(site)),
        }
        let rate = match site.operand(1) {
            Some(_) => self.number(site, 1, "ratio").ok(),
            None => Some(attributes.float("ratio", 0.5)?),
        };
        // A rate that is no number of `f32`, or that nothing can be trained with, changes nothing that a file says of
        // inference.
        match (self.first(site)?, rate.filter(|rate| (0.0..1.0).contains(rate))) {
            (Slot::Float(x), Some(rate)) => self.emit(site, Op::Dropout { rate }, vec![x], vec![]),
            _ => self.alias(site),
        }
    }
}

fn positive(site: &Site<'_>, epsilon: f32) -> Result<f32> {
    if epsilon > 0.0 {
        return Ok(epsilon);
    }
    Err(site.bad(&format!("attribute 'epsilon' is {epsilon}, which must be positive")))
}

fn training(site: &Site<'_>) -> Error {
    site.unsupported("it is set to training mode, in which its result depends on more than its input")
        .with_help("export the network in inference mode (`model.eval()`)")
}
