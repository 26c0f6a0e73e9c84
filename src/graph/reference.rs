//! Evaluation on the CPU in `f64`: the oracle of every other evaluator, and the judge of counterexamples.
//!
//! Written for plainness, not for speed. The weights are the file's `f32` numbers, which `f64` holds exactly; the
//! network is taken as a function on real numbers. Every dot product runs in ascending k. The same code runs on
//! plain `f64` and on `f64` with a rigorous error bound ([`Bounded`]).

mod layout;
mod normal;
mod scalar;
mod window;

pub(super) use scalar::Scalar;

use super::bounded::Bounded;
use super::shape::{self, broadcast_index, misfit, transpose_index};
use super::{Graph, Node, Op, Value};
use crate::error::{Error, Result};
use ndarray::ArrayD;
use std::borrow::Cow;

/// A tensor in row-major order.
#[derive(Debug, Clone)]
pub(super) struct Tensor<T> {
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<T>,
}

impl<T: Scalar> Tensor<T> {
    /// The exact numbers of a constant.
    pub(super) fn constant(constant: &ArrayD<f32>) -> Self {
        Self { shape: constant.shape().to_vec(), data: constant.iter().map(|&x| T::exact(f64::from(x))).collect() }
    }

    /// The elements that broadcasting to `shape` makes; this tensor's shape must broadcast to it.
    pub(super) fn broadcast_to(&self, shape: &[usize]) -> Vec<T> {
        if self.shape == shape {
            return self.data.clone();
        }
        let index = broadcast_index(&self.shape, shape);
        index.into_iter().map(|i| self.data[i]).collect()
    }
}

impl Graph {
    /// Evaluates one sample in `f64`: `input` and the result are flat, in row-major order.
    ///
    /// # Errors
    /// `BadInput` for a wrong length, an input that is not finite or a malformed graph; `Unsupported` if a value
    /// overflows `f64` or is divided by zero.
    pub fn eval_f64(&self, input: &[f64]) -> Result<Vec<f64>> {
        evaluate::<f64>(self, input)
    }

    /// Evaluates one sample in `f64` and bounds the rounding: the real network maps the real point `input` to
    /// numbers within `bound` of `value`, for each pair `(value, bound)` of the result.
    ///
    /// The values may differ from [`eval_f64`](Self::eval_f64)'s only in the sign of zeros. Source of the bound:
    /// running error analysis (Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.3). It rests on IEEE
    /// arithmetic, and for Sigmoid, Tanh, Gelu and Softmax on an `exp` and a `tanh` of the platform that are off by at
    /// most 4 units in the last place.
    ///
    /// # Errors
    /// As [`eval_f64`](Self::eval_f64).
    pub fn eval_f64_bounded(&self, input: &[f64]) -> Result<Vec<(f64, f64)>> {
        let output = evaluate::<Bounded>(self, input)?;
        Ok(output.into_iter().map(|x| (x.value, x.error)).collect())
    }
}

fn evaluate<T: Scalar>(graph: &Graph, input: &[f64]) -> Result<Vec<T>> {
    graph.check()?;
    if input.len() != graph.input_len() {
        let (have, want) = (input.len(), graph.input_len());
        let shape = &graph.value(graph.input).shape;
        return Err(Error::bad_input(format!(
            "an input of {have} numbers where the network takes {want} (shape {shape:?})"
        )));
    }
    if let Some(i) = input.iter().position(|x| !x.is_finite()) {
        return Err(Error::bad_input(format!("input {i} is NaN or infinite")));
    }
    let mut computed: Vec<Option<Tensor<T>>> = vec![None; graph.values.len()];
    computed[graph.input.0] = Some(Tensor {
        shape: graph.value(graph.input).shape.clone(),
        data: input.iter().map(|&x| T::exact(x)).collect(),
    });
    for node in &graph.nodes {
        let result = {
            let operand = |&id: &super::ValueId| operand(graph.value(id), &computed[id.0]);
            let operands = node.inputs.iter().map(operand).collect::<Result<Vec<_>>>()?;
            apply(node, &operands, &graph.value(node.output).shape)?
        };
        computed[node.output.0] = Some(result);
    }
    Ok(operand(graph.value(graph.output), &computed[graph.output.0])?.into_owned().data)
}

/// The tensor of a value: computed, or else constant.
pub(super) fn operand<'a, T: Scalar>(value: &Value, computed: &'a Option<Tensor<T>>) -> Result<Cow<'a, Tensor<T>>> {
    match (computed, &value.constant) {
        (Some(tensor), _) => Ok(Cow::Borrowed(tensor)),
        (None, Some(constant)) => Ok(Cow::Owned(Tensor::constant(constant))),
        (None, None) => Err(Error::internal(format!("tensor '{}' is not known", value.name))),
    }
}

/// Applies one node to its operands; `out` is the shape of the result.
pub(super) fn apply<T: Scalar>(node: &Node, operands: &[Cow<'_, Tensor<T>>], out: &[usize]) -> Result<Tensor<T>> {
    let data = match (&node.op, operands) {
        (Op::Relu, [x]) => x.data.iter().map(|x| x.relu()).collect(),
        (Op::Sigmoid, [x]) => x.data.iter().map(|x| x.sigmoid()).collect(),
        (Op::Tanh, [x]) => x.data.iter().map(|x| x.tanh()).collect(),
        (Op::LeakyRelu { alpha }, [x]) => {
            let alpha = T::exact(f64::from(*alpha));
            x.data.iter().map(|x| x.leaky(alpha)).collect()
        }
        (Op::Gelu, [x]) => x.data.iter().map(|&x| normal::gelu(x)).collect(),
        (Op::Softmax { axis }, [x]) => normal::softmax(x, *axis),
        (Op::CausalSoftmax, [x]) => normal::causal_softmax(x),
        (Op::LayerNormalization { epsilon, .. }, [x, scale, bias]) => {
            normal::layer_normalization(x, [&scale.data, &bias.data], *epsilon)
        }
        (Op::GroupNormalization { groups, epsilon }, [x, scale, bias]) => {
            normal::group_normalization(x, [&scale.data, &bias.data], *groups, *epsilon)
        }
        (Op::Embedding { .. }, [ids, table]) => {
            normal::embedding(ids, table).map_err(|why| misfit(&node.name, node.op.name(), &why))?
        }
        (Op::BatchNormalization { epsilon }, [x, a, b, c, d]) => {
            normal::batch_normalization(x, [&a.data, &b.data, &c.data, &d.data], *epsilon)
        }
        (Op::Conv(window) | Op::ConvTranspose { window, .. }, [x, w, rest @ ..]) => {
            let transposed = matches!(node.op, Op::ConvTranspose { .. });
            window::convolve(window, transposed, [x, w], rest.first().map(|bias| &bias.data[..]), out)
        }
        (Op::MaxPool { kernel, window }, [x]) => window::max_pool(window, *kernel, x, out),
        (Op::AveragePool { kernel, window, count_include_pad }, [x]) => {
            window::average_pool(window, *kernel, *count_include_pad, x, out)
        }
        (Op::Pad { pads, value }, [x]) => layout::pad(x, pads, *value, out),
        (Op::Transpose { perm }, [x]) => layout::select(x, &transpose_index(&x.shape, perm)),
        (Op::Concat { axis }, operands) => layout::concat(operands, *axis),
        (Op::Select { indices }, [x]) => layout::select(x, indices),
        (Op::Reshape | Op::Dropout { .. }, [x]) => x.data.clone(),
        (Op::Add, [a, b]) => elementwise(a, b, out, T::add),
        (Op::Sub, [a, b]) => elementwise(a, b, out, T::sub),
        (Op::Mul, [a, b]) => elementwise(a, b, out, T::mul),
        (Op::Div, [a, b]) => elementwise(a, b, out, T::div),
        (Op::MatMul, [a, b]) => matmul(a, b).map_err(|why| misfit(&node.name, node.op.name(), &why))?,
        (Op::Gemm { .. }, [a, b, rest @ ..]) => {
            gemm(&node.op, a, b, rest.first()).map_err(|why| misfit(&node.name, node.op.name(), &why))?
        }
        (op, _) => return Err(misfit(&node.name, op.name(), "wrong number of operands")),
    };
    match data.iter().position(|x| !x.is_finite()) {
        None => Ok(Tensor { shape: out.to_vec(), data }),
        Some(i) => Err(Error::unsupported(format!(
            "node '{}' ({}): element {i} of its result is not finite (overflow or division by zero)",
            node.name,
            node.op.name()
        ))
        .with_help("check the input's magnitude and the network's divisors")),
    }
}

fn elementwise<T: Scalar>(a: &Tensor<T>, b: &Tensor<T>, out: &[usize], op: impl Fn(T, T) -> T) -> Vec<T> {
    let (a, b) = (a.broadcast_to(out), b.broadcast_to(out));
    a.into_iter().zip(b).map(|(a, b)| op(a, b)).collect()
}

fn matmul<T: Scalar>(a: &Tensor<T>, b: &Tensor<T>) -> Result<Vec<T>, String> {
    let shape = shape::matmul(&a.shape, &b.shape)?;
    let [m, k, n] = [shape.m, shape.k, shape.n];
    let stacks_a = broadcast_index(&shape.batch_a, &shape.batch);
    let stacks_b = broadcast_index(&shape.batch_b, &shape.batch);
    let mut out = Vec::with_capacity(stacks_a.len() * m * n);
    for (at_a, at_b) in stacks_a.into_iter().zip(stacks_b) {
        let a = &a.data[at_a * m * k..][..m * k];
        let b = &b.data[at_b * k * n..][..k * n];
        out.extend(product((a, false), (b, false), [m, k, n]));
    }
    Ok(out)
}

fn gemm<T: Scalar>(op: &Op, a: &Tensor<T>, b: &Tensor<T>, c: Option<&Cow<'_, Tensor<T>>>) -> Result<Vec<T>, String> {
    let &Op::Gemm { alpha, beta, trans_a, trans_b } = op else {
        return Err("is not a Gemm".to_owned());
    };
    let c_shape = c.map(|c| c.shape.as_slice());
    let dims = shape::gemm(&a.shape, &b.shape, c_shape, trans_a, trans_b)?;
    let mut out = product((&a.data, trans_a), (&b.data, trans_b), dims);
    scale(&mut out, alpha);
    if let Some(c) = c {
        let mut c = c.broadcast_to(&[dims[0], dims[2]]);
        scale(&mut c, beta);
        for (out, c) in out.iter_mut().zip(c) {
            *out = out.add(c);
        }
    }
    Ok(out)
}

fn scale<T: Scalar>(data: &mut [T], factor: f32) {
    if factor != 1.0 {
        let factor = T::exact(f64::from(factor));
        data.iter_mut().for_each(|x| *x = x.mul(factor));
    }
}

/// The product of an m x k and a k x n matrix, each with the flag that it is stored transposed.
fn product<T: Scalar>((a, trans_a): (&[T], bool), (b, trans_b): (&[T], bool), dims: [usize; 3]) -> Vec<T> {
    let [m, k, n] = dims;
    let mut out = vec![T::ZERO; m * n];
    for i in 0..m {
        let row = &mut out[i * n..(i + 1) * n];
        let a = |l: usize| if trans_a { a[l * m + i] } else { a[i * k + l] };
        // Both orders of the loops add in ascending k; each walks `b` as it is stored.
        if trans_b {
            for (j, out) in row.iter_mut().enumerate() {
                let products = b[j * k..(j + 1) * k].iter().enumerate();
                *out = products
                    .map(|(l, &b)| (a(l), b))
                    .filter(|(a, _)| !a.is_zero())
                    .fold(T::ZERO, |sum, (a, b)| sum.add(a.mul(b)));
            }
            continue;
        }
        for l in 0..k {
            let a = a(l);
            if a.is_zero() {
                continue;
            }
            for (out, &b) in row.iter_mut().zip(&b[l * n..(l + 1) * n]) {
                *out = out.add(a.mul(b));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
