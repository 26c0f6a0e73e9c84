//! The table of bugs that `scripts/mutate.py` plants, as far as it can be checked without planting them.

use std::collections::BTreeSet;
use std::path::Path;

/// Kernels that no training uses.
const ELSEWHERE: [&str; 12] = [
    "gather_rows",
    "max_pool_gradient",
    "reduce",
    "row_compact",
    "scan_apply",
    "scan_blocks",
    "scan_sums",
    "scatter_rows",
    "sort_count",
    "sort_scatter",
    "split_sum",
    "transpose",
];

/// A bug, as the table has it.
#[derive(Default)]
struct Bug {
    name: String,
    file: String,
    targets: Vec<String>,
    old: Vec<String>,
    new: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn bugs() -> Vec<Bug> {
    let table = std::fs::read_to_string(root().join("tests/mutations.txt")).expect("a part of the project");
    let mut all: Vec<Bug> = Vec::new();
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "bug" {
            all.push(Bug { name: rest.to_owned(), ..Bug::default() });
            continue;
        }
        let bug = all.last_mut().unwrap_or_else(|| panic!("'{line}' before the first bug"));
        match word {
            "file" => bug.file = rest.to_owned(),
            "test" => bug.targets.push(rest.split(' ').next().unwrap_or_default().to_owned()),
            "-" => bug.old.push(rest.to_owned()),
            "+" => bug.new.push(rest.to_owned()),
            _ => panic!("{}: '{line}' is none of bug, file, test, - and +", bug.name),
        }
    }
    all
}

/// What a bug replaces is there, once, so that planting it does what its name says.
#[test]
fn every_old_text_occurs_exactly_once() {
    let mut names = BTreeSet::new();
    for Bug { name, file, targets, old, new } in bugs() {
        let text = std::fs::read_to_string(root().join(&file)).unwrap_or_else(|why| panic!("{name}: {file}: {why}"));
        let (old, new) = (old.join("\n"), new.join("\n"));
        assert!(!old.is_empty() && !new.is_empty(), "{name}: an old or a new text is missing");
        assert_eq!(text.matches(&old).count(), 1, "{name}: how often '{old}' occurs in {file}");
        assert_ne!(old, new, "{name} changes nothing");
        assert!(names.insert(name.clone()), "two bugs have the name '{name}'");
        assert!(!targets.is_empty(), "{name}: no test is named");
        for target in targets.iter().filter(|target| *target != "lib") {
            let places = [format!("tests/{target}.rs"), format!("tests/{target}/main.rs")];
            assert!(places.iter().any(|place| root().join(place).exists()), "{name}: there is no tests/{target}");
        }
    }
}

/// Every kernel that training or hashing brings has a bug of its own.
#[test]
fn every_kernel_of_training_and_hashing_has_a_bug() {
    let files: BTreeSet<String> = bugs().into_iter().map(|bug| bug.file).collect();
    for folder in ["shaders/ops", "shaders/train", "shaders/hash"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("a part of the project") {
            let name = entry.expect("a readable folder").file_name().into_string().expect("a name in Unicode");
            let stem = name.trim_end_matches(".wgsl");
            let planted = files.contains(&format!("{folder}/{name}"));
            assert!(
                planted != ELSEWHERE.contains(&stem),
                "{folder}/{name} has no planted bug, or is listed here in vain"
            );
        }
    }
}
