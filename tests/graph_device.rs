//! Networks on a device against their f64 reference.

mod common;

use ndarray::Array2;
use std::path::Path;
use wavehull::graph::{Executor, Graph, onnx};
use wavehull::{Control, ErrorKind};

/// Every output may be off by the error of f32 sums as long as the widest layer, on values of the size that occur: 1e-4
/// of the largest output is some ten times gamma_784 = 784 * 2^-23 for the networks here.
const TOLERANCE: f64 = 1e-4;

fn differs(graph: &Graph, samples: &Array2<f32>, outputs: &Array2<f32>) -> Option<f64> {
    let mut worst: f64 = 0.0;
    for (x, y) in samples.rows().into_iter().zip(outputs.rows()) {
        let x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        let exact = graph.eval_f64(&x).expect("the reference runs");
        let scale = exact.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
        for (&got, want) in y.iter().zip(exact) {
            worst = worst.max((f64::from(got) - want).abs() / scale);
        }
    }
    (worst.is_nan() || worst > TOLERANCE).then_some(worst)
}

fn samples(count: usize, length: usize) -> Array2<f32> {
    Array2::from_shape_fn((count, length), |(i, j)| ((i * 7919 + j * 104_729) % 1009) as f32 / 1009.0)
}

#[test]
fn networks_run_as_their_reference_does_and_alone_as_in_a_batch() {
    let Some(gpu) = common::device("networks_run_as_their_reference_does_and_alone_as_in_a_batch", false) else {
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["data/mnist-standard.onnx", "data/mnist-robust.onnx", "tests/fixtures/gemm_relu.onnx"]
        .into_iter()
        .chain(["tests/fixtures/normalised.onnx", "tests/fixtures/old_ir.onnx", "tests/fixtures/columns.onnx"])
        .map(|file| root.join(file));
    // Every operator and corner of its attributes, small.
    let folder = std::fs::read_dir(root.join("tests/fixtures/operators")).expect("a folder of fixtures");
    let operators = folder.flatten().map(|f| f.path()).filter(|f| f.extension().is_some_and(|e| e == "onnx"));
    for path in files.chain(operators) {
        let file = &*path.display().to_string();
        let (graph, _) = onnx::read(&path).expect(file);
        let executor = Executor::new(gpu, &graph).expect(file);
        let mut batch = samples(33, graph.input_len());
        if let Some(table) = graph.nodes.iter().find(|node| node.op.name() == "Embedding") {
            let rows = graph.value(table.inputs[1]).shape[0] as f32;
            let error = executor.run(&(&batch + rows).view(), &Control::default()).expect_err("no rows");
            assert_eq!(error.kind(), ErrorKind::BadInput, "{file}: {error}");
            batch.mapv_inplace(|v| (v * rows).floor());
        }
        let outputs = executor.run(&batch.view(), &Control::default()).expect(file);
        assert_eq!(differs(&graph, &batch, &outputs), None, "{file}");
        let alone = executor.run(&batch.slice(ndarray::s![5..6, ..]), &Control::default()).expect(file);
        assert_eq!(alone.row(0), outputs.row(5), "{file}: bit for bit");
        let mut broken = outputs.clone();
        broken[[32, 0]] += 0.01 * broken.iter().fold(1.0_f32, |m, v| m.max(v.abs()));
        assert!(differs(&graph, &batch, &broken).is_some(), "{file}: a wrong output must be seen");
    }
}

/// Ring 3: the convolutional and residual networks of the published verification benchmarks.
#[test]
fn published_networks_run_as_their_reference_does() {
    let test = "published_networks_run_as_their_reference_does";
    let Some(shared) = std::env::var_os("WAVEHULL_SHARED") else {
        common::say(&format!("skipped: {test}: WAVEHULL_SHARED is not set"));
        return;
    };
    let Some(gpu) = common::device(test, false) else { return };
    let mut run = 0;
    for folder in std::fs::read_dir(Path::new(&shared).join("vnncomp")).expect("a folder of benchmarks").flatten() {
        let Ok(files) = std::fs::read_dir(folder.path().join("onnx")) else { continue };
        let mut files: Vec<_> = files.flatten().map(|f| f.path()).collect();
        files.sort();
        // The networks of a folder are of one kind; three of them are enough here.
        for file in files.iter().take(3) {
            let name = file.display();
            let graph = match onnx::read(file) {
                Ok((graph, _)) => graph,
                // What the reader does not know yet is another test's business.
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    common::say(&format!("skipped: {test}: {name}: {error}"));
                    continue;
                }
                Err(error) => panic!("{name}: {error}"),
            };
            let executor = Executor::new(gpu, &graph).unwrap_or_else(|error| panic!("{name}: {error}"));
            let batch = samples(3, graph.input_len());
            let outputs = executor.run(&batch.view(), &Control::default()).expect("it runs");
            assert_eq!(differs(&graph, &batch, &outputs), None, "{name}");
            let alone = executor.run(&batch.slice(ndarray::s![1..2, ..]), &Control::default()).expect("it runs");
            assert_eq!(alone.row(0), outputs.row(1), "{name}: bit for bit");
            run += 1;
        }
    }
    assert!(run > 0, "no network ran");
}

#[test]
fn samples_of_another_length_are_refused() {
    let Some(gpu) = common::device("samples_of_another_length_are_refused", false) else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (graph, _) = onnx::read(&root.join("data/mnist-robust.onnx")).expect("shipped");
    let executor = Executor::new(gpu, &graph).expect("it runs");
    let error = executor.run(&samples(2, 783).view(), &Control::default()).expect_err("too short");
    assert_eq!(error.kind(), ErrorKind::BadInput, "{error}");
}
