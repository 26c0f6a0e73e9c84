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
    assert_eq!(folder.read("run/log.jsonl").lines().count(), looks.len());
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
    let long = CONFIG.replace("steps = 150", "steps = 1500\nlooks = 0");
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
        (CONFIG.replace("batch = 16", "batch = 0"), &["c.toml:11", "1 to 65535"]),
        (CONFIG.replace("tables = 8", "tables = 8\nbucket = 5"), &["power of two"]),
        (CONFIG.replace("rebuild = 160", "rebuild = 481"), &["481 samples of 480"]),
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
