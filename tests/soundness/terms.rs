//! Every error term has a case that turns red without it: bounds on bad arithmetic, one term left out.
//!
//! Terms without a case of their own hold reserves: what they cover is always covered by another term as well.
//!
//! * `Radius`, `IntervalGrow`: two roundings of a radius, and those of its sum, are at most half of `2g`, which stands
//!   there twice; `g v` covers the centre's sum with `v` at least centre and radius together.
//! * `IntervalStep`, `Step`: the last rounding is one of the D that g counts, and one of the 72 of a bound.
//! * `Offset`, `OffsetSum`: t is off by at most 3u and its sum by one u an addition; `72u |X|` covers the 66 additions of
//!   the end, and `g_k weight_sum`, with `weight_sum` at least t, the longer sums of wide layers.
//! * `Slope`: g_k counts two roundings more than the product has.
//! * `CostGrow`: the 4 roundings of e are part of `grow` too.

use ndarray::Array2;
use wavehull::graph::{Activation, Affine, Edge, Extent, Layer, Layers, Map, Source};

use crate::arithmetic::{Direction, Policy, Site};
use crate::emulator::{Emulator, Start, Term};

/// A network, a point or box, a row, and what the row really reaches.
struct Case {
    name: &'static str,
    terms: &'static [Term],
    net: Layers,
    lower: Vec<f32>,
    upper: Vec<f32>,
    row: Start,
    truth: f64,
}

fn affine(rows: usize, weight: &[f32], bias: &[f32], relu: bool) -> Affine {
    Affine {
        weight: Array2::from_shape_vec((rows, weight.len() / rows), weight.to_vec()).unwrap(),
        bias: bias.to_vec().into(),
        weight_rel: 0.0,
        bias_abs: vec![0.0; rows].into(),
        relu,
    }
}

/// Layers behind each other.
fn chain(layers: Vec<Affine>) -> Layers {
    let input = Extent::flat(layers[0].weight.ncols());
    let layer = |(index, affine): (usize, Affine)| Layer {
        name: format!("layer {index}"),
        extent: Extent::flat(affine.bias.len()),
        edges: vec![Edge {
            source: index.checked_sub(1).map_or(Source::Input, Source::Layer),
            map: Map::Dense(affine.weight),
            rel: affine.weight_rel,
        }],
        bias: affine.bias.to_vec(),
        bias_abs: affine.bias_abs.to_vec(),
        activation: if affine.relu { Activation::Relu } else { Activation::None },
    };
    Layers { input, layers: layers.into_iter().enumerate().map(layer).collect() }
}

/// The identity on `n` values, with a bias.
fn shift(n: usize, bias: f32, bias_abs: f32) -> Affine {
    let weight: Vec<f32> = (0..n * n).map(|i| if i % (n + 1) == 0 { 1.0 } else { 0.0 }).collect();
    Affine { bias_abs: vec![bias_abs; n].into(), ..affine(n, &weight, &vec![bias; n], false) }
}

fn row(coefficients: &[f32], constant: f32, error: f32) -> Start {
    Start { coefficients: coefficients.to_vec(), constant, error, rel: 0.0 }
}

/// Numbers near `size` that are no round ones, positive on the first 16 lanes and negative on the others: in index order
/// all sums stay far from 0 until the end, where they cancel up to a little.
fn cancelling(n: usize, size: f32) -> Vec<f32> {
    let value = |i: usize| size * (1.0 + (i % 16) as f32 * 0.0137 + 0.0001);
    (0..n).map(|i| if i % 32 < 16 { value(i) } else { -value(i) }).collect()
}

fn exact(a: &[f32], b: &[f32]) -> f64 {
    // Neighbours in the list of `cancelling` cancel exactly, and so do their products with equal factors.
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn point(x: f32, n: usize) -> (Vec<f32>, Vec<f32>) {
    (vec![x; n], vec![x; n])
}

fn sums() -> Vec<Case> {
    // Sums of 256 on every lane, more than the reserves cover.
    let ((lower, upper), w) = (point(1.1, 8192), cancelling(8192, 0.7));
    let last = Case {
        name: "a long sum that cancels",
        terms: &[Term::LastSum, Term::IntervalProduct],
        net: chain(vec![affine(1, &w, &[0.0], false)]),
        truth: exact(&w, &lower),
        lower,
        upper,
        row: row(&[1.0], 0.0, 0.0),
    };
    let (lower, upper) = point(1.0, 1);
    let (column, w) = (vec![1.3; 64], cancelling(64, 0.7));
    let product = Case {
        name: "a product of matrices that cancels",
        terms: &[Term::Product, Term::Carried],
        net: chain(vec![affine(64, &column, &[0.0; 64], false), affine(1, &w, &[0.0], false)]),
        truth: exact(&w, &column),
        lower,
        upper,
        row: row(&[1.0], 0.0, 0.0),
    };
    let (lower, upper) = point(1.0, 1);
    let biases = cancelling(64, 1.1);
    let bias = Case {
        name: "biases that cancel",
        terms: &[Term::OffsetSum],
        net: chain(vec![affine(64, &[2.0_f32.powi(-40); 64], &biases, false)]),
        truth: exact(&biases, &[1.0; 64]) + 64.0 * 2.0_f64.powi(-40),
        lower,
        upper,
        row: row(&[1.0; 64], 0.0, 0.0),
    };
    vec![last, product, bias]
}

/// A large number and many tiny ones: every addition may cost a whole unit of the large one.
fn tiny_addends() -> Vec<Case> {
    // Negative, so that no level decides the row.
    let (large, small) = (-1.000_000_1, 2.0_f32.powi(-40));
    let (lower, upper) = point(small, 64);
    let constant = Case {
        name: "a constant under tiny biases",
        terms: &[Term::Constant],
        net: chain((0..4).map(|_| shift(64, small, 0.0)).collect()),
        lower: lower.clone(),
        upper: upper.clone(),
        row: row(&[1.0; 64], large, 0.0),
        truth: f64::from(large) + 64.0 * 5.0 * f64::from(small),
    };
    let bound = Case {
        name: "a constant beside tiny values",
        terms: &[Term::Bound],
        net: chain(vec![shift(64, 0.0, 0.0)]),
        lower,
        upper,
        row: row(&[1.0; 64], large, 0.0),
        truth: f64::from(large) + 64.0 * f64::from(small),
    };
    // 512 planes, more than what the row pays on its way.
    let n = 512 * 128;
    let (lower, upper) = point(small, n);
    let interval = Case {
        name: "a bias under tiny planes",
        terms: &[Term::IntervalBias],
        net: chain(vec![affine(1, &vec![1.0; n], &[large], false)]),
        lower,
        upper,
        row: row(&[1.0], 0.0, 0.0),
        truth: f64::from(large) + n as f64 * f64::from(small),
    };
    vec![constant, bound, interval]
}

/// Errors of stored numbers that the real network attains.
fn attained() -> Vec<Case> {
    let off = 2.0_f32.powi(-8);
    let one = |layers: Vec<Affine>, name, terms, truth| {
        let (lower, upper) = point(1.0, 1);
        // The constant keeps the row below 0, so that no level decides it.
        Case { name, terms, net: chain(layers), lower, upper, row: row(&[1.0], -2.0, 0.0), truth: truth - 2.0 }
    };
    let small = 1.0 - f64::from(off);
    let weight = Affine { weight_rel: off, ..shift(1, 0.0, 0.0) };
    let mut cases = vec![
        one(vec![weight], "a smaller weight", &[Term::IntervalWeight, Term::Weight], small),
        one(vec![shift(1, 0.0, off)], "a smaller bias", &[Term::IntervalBiasAbs, Term::BiasAbs], small),
    ];
    let mut rel = one(vec![shift(1, 0.0, 0.0)], "a smaller coefficient", &[Term::Coefficients], small);
    rel.row.rel = off;
    cases.push(rel);
    // -relu(x) with a coefficient that is larger: the last layer ends in a ReLU that is mostly off.
    let relu = Affine { relu: true, ..shift(1, 0.0, 0.0) };
    let mut rel = one(
        vec![relu.clone()],
        "a larger coefficient behind a flat line",
        &[Term::Coefficients],
        -1.0 - f64::from(off),
    );
    (rel.lower, rel.row.coefficients, rel.row.rel) = (vec![-100.0], vec![-1.0], off);
    cases.push(rel);
    let around = |middle: Affine, name, terms| {
        let layers = vec![shift(1, 0.0, 0.0), Affine { relu: true, ..middle }, affine(1, &[-1.0], &[0.0], false)];
        Case { lower: vec![-1.0], ..one(layers, name, terms, -1.0 - f64::from(off)) }
    };
    cases.push(around(
        Affine { weight_rel: off, ..shift(1, 0.0, 0.0) },
        "a refined neuron's weight",
        &[Term::StartWeight],
    ));
    cases.push(around(shift(1, 0.0, off), "a refined neuron's bias", &[Term::StartBias]));
    cases
}

/// Errors whose own sums are rounded down, and subnormals.
fn second_order() -> Vec<Case> {
    let (lower, upper) = point(2.0_f32.powi(-40), 64);
    let slack = Case {
        name: "an error that is attained, beside tiny values",
        terms: &[Term::BoundGrow],
        net: chain(vec![shift(64, 0.0, 0.0)]),
        lower,
        upper,
        row: row(&[1.0; 64], 0.0, 1.000_000_1),
        truth: 64.0 * 2.0_f64.powi(-40) - f64::from(1.000_000_1_f32),
    };
    let (lower, upper) = point(0.0, 32);
    let part = 0.99 * 2.0_f32.powi(-23);
    let grow = Case {
        name: "errors of ten layers that are all attained",
        terms: &[Term::Grow],
        net: chain((0..10).map(|_| shift(32, 0.0, part)).collect()),
        lower,
        upper,
        row: row(&[1.0; 32], 0.0, 1.000_000_1),
        truth: -f64::from(1.000_000_1_f32) - 320.0 * f64::from(part),
    };
    let (lower, upper) = point(-(2.0_f32.powi(38)), 1);
    let tiny = Case {
        name: "a coefficient that is flushed, on a large value",
        terms: &[Term::Tiny],
        net: chain(vec![affine(1, &[2.0_f32.powi(-80)], &[0.0], false)]),
        lower,
        upper,
        row: row(&[2.0_f32.powi(-80)], 0.0, 0.0),
        truth: -(2.0_f64.powi(38 - 160)),
    };
    vec![slack, grow, tiny]
}

fn cases() -> Vec<Case> {
    [sums(), tiny_addends(), attained(), second_order()].into_iter().flatten().collect()
}

/// Roundings in one direction everywhere or at one site, in index order, positive terms first, or shuffled.
fn policies() -> Vec<Policy> {
    use Direction::{Down, Nearest, Up};
    let sites = [Site::Interval, Site::Lines, Site::Relax, Site::Constants, Site::Costs, Site::Bounds, Site::Product];
    let alone = sites.iter().flat_map(|&site| [(Nearest, Some((site, Up))), (Nearest, Some((site, Down)))]);
    let mixed = [(Up, None), (Down, None), (Up, Some((Site::Costs, Down)))];
    let mut all = vec![Policy::NEAREST];
    for (everywhere, special) in alone.chain(mixed) {
        let plain = Policy { everywhere, special, flush: true, ..Policy::NEAREST };
        all.extend([plain, Policy { sorted: true, ..plain }, Policy { reversed: true, ..plain }]);
        all.extend((0..3).map(|seed| Policy { shuffle: true, seed, ..plain }));
    }
    all.extend((0..10).map(Policy::random));
    all
}

impl Case {
    /// The highest bound of all policies.
    fn highest(&self, off: Option<Term>) -> f64 {
        let run = |policy| {
            let emulator = Emulator::new(&self.net, policy, off, true);
            emulator.run(&self.lower, &self.upper, std::slice::from_ref(&self.row)).map(|b| f64::from(b[0]))
        };
        policies().into_iter().filter_map(run).fold(f64::MIN, f64::max)
    }
}

#[test]
fn with_every_term_no_case_is_red() {
    for case in cases() {
        let highest = case.highest(None);
        assert!(highest <= case.truth, "{}: a bound of {highest:e} above {:e}", case.name, case.truth);
    }
}

#[test]
fn without_any_one_term_a_case_is_red() {
    let mut blunt = Vec::new();
    for case in cases() {
        for &term in case.terms {
            let highest = case.highest(Some(term));
            if highest <= case.truth {
                blunt.push(format!("{}: {term:?} is not needed, {:e} below", case.name, case.truth - highest));
            }
        }
    }
    assert!(blunt.is_empty(), "{blunt:#?}");
}
