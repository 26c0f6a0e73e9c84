//! Proofs as files, against real networks and properties where they are at hand.

use super::crown::crown;
use super::*;
use crate::verify::proof::{Claim, LayerProof, QueryProof, sha256_hex};
use crate::verify::property::Query;
use std::path::{Path, PathBuf};

/// A folder of its own for a test's files, removed afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wavehull-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The folder of real instances, or a printed skip.
fn instances(test: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("WAVEHULL_SHARED").map(PathBuf::from);
    let folder = shared.map(|path| path.join("vnncomp")).filter(|path| path.is_dir());
    if folder.is_none() {
        eprintln!("skipped: {test}: WAVEHULL_SHARED is not set, or has no folder vnncomp");
    }
    folder
}

/// A proof that refines every neuron of the later layers, claims next to nothing about it, and says of the first row
/// of each conjunction that it is positive.
fn modest_proof(network: &Path, property: &Path) -> Proof {
    let (graph, network) = crate::graph::onnx::read(network).unwrap();
    let (property, text) = crate::verify::vnnlib::read(property).unwrap();
    let widths: Vec<usize> =
        Network::new(&Layers::from_graph(&graph).unwrap()).unwrap().activated().map(|l| l.width()).collect();
    let layer = |(index, &width): (usize, &usize)| LayerProof {
        slopes: vec![0.0; width],
        upper: vec![],
        refined: (0..if index > 0 { width } else { 0 }).map(|j| (j, -1e30, 1e30)).collect(),
    };
    let query = |query: &Query| QueryProof {
        layers: widths.iter().enumerate().map(layer).collect(),
        claims: (0..query.unsafe_if.len())
            .map(|conjunction| Claim { conjunction, row: 0, bound: f64::MIN_POSITIVE })
            .collect(),
    };
    let queries = property.queries.iter().map(query).collect();
    Proof::new(sha256_hex(&network), sha256_hex(&text), "strict", queries)
}

#[test]
fn real_instances_are_proved_from_files() {
    let Some(folder) = instances("real_instances_are_proved_from_files") else {
        return;
    };
    let scratch = Folder::new("real");
    let small = folder.join("mnist_fc/onnx/mnist-net_256x2.onnx.gz");
    let large = folder.join("mnist_fc/onnx/mnist-net_256x4.onnx.gz");
    let property = |name: &str| folder.join(format!("mnist_fc/vnnlib/{name}.vnnlib.gz"));
    // Holds by the competition's verdict, and easily.
    let holds = property("prop_0_0.03");
    let proof = scratch.write("holds", &modest_proof(&small, &holds).to_string());
    let report = check_files(&proof, &small, &holds).unwrap();
    assert_eq!((report.queries, report.claims, report.refined), (1, 9, 256));
    assert!(report.worst > 0.1, "{report:?}");

    let error = check_files(&proof, &large, &holds).unwrap_err();
    assert!(error.to_string().ends_with("holds:2:1: the proof is about another network"), "{error}");
    let error = check_files(&proof, &small, &property("prop_1_0.03")).unwrap_err();
    assert!(error.to_string().ends_with("holds:3:1: the proof is about another property"), "{error}");
    // Has a counterexample: no proof may be accepted.
    let fails = property("prop_1_0.03");
    let proof = scratch.write("fails", &modest_proof(&small, &fails).to_string());
    let error = check_files(&proof, &small, &fails).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadProof, "{error}");
}

#[test]
fn unreadable_proofs_name_their_file() {
    let scratch = Folder::new("unreadable");
    let nowhere = scratch.0.join("nowhere");
    assert_eq!(check_files(&nowhere, &nowhere, &nowhere).unwrap_err().kind(), ErrorKind::Io);
    let bytes = scratch.write("bytes", "");
    std::fs::write(&bytes, b"wavehull-proof 1\n\xff\n").unwrap();
    let error = check_files(&bytes, &nowhere, &nowhere).unwrap_err();
    assert!(error.to_string().ends_with("bytes:2:1: the proof is not UTF-8 text"), "{error}");
    let short = scratch.write("short", "wavehull-proof 1\n");
    let error = check_files(&short, &nowhere, &nowhere).unwrap_err();
    assert!(error.to_string().contains("short:2:1: the proof ends where"), "{error}");
}

/// Networks of every kind, with a property that plain bounds show.
#[test]
fn real_networks_of_every_kind_are_proved_and_checked() {
    let Some(folder) = instances("real_networks_of_every_kind_are_proved_and_checked") else {
        return;
    };
    // The worst margins of plain bounds; resnet_2b's first eight properties have a mean of 0.3876, auto_LiRPA's 0.387.
    let cases = [
        ("mnist_fc/onnx/mnist-net_256x4", "mnist_fc/vnnlib/prop_0_0.03", 0.97293),
        ("cifar10_resnet/onnx/resnet_2b", "cifar10_resnet/vnnlib/resnet2b_pgd_filtered/prop_5_eps_0.008", 0.18470),
        ("eran/onnx/ffnnSIGMOID__Point_6x200", "eran/vnnlib/mnist/mnist_spec_idx_56_eps_0.01200", 5.55862),
    ];
    for (network, property, margin) in cases {
        let [network, property] =
            [format!("{network}.onnx.gz"), format!("{property}.vnnlib.gz")].map(|name| folder.join(name));
        let (graph, network_bytes) = crate::graph::onnx::read(&network).unwrap();
        let (property, property_bytes) = crate::verify::vnnlib::read(&property).unwrap();
        let layers = Layers::from_graph(&graph).unwrap();
        let (queries, worst) = crown(&layers, &property);
        assert!((worst - margin).abs() < 1e-3, "{}: {worst} for {margin}", network.display());
        let mut proof = Proof::new(sha256_hex(&network_bytes), sha256_hex(&property_bytes), "strict", queries);
        let start = std::time::Instant::now();
        let report = derive_ieee(&proof, &layers, &property).unwrap();
        eprintln!("{} re-checked in {:.2} s: {report:?}", network.display(), start.elapsed().as_secs_f64());
        assert!(report.worst >= worst, "{worst}, {report:?}");
        // A claim that is a little too good, of a neuron in the last layer and of a row.
        let good = proof.clone();
        let refined = &mut proof.queries[0].layers.last_mut().unwrap().refined;
        let (_, low, _) = refined.last_mut().unwrap();
        *low += 1e-6 * (1.0 + low.abs());
        assert_eq!(derive_ieee(&proof, &layers, &property).map_err(|e| e.kind()), Err(ErrorKind::BadProof));
        proof = good;
        let claim = proof.queries[0].claims.iter_mut().min_by(|a, b| a.bound.total_cmp(&b.bound)).unwrap();
        claim.bound += 1e-6;
        assert_eq!(derive_ieee(&proof, &layers, &property).map_err(|e| e.kind()), Err(ErrorKind::BadProof));
    }
}
