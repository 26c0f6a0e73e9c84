//! Cases in which ignoring any rounding error would prove something false.

use super::double::Double;
use super::nets::{Net, Random, property, row};
use super::*;
use crate::graph::{Activation, Map, Source};
use crate::verify::check::bounds::{Passed, Slopes, Span, Toll};
use crate::verify::check::form::Form;
use crate::verify::check::lines::{Line, Lines};
use crate::verify::check::maps::Matrix;
use crate::verify::proof::{Claim, LayerProof, QueryProof};
use crate::verify::property::Row;

/// 2^55: adding 1 to it changes nothing in f64.
const BIG: f32 = 36_028_797_018_963_968.0;

/// A proof without refinements, with a claim for the only row.
fn bare(layers: &[usize], bound: f64) -> Proof {
    let layers =
        layers.iter().map(|&width| LayerProof { slopes: vec![1.0; width], upper: vec![], refined: vec![] }).collect();
    let claims = vec![Claim { conjunction: 0, row: 0, bound }];
    Proof::new("0".repeat(64), "1".repeat(64), "strict", vec![QueryProof { layers, claims }])
}

/// Demands that a false claim at a point is refused, and that it would be accepted if f64 were taken for exact.
fn needs_error_terms(what: &str, net: &Net, point: &[f64], row: Row, layers: &[usize], claimed: f64) {
    let property = property(point, point, net.0.output_len(), vec![vec![row]]);
    let proof = bare(layers, claimed);
    let ignored = derive(&proof, &net.0, &property, Rounding::IGNORED);
    assert!(ignored.is_ok(), "{what}: the case needs no error term: {ignored:?}");
    let covered = derive(&proof, &net.0, &property, Rounding::IEEE).map_err(|e| e.kind());
    assert_eq!(covered, Err(ErrorKind::BadProof), "{what}: a false property was accepted");
}

/// `x` itself.
fn identity(inputs: usize, activation: Activation) -> Net {
    let mut net = Net::flat(inputs);
    net.diagonal(&vec![1.0; inputs], &vec![0.0; inputs], activation);
    net
}

// In the first cases f64 adds 2^55, -1 and -2^55 to 0, so that a row of value -1/2 seems to be 1/2.

#[test]
fn sums_over_the_output_are_covered() {
    let net = identity(3, Activation::Relu);
    let big = f64::from(BIG);
    needs_error_terms("evaluation", &net, &[1.0; 3], row(&[big, -1.0, -big], 0.5, false), &[3], 0.25);
}

#[test]
fn products_of_matrices_are_covered() {
    for (weights, sign, word) in [([BIG, -1.0, -BIG], 1.0, "product"), ([BIG, 1.0, -BIG], -1.0, "upper end")] {
        let mut net = Net::flat(1);
        net.dense(&[vec![1.0], vec![1.0], vec![1.0]], &[0.0; 3], Activation::None);
        net.dense(&[weights.to_vec()], &[0.0], Activation::None);
        needs_error_terms(word, &net, &[1.0], row(&[sign], 0.5, false), &[], 0.25);
    }
}

/// The same three terms as three paths that meet at the input.
#[test]
fn paths_that_meet_are_covered() {
    let mut net = Net::flat(1);
    let edges = [BIG, -1.0, -BIG].map(|w| (Source::Input, Map::Diagonal(vec![w]))).to_vec();
    net.layer(net.0.input, edges, &[0.0], Activation::None);
    needs_error_terms("merge", &net, &[1.0], row(&[1.0], 0.5, false), &[], 0.25);
}

#[test]
fn sums_of_biases_are_covered() {
    let mut net = Net::flat(3);
    net.diagonal(&[1.0; 3], &[BIG, -1.0, -BIG], Activation::None);
    needs_error_terms("bias", &net, &[0.0; 3], row(&[1.0; 3], 0.5, false), &[], 0.25);
    // One after the other, in intervals and into the constant of a form.
    for (sign, word) in [(1.0, "lower end"), (-1.0, "upper end")] {
        let mut net = Net::flat(1);
        net.diagonal(&[1.0], &[-sign], Activation::None);
        net.diagonal(&[1.0], &[-BIG], Activation::None);
        let row = row(&[f64::from(sign)], 0.5, false);
        needs_error_terms(word, &net, &[f64::from(BIG)], row, &[], 0.25);
    }
}

/// 1,000 products of 0.6 * 2^-1074 are rounded up to 2^-1074 each: their sum is taken for 1,000 and is 600.
#[test]
fn underflow_is_covered() {
    let (input, weight) = ([2f64.powi(-1000); 1000], 0.6 * 2f32.powi(-74));
    let tiny = f64::from_bits(1);
    for (sign, word) in [(1.0, "lower end"), (-1.0, "upper end")] {
        let mut net = Net::flat(1000);
        net.dense(&[vec![-sign * weight; 1000]], &[0.0], Activation::None);
        let row = row(&[-f64::from(sign)], -800.0 * tiny, false);
        needs_error_terms(word, &net, &input, row, &[], 100.0 * tiny);
    }
}

/// Numbers of the layers that are near the network's, but not the same.
#[test]
fn distances_from_the_real_numbers_are_covered() {
    // At x = 1, z may be as small as 0.75 - 0.25 or as large as 1.25 + 0.25.
    for (claim, sign, constant) in [(0.4, 1.0, 0.0), (0.4, -1.0, 2.0)] {
        for (rel, abs) in [(0.0, 0.0), (0.25, 0.0), (0.0, 0.25), (0.25, 0.25)] {
            let mut net = identity(1, Activation::None);
            net.0.layers[0].edges[0].rel = rel;
            net.0.layers[0].bias_abs[0] = abs;
            let least = 1.0 - f64::from(rel + abs);
            let property = property(&[1.0], &[1.0], 1, vec![vec![row(&[sign], constant, false)]]);
            let report = derive(&bare(&[], claim), &net.0, &property, Rounding::IEEE).expect("it is a quarter more");
            assert!(report.worst <= least && report.worst > least - 1e-9, "{rel}, {abs}: {}", report.worst);
        }
    }
    // In the walk as well, where x - x seems to be 0: intervals of z are [-2, 2].
    let mut net = identity(1, Activation::None);
    let edges = vec![(Source::Layer(0), Map::Diagonal(vec![1.0])), (Source::Input, Map::Diagonal(vec![-1.0]))];
    net.layer(net.0.input, edges, &[0.0], Activation::None);
    let worst = |net: &Net| {
        let property = property(&[-1.0], &[1.0], 1, vec![vec![row(&[1.0], 5.0, false)]]);
        derive(&bare(&[], 0.1), &net.0, &property, Rounding::IEEE).expect("5 is far enough").worst
    };
    assert!((worst(&net) - 5.0).abs() < 1e-9);
    net.0.layers[0].edges[0].rel = 0.25;
    assert!((worst(&net) - 4.75).abs() < 1e-9);
    net.0.layers[0].bias_abs[0] = 0.125;
    assert!((worst(&net) - 4.625).abs() < 1e-9);
    net.0.layers[1].edges[1].rel = 0.0625;
    assert!((worst(&net) - 4.5625).abs() < 1e-9);
}

#[test]
fn inexact_decimals_of_the_property_are_covered() {
    let net = identity(1, Activation::Relu);
    let exact = row(&[1.0], -1.0, true);
    let property_of = |row: Row| property(&[1.0], &[1.0], 1, vec![vec![row]]);
    let refused = |row: Row| derive(&bare(&[1], 0.0), &net.0, &property_of(row), Rounding::IGNORED).is_err();
    assert!(!refused(exact.clone()));
    assert!(refused(Row { slop: 1e-17, ..exact.clone() }));
    assert!(refused(Row { coefficient_rel: 1e-16, ..exact }));
}

/// GPUPoly's upper line: slope to nearest, offset from the left end only. For about a third of all intervals it
/// passes below the ReLU at the right end; ours must not, at either end, in exact arithmetic.
#[test]
fn upper_lines_stay_above_the_relu() {
    let mut random = Random(5);
    let mut gap_without_care = 0;
    for _ in 0..20_000 {
        // Multiples of 2^-20 and slopes that are multiples of 2^-80: products are exact in i128.
        let l = -(random.below(10 << 20) as f64 + 1024.0) / f64::from(1 << 20);
        let h = (random.below(10 << 20) as f64 + 1024.0) / f64::from(1 << 20);
        let room = |line: Lines| -> [i128; 2] {
            let Lines::Between { above: Line { slope: above, offset }, .. } = line else {
                panic!("the interval [{l}, {h}] crosses 0");
            };
            let scaled = |x: f64, bits: i32| (x * 2f64.powi(bits)) as i128;
            let (above, offset) = (scaled(above, 80), scaled(offset, 100));
            assert_eq!((offset as f64 * 2f64.powi(-100)).to_bits(), (offset as f64 / 2f64.powi(100)).to_bits());
            let at = |z: f64| above * scaled(z, 20) + offset;
            [at(l), at(h) - scaled(h, 100)]
        };
        assert!(room(Lines::relu(Rounding::IEEE, l, h, 0.0)).iter().all(|&r| r >= 0), "[{l}, {h}]");
        let careless = Line { slope: h / (h - l), offset: -l * (h / (h - l)) };
        let careless = Lines::Between { below: careless, above: careless };
        gap_without_care += usize::from(room(careless).iter().any(|&r| r < 0));
    }
    assert!(gap_without_care > 1000, "{gap_without_care} of 20,000: the test cannot see the gap");
}

#[test]
fn lines_of_stable_and_unknown_neurons() {
    let lines = |l, h| Lines::relu(Rounding::IEEE, l, h, 0.5);
    assert_eq!(lines(0.0, 1.0), Lines::Same);
    assert_eq!(lines(-1.0, 0.0), Lines::Zero);
    assert_eq!(lines(-0.0, 0.0), Lines::Zero);
    let Lines::Between { above: Line { offset, .. }, .. } = lines(f64::NEG_INFINITY, 1.0) else {
        panic!("an unknown lower bound crosses 0");
    };
    assert_eq!(offset, f64::INFINITY);
    // The smallest and the largest numbers do no harm.
    let tiny = f64::from_bits(1);
    for (l, h) in [(-tiny, tiny), (-f64::MAX, f64::MAX), (-tiny, f64::MAX), (-f64::MAX, tiny)] {
        let Lines::Between { above: Line { slope: above, offset }, .. } = lines(l, h) else {
            panic!("[{l}, {h}] crosses 0");
        };
        assert!((0.0..=1.0).contains(&above) && offset > 0.0, "[{l}, {h}]: {above} z + {offset}");
    }
}

/// A rising function of one input, as 30 to 50 random layers, with its values at both ends.
fn chain(random: &mut Random, lo: f64, hi: f64, kinds: usize) -> (Net, [Double; 2]) {
    let mut net = Net::flat(1);
    let (mut low, mut high) = (Double(lo, 0.0), Double(hi, 0.0));
    for _ in 0..30 + random.below(20) {
        let c = random.between(0.6, 1.6) as f32;
        match random.below(kinds) {
            0 => net.diagonal(&[c], &[0.0], Activation::None),
            1 => net.dense(&[vec![c]], &[0.0], Activation::None),
            _ => {
                // Moves 0 into the interval, so that the ReLU gets two lines.
                let shift = -(low.0 + (high.0 - low.0) * random.between(0.05, 0.6)) as f32;
                net.diagonal(&[1.0], &[shift], Activation::Relu);
                (low, high) = (low.plus(f64::from(shift)).relu(), high.plus(f64::from(shift)).relu());
                continue;
            }
        };
        (low, high) = (low.times(f64::from(c)), high.times(f64::from(c)));
    }
    (net, [low, high])
}

/// All layers over a box, with a slope for every neuron.
pub(super) fn passed<'a>(network: &'a Network, rounding: Rounding, input: Span, slope: f64) -> Region<'a> {
    let mut region = Region::new(network, rounding, input);
    for layer in &network.layers {
        let slopes = vec![slope; layer.width()];
        let [below, above]: [&[f64]; 2] = match layer.activation {
            Activation::None => [&[], &[]],
            Activation::Relu => [&slopes, &[]],
            _ => [&slopes, &slopes],
        };
        let affine = region.affine().unwrap();
        region.pass(affine, Slopes { below, above }).unwrap();
    }
    region
}

/// Over such a chain intervals are exact, and the upper line of every ReLU is met at the right end, so that bounds are
/// the true ones but for rounding: whatever rounding is not covered shows.
#[test]
fn bounds_of_long_chains_stay_on_the_safe_side() {
    let mut random = Random(3);
    for kinds in [1, 2, 3, 4] {
        let mut careless = [0; 3];
        for _ in 0..200 {
            let (lo, hi) = (random.between(-1.0, 0.5), random.between(0.6, 2.0));
            let (net, [least, most]) = chain(&mut random, lo, hi, kinds);
            let network = Network::new(&net.0).unwrap();
            // Lower bounds of Y by intervals, and of -Y by intervals and by the walk back.
            let bound = |rounding: Rounding| {
                let region = passed(&network, rounding, Span::new(vec![lo], vec![hi]), 1.0);
                let walked = region.outputs(Matrix { cols: 1, data: vec![-1.0] }, vec![0.0], vec![0.0]).unwrap()[0];
                let span = &region.layers.last().unwrap().y;
                [
                    least.minus(Double(span.lo[0], 0.0)),
                    Double(span.hi[0], 0.0).minus(most),
                    Double(-walked, 0.0).minus(most),
                ]
            };
            for room in bound(Rounding::IEEE) {
                assert!(room >= 0.0, "a bound is {room:e} too tight: {:?}", net.0.layers);
                assert!(room < 1e-11 * (1.0 + most.0.abs()), "{room:e} is more than rounding explains");
            }
            for (count, room) in careless.iter_mut().zip(bound(Rounding::IGNORED)) {
                *count += usize::from(room < 0.0);
            }
        }
        // The left end of a ReLU is 0 exactly: only chains without one can lose anything there.
        let blind = if kinds > 2 { &careless[1..] } else { &careless };
        assert!(blind.iter().all(|&count| count > 20), "{careless:?} of 200: the test cannot see missing error terms");
    }
}

#[test]
fn overflow_is_no_information() {
    let mut net = Net::flat(2);
    for _ in 0..12 {
        net.dense(&[vec![3e38, -3e38], vec![-3e38, 3e38]], &[1.0, -1.0], Activation::Relu);
    }
    let row = row(&[1.0, 1.0], 1.0, false);
    let property = property(&[-1.0, -1.0], &[1.0, 1.0], 2, vec![vec![row]]);
    let mut proof = bare(&[2; 12], 0.5);
    for layer in &mut proof.queries[0].layers {
        // No finite bound can be derived, not even this one.
        layer.refined = vec![(0, f64::MIN, f64::MAX), (1, f64::MIN, f64::MAX)];
    }
    let refused = derive(&proof, &net.0, &property, Rounding::IEEE).map_err(|e| e.kind());
    assert_eq!(refused, Err(ErrorKind::BadProof));
}

/// A form that goes through one layer: constant and error behind it, and the first coefficient on the input.
fn through(net: &Net, bound: f64, rows: Vec<f64>, constant: f64) -> [f64; 3] {
    let (network, inputs) = (Network::new(&net.0).unwrap(), net.0.input_len());
    let region = Region::new(&network, Rounding::IEEE, Span::new(vec![-bound; inputs], vec![bound; inputs]));
    let (_, toll) = region.affine().unwrap();
    let mut form = Form::new(&region, vec![constant], vec![0.0]);
    form.through_affine(&network.layers[0], &toll, &Matrix { cols: rows.len(), data: rows }).unwrap();
    [form.constant[0], form.error[0], form.pending[0].as_ref().unwrap().data[0]]
}

/// A form that goes through the lines of one layer: constant and error behind it, and the first coefficient.
fn relaxed(lines: &[Line], bound: f64, rows: Vec<f64>, constant: f64) -> [f64; 3] {
    let lines: Vec<Lines> = lines.iter().map(|&line| Lines::Between { below: line, above: line }).collect();
    let net = identity(lines.len(), Activation::Relu);
    let network = Network::new(&net.0).unwrap();
    let z = Span::new(vec![-bound; lines.len()], vec![bound; lines.len()]);
    let region = Region::new(&network, Rounding::IEEE, z.clone());
    let passed = Passed { y: z.clone(), z, toll: Toll { each: vec![], fixed: 0.0 }, lines };
    let mut form = Form::new(&region, vec![constant], vec![0.0]);
    let mut rows = Matrix { cols: rows.len(), data: rows };
    form.through_lines(&passed, &mut rows);
    [form.constant[0], form.error[0], rows.data[0]]
}

/// What a step may lose must be in the form's error, whatever the steps after it add.
#[test]
fn forms_carry_the_error_of_each_step() {
    let big = f64::from(BIG);
    // 2^55 + 1,000 is taken for 2^55.
    let mut lost = vec![1.0_f32; 1001];
    lost[0] = BIG;
    let flat = |offset: f64| Line { slope: 0.0, offset };

    let lines: Vec<Line> = lost.iter().map(|&offset| flat(f64::from(offset))).collect();
    let [constant, error, _] = relaxed(&lines, 1.0, vec![-1.0; 1001], 0.0);
    assert!(constant > -big - 1000.0 && error >= 1000.0, "offsets: {error}");
    let [constant, error, _] = relaxed(&[flat(1.0)], 1.0, vec![-1.0], 2.0 * big);
    assert!(constant == 2.0 * big && error >= 1.0, "constant: {error}");
    // Offsets of both signs, as sigmoids have them, may cancel; their errors do not.
    let [constant, error, _] = relaxed(&[flat(big), flat(-1.0), flat(-big)], 1.0, vec![1.0; 3], 0.0);
    assert!(constant.abs() <= 1.0 && error >= 1.0 - constant.abs(), "signs: {error}");

    let mut shift = Net::flat(1001);
    shift.diagonal(&vec![0.0; 1001], &lost, Activation::None);
    let [constant, error, _] = through(&shift, 1.0, vec![-1.0; 1001], 0.0);
    assert!(constant > -big - 1000.0 && error >= 1000.0, "biases: {error}");
    let mut shift = Net::flat(1);
    shift.diagonal(&[0.0], &[1.0], Activation::None);
    let [constant, error, _] = through(&shift, 1.0, vec![-1.0], 2.0 * big);
    assert!(constant == 2.0 * big && error >= 1.0, "constant: {error}");

    let mut random = Random(9);
    for _ in 0..1000 {
        let (a, s, mag) = (random.between(-1.0, 1.0), random.between(0.0, 1.0) as f32, random.between(1.0, 1e6));
        let exact = Double(a, 0.0).times(f64::from(s));
        let mut scale = Net::flat(1);
        scale.diagonal(&[s], &[0.0], Activation::None);
        let line = Line { slope: f64::from(s), offset: 0.0 };
        for [_, error, coefficient] in [relaxed(&[line], mag, vec![a], 0.0), through(&scale, mag, vec![a], 0.0)] {
            let off = exact.minus(Double(coefficient, 0.0)).abs() * mag;
            assert!(error >= off && error < 1e-15 * mag, "{a} * {s}: {off:e}, {error:e}");
        }
    }
}

/// Coefficients that wait at a source lose something when a path adds to them.
#[test]
fn merges_carry_their_error() {
    let big = f64::from(BIG);
    let mut net = Net::flat(1);
    net.dense(&[vec![1.0]], &[0.0], Activation::None);
    let network = Network::new(&net.0).unwrap();
    let region = Region::new(&network, Rounding::IEEE, Span::new(vec![-1.0], vec![1.0]));
    let (_, toll) = region.affine().unwrap();
    let mut form = Form::new(&region, vec![0.0], vec![0.0]);
    form.put(Source::Input, Matrix { cols: 1, data: vec![big] });
    form.through_affine(&network.layers[0], &toll, &Matrix { cols: 1, data: vec![1.0] }).unwrap();
    let merged = form.pending[0].as_ref().unwrap().data[0];
    assert!(merged == big && form.error[0] >= 1.0, "{merged}, {}", form.error[0]);
}

#[test]
fn sums_of_sizes_are_rounded_up() {
    let r = Rounding::IEEE;
    let big = f64::from(BIG);
    let mut terms = vec![1.0; 1001];
    terms[0] = big;
    // In eight accumulators a part is kept; one accumulator keeps nothing.
    let computed: f64 = terms.iter().sum();
    assert!(computed == big && r.at_most(computed, terms.len()) >= big + 1000.0);
    assert!(r.at_most(0.0, 1000) >= 500.0 * f64::from_bits(1), "a thousand products may have been rounded to 0");
    assert!(r.gamma(3) > 3.0 * f64::EPSILON / 2.0 && r.gamma(3) < 3.1 * f64::EPSILON / 2.0);
    assert!(r.over(1.0) > 1.0 && r.over(f64::MAX) == f64::INFINITY && r.over(f64::NAN).is_nan());
    assert_eq!((r.up(f64::NEG_INFINITY), r.down(f64::INFINITY)), (f64::NEG_INFINITY, f64::INFINITY));
}

#[test]
fn this_processor_computes_as_assumed() {
    assert!(Rounding::of_this_processor().is_ok());
}
