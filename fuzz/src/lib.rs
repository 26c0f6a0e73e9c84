//! What is demanded of every reader on any bytes: no panic, no hang, no memory out of proportion, and more where it is
//! cheap to say. A violation is a panic. The fuzz targets run these functions under libFuzzer; `tests/fuzz_corpus.rs` of the
//! main crate includes this file and runs them on the corpus, on stable Rust, in the ordinary test suite.

mod pack;
mod sparse;
mod tflite;

pub use pack::pack;
pub use sparse::sparse;
pub use tflite::tflite;

use std::sync::OnceLock;

use wavehull::graph::{Graph, Layers, onnx as format};
use wavehull::verify::proof::Proof;
use wavehull::verify::{Property, check, vnnlib as language};

/// Networks with more numbers than this are read but not run: the target is the reader.
const SMALL: usize = 1 << 16;

/// The ONNX reader, and what a graph that it returns must stand: the f64 reference, the form of layers, and being written again.
pub fn onnx(bytes: &[u8]) {
    let Ok(graph) = format::parse(bytes) else { return };
    graph.check().expect("a graph that was read is well-formed");
    if numbers(&graph) > SMALL {
        return;
    }
    if let Ok(y) = graph.eval_f64(&vec![0.5; graph.input_len()]) {
        assert_eq!(y.len(), graph.output_len(), "the reference returns what the shapes promise");
    }
    if let Ok(layers) = Layers::from_graph(&graph) {
        assert_eq!(
            (layers.input_len(), layers.output_len()),
            (graph.input_len(), graph.output_len()),
            "ends of the layers"
        );
    }
    if let Ok(written) = format::write(&graph) {
        let again = format::parse(&written).expect("what was written reads back");
        assert_eq!(
            (again.input_len(), again.output_len()),
            (graph.input_len(), graph.output_len()),
            "the same network"
        );
    }
}

/// Elements of all tensors of a graph, saturating.
fn numbers(graph: &Graph) -> usize {
    let size = |shape: &[usize]| shape.iter().fold(1, |n: usize, &d| n.saturating_mul(d));
    graph.values.iter().fold(0, |n: usize, value| n.saturating_add(size(&value.shape)))
}

/// The VNN-LIB reader: a property that it returns is well-formed, its boxes are not empty and enclosed by their outward ends.
pub fn vnnlib(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(property) = language::parse(text) else { return };
    assert!(!property.summary().is_empty(), "a property has words");
    for query in &property.queries {
        let ends = &query.input;
        let lengths = [ends.lo.len(), ends.hi.len(), ends.lo_out.len(), ends.hi_out.len()];
        assert_eq!(lengths, [property.inputs; 4], "every input has both ends");
        for i in 0..property.inputs {
            assert!(ends.lo[i] <= ends.hi[i] && ends.lo_out[i] <= ends.hi_out[i], "input {i} has an empty side");
            assert!(ends.lo_out[i] <= ends.lo[i] && ends.hi[i] <= ends.hi_out[i], "input {i}: outward means outward");
        }
        for row in query.unsafe_if.iter().flatten() {
            let indices = row.coefficients.windows(2).all(|pair| pair[0].0 < pair[1].0);
            assert!(indices, "outputs of a row ascend");
            assert!(row.coefficients.iter().all(|&(j, c)| j < property.outputs && c.is_finite()), "outputs exist");
            assert!(row.constant.is_finite() && row.slop >= 0.0 && row.coefficient_rel >= 0.0, "errors are bounds");
        }
    }
}

/// The proof reader and the checker: whatever the proof says, a false property is never accepted, a true one only with a
/// positive bound, and a proof that was read reads back from its own text.
pub fn proof(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(proof) = Proof::parse(text) else { return };
    let again = Proof::parse(&proof.to_string()).expect("what was written reads back");
    assert!(proof == again, "the text of a proof says all of it");
    let case = case();
    // The digests are not the question here: nobody guesses one.
    let accept = |property| check::check(&proof, &case.graph, &proof.network, property, &proof.property).ok();
    if let Some(report) = accept(&case.truth) {
        assert!(report.worst > 0.0, "accepted with a bound of {}", report.worst);
    }
    assert!(accept(&case.falsehood).is_none(), "a false property was proved");
}

/// A small network with a property that it has and one that it has not.
struct Case {
    graph: Graph,
    truth: Property,
    falsehood: Property,
}

fn case() -> &'static Case {
    static CASE: OnceLock<Case> = OnceLock::new();
    CASE.get_or_init(|| {
        let read = |text| language::parse(text).expect("a fixed property");
        let graph = format::parse(include_bytes!("../../tests/fixtures/gemm_relu.onnx")).expect("a fixed network");
        let falsehood = read(include_str!("../properties/falsehood.vnnlib"));
        refute(&graph, &falsehood);
        Case { graph, truth: read(include_str!("../properties/truth.vnnlib")), falsehood }
    })
}

/// Makes sure that the centre of the box is a counterexample, by more than f64 could be wrong.
fn refute(graph: &Graph, property: &Property) {
    let query = &property.queries[0];
    let centre: Vec<f64> = query.input.lo.iter().zip(&query.input.hi).map(|(lo, hi)| (lo + hi) / 2.0).collect();
    let y = graph.eval_f64(&centre).expect("the reference runs");
    let value =
        |row: &wavehull::verify::Row| row.coefficients.iter().map(|&(j, c)| c * y[j]).sum::<f64>() + row.constant;
    assert!(query.unsafe_if[0].iter().all(|row| value(row) < -1e-3), "the falsehood must be false: {y:?}");
}
