//! What has no form as layers is refused by name.

use super::*;
use crate::error::ErrorKind;
use crate::graph::Op;
use crate::graph::testing::{PLAIN, Random, Sketch};

fn refusal(sketch: &Sketch) -> String {
    let error = Layers::from_graph(&sketch.graph).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.help().is_some(), "{error}");
    error.to_string()
}

#[test]
fn what_has_no_layers_is_refused_by_name() {
    let mut random = Random::new(7);
    let mut product = Sketch::new(&[2]);
    let input = product.graph.input;
    let hidden = product.node(Op::Relu, &[input]);
    product.node(Op::Mul, &[hidden, input]);
    assert!(refusal(&product).contains("'n1' (Mul) multiplies two computed values"));

    let mut matrices = Sketch::new(&[2, 2]);
    matrices.node(Op::MatMul, &[input, input]);
    assert!(refusal(&matrices).contains("'n0' (MatMul) multiplies two computed values"));

    let mut inverse = Sketch::new(&[2]);
    let one = inverse.constant(&[1], &[1.0]);
    inverse.node(Op::Div, &[one, input]);
    assert!(refusal(&inverse).contains("'n0' (Div) divides by a computed value"));

    let mut softmax = Sketch::new(&[1, 2]);
    softmax.node(Op::Softmax { axis: 1 }, &[input]);
    assert!(refusal(&softmax).contains("'n0' (Softmax)"));

    let mut weights = Sketch::new(&[1, 1, 2, 2]);
    weights.node(Op::Conv(PLAIN), &[input, input]);
    assert!(refusal(&weights).contains("'n0' (Conv) has computed weights"));

    let mut variance = Sketch::new(&[1, 1]);
    let [scale, zero] = [1.0, 0.0].map(|x| variance.constant(&[1], &[x]));
    variance.node(Op::BatchNormalization { epsilon: 0.0 }, &[input, scale, zero, zero, zero]);
    assert!(refusal(&variance).contains("variance that may be 0 in channel 0"));

    let mut constant = Sketch::new(&[2]);
    let a = constant.random(&[2], &mut random);
    constant.node(Op::Relu, &[a]);
    assert!(refusal(&constant).contains("does not depend on its input"));

    let alone = |op: Op, constants: usize| {
        let mut sketch = Sketch::new(&[1, 2, 2]);
        let constants = (0..constants).map(|_| sketch.constant(&[2], &[0.5; 2]));
        let operands: Vec<_> = [input].into_iter().chain(constants.collect::<Vec<_>>()).collect();
        sketch.node(op, &operands);
        refusal(&sketch)
    };
    assert!(alone(Op::Gelu, 0).contains("'n0' (Gelu)"));
    assert!(alone(Op::LeakyRelu { alpha: 0.1 }, 0).contains("'n0' (LeakyRelu)"));
    assert!(alone(Op::CausalSoftmax, 0).contains("'n0' (CausalSoftmax) divides by computed values"));
    assert!(alone(Op::LayerNormalization { axis: 2, epsilon: 1e-5 }, 2).contains("'n0' (LayerNormalization) divides"));
    assert!(
        alone(Op::GroupNormalization { groups: 1, epsilon: 1e-5 }, 2).contains("'n0' (GroupNormalization) divides")
    );
    let mut rows = Sketch::new(&[1, 2]);
    let table = rows.random(&[3, 2], &mut random);
    rows.node(Op::Embedding { padding: None }, &[input, table]);
    assert!(refusal(&rows).contains("'n0' (Embedding) looks up"));

    let mut huge = Sketch::new(&[2]);
    let factor = huge.constant(&[1], &[1e30]);
    let once = huge.node(Op::Mul, &[input, factor]);
    huge.node(Op::Mul, &[once, factor]);
    assert!(refusal(&huge).contains("leaves the range of f32"));
}

#[test]
fn dropout_leaves_no_trace() {
    let mut random = Random::new(9);
    let mut sketch = Sketch::new(&[1, 3]);
    let w = sketch.random(&[3, 2], &mut random);
    let x = sketch.node(Op::Dropout { rate: 0.5 }, &[sketch.graph.input]);
    let x = sketch.node(Op::MatMul, &[x, w]);
    let x = sketch.node(Op::Dropout { rate: 0.25 }, &[x]);
    sketch.node(Op::Relu, &[x]);
    let layers = Layers::from_graph(&sketch.graph).expect("it has layers");
    assert_eq!(layers.layers.len(), 1);
    let point = random.numbers(3);
    assert_eq!(layers.eval_f64(&point), sketch.graph.eval_f64(&point).expect("it runs"));
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let mut rows = Sketch::new(&[1 << 14, 1 << 7]);
    let w = rows.constant(&[1 << 7, 1 << 6], &[1.0; 1 << 13]);
    let input = rows.graph.input;
    rows.node(Op::MatMul, &[input, w]);
    let error = Layers::from_graph(&rows.graph).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig);
    assert!(error.to_string().contains("'n0' (MatMul)") && error.help().is_some(), "{error}");
}
