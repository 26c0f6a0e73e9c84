//! Ring 3: published instances with known verdicts. No answer may contradict them, every proof must pass the checker.

mod common;

use std::path::PathBuf;
use std::time::Duration;
use wavehull::Control;
use wavehull::graph::onnx;
use wavehull::verify::instances::{Finished, read_list, verify_list};
use wavehull::verify::proof::{Proof, sha256_hex};
use wavehull::verify::{VerifyOptions, check, vnnlib};

/// The folder of a benchmark, or a named skip.
fn folder(test: &str, name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("WAVEHULL_SHARED").map(|shared| PathBuf::from(shared).join("vnncomp").join(name));
    let found = found.filter(|path| path.join("instances.csv").exists());
    if found.is_none() {
        common::say(&format!("skipped: {test}: WAVEHULL_SHARED does not name a folder with vnncomp/{name}"));
    }
    found
}

/// Verifies the instances whose network or property contains `only`, and checks every proof; counts of unsat and sat.
fn run(test: &str, name: &str, only: &str) -> Option<(usize, usize)> {
    run_with(test, name, only, VerifyOptions::default())
}

fn run_with(test: &str, name: &str, only: &str, mut options: VerifyOptions) -> Option<(usize, usize)> {
    let gpu = common::device(test, false)?;
    let base = folder(test, name)?;
    let mut list = read_list(&base.join("instances.csv")).expect("a list");
    list.retain(|instance| instance.onnx.contains(only) || instance.vnnlib.contains(only));
    options.proofs = true;
    let mut counts = (0, 0);
    verify_list(gpu, &base, &list, &options, &Control::default(), |finished: Finished| {
        let report = &finished.report;
        assert!(
            !report.is_wrong(),
            "{} {}: {} against {:?}",
            report.onnx,
            report.vnnlib,
            report.result,
            report.expected
        );
        assert_ne!(report.result, "error", "{}: {:?}", report.vnnlib, report.reason);
        counts.0 += usize::from(report.result == "unsat");
        counts.1 += usize::from(report.result == "sat");
        let provable = report.result == "unsat" && report.boxes.is_none();
        assert_eq!(provable, finished.proof.is_some(), "what holds without splits has a proof");
        if let Some(boxes) = report.boxes.filter(|_| report.result == "unsat") {
            assert!(boxes.left == 0 && boxes.done > 0, "{}: holds with {boxes:?}", report.vnnlib);
        }
        if let Some(proof) = &finished.proof {
            let (graph, network) = onnx::read(&base.join(&report.onnx)).expect("it was read before");
            let (property, bytes) = vnnlib::read(&base.join(&report.vnnlib)).expect("it was read before");
            let proof = Proof::parse(&proof.to_string()).expect("a proof reads back");
            check::check(&proof, &graph, &sha256_hex(&network), &property, &sha256_hex(&bytes)).expect(&report.vnnlib);
        }
    })
    .expect("the list runs through");
    Some(counts)
}

#[test]
fn mnist_fc_of_two_layers_is_decided_as_published() {
    let Some((unsat, sat)) = run("mnist_fc_of_two_layers_is_decided_as_published", "mnist_fc", "256x2") else { return };
    assert!(unsat >= 10 && sat >= 10, "{unsat} hold, {sat} violated: 10 and 11 were seen");
}

#[test]
fn reinforcement_learning_controllers_are_decided_as_published() {
    let name = "reinforcement_learning_controllers_are_decided_as_published";
    let Some((unsat, sat)) = run(name, "rl_benchmarks", "") else { return };
    assert!(unsat >= 165 && sat >= 100, "{unsat} hold, {sat} violated: 165 and 103 were seen");
}

#[test]
fn collision_avoidance_contradicts_no_published_verdict() {
    let name = "collision_avoidance_contradicts_no_published_verdict";
    let Some((unsat, sat)) = run(name, "acasxu", "run2a_1_") else { return };
    assert!(unsat + sat >= 1, "{unsat} hold, {sat} violated");
}

#[test]
fn splits_decide_all_reinforcement_learning_controllers() {
    let name = "splits_decide_all_reinforcement_learning_controllers";
    let mut options = VerifyOptions::default();
    options.cap = Some(Duration::from_secs(300));
    let Some(counts) = run_with(name, "rl_benchmarks", "", options) else { return };
    assert_eq!(counts, (193, 103), "as published");
}

#[test]
fn splits_decide_collision_avoidance() {
    let mut options = VerifyOptions::default();
    options.cap = Some(Duration::from_secs(300));
    let Some(counts) = run_with("splits_decide_collision_avoidance", "acasxu", "run2a_1_7", options) else { return };
    assert_eq!(counts, (2, 2), "as published");
}
