//! Names, shapes, starts and refusals; what layers compute is compared with torch in tests/train_models.rs.

use super::*;
use crate::ErrorKind;

/// The message of a network that does not fit.
fn refusal(build: impl FnOnce(&mut Builder) -> ValueId) -> String {
    let mut net = Builder::new("net", &[2, 6, 6]);
    let output = build(&mut net);
    let error = net.finish(output).expect_err("it does not fit");
    assert_eq!(error.kind(), ErrorKind::BadInput);
    assert!(error.help().is_some(), "{error}");
    error.to_string()
}

#[test]
fn layers_are_numbered_by_kind_and_scope() {
    let mut net = Builder::new("net", &[2, 6, 6]);
    let x = net.input();
    let x = net.conv2d(x, Conv2d { channels: 3, ..Conv2d::default() });
    let x = net.scope("block", |net| {
        let x = net.conv2d(x, Conv2d { channels: 3, kernel: [1; 2], bias: false, ..Conv2d::default() });
        net.batch_norm(x)
    });
    let x = net.conv2d(x, Conv2d { channels: 4, ..Conv2d::default() });
    let x = net.flatten(x);
    let x = net.named("head").linear(x, 5);
    assert_eq!(net.shape(x), [5]);
    let model = net.finish(x).expect("it fits");
    let names: Vec<&str> = model.parameters.iter().map(|p| model.name(p)).collect();
    let expected = "conv1.weight conv1.bias block.conv1.weight block.bn1.weight block.bn1.bias conv2.weight conv2.bias \
                    head.weight head.bias";
    assert_eq!(names.join(" "), expected);
    let nodes: Vec<&str> = model.graph.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(nodes, ["conv1", "block.conv1", "block.bn1", "conv2", "flatten1", "head"]);
    assert_eq!(model.parameter_count(), 57 + 9 + 6 + 112 + 85);
}

#[test]
fn parameters_start_as_torch_starts_them() {
    let mut net = Builder::new("net", &[4, 6]);
    let x = net.input();
    let x = net.conv1d(x, Conv1d { channels: 6, groups: 2, padding: 1, ..Conv1d::default() });
    let x = net.group_norm(x, 3);
    let x = net.starting(Init::Constant(0.5)).linear(x, 8);
    let x = net.multi_head_attention(x, Attention { heads: 2, ..Attention::default() });
    assert_eq!(net.shape(x), [6, 8]);
    let model = net.finish(x).expect("it fits");
    let init = |name: &str| {
        let found = model.parameters.iter().find(|p| model.name(p) == name);
        found.unwrap_or_else(|| panic!("no {name}")).init
    };
    let bound = |init: Init| match init {
        Init::Uniform { gain, fan_in } => gain * (3.0 / fan_in as f32).sqrt(),
        other => panic!("{other:?}"),
    };
    // 2 channels a group and 3 taps.
    for name in ["conv1.weight", "conv1.bias"] {
        assert!((bound(init(name)) - 1.0 / 6f32.sqrt()).abs() < 1e-7);
    }
    assert_eq!([init("gn1.weight"), init("gn1.bias")], [Init::Constant(1.0), Init::Constant(0.0)]);
    assert_eq!(init("fc1.weight"), Init::Constant(0.5));
    assert!((bound(init("fc1.bias")) - 1.0 / 6f32.sqrt()).abs() < 1e-7);
    assert!((bound(init("attn1.q_proj.weight")) - (6.0 / 32f32).sqrt()).abs() < 1e-7);
    assert!((bound(init("attn1.out_proj.weight")) - 1.0 / 8f32.sqrt()).abs() < 1e-7);
    assert_eq!(init("attn1.v_proj.bias"), Init::Constant(0.0));
    let constant = |name: &str| {
        let value = model.graph.values.iter().find(|value| value.name == name).expect(name);
        value.constant.as_ref().expect(name).iter().copied().collect::<Vec<f32>>()
    };
    assert_eq!((constant("gn1.weight"), constant("gn1.bias")), (vec![1.0; 6], vec![0.0; 6]));
}

#[test]
fn shapes_are_those_of_one_sample() {
    let mut net = Builder::new("net", &[4, 12]);
    let x = net.input();
    let pooled = net.max_pool(x, 3);
    assert_eq!(net.shape(pooled), [4, 4]);
    let turned = net.transpose(x, &[1, 0]);
    assert_eq!(net.shape(turned), [12, 4]);
    let product = net.matmul(x, turned);
    assert_eq!(net.shape(product), [4, 4]);
    let joined = net.concat(&[product, pooled], 0);
    assert_eq!(net.shape(joined), [8, 4]);
    let image = net.reshape(joined, &[2, 4, 4]);
    let image = net.adaptive_average_pool(image, [2, 1]);
    assert_eq!(net.shape(image), [2, 2, 1]);
    let overlapping = Pool { kernel: [2; 2], stride: [1; 2], padding: [1, 1] };
    let wide = net.max_pool_with(image, overlapping);
    assert_eq!(net.shape(wide), [2, 3, 2]);
    let wide = net.average_pool_with(wide, Pool { padding: [0; 2], ..overlapping });
    assert_eq!(net.shape(wide), [2, 2, 1]);
    let image =
        net.conv_transpose2d(wide, ConvTranspose2d { channels: 3, stride: [2; 2], ..ConvTranspose2d::default() });
    assert_eq!(net.shape(image), [3, 6, 4]);
    let image = net.average_pool(image, 2);
    let vector = net.global_average_pool(image);
    assert_eq!(net.shape(vector), [3]);
    let half = net.scale(vector, 0.5);
    let squared = net.mul(half, vector);
    let positive = net.sigmoid(squared);
    let scores = net.softmax(positive);
    let model = net.finish(scores).expect("it fits");
    let output = model.graph.eval_f64(&vec![0.5; 48]).expect("it runs");
    assert!(output.len() == 3 && (output.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{output:?}");
}

#[test]
fn what_does_not_fit_names_the_layer() {
    let said = |build: fn(&mut Builder) -> ValueId, parts: &[&str]| {
        let said = refusal(build);
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    };
    said(|net| net.linear(ValueId(7), 3), &["'fc1'", "'net'", "another network"]);
    said(|net| net.conv2d(net.input(), Conv2d { kernel: [7; 2], ..Conv2d::default() }), &["'conv1'", "spans 7"]);
    said(|net| net.conv2d(net.input(), Conv2d { channels: 0, ..Conv2d::default() }), &["'conv1'", "empty"]);
    said(|net| net.conv1d(net.input(), Conv1d::default()), &["'conv1'", "[2, 6, 6]", "[channels, length]"]);
    said(|net| net.embedding(net.input(), usize::MAX, 2), &["'embedding1'", "elements"]);
    said(|net| net.embedding_with_padding(net.input(), 3, 2, 3), &["'embedding1'", "row 3"]);
    said(|net| net.dropout(net.input(), 1.0), &["'dropout1'", "rate of 1"]);
    said(|net| net.group_norm(net.input(), 4), &["'gn1'", "4 groups"]);
    said(|net| net.transpose(net.input(), &[0, 1]), &["'transpose1'"]);
    said(|net| net.concat(&[net.input()], usize::MAX), &["'concat1'", "axis"]);
    said(|net| net.reshape(net.input(), &[71]), &["'reshape1'", "71"]);
    said(|net| net.adaptive_average_pool(net.input(), [4, 0]), &["'pool1'", "6 rows", "4"]);
    said(|net| net.starting(Init::Given).relu(ValueId(0)), &["'relu1'", "no weights"]);
    said(|net| net.multi_head_attention(net.input(), Attention::default()), &["'attn1'", "[length, width]"]);
    let heads = |net: &mut Builder| {
        let x = net.reshape(net.input(), &[12, 6]);
        net.multi_head_attention(x, Attention { heads: 4, ..Attention::default() })
    };
    said(heads, &["'attn1'", "6", "4 heads"]);
    let broadcast = |net: &mut Builder| {
        let x = net.flatten(net.input());
        net.add(x, net.input())
    };
    said(broadcast, &["'add1'", "[72]", "[2, 6, 6]", "numbers of axes"]);
    let twice = |net: &mut Builder| {
        let x = net.named("a").relu(ValueId(0));
        net.named("a").relu(x)
    };
    said(twice, &["'a'", "another layer"]);
    // The first one is what counts.
    let second = |net: &mut Builder| {
        let x = net.dropout(net.input(), 2.0);
        net.linear(x, 0)
    };
    said(second, &["'dropout1'"]);
}

#[test]
fn what_cannot_be_trained_is_refused() {
    assert!(refusal(|net| net.relu(net.input())).contains("nothing to train"));
    let unused = refusal(|net| {
        net.linear(net.input(), 3);
        net.linear(net.input(), 3)
    });
    assert!(unused.contains("does not depend on 'fc1.weight'"), "{unused}");
    let error = Builder::new("net", &[usize::MAX, 2]).finish(ValueId(0)).expect_err("it is too large");
    assert!(error.to_string().contains("the input of network 'net'"), "{error}");
    assert!(Builder::new("net", &[0]).finish(ValueId(0)).is_err());
}
