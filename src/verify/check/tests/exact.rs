//! Cases in which ignoring any rounding error would prove something false.

use super::nets::{Builder, Random, property, row};
use super::*;
use crate::graph::Op;
use crate::verify::check::bounds::Lines;
use crate::verify::property::Row;

/// 2^55: adding 1 to it changes nothing in f64.
const BIG: f32 = 36_028_797_018_963_968.0;

/// A proof without refinements, with a claim for the only row.
fn bare(layers: &[usize], bound: f64) -> Proof {
    let layers = layers.iter().map(|&width| LayerProof { slopes: vec![1.0; width], refined: vec![] }).collect();
    let claims = vec![Claim { conjunction: 0, row: 0, bound }];
    Proof::new("0".repeat(64), "1".repeat(64), "strict", vec![QueryProof { layers, claims }])
}

/// Demands that a false claim at a point is refused, and that it would be accepted if f64 were taken for exact.
fn needs_error_terms(what: &str, builder: &Builder, point: &[f64], row: Row, layers: &[usize], claimed: f64) {
    let outputs = builder.graph.output_len();
    let property = property(point, point, outputs, vec![vec![row]]);
    let proof = bare(layers, claimed);
    let ignored = derive(&proof, &builder.graph, &property, Rounding::IGNORED);
    assert!(ignored.is_ok(), "{what}: the case needs no error term: {ignored:?}");
    let covered = derive(&proof, &builder.graph, &property, Rounding::IEEE).map_err(|e| e.kind());
    assert_eq!(covered, Err(ErrorKind::BadProof), "{what}: a false property was accepted");
}

// In the first cases f64 adds 2^55, -1 and -2^55 to 0, so that a row of value -1/2 seems to be 1/2.

#[test]
fn sums_over_the_output_are_covered() {
    let mut builder = Builder::new(&[1, 3]);
    builder.then(Op::Relu, &[], &[]);
    let big = f64::from(BIG);
    needs_error_terms("evaluation", &builder, &[1.0; 3], row(&[big, -1.0, -big], 0.5, false), &[3], 0.25);
}

#[test]
fn products_of_matrices_are_covered() {
    let mut builder = Builder::new(&[1, 1]);
    builder.gemm(&[vec![1.0], vec![1.0], vec![1.0]], &[0.0; 3]);
    builder.gemm(&[vec![BIG, -1.0, -BIG]], &[0.0]);
    needs_error_terms("product", &builder, &[1.0], row(&[1.0], 0.5, false), &[], 0.25);
    // The same sum as an upper bound: its negation seems to be 0, and is -1.
    let mut builder = Builder::new(&[1, 1]);
    builder.gemm(&[vec![1.0], vec![1.0], vec![1.0]], &[0.0; 3]);
    builder.gemm(&[vec![BIG, 1.0, -BIG]], &[0.0]);
    needs_error_terms("upper end", &builder, &[1.0], row(&[-1.0], 0.5, false), &[], 0.25);
}

#[test]
fn sums_of_biases_are_covered() {
    let mut builder = Builder::new(&[1, 3]);
    builder.then(Op::Add, &[3], &[BIG, -1.0, -BIG]);
    needs_error_terms("bias", &builder, &[0.0; 3], row(&[1.0; 3], 0.5, false), &[], 0.25);
    // One after the other, in intervals and into the constant of a form.
    for (sign, word) in [(1.0, "lower end"), (-1.0, "upper end")] {
        let mut builder = Builder::new(&[1, 1]);
        builder.then(Op::Sub, &[1], &[sign]);
        builder.then(Op::Sub, &[1], &[BIG]);
        let row = row(&[f64::from(sign)], 0.5, false);
        needs_error_terms(word, &builder, &[f64::from(BIG)], row, &[], 0.25);
    }
}

/// 1,000 products of 0.6 * 2^-1074 are rounded up to 2^-1074 each: their sum is taken for 1,000 and is 600.
#[test]
fn underflow_is_covered() {
    let (input, weight) = ([2f64.powi(-1000); 1000], 0.6 * 2f32.powi(-74));
    let tiny = f64::from_bits(1);
    for (sign, word) in [(1.0, "lower end"), (-1.0, "upper end")] {
        let mut builder = Builder::new(&[1, 1000]);
        builder.gemm(&[vec![-sign * weight; 1000]], &[0.0]);
        let row = row(&[-f64::from(sign)], -800.0 * tiny, false);
        needs_error_terms(word, &builder, &input, row, &[], 100.0 * tiny);
    }
}

#[test]
fn inexact_decimals_of_the_property_are_covered() {
    let mut builder = Builder::new(&[1, 1]);
    builder.then(Op::Relu, &[], &[]);
    let exact = row(&[1.0], -1.0, true);
    let property_of = |row: Row| property(&[1.0], &[1.0], 1, vec![vec![row]]);
    let refused = |row: Row| derive(&bare(&[1], 0.0), &builder.graph, &property_of(row), Rounding::IGNORED).is_err();
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
            let Lines::Crossing { above, offset, .. } = line else {
                panic!("the interval [{l}, {h}] crosses 0");
            };
            let scaled = |x: f64, bits: i32| (x * 2f64.powi(bits)) as i128;
            let (above, offset) = (scaled(above, 80), scaled(offset, 100));
            assert_eq!((offset as f64 * 2f64.powi(-100)).to_bits(), (offset as f64 / 2f64.powi(100)).to_bits());
            let at = |z: f64| above * scaled(z, 20) + offset;
            [at(l), at(h) - scaled(h, 100)]
        };
        assert!(room(Lines::new(Rounding::IEEE, l, h, 0.0)).iter().all(|&r| r >= 0), "[{l}, {h}]");
        let careless = Lines::Crossing { below: 0.0, above: h / (h - l), offset: -l * (h / (h - l)) };
        gap_without_care += usize::from(room(careless).iter().any(|&r| r < 0));
    }
    assert!(gap_without_care > 1000, "{gap_without_care} of 20,000: the test cannot see the gap");
}

#[test]
fn lines_of_stable_and_unknown_neurons() {
    let lines = |l, h| Lines::new(Rounding::IEEE, l, h, 0.5);
    assert_eq!(lines(0.0, 1.0), Lines::Same);
    assert_eq!(lines(-1.0, 0.0), Lines::Zero);
    assert_eq!(lines(-0.0, 0.0), Lines::Zero);
    let Lines::Crossing { offset, .. } = lines(f64::NEG_INFINITY, 1.0) else {
        panic!("an unknown lower bound crosses 0");
    };
    assert_eq!(offset, f64::INFINITY);
    // The smallest and the largest numbers do no harm.
    let tiny = f64::from_bits(1);
    for (l, h) in [(-tiny, tiny), (-f64::MAX, f64::MAX), (-tiny, f64::MAX), (-f64::MAX, tiny)] {
        let Lines::Crossing { above, offset, .. } = lines(l, h) else {
            panic!("[{l}, {h}] crosses 0");
        };
        assert!((0.0..=1.0).contains(&above) && offset > 0.0, "[{l}, {h}]: {above} z + {offset}");
    }
}

/// A number as an unevaluated sum of two f64, good to about 2^-104 (T. J. Dekker, 1971).
#[derive(Clone, Copy)]
struct Double(f64, f64);

impl Double {
    fn sum(a: f64, b: f64) -> Self {
        let s = a + b;
        let t = s - a;
        Self(s, (a - (s - t)) + (b - t))
    }

    fn plus(self, b: f64) -> Self {
        let s = Self::sum(self.0, b);
        Self::sum(s.0, s.1 + self.1)
    }

    fn times(self, b: f64) -> Self {
        let p = self.0 * b;
        Self::sum(p, self.0.mul_add(b, -p) + self.1 * b)
    }

    fn over(self, b: f64) -> Self {
        let q = self.0 / b;
        let rest = (-q).mul_add(b, self.0) + self.1;
        Self::sum(q, rest / b)
    }

    fn relu(self) -> Self {
        if self.0 > 0.0 { self } else { Self(0.0, 0.0) }
    }

    /// `self - other` to nearest.
    fn minus(self, other: Self) -> f64 {
        (self.0 - other.0) + (self.1 - other.1)
    }
}

/// A rising function of one input, as 30 to 50 random steps, with its values at both ends.
fn chain(random: &mut Random, lo: f64, hi: f64, kinds: usize) -> (Builder, [Double; 2]) {
    let mut builder = Builder::new(&[1, 1]);
    let (mut low, mut high) = (Double(lo, 0.0), Double(hi, 0.0));
    for _ in 0..30 + random.below(20) {
        let c = random.between(0.6, 1.6) as f32;
        let exact = f64::from(c);
        match random.below(kinds) {
            0 => {
                builder.then(Op::Mul, &[1], &[c]);
                (low, high) = (low.times(exact), high.times(exact));
            }
            1 => {
                builder.then(Op::Div, &[1], &[c]);
                (low, high) = (low.over(exact), high.over(exact));
            }
            2 => {
                builder.gemm(&[vec![c]], &[0.0]);
                (low, high) = (low.times(exact), high.times(exact));
            }
            _ => {
                // Moves 0 into the interval, so that the ReLU gets two lines.
                let shift = -(low.0 + (high.0 - low.0) * random.between(0.05, 0.6)) as f32;
                builder.then(Op::Add, &[1], &[shift]);
                builder.then(Op::Relu, &[], &[]);
                (low, high) = (low.plus(f64::from(shift)).relu(), high.plus(f64::from(shift)).relu());
            }
        }
    }
    (builder, [low, high])
}

/// Over such a chain intervals are exact, and the upper line of every ReLU is met at the right end, so that bounds are
/// the true ones but for rounding: whatever rounding is not covered shows.
#[test]
fn bounds_of_long_chains_stay_on_the_safe_side() {
    let mut random = Random(3);
    for kinds in [1, 2, 3, 4, 5] {
        let mut careless = [0; 3];
        for _ in 0..200 {
            let (lo, hi) = (random.between(-1.0, 0.5), random.between(0.6, 2.0));
            let (builder, [least, most]) = chain(&mut random, lo, hi, kinds);
            let network = Network::new(&builder.graph).unwrap();
            // Lower bounds of Y by intervals, and of -Y by intervals and by the walk back.
            let bound = |rounding: Rounding| {
                let mut region = Region::new(&network, rounding, Span::new(vec![lo], vec![hi]));
                for step in &network.steps {
                    region.forward(if matches!(step, Step::Relu) { &[1.0] } else { &[] }).unwrap();
                }
                let form = Form::new(Matrix { cols: 1, data: vec![-1.0] }, vec![0.0], vec![0.0]);
                let walked = region.lower_bounds(form).unwrap()[0];
                let span = region.spans.last().unwrap();
                [
                    least.minus(Double(span.lo[0], 0.0)),
                    Double(span.hi[0], 0.0).minus(most),
                    Double(-walked, 0.0).minus(most),
                ]
            };
            for room in bound(Rounding::IEEE) {
                assert!(room >= 0.0, "a bound is {room:e} too tight: {:?}", builder.graph.nodes);
                assert!(room < 1e-11 * (1.0 + most.0.abs()), "{room:e} is more than rounding explains");
            }
            for (count, room) in careless.iter_mut().zip(bound(Rounding::IGNORED)) {
                *count += usize::from(room < 0.0);
            }
        }
        // The left end of a ReLU is 0 exactly: only chains without one can lose anything there.
        let blind = if kinds > 3 { &careless[1..] } else { &careless };
        assert!(blind.iter().all(|&count| count > 20), "{careless:?} of 200: the test cannot see missing error terms");
    }
}

#[test]
fn overflow_is_no_information() {
    let mut builder = Builder::new(&[1, 2]);
    for _ in 0..12 {
        builder.gemm(&[vec![3e38, -3e38], vec![-3e38, 3e38]], &[1.0, -1.0]);
        builder.then(Op::Relu, &[], &[]);
    }
    let row = row(&[1.0, 1.0], 1.0, false);
    let property = property(&[-1.0, -1.0], &[1.0, 1.0], 2, vec![vec![row]]);
    let mut proof = bare(&[2; 12], 0.5);
    for layer in &mut proof.queries[0].layers {
        // No finite bound can be derived, not even this one.
        layer.refined = vec![(0, f64::MIN, f64::MAX), (1, f64::MIN, f64::MAX)];
    }
    let refused = derive(&proof, &builder.graph, &property, Rounding::IEEE).map_err(|e| e.kind());
    assert_eq!(refused, Err(ErrorKind::BadProof));
}

/// What a step may lose must be in the form's error, whatever the steps after it add.
#[test]
fn forms_carry_the_error_of_each_step() {
    let big = f64::from(BIG);
    let form = |data: Vec<f64>, constant: f64| Form::new(Matrix { cols: data.len(), data }, vec![constant], vec![0.0]);
    let r = Rounding::IEEE;
    // 2^55 + 1,000 is taken for 2^55.
    let mut lost = vec![1.0; 1001];
    lost[0] = big;
    let span = Span::new(vec![-1.0; 1001], vec![1.0; 1001]);

    let mut relu = form(vec![-1.0; 1001], 0.0);
    let lines: Vec<Lines> = lost.iter().map(|&offset| Lines::Crossing { below: 0.0, above: 0.0, offset }).collect();
    relu.through_relu(r, &lines, &span);
    assert!(relu.constant[0] > -big - 1000.0 && relu.error[0] >= 1000.0, "offsets: {}", relu.error[0]);

    let mut relu = form(vec![-1.0], 2.0 * big);
    relu.through_relu(r, &[Lines::Crossing { below: 0.0, above: 0.0, offset: 1.0 }], &Span::new(vec![-1.0], vec![1.0]));
    assert!(relu.constant[0] == 2.0 * big && relu.error[0] >= 1.0, "constant: {}", relu.error[0]);

    let mut shift = form(vec![-1.0; 1001], 0.0);
    shift.through_shift(r, &lost);
    assert!(shift.constant[0] > -big - 1000.0 && shift.error[0] >= 1000.0, "biases: {}", shift.error[0]);

    let mut shift = form(vec![-1.0], 2.0 * big);
    shift.through_shift(r, &[1.0]);
    assert!(shift.constant[0] == 2.0 * big && shift.error[0] >= 1.0, "constant: {}", shift.error[0]);

    let mut random = Random(9);
    for _ in 0..1000 {
        let (a, s, mag) = (random.between(-1.0, 1.0), random.between(0.0, 1.0), random.between(1.0, 1e6));
        let span = Span::new(vec![-mag], vec![mag]);
        let exact = Double(a, 0.0).times(s);
        let mut relu = form(vec![a], 0.0);
        relu.through_relu(r, &[Lines::Crossing { below: s, above: s, offset: 0.0 }], &span);
        let mut scale = form(vec![a], 0.0);
        scale.through_scale(r, &[s], false, &span);
        for form in [relu, scale] {
            let off = exact.minus(Double(form.rows.data[0], 0.0)).abs() * mag;
            assert!(form.error[0] >= off && form.error[0] < 1e-15 * mag, "{a} * {s}: {off:e}, {:e}", form.error[0]);
        }
    }
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
