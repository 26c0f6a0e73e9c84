//! The program from outside: help, exit codes, messages, files and JSON.
#![cfg(feature = "cli")]

#[path = "common/program.rs"]
mod program;

use std::process::{Command, Stdio};

use program::{Folder, PROGRAM, Ran, device};
use serde_json::Value as Json;
use wavehull::graph::{Graph, Node, Op, Value, ValueId, onnx};

/// A folder with a network of two layers: `Y_0 = |X_0| + |X_1|`, `Y_1 = 3`.
fn networks(test: &str) -> Folder {
    let folder = Folder::new("cli", test);
    folder.write("net.onnx", onnx::write(&network()).expect("a well-formed network"));
    for (name, condition) in [
        ("holds.vnnlib", "(>= Y_0 Y_1)"),
        ("violated.vnnlib", "(>= Y_0 1.0)"),
        // True in the reals, but no bound in f32 can say so: Y_0 reaches 2.
        ("tight.vnnlib", "(> Y_0 2.0)"),
    ] {
        folder.write(name, property(condition));
    }
    folder
}

fn network() -> Graph {
    let constant = |name: &str, shape: &[usize], data: &[f32]| {
        let array = ndarray::ArrayD::from_shape_vec(shape, data.to_vec()).expect("as many numbers as the shape says");
        Value { name: name.to_owned(), shape: shape.to_vec(), constant: Some(array.into()) }
    };
    let open = |name: &str, width| Value { name: name.to_owned(), shape: vec![1, width], constant: None };
    let gemm = || Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false };
    let node = |name: &str, op, inputs: &[usize], output| {
        let inputs = inputs.iter().map(|&i| ValueId(i)).collect();
        Node { name: name.to_owned(), op, inputs, output: ValueId(output) }
    };
    Graph {
        name: "absolute values".to_owned(),
        values: vec![
            open("x", 2),
            constant("w1", &[2, 4], &[1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0, -1.0]),
            constant("b1", &[4], &[0.0; 4]),
            open("z", 4),
            open("h", 4),
            constant("w2", &[4, 2], &[1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]),
            constant("b2", &[2], &[0.0, 3.0]),
            open("y", 2),
        ],
        nodes: vec![
            node("first", gemm(), &[0, 1, 2], 3),
            node("middle", Op::Relu, &[3], 4),
            node("last", gemm(), &[4, 5, 6], 7),
        ],
        input: ValueId(0),
        output: ValueId(7),
    }
}

/// The box [-1, 1]^2 and a condition.
fn property(condition: &str) -> String {
    let mut text = String::from("; inputs and outputs\n");
    for name in ["X_0", "X_1", "Y_0", "Y_1"] {
        text += &format!("(declare-const {name} Real)\n");
    }
    for name in ["X_0", "X_1"] {
        text += &format!("(assert (>= {name} -1.0))\n(assert (<= {name} 1.0))\n");
    }
    text + &format!("(assert {condition})\n")
}

#[test]
fn help_names_every_command_and_exit_code() {
    let folder = networks("help");
    let help = folder.run(&["--help"]);
    help.expect(0, &[]);
    for word in ["demo", "verify", "train", "check", "devices", "doctor", "bench", "Exit codes:", "130", "--quiet"] {
        assert!(help.stdout.contains(word), "{word}");
    }
    for (command, words) in [
        ("demo", &["--digits", "--radius", "--save"][..]),
        (
            "verify",
            &["<NETWORK> <PROPERTY>", "--instances", "--proof", "--vnncomp", "--trust-f32", "Exit codes: 0 holds"],
        ),
        ("train", &["<CONFIG.toml>", "--check", "--slots", "--folder", "--memory", "docs/train.md", "Exit codes: 0"]),
        ("check", &["<PROOF> <NETWORK> <PROPERTY>", "1 refused"]),
        ("devices", &["--json"]),
        ("doctor", &["--adapter", "bug report"]),
        ("bench", &["--only", "--compare", "--quick", "Groups: ", "hash", "Exit codes: 0"]),
    ] {
        let help = folder.run(&[command, "--help"]);
        help.expect(0, &[]);
        for word in words.iter().chain(&["--json"]) {
            assert!(help.stdout.contains(word), "{command}: no '{word}' in {}", help.stdout);
        }
    }
    for wrong in [&["verify"][..], &["verify", "net.onnx"], &["verify", "--only", "x", "a", "b"], &["frobnicate"]] {
        folder.run(wrong).expect(2, &["error:", "--help"]);
    }
    folder.run(&["verify", "net.onnx", "holds.vnnlib", "--timeout", "0"]).expect(2, &["--timeout"]);
}

/// Files are read before a device is looked for, so none is needed to hear what is wrong with them.
#[test]
fn bad_files_are_named_with_their_place_and_a_next_step() {
    let folder = networks("bad-files");
    let network = onnx::write(&network()).expect("a well-formed network");
    folder.write("cut.onnx", &network[..network.len() / 2]);
    folder.write("operator.onnx", replaced(&network, b"Relu", b"Celu"));
    let good = property("(>= Y_0 Y_1)");
    folder.write("bracket.vnnlib", good.replace("(assert (>= X_0 -1.0))", "(assert (>= X_0 -1.0)"));
    folder.write("variable.vnnlib", good.replace("(>= Y_0 Y_1)", "(>= Y_0 Y_7)"));
    folder.write("empty-box.vnnlib", good.replace("(<= X_1 1.0)", "(<= X_1 -2.0)"));
    folder.write("list.csv", "onnx,vnnlib,timeout\nnet.onnx,holds.vnnlib,soon\n");
    for (network, property, parts) in [
        ("cut.onnx", "holds.vnnlib", &["error[E0201]: cut.onnx: ", "help: "][..]),
        ("operator.onnx", "holds.vnnlib", &["error[E0202]: operator.onnx: ", "Celu", "help: "]),
        ("net.onnx", "bracket.vnnlib", &["error[E0201]: bracket.vnnlib:", "help: "]),
        ("net.onnx", "variable.vnnlib", &["error[E0201]: variable.vnnlib:10:", "Y_7", "help: "]),
        ("net.onnx", "empty-box.vnnlib", &["error[E0201]: empty-box.vnnlib:", "X_1", "help: "]),
        ("none.onnx", "holds.vnnlib", &["error[E0301]: none.onnx: ", "help: "]),
    ] {
        let ran = folder.run_without_device(&["verify", network, property]);
        ran.expect(2, parts);
        assert_eq!(ran.stdout, "", "{network}, {property}");
    }
    folder
        .run_without_device(&["verify", "--instances", "list.csv"])
        .expect(2, &["error[E0201]: list.csv:2:1: ", "soon"]);

    let ran =
        folder.run_without_device(&["verify", "net.onnx", "variable.vnnlib", "--json", "--vnncomp", "result.txt"]);
    let error = &ran.expect(2, &["error[E0201]"]).json()["error"];
    assert_eq!((error["code"].as_str(), error["line"].as_u64()), (Some("E0201"), Some(10)), "{error}");
    assert_eq!(folder.read("result.txt"), "error\n");
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("something to replace");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
#[cfg(target_os = "linux")]
fn without_an_adapter_every_command_says_so() {
    let folder = networks("no-adapter");
    let verify = ["verify", "net.onnx", "holds.vnnlib", "--vnncomp", "result.txt"];
    for command in [&[][..], &["devices"], &["devices", "--json"], &["doctor"], &["demo"], &["bench"], &verify] {
        folder.run_without_device(command).expect(4, &["error[E0101]: ", "help: "]);
    }
    assert_eq!(folder.read("result.txt"), "error\n");
}

#[test]
fn devices_are_listed_for_people_and_programs() {
    if !device("devices_are_listed_for_people_and_programs") {
        return;
    }
    let folder = networks("devices");
    let json = folder.run(&["devices", "--json"]).expect(0, &[]).json();
    assert_eq!(json["schema"], 1);
    let name = json["devices"][0]["name"].as_str().expect("a name").to_owned();
    let welcome = folder.run(&[]).stdout;
    for command in ["demo", "verify", "train", "doctor"] {
        assert!(welcome.contains(&format!("wavehull {command}")), "no {command} in {welcome}");
    }
    for text in [folder.run(&["devices"]).stdout, welcome] {
        assert!(text.contains(&name), "no '{name}' in {text}");
        assert!(!text.contains('\x1b'), "colours in a pipe: {text:?}");
    }
    folder.run(&["verify", "net.onnx", "holds.vnnlib", "--adapter", "no such card"]).expect(4, &["E0101", &name]);
}

#[test]
fn a_proof_is_made_and_checked_and_refused_for_anything_else() {
    if !device("a_proof_is_made_and_checked_and_refused_for_anything_else") {
        return;
    }
    let folder = networks("proof");
    let made = folder.run(&["verify", "net.onnx", "holds.vnnlib", "--proof", "net.proof"]);
    made.expect(0, &["device: "]);
    for part in ["holds: ", "property", "Y_1 <= Y_0", "margin", "start-up", "net.proof"] {
        assert!(made.stdout.contains(part), "no '{part}' in {}", made.stdout);
    }
    // No device from here on: the checker needs none.
    let checked = folder.run_without_device(&["check", "net.proof", "net.onnx", "holds.vnnlib"]);
    assert!(checked.expect(0, &[]).stdout.starts_with("accepted"), "{checked:?}");
    let json = folder.run_without_device(&["check", "net.proof", "net.onnx", "holds.vnnlib", "--json"]).json();
    assert_eq!((json["accepted"].as_bool(), json["claims"].as_u64()), (Some(true), Some(1)), "{json}");
    // The claim is about Y_1 - Y_0, at least 1 in the box.
    let margin = json["margin"].as_f64().expect("a margin");
    assert!((0.99..=1.0).contains(&margin), "{margin}");

    let other = folder.run_without_device(&["check", "net.proof", "net.onnx", "violated.vnnlib"]);
    other.expect(1, &["error[E0203]: net.proof:3:1: ", "another property", "help: "]);
    assert!(other.stdout.starts_with("refused"), "{other:?}");
    let text = folder.read("net.proof");
    for (name, corrupt) in [
        ("cut.proof", text.replace("end\n", "")),
        ("word.proof", text.replace("slopes", "slops")),
        ("greedy.proof", greedy(&text)),
        ("empty.proof", String::new()),
    ] {
        assert_ne!(corrupt, text, "{name} is corrupt");
        folder.write(name, corrupt);
        let refused = folder.run_without_device(&["check", name, "net.onnx", "holds.vnnlib", "--json"]);
        let json = refused.expect(1, &[&format!("error[E0203]: {name}:"), "help: "]).json();
        assert_eq!((&json["accepted"], &json["error"]["code"]), (&Json::Bool(false), &Json::from("E0203")), "{name}");
    }
    folder.run_without_device(&["check", "none.proof", "net.onnx", "holds.vnnlib"]).expect(2, &["E0301"]);
}

/// The same proof with more claimed than is true.
fn greedy(proof: &str) -> String {
    let lines = proof.lines().map(|line| if line.starts_with("claim ") { "claim 0 0 1.5" } else { line });
    lines.fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn verdicts_have_their_words_codes_and_files() {
    if !device("verdicts_have_their_words_codes_and_files") {
        return;
    }
    let folder = networks("verdicts");
    for (property, code, word, first) in [
        ("holds.vnnlib", 0, "holds: ", "unsat"),
        ("violated.vnnlib", 1, "violated: ", "sat"),
        ("tight.vnnlib", 3, "unknown: ", "unknown"),
    ] {
        let ran = folder.run(&["verify", "net.onnx", property, "--vnncomp", "result.txt", "-q"]);
        assert!(ran.expect(code, &[]).stdout.contains(&format!("\n{word}")), "{ran:?}");
        assert_eq!(folder.read("result.txt").lines().next(), Some(first));
    }
    let ran = folder.run(&["verify", "net.onnx", "violated.vnnlib", "--vnncomp", "result.txt", "--json"]);
    let json = ran.expect(1, &[]).json();
    assert_eq!(json["instances"][0]["result"], "sat");
    assert_eq!(json["counterexample"]["condition"], "Y_0 >= 1");
    let values = assignment(&folder.read("result.txt"));
    let names: Vec<&str> = values.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["X_0", "X_1", "Y_0", "Y_1"]);
    let x = [values[0].1, values[1].1];
    assert_eq!(json["counterexample"]["x"], Json::from(x.to_vec()), "both files have the same numbers");
    assert!(x.iter().all(|v| v.abs() <= 1.0) && x[0].abs() + x[1].abs() >= 1.0, "{x:?} is no counterexample");
    assert_eq!(values[3].1, 3.0);

    let late = folder.run(&["verify", "net.onnx", "tight.vnnlib", "--timeout", "0.000001", "--vnncomp", "late.txt"]);
    late.expect(3, &[]);
    assert_eq!(folder.read("late.txt"), "timeout\n");
    let trusting = folder.run(&["verify", "net.onnx", "holds.vnnlib", "--trust-f32", "--json"]).json();
    assert_eq!(trusting["instances"][0]["soundness"], "trust-f32");
}

/// Names and values of a VNN-COMP result file for `sat`.
fn assignment(text: &str) -> Vec<(String, f64)> {
    let body = text.strip_prefix("sat\n((").and_then(|t| t.strip_suffix("))\n")).expect("the form of a counterexample");
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    body.split(")\n(").map(pair).collect()
}

#[test]
fn lists_are_compared_with_their_verdicts() {
    if !device("lists_are_compared_with_their_verdicts") {
        return;
    }
    let folder = networks("lists");
    folder.write("good.csv", "onnx,vnnlib,timeout,verdict\nnet.onnx,holds.vnnlib,60,unsat\nnet.onnx,violated.vnnlib,60,sat\nnet.onnx,tight.vnnlib,60,open\n");
    let outputs = ["--proofs", "proofs", "--counterexamples", "found"];
    let ran = folder.run(&[&["verify", "--instances", "good.csv"], &outputs[..]].concat());
    ran.expect(0, &["net.onnx: 1 hold, 1 violated, 1 unknown"]);
    assert!(ran.stdout.contains("3 instances: 2 right, 0 wrong, 1 unknown; "), "{ran:?}");
    assert_eq!(assignment(&folder.read("found/2.txt")).len(), 4);
    folder.run_without_device(&["check", "proofs/1.proof", "net.onnx", "holds.vnnlib"]).expect(0, &[]);

    // Without a header, in another folder than the list's, and one row alone.
    folder.write("plain.csv", "net.onnx,holds.vnnlib,60\nnet.onnx,violated.vnnlib,60\n");
    let list = folder.0.join("plain.csv");
    let mut command = Command::new(PROGRAM);
    command
        .args(["verify", "--json", "--only", "violated", "--instances"])
        .arg(&list)
        .current_dir(env!("CARGO_TARGET_TMPDIR"));
    let ran: Ran = command.output().expect("the program starts").into();
    let json = ran.expect(0, &[]).json();
    assert_eq!(json["instances"].as_array().map(Vec::len), Some(1));
    assert_eq!((&json["instances"][0]["row"], &json["instances"][0]["result"]), (&Json::from(2), &Json::from("sat")));
    folder.run(&["verify", "--instances", "plain.csv", "--only", "nothing"]).expect(2, &["E0201", "--only"]);

    // A cap splits: the corners of the box, where Y_0 reaches 2, cannot be excluded however small their boxes are.
    let ran = folder.run(&["verify", "--instances", "good.csv", "--only", "tight", "--cap", "5"]);
    ran.expect(0, &[]);
    assert!(ran.stdout.contains("row 3: net.onnx, tight.vnnlib: boxes: "), "{ran:?}");
    let ran = folder.run(&["verify", "net.onnx", "tight.vnnlib", "--cap", "5", "--json"]).expect(3, &[]).json();
    let boxes = &ran["instances"][0]["boxes"];
    let count = |name: &str| boxes[name].as_u64().expect("a count");
    assert!(count("left") > 0 && count("done") > 0 && count("bounded") >= count("done"), "{boxes}");
    folder.run(&["verify", "net.onnx", "tight.vnnlib", "--split-inputs", "3"]).expect(2, &["--cap"]);

    folder.write("wrong.csv", "onnx,vnnlib,verdict\nnet.onnx,holds.vnnlib,sat\nnone.onnx,holds.vnnlib,unsat\n");
    let json = folder.run(&["verify", "--instances", "wrong.csv", "--json"]).expect(5, &[]).json();
    assert_eq!((&json["summary"]["wrong"], &json["summary"]["error"]), (&Json::from(1), &Json::from(1)), "{json}");
    folder.run(&["verify", "--instances", "wrong.csv", "--only", "none"]).expect(2, &[]);
}

#[test]
fn the_demo_s_proofs_are_accepted_and_its_files_work() {
    if !device("the_demo_s_proofs_are_accepted_and_its_files_work") {
        return;
    }
    let folder = networks("demo");
    let ran = folder.run(&["demo", "--digits", "5", "--radius", "0.05", "--json", "--save", "saved"]);
    let json = ran.expect(0, &["device: "]).json();
    let certified: u64 = json["rows"].as_array().expect("rows").iter().filter_map(|r| r["certified"].as_u64()).sum();
    assert!(certified > 0, "{json}");
    assert_eq!(
        (&json["proofs"]["accepted"], &json["proofs"]["refused"]),
        (&Json::from(certified), &Json::Array(vec![]))
    );
    let found = &json["counterexample"];
    assert_ne!(found["class"], found["label"], "{found}");
    assert!(found["distance"].as_f64().is_some_and(|d| d > 0.0 && d <= 0.05 + 1e-12), "{found}");

    folder.run(&["verify", "saved/robust.onnx", "saved/digit.vnnlib", "--proof", "p"]).expect(0, &[]);
    folder.run_without_device(&["check", "p", "saved/robust.onnx", "saved/digit.vnnlib"]).expect(0, &[]);
}

#[test]
#[cfg(unix)]
fn ctrl_c_and_closed_pipes_end_the_program_cleanly() {
    use std::io::{BufRead as _, BufReader};
    if !device("ctrl_c_and_closed_pipes_end_the_program_cleanly") {
        return;
    }
    let folder = networks("ctrl-c");
    let mut demo = folder
        .command(&["demo", "--digits", "1500"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(demo.stderr.take().expect("a pipe")).lines();
    let started = lines.by_ref().any(|line| line.is_ok_and(|l| l.contains("first digit")));
    assert!(started, "the demo gives its first answer");
    let id = demo.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().is_ok_and(|s| s.success()), "kill -INT {id}");
    let last = lines.map_while(std::io::Result::ok).collect::<Vec<_>>().join("\n");
    let status = demo.wait().expect("the program ends");
    assert_eq!(status.code(), Some(130), "{last}");
    assert!(last.contains("error[E0401]: stopped on request"), "{last}");

    let mut closed =
        folder.command(&["devices"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program starts");
    drop(closed.stdout.take());
    assert_eq!(closed.wait().expect("the program ends").code(), Some(0), "a closed pipe is no failure");
}

#[test]
fn doctor_finds_nothing_wrong_here() {
    if !device("doctor_finds_nothing_wrong_here") {
        return;
    }
    let folder = networks("doctor");
    let json = folder.run(&["doctor", "--json"]).expect(0, &[]).json();
    assert_eq!(json["ok"], true);
    let kernels = json["kernels"].as_array().expect("kernels");
    let catalogue = wavehull::ops::catalogue().len()
        + wavehull::train::catalogue().len()
        + wavehull::verify::kernels::catalogue().len()
        + wavehull::pack::catalogue().len()
        + wavehull::hash::catalogue().len()
        + wavehull::bench::catalogue().len();
    assert_eq!(kernels.len(), 2 * catalogue, "every permutation in both modes");
    let compared = json["tests"].as_array().expect("tests").iter().filter_map(|t| t["cases"].as_u64()).sum::<u64>();
    assert!(compared > 1000, "{compared} results were compared");
}
