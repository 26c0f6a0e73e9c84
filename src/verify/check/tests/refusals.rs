//! Every way in which a proof can be wrong, as an edit of a good one.

use super::*;

const NETWORK: &str = "00000000000000000000000000000000000000000000000000000000000000aa";
const PROPERTY: &str = "00000000000000000000000000000000000000000000000000000000000000bb";

/// Two queries over a net of two ReLU layers; `z` of layer 1 is worked out in the comments of the good proof.
fn case() -> (Graph, Property, String) {
    let net = Dense(vec![
        (vec![vec![1.0, 1.0], vec![1.0, -1.0]], vec![0.0, 0.0]),
        (vec![vec![1.0, -1.0], vec![1.0, 1.0], vec![-1.0, -1.0]], vec![0.0, -0.5, -1.0]),
        (vec![vec![1.0, 1.0, 1.0]], vec![1.0]),
    ]);
    let conjunctions = vec![vec![row(&[1.0], 0.0, false), row(&[-1.0], 0.0, false)], vec![row(&[0.0], 0.0, true)]];
    let mut property = property(&[-1.0, -1.0], &[1.0, 1.0], 1, conjunctions);
    let second = property.queries[0].clone();
    property.queries.push(second);
    let query = "\
layer 0 2
slopes 0 0
layer 1 3
slopes 0 0 0
refine 0 -2.001 2.001
refine 1 -0.501 3.501
claim 0 0 0.999
";
    // The bound of an empty sum is 0 but for an error term, so a strict row of nothing cannot be shown.
    property.queries.iter_mut().for_each(|q| q.unsafe_if.truncate(1));
    let text = format!(
        "wavehull-proof 1\nnetwork sha256:{NETWORK}\nproperty sha256:{PROPERTY}\nsoundness strict\n\
         query 0\n{query}query 1\n{query}end\n"
    );
    (net.graph(), property, text)
}

fn check_text(text: &str) -> Result<CheckReport> {
    let (graph, property, _) = case();
    check(&Proof::parse(text)?, &graph, NETWORK, &property, PROPERTY)
}

#[test]
fn the_good_proof_is_accepted() {
    let report = check_text(&case().2).unwrap();
    assert_eq!((report.queries, report.claims, report.refined), (2, 2, 4));
    assert!(report.worst > 0.999 && report.worst <= 1.0, "{report:?}");
    assert_eq!(report.soundness, "strict");
}

#[test]
fn every_missing_or_doubled_line_is_refused() {
    let text = case().2;
    let lines: Vec<&str> = text.lines().collect();
    for index in 0..lines.len() {
        let mut fewer = lines.clone();
        let dropped = fewer.remove(index);
        // A refinement may be missing: then there is one choice fewer, and the claim may still be derived.
        if !dropped.starts_with("refine") {
            assert!(check_text(&fewer.join("\n")).is_err(), "accepted without `{dropped}`");
        }
        let mut more = lines.clone();
        more.insert(index, dropped);
        assert!(check_text(&more.join("\n")).is_err(), "accepted with `{dropped}` twice");
    }
}

/// Edits with the line at which they must be refused, and a word of the reason.
#[test]
fn edits_are_refused_at_their_line() {
    let other = "sha256:00000000000000000000000000000000000000000000000000000000000000cc";
    let aa = format!("sha256:{NETWORK}");
    let bb = format!("sha256:{PROPERTY}");
    let cases: &[(&str, &str, Option<usize>, &str)] = &[
        (&aa, other, Some(2), "another network"),
        (&bb, other, Some(3), "another property"),
        ("slopes 0 0\n", "slopes 0 1.5\n", Some(7), "not in [0, 1]"),
        ("slopes 0 0\n", "slopes 0 NaN\n", Some(7), "finite"),
        ("layer 0 2\nslopes 0 0\n", "layer 0 3\nslopes 0 0 0\n", Some(6), "3 neurons in the proof, 2 in the network"),
        ("layer 0 2\nslopes 0 0\n", "", Some(6), "expected layer 0"),
        ("claim 0 0 0.999\n", "layer 2 1\nslopes 1\nclaim 0 0 0.999\n", Some(5), "3 layers, the network 2 with"),
        ("refine 0 -2.001 2.001", "refine 0 -1.9 2.001", Some(10), "neuron 0 of layer 1"),
        ("refine 1 -0.501 3.501", "refine 1 -0.501 1.4", Some(11), "neuron 1 of layer 1"),
        ("refine 1 -0.501 3.501", "refine 3 -0.501 3.501", Some(11), "does not exist"),
        ("claim 0 0 0.999", "claim 0 0 1.001", Some(12), "can be derived"),
        ("claim 0 0 0.999", "claim 0 0 0", Some(12), "is at least 0"),
        ("claim 0 0 0.999", "claim 0 0 -0.5", Some(12), "is at least -0.5"),
        ("claim 0 0 0.999", "claim 0 1 0.001", Some(12), "can be derived"),
        ("claim 0 0 0.999", "claim 0 2 0.999", Some(12), "no row 2"),
        ("claim 0 0 0.999\n", "claim 0 0 0.999\nclaim 1 0 0.999\n", Some(5), "1 conjunctions"),
        ("claim 0 0 0.999\nquery 1", "query 1", Some(5), "1 conjunctions"),
        ("end", "query 2\nend", Some(21), "3 queries, the property 2"),
        ("soundness strict", "soundness unsound", Some(4), "`unsound`"),
    ];
    let text = case().2;
    for &(old, new, line, words) in cases {
        assert!(text.contains(old), "{old:?} is not in the text");
        let error = check_text(&text.replacen(old, new, 1)).expect_err(new);
        assert_eq!(error.kind(), ErrorKind::BadProof, "{error}");
        assert_eq!(error.place().and_then(|p| p.position).map(|p| p.0), line, "{old:?} -> {new:?}: {error}");
        assert!(error.message().contains(words), "{old:?} -> {new:?}: {error}");
        assert!(error.help().is_some(), "{error}");
    }
    let (start, _) = text.split_once("query 1").unwrap();
    let error = check_text(&format!("{start}end\n")).expect_err("a query is missing");
    assert!(error.message().contains("1 queries, the property 2"), "{error}");
}

/// A proof can also be made in memory, without the reader's checks.
#[test]
fn proofs_in_memory_are_checked_as_well() {
    let (graph, property, text) = case();
    let refused = |edit: &dyn Fn(&mut Proof)| {
        let good = Proof::parse(&text).unwrap();
        let mut proof = Proof::new(NETWORK, PROPERTY, "strict", good.queries);
        edit(&mut proof);
        check(&proof, &graph, NETWORK, &property, PROPERTY).map_err(|e| e.kind()) == Err(ErrorKind::BadProof)
    };
    assert!(!refused(&|_| {}));
    assert!(refused(&|p| p.soundness = "none".into()));
    assert!(refused(&|p| p.queries[0].layers[0].slopes[0] = f64::NAN));
    assert!(refused(&|p| p.queries[0].layers[0].slopes[0] = -1e-9));
    assert!(refused(&|p| p.queries[1].layers[1].slopes.truncate(2)));
    assert!(refused(&|p| p.queries[0].layers[1].refined[0].0 = 3));
    assert!(refused(&|p| p.queries[0].layers[1].refined[0].1 = f64::NAN));
    assert!(refused(&|p| p.queries[0].layers[1].refined[0].2 = f64::NAN));
    assert!(refused(&|p| p.queries[0].claims[0].bound = f64::NAN));
    assert!(refused(&|p| p.queries[0].claims[0].bound = f64::INFINITY));
    assert!(refused(&|p| p.queries[0].claims[0].conjunction = 1));
    assert!(refused(&|p| p.queries[0].claims.clear()));
    assert!(refused(&|p| p.queries.truncate(1)));
}

#[test]
fn properties_that_do_not_fit_are_refused() {
    let (graph, good, text) = case();
    let proof = Proof::parse(&text).unwrap();
    let kind = |edit: &dyn Fn(&mut Property)| {
        let mut property = good.clone();
        edit(&mut property);
        check(&proof, &graph, NETWORK, &property, PROPERTY).map_err(|e| e.kind())
    };
    assert_eq!(kind(&|p| p.inputs = 3), Err(ErrorKind::BadInput));
    assert_eq!(kind(&|p| p.outputs = 2), Err(ErrorKind::BadInput));
    assert_eq!(kind(&|p| p.queries[1].input.lo_out[0] = f64::NEG_INFINITY), Err(ErrorKind::BadInput));
    assert_eq!(kind(&|p| p.queries[1].input.hi_out[1] = f64::NAN), Err(ErrorKind::BadInput));
    assert_eq!(kind(&|p| p.queries[1].input.hi_out[1] = -1.5), Err(ErrorKind::BadInput));
    assert_eq!(kind(&|p| p.queries[1].input.hi_out.truncate(1)), Err(ErrorKind::BadInput));
    assert_eq!(kind(&|p| p.queries[0].unsafe_if[0][0].coefficients[0].0 = 1), Err(ErrorKind::BadInput));
    // An empty conjunction is a counterexample everywhere; an empty list of them needs no claim.
    assert_eq!(kind(&|p| p.queries[0].unsafe_if[0].clear()), Err(ErrorKind::BadProof));
    assert_eq!(kind(&|p| p.queries[0].unsafe_if.clear()), Err(ErrorKind::BadProof));
    let mut without = good.clone();
    without.queries.iter_mut().for_each(|q| q.unsafe_if.clear());
    let mut claimless = proof.clone();
    claimless.queries.iter_mut().for_each(|q| q.claims.clear());
    let report = check(&claimless, &graph, NETWORK, &without, PROPERTY).unwrap();
    assert_eq!((report.claims, report.worst), (0, f64::INFINITY));
}
