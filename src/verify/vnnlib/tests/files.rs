//! Ring 3: every property file of the shared competition data, against a line-by-line reading that shares no code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::verify::property::Property;
use crate::verify::vnnlib::{parse, read};

/// The property files below a folder, in order.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, found);
        } else if path.to_string_lossy().contains(".vnnlib") {
            found.push(path);
        }
    }
}

/// Bounds that stand alone on a line, as `f64`: input to (lower, upper).
fn plain_bounds(text: &str) -> BTreeMap<usize, (f64, f64)> {
    let mut bounds = BTreeMap::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("(assert (").and_then(|r| r.strip_suffix("))")) else {
            continue;
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        let [relation, name, value] = words[..] else {
            continue;
        };
        let Some(input) = name.strip_prefix("X_") else {
            continue;
        };
        let entry = bounds.entry(input.parse().unwrap()).or_insert((f64::NEG_INFINITY, f64::INFINITY));
        match relation {
            ">=" => entry.0 = value.parse().unwrap(),
            "<=" => entry.1 = value.parse().unwrap(),
            other => panic!("{other} in {line}"),
        }
    }
    bounds
}

fn check(path: &Path, property: &Property, text: &str) {
    let declared = |letter: &str| text.matches(&format!("(declare-const {letter}_")).count();
    let name = path.display();
    assert_eq!((property.inputs, property.outputs), (declared("X"), declared("Y")), "{name}");
    for query in &property.queries {
        let input = &query.input;
        let lengths = [&input.lo, &input.hi, &input.lo_out, &input.hi_out].map(Vec::len);
        assert_eq!(lengths, [property.inputs; 4], "{name}");
        for i in 0..property.inputs {
            assert!(
                input.lo_out[i] <= input.lo[i] && input.lo[i] <= input.hi[i] && input.hi[i] <= input.hi_out[i],
                "{name}: X_{i}"
            );
            assert!(
                input.lo[i].next_down() <= input.lo_out[i] && input.hi_out[i] <= input.hi[i].next_up(),
                "{name}: X_{i}"
            );
        }
    }
    let bounds = plain_bounds(text);
    if property.queries.len() == 1 {
        assert_eq!(bounds.len(), property.inputs, "{name}: every input bounded");
        for (&i, bound) in &bounds {
            assert_eq!((property.queries[0].input.lo[i], property.queries[0].input.hi[i]), *bound, "{name}: X_{i}");
        }
    } else {
        assert!(bounds.is_empty(), "{name}");
    }
    // A comparison with an output is a row of some conjunction.
    let comparisons: usize = ["(<= Y_", "(>= Y_"]
        .iter()
        .map(|c| text.lines().filter(|l| !l.starts_with(';')).map(|l| l.matches(c).count()).sum::<usize>())
        .sum();
    let rows: usize = property.queries.iter().flat_map(|q| &q.unsafe_if).map(Vec::len).sum();
    assert_eq!(rows, comparisons * property.queries.len(), "{name}");
}

#[test]
fn every_shared_property_parses() {
    let Some(shared) = std::env::var_os("WAVEHULL_SHARED").map(PathBuf::from).filter(|p| p.join("vnncomp").is_dir())
    else {
        eprintln!("skipped: every_shared_property_parses: WAVEHULL_SHARED is not set, or has no folder vnncomp");
        return;
    };
    let mut paths = Vec::new();
    files(&shared.join("vnncomp"), &mut paths);
    assert!(paths.len() > 600, "{} files", paths.len());
    let (mut parse_seconds, mut total_bytes, mut shapes) = (0.0, 0, BTreeMap::new());
    let start = Instant::now();
    for path in &paths {
        let (property, bytes) = read(path).unwrap_or_else(|e| panic!("{e}"));
        let text = String::from_utf8(bytes).unwrap();
        let begun = Instant::now();
        assert_eq!(parse(&text).unwrap(), property);
        parse_seconds += begun.elapsed().as_secs_f64();
        total_bytes += text.len();
        check(path, &property, &text);
        let name = path.strip_prefix(&shared).unwrap().to_string_lossy().into_owned();
        let first = &property.queries[0].unsafe_if;
        shapes.insert(name, (property.inputs, property.outputs, property.queries.len(), first.len(), first[0].len()));
    }
    eprintln!(
        "{} files, {:.1} MB: parsed in {parse_seconds:.2} s; read twice and checked in {:.2} s",
        paths.len(),
        total_bytes as f64 / 1e6,
        start.elapsed().as_secs_f64()
    );
    for (name, shape) in [
        ("vnncomp/acasxu/vnnlib/prop_1.vnnlib.gz", (5, 5, 1, 1, 1)),
        ("vnncomp/acasxu/vnnlib/prop_6.vnnlib.gz", (5, 5, 2, 4, 1)),
        ("vnncomp/acasxu/vnnlib/prop_7.vnnlib.gz", (5, 5, 1, 2, 3)),
        ("vnncomp/mnist_fc/vnnlib/prop_13_0.05.vnnlib.gz", (784, 10, 1, 9, 1)),
        ("vnncomp/rl_benchmarks/vnnlib/dubinsrejoin_case_safe_17.vnnlib.gz", (8, 8, 1, 15, 6)),
        ("vnncomp/cifar10_resnet/vnnlib/resnet2b_pgd_filtered/prop_0_eps_0.008.vnnlib.gz", (3072, 10, 1, 9, 1)),
        ("vnncomp/reach_prob_density/vnnlib/gcas_2.vnnlib.gz", (14, 14, 1, 1, 2)),
    ] {
        assert_eq!(shapes.get(name), Some(&shape), "{name}");
    }
}
