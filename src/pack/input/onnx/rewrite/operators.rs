//! Operators on quantised values as those on numbers.

use rten_onnx::onnx::NodeProto;

use super::{Both, Layout, Reader, Rewriter};
use crate::error::Result;
use crate::pack::values::Granularity;

impl Rewriter {
    /// A product of quantised values: operands x, its scale and zero point, from `at[0]` on the other's, from `at[1]` on those of the result.
    pub(super) fn linear(
        &mut self,
        mut node: NodeProto,
        op: &str,
        at: [usize; 2],
        axis: i64,
        bias: Option<usize>,
    ) -> Result<()> {
        let operand = |i: usize| node.input.get(i).cloned().unwrap_or_default();
        let output = node.output.first().cloned().unwrap_or_default();
        let [w, scale, zero] = [0, 1, 2].map(|i| operand(at[0] + i));
        let mut inputs = vec![operand(0), w.clone()];
        if let Some(codes) = self.whole(&w)? {
            let scales = self.numbers(&scale)?;
            let zeros = self.whole(&zero)?;
            let both = Both::dequantised(&w, &codes, &scales, zeros.as_ref(), Layout { axis, block: 0 })?;
            inputs[1] = self.make(&w, &output, both);
            let bias = bias.map(operand).filter(|bias| !bias.is_empty());
            if let Some(name) = bias {
                let step = self.numbers(&operand(1))?[0];
                let scales: Vec<f32> = scales.iter().map(|s| s * step).collect();
                inputs.push(match self.whole(&name)? {
                    None => name,
                    Some(codes) => {
                        let layout = Layout { axis: 0, block: 0 };
                        let both = Both::dequantised(&name, &codes, &scales, None, layout)?;
                        self.make(&name, &output, both)
                    }
                });
            }
        }
        let Some(rounding) = self.affine(&operand(at[1]), &operand(at[1] + 1))? else {
            node.input = inputs;
            self.nodes.push(node);
            return Ok(());
        };
        let raw = format!("{output}_exact");
        node.input = inputs;
        node.output = vec![raw.clone()];
        node.op_type = Some(op.to_owned());
        self.nodes.push(node);
        self.quantised = true;
        self.round(raw, output, rounding);
        Ok(())
    }

    /// A sum of quantised values: operands a, its scale and zero point, b and its, those of the result.
    pub(super) fn sum(&mut self, mut node: NodeProto) -> Result<()> {
        let operand = |i: usize| node.input.get(i).cloned().unwrap_or_default();
        let output = node.output.first().cloned().unwrap_or_default();
        let Some(rounding) = self.affine(&operand(6), &operand(7))? else {
            self.nodes.push(node);
            return Ok(());
        };
        let raw = format!("{output}_exact");
        node.input = vec![operand(0), operand(3)];
        node.output = vec![raw.clone()];
        node.op_type = Some("Add".to_owned());
        node.domain = None;
        self.nodes.push(node);
        self.quantised = true;
        self.round(raw, output, rounding);
        Ok(())
    }

    /// A product of integers: operands x and w and their zero points. The result counts in steps of x times steps of w.
    pub(super) fn integer(&mut self, mut node: NodeProto, op: &str, axis: i64) -> Result<()> {
        let operand = |i: usize| node.input.get(i).cloned().unwrap_or_default();
        let output = node.output.first().cloned().unwrap_or_default();
        let (x, w) = (operand(0), operand(1));
        let Some(codes) = self.whole(&w)? else {
            self.nodes.push(node);
            return Ok(());
        };
        let known = self.scales.get(&x).copied();
        let scale = known.unwrap_or(1.0);
        let zeros = self.whole(&operand(3))?;
        let count = zeros.as_ref().map_or(1, |zeros| zeros.dims.iter().product());
        let layout = Layout { axis, block: 0 };
        let mut both = Both::dequantised(&w, &codes, &vec![1.0 / scale; count], zeros.as_ref(), layout)?;
        if let Some(stored) = &mut both.stored {
            stored.2 = self.scale_behind(&output);
        }
        node.input = vec![x, self.make(&w, &output, both)];
        // Integers that no QuantizeLinear makes: the node stays what it is, so the network is not read, but its weights are.
        if known.is_some() {
            node.op_type = Some(op.to_owned());
        }
        self.nodes.push(node);
        self.quantised = true;
        Ok(())
    }

    /// Rows of a quantised table, which a DequantizeLinear makes numbers of: the table itself becomes one of numbers.
    pub(super) fn table(&mut self, node: &mut NodeProto) -> Result<()> {
        let [Some(x), Some(output)] = [node.input.first().cloned(), node.output.first().cloned()] else {
            return Ok(());
        };
        let Some(codes) = self.whole(&x)?.filter(|codes| codes.dims.len() == 2) else { return Ok(()) };
        let behind = self.readers.get(&output).into_iter().flatten().find(|reader| reader.0 == "DequantizeLinear");
        let Some((_, operands, _)) = behind.cloned() else { return Ok(()) };
        let operand = |i: usize| operands.get(i).map_or("", String::as_str);
        let (scales, zeros) = (self.numbers(operand(1))?, self.whole(operand(2))?);
        if scales.len() == 1 {
            let both = Both::dequantised(&x, &codes, &scales, zeros.as_ref(), Layout { axis: 0, block: 0 })?;
            node.input[0] = self.make(&x, &output, both);
        }
        Ok(())
    }

    /// How many scales the result of a product of integers is multiplied by: behind a Cast, by a constant or by x's scale times a constant.
    fn scale_behind(&self, product: &str) -> Granularity {
        let readers = |name: &str, op: &str| -> Vec<&Reader> {
            self.readers.get(name).into_iter().flatten().filter(|reader| reader.0 == op).collect()
        };
        let length = |name: &str| self.tensors.get(name).map(|t| t.dims.iter().product::<i64>());
        let cast = readers(product, "Cast").first().map_or(product, |cast| cast.2.as_str());
        let factors = readers(cast, "Mul").into_iter().flat_map(|mul| &mul.1).filter(|name| *name != cast);
        let made = |name: &String| self.readers.values().flatten().find(|r| r.0 == "Mul" && r.2 == *name);
        let mut found = factors.filter_map(|name| {
            length(name).or_else(|| made(name).and_then(|mul| mul.1.iter().find_map(|name| length(name))))
        });
        match found.next() {
            None => Granularity::Unknown,
            Some(1) => Granularity::Tensor,
            Some(_) => Granularity::Channel,
        }
    }
}
