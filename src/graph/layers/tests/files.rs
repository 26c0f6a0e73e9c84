//! Networks of public benchmarks.

use super::*;
use crate::graph::onnx;
use std::path::PathBuf;

/// The networks of a folder below `vnncomp`.
fn networks(folder: &str) -> Option<Vec<PathBuf>> {
    let shared = std::env::var_os("WAVEHULL_SHARED").map(PathBuf::from)?;
    let files = std::fs::read_dir(shared.join("vnncomp").join(folder).join("onnx")).ok()?;
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    Some(files)
}

#[test]
fn public_networks_become_layers_with_the_same_values() {
    let folders = [
        ("acasxu", 45),
        ("cifar10_resnet", 2),
        ("collins_rul_cnn", 3),
        ("eran", 2),
        ("mnist_fc", 3),
        ("oval21", 3),
        ("reach_prob_density", 3),
        ("rl_benchmarks", 3),
        ("verivital", 2),
    ];
    let mut random = Random::new(1);
    for (folder, count) in folders {
        let Some(files) = networks(folder) else {
            eprintln!(
                "skipped: public_networks_become_layers_with_the_same_values ({folder}): WAVEHULL_SHARED is not set"
            );
            continue;
        };
        assert_eq!(files.len(), count, "{folder}");
        for file in files {
            let (graph, _) = onnx::read(&file).unwrap();
            let layers = Layers::from_graph(&graph).unwrap();
            assert_well_formed(&layers);
            let input = random.numbers(graph.input_len());
            let (have, want) = (layers.eval_f64(&input), graph.eval_f64(&input).unwrap());
            let largest = want.iter().fold(1f64, |largest, y| largest.max(y.abs()));
            for (have, want) in have.iter().zip(&want) {
                assert!((have - want).abs() <= 1e-6 * largest, "{}: {have} is not {want}", file.display());
            }
            let kinds: Vec<usize> = layers.layers.iter().map(|layer| layer.extent.len()).collect();
            println!("{folder} {:?}: {} layers of {kinds:?} values", file.file_name().unwrap(), kinds.len());
        }
    }
}
