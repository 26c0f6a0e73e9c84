//! Networks written and read back, and files damaged in every way.

use super::networks::sketch as tokens;
use super::{bytes, floats, int, ints, network, node, sample, with, word};
use crate::graph::onnx::{parse, write};
use crate::graph::testing::{Random, Sketch, gemm};
use crate::graph::{Graph, Layers, Op};
use proptest::prelude::*;
use rten_onnx::onnx::GraphProto;

#[test]
fn written_networks_read_back_the_same() {
    let mut random = Random::new(11);
    let mut sketch = Sketch::new(&[1, 4]);
    let input = sketch.graph.input;
    let (w, c) = (sketch.random(&[3, 4], &mut random), sketch.random(&[3], &mut random));
    let op = Op::Gemm { alpha: 0.5, beta: -2.0, trans_a: false, trans_b: true };
    let hidden = sketch.node(op, &[input, w, c]);
    let hidden = sketch.node(Op::Relu, &[hidden]);
    let column = sketch.reshape(hidden, &[3, 1]);
    let scaled = sketch.node(Op::Mul, &[column, column]);
    let v = sketch.random(&[1, 3], &mut random);
    let out = sketch.node(gemm(false, false), &[v, scaled]);
    let graph = &mut sketch.graph;
    // Names that a file cannot have.
    graph.values[out.0].name = graph.values[w.0].name.clone();
    graph.values[column.0].name = String::new();
    let written = write(graph).unwrap();
    let read = parse(&written).unwrap();
    assert_eq!(read.name, "sketch");
    let ops = |g: &Graph| g.nodes.iter().map(|n| n.op.clone()).collect::<Vec<_>>();
    assert_eq!(ops(&read), ops(graph));
    let point = random.numbers(4);
    assert_eq!(read.eval_f64(&point).unwrap(), graph.eval_f64(&point).unwrap());
    assert_eq!(write(&read).unwrap().len(), written.len());
}

/// A network of layers that go sample by sample says so: its batch axis is `N`, and no shape of one sample stands in it.
#[test]
fn batches_of_any_size_are_written_where_they_can_be() {
    let mut random = Random::new(12);
    for any in [true, false] {
        let mut sketch = Sketch::new(&[1, 2, 3]);
        let input = sketch.graph.input;
        let flat = sketch.reshape(input, if any { &[1, 6] } else { &[2, 3] });
        let (w, c) = (sketch.random(&[4, if any { 6 } else { 3 }], &mut random), sketch.random(&[4], &mut random));
        let hidden = sketch.node(gemm(false, true), &[flat, w, c]);
        sketch.node(Op::Relu, &[hidden]);
        let written = write(&sketch.graph).unwrap();
        let holds = |word: &[u8]| written.windows(word.len()).any(|part| part == word);
        assert_eq!((holds(b"Flatten"), holds(b"\x12\x01N")), (any, any));
        let point = random.numbers(6);
        assert_eq!(parse(&written).unwrap().eval_f64(&point).unwrap(), sketch.graph.eval_f64(&point).unwrap());
    }
}

#[test]
fn the_network_that_is_damaged_below_is_sound() {
    let graph = parse(&bytes(pictures())).unwrap();
    let output = graph.eval_f64_bounded(&vec![0.5; graph.input_len()]).unwrap();
    assert!(output.len() > 20 && output.iter().all(|&(y, e)| y > 0.0 && e < 1e-14), "{output:?}");
}

#[test]
fn a_network_that_does_nothing_is_written_with_a_node() {
    let sketch = Sketch::new(&[2, 2]);
    let read = parse(&write(&sketch.graph).unwrap()).unwrap();
    assert_eq!(read.input, read.output);
    assert_eq!(read.eval_f64(&[1.0, 2.0, 3.0, 4.0]).unwrap(), [1.0, 2.0, 3.0, 4.0]);
}

/// A small convolutional network with most kinds of attributes.
fn pictures() -> GraphProto {
    let nodes = vec![
        with(node("Pad", &["x"], "p"), &[ints("pads", &[0, 0, 1, 0, 0, 0, 0, 1])]),
        with(node("Conv", &["p", "w", "b"], "c"), &[ints("strides", &[1, 2]), ints("pads", &[1, 0, 0, 1])]),
        with(node("MaxPool", &["c"], "m"), &[ints("kernel_shape", &[2, 1]), int("ceil_mode", 1)]),
        with(node("ConvTranspose", &["m", "w"], "t"), &[ints("dilations", &[2, 1]), int("group", 2)]),
        with(node("AveragePool", &["t"], "a"), &[ints("kernel_shape", &[2, 2]), word("auto_pad", "SAME_UPPER")]),
        with(node("Transpose", &["a"], "r"), &[ints("perm", &[0, 2, 3, 1])]),
        with(node("Slice", &["r"], "s"), &[ints("starts", &[0, 1]), ints("ends", &[1, 3])]),
        with(node("Concat", &["s", "s"], "k"), &[int("axis", 1)]),
        with(node("Softmax", &["k"], "y"), &[int("axis", 2)]),
    ];
    let w = [1.0, -2.0, 0.5, 0.25, 1.0, -1.0, 2.0, 3.0].repeat(2);
    network(&[0, 2, 4, 4], nodes, vec![floats("w", &[2, 2, 2, 2], &w), floats("b", &[2], &[0.5, -0.5])])
}

/// Damage to one place of a file.
fn damaged(bytes: &[u8], kind: u8, at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = at % bytes.len();
    match kind {
        0 => bytes[at] ^= 1 << (byte % 8),
        1 => bytes[at] = byte,
        2 => bytes.truncate(at),
        3 => drop(bytes.remove(at)),
        4 => bytes.insert(at, byte),
        // A number of the largest size, where a length or a dimension may stand.
        _ => drop(bytes.splice(at..=at, [0xff; 9].into_iter().chain([1]))),
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(8192) })]
    #[test]
    fn damaged_files_never_panic(
        damages in prop::collection::vec((0u8..6, any::<usize>(), any::<u8>()), 1..4),
        network in 0..3,
    ) {
        let mut file = match network {
            0 => bytes(sample()),
            1 => bytes(pictures()),
            _ => write(&tokens().graph).unwrap(),
        };
        for (kind, at, byte) in damages {
            if !file.is_empty() {
                file = damaged(&file, kind, at, byte);
            }
        }
        if let Ok(graph) = parse(&file) && graph.input_len() < 1000 {
            // Whatever reads must also evaluate or say why not.
            let zeros = vec![0.0; graph.input_len()];
            let _ = graph.eval_f64_bounded(&zeros);
            let _ = Layers::from_graph(&graph);
        }
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse(&noise).is_err());
    }
}
