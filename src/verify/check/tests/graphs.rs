//! The checker's own reading of graphs: what a node means, and what is refused.

use super::nets::{Builder, Random};
use super::*;
use crate::graph::Op;
use crate::graph::ValueId;
use ndarray::{Array1, Array2, ArrayD, Ix2, IxDyn, array};

/// Demands that a network maps a point to given values; over a point, bounds are values but for rounding.
fn maps(builder: &Builder, input: &[f64], expected: impl IntoIterator<Item = f64>) {
    let network = Network::new(&builder.graph).unwrap_or_else(|e| panic!("{e}"));
    let mut region = Region::new(&network, Rounding::IEEE, Span::new(input.to_vec(), input.to_vec()));
    for (step, &width) in network.steps.iter().zip(&network.widths) {
        region.forward(&vec![0.5; if matches!(step, Step::Relu) { width } else { 0 }]).unwrap();
    }
    // Slopes of another width must not be taken for these.
    assert!(region.forward(&[0.5]).is_err());
    let expected: Vec<f64> = expected.into_iter().collect();
    let output = region.spans.last().unwrap();
    assert_eq!(output.lo.len(), expected.len());
    for ((l, h), e) in output.lo.iter().zip(&output.hi).zip(&expected) {
        assert!(l <= e && e <= h && h - l < 1e-12, "{e} is not in [{l}, {h}] of {:?}", builder.graph.nodes);
    }
    // The walk back must agree with the way forward.
    let all: Vec<usize> = (0..expected.len()).collect();
    let walked = region.lower_bounds(Form::plus_and_minus(&all, expected.len())).unwrap();
    for (i, e) in expected.iter().enumerate() {
        assert!((walked[i] - e).abs() < 1e-12 && (walked[expected.len() + i] + e).abs() < 1e-12, "{walked:?}");
    }
}

/// Small multiples of 1/4, so that expected values are exact.
fn quarters(len: usize, random: &mut Random) -> Vec<f32> {
    (0..len).map(|_| random.below(33) as f32 / 4.0 - 4.0).collect()
}

fn matrix(shape: (usize, usize), data: &[f32]) -> Array2<f64> {
    Array2::from_shape_vec(shape, data.iter().map(|&x| f64::from(x)).collect()).unwrap()
}

#[test]
fn gemm_in_all_orientations() {
    let mut random = Random(1);
    // A computed value of 2 x 3 or 3 x 2 on either side.
    for (trans_a, trans_b, computed_left) in [0, 1, 2, 3, 4, 5, 6, 7].map(|i| (i & 1 > 0, i & 2 > 0, i & 4 > 0)) {
        let (x, w, bias) = (quarters(6, &mut random), quarters(12, &mut random), quarters(4, &mut random));
        // op(A) op(B) is [2, 3] [3, 4] or [4, 3] [3, 2].
        let (a, b) = if computed_left { ((2, 3), (3, 4)) } else { ((4, 3), (3, 2)) };
        let stored = |(r, c): (usize, usize), trans: bool| if trans { (c, r) } else { (r, c) };
        let (a_shape, b_shape) = (stored(a, trans_a), stored(b, trans_b));
        let (x_shape, w_shape) = if computed_left { (a_shape, b_shape) } else { (b_shape, a_shape) };
        let mut builder = Builder::new(&[x_shape.0, x_shape.1]);
        let weight = builder.constant(&[w_shape.0, w_shape.1], &w);
        let bias_shape: &[usize] = if computed_left { &[4] } else { &[4, 1] };
        let c = builder.constant(bias_shape, &bias);
        let (left, right) = if computed_left { (ValueId(0), weight) } else { (weight, ValueId(0)) };
        let op = Op::Gemm { alpha: 0.5, beta: -2.0, trans_a, trans_b };
        builder.node(op, vec![left, right, c], &[a.0, b.1]);

        let (x_matrix, w_matrix) = (matrix(x_shape, &x), matrix(w_shape, &w));
        let (left, right) = if computed_left { (x_matrix, w_matrix) } else { (w_matrix, x_matrix) };
        let left = if trans_a { left.reversed_axes() } else { left };
        let right = if trans_b { right.reversed_axes() } else { right };
        let bias = ArrayD::from_shape_vec(IxDyn(bias_shape), bias.iter().map(|&b| f64::from(b)).collect()).unwrap();
        let expected = 0.5 * left.dot(&right) - 2.0 * bias.broadcast((a.0, b.1)).unwrap().to_owned();
        let input: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        maps(&builder, &input, expected.into_dimensionality::<Ix2>().unwrap().iter().copied());
    }
}

#[test]
fn products_of_vectors_and_of_stacked_rows() {
    let mut random = Random(2);
    let w = quarters(12, &mut random);
    let input = [1.0, -2.0, 0.5];
    let x: Array1<f64> = array![1.0, -2.0, 0.5];
    let by_columns = x.dot(&matrix((3, 4), &w));
    let by_rows = matrix((4, 3), &w).dot(&x);
    // A vector or rows on the left, with and without leading dimensions.
    for shape in [&[3][..], &[1, 3], &[1, 1, 3]] {
        let mut builder = Builder::new(shape);
        let c = builder.constant(&[3, 4], &w);
        let output = [&shape[..shape.len() - 1], &[4]].concat();
        builder.node(Op::MatMul, vec![ValueId(0), c], &output);
        maps(&builder, &input, by_columns.iter().copied());
    }
    // A vector or a column on the right.
    for (shape, output) in [(&[3][..], &[4][..]), (&[3, 1], &[4, 1]), (&[1, 3, 1], &[1, 4, 1])] {
        let mut builder = Builder::new(shape);
        let c = builder.constant(&[4, 3], &w);
        builder.node(Op::MatMul, vec![c, ValueId(0)], output);
        maps(&builder, &input, by_rows.iter().copied());
    }
    // Two vectors make a number.
    let mut builder = Builder::new(&[3]);
    let c = builder.constant(&[3], &w[..3]);
    builder.node(Op::MatMul, vec![ValueId(0), c], &[]);
    maps(&builder, &input, x.dot(&matrix((3, 1), &w[..3])));
    // Two rows on the left: each by the matrix.
    let mut builder = Builder::new(&[1, 2, 3]);
    let c = builder.constant(&[1, 3, 4], &w);
    builder.node(Op::MatMul, vec![ValueId(0), c], &[1, 2, 4]);
    let two = matrix((2, 3), &[1.0, -2.0, 0.5, 3.0, 0.25, -1.0]);
    maps(&builder, &[1.0, -2.0, 0.5, 3.0, 0.25, -1.0], two.dot(&matrix((3, 4), &w)));
}

#[test]
fn elementwise_constants_on_both_sides() {
    let input = [1.0, -2.0, 0.5, 3.0];
    let with = |op: Op, shape: &[usize], data: &[f32], reversed: bool| {
        let mut builder = Builder::new(&[2, 2]);
        let c = builder.constant(shape, data);
        let inputs = if reversed { vec![c, ValueId(0)] } else { vec![ValueId(0), c] };
        builder.node(op, inputs, &[2, 2]);
        builder
    };
    maps(&with(Op::Add, &[2], &[1.0, 2.0], false), &input, [2.0, 0.0, 1.5, 5.0]);
    maps(&with(Op::Add, &[], &[1.0], true), &input, [2.0, -1.0, 1.5, 4.0]);
    maps(&with(Op::Sub, &[2, 1], &[1.0, 2.0], false), &input, [0.0, -3.0, -1.5, 1.0]);
    maps(&with(Op::Sub, &[1, 1, 1, 2], &[1.0, 2.0], true), &input, [0.0, 4.0, 0.5, -1.0]);
    maps(&with(Op::Mul, &[2, 2], &[1.0, 2.0, -4.0, 0.0], true), &input, [1.0, -4.0, -2.0, 0.0]);
    maps(&with(Op::Div, &[2], &[-2.0, 4.0], false), &input, [-0.5, -0.5, -0.25, 0.75]);
}

#[test]
fn layers_in_a_row_with_reshapes() {
    let mut builder = Builder::new(&[1, 1, 2, 2]);
    builder.then(Op::Sub, &[1, 1, 1, 1], &[0.5]);
    builder.node(Op::Reshape, vec![builder.graph.output], &[1, 4]);
    builder.then(Op::Relu, &[], &[]);
    builder.gemm(&[vec![1.0, 2.0, 3.0, 4.0], vec![-1.0, 0.0, 0.0, 1.0]], &[0.25, -3.0]);
    builder.then(Op::Relu, &[], &[]);
    maps(&builder, &[1.0, -2.0, 0.5, 3.0], [10.75, 0.0]);
    assert_eq!(Network::new(&builder.graph).unwrap().relu_widths(), [4, 2]);
}

/// What the checker cannot re-derive it must refuse, never guess.
#[test]
fn refuses_graphs_that_it_cannot_re_derive() {
    let kind = |builder: &Builder| {
        let error = Network::new(&builder.graph).expect_err("the graph must be refused");
        assert!(error.help().is_some(), "{error}");
        error.kind()
    };
    let mut residual = Builder::new(&[1, 2]);
    residual.then(Op::Relu, &[], &[]);
    residual.node(Op::Add, vec![ValueId(0), residual.graph.output], &[1, 2]);
    assert_eq!(kind(&residual), ErrorKind::Unsupported);

    let mut skipped = Builder::new(&[1, 2]);
    skipped.then(Op::Relu, &[], &[]);
    skipped.node(Op::Relu, vec![ValueId(0)], &[1, 2]);
    assert_eq!(kind(&skipped), ErrorKind::Unsupported);

    let mut elsewhere = Builder::new(&[1, 2]);
    elsewhere.then(Op::Relu, &[], &[]);
    elsewhere.graph.output = ValueId(0);
    assert_eq!(kind(&elsewhere), ErrorKind::Unsupported);

    let elementwise = |op: Op, data: &[f32], reversed: bool| {
        let mut builder = Builder::new(&[1, 2]);
        let c = builder.constant(&[data.len()], data);
        builder.node(op, if reversed { vec![c, ValueId(0)] } else { vec![ValueId(0), c] }, &[1, 2]);
        builder
    };
    assert_eq!(kind(&elementwise(Op::Div, &[1.0, 0.0], false)), ErrorKind::Unsupported);
    assert_eq!(kind(&elementwise(Op::Div, &[1.0, 2.0], true)), ErrorKind::Unsupported);
    assert_eq!(kind(&elementwise(Op::Add, &[1.0, f32::NAN], false)), ErrorKind::BadInput);
    assert_eq!(kind(&elementwise(Op::Mul, &[f32::INFINITY], false)), ErrorKind::BadInput);
    assert_eq!(kind(&elementwise(Op::Mul, &[1.0, 2.0, 3.0], false)), ErrorKind::Unsupported);

    // A constant that would repeat the value.
    let mut outer = Builder::new(&[1, 2]);
    let c = outer.constant(&[3, 1], &[1.0, 2.0, 3.0]);
    outer.node(Op::Add, vec![ValueId(0), c], &[3, 2]);
    assert_eq!(kind(&outer), ErrorKind::Unsupported);

    let mut wrong = Builder::new(&[1, 2]);
    let c = wrong.constant(&[3, 2], &[1.0; 6]);
    wrong.node(Op::MatMul, vec![ValueId(0), c], &[1, 2]);
    assert_eq!(kind(&wrong), ErrorKind::Unsupported);

    let mut reshaped = Builder::new(&[1, 2]);
    reshaped.node(Op::Reshape, vec![ValueId(0)], &[1, 3]);
    assert_eq!(kind(&reshaped), ErrorKind::Unsupported);

    let mut lonely = Builder::new(&[1, 2]);
    lonely.node(Op::MatMul, vec![ValueId(0)], &[1, 2]);
    assert_eq!(kind(&lonely), ErrorKind::BadInput);
}

/// A reader may have computed a node of constants; the checker believes it only where nothing is computed.
#[test]
fn believes_folded_constants_only_if_they_are_moved() {
    let folded = |op: Op, data: &[f32]| {
        let mut builder = Builder::new(&[1, 2]);
        let from = builder.constant(&[2, 1], &[1.0, 2.0]);
        let to = builder.constant(&[1, 2], data);
        let node = crate::graph::Node { name: "folded".into(), op, inputs: vec![from], output: to };
        builder.graph.nodes.push(node);
        builder.node(Op::Add, vec![ValueId(0), to], &[1, 2]);
        builder
    };
    maps(&folded(Op::Reshape, &[1.0, 2.0]), &[0.0, 0.5], [1.0, 2.5]);
    assert!(Network::new(&folded(Op::Reshape, &[1.0, 2.5]).graph).is_err());
    assert!(Network::new(&folded(Op::Relu, &[1.0, 2.0]).graph).is_err());
}
