//! Lines of sigmoid and tanh against the functions in twice the precision, and as parts of bounds.

use super::double::Double;
use super::nets::{Net, Random, sparse};
use super::*;
use crate::graph::{Activation, Map, Source};
use crate::verify::check::bounds::{Slopes, Span};
use crate::verify::check::lines::{Line, Lines};
use crate::verify::check::maps::Matrix;

type Curve = fn(Rounding, [f64; 2], [f64; 2]) -> Lines;

type Exact = fn(f64) -> Double;

/// Both functions, and their values in twice the precision.
const CURVES: [(Curve, Exact); 2] =
    [(Lines::sigmoid, Double::logistic), (Lines::tanh, |z| Double::logistic(2.0 * z).times(2.0).plus(-1.0))];

fn lines(curve: Curve, ends: [f64; 2], slopes: [f64; 2]) -> [Line; 2] {
    match curve(Rounding::IEEE, ends, slopes) {
        Lines::Between { below, above } => [below, above],
        other => panic!("{other:?} is not what a curve gets"),
    }
}

/// `f(z)` less the value of a line at z, with an error far below 1e-20 of the size of its parts.
fn above(f: Exact, z: f64, line: Line) -> f64 {
    let scaled = Double(z, 0.0).times(-line.slope).plus(-line.offset);
    let value = f(z);
    scaled.plus(value.0).plus(value.1).minus(Double(0.0, 0.0))
}

/// Intervals of all sizes and places, from one point to 1,200 wide.
fn interval(random: &mut Random) -> [f64; 2] {
    let sign = if random.below(2) == 0 { 1.0 } else { -1.0 };
    let center = sign * 10f64.powf(random.between(-12.0, 2.4));
    let width = match random.below(5) {
        0 => 0.0,
        1 => center.abs() * f64::EPSILON,
        _ => 10f64.powf(random.between(-9.0, 2.5)),
    };
    [(center - width).max(-340.0), (center + width).min(340.0)]
}

fn slope(random: &mut Random, [l, h]: [f64; 2], f: Exact) -> f64 {
    let tangent = |z: f64| {
        let s = f(z).0;
        (s * (1.0 - s)).clamp(0.0, 1.0)
    };
    match random.below(8) {
        0 => 0.0,
        1 => 0.25,
        2 => random.between(0.0, 1.0),
        3 => 10f64.powf(random.between(-30.0, 0.0)),
        4 => [1.0, 5e-324, 1e-300][random.below(3)],
        5 => tangent(l),
        6 => tangent((l + h) / 2.0),
        _ if h > l => ((f(h).0 - f(l).0) / (h - l)).clamp(0.0, 1.0),
        _ => 0.1,
    }
}

/// The places where `f(z) - k z` is stationary (for tanh, k / 4 and half the place).
fn stationary(k: f64, tanh: bool) -> f64 {
    let k = if tanh { k / 4.0 } else { k };
    let s = 2.0 * k / (1.0 + (1.0 - 4.0 * k).max(0.0).sqrt());
    (s.ln() - (-s).ln_1p()) / if tanh { 2.0 } else { 1.0 }
}

#[test]
fn lines_enclose_the_curve_and_touch_it() {
    let mut random = Random(31);
    let mut shifted = 0;
    for round in 0..20_000 {
        let tanh = round % 2;
        let (curve, f) = CURVES[tanh];
        let [l, h] = interval(&mut random);
        let slopes = [slope(&mut random, [l, h], f), slope(&mut random, [l, h], f)];
        let [below, above_it] = lines(curve, [l, h], slopes);
        let stationary = slopes.map(|k| stationary(k, tanh == 1)).map(|c| [c, -c]).concat();
        let random_places: Vec<f64> = (0..20).map(|_| random.between(l, h)).collect();
        let places = [vec![l, h, 0.0], stationary, random_places].concat();
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for z in places.into_iter().filter(|z| l <= *z && *z <= h) {
            least = least.min(above(f, z, below));
            most = most.max(above(f, z, above_it));
        }
        // Twice the precision errs here by 2^-75 of the parts.
        let noise = 1e-22 * (1.0 + l.abs().max(h.abs()));
        assert!(least >= -noise && most <= noise, "[{l}, {h}], slopes {slopes:?}: {least:e}, {most:e}");
        let waste = 1e-13 * (1.0 + l.abs().max(h.abs()));
        assert!(least < waste && most > -waste, "[{l}, {h}], slopes {slopes:?}: wastes {least:e}, {most:e}");
        // A line moved by 1e-12 of its parts would be seen.
        shifted += usize::from(least - 1e-12 * (1.0 + l.abs()) < 0.0);
    }
    assert!(shifted > 15_000, "{shifted} of 20,000: the test could not see a line out of place");
}

/// What is left out of a line shows: without error terms some lines cut the curve.
#[test]
fn lines_need_their_error_terms() {
    let mut random = Random(37);
    let mut cut = 0;
    for round in 0..4000 {
        let (curve, f) = CURVES[round % 2];
        let [l, h] = interval(&mut random);
        let k = slope(&mut random, [l, h], f);
        let Lines::Between { below, .. } = curve(Rounding::IGNORED, [l, h], [k, k]) else {
            panic!("a curve gets two lines");
        };
        cut += usize::from([l, h].iter().any(|&z| above(f, z, below) < -1e-22 * (1.0 + z.abs())));
    }
    assert!(cut > 200, "{cut} of 4,000");
}

#[test]
fn lines_far_out_and_of_unknown_bounds_are_sound() {
    let far = [-f64::INFINITY, -f64::MAX, -1e300, -1e100, -800.0, -745.2, 0.0, 700.0, 1e17, f64::MAX, f64::INFINITY];
    for (curve, floor) in [(Lines::sigmoid as Curve, 0.0), (Lines::tanh as Curve, -1.0)] {
        for (i, &l) in far.iter().enumerate() {
            // A bound that is not known is -inf below and inf above.
            for &h in far[i..].iter().filter(|h| l < f64::INFINITY && **h > f64::NEG_INFINITY) {
                for k in [0.0, 5e-324, 1e-300, 1e-9, 0.2, 1.0] {
                    let [below, above] = lines(curve, [l, h], [k, k]);
                    assert!(
                        below.offset.is_finite() && above.offset.is_finite(),
                        "[{l}, {h}], {k}: {below:?}, {above:?}"
                    );
                    for z in far.iter().copied().filter(|z| z.is_finite() && l <= *z && *z <= h) {
                        // So far out the function is a constant but for less than 1e-300; products are taken apart.
                        let value = if z < 0.0 { floor } else { 1.0 };
                        let value = if z == 0.0 { floor / 2.0 + 0.5 } else { value };
                        let room = |line: Line| value - line.offset - line.slope * z;
                        let noise = 1e-15 * (1.0 + (k * z).abs()) + 1e-299;
                        assert!(
                            room(below) >= -noise && room(above) <= noise,
                            "[{l}, {h}], {k}, {z}: {below:?}, {above:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn the_logistic_function_is_enclosed_everywhere() {
    let r = Rounding::IEEE;
    for x in [f64::NEG_INFINITY, -f64::MAX, -1e4, -745.2, -745.0, -709.0] {
        let [lo, hi] = r.logistic(x);
        assert!(lo == 0.0 && (0.0..1e-299).contains(&hi) && hi > 0.0, "{x}: [{lo:e}, {hi:e}]");
        assert!(r.logistic(-x)[1] == 1.0 && r.logistic(-x)[0] > 1.0 - 1e-14);
    }
    let mut random = Random(41);
    let mut careless = 0;
    for _ in 0..20_000 {
        let x = random.between(-1.0, 1.0) * 10f64.powf(random.between(-6.0, 2.8));
        let [lo, hi] = r.logistic(x);
        let exact = Double::logistic(x);
        assert!(exact.minus(Double(lo, 0.0)) >= 0.0 && Double(hi, 0.0).minus(exact) >= 0.0, "{x}: [{lo}, {hi}]");
        assert!(hi - lo <= 1e-14 * hi + 3e-300, "{x}: [{lo}, {hi}] is wide");
        careless += usize::from(exact.minus(Double(Rounding::IGNORED.logistic(x)[0], 0.0)) < 0.0);
    }
    assert!(careless > 2000, "{careless} of 20,000: the test cannot see a missing error term");
}

/// `f(x) - k x` over `[l, h]`, whose only tight bound comes from the line below f.
fn curve_less_line(activation: Activation, k: f32) -> Net {
    let mut net = Net::flat(1);
    let y = net.diagonal(&[1.0], &[0.0], activation);
    let edges = vec![(y, sparse(&[vec![(0, 1.0)]])), (Source::Input, Map::Diagonal(vec![-k]))];
    net.layer(net.0.input, edges, &[0.0], Activation::None);
    net
}

#[test]
fn bounds_meet_the_curve_and_a_shifted_line_breaks_them() {
    for (activation, k) in [(Activation::Sigmoid, 0.125_f32), (Activation::Tanh, 0.5)] {
        let net = curve_less_line(activation, k);
        let network = Network::new(&net.0).unwrap();
        let mut region = Region::new(&network, Rounding::IEEE, Span::new(vec![-3.0], vec![2.0]));
        let slope = [f64::from(k)];
        let affine = region.affine().unwrap();
        region.pass(affine, Slopes { below: &slope, above: &slope }).unwrap();
        let affine = region.affine().unwrap();
        region.pass(affine, Slopes { below: &[], above: &[] }).unwrap();
        let bound = |region: &Region<'_>, sign: f64| {
            region.outputs(Matrix { cols: 1, data: vec![sign] }, vec![0.0], vec![0.0]).unwrap()[0]
        };
        let values = |x: f64| net.evaluate(&[x]).last().unwrap()[1][0];
        let samples = (0..=50_000).map(|i| values(-3.0 + f64::from(i) * 1e-4));
        let (least, most) = samples.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v: f64| (l.min(v), h.max(v)));
        let (low, high) = (bound(&region, 1.0), -bound(&region, -1.0));
        assert!(low <= least && least - low < 1e-8, "{activation:?}: {low} for {least}");
        assert!(high >= most && high - most < 1e-8, "{activation:?}: {high} for {most}");
        let Lines::Between { below, above } = &mut region.layers[0].lines[0] else {
            panic!("a curve gets two lines");
        };
        (below.offset, above.offset) = (below.offset + 1e-6, above.offset - 1e-6);
        assert!(bound(&region, 1.0) > least && -bound(&region, -1.0) < most, "{activation:?}: the shift is not seen");
    }
}
