//! The attributes that an operator is written with.

use super::dims;
use crate::graph::{Op, Window};
use rten_onnx::onnx::{AttributeProto, AttributeType};

fn named(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(kind), ..AttributeProto::default() }
}

fn float(name: &str, x: f32) -> AttributeProto {
    AttributeProto { f: Some(x), ..named(name, AttributeType::FLOAT) }
}

pub(super) fn int(name: &str, i: usize) -> AttributeProto {
    AttributeProto { i: dims(&[i]).first().copied(), ..named(name, AttributeType::INT) }
}

fn ints(name: &str, list: &[usize]) -> AttributeProto {
    AttributeProto { ints: dims(list), ..named(name, AttributeType::INTS) }
}

/// What convolutions and pools share. Dilations stand only where they say something: means know them from set 19 on.
fn window(window: &Window) -> Vec<AttributeProto> {
    let mut list = vec![ints("strides", &window.strides), ints("pads", &[window.begin, window.end].concat())];
    if window.dilations != [1; 2] {
        list.push(ints("dilations", &window.dilations));
    }
    list
}

/// The attributes of an operator.
pub(super) fn of(op: &Op) -> Vec<AttributeProto> {
    match op {
        Op::Gemm { alpha, beta, trans_a, trans_b } => vec![
            float("alpha", *alpha),
            float("beta", *beta),
            int("transA", usize::from(*trans_a)),
            int("transB", usize::from(*trans_b)),
        ],
        Op::Softmax { axis } | Op::Concat { axis } => vec![int("axis", *axis)],
        Op::Conv(w) => [window(w), vec![int("group", w.groups)]].concat(),
        Op::ConvTranspose { window: w, output_padding } => {
            [window(w), vec![int("group", w.groups), ints("output_padding", output_padding)]].concat()
        }
        Op::MaxPool { kernel, window: w } => [window(w), vec![ints("kernel_shape", kernel)]].concat(),
        Op::AveragePool { kernel, window: w, count_include_pad } => {
            let count = int("count_include_pad", usize::from(*count_include_pad));
            [window(w), vec![ints("kernel_shape", kernel), count]].concat()
        }
        Op::BatchNormalization { epsilon } => vec![float("epsilon", *epsilon)],
        Op::LayerNormalization { axis, epsilon } => vec![int("axis", *axis), float("epsilon", *epsilon)],
        Op::GroupNormalization { groups, epsilon } => vec![int("num_groups", *groups), float("epsilon", *epsilon)],
        Op::LeakyRelu { alpha } => vec![float("alpha", *alpha)],
        Op::Gelu => {
            let tanh = AttributeProto { s: Some("tanh".to_owned()), ..named("approximate", AttributeType::STRING) };
            vec![tanh]
        }
        Op::Transpose { perm } => vec![ints("perm", perm)],
        Op::MatMul
        | Op::Add
        | Op::Sub
        | Op::Mul
        | Op::Div
        | Op::Relu
        | Op::Sigmoid
        | Op::Tanh
        | Op::CausalSoftmax
        | Op::Embedding { .. }
        | Op::Dropout { .. }
        | Op::Pad { .. }
        | Op::Select { .. }
        | Op::Reshape => Vec::new(),
    }
}
