//! The ONNX reader, the `f64` reference and the form of layers on files: small fixtures whose outputs onnxruntime
//! computed, and the fully connected benchmark networks where they are present.
#![cfg(feature = "onnx")]

use std::path::{Path, PathBuf};
use wavehull::graph::{Activation, Edge, Graph, Layer, Layers, Map, onnx};

const FIXTURES: [&str; 4] = ["gemm_relu", "old_ir", "normalised", "columns"];

fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file)
}

/// The samples of a fixture: for each the input, the outputs in `f32` and those in `f64`.
fn samples(name: &str) -> Vec<[Vec<f64>; 3]> {
    let text = std::fs::read_to_string(fixture(&format!("{name}.txt"))).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let numbers = |line: &str, key: &str| -> Vec<f64> {
        let rest = line.strip_prefix(key).unwrap();
        rest.split_whitespace().map(|x| x.parse().unwrap()).collect()
    };
    let sample = |lines: &[&str]| [numbers(lines[0], "input "), numbers(lines[1], "f32 "), numbers(lines[2], "f64 ")];
    lines.chunks(3).map(sample).collect()
}

#[test]
fn the_reference_agrees_with_onnxruntime() {
    for name in FIXTURES {
        let (graph, _) = onnx::read(&fixture(&format!("{name}.onnx"))).unwrap();
        let samples = samples(name);
        assert_eq!(samples.len(), 4, "{name}");
        for [input, f32s, f64s] in samples {
            let output = graph.eval_f64_bounded(&input).unwrap();
            assert_eq!(output.len(), f64s.len(), "{name}");
            for ((&(value, bound), f32s), f64s) in output.iter().zip(f32s).zip(f64s) {
                // At most 4 layers of at most 18 terms on numbers below 10 whose magnitudes sum to less than 100:
                // 4 * 20 * u * 100 for either precision.
                assert!((value - f64s).abs() <= 8e3 * 2f64.powi(-53), "{name}: {value} or {f64s}");
                assert!((value - f32s).abs() <= 8e3 * 2f64.powi(-24), "{name}: {value} or {f32s}");
                assert!(bound < 1e-13, "{name}: {bound}");
            }
        }
    }
}

/// A fixture of `operators`: how far a correct evaluator may be off (see scripts/make_onnx_fixtures.py) in units of
/// roundoff, and the samples: input, outputs in `f32`, outputs in `f64` or none.
struct Operators {
    name: String,
    units: f64,
    samples: Vec<[Vec<f64>; 3]>,
}

fn operators() -> Vec<Operators> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(fixture("operators")).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|e| e == "txt"));
    names.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let numbers = |line: &str, key: &str| -> Vec<f64> {
            let rest = line.strip_prefix(key).unwrap_or_else(|| panic!("no {key} in {}", path.display()));
            rest.split_whitespace().map(|x| x.parse().unwrap()).collect()
        };
        let lines: Vec<&str> = text.lines().skip(1).collect();
        let scale: Vec<&str> = lines[0].split(' ').collect();
        let [_, terms, _, magnitude] = scale[..] else { panic!("{}", path.display()) };
        let sample = |lines: &[&str]| [numbers(lines[0], "input"), numbers(lines[1], "f32"), numbers(lines[2], "f64")];
        Operators {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            units: 2.0 * terms.parse::<f64>().unwrap() * magnitude.parse::<f64>().unwrap(),
            samples: lines[1..].chunks(3).map(sample).collect(),
        }
    };
    names.iter().map(read).collect()
}

#[test]
fn every_operator_agrees_with_onnxruntime() {
    let fixtures = operators();
    assert!(fixtures.len() >= 25, "{} fixtures", fixtures.len());
    let (mut exact, mut wide) = (0, 0);
    for Operators { name, units, samples } in fixtures {
        let (graph, _) = onnx::read(&fixture(&format!("operators/{name}.onnx"))).unwrap();
        assert_eq!(samples.len(), 3, "{name}");
        for [input, f32s, f64s] in samples {
            let output = graph.eval_f64_bounded(&input).unwrap();
            let plain = graph.eval_f64(&input).unwrap();
            assert_eq!((output.len(), plain.len()), (f32s.len(), f32s.len()), "{name}");
            for (i, (&(value, bound), plain)) in output.iter().zip(plain).enumerate() {
                assert_eq!(value, plain, "{name}");
                assert!(bound <= (1.0 + units) * 2f64.powi(-52), "{name}: {bound} at {i}");
                let (narrow, allowed) = (f32s[i], units * 2f64.powi(-24));
                assert!((value - narrow).abs() <= allowed, "{name}: {value} or {narrow} at {i}");
                exact += usize::from(allowed == 0.0);
                if let Some(wide_output) = f64s.get(i) {
                    // Besides what onnxruntime may be off, the reference may be.
                    let allowed = units * 2f64.powi(-53) + bound;
                    assert!((value - wide_output).abs() <= allowed, "{name}: {value} or {wide_output} at {i}");
                    wide += 1;
                }
            }
        }
    }
    assert!(exact > 1000 && wide > 300, "{exact} exact numbers, {wide} in f64");
}

#[test]
fn written_operators_read_back_as_the_same_function() {
    for Operators { name, samples, .. } in operators() {
        let (graph, _) = onnx::read(&fixture(&format!("operators/{name}.onnx"))).unwrap();
        let written = onnx::write(&graph).unwrap();
        let read = onnx::parse(&written).unwrap_or_else(|e| panic!("{name}: {e}"));
        for [input, ..] in &samples {
            assert_eq!(read.eval_f64_bounded(input).unwrap(), graph.eval_f64_bounded(input).unwrap(), "{name}");
        }
        // What selections are written as stays itself.
        let again = onnx::parse(&onnx::write(&read).unwrap()).unwrap();
        let ops = |graph: &Graph| graph.nodes.iter().map(|node| node.op.clone()).collect::<Vec<_>>();
        assert_eq!(ops(&again), ops(&read), "{name}");
    }
}

/// The matrix of a layer with one edge.
fn matrix(layer: &Layer) -> &ndarray::Array2<f32> {
    match &layer.edges[..] {
        [Edge { map: Map::Dense(matrix), .. }] => matrix,
        edges => panic!("layer '{}' has the edges {edges:?}", layer.name),
    }
}

#[test]
fn fixtures_have_their_layers() {
    let read = |name: &str| onnx::read(&fixture(&format!("{name}.onnx"))).unwrap().0;
    let layers = |name: &str| Layers::from_graph(&read(name)).unwrap();
    let sizes = |layers: &Layers| -> Vec<(usize, usize, Activation)> {
        let size = |l: &Layer| (matrix(l).ncols(), matrix(l).nrows(), l.activation);
        layers.layers.iter().map(size).collect()
    };
    let (relu, none) = (Activation::Relu, Activation::None);
    let gemm_relu = layers("gemm_relu");
    assert_eq!(sizes(&gemm_relu), [(4, 6, relu), (6, 5, relu), (5, 3, none)]);
    assert!(is_exact(&gemm_relu));
    let old_ir = layers("old_ir");
    assert_eq!(sizes(&old_ir), [(5, 8, relu), (8, 2, none)]);
    assert!(is_exact(&old_ir));
    let normalised = layers("normalised");
    assert_eq!(sizes(&normalised), [(18, 7, relu), (7, 4, none)]);
    assert!(normalised.layers[0].edges[0].rel > 0.0 && normalised.layers[1].edges[0].rel == 0.0);
    let refused = Layers::from_graph(&read("columns")).unwrap_err().to_string();
    assert!(refused.contains("(Mul) multiplies two computed values"), "{refused}");
}

/// What is not folded has the numbers of the file.
#[test]
fn exact_layers_have_the_numbers_of_the_file() {
    for name in ["gemm_relu", "old_ir"] {
        let (graph, _) = onnx::read(&fixture(&format!("{name}.onnx"))).unwrap();
        let layers = Layers::from_graph(&graph).unwrap();
        let in_file = |numbers: &[f32]| {
            let mut constants = graph.values.iter().filter_map(|value| value.constant.as_deref());
            constants.any(|constant| {
                let (plain, turned) = (constant.iter(), constant.t());
                constant.len() == numbers.len() && (plain.eq(numbers) || turned.iter().eq(numbers))
            })
        };
        for layer in &layers.layers {
            let weight: Vec<f32> = matrix(layer).iter().copied().collect();
            let bias = in_file(&layer.bias) || layer.bias.iter().all(|&b| b == 0.0);
            assert!(in_file(&weight) && bias, "{name}: layer '{}'", layer.name);
        }
    }
}

fn is_exact(layers: &Layers) -> bool {
    let exact = |l: &Layer| l.edges.iter().all(|e| e.rel == 0.0) && l.bias_abs.iter().all(|&e| e == 0.0);
    layers.layers.iter().all(exact)
}

#[test]
fn gzipped_files_are_unpacked_and_errors_name_the_file() {
    use std::io::Write;
    let plain = std::fs::read(fixture("old_ir.onnx")).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&plain).unwrap();
    let packed = encoder.finish().unwrap();
    let folder = std::env::temp_dir().join(format!("wavehull-graph-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("net.onnx.gz");
    std::fs::write(&file, &packed).unwrap();
    let (graph, bytes) = onnx::read(&file).unwrap();
    assert_eq!(bytes, plain);
    assert_eq!((graph.name.as_str(), graph.input_len()), ("acas", 5));
    std::fs::write(&file, &packed[..packed.len() / 2]).unwrap();
    let damaged = onnx::read(&file).unwrap_err().to_string();
    assert!(damaged.contains("net.onnx.gz") && damaged.contains("gzip"), "{damaged}");
    std::fs::write(&file, &plain[..plain.len() / 2]).unwrap();
    let truncated = onnx::read(&file).unwrap_err().to_string();
    assert!(truncated.contains("net.onnx.gz") && truncated.contains("ends inside"), "{truncated}");
    std::fs::remove_dir_all(&folder).unwrap();
    let missing = onnx::read(&file).unwrap_err();
    assert_eq!(missing.kind(), wavehull::error::ErrorKind::Io);
}

/// The networks of a benchmark, or none with a word about it.
fn benchmark(name: &str) -> Vec<PathBuf> {
    let Some(shared) = std::env::var_os("WAVEHULL_SHARED") else {
        eprintln!("skipped: the networks of {name}: WAVEHULL_SHARED is not set");
        return Vec::new();
    };
    let folder = Path::new(&shared).join("vnncomp").join(name).join("onnx");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: the networks of {name}: there is no folder {}", folder.display());
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A point inside 0..1 that is not symmetric.
fn point(len: usize) -> Vec<f64> {
    (0..len).map(|i| ((i * 37 + 11) % 101) as f64 / 101.0).collect()
}

fn check(graph: &Graph, file: &Path, inputs: usize, outputs: usize) -> Layers {
    let name = file.display();
    assert_eq!((graph.input_len(), graph.output_len()), (inputs, outputs), "{name}");
    let input = point(inputs);
    let output = graph.eval_f64_bounded(&input).unwrap();
    let layers = Layers::from_graph(graph).unwrap();
    assert_eq!((layers.input_len(), layers.output_len()), (inputs, outputs), "{name}");
    let scale = output.iter().fold(1.0, |m: f64, o| m.max(o.0.abs()));
    for (&(value, bound), layered) in output.iter().zip(layers.eval_f64(&input)) {
        assert!(value.is_finite() && bound.is_finite() && bound < 1e-9 * scale, "{name}: {bound}");
        // Exact layers differ by the rounding of f64 only, folded ones by that of f32.
        let allowed = if is_exact(&layers) { 1e-9 } else { 1e-4 } * scale;
        assert!((value - layered).abs() <= allowed, "{name}: {value} or {layered}");
    }
    layers
}

#[test]
fn benchmark_networks_are_read_and_evaluated() {
    let sizes: [(&str, &str, usize, usize); 9] = [
        ("acasxu", "", 5, 5),
        ("mnist_fc", "", 784, 10),
        ("reach_prob_density", "gcas", 14, 14),
        ("reach_prob_density", "robot", 5, 5),
        ("reach_prob_density", "vdp", 3, 3),
        ("rl_benchmarks", "cartpole", 4, 2),
        ("rl_benchmarks", "dubinsrejoin", 8, 8),
        ("rl_benchmarks", "lunarlander", 8, 4),
        ("eran", "mnist_relu_9_200", 784, 10),
    ];
    for (name, part, inputs, outputs) in sizes {
        let files = benchmark(name);
        let mut found = 0;
        for file in files.iter().filter(|file| file.to_string_lossy().contains(part)) {
            let (graph, _) = onnx::read(file).unwrap();
            let layers = check(&graph, file, inputs, outputs);
            // ERAN's network normalises its input by (x - 0) / 1, which is exact, too.
            assert!(is_exact(&layers), "{}", file.display());
            found += 1;
        }
        let expected = if name == "acasxu" {
            45
        } else if name == "mnist_fc" {
            3
        } else {
            1
        };
        assert!(files.is_empty() || found == expected, "{found} networks of {name}");
    }
}

/// All networks of all families: each loads, and its values lie in their bounds, which are small.
#[test]
fn all_benchmark_networks_are_read_and_evaluated() {
    let families = [
        ("acasxu", 45),
        ("cifar10_resnet", 2),
        ("collins_rul_cnn", 3),
        ("eran", 2),
        ("mnist_fc", 3),
        ("oval21", 3),
        ("reach_prob_density", 3),
        ("rl_benchmarks", 3),
        ("verivital", 2),
    ];
    for (family, count) in families {
        let files = benchmark(family);
        assert!(files.is_empty() || files.len() == count, "{} networks of {family}", files.len());
        for file in &files {
            let name = file.display();
            let (graph, _) = onnx::read(file).unwrap();
            let input = point(graph.input_len());
            let plain = graph.eval_f64(&input).unwrap();
            let bounded = graph.eval_f64_bounded(&input).unwrap();
            let scale = plain.iter().fold(1.0, |m: f64, y| m.max(y.abs()));
            assert_eq!((plain.len(), bounded.len()), (graph.output_len(), graph.output_len()), "{name}");
            for (plain, (value, bound)) in plain.iter().zip(bounded) {
                assert!(plain.is_finite() && (plain - value).abs() <= bound, "{name}: {plain} or {value} +- {bound}");
                // Networks of up to 10 layers with 10^4 terms each: 1e-9 leaves room for a growth of 10^4.
                assert!(bound < 1e-9 * scale, "{name}: {bound}");
            }
            let read = onnx::parse(&onnx::write(&graph).unwrap()).unwrap();
            assert_eq!(read.eval_f64(&input).unwrap(), plain, "{name}");
        }
    }
}
