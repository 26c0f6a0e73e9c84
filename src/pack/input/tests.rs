//! Layers of networks against a literal convolution, folding, and the way back from storage; no device.

use std::path::PathBuf;

use super::*;
use crate::graph::{ValueId, onnx};
use crate::pack::input::layers::Found;
use crate::pack::layer::Shape;

/// The networks of every operator, and a small convolutional one.
fn networks() -> Vec<(String, Graph)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let files = |folder: PathBuf| std::fs::read_dir(folder).expect("fixtures").flatten().map(|f| f.path());
    let mut paths: Vec<PathBuf> =
        files(folder.join("operators")).filter(|p| p.extension().is_some_and(|e| e == "onnx")).collect();
    paths.extend(["gemm_relu.onnx", "columns.onnx", "normalised.onnx", "quantised/float.onnx"].map(|f| folder.join(f)));
    paths.sort();
    paths.iter().map(|path| (stem(path), onnx::read(path).expect("a network").0)).collect()
}

/// Multiples of 1/8 in -2..2, whole and small where they choose rows of a table.
fn sample(graph: &Graph) -> Vec<f64> {
    let table = graph.nodes.iter().any(|node| matches!(node.op, Op::Embedding { .. }));
    let number = |i: usize| ((i * 7919 + 13) % 33) as f64;
    (0..graph.input_len()).map(|i| if table { number(i) % 5.0 } else { (number(i) - 16.0) / 8.0 }).collect()
}

fn value_of(graph: &Graph, output: ValueId, x: &[f64]) -> Vec<f32> {
    let cut = Graph { output, ..graph.clone() };
    cut.eval_f64(x).expect("the reference runs").into_iter().map(|v| v as f32).collect()
}

/// What the words of a layer say, loop by loop.
fn literal(shape: &Shape, weights: &[f32], depthwise: bool, input: &[f32]) -> Vec<f64> {
    let [height, width, channels] = shape.input;
    let [rows, columns, filters] = shape.output();
    let [ky, kx] = shape.filter;
    let (per_group, filters_of_group) = (channels / shape.groups, filters / shape.groups);
    let mut out = vec![0.0; rows * columns * filters];
    for (at, sum) in out.iter_mut().enumerate() {
        let (y, x, filter) = (at / filters / columns, at / filters % columns, at % filters);
        for (i, j, c) in (0..ky * kx * per_group).map(|n| (n / per_group / kx, n / per_group % kx, n % per_group)) {
            let row = (y * shape.stride[0] + i * shape.dilation[0]).checked_sub(shape.padding[0]);
            let column = (x * shape.stride[1] + j * shape.dilation[1]).checked_sub(shape.padding[1]);
            let (Some(row), Some(column)) = (row.filter(|&r| r < height), column.filter(|&c| c < width)) else {
                continue;
            };
            let weight = if depthwise {
                weights[(i * kx + j) * filters + filter]
            } else {
                weights[((filter * ky + i) * kx + j) * per_group + c]
            };
            let channel = filter / filters_of_group * per_group + c;
            *sum += f64::from(weight) * f64::from(input[(row * width + column) * channels + channel]);
        }
    }
    out
}

fn check(name: &str, graph: &Graph, layer: &Found) {
    let x = sample(graph);
    // Without bias and factors, which are not in the words of a layer.
    let mut bare = graph.clone();
    let node = &mut bare.nodes[layer.at];
    node.inputs.truncate(2);
    if let Op::Gemm { alpha, .. } = &mut node.op {
        *alpha = 1.0;
    }
    let output = node.output;
    let (shape, order) = layer.weight.form.order(&graph.value(layer.weight.value).shape);
    let constant: Vec<f32> = graph.value(layer.weight.value).constant.iter().flat_map(|c| c.iter().copied()).collect();
    let weights: Vec<f32> = order.iter().map(|&i| constant[i]).collect();
    let depthwise = layer.weight.form == WeightForm::Depthwise;
    let places = [if depthwise { 1 } else { layer.shape.filters }, layer.shape.filter[0], layer.shape.filter[1]];
    assert_eq!(shape[..3], places, "{name}");
    let input = layer.input.form.arrange(&value_of(&bare, layer.input.value, &x));
    assert_eq!(layer.input.form.shape(), layer.shape.input, "{name}");
    assert_eq!(layer.output.form.shape(), layer.shape.output(), "{name}");
    let want = layer.output.form.arrange(&value_of(&bare, output, &x));
    let got = literal(&layer.shape, &weights, depthwise, &input);
    let largest = want.iter().fold(1.0_f64, |m, &v| m.max(f64::from(v).abs()));
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        // Two roundings to f32, of the map and of the result.
        assert!((got - f64::from(*want)).abs() <= 1e-4 * largest, "{name}: output {i} is {got}, not {want}");
    }
    assert_eq!(got.len(), want.len(), "{name}");
}

#[test]
fn layers_are_the_products_of_the_network() {
    let mut seen = HashMap::new();
    for (name, graph) in networks() {
        for layer in layers::of(&graph).0 {
            check(&format!("{name}, {}", graph.nodes[layer.at].name), &graph, &layer);
            let forms = seen.entry((graph.nodes[layer.at].op.name(), format!("{:?}", layer.weight.form))).or_insert(0);
            *forms += 1;
        }
    }
    let have = |op: &str, form: WeightForm| seen.contains_key(&(op, format!("{form:?}")));
    for (op, form) in [
        ("Conv", WeightForm::Conv),
        ("Conv", WeightForm::Depthwise),
        ("Gemm", WeightForm::Rows),
        ("Gemm", WeightForm::Columns),
        ("MatMul", WeightForm::Columns),
        ("MatMul", WeightForm::Rows),
    ] {
        assert!(have(op, form), "no fixture has {op} with {form:?}: {seen:?}");
    }
}

#[test]
fn what_is_no_layer_is_noted() {
    let of = |wanted: &str| networks().into_iter().find(|(name, _)| name == wanted).expect("a fixture").1;
    let (found, notes) = layers::of(&of("conv_transpose"));
    assert_eq!((found.len(), notes.len()), (0, 2));
    assert!(notes[0].contains("ConvTranspose") && notes[0].contains("left out"), "{notes:?}");
    let (_, notes) = layers::of(&of("embedding_causal"));
    assert!(notes.iter().any(|note| note.contains("two computed values")), "{notes:?}");
    let (graph, storage) = (of("embedding_causal"), Storage::per_tensor(Element::I8));
    let workload = assemble(&graph, &layers::of(&graph).0, None, None, &storage).expect("weights");
    assert_eq!(workload.loose.len(), 1, "the table");
}

#[test]
fn outputs_stand_behind_activation_functions() {
    let (_, graph) = networks().into_iter().find(|(name, _)| name == "float").expect("a fixture");
    let (found, notes) = layers::of(&graph);
    assert!(notes.is_empty(), "{notes:?}");
    let names: Vec<&str> = found.iter().map(|layer| graph.value(layer.output.value).name.as_str()).collect();
    assert_eq!(names, ["r0", "r1", "r2", "y"]);
    let inputs: Vec<&str> = found.iter().map(|layer| graph.value(layer.input.value).name.as_str()).collect();
    assert_eq!(inputs, ["x", "r0", "f1", "r2"]);
}

/// The same network with a bias in each convolution that has none.
fn biased(mut graph: Graph) -> Graph {
    for at in 0..graph.nodes.len() {
        if matches!(graph.nodes[at].op, Op::Conv(_)) && graph.nodes[at].inputs.len() == 2 {
            let filters = graph.value(graph.nodes[at].inputs[1]).shape[0];
            let bias = ndarray::Array1::from_shape_fn(filters, |m| (m as f32 - 1.0) / 4.0);
            let id = fold::push(&mut graph, format!("bias {at}"), bias.into_dyn());
            graph.nodes[at].inputs.push(id);
        }
    }
    graph
}

#[test]
fn normalisation_folds_into_the_convolution_before_it() {
    let mut folded_somewhere = 0;
    let networks =
        networks().into_iter().flat_map(|(name, graph)| [(name.clone(), biased(graph.clone())), (name, graph)]);
    for (name, graph) in networks {
        let (folded, count) = fold::batch_norms(&graph);
        folded.check().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(folded.nodes.len() + count, graph.nodes.len());
        folded_somewhere += count;
        let x = sample(&graph);
        let (before, after) = (graph.eval_f64(&x).expect("it runs"), folded.eval_f64(&x).expect("it runs"));
        let largest = before.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
        for (a, b) in before.iter().zip(&after) {
            // Weights and biases are rounded once.
            assert!((a - b).abs() <= if count == 0 { 0.0 } else { 1e-5 * largest }, "{name}: {a} became {b}");
        }
    }
    assert!(folded_somewhere > 1, "no fixture has a normalised convolution");
}

#[test]
fn weights_come_back_from_storage_where_they_were() {
    for (name, graph) in networks() {
        if fold::batch_norms(&graph).1 > 0 || name == "float" {
            continue;
        }
        let x = sample(&graph);
        let exact = graph.eval_f64(&x).expect("it runs");
        let of = |storage: &str| {
            let graph = fake_quantise(&graph, &storage.parse().expect("a storage")).expect("it quantises");
            graph.eval_f64(&x).expect("it runs")
        };
        let largest = exact.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
        let off = |values: &[f64]| exact.iter().zip(values).fold(0.0_f64, |m, (a, b)| m.max((a - b).abs())) / largest;
        // Weights of the fixtures have few bits: bf16 holds nearly all of them.
        assert!(off(&of("bf16")) <= 2e-2, "{name}: {}", off(&of("bf16")));
        assert!(off(&of("i16/channel")) <= 1e-3, "{name}: {}", off(&of("i16/channel")));
    }
    let (_, graph) = networks().into_iter().find(|(name, _)| name == "float").expect("a fixture");
    let x = sample(&graph);
    let exact = graph.eval_f64(&x).expect("it runs");
    let distance = |storage: &str| {
        let graph = fake_quantise(&graph, &storage.parse().expect("a storage")).expect("it quantises");
        let values = graph.eval_f64(&x).expect("it runs");
        exact.iter().zip(values).map(|(a, b)| (a - b).powi(2)).sum::<f64>()
    };
    let [i4, group, i8, i16] = ["i4", "i4/8", "i8", "i16"].map(distance);
    assert!(i4 > 4.0 * i8 && group < i4 && i8 > 100.0 * i16, "{i4:e} {group:e} {i8:e} {i16:e}");
}
