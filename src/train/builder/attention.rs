//! Multi-head self-attention out of products, transpositions and a softmax.

use super::layers::torch_uniform;
use super::{Builder, Layer};
use crate::graph::{Op, ValueId};
use crate::train::init::Init;

/// Self-attention of a sequence `[length, width]` (Vaswani et al., NeurIPS 2017, section 3.2).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Heads that the width is divided into.
    pub heads: usize,
    /// Whether each place sees itself and what comes before it alone.
    pub causal: bool,
    /// The share of attention weights that training leaves out.
    pub dropout: f32,
}

impl Default for Attention {
    fn default() -> Self {
        Self { heads: 1, causal: false, dropout: 0.0 }
    }
}

impl Builder {
    /// Self-attention with four dense layers, `q_proj`, `k_proj`, `v_proj` and `out_proj`. Weights start as those of torch's
    /// `MultiheadAttention` (in which the first three are parts of one matrix), biases as 0.
    pub fn multi_head_attention(&mut self, x: ValueId, attention: Attention) -> ValueId {
        self.layer("attn", |net, name| net.attend(name, x, attention))
    }

    fn attend(&mut self, name: &str, x: ValueId, Attention { heads, causal, dropout }: Attention) -> Layer {
        let shape = self.whole(x)?;
        let [1, length, width] = shape[..] else {
            return Err(format!("an operand of shape {:?} where [length, width] is expected", self.shape(x)));
        };
        if heads == 0 || !width.is_multiple_of(heads) || width == 0 {
            return Err(format!("a width of {width} does not divide into {heads} heads"));
        }
        let size = width / heads;
        // Xavier's bound for the stacked matrix [3 width, width]: sqrt(6 / (4 width)).
        let input = Init::Uniform { gain: 0.5f32.sqrt(), fan_in: width };
        let chosen = self.next_init.take();
        let zeros = Some(Init::Constant(0.0));
        let head = |net: &mut Self, part: &str, perm: [usize; 4]| {
            let name = format!("{name}.{part}");
            let y = net.projection(&name, x, width, [Some(chosen.unwrap_or(input)), zeros])?;
            let y = net.node(&format!("{name}.heads"), Op::Reshape, &[y], &[1, length, heads, size])?;
            net.node(&format!("{name}.turned"), Op::Transpose { perm: perm.to_vec() }, &[y], &[])
        };
        let query = head(self, "q_proj", [0, 2, 1, 3])?;
        let key = head(self, "k_proj", [0, 2, 3, 1])?;
        let value = head(self, "v_proj", [0, 2, 1, 3])?;
        let scores = self.node(&format!("{name}.scores"), Op::MatMul, &[query, key], &[])?;
        let scores = self.scaled(&format!("{name}.scaled"), scores, 1.0 / (size as f32).sqrt())?;
        let softmax = if causal { Op::CausalSoftmax } else { Op::Softmax { axis: 3 } };
        let mut weights = self.node(&format!("{name}.weights"), softmax, &[scores], &[])?;
        if dropout != 0.0 {
            weights = self.node(&format!("{name}.dropout"), Op::Dropout { rate: dropout }, &[weights], &[])?;
        }
        let mixed = self.node(&format!("{name}.mixed"), Op::MatMul, &[weights, value], &[])?;
        let mixed = self.node(&format!("{name}.turned"), Op::Transpose { perm: vec![0, 2, 1, 3] }, &[mixed], &[])?;
        let joined = self.node(&format!("{name}.joined"), Op::Reshape, &[mixed], &shape)?;
        let output = chosen.unwrap_or_else(|| torch_uniform(width));
        self.projection(&format!("{name}.out_proj"), joined, width, [Some(output), zeros])
    }
}
