//! `wavehull hash` from outside: a training that is killed and goes on with the same bits, answers, and errors with a place and a next step.
#![cfg(feature = "cli")]

#[path = "common/program.rs"]
mod program;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use program::{Folder, device};
use serde_json::Value as Json;

/// Samples with four labels to tell from two features each, and noise: sample i has label i mod 40.
fn samples(count: usize) -> String {
    let mut text = format!("{count} 120 40\n");
    for i in 0..count {
        let (label, other) = (i % 40, (i * 7) % 40);
        let two = if label < other { format!("{label},{other}") } else { format!("{label}") };
        let mut features = [(label, 1.0), (40 + label, 0.5), (80 + (i * 13) % 40, 0.25)];
        features.sort_by_key(|&(id, _)| id);
        let features: Vec<String> = features.iter().map(|(id, value)| format!("{id}:{value}")).collect();
        writeln!(text, "{two} {}", features.join(" ")).expect("memory");
    }
    text
}

const CONFIG: &str = "\
[data]
train = \"train.txt\"
test = \"test.txt\"

[model]
hidden = 16

[train]
steps = 150
recall = true
checkpoint_seconds = 1
batch = 16
learning_rate = 0.01
folder = \"run\"

[active]
mode = \"neighbours\"
negatives = 8

[hash]
codes = 2
tables = 8
rebuild = 160
";

fn folder(test: &str) -> Folder {
    let folder = Folder::new("hash", test);
    folder.write("train.txt", samples(480));
    folder.write("test.txt", samples(80));
    folder.write("c.toml", CONFIG);
    folder
}

/// The lines of a training's log.
fn lines(folder: &Folder, run: &str) -> Vec<Json> {
    let text = folder.read(&format!("{run}/log.jsonl"));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Of every line of a log, what does not depend on when the training was stopped.
fn looks(folder: &Folder, run: &str) -> Vec<[Json; 2]> {
    lines(folder, run).iter().map(|line| [line["step"].clone(), line["precision"].clone()]).collect()
}

fn keys(json: &Json) -> BTreeSet<String> {
    json.as_object().unwrap_or_else(|| panic!("no object: {json}")).keys().cloned().collect()
}

/// Names in the first column of the tables of a section of docs/json.md.
fn documented(section: &str, start: &str) -> BTreeSet<String> {
    let page = include_str!("../docs/json.md");
    let part = page.split("\n## ").find(|part| part.starts_with(section)).unwrap_or_else(|| panic!("no {section}"));
    let rows = part.lines().filter(|line| line.starts_with(start));
    let names = rows.filter_map(|line| line.split('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.map(str::to_owned).collect()
}

#[test]
fn a_training_is_checked_run_measured_and_asked() {
    if !device("a_training_is_checked_run_measured_and_asked") {
        return;
    }
    let folder = folder("whole");
    let ran = folder.run(&["hash", "train", "c.toml", "--check"]);
    assert!(ran.expect(0, &[]).stdout.contains("480 samples to train on, 80 to look at; 120 features, 40 labels"));
    assert!(!folder.0.join("run").exists(), "a check wrote something");
    let json = folder.run(&["hash", "train", "c.toml", "--json"]).expect(0, &[]).json();
    let mut all = documented("`hash train CONFIG.toml --json`", "| `");
    all.insert("schema".to_owned());
    assert_eq!(keys(&json), all);
    let looks = json["looks"].as_array().expect("looks");
    assert!(looks.len() >= 2);
    for look in looks {
        assert_eq!(keys(look), documented("`hash train CONFIG.toml --json`", "  | `"));
    }
    let last = looks.last().expect("a look");
    assert_eq!((&last["step"], &json["stopped"]), (&Json::from(150), &Json::from(false)));
    // Whatever was saved meanwhile, the looks tell of all steps.
    let told: u64 = looks.iter().map(|look| look["samples"].as_u64().expect("samples")).sum();
    assert_eq!(told, 150 * 16);
    assert!(last["precision"][0][1].as_f64().expect("P@1") > 0.9, "{last}");
    let log = lines(&folder, "run");
    assert_eq!(log.len(), looks.len());
    for (line, look) in log.iter().zip(looks) {
        let mut all = keys(look);
        all.insert("schema".to_owned());
        assert_eq!((keys(line), &line["schema"]), (all, &Json::from(1)));
    }
    // The configuration's tables are looked up: recall is asked for.
    let recall = |name: &str| last[name].as_f64().expect("a number");
    assert!(recall("recall_1") > 0.2 && recall("recall_10") <= 1.0, "{last}");
    assert!(folder.bytes("run/model.safetensors").len() > 4 * 160 * 17);

    let quality = folder.run(&["hash", "eval", "run", "--sparse", "--codes", "2", "--json"]).expect(0, &[]).json();
    let mut all = documented("`hash eval FOLDER --json`", "| `");
    all.insert("schema".to_owned());
    assert_eq!(keys(&quality), all);
    assert_eq!(keys(&quality["sparse"]), documented("`hash eval FOLDER --json`", "  | `"));
    assert_eq!(quality["exact"]["precision"], last["precision"], "the same network");
    // A few labels are scored, and they are the right ones far more often than chance has it.
    let sparse = |name: &str| quality["sparse"][name].as_f64().expect("a number");
    assert!(sparse("recall_1") > 3.0 * sparse("candidates") / 40.0, "{quality}");

    let whole = folder.run(&["hash", "eval", "run", "--clustered", "--probes", "128", "--json"]).expect(0, &[]).json();
    assert_eq!(whole["sparse"]["precision"], quality["exact"], "all clusters are all labels");
    assert_eq!(
        (whole["sparse"]["recall_10"].as_f64(), whole["sparse"]["candidates"].as_f64()),
        (Some(1.0), Some(40.0))
    );
    folder.run(&["hash", "eval", "run", "--clustered", "--sparse"]).expect(2, &["--sparse"]);

    folder.write("names.txt", (0..40).fold(String::new(), |text, i| text + &format!("name{i}\n")));
    let ran = folder.run(&["hash", "predict", "run", "test.txt", "--top", "2", "--names", "names.txt"]);
    let lines: Vec<String> = ran.expect(0, &[]).stdout.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 80);
    let right = (0..80).filter(|&i| {
        lines[i].starts_with(&format!("name{}:", i % 40)) || lines[i].contains(&format!("name{}:", i % 40))
    });
    assert!(right.count() > 72, "{lines:?}");
}

#[test]
#[cfg(unix)]
fn a_killed_training_goes_on_with_the_same_bits() {
    use std::process::Stdio;
    use std::time::{Duration, Instant};
    if !device("a_killed_training_goes_on_with_the_same_bits") {
        return;
    }
    let folder = folder("killed");
    let long = CONFIG.replace("steps = 150\nrecall = true", "steps = 1500\nlooks = 2");
    folder.write("c.toml", &long);
    folder.run(&["hash", "train", "c.toml", "--folder", "whole"]).expect(0, &[]);
    let mut killed = 0;
    for _ in 0..20 {
        let mut child = folder
            .command(&["hash", "train", "c.toml"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let begun = Instant::now();
        let states = || std::fs::read_dir(folder.0.join("run/state")).map_or(0, Iterator::count);
        let before = states();
        // Kill it as soon as something of a checkpoint appears, whole or not.
        while begun.elapsed() < Duration::from_secs(60)
            && states() == before
            && child.try_wait().expect("a child").is_none()
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        if child.try_wait().expect("a child").is_some() {
            break;
        }
        child.kill().expect("a child");
        child.wait().expect("a child");
        killed += 1;
    }
    folder.run(&["hash", "train", "c.toml"]).expect(0, &[]);
    assert!(killed > 0, "it was never killed");
    assert!(
        folder.bytes("run/model.safetensors") == folder.bytes("whole/model.safetensors"),
        "other bits after {killed} kills"
    );
    // What a killed training had written after its last checkpoint is not there twice.
    assert_eq!(looks(&folder, "run").len(), 100);
    assert_eq!(looks(&folder, "run"), looks(&folder, "whole"));
}

#[test]
#[cfg(unix)]
fn a_folder_takes_one_training_at_a_time_and_a_kill_frees_it() {
    use std::process::Stdio;
    use std::time::{Duration, Instant};
    if !device("a_folder_takes_one_training_at_a_time_and_a_kill_frees_it") {
        return;
    }
    let folder = folder("locked");
    folder.write("long.toml", CONFIG.replace("steps = 150", "steps = 1000000"));
    let quiet = || Stdio::null();
    let mut first =
        folder.command(&["hash", "train", "long.toml"]).stdout(quiet()).stderr(quiet()).spawn().expect("the program");
    let begun = Instant::now();
    while !folder.0.join("run/training.json").exists() {
        assert!(begun.elapsed() < Duration::from_secs(300) && first.try_wait().expect("a child").is_none());
        std::thread::sleep(Duration::from_millis(10));
    }
    let process = format!("(process {})", first.id());
    let second = folder.run(&["hash", "train", "c.toml"]);
    second.expect(2, &["run: another program", &process, "help: wait for its end", "`--folder`"]);
    // Nobody else is kept out: not readers, not another folder.
    folder.run(&["hash", "train", "c.toml", "--folder", "other"]).expect(0, &[]);
    assert!(first.try_wait().expect("a child").is_none(), "the first goes on");
    first.kill().expect("a child");
    first.wait().expect("a child");
    std::fs::remove_dir_all(folder.0.join("run/state")).expect("a folder");
    folder.run(&["hash", "train", "c.toml"]).expect(0, &[]);
    assert!(folder.bytes("run/model.safetensors") == folder.bytes("other/model.safetensors"), "other bits");
    assert_eq!(looks(&folder, "run"), looks(&folder, "other"));
}

#[test]
fn a_training_goes_back_to_an_earlier_checkpoint_and_comes_to_the_same_bits() {
    if !device("a_training_goes_back_to_an_earlier_checkpoint_and_comes_to_the_same_bits") {
        return;
    }
    let folder = folder("back");
    // Every end of a training is a checkpoint, and there are no others.
    let seldom = CONFIG.replace("checkpoint_seconds = 1", "checkpoint_seconds = 1000");
    let until = |steps: usize| folder.write("c.toml", seldom.replace("steps = 150", &format!("steps = {steps}")));
    for steps in [50, 100, 150] {
        until(steps);
        folder.run(&["hash", "train", "c.toml"]).expect(0, &[]);
    }
    let (model, log) = (folder.bytes("run/model.safetensors"), looks(&folder, "run"));
    let of_log = |step: u64| log.iter().position(|look| look[0] == step).expect("a look of this step");
    for (step, message) in [("99", "there is no checkpoint of step 99"), ("1000", "those of the steps ")] {
        let ran = folder.run(&["hash", "train", "c.toml", "--from", step]);
        ran.expect(2, &[message, "100, 150", "state", "help: "]);
    }
    folder.run(&["hash", "train", "c.toml", "--from", "1", "--folder", "new"]).expect(2, &["there are none at all"]);
    assert!(!folder.0.join("new").exists(), "a training that never began left something");
    // What is refused removes nothing.
    folder.write("other.toml", CONFIG.replace("negatives = 8", "negatives = 9"));
    folder.run(&["hash", "train", "other.toml", "--from", "100"]).expect(2, &["another training"]);
    assert_eq!(looks(&folder, "run"), log);
    until(110);
    folder.run(&["hash", "train", "c.toml", "--from", "100"]).expect(0, &["back to step 100", "1 later checkpoint"]);
    let steps: Vec<_> = looks(&folder, "run").into_iter().map(|look| look[0].clone()).collect();
    let kept = &log[..=of_log(100)];
    assert_eq!(steps, kept.iter().map(|look| look[0].clone()).chain([Json::from(110)]).collect::<Vec<_>>());
    until(150);
    folder.run(&["hash", "train", "c.toml", "--from", "100"]).expect(0, &["back to step 100"]);
    assert_eq!(looks(&folder, "run"), log);
    assert!(folder.bytes("run/model.safetensors") == model, "other bits");
    // At its end nothing is added by another call.
    folder.run(&["hash", "train", "c.toml"]).expect(0, &["going on after step 150"]);
    assert_eq!(looks(&folder, "run"), log);
}

#[test]
fn slide_takes_the_candidates_that_it_is_told_to() {
    if !device("slide_takes_the_candidates_that_it_is_told_to") {
        return;
    }
    let folder = folder("choice");
    // So many tables with so few buckets return nearly every label, some more often than others.
    let slide = CONFIG.replace("negatives = 8", "size = 16").replace("codes = 2\ntables = 8", "codes = 1\ntables = 16");
    let [first, most, often, always] =
        ["\"first\"", "\"most\"", "{ at_least = 6 }", "{ at_least = 16 }"].map(|choice| {
            let mode = format!("mode = \"slide\"\nchoice = {choice}");
            let config = slide.replace("mode = \"neighbours\"", &mode).replace("steps = 150", "steps = 30");
            folder.write("c.toml", config);
            let json = folder.run(&["hash", "train", "c.toml", "--folder", "one", "--json"]).expect(0, &[]).json();
            std::fs::remove_dir_all(folder.0.join("one")).expect("a folder");
            ["from_candidates", "loss"].map(|name| json["looks"][0][name].as_f64().expect("a number"))
        });
    // The first ones and the most returned fill the set; few labels are returned by all tables.
    assert!(first[0] > 13.0 && most[0] > 13.0 && often[0] <= first[0] && always[0] < 0.5 * first[0]);
    let losses = [first, most, often, always].map(|[_, loss]| loss.to_bits());
    assert_eq!(losses.iter().collect::<BTreeSet<_>>().len(), 4, "sets that differ");
}

/// The dense features of each of [`samples`].
fn dense(count: usize) -> Vec<Vec<f64>> {
    let text = samples(count);
    let sample = |line: &str| {
        let mut x = vec![0.0; 120];
        for feature in line.split(' ').skip(1) {
            let (id, value) = feature.split_once(':').expect("a feature");
            x[id.parse::<usize>().expect("an id")] = value.parse().expect("a value");
        }
        x
    };
    text.lines().skip(1).map(sample).collect()
}

#[test]
fn an_exported_network_gives_what_predict_gives() {
    if !device("an_exported_network_gives_what_predict_gives") {
        return;
    }
    let folder = folder("export");
    let (model, active) = ("hidden = 16", "mode = \"neighbours\"");
    let uniform = CONFIG.split("[hash]").next().expect("text").replace("recall = true\n", "");
    let uniform = uniform.replace(active, "mode = \"uniform\"");
    let slide = CONFIG.replace(active, "mode = \"slide\"\nchoice = \"most\"").replace("negatives = 8", "size = 16");
    for (run, config) in [
        ("slide", slide.replace(model, "hidden = 16\nrelu = false")),
        ("bf16", uniform.replace(model, "hidden = 16\nweights = \"bf16\"").replace("batch", "rows = \"lazy\"\nbatch")),
    ] {
        folder.write("c.toml", config);
        folder.run(&["hash", "train", "c.toml", "--folder", run]).expect(0, &[]);
        let files = ["--onnx", "net.onnx", "--dense", "--safetensors", "net.safetensors", "--json"];
        let json = folder.run(&[&["hash", "export", run], &files[..]].concat()).expect(0, &[]).json();
        let mut all = documented("`hash export FOLDER --json`", "| `");
        all.insert("schema".to_owned());
        assert_eq!(keys(&json), all);
        for (i, file) in ["net.onnx", "net.safetensors"].iter().enumerate() {
            assert_eq!(keys(&json["files"][i]), documented("`hash export FOLDER --json`", "  | `"));
            let bytes = json["files"][i]["bytes"].as_u64().expect("a number");
            assert_eq!(bytes, folder.bytes(file).len() as u64);
        }
        let own = format!("{run}/model.safetensors");
        assert!(folder.bytes("net.safetensors") == folder.bytes(&own), "the same file as at the training's end");
        let asked = folder.run(&["hash", "predict", run, "test.txt", "--top", "40", "--json"]).expect(0, &[]).json();
        let (network, _) = wavehull::graph::onnx::read(&folder.0.join("net.onnx")).expect("an ONNX file");
        for (x, row) in dense(80).iter().zip(asked["samples"].as_array().expect("samples")) {
            let logits = network.eval_f64(x).expect("logits");
            // Both sides sum at most 3 + 17 products of numbers below 32: 20 roundings in f32.
            let near = |a: f64, b: f64| (a - b).abs() < 20.0 * 32.0 * f64::from(f32::EPSILON) * 32.0;
            let mut order: Vec<usize> = (0..40).collect();
            order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
            for (place, answer) in row.as_array().expect("labels").iter().enumerate() {
                let label = usize::try_from(answer["label"].as_u64().expect("a label")).expect("a label");
                assert!(near(answer["logit"].as_f64().expect("a logit"), logits[label]), "{run}: {answer}");
                // The same order, but for labels that rounding cannot tell apart.
                assert!(order[place] == label || near(logits[order[place]], logits[label]), "{run}, place {place}");
            }
        }
    }
    let ran = folder.run(&["hash", "export", "bf16", "--onnx", "top.onnx", "--top", "3"]);
    assert!(ran.expect(0, &[]).stdout.starts_with("top.onnx: 120 features, 40 labels"));
    folder.run(&["hash", "export", "bf16", "--onnx", "none.onnx", "--top", "41"]).expect(2, &["the best 41 of 40"]);
    folder.run(&["hash", "export", "bf16"]).expect(2, &["--onnx"]);
    folder.run(&["hash", "export", "bf16", "--safetensors", "a", "--top", "3"]).expect(2, &["--onnx"]);
    folder.run(&["hash", "export", "bf16", "--safetensors", "none/a"]).expect(2, &["none/a"]);
    assert!(!folder.0.join("none.onnx").exists(), "a file that was refused is there");
}

#[test]
fn bad_input_is_named_with_its_place_and_costs_nothing() {
    if !device("bad_input_is_named_with_its_place_and_costs_nothing") {
        return;
    }
    let folder = folder("bad");
    for (broken, parts) in [
        (CONFIG.replace("steps", "stepps"), &["c.toml", "did you mean 'steps'?"][..]),
        (CONFIG.replace("train.txt", "none.txt"), &["none.txt"]),
        (CONFIG.replace("batch = 16", "batch = 0"), &["c.toml:12", "1 to 65535"]),
        (CONFIG.replace("tables = 8", "tables = 8\nbucket = 5"), &["power of two"]),
        (CONFIG.replace("rebuild = 160", "rebuild = 481"), &["481 samples of 480"]),
        (CONFIG.replace("rebuild = 160", "rebuild = 160\nchanged = 0.5"), &["640 samples of 480"]),
        (CONFIG.replace("learning_rate = 0.01", "learning_rate = 1e30"), &["step ", "diverged", "learning rate"]),
    ] {
        folder.write("c.toml", broken);
        folder.run(&["hash", "train", "c.toml"]).expect(2, parts).expect(2, &["help: "]);
    }
    folder.write("c.toml", CONFIG);
    for (broken, place) in [
        ("480 120 40\n99 1:1\n", "train.txt:2:1"),
        ("one two three\n", "train.txt:1:1"),
        ("1 120 40\n3 1:nan\n", "train.txt:2:"),
        ("1 120 40\n3\n", "train.txt:2"),
        ("5 120 40\n3 1:1\n", "train.txt"),
    ] {
        folder.write("train.txt", broken);
        folder.run(&["hash", "train", "c.toml", "--folder", "new"]).expect(2, &[place, "help: "]);
    }
    assert!(!folder.0.join("new/state").exists(), "a training that never began left something");
    folder.write("train.txt", samples(480));
    folder.run(&["hash", "train", "c.toml"]).expect(0, &[]);
    // Another configuration or other data do not go on with these rows, and leave them.
    folder.write("c.toml", CONFIG.replace("negatives = 8", "negatives = 9"));
    folder.run(&["hash", "train", "c.toml"]).expect(2, &["another training", "--folder"]);
    // A longer one does.
    folder.write("c.toml", CONFIG.replace("steps = 150", "steps = 160"));
    folder.run(&["hash", "train", "c.toml"]).expect(0, &["going on after step 150"]);
    folder.write("c.toml", CONFIG);
    let before = folder.bytes("run/model.safetensors");
    folder.run(&["hash", "train", "c.toml", "--seed", "7"]).expect(2, &["another training"]);
    folder.write("train.txt", samples(479));
    folder.run(&["hash", "train", "c.toml"]).expect(2, &["other data"]);
    assert!(before == folder.bytes("run/model.safetensors"), "a refused training changed the network");
    folder.run(&["hash", "eval", "nowhere"]).expect(2, &["training.json", "hash train"]);
}
