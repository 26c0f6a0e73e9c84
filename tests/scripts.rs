//! The scripts that users run, as far as they can be tested without the internet and without a device.
#![cfg(unix)]

use std::path::Path;
use std::process::{Command, Output};

fn script(name: &str, arguments: &[&str]) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    Command::new("bash").arg(path).args(arguments).env_remove("WAVEHULL_SHARED").output().expect("bash starts")
}

/// Made-up repositories are cloned and laid out; damaged, changed and missing files are found out.
#[test]
fn instances_are_laid_out_as_the_tables_say() {
    if Command::new("git").arg("--version").output().is_err() {
        eprintln!("skipped: instances_are_laid_out_as_the_tables_say: git is not installed");
        return;
    }
    let run = script("get-vnncomp.sh", &["--self-test"]);
    let talk = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{talk}");
    assert!(talk.contains("made-up clones passed"), "{talk}");
}

/// Every table names files that `SHA256SUMS` knows, and every digest belongs to a file that a table names.
#[test]
fn tables_and_digests_name_the_same_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/vnncomp");
    let read = |path: &Path| std::fs::read_to_string(path).expect("a part of the project");
    let mut named = std::collections::BTreeSet::new();
    let mut instances = 0;
    for entry in std::fs::read_dir(&folder).expect("a part of the project") {
        let path = entry.expect("a readable folder").path();
        if path.extension().is_some_and(|e| e == "csv") {
            let benchmark = path.file_stem().expect("a name").to_string_lossy().into_owned();
            for line in read(&path).lines().skip(1) {
                let fields: Vec<&str> = line.split(',').collect();
                assert!(["unsat", "sat", "open"].contains(&fields[3]), "{benchmark}: {line}");
                assert!(fields[2].parse::<f64>().is_ok_and(|limit| limit > 0.0), "{benchmark}: {line}");
                named.extend(fields[..2].iter().map(|f| format!("{benchmark}/{}", f.trim_end_matches(".gz"))));
                instances += 1;
            }
        }
    }
    let sums = read(&folder.join("SHA256SUMS"));
    let known: std::collections::BTreeSet<String> =
        sums.lines().map(|line| line.split_once("  ").expect("two fields").1.to_owned()).collect();
    assert_eq!(instances, 904, "published instances");
    assert_eq!(named, known);
}

/// Wrong usage is exit code 2, with the usage on stderr.
#[test]
fn wrong_usage_is_told() {
    for name in ["bundle.sh", "get-vnncomp.sh", "fuzz.sh", "lib/bundle-run.sh"] {
        let run = script(name, &["--nonsense"]);
        assert_eq!(run.status.code(), Some(2), "{name}");
        assert!(String::from_utf8_lossy(&run.stderr).contains("usage:"), "{name}");
        assert_eq!(script(name, &["--help"]).status.code(), Some(0), "{name}");
    }
}

/// Two trainings that are compared need files and programs; what is missing is named, with the next step.
#[test]
fn a_comparison_says_what_it_lacks() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/compare_hash.py");
    let run = |arguments: &[&str]| Command::new("python3").arg(&path).args(arguments).output();
    let Ok(help) = run(&["--help"]) else {
        eprintln!("skipped: a_comparison_says_what_it_lacks: python3 is not installed");
        return;
    };
    assert_eq!(help.status.code(), Some(0));
    let expect = |arguments: &[&str], code: i32, word: &str| {
        let run = run(arguments).expect("it starts");
        let talk = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.code() == Some(code) && talk.contains(word), "{arguments:?}: {talk}");
    };
    expect(&["--nonsense"], 2, "usage:");
    expect(&["--ours", "uniform,none"], 2, "no mode of wavehull is called 'none'");
    expect(&["no-folder"], 2, "help: give a folder with train.txt.gz");
    expect(&["--program", "no-program"], 4, "help: build it with 'cargo build --release'");
    expect(&["--ours", "", "--python", "no-python"], 4, "help: give --python INTERPRETER");
}
