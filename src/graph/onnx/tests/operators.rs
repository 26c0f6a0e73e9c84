//! Convolutional operators: what they become, and refusals of what does not fit or is not supported.

use super::*;
use crate::graph::{Op, Window};

const X: [i64; 4] = [1, 2, 5, 5];

/// A network of one operator on `[1, 2, 5, 5]` with a weight of this shape.
fn conv(op: &str, weight: &[i64], attributes: &[AttributeProto]) -> GraphProto {
    let len = weight.iter().product::<i64>().unsigned_abs() as usize;
    let node = with(node(op, &["x", "w"], "y"), attributes);
    network(&X, vec![node], vec![floats("w", weight, &vec![0.5; len])])
}

/// A network of one operator on `[1, 2, 5, 5]` alone.
fn alone(op: &str, attributes: &[AttributeProto]) -> GraphProto {
    network(&X, vec![with(node(op, &["x"], "y"), attributes)], vec![])
}

#[track_caller]
fn window(graph: GraphProto) -> Window {
    match parse(&bytes(graph)).unwrap().nodes[0].op {
        Op::Conv(window) | Op::MaxPool { window, .. } | Op::AveragePool { window, .. } => window,
        ref op => panic!("{op:?}"),
    }
}

#[test]
fn automatic_padding_is_resolved() {
    let pads = |rule: &str, stride: i64, kernel: i64| {
        let window = window(conv("Conv", &[1, 2, kernel, 1], &[word("auto_pad", rule), ints("strides", &[stride, 1])]));
        (window.begin[0], window.end[0])
    };
    assert_eq!(pads("SAME_UPPER", 2, 4), (1, 2));
    assert_eq!(pads("SAME_LOWER", 2, 4), (2, 1));
    assert_eq!(pads("VALID", 2, 4), (0, 0));
    assert_eq!(pads("NOTSET", 2, 4), (0, 0));
    // Strides that leave a rest need no padding.
    assert_eq!(pads("SAME_UPPER", 3, 1), (0, 0));
    let odd = conv("Conv", &[1, 2, 3, 3], &[word("auto_pad", "SAME")]);
    assert_refused(odd, Unsupported, &["'Conv_0'", "'auto_pad' is 'SAME'", "SAME_LOWER"]);
    let both = conv("Conv", &[1, 2, 3, 3], &[word("auto_pad", "VALID"), ints("pads", &[0, 1, 0, 0])]);
    assert_refused(both, BadInput, &["'pads'", "'auto_pad' VALID"]);
}

#[test]
fn ceiling_mode_adds_windows_that_start_inside() {
    let pool = |op, len: i64, kernel: i64, extra: &[AttributeProto]| {
        let list = [ints("kernel_shape", &[kernel, 1]), ints("strides", &[2, 1]), int("ceil_mode", 1)];
        let node = with(with(node(op, &["x"], "y"), &list), extra);
        network(&[1, 1, len, 1], vec![node], vec![])
    };
    let rows = |op, len, kernel, extra: &[AttributeProto]| {
        let graph = parse(&bytes(pool(op, len, kernel, extra))).unwrap();
        graph.value(graph.output).shape[2]
    };
    assert_eq!(rows("MaxPool", 6, 3, &[]), 3);
    assert_eq!(rows("MaxPool", 5, 3, &[]), 2);
    // A window that would start behind the input is left out.
    assert_eq!(rows("MaxPool", 4, 1, &[ints("pads", &[0, 0, 0, 0])]), 2);
    // Half a window is one, too.
    assert_eq!(rows("MaxPool", 1, 2, &[]), 1);
    assert_eq!(rows("AveragePool", 6, 3, &[]), 3);
    assert_eq!(rows("AveragePool", 5, 3, &[int("count_include_pad", 1)]), 2);
    assert_refused(pool("MaxPool", 1, 3, &[]), BadInput, &["spans 3"]);
    let counted = pool("AveragePool", 6, 3, &[int("count_include_pad", 1)]);
    assert_refused(counted, Unsupported, &["'AveragePool_0'", "ceiling mode", "'ceil_mode' 0"]);
}

#[test]
fn windows_that_do_not_fit_are_refused_by_name() {
    let parts = ["'Conv_0'", "[3, 1, 3, 3]", "2 channels in 1 groups"];
    assert_refused(conv("Conv", &[3, 1, 3, 3], &[]), BadInput, &parts);
    assert_refused(conv("Conv", &[3, 1, 3, 3], &[int("group", 2)]), BadInput, &["3 channels", "2 groups"]);
    assert_refused(conv("Conv", &[3, 2, 3, 3], &[int("group", 0)]), BadInput, &["0 groups"]);
    assert_refused(conv("Conv", &[3, 2, 3, 3], &[int("group", -1)]), BadInput, &["'group' is -1"]);
    assert_refused(conv("Conv", &[3, 2, 3], &[]), BadInput, &["[3, 2, 3]", "[1, 2, 5, 5]"]);
    assert_refused(conv("Conv", &[3, 2, 6, 3], &[]), BadInput, &["spans 6", "5"]);
    assert_refused(conv("Conv", &[3, 2, 3, 3], &[ints("kernel_shape", &[3, 2])]), BadInput, &["'kernel_shape'"]);
    assert_refused(conv("Conv", &[3, 2, 3, 3], &[ints("strides", &[1, 0])]), BadInput, &["stride of 0"]);
    assert_refused(conv("Conv", &[3, 2, 3, 3], &[ints("strides", &[2])]), BadInput, &["'strides' is [2]", "2 numbers"]);
    assert_refused(conv("Conv", &[3, 2, 3, 3], &[ints("dilations", &[0, 1])]), BadInput, &["dilation 0"]);
    let parts = ["'pads' is [0, 0, -1, 0]", "negative", "Slice"];
    assert_refused(conv("Conv", &[3, 2, 3, 3], &[ints("pads", &[0, 0, -1, 0])]), Unsupported, &parts);
    assert_refused(conv("ConvTranspose", &[3, 2, 3, 3], &[]), BadInput, &["[3, 2, 3, 3]", "2 channels"]);
    let parts = ["'ConvTranspose_0'", "'output_shape'"];
    assert_refused(conv("ConvTranspose", &[2, 2, 3, 3], &[ints("output_shape", &[9, 9])]), Unsupported, &parts);
    let parts = ["'auto_pad'", "'output_padding'"];
    assert_refused(conv("ConvTranspose", &[2, 2, 3, 3], &[word("auto_pad", "SAME_UPPER")]), Unsupported, &parts);
    assert_refused(alone("MaxPool", &[]), BadInput, &["'MaxPool_0'", "'kernel_shape' is missing"]);
    let outside = [ints("kernel_shape", &[2, 2]), ints("pads", &[2, 0, 0, 0])];
    assert_refused(alone("MaxPool", &outside), BadInput, &["row 0", "outside the input"]);
    let flat = network(&[1, 5], vec![with(node("MaxPool", &["x"], "y"), &outside)], vec![]);
    assert_refused(flat, BadInput, &["[1, 5]", "channels"]);
    let solid = network(&[1, 2, 3, 3, 3], vec![node("GlobalMaxPool", &["x"], "y")], vec![]);
    assert_refused(solid, Unsupported, &["3 dimensions", "1-D and 2-D"]);
    let batch = network(&[2, 2, 3, 3], vec![node("GlobalMaxPool", &["x"], "y")], vec![]);
    assert_refused(batch, BadInput, &["a batch of 2"]);
    let weight = network(&X, vec![node("Conv", &["x", "x"], "y")], vec![]);
    assert_refused(weight, Unsupported, &["its weight 'x'", "initializers"]);
}

#[test]
fn absurd_windows_are_errors_and_not_allocations() {
    for huge in [i64::MAX, i64::MAX / 2, 1 << 40, 1 << 20] {
        for name in ["pads", "dilations", "strides"] {
            let list = vec![huge; if name == "pads" { 4 } else { 2 }];
            for op in ["Conv", "ConvTranspose"] {
                let graph = conv(op, &[2, 2, 3, 3], &[ints(name, &list)]);
                // A huge stride leaves a convolution with one window, which is a network like any other.
                if (op, name) == ("Conv", "strides") {
                    assert_eq!(window(graph).strides, [usize::try_from(huge).unwrap(); 2]);
                } else {
                    assert_refused(graph, BadInput, &[op]);
                }
            }
            let lists = [ints("kernel_shape", &[2, 2]), ints(name, &list), int("ceil_mode", 1)];
            if name != "strides" {
                assert_refused(alone("MaxPool", &lists), BadInput, &["'MaxPool_0'"]);
            }
            let lists = [ints("kernel_shape", &[2, 2]), ints(name, &list), word("auto_pad", "SAME_UPPER")];
            assert!(name == "strides" || parse(&bytes(alone("MaxPool", &lists))).is_err());
        }
        assert_refused(alone("MaxPool", &[ints("kernel_shape", &[huge, huge])]), BadInput, &["'MaxPool_0'"]);
        let lists = [ints("kernel_shape", &[huge, huge]), word("auto_pad", "SAME_LOWER")];
        assert_refused(alone("AveragePool", &lists), BadInput, &["'AveragePool_0'"]);
        let pad = alone("Pad", &[ints("pads", &[0, 0, huge, huge, 0, 0, huge, 0])]);
        assert_refused(pad, BadInput, &["'Pad_0'"]);
    }
}

#[test]
fn layout_operators_refuse_what_does_not_fit() {
    assert_refused(alone("Pad", &[ints("pads", &[0, 0, 1])]), BadInput, &["'Pad_0'", "3 numbers", "4 axes"]);
    let negative = alone("Pad", &[ints("pads", &[0, 0, -1, 0, 0, 0, 0, 0])]);
    assert_refused(negative, Unsupported, &["'Pad_0'", "negative", "Slice"]);
    let reflect = alone("Pad", &[word("mode", "reflect"), ints("pads", &[0; 8])]);
    assert_refused(reflect, Unsupported, &["'mode' is 'reflect'", "constant"]);
    assert_refused(alone("Transpose", &[ints("perm", &[0, 1, 1, 3])]), BadInput, &["'Transpose_0'", "[0, 1, 1, 3]"]);
    assert_refused(alone("Transpose", &[ints("perm", &[0, -1, 2, 3])]), BadInput, &["'perm'"]);
    assert_refused(alone("Concat", &[int("axis", 4)]), BadInput, &["axis 4"]);
    assert_refused(alone("Softmax", &[int("axis", -5)]), BadInput, &["axis -5"]);
    let slice = |starts: &[i64], ends: &[i64]| alone("Slice", &[ints("starts", starts), ints("ends", ends)]);
    assert_refused(slice(&[0, 0], &[1]), BadInput, &["'Slice_0'", "[0, 0]", "[1]"]);
    assert_refused(slice(&[0, 2], &[1, 1]), BadInput, &["empty"]);
    let gather = |index: i64| network(&X, vec![node("Gather", &["x", "i"], "y")], vec![int64s("i", &[index])]);
    assert_refused(gather(1), BadInput, &["'Gather_0'", "index 1"]);
    assert_refused(gather(i64::MIN), BadInput, &["outside an axis of 1"]);
    let computed = network(&X, vec![node("Gather", &["x", "x"], "y")], vec![]);
    assert_refused(computed, Unsupported, &["indices"]);
    let mut split = with(node("Split", &["x"], "y"), &[ints("split", &[1, 2]), int("axis", 2)]);
    split.output.push("z".into());
    assert_refused(network(&X, vec![split], vec![]), BadInput, &["'Split_0'", "[1, 2]", "2 outputs"]);
    let wide = with(node("Slice", &["x"], "y"), &[ints("starts", &[0]), ints("ends", &[1])]);
    assert_refused(network(&[1, 1 << 27], vec![wide], vec![]), Unsupported, &["'Slice_0'", "elements"]);
}

#[test]
fn lists_of_integers_cannot_grow_without_limit() {
    let mut nodes = vec![node("Shape", &["x"], "s0")];
    for i in 0..40 {
        let (from, to) = (format!("s{i}"), format!("s{}", i + 1));
        nodes.push(with(node("Concat", &[&from, &from], &to), &[int("axis", 0)]));
    }
    nodes.push(node("Reshape", &["x", "s40"], "y"));
    assert_refused(network(&X, nodes, vec![]), Unsupported, &["'Concat_2", "elements"]);
}

#[test]
fn training_modes_and_bad_parameters_are_refused() {
    let names = ["x", "one", "one", "one", "var"];
    let normal = |attributes: &[AttributeProto], variance: f32| {
        let node = with(node("BatchNormalization", &names, "y"), attributes);
        network(&X, vec![node], vec![floats("one", &[2], &[1.0; 2]), floats("var", &[2], &[1.0, variance])])
    };
    assert_eq!(evaluate(normal(&[], 4.0), &[1.0; 50]), [1.0; 50]);
    let parts = ["'BatchNormalization_0'", "training mode"];
    assert_refused(normal(&[int("training_mode", 1)], 1.0), Unsupported, &parts);
    assert_refused(normal(&[int("spatial", 0)], 1.0), Unsupported, &["'spatial'"]);
    assert_refused(normal(&[], -1.0), BadInput, &["variance of -1"]);
    let mut trained = normal(&[], 1.0);
    trained.node[0].output.push("running".into());
    assert_refused(trained, Unsupported, &parts);
    let shape = network(&X, vec![node("BatchNormalization", &names, "y")], {
        vec![floats("one", &[3], &[1.0; 3]), floats("var", &[3], &[1.0; 3])]
    });
    assert_refused(shape, BadInput, &["[3]", "[1, 2, 5, 5] needs [2]"]);
    let attributes =
        [AttributeProto { f: Some(2.0), ..attribute("min") }, AttributeProto { f: Some(1.0), ..attribute("max") }];
    assert_refused(alone("Clip", &attributes), BadInput, &["lower limit 2", "upper limit 1"]);
    let limits = with(node("Clip", &["x", "low"], "y"), &[]);
    assert_refused(network(&X, vec![limits], vec![floats("low", &[2], &[0.0; 2])]), BadInput, &["[2]", "one number"]);
    assert_refused(alone("Cast", &[int("to", 7)]), Unsupported, &["whole numbers of tensor 'y'", "Gather"]);
    assert_refused(alone("Cast", &[int("to", 9)]), Unsupported, &["'Cast_0'", "element type 9"]);
}
