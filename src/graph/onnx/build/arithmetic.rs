//! Dense layers and elementwise operators.

use super::{Builder, Site};
use crate::error::Result;
use crate::graph::onnx::tensor;
use crate::graph::{Node, Op, ValueId};

impl<'a> Builder<'a> {
    pub(super) fn gemm(&mut self, site: &Site<'a>) -> Result<()> {
        // `broadcast` (before operator set 7) only allows what is the rule today.
        let a = site.attributes(&["alpha", "beta", "transA", "transB", "broadcast"])?;
        let op = Op::Gemm {
            alpha: a.float("alpha", 1.0)?,
            beta: a.float("beta", 1.0)?,
            trans_a: a.flag("transA")?,
            trans_b: a.flag("transB")?,
        };
        let mut operands = vec![self.operand(site, 0)?, self.operand(site, 1)?];
        if site.operand(2).is_some() {
            operands.push(self.operand(site, 2)?);
        }
        self.emit(site, op, operands, vec![])
    }

    pub(super) fn matmul(&mut self, site: &Site<'a>) -> Result<()> {
        site.attributes(&[])?;
        let operands = vec![self.operand(site, 0)?, self.operand(site, 1)?];
        self.emit(site, Op::MatMul, operands, vec![])
    }

    pub(super) fn unary(&mut self, site: &Site<'a>, op: Op) -> Result<()> {
        site.attributes(&[])?;
        let operands = vec![self.operand(site, 0)?];
        self.emit(site, op, operands, vec![])
    }

    pub(super) fn leaky_relu(&mut self, site: &Site<'a>) -> Result<()> {
        let alpha = site.attributes(&["alpha"])?.float("alpha", 0.01)?;
        let x = self.operand(site, 0)?;
        self.emit(site, Op::LeakyRelu { alpha }, vec![x], vec![])
    }

    pub(super) fn gelu(&mut self, site: &Site<'a>) -> Result<()> {
        let approximate = site.attributes(&["approximate"])?.string("approximate")?;
        if approximate != "tanh" {
            return Err(site
                .unsupported("attribute 'approximate' is not 'tanh'")
                .with_help("export Gelu in its tanh form, torch.nn.GELU(approximate=\"tanh\")"));
        }
        let x = self.operand(site, 0)?;
        self.emit(site, Op::Gelu, vec![x], vec![])
    }

    pub(super) fn elementwise(&mut self, site: &Site<'a>, op: Op) -> Result<()> {
        let attributes = site.attributes(&["axis", "broadcast"])?;
        let (a, mut b) = (self.operand(site, 0)?, self.operand(site, 1)?);
        if attributes.flag("broadcast")? && attributes.get("axis").is_some() {
            let axis = attributes.int("axis", 0)?;
            b = self.align(site, a, b, axis)?;
        }
        self.emit(site, op, vec![a, b], vec![])
    }

    /// Broadcasting before operator set 7: the second operand's dimensions start at `axis` of the first. Returns the
    /// second operand with as many dimensions of 1 behind as NumPy's rule needs.
    fn align(&mut self, site: &Site<'a>, a: ValueId, b: ValueId, axis: i64) -> Result<ValueId> {
        let (shape_a, shape_b) = (self.shape(a), self.shape(b));
        let behind = usize::try_from(axis)
            .ok()
            .and_then(|axis| shape_a.len().checked_sub(axis)?.checked_sub(shape_b.len()))
            .ok_or_else(|| site.bad(&format!("shape {shape_b:?} does not fit {shape_a:?} from axis {axis}")))?;
        let mut shape = shape_b.to_vec();
        shape.resize(shape_b.len() + behind, 1);
        let node = Node { name: format!("{}_axis", site.name), op: Op::Reshape, inputs: vec![b], output: ValueId(0) };
        Ok(self.add(node, format!("{}_axis", self.values[b.0].name), shape))
    }

    /// `Sum` of any number of operands, from the left.
    pub(super) fn sum(&mut self, site: &Site<'a>) -> Result<()> {
        site.attributes(&[])?;
        let mut sum = self.operand(site, 0)?;
        let last = site.node.input.len() - 1;
        if last == 0 {
            return self.alias(site);
        }
        for i in 1..last {
            let operand = self.operand(site, i)?;
            sum = self.step(site, &format!("partial_{i}"), Op::Add, vec![sum, operand], vec![])?;
        }
        let operand = self.operand(site, last)?;
        self.emit(site, Op::Add, vec![sum, operand], vec![])
    }

    /// A constant that the file does not have.
    fn scalar(&mut self, site: &Site<'a>, suffix: &str, number: f32) -> Result<ValueId> {
        let name = format!("{}_{suffix}", site.output()?);
        let constant = tensor::float(&name, &[], vec![number])?;
        let slot = self.constant(&name, constant);
        match slot {
            super::Slot::Float(id) => Ok(id),
            _ => Err(site.bad("a number became an integer")),
        }
    }

    /// `Neg`: a product with -1.
    pub(super) fn negate(&mut self, site: &Site<'a>) -> Result<()> {
        site.attributes(&[])?;
        let x = self.operand(site, 0)?;
        let factor = self.scalar(site, "factor", -1.0)?;
        self.emit(site, Op::Mul, vec![x, factor], vec![])
    }

    /// `Clip`: `max(x, l)` is `l + relu(x - l)` and `min(x, h)` is `h - relu(h - x)`.
    pub(super) fn clip(&mut self, site: &Site<'a>) -> Result<()> {
        let attributes = site.attributes(&["min", "max"])?;
        let (mut low, mut high) = (attributes.float("min", f32::MIN)?, attributes.float("max", f32::MAX)?);
        if site.operand(1).is_some() {
            low = self.number(site, 1, "lower limit")?;
        }
        if site.operand(2).is_some() {
            high = self.number(site, 2, "upper limit")?;
        }
        if low > high {
            return Err(site.bad(&format!("its lower limit {low} is above its upper limit {high}")));
        }
        let x = self.operand(site, 0)?;
        match (low > f32::MIN, high < f32::MAX) {
            (false, false) => self.alias(site),
            (true, false) if low == 0.0 => self.emit(site, Op::Relu, vec![x], vec![]),
            (true, false) => {
                let (limit, above) = self.above(site, x, low)?;
                self.emit(site, Op::Add, vec![above, limit], vec![])
            }
            (bounded, true) => {
                let x = if bounded && low == 0.0 {
                    self.step(site, "positive", Op::Relu, vec![x], vec![])?
                } else if bounded {
                    let (limit, above) = self.above(site, x, low)?;
                    self.step(site, "raised", Op::Add, vec![above, limit], vec![])?
                } else {
                    x
                };
                let limit = self.scalar(site, "upper", high)?;
                let below = self.step(site, "below", Op::Sub, vec![limit, x], vec![])?;
                let below = self.step(site, "room", Op::Relu, vec![below], vec![])?;
                self.emit(site, Op::Sub, vec![limit, below], vec![])
            }
        }
    }

    /// A lower limit l as a constant, and `relu(x - l)`.
    fn above(&mut self, site: &Site<'a>, x: ValueId, low: f32) -> Result<(ValueId, ValueId)> {
        let limit = self.scalar(site, "lower", low)?;
        let above = self.step(site, "difference", Op::Sub, vec![x, limit], vec![])?;
        Ok((limit, self.step(site, "above", Op::Relu, vec![above], vec![])?))
    }
}
