//! Evaluation on the CPU in `f64`: the oracle of every other evaluator, and the judge of counterexamples.
//!
//! Written for plainness, not for speed. The weights are the file's `f32` numbers, which `f64` holds exactly; the
//! network is taken as a function on real numbers. Every dot product runs in ascending k. The same code runs on
//! plain `f64` and on `f64` with a rigorous error bound ([`Bounded`]).

use super::bounded::Bounded;
use super::shape::{self, broadcast_index, misfit};
use super::{Graph, Node, Op, Value};
use crate::error::{Error, Result};
use ndarray::ArrayD;
use std::borrow::Cow;

/// The numbers that a network can be evaluated on.
pub(super) trait Scalar: Copy {
    const ZERO: Self;
    fn exact(x: f64) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn relu(self) -> Self;
    /// Exactly zero, so that its products may be left out.
    fn is_zero(self) -> bool;
    fn is_finite(self) -> bool;
}

impl Scalar for f64 {
    const ZERO: Self = 0.0;
    fn exact(x: f64) -> Self {
        x
    }
    fn add(self, other: Self) -> Self {
        self + other
    }
    fn sub(self, other: Self) -> Self {
        self - other
    }
    fn mul(self, other: Self) -> Self {
        self * other
    }
    fn div(self, other: Self) -> Self {
        self / other
    }
    fn relu(self) -> Self {
        // Not `max`, which would hide a NaN.
        if self < 0.0 { 0.0 } else { self }
    }
    fn is_zero(self) -> bool {
        self == 0.0
    }
    fn is_finite(self) -> bool {
        f64::is_finite(self)
    }
}

impl Scalar for Bounded {
    const ZERO: Self = Self::ZERO;
    fn exact(x: f64) -> Self {
        Self::exact(x)
    }
    fn add(self, other: Self) -> Self {
        Self::add(self, other)
    }
    fn sub(self, other: Self) -> Self {
        Self::sub(self, other)
    }
    fn mul(self, other: Self) -> Self {
        Self::mul(self, other)
    }
    fn div(self, other: Self) -> Self {
        Self::div(self, other)
    }
    fn relu(self) -> Self {
        Self::relu(self)
    }
    fn is_zero(self) -> bool {
        self.is_exact_zero()
    }
    fn is_finite(self) -> bool {
        Self::is_finite(self)
    }
}

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
    /// running error analysis (Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.3).
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
        (Op::Reshape, [x]) => x.data.clone(),
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
mod tests {
    use crate::graph::testing::{Random, Sketch, gemm};
    use crate::graph::{Graph, Op};

    /// Fraction bits of the exact oracle: inputs have 52, each of two layers of weights adds 23.
    const BITS: i32 = 98;

    /// An `f64` as an integer times 2^-98; cut off below that, which is far below every rounding here.
    fn fixed(x: f64) -> i128 {
        let bits = x.to_bits();
        let exponent = i32::try_from(bits >> 52 & 0x7ff).unwrap();
        let mantissa = i128::from(bits & ((1 << 52) - 1) | u64::from(exponent > 0) << 52);
        let shift = exponent.max(1) - 1075 + BITS;
        let magnitude = if shift >= 0 { mantissa << shift } else { mantissa >> (-shift).min(127) };
        if x < 0.0 { -magnitude } else { magnitude }
    }

    /// A ReLU network 6 -> 9 -> 4 with weights that are multiples of 2^-23, and those multiples.
    fn network(random: &mut Random) -> (Graph, [Vec<i128>; 2]) {
        let mut sketch = Sketch::new(&[1, 6]);
        let weights =
            [54, 36].map(|n| (0..n).map(|_| i128::from(random.bits() % (1 << 24)) - (1 << 23)).collect::<Vec<_>>());
        let [first, second] =
            weights.each_ref().map(|w| w.iter().map(|&w| w as f32 / (1 << 23) as f32).collect::<Vec<_>>());
        let (input, first) = (sketch.graph.input, sketch.constant(&[9, 6], &first));
        let hidden = sketch.node(gemm(false, true), &[input, first]);
        let hidden = sketch.node(Op::Relu, &[hidden]);
        let second = sketch.constant(&[9, 4], &second);
        sketch.node(Op::MatMul, &[hidden, second]);
        (sketch.graph, weights)
    }

    /// The exact result, times 2^98.
    fn exact([first, second]: &[Vec<i128>; 2], input: &[i128]) -> Vec<i128> {
        let dot = |j: usize| (0..6).map(|l| first[j * 6 + l] * input[l]).sum::<i128>().max(0);
        let hidden: Vec<i128> = (0..9).map(dot).collect();
        (0..4).map(|i| (0..9).map(|j| second[j * 4 + i] * hidden[j]).sum()).collect()
    }

    #[test]
    fn bounds_enclose_the_exact_result_and_are_tight() {
        let mut random = Random::new(3);
        let mut tight = 0;
        for _ in 0..200 {
            let (graph, weights) = network(&mut random);
            let input: Vec<i128> = (0..6).map(|_| i128::from(random.bits() >> 11) - (1 << 52)).collect();
            let point: Vec<f64> = input.iter().map(|&x| x as f64 / (1u64 << 52) as f64).collect();
            let plain = graph.eval_f64(&point).unwrap();
            let bounded = graph.eval_f64_bounded(&point).unwrap();
            for ((&(value, bound), plain), exact) in bounded.iter().zip(plain).zip(exact(&weights, &input)) {
                assert_eq!(value, plain);
                let distance = (fixed(value) - exact).abs();
                assert!(distance <= fixed(bound) + 1, "{value} +- {bound} misses by {distance}");
                assert!(bound < 1e-14, "a bound of {bound} says nothing");
                tight += usize::from(distance > fixed(bound / 8.0));
            }
        }
        // A bound that forgot its terms would be exceeded; one that was far too large would never come close.
        assert!(tight > 100, "only {tight} of 800 errors come near their bounds");
    }

    #[test]
    fn a_network_without_rounding_has_the_bound_zero() {
        let mut sketch = Sketch::new(&[2]);
        let input = sketch.graph.input;
        let weight = sketch.constant(&[2, 2], &[0.5, -3.0, 2.0, 0.25]);
        let product = sketch.node(Op::MatMul, &[input, weight]);
        sketch.node(Op::Relu, &[product]);
        let output = sketch.graph.eval_f64_bounded(&[1.5, -2.0]).unwrap();
        assert_eq!(output, [(0.0, 0.0), (0.0, 0.0)]);
        let output = sketch.graph.eval_f64_bounded(&[2.0, 1.0]).unwrap();
        assert_eq!(output, [(3.0, 0.0), (0.0, 0.0)]);
    }

    #[test]
    fn stacks_of_matrices_broadcast() {
        let mut sketch = Sketch::new(&[2, 1, 1, 2]);
        let input = sketch.graph.input;
        let right = sketch.constant(&[2, 2, 1], &[1.0, 10.0, 100.0, 1000.0]);
        sketch.node(Op::MatMul, &[input, right]);
        let output = sketch.graph.eval_f64(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(output, [21.0, 2100.0, 43.0, 4300.0]);
    }

    #[test]
    fn bad_inputs_and_overflow_are_errors() {
        let mut sketch = Sketch::new(&[2]);
        let input = sketch.graph.input;
        let zero = sketch.constant(&[1], &[0.0]);
        sketch.node(Op::Div, &[input, zero]);
        let message = |point: &[f64]| sketch.graph.eval_f64(point).unwrap_err().to_string();
        assert!(message(&[1.0]).contains("1 numbers where the network takes 2"));
        assert!(message(&[1.0, f64::NAN]).contains("input 1"));
        assert!(message(&[1.0, 2.0]).contains("'n0' (Div): element 0"));
        assert!(sketch.graph.eval_f64_bounded(&[1.0, 2.0]).is_err());
    }

    #[test]
    fn malformed_graphs_are_errors() {
        let mut random = Random::new(1);
        let (graph, _) = network(&mut random);
        let point = [0.0; 6];
        let mut disordered = graph.clone();
        disordered.nodes.swap(0, 1);
        assert!(disordered.eval_f64(&point).unwrap_err().to_string().contains("not known yet"));
        let mut dangling = graph.clone();
        dangling.nodes[1].inputs[0].0 = 99;
        assert!(dangling.eval_f64(&point).unwrap_err().to_string().contains("no value 99"));
        let mut misshapen = graph.clone();
        misshapen.values[2].shape = vec![9, 1];
        assert!(misshapen.eval_f64(&point).unwrap_err().to_string().contains("[9, 1]"));
        let mut short = graph.clone();
        short.nodes[0].inputs.pop();
        assert!(short.eval_f64(&point).unwrap_err().to_string().contains("1 operands"));
        let mut headless = graph;
        headless.output.0 = 99;
        assert!(headless.eval_f64(&point).is_err());
    }
}
