//! Every error term has a case that turns red without it: bounds on bad arithmetic, one term left out.
//!
//! Terms without a case of their own hold reserves: what they cover is always covered by another term as well.
//!
//! * `Radius`, `IntervalGrow`: two roundings of a radius, and those of its sum, are at most half of `2g`, which stands
//!   there twice; `g v` covers the centre's sum with `v` at least centre and radius together.
//! * `IntervalBias`: the bias meets three roundings; where it cancels against the centre, `g v` is at least as large, and elsewhere
//!   whoever reads the bound pays `g_c` of it.
//! * `IntervalStep`, `Step`: the last rounding is one of the D that g counts, and one of the eight more that d counts.
//! * `Offset`, `Line`, `Smooth`: T is off by a few u of its parts; `g_c |T|` counts ten roundings more than its sum has, and where
//!   the parts cancel, `g_k weight_sum` is at least four u of them.
//! * `Slope`: g_k counts two roundings more than the product has.
//! * `CostGrow`, `GivenGrow`: the few roundings of a cost are part of `grow` too.
//! * `Moved`: g_c counts ten roundings more than the sum of the bounds has.

use ndarray::Array2;
use wavehull::graph::{Activation, Edge, Extent, Layer, Layers, Map, Source};

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

/// A dense layer; its input is the layer before it.
#[derive(Clone)]
struct Affine {
    weight: Array2<f32>,
    bias: Vec<f32>,
    weight_rel: f32,
    bias_abs: Vec<f32>,
    relu: bool,
}

fn affine(rows: usize, weight: &[f32], bias: &[f32], relu: bool) -> Affine {
    Affine {
        weight: Array2::from_shape_vec((rows, weight.len() / rows), weight.to_vec()).unwrap(),
        bias: bias.to_vec(),
        weight_rel: 0.0,
        bias_abs: vec![0.0; rows],
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
        bias: affine.bias,
        bias_abs: affine.bias_abs,
        activation: if affine.relu { Activation::Relu } else { Activation::None },
    };
    Layers { input, layers: layers.into_iter().enumerate().map(layer).collect() }
}

/// The identity on `n` values, with a bias.
fn shift(n: usize, bias: f32, bias_abs: f32) -> Affine {
    let weight: Vec<f32> = (0..n * n).map(|i| if i % (n + 1) == 0 { 1.0 } else { 0.0 }).collect();
    Affine { bias_abs: vec![bias_abs; n], ..affine(n, &weight, &vec![bias; n], false) }
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
    // Long slices, for every offset is moved outward by 4u of itself.
    let n = 8192;
    let biases = cancelling(n, 1.1);
    let bias = Case {
        name: "biases that cancel",
        terms: &[Term::OffsetSum],
        net: chain(vec![affine(n, &vec![2.0_f32.powi(-40); n], &biases, false)]),
        truth: exact(&biases, &vec![1.0; n]) + n as f64 * 2.0_f64.powi(-40),
        lower,
        upper,
        row: row(&vec![1.0; n], 0.0, 0.0),
    };
    vec![last, product, bias]
}

/// A large number and many tiny ones: every addition may cost a whole unit of the large one.
fn tiny_addends() -> Vec<Case> {
    // Negative, so that no level decides the row.
    let (large, small) = (-1.5, 2.0_f32.powi(-40));
    let (lower, upper) = point(small, 64);
    let constant = Case {
        name: "a constant under tiny biases",
        terms: &[Term::Constant],
        net: chain((0..24).map(|_| shift(64, small, 0.0)).collect()),
        lower: lower.clone(),
        upper: upper.clone(),
        row: row(&[1.0; 64], large, 0.0),
        truth: f64::from(large) + 64.0 * 25.0 * f64::from(small),
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
    vec![constant, bound]
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
    let off = 1.5;
    let (lower, upper) = point(1.0, 1);
    // Sums in 64 slices, of next to nothing.
    let n = 2048;
    let neuron = Affine { bias_abs: vec![off], ..affine(1, &vec![1.0; n], &[0.0], true) };
    let small = vec![-(2.0_f32.powi(-40)); n];
    let slack = Case {
        name: "a refined neuron's error that is attained, beside tiny values",
        terms: &[Term::BoundGrow],
        net: chain(vec![affine(n, &small, &vec![0.0; n], false), neuron, affine(1, &[-1.0], &[0.0], false)]),
        lower,
        upper,
        row: row(&[1.0], 0.0, 0.0),
        truth: -f64::from(off) + n as f64 * 2.0_f64.powi(-40),
    };
    let (lower, upper) = point(0.0, 1);
    let (part, large) = (0.99 * 2.0_f32.powi(-23), 1.000_000_1_f32);
    let errors = (0..60).map(|_| part).chain([large]);
    let grow = Case {
        name: "errors of sixty layers that are all attained",
        terms: &[Term::Grow],
        net: chain(errors.map(|error| shift(1, 0.0, error)).collect()),
        lower,
        upper,
        row: row(&[1.0], 0.0, 0.0),
        truth: -f64::from(large) - 60.0 * f64::from(part),
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

/// `count` paths beside a direct one, all from layer 0 to the last layer; each multiplies by `small`.
fn paths(count: usize, small: f32, activation: Activation) -> Vec<Layer> {
    let edge = |source: Source, weight: f32| Edge { source, map: Map::Diagonal(vec![weight]), rel: 0.0 };
    let layer = |index: usize, edges: Vec<Edge>, activation: Activation| Layer {
        name: format!("layer {index}"),
        extent: Extent::flat(1),
        edges,
        bias: vec![0.0],
        bias_abs: vec![0.0],
        activation,
    };
    let first = layer(0, vec![edge(Source::Input, 1.0)], Activation::None);
    let between = (1..=count).map(|index| layer(index, vec![edge(Source::Layer(0), small)], Activation::None));
    let sum = layer(count + 1, (0..=count).map(|index| edge(Source::Layer(index), 1.0)).collect(), activation);
    std::iter::once(first).chain(between).chain([sum]).collect()
}

/// Coefficients that many paths add to, each a little of it.
fn merges() -> Vec<Case> {
    let (count, small) = (400, 2.0_f32.powi(-40));
    let rest = count as f64 * f64::from(small);
    let (lower, upper) = point(-1.0, 1);
    let writes = Case {
        name: "many paths to one layer",
        terms: &[Term::Writes],
        net: Layers { input: Extent::flat(1), layers: paths(count, -small, Activation::None) },
        lower,
        upper,
        row: row(&[1.0], 0.0, 0.0),
        truth: -(1.0 - rest),
    };
    let mut layers = paths(count, -small, Activation::Relu);
    layers.push(Layer {
        name: "the last".to_owned(),
        extent: Extent::flat(1),
        edges: vec![Edge { source: Source::Layer(count + 1), map: Map::Diagonal(vec![-1.0]), rel: 0.0 }],
        bias: vec![0.0],
        bias_abs: vec![0.0],
        activation: Activation::None,
    });
    let start = Case {
        name: "a refined neuron of many paths from one layer",
        terms: &[Term::StartWrites],
        net: Layers { input: Extent::flat(1), layers },
        lower: vec![-1.0],
        upper: vec![1.0],
        row: row(&[1.0], -2.0, 0.0),
        truth: -(1.0 - rest) - 2.0,
    };
    vec![writes, start]
}

fn cases() -> Vec<Case> {
    [sums(), tiny_addends(), attained(), second_order(), merges()].into_iter().flatten().collect()
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
