//! The inputs of `fuzz/corpus`, seeds and past findings, and small edits of them, through what the fuzz targets demand.
#![cfg(all(feature = "verify", feature = "pack", feature = "hash"))]

#[path = "../fuzz/src/lib.rs"]
mod demands;

use std::path::Path;

/// Edits of each input: few, since libFuzzer makes the many.
const EDITS: usize = 200;

/// Runs a target on every input in its corpus, and on copies with a few bytes changed, cut or repeated.
fn replay(target: &str, demand: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = std::fs::read_dir(&folder).expect("the corpus is a part of the project");
    let mut paths: Vec<_> = files.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    assert!(paths.len() >= 3, "{target} has only {} inputs", paths.len());
    for path in paths {
        let bytes = std::fs::read(&path).expect("a readable file");
        println!("{}", path.display());
        demand(&bytes);
        let mut random = 0x9e37_79b9_7f4a_7c15_u64 ^ bytes.len() as u64;
        for _ in 0..EDITS {
            demand(&edited(&bytes, &mut random));
        }
    }
}

/// A copy with one to four edits.
fn edited(bytes: &[u8], random: &mut u64) -> Vec<u8> {
    let mut below = |n: usize| {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        (*random >> 16) as usize % n.max(1)
    };
    let mut copy = bytes.to_vec();
    for _ in 0..=below(4) {
        if copy.is_empty() {
            break;
        }
        let at = below(copy.len());
        match below(4) {
            0 => copy[at] = below(256) as u8,
            1 => copy[at] ^= 1 << below(8),
            2 => drop(copy.drain(at..copy.len().min(at + 1 + below(8)))),
            _ => {
                let part = copy[at..copy.len().min(at + 1 + below(16))].to_vec();
                copy.splice(at..at, part);
            }
        }
    }
    copy
}

#[test]
fn onnx_files_of_the_corpus_do_no_harm() {
    replay("onnx", demands::onnx);
}

#[test]
fn tflite_files_of_the_corpus_do_no_harm() {
    replay("tflite", |bytes| {
        demands::tflite(bytes);
    });
}

#[test]
fn properties_of_the_corpus_do_no_harm() {
    replay("vnnlib", demands::vnnlib);
}

#[test]
fn proofs_of_the_corpus_prove_nothing_false() {
    replay("proof", demands::proof);
}

#[test]
fn containers_of_the_corpus_do_no_harm() {
    replay("pack", demands::pack);
}

#[test]
fn sparse_files_of_the_corpus_do_no_harm() {
    replay("sparse", demands::sparse);
}
