//! Tests of the checker against a naive prover, against exact values, and against every kind of bad proof.

mod crown;
mod curves;
mod dags;
mod double;
mod exact;
#[cfg(feature = "onnx")]
mod files;
mod nets;
mod network;
mod prover;
mod refusals;

use super::bounds::Region;
use super::*;
use crate::error::ErrorKind;
use nets::{Dense, Random, grid, property, row, row_value};
use prover::{Choices, prove};

/// A property that holds on the outputs of a grid with room to spare, and whether back-substitution is likely to
/// show it: `Y_0` is above its smallest value minus a slack.
fn above_smallest(net: &Dense, lo: &[f64], hi: &[f64], slack: f64) -> Property {
    let outputs = net.0.last().map_or(0, |layer| layer.1.len());
    let smallest = |i: usize| {
        let values = grid(lo, hi, 8).into_iter().map(|x| net.evaluate(&x).last().map_or(0.0, |y| y[i]));
        values.fold(f64::INFINITY, f64::min)
    };
    let conjunction = |i: usize| {
        let mut coefficients = vec![0.0; outputs];
        coefficients[i] = 1.0;
        // The second row can never be shown: the prover must choose the first.
        vec![row(&coefficients, -smallest(i) + slack, false), row(&coefficients, -1e6, false)]
    };
    property(lo, hi, outputs, (0..outputs).map(conjunction).collect())
}

fn derive_ieee(proof: &Proof, layers: &Layers, property: &Property) -> Result<CheckReport> {
    derive(proof, layers, property, Rounding::IEEE)
}

/// All bounds of the checker for the first query.
fn region_of(proof: &Proof, network: &Network, property: &Property, inspect: impl FnOnce(&Region<'_>)) {
    let (query, given) = (&property.queries[0], &proof.queries[0]);
    let checker = Checker { proof, network, rounding: Rounding::IEEE, index: 0, query, given };
    inspect(&checker.region().expect("the test's proof is well-formed"));
}

#[test]
fn inputs_and_report_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<Proof>();
    crosses::<Graph>();
    crosses::<Layers>();
    crosses::<Property>();
    crosses::<CheckReport>();
}

#[test]
fn accepts_what_a_naive_prover_shows_and_agrees_with_it() {
    let mut random = Random(7);
    let mut shown = 0;
    for round in 0..60 {
        let net = Dense::random(&[3, 9, 8, 10, 3], &mut random);
        let center: Vec<f64> = (0..3).map(|_| random.between(-1.0, 1.0)).collect();
        let lo: Vec<f64> = center.iter().map(|c| c - 0.05).collect();
        let hi: Vec<f64> = center.iter().map(|c| c + 0.05).collect();
        let property = above_smallest(&net, &lo, &hi, 2.0);
        let refine = round % 3 != 0;
        // f64 without care errs by less than 1e-10 here; a bound is right if it is neither better nor worse.
        let proof = prove(&net, &property, Choices { refine, margin: 1e-10 });
        let bold = prove(&net, &property, Choices { refine, margin: -1e-10 });
        let claims = &proof.queries[0].claims;
        let worst = claims.iter().map(|c| c.bound).fold(f64::INFINITY, f64::min);
        let report = derive_ieee(&proof, &net.layers(), &property);
        if worst > 0.0 {
            let report = report.expect("the prover has shown it");
            assert_eq!((report.queries, report.claims), (1, 3));
            assert_eq!(report.refined, proof.queries[0].layers.iter().map(|l| l.refined.len()).sum::<usize>());
            assert!(report.worst >= worst && report.worst < worst + 1e-9 * (1.0 + worst), "{report:?}, {worst}");
            assert_eq!(derive_ieee(&bold, &net.layers(), &property).map_err(|e| e.kind()), Err(ErrorKind::BadProof));
            shown += usize::from(report.refined > 5 || !refine);
        } else {
            assert_eq!(report.map_err(|e| e.kind()), Err(ErrorKind::BadProof));
        }
    }
    assert!(shown > 20, "only {shown} of 60 properties were shown: the test has become too hard to say anything");
}

#[test]
fn bounds_enclose_exact_values_on_a_grid_with_corners() {
    let mut random = Random(11);
    let mut narrow = 0;
    for _ in 0..40 {
        let net = Dense::random(&[2, 6, 5, 2], &mut random);
        let lo = [-0.5, random.below(8) as f64 / 8.0];
        let hi = [0.5, lo[1] + 0.5];
        let property = above_smallest(&net, &lo, &hi, 1.0);
        let mut proof = prove(&net, &property, Choices { refine: true, margin: 1e-9 });
        // Any slope in [0, 1] is sound, so try others than the prover's.
        for slope in proof.queries[0].layers.iter_mut().flat_map(|layer| &mut layer.slopes) {
            *slope = if random.below(2) == 0 { random.between(0.0, 1.0) } else { *slope };
        }
        for neuron in proof.queries[0].layers.iter_mut().flat_map(|layer| &mut layer.refined) {
            (neuron.1, neuron.2) = (-1e9, 1e9);
        }
        let network = Network::new(&net.layers()).unwrap();
        region_of(&proof, &network, &property, |region| {
            for x in grid(&lo, &hi, 32) {
                for (values, span) in net.evaluate(&x).iter().zip(region.layers.iter().map(|passed| &passed.z)) {
                    for ((v, l), h) in values.iter().zip(&span.lo).zip(&span.hi) {
                        assert!(l <= v && v <= h, "{v} is not in [{l}, {h}] at {x:?}");
                    }
                }
            }
            let z = &region.layers[1].z;
            narrow += usize::from(z.lo.iter().zip(&z.hi).map(|(l, h)| h - l).sum::<f64>() < 40.0);
        });
    }
    assert!(narrow > 30, "{narrow}: bounds are so wide that enclosing says nothing");
}

/// Random changes of a proof's text: whatever is accepted must be true where it can be tried.
#[test]
fn a_thousand_mutations_prove_nothing_false() {
    let mut random = Random(23);
    let net = Dense::random(&[2, 7, 6, 2], &mut random);
    let (lo, hi) = ([-0.25, 0.125], [0.25, 0.5]);
    let layers = net.layers();
    let holds = above_smallest(&net, &lo, &hi, 4.0);
    let fails = above_smallest(&net, &lo, &hi, -0.125);
    let proof = prove(&net, &holds, Choices { refine: true, margin: 1e-6 });
    derive_ieee(&proof, &layers, &holds).expect("the prover has shown it");
    let text = proof.to_string();
    let points: Vec<Vec<Vec<f64>>> = grid(&lo, &hi, 16).iter().map(|x| net.evaluate(x)).collect();
    let (mut accepted, mut parsed) = (0, 0);
    for _ in 0..1000 {
        let mutant = mutate(&text, &mut random);
        let Ok(mutant) = Proof::parse(&mutant) else {
            continue;
        };
        parsed += 1;
        assert!(derive_ieee(&mutant, &layers, &fails).is_err(), "a false property was accepted:\n{mutant}");
        if derive_ieee(&mutant, &layers, &holds).is_ok() {
            accepted += 1;
            assert_claims_true(&mutant, &holds, &points);
        }
    }
    assert!(parsed > 300 && accepted > 50 && accepted < parsed, "{parsed} parsed, {accepted} accepted");
}

fn assert_claims_true(proof: &Proof, property: &Property, points: &[Vec<Vec<f64>>]) {
    let given = &proof.queries[0];
    for values in points {
        let output = values.last().unwrap();
        for (claim, rows) in given.claims.iter().zip(&property.queries[0].unsafe_if) {
            assert!(claim.bound > 0.0 && row_value(&rows[claim.row], output) >= claim.bound, "{claim:?}");
        }
        for (layer, z) in given.layers.iter().zip(values) {
            for &(neuron, low, high) in &layer.refined {
                assert!(low <= z[neuron] && z[neuron] <= high, "neuron {neuron}: {} not in [{low}, {high}]", z[neuron]);
            }
        }
    }
}

/// One to three random edits: of a number, a character, a line or two lines.
fn mutate(text: &str, random: &mut Random) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..=random.below(3) {
        let at = random.below(lines.len());
        match random.below(16) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => {
                let other = random.below(lines.len());
                lines.swap(at, other);
            }
            3 => {
                let place = random.below(lines[at].len() + 1);
                lines[at].insert(place, char::from(b" 0159.-e#"[random.below(9)]));
            }
            _ => {
                let mut words: Vec<String> = lines[at].split(' ').map(str::to_owned).collect();
                let place = random.below(words.len());
                if let Ok(number) = words[place].parse::<f64>() {
                    let changed =
                        [number + 1.0, -number, number * 0.5, number * 1.01, 0.0, 1.0, number - 1e-3, f64::NAN];
                    words[place] = changed[random.below(changed.len())].to_string();
                }
                lines[at] = words.join(" ");
            }
        }
        if lines.is_empty() {
            lines.push(String::new());
        }
    }
    lines.join("\n")
}
