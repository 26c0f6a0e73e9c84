//! A real proof of a shipped network under a thousand edits: each is refused or still re-derives the property, and none makes a
//! false property pass.

mod common;

use common::Random;
use std::path::Path;
use wavehull::Control;
use wavehull::graph::{Graph, onnx};
use wavehull::verify::proof::Proof;
use wavehull::verify::{InputBox, Property, Query, Row, Verdict, Verifier, VerifyOptions, check};

/// Every picture within 0.08 of an upright stroke keeps the class that the stroke has, by more than `lead`.
fn keeps_its_class(graph: &Graph, lead: f64) -> Property {
    let n = graph.input_len();
    let ink = |at: usize| (4..24).contains(&(at / 28)) && (13..15).contains(&(at % 28));
    let stroke: Vec<f64> = (0..n).map(|at| if ink(at) { 0.9 } else { 0.0 }).collect();
    let y = graph.eval_f64(&stroke).expect("the reference runs");
    let class = (0..y.len()).max_by(|&a, &b| y[a].total_cmp(&y[b])).expect("ten classes");
    let lo: Vec<f64> = stroke.iter().map(|x| (x - 0.08).max(0.0)).collect();
    let hi: Vec<f64> = stroke.iter().map(|x| (x + 0.08).min(1.0)).collect();
    let (lo_out, hi_out) = (lo.iter().map(|x| x.next_down()).collect(), hi.iter().map(|x| x.next_up()).collect());
    let others = (0..y.len()).filter(|&j| j != class).map(|j| {
        let mut coefficients = vec![(class, 1.0), (j, -1.0)];
        coefficients.sort_by_key(|c| c.0);
        vec![Row { coefficients, constant: -lead, slop: 0.0, coefficient_rel: 0.0, strict: false }]
    });
    let query = Query { input: InputBox { lo, hi, lo_out, hi_out }, unsafe_if: others.collect() };
    Property { inputs: n, outputs: y.len(), queries: vec![query] }
}

/// One random edit: a digit, a sign, a token, a line.
fn edited(text: &str, random: &mut Random) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = random.below(lines.len());
    match random.below(6) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[at].clone()),
        2 => {
            let other = random.below(lines.len());
            lines.swap(at, other);
        }
        3 => {
            let mut tokens: Vec<&str> = lines[at].split(' ').collect();
            let token = random.below(tokens.len());
            tokens[token] = ["0", "1", "-1", "1e9", "NaN", "0.5", "", "2"][random.below(8)];
            lines[at] = tokens.join(" ");
        }
        4 => lines[at] = lines[at].replacen('-', "", 1),
        _ => {
            let digits: Vec<usize> = lines[at].match_indices(|c: char| c.is_ascii_digit()).map(|(i, _)| i).collect();
            if let Some(&i) = digits.get(random.below(digits.len().max(1))) {
                lines[at].replace_range(i..=i, &random.below(10).to_string());
            }
        }
    }
    lines.join("\n")
}

#[test]
fn a_thousand_edits_of_a_real_proof_are_refused_or_still_prove_it() {
    let name = "a_thousand_edits_of_a_real_proof_are_refused_or_still_prove_it";
    let Some(gpu) = common::device(name, false) else { return };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mnist-robust.onnx");
    let (graph, _) = onnx::read(&file).expect("a shipped network");
    let truth = keeps_its_class(&graph, 0.0);
    let mut options = VerifyOptions::default();
    // Without the early exit the proof has refined neurons to tamper with.
    options.early_exit = false;
    options.proofs = true;
    let verifier = Verifier::new(gpu, &graph, options).expect("layers");
    let outcome = verifier.verify(&[&truth], &Control::default()).expect("it runs").remove(0);
    assert_eq!(outcome.verdict, Verdict::Holds, "margin {:?}", outcome.margin);
    let (network, property) = ("a".repeat(64), "b".repeat(64));
    let queries = outcome.proof.expect("what holds has a proof");
    let text = Proof::new(network.as_str(), property.as_str(), "strict", queries).to_string();
    let accepts = |text: &str, property_of: &Property| {
        Proof::parse(text).and_then(|p| check::check(&p, &graph, &network, property_of, &property)).ok()
    };
    assert!(accepts(&text, &truth).is_some(), "the proof as it was made");
    // The stroke itself, which is in the box, leads by less than this.
    let falsehood = keeps_its_class(&graph, 1e3);
    let random = &mut Random::new(1);
    let (mut refused, mut proved) = (0, 0);
    for round in 0..1000 {
        let text = edited(&text, random);
        match accepts(&text, &truth) {
            None => refused += 1,
            Some(report) => {
                assert!(report.worst > 0.0, "round {round}: accepted with {}", report.worst);
                proved += 1;
            }
        }
        assert!(accepts(&text, &falsehood).is_none(), "round {round}: a false property passed\n{text}");
    }
    assert!(refused >= 100 && proved >= 100, "{refused} refused, {proved} still prove it: edits must do both");
}
