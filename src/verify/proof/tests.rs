use super::*;

const TEXT: &str = "\
# a comment
wavehull-proof 1
network sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
property sha256:BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD
soundness trust-f32

query 0
layer 0 3
slopes 0 1 0.5
refine 0 -1.5e-7 2
refine 2 -1 1e300
  # an indented comment
layer 1 1
slopes 0.25
upper 0.5
claim 0 2 0.1
claim 1 0 5e-324
query 1
layer 0 3
slopes 1 1 1
layer 1 1
slopes -0
upper 1
refine 0 -1 1
end
";

#[test]
fn digest_is_that_of_the_standard() {
    // FIPS 180-2, appendix B.1.
    assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn reads_what_stands_there() {
    let proof = Proof::parse(TEXT).unwrap();
    assert_eq!(proof.network, sha256_hex(b"abc"));
    assert_eq!(proof.property, proof.network);
    assert_eq!(proof.soundness, "trust-f32");
    let first = &proof.queries[0];
    assert_eq!(first.layers[0].slopes, [0.0, 1.0, 0.5]);
    assert_eq!(first.layers[0].refined, [(0, -1.5e-7, 2.0), (2, -1.0, 1e300)]);
    assert_eq!(first.layers[1], LayerProof { slopes: vec![0.25], upper: vec![0.5], refined: vec![] });
    assert_eq!(first.claims[1], Claim { conjunction: 1, row: 0, bound: 5e-324 });
    assert_eq!(proof.queries[1].claims, []);
}

#[test]
fn knows_the_line_of_every_item() {
    let proof = Proof::parse(TEXT).unwrap();
    let line = |item| proof.line_of(item).unwrap();
    let word = |item| TEXT.lines().nth(line(item) - 1).unwrap();
    assert_eq!(word(Item::Property), TEXT.lines().nth(3).unwrap());
    assert_eq!(word(Item::Network), TEXT.lines().nth(2).unwrap());
    assert_eq!(word(Item::Query(1)), "query 1");
    assert_eq!(word(Item::Layer(0, 1)), "layer 1 1");
    assert_eq!(word(Item::Slopes(0, 1)), "slopes 0.25");
    assert_eq!(word(Item::Slopes(1, 1)), "slopes -0");
    assert_eq!(word(Item::Upper(0, 1)), "upper 0.5");
    assert_eq!(word(Item::Upper(1, 1)), "upper 1");
    assert_eq!(word(Item::Refine(1, 1, 0)), "refine 0 -1 1");
    assert_eq!(word(Item::Refine(0, 0, 1)), "refine 2 -1 1e300");
    assert_eq!(word(Item::Claim(0, 1)), "claim 1 0 5e-324");
    assert_eq!(word(Item::End), "end");
}

#[test]
fn text_reads_back_exactly() {
    let hard = [0.1, f64::from(0.1_f32), 1.0 / 3.0, 5e-324, 1.7976931348623157e308, 1e-5, 9.999e15, 1e16, -0.0];
    let refined = hard.iter().enumerate().map(|(i, &x)| (i, -x.abs(), x.abs())).collect();
    let layer =
        LayerProof { slopes: vec![0.1; hard.len()], upper: hard.map(|x: f64| x.abs().min(1.0)).to_vec(), refined };
    let claims = (0..hard.len()).map(|i| Claim { conjunction: i, row: i, bound: hard[i] }).collect();
    let proof = Proof::new("a".repeat(64), "0".repeat(64), "strict", vec![QueryProof { layers: vec![layer], claims }]);
    let again = Proof::parse(&proof.to_string()).unwrap();
    assert_eq!(again, proof);
    for (a, b) in again.queries[0].claims.iter().zip(&proof.queries[0].claims) {
        assert_eq!(a.bound.to_bits(), b.bound.to_bits());
    }
}

/// Each change of the text must be refused at this line and column, with these words.
#[test]
fn refuses_what_is_malformed_at_its_place() {
    let cases: &[(&str, &str, (usize, usize), &str)] = &[
        ("wavehull-proof 1\n", "", (2, 1), "wavehull-proof"),
        ("wavehull-proof 1", "wavehull-proof 2", (2, 16), "version 2"),
        ("network sha256:ba", "network sha256:b", (3, 9), "64 hex digits"),
        ("network sha256:ba", "network sha256:bg", (3, 9), "64 hex digits"),
        ("soundness trust-f32", "soundness maybe", (5, 11), "`maybe`"),
        ("query 0", "query 1", (7, 7), "expected query 0, found 1"),
        ("query 1", "query 0", (18, 7), "expected query 1, found 0"),
        ("layer 1 1\nslopes 0.25", "layer 2 1\nslopes 0.25", (13, 7), "expected layer 1"),
        ("slopes 0 1 0.5", "slopes 0 1", (9, 11), "ends where a slope"),
        ("slopes 0 1 0.5", "slopes 0 1 0.5 1", (9, 16), "unexpected `1`"),
        ("slopes 0 1 0.5", "slopes 0 1 1.0000000000000002", (9, 12), "not in [0, 1]"),
        ("slopes 0 1 0.5", "slopes 0 -0.5 0.5", (9, 10), "not in [0, 1]"),
        ("slopes 0 1 0.5", "slopes 0 nan 0.5", (9, 10), "finite number, found `nan`"),
        ("slopes 0 1 0.5\n", "", (9, 1), "expected a line `slopes ...`"),
        ("upper 0.5", "upper", (15, 6), "ends where a slope"),
        ("upper 0.5", "upper 0.5 0.5", (15, 11), "unexpected `0.5`"),
        ("upper 0.5", "upper -0.5", (15, 7), "not in [0, 1]"),
        ("upper 0.5", "upper 0.5\nupper 0.5", (16, 1), "expected a line `end ...`"),
        ("upper 0.5\n", "refine 0 1 2\nupper 0.5\n", (16, 1), "expected a line `end ...`"),
        ("layer 0 3", "layer 0 0", (8, 9), "at least one neuron"),
        ("refine 2 -1 1e300", "refine 2 -1 inf", (11, 13), "finite number"),
        ("refine 2 -1 1e300", "refine 2 -1 1e309", (11, 13), "finite number"),
        ("refine 2 -1 1e300", "refine 0 -1 1", (11, 8), "repeated"),
        ("refine 2 -1 1e300", "refine 3 -1 1", (11, 8), "width 3"),
        ("refine 2 -1 1e300", "refine +2 -1 1", (11, 8), "whole number"),
        ("refine 2 -1 1e300", "refine 2 1 -1", (11, 12), "above the upper bound"),
        ("refine 2 -1 1e300", "refine 99999999999999999999999 1 2", (11, 8), "whole number"),
        ("claim 1 0 5e-324", "claim 0 0 1", (17, 7), "claim of conjunction 1, found 0"),
        ("claim 1 0 5e-324", "claim 1 0", (17, 10), "ends where the row's"),
        ("claim 1 0 5e-324", "claim 1 0 0x1p3", (17, 11), "finite number"),
        ("claim 1 0 5e-324", "claim 1 0 1\nclam 2 0 1", (18, 1), "expected a line `end ...`"),
        ("end\n", "", (25, 1), "ends where a line `end"),
        ("end\n", "end\nquery 2\n", (26, 1), "after `end`"),
        ("end\n", "end now\n", (25, 5), "unexpected `now`"),
    ];
    for &(old, new, (line, column), words) in cases {
        assert!(TEXT.contains(old), "{old:?} is not in the text");
        let error = Proof::parse(&TEXT.replacen(old, new, 1)).expect_err(new);
        assert_eq!(error.kind(), ErrorKind::BadProof);
        assert_eq!(error.place().and_then(|p| p.position), Some((line, column)), "{old:?} -> {new:?}: {error}");
        assert!(error.message().contains(words), "{old:?} -> {new:?}: {error}");
        assert!(error.help().is_some(), "{error}");
    }
}

#[test]
fn survives_any_text() {
    for text in
        ["", "\n", "#", "wavehull-proof", "\u{feff}wavehull-proof 1", "wavehull-proof 1\n\u{1F980} \u{e9}", "\0"]
    {
        assert!(Proof::parse(text).is_err(), "{text:?}");
    }
    // Every prefix of a proof is no proof.
    for end in 0..TEXT.len() - 1 {
        let shortened = &TEXT[..end];
        assert!(Proof::parse(shortened).is_err() || shortened.trim_end().ends_with("end"), "{shortened:?}");
    }
}
