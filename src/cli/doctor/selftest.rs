//! Operators on small shapes against f64 on the CPU, and one verification from end to end.
//!
//! Bounds follow WGSL's promise: every operation returns a neighbour of the exact result (u = 2^-23; a quotient is within
//! 2.5 units in the last place), sums may be taken in any order.

use serde::Serialize;
use wavehull::gpu::{Control, Recording};
use wavehull::graph::{Graph, Node, Op, Value, ValueId};
use wavehull::ops::elementwise::{self, Binary, Unary};
use wavehull::ops::matmul::{self, Matmul};
use wavehull::ops::reduce::{self, Reduction};
use wavehull::ops::{row_compact, transpose};
use wavehull::verify::check::check;
use wavehull::verify::proof::Proof;
use wavehull::verify::{InputBox, Property, Query, Row, Verdict, Verifier, VerifyOptions};
use wavehull::{Error, ErrorKind, Gpu, Result, Tensor};

use crate::cli::Global;

/// The unit roundoff of WGSL.
const U: f64 = 1.0 / (1_u64 << 23) as f64;

/// One self-test.
#[derive(Debug, Serialize)]
pub struct Test {
    /// The operator, or `verify` for the whole path.
    pub name: &'static str,
    /// `trusted` or `checked`.
    pub mode: &'static str,
    /// Results that were compared.
    pub cases: usize,
    /// The largest error as a share of what is allowed, where results are rounded.
    pub worst: Option<f64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// An error with its causes in one line.
pub fn full_text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string().split_whitespace().collect::<Vec<_>>().join(" "));
        next = cause.source();
    }
    text
}

/// Results compared, and the largest error as a share of what is allowed.
struct Compared {
    cases: usize,
    worst: Option<f64>,
}

/// Runs all tests on a device.
///
/// # Errors
/// [`ErrorKind::Cancelled`]; whatever else goes wrong is a failed test.
pub fn run(gpu: &Gpu, mode: &'static str, global: &Global) -> Result<Vec<Test>> {
    type Run = fn(&Gpu, &Control) -> Result<Compared>;
    let all: [(&'static str, Run); 6] = [
        ("matmul", products),
        ("elementwise", elementwise_all),
        ("reduce", reductions),
        ("transpose", transposed),
        ("row_compact", compacted),
        ("verify", end_to_end),
    ];
    let mut tests = Vec::new();
    for (name, run) in all {
        let (cases, worst, error) = match run(gpu, &global.control()) {
            Ok(compared) => (compared.cases, compared.worst, None),
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => (0, None, Some(full_text(&error))),
        };
        tests.push(Test { name, mode, cases, worst, error });
    }
    Ok(tests)
}

/// Compares results with what they should be and the error they may have; NaN is an error.
fn compare(what: &str, got: &[f32], want: &[(f64, f64)]) -> Result<f64> {
    if got.len() != want.len() {
        return Err(Error::internal(format!("{what}: {} results instead of {}", got.len(), want.len())));
    }
    let mut worst = 0.0_f64;
    for (index, (&got, &(want, allowed))) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs();
        let share = if error == 0.0 { 0.0 } else { error / allowed };
        // False for NaN.
        let within = share <= 1.0;
        if !within {
            return Err(Error::internal(format!("{what}: result {index} is {got}, f64 says {want} within {allowed}")));
        }
        worst = worst.max(share);
    }
    Ok(worst)
}

/// Numbers in [-1, 1) from a linear congruential generator (Knuth's MMIX constants).
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn read(gpu: &Gpu, mut recording: Recording, tensor: &Tensor, control: &Control) -> Result<Vec<f32>> {
    let ticket = tensor.record_read(&mut recording);
    let mut output = gpu.run(&recording, control)?;
    Ok(tensor.take(&mut output, ticket))
}

fn products(gpu: &Gpu, control: &Control) -> Result<Compared> {
    let (m, k, n) = (21, 150, 35);
    let (a, b, bias) = (noise(m * k, 1), noise(k * n, 2), noise(n, 3));
    let mut worst = 0.0_f64;
    for (trans_a, trans_b) in [(false, false), (true, false), (false, true), (true, true)] {
        let shape = |flip: bool, rows, columns| if flip { [columns, rows] } else { [rows, columns] };
        let at = |flip: bool, rows: usize, columns: usize, i: usize, j: usize| {
            if flip { j * rows + i } else { i * columns + j }
        };
        let want = (0..m * n).map(|index| {
            let (i, j) = (index / n, index % n);
            let terms = (0..k).map(|l| f64::from(a[at(trans_a, m, k, i, l)]) * f64::from(b[at(trans_b, k, n, l, j)]));
            let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()));
            let du = (matmul::depth(k, k) + 1) as f64 * U;
            let (value, size) = (sum + f64::from(bias[j]), size + f64::from(bias[j].abs()));
            (value.max(0.0), du / (1.0 - du) * size)
        });
        let want: Vec<(f64, f64)> = want.collect();
        let left = Tensor::from_slice(gpu, &shape(trans_a, m, k), &a)?;
        let right = Tensor::from_slice(gpu, &shape(trans_b, k, n), &b)?;
        let bias = Tensor::from_slice(gpu, &[n], &bias)?;
        let out = Tensor::uninit(gpu, &[m, n])?;
        let mut recording = Recording::new();
        let product = Matmul { trans_a, trans_b, bias: Some(&bias), relu: true, ..Matmul::default() };
        product.record(&mut recording, gpu.caps(), &left, &right, &out)?;
        worst = worst.max(compare("matmul", &read(gpu, recording, &out, control)?, &want)?);
    }
    Ok(Compared { cases: 4 * m * n, worst: Some(worst) })
}

fn elementwise_all(gpu: &Gpu, control: &Control) -> Result<Compared> {
    let (rows, columns) = (7, 13);
    let x = noise(rows * columns, 4);
    // Away from 0, so that quotients stay small.
    let y: Vec<f32> = noise(columns, 5).iter().map(|v| v + v.signum() * 0.25).collect();
    let left = Tensor::from_slice(gpu, &[rows, columns], &x)?;
    let right = Tensor::from_slice(gpu, &[columns], &y)?;
    let out = Tensor::uninit(gpu, &[rows, columns])?;
    let mut worst = 0.0_f64;
    for op in Binary::ALL {
        let mut recording = Recording::new();
        elementwise::binary(&mut recording, gpu.caps(), op, &left, &right, &out)?;
        let want = x.iter().enumerate().map(|(i, &x)| {
            let (x, y) = (f64::from(x), f64::from(y[i % columns]));
            let logistic = |y: f64| 1.0 / (1.0 + (-y).exp());
            let value = match op {
                Binary::Add => x + y,
                Binary::Sub => x - y,
                Binary::Mul => x * y,
                Binary::Div => x / y,
                Binary::ReluGradient => {
                    if y > 0.0 {
                        x
                    } else {
                        0.0
                    }
                }
                Binary::LeakyReluGradient(alpha) => x * if y > 0.0 { 1.0 } else { f64::from(alpha) },
                Binary::SigmoidGradient => x * y * (1.0 - y),
                Binary::TanhGradient => x * (1.0 - y * y),
                Binary::SoftplusGradient => x * logistic(y),
                Binary::SiluGradient => x * logistic(y) * (1.0 + y * (1.0 - logistic(y))),
                Binary::GeluGradient => {
                    let (c, d) = ((8.0 / std::f64::consts::PI).sqrt(), 0.044_715);
                    let s = logistic(c * (y + d * y.powi(3)));
                    x * s * (1.0 + y * (1.0 - s) * c * (1.0 + 3.0 * d * y * y))
                }
            };
            let tolerance = match op {
                Binary::ReluGradient => 0.0,
                Binary::Add | Binary::Sub | Binary::Mul | Binary::Div => 3.0 * U * value.abs(),
                // Arguments are below 1.3; what cancels is of the size of x.
                _ => 24.0 * U * x.abs(),
            };
            (value, tolerance)
        });
        let got = read(gpu, recording, &out, control)?;
        worst = worst.max(compare("elementwise", &got, &want.collect::<Vec<_>>())?);
    }
    for op in Unary::ALL {
        let mut recording = Recording::new();
        elementwise::unary(&mut recording, gpu.caps(), op, &left, &out)?;
        // Arguments are below 1: WGSL's exp is off by at most 5 ulp, what is made of it by a few more.
        let want = x.iter().map(|&x| f64::from(x)).map(|x| match op {
            Unary::Relu => (x.max(0.0), 0.0),
            Unary::Neg => (-x, 0.0),
            Unary::Abs => (x.abs(), 0.0),
            Unary::Exp => (x.exp(), 6.0 * U * x.exp()),
            Unary::Sigmoid => (1.0 / (1.0 + (-x).exp()), 6.0 * U),
            Unary::Tanh => (x.tanh(), 8.0 * U),
            Unary::LeakyRelu(alpha) => (if x > 0.0 { x } else { f64::from(alpha) * x }, U * x.abs()),
            Unary::Scale(s) => (f64::from(s) * x, U * x.abs()),
            Unary::Silu => (x / (1.0 + (-x).exp()), 12.0 * U),
            Unary::Softplus => (x.exp().ln_1p(), 12.0 * U),
            Unary::Gelu => {
                let t = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                (0.5 * x * (1.0 + t.tanh()), 12.0 * U)
            }
        });
        compare("elementwise", &read(gpu, recording, &out, control)?, &want.collect::<Vec<_>>())?;
    }
    Ok(Compared { cases: (Binary::ALL.len() + Unary::ALL.len()) * rows * columns, worst: Some(worst) })
}

fn reductions(gpu: &Gpu, control: &Control) -> Result<Compared> {
    let (rows, n) = (5, 301);
    let x = noise(rows * n, 6);
    let input = Tensor::from_slice(gpu, &[rows, n], &x)?;
    let out = Tensor::uninit(gpu, &[rows])?;
    let mut worst = 0.0_f64;
    for reduction in Reduction::ALL {
        let mut recording = Recording::new();
        reduce::record(&mut recording, gpu.caps(), reduction, &input, &out)?;
        let want = x.chunks(n).map(|row| {
            let row = || row.iter().map(|&v| f64::from(v));
            let size: f64 = row().map(f64::abs).sum();
            let allowed = reduce::depth(n) as f64 * U * size;
            match reduction {
                Reduction::Sum => (row().sum(), allowed),
                Reduction::AbsSum => (size, allowed),
                Reduction::Max => (row().fold(f64::MIN, f64::max), 0.0),
                Reduction::Min => (row().fold(f64::MAX, f64::min), 0.0),
            }
        });
        let got = read(gpu, recording, &out, control)?;
        worst = worst.max(compare("reduce", &got, &want.collect::<Vec<_>>())?);
    }
    Ok(Compared { cases: Reduction::ALL.len() * rows, worst: Some(worst) })
}

fn transposed(gpu: &Gpu, control: &Control) -> Result<Compared> {
    let (m, n) = (37, 50);
    let x = noise(m * n, 7);
    let input = Tensor::from_slice(gpu, &[m, n], &x)?;
    let out = Tensor::uninit(gpu, &[n, m])?;
    let mut recording = Recording::new();
    transpose::record(&mut recording, &input, &out)?;
    let want: Vec<(f64, f64)> = (0..m * n).map(|i| (f64::from(x[i % m * n + i / m]), 0.0)).collect();
    let worst = compare("transpose", &read(gpu, recording, &out, control)?, &want)?;
    Ok(Compared { cases: m * n, worst: Some(worst) })
}

fn compacted(gpu: &Gpu, control: &Control) -> Result<Compared> {
    let (segments, n) = (3, 333);
    let bits: Vec<u32> = noise(segments * n, 8).iter().map(|&v| u32::from(v > 0.2)).collect();
    let flags = Tensor::from_slice(gpu, &[segments, n], &bits)?;
    let list = Tensor::<u32>::uninit(gpu, &[segments, n])?;
    let count = Tensor::<u32>::uninit(gpu, &[segments])?;
    let mut recording = Recording::new();
    row_compact::record(&mut recording, gpu.caps(), &flags, &list, &count)?;
    let tickets = (list.record_read(&mut recording), count.record_read(&mut recording));
    let mut output = gpu.run(&recording, control)?;
    let (lists, counts) = (list.take(&mut output, tickets.0), count.take(&mut output, tickets.1));
    for (segment, (bits, got)) in bits.chunks(n).zip(lists.chunks(n)).enumerate() {
        let want: Vec<u32> = (0..).zip(bits).filter(|&(_, &bit)| bit != 0).map(|(i, _)| i).collect();
        let length = counts.get(segment).map(|&c| c as usize);
        if length != Some(want.len()) || got.get(..want.len()) != Some(&want[..]) {
            return Err(Error::internal(format!("row_compact: segment {segment} has another list than the CPU's")));
        }
    }
    Ok(Compared { cases: segments * n, worst: Some(0.0) })
}

/// A property that holds, with its proof checked on the CPU, and one that does not.
fn end_to_end(gpu: &Gpu, control: &Control) -> Result<Compared> {
    let graph = absolute_values();
    let mut options = VerifyOptions::default();
    options.proofs = true;
    let verifier = Verifier::new(gpu, &graph, options)?;
    let holds = property(vec![(0, -1.0), (1, 1.0)], 0.0);
    let violated = property(vec![(0, -1.0)], 1.0);
    let outcomes = verifier.verify(&[&holds, &violated], control)?;
    let verdicts: Vec<&Verdict> = outcomes.iter().map(|o| &o.verdict).collect();
    if !matches!(verdicts[..], [Verdict::Holds, Verdict::Violated(_)]) {
        return Err(Error::internal(format!(
            "verify: one property that holds and one that does not gave {verdicts:?}"
        )));
    }
    let Some(queries) = outcomes.into_iter().next().and_then(|o| o.proof) else {
        return Err(Error::internal("verify: what holds came without a proof"));
    };
    let digest = "0".repeat(64);
    check(&Proof::new(&*digest, &*digest, "strict", queries), &graph, &digest, &holds, &digest)?;
    Ok(Compared { cases: 2, worst: None })
}

/// `Y_0 = |X_0| + |X_1|`, `Y_1 = 3`, as a network of two layers.
fn absolute_values() -> Graph {
    let constant = |name: &str, shape: &[usize], data: &[f32]| Value {
        name: name.to_owned(),
        shape: shape.to_vec(),
        constant: ndarray::ArrayD::from_shape_vec(shape, data.to_vec()).ok().map(Into::into),
    };
    let open = |name: &str, width| Value { name: name.to_owned(), shape: vec![1, width], constant: None };
    let values = vec![
        open("x", 2),
        constant("w1", &[2, 4], &[1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0, -1.0]),
        open("z", 4),
        open("h", 4),
        constant("w2", &[4, 2], &[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]),
        constant("b2", &[2], &[0.0, 3.0]),
        open("s", 2),
        open("y", 2),
    ];
    let node = |name: &str, op, inputs: &[usize], output| Node {
        name: name.to_owned(),
        op,
        inputs: inputs.iter().map(|&i| ValueId(i)).collect(),
        output: ValueId(output),
    };
    let nodes = vec![
        node("first", Op::MatMul, &[0, 1], 2),
        node("relu", Op::Relu, &[2], 3),
        node("second", Op::MatMul, &[3, 4], 6),
        node("bias", Op::Add, &[6, 5], 7),
    ];
    Graph { name: "absolute values".to_owned(), values, nodes, input: ValueId(0), output: ValueId(7) }
}

/// Violated if the row is at most 0 somewhere in [-1, 1]^2.
fn property(coefficients: Vec<(usize, f64)>, constant: f64) -> Property {
    let (lo, hi) = (vec![-1.0; 2], vec![1.0; 2]);
    let input = InputBox { lo_out: lo.clone(), hi_out: hi.clone(), lo, hi };
    let row = Row { coefficients, constant, slop: 0.0, coefficient_rel: 0.0, strict: false };
    Property { inputs: 2, outputs: 2, queries: vec![Query { input, unsafe_if: vec![vec![row]] }] }
}
