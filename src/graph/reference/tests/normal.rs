//! Normalisations, activations, the causal softmax and embeddings, against numbers that torch computed in `f64`.

use super::*;
use crate::error::ErrorKind;
use crate::graph::Graph;

const X6: [f64; 6] = [-2.0, -0.5, 0.25, 1.0, 3.0, -1.25];
const SCALE: [f32; 6] = [1.0, 2.0, -1.0, 0.5, 1.0, 0.25];
const BIAS: [f32; 6] = [0.0, 1.0, 0.5, -1.0, 2.0, 0.0];

/// 2^-17: a number that both precisions hold.
const EPSILON: f32 = 1.0 / 131_072.0;

/// A network of one operator with constants behind its input.
fn alone(op: Op, input: &[usize], constants: &[(&[usize], &[f32])]) -> Graph {
    let mut sketch = Sketch::new(input);
    let mut operands = vec![sketch.graph.input];
    operands.extend(constants.iter().map(|(shape, data)| sketch.constant(shape, data)));
    sketch.node(op, &operands);
    sketch.graph
}

/// Both evaluators agree with the numbers, to 16 roundings of numbers below 4, and the bound covers what is off.
fn agrees(graph: &Graph, input: &[f64], expected: &[f64]) {
    let plain = graph.eval_f64(input).unwrap();
    let bounded = graph.eval_f64_bounded(input).unwrap();
    assert_eq!(plain.len(), expected.len());
    for ((plain, (value, bound)), expected) in plain.iter().zip(bounded).zip(expected) {
        assert!((plain - expected).abs() <= 64.0 * f64::EPSILON, "{plain} or {expected}");
        assert!((value - plain).abs() <= bound && bound < 1e-13, "{value} +- {bound} or {plain}");
    }
}

#[test]
fn activations_have_torchs_values() {
    let gelu = [
        -0.04540230591222494,
        -0.15428599017485606,
        0.149675350701685,
        0.8411919906082768,
        2.996362607918227,
        -0.13228579703028542,
    ];
    agrees(&alone(Op::Gelu, &[1, 6], &[]), &X6, &gelu);
    let leaky = alone(Op::LeakyRelu { alpha: 0.25 }, &[1, 6], &[]);
    assert_eq!(leaky.eval_f64(&X6).unwrap(), [-0.5, -0.125, 0.25, 1.0, 3.0, -0.3125]);
    assert!(leaky.eval_f64_bounded(&X6).unwrap().iter().all(|&(_, bound)| bound == 0.0));
    let dropout = alone(Op::Dropout { rate: 0.5 }, &[1, 6], &[]);
    assert_eq!(dropout.eval_f64(&X6).unwrap(), X6);
}

#[test]
fn normalisations_have_torchs_values() {
    let (scale, bias) = ((&[6][..], &SCALE[..]), (&[6][..], &BIAS[..]));
    let layer = [
        -1.2824710862067084,
        0.2818161917242433,
        0.39740231310346336,
        -0.7178563610345242,
        3.7954595206893913,
        -0.20519537379307332,
    ];
    agrees(&alone(Op::LayerNormalization { axis: 1, epsilon: EPSILON }, &[1, 6], &[scale, bias]), &X6, &layer);
    let whole = ((&[2, 3][..], &SCALE[..]), (&[2, 3][..], &BIAS[..]));
    let op = Op::LayerNormalization { axis: 1, epsilon: EPSILON };
    agrees(&alone(op, &[1, 2, 3], &[whole.0, whole.1]), &X6, &layer);
    let groups = [
        -0.9999932183849582,
        2.999986436769917,
        1.4999728743676286,
        -0.5000135628161857,
        2.999999155223821,
        -0.2499997888059553,
    ];
    let op = Op::GroupNormalization { groups: 3, epsilon: EPSILON };
    agrees(&alone(op.clone(), &[1, 6], &[scale, bias]), &X6, &groups);
    agrees(&alone(op, &[1, 6, 1, 1], &[scale, bias]), &X6, &groups);
    let channels = [
        -1.3363003837674838,
        0.26726007675349683,
        1.0690403070139871,
        1.0960029506360296,
        3.4000737659007405,
        -1.4960767165367705,
    ];
    let (scale, bias) = ((&[2][..], &SCALE[..2]), (&[2][..], &BIAS[..2]));
    let op = Op::GroupNormalization { groups: 2, epsilon: EPSILON };
    agrees(&alone(op, &[1, 2, 3], &[scale, bias]), &X6, &channels);
}

#[test]
fn rows_of_a_causal_softmax_do_not_see_what_is_behind_them() {
    let scores = [1.0, 9.0, 9.0, 0.5, -0.5, 9.0, 1.0, 2.0, 3.0];
    let exact = [
        1.0,
        0.0,
        0.0,
        0.7310585786300049,
        0.26894142136999516,
        0.0,
        0.09003057317038045,
        0.2447284710547976,
        0.6652409557748218,
    ];
    let graph = alone(Op::CausalSoftmax, &[2, 3, 3], &[]);
    agrees(&graph, &scores.repeat(2), &exact.repeat(2));
    let mut hidden = scores;
    (hidden[1], hidden[2], hidden[5]) = (-700.0, 1e300, 0.0);
    agrees(&graph, &hidden.repeat(2), &exact.repeat(2));
}

#[test]
fn embeddings_take_rows_and_refuse_what_names_none() {
    let table: Vec<f32> = (0..8).map(|i| i as f32 / 4.0).collect();
    let graph = alone(Op::Embedding { padding: Some(0) }, &[1, 3], &[(&[4, 2], &table)]);
    assert_eq!(graph.value(graph.output).shape, [1, 3, 2]);
    assert_eq!(graph.eval_f64(&[3.0, 0.0, 3.0]).unwrap(), [1.5, 1.75, 0.0, 0.25, 1.5, 1.75]);
    assert!(graph.eval_f64_bounded(&[3.0, 0.0, 3.0]).unwrap().iter().all(|&(_, bound)| bound == 0.0));
    for bad in [4.0, -1.0, 0.5, 1e300] {
        let error = graph.eval_f64(&[0.0, bad, 0.0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadInput);
        let said = error.to_string();
        assert!(
            said.contains("'n0' (Embedding)") && said.contains("element 1") && said.contains("table of 4"),
            "{said}"
        );
    }
}

/// Points inside uncertain numbers land inside their images.
#[test]
fn bounds_enclose_their_members() {
    let mut random = Random::new(5);
    for round in 0..3000 {
        let spread = [0.0, 1e-9, 0.3][round % 3];
        let (value, error) = (4.0 * random.unit(), spread * random.unit().abs());
        let inside = value + error * random.unit();
        let outer = Bounded { value, error };
        for alpha in [0.25, -0.5, 2.0] {
            let y = outer.leaky(Bounded::exact(alpha));
            let exact = if inside < 0.0 { alpha * inside } else { inside };
            assert!((y.value - exact).abs() <= y.error + 1e-15, "leaky {outer:?} {alpha}");
        }
        let y = super::super::normal::gelu(outer);
        let exact = super::super::normal::gelu(inside);
        assert!((y.value - exact).abs() <= y.error + 1e-15, "gelu {outer:?}");
    }
    let third = Bounded::nearest(1.0 / 3.0);
    // 1/3 - f64(1/3) = 2^-54 / 3 exactly.
    assert!(third.error >= 2f64.powi(-54) / 3.0 && third.error < 2f64.powi(-54));
}
