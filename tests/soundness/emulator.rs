//! The bound pass of `shaders/verify/` on the CPU, formula by formula, on arithmetic that is as bad as WGSL allows: every
//! result is one of the two neighbours of the exact one, sums take any order, products are fused or not, subnormals are
//! flushed or not. Any one error term can be left out.
//!
//! Layers without a spatial shape, with dense and diagonal maps and any activation: windows change which numbers meet, not what
//! is charged for them.

use wavehull::graph::{Activation, Edge, Layers, Map, Source};

use crate::arithmetic::{Arithmetic, Policy, Site};
use crate::smooth;

mod rows;

/// The error terms that the kernels charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// interval_prepare: `1 + 4u` on the radius.
    Radius,
    /// interval_finish: `g v`.
    IntervalProduct,
    /// interval_finish: `g |b|`.
    IntervalBias,
    /// interval_finish: `weight_rel v`.
    IntervalWeight,
    /// interval_finish: `bias_abs`.
    IntervalBiasAbs,
    /// interval_finish: `1 + 2g` and `1 + 16u + 2g`.
    IntervalGrow,
    /// interval_finish: the step outward by one number.
    IntervalStep,
    /// relax_neurons: `1 + 8u` on t.
    Offset,
    /// relax_neurons: T = s b + t, moved outward by `4u (|s b| + |t|)`.
    Line,
    /// relax_neurons: `g_c |T|` in the cost.
    OffsetSum,
    /// relax_neurons: `u weight_sum` in the cost.
    Slope,
    /// relax_neurons: `g_k weight_sum` in the cost.
    Product,
    /// relax_neurons: the dispatches that write to the same sums, in g_k.
    Writes,
    /// relax_neurons: `weight_rel weight_sum` in the cost.
    Weight,
    /// relax_neurons: `bias_abs` in the cost.
    BiasAbs,
    /// relax_neurons: `1 + 16u` on the cost.
    CostGrow,
    /// relax_neurons, box_lines: bounds of y moved outward by `g_c max(|l|, |h|)`.
    LastSum,
    /// relax_neurons, box_lines: and by `2u` of their own for moving them.
    Moved,
    /// relax_neurons: what the table of the logistic function and sums with it may err.
    Smooth,
    /// row_given: `rel |a_j| m_j`.
    Coefficients,
    /// row_given: `grow`.
    GivenGrow,
    /// row_start: `weight_rel weight_sum`.
    StartWeight,
    /// row_start: `gamma weight_sum` for the sums that start with more than one edge.
    StartWrites,
    /// row_start: `bias_abs`.
    StartBias,
    /// row_finish: `d (|c| + |X|)`.
    Constant,
    /// row_finish: `grow`.
    Grow,
    /// row_finish: `err` in the bound.
    Carried,
    /// row_finish: `d (|c| + |W|)` in the bound.
    Bound,
    /// row_finish: `1 + 2d` in the bound.
    BoundGrow,
    /// row_finish: the step down by one number.
    Step,
    /// All of `tiny`.
    Tiny,
}

fn is_huge(x: f32) -> bool {
    x.is_nan() || x.abs() >= (1_u64 << 40) as f32
}

fn step_down(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { -f32::MIN_POSITIVE } else { x.next_down() }
}

fn round_up(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) < value { nearest.next_up() } else { nearest }
}

/// `verify/network.rs`, `CHUNK`.
const CHUNK: usize = 128;

/// Parts that a row is summed in. Devices take other numbers of them (`verify/walk.rs`, `slices`); what is charged follows from the number.
fn slices(terms: usize) -> usize {
    terms.div_ceil(32).clamp(1, 64).max(terms.div_ceil(512).min(256))
}

/// Roundings that a term of a constant meets: `verify/walk.rs`, `Step::constant_depth`.
fn constant_depth(n: usize) -> usize {
    n.div_ceil(slices(n)) + slices(n) + 10
}

/// A row that is given on the outputs: coefficients, the constant and its error.
#[derive(Debug, Clone)]
pub struct Start {
    pub coefficients: Vec<f32>,
    pub constant: f32,
    pub error: f32,
    /// Bound on the relative error of the coefficients.
    pub rel: f32,
}

/// What a coefficient of one sign meets.
#[derive(Clone, Copy, Default)]
struct Side {
    slope: f32,
    offset: f32,
    cost: f32,
    bound: f32,
}

#[derive(Clone, Copy)]
struct Line {
    neuron: usize,
    /// For coefficients from 0 on, and below.
    sides: [Side; 2],
}

#[derive(Default)]
struct LayerBounds {
    lower: Vec<f32>,
    upper: Vec<f32>,
    weight_sum: Vec<f32>,
    lines: Vec<Line>,
}

/// How deep the sums of a layer are: `verify/network.rs`.
#[derive(Clone, Copy)]
struct Depths {
    forward: usize,
    terms_back: usize,
    writes_back: usize,
    start_writes: usize,
}

struct Row {
    /// Pending coefficients on the input, then on every layer.
    coefficients: Vec<Option<Vec<f32>>>,
    constant: f32,
    error: f32,
}

/// The bound pass for one box.
pub struct Emulator<'a> {
    net: &'a Layers,
    depths: Vec<Depths>,
    /// The term that is left out.
    off: Option<Term>,
    a: Arithmetic,
    u: f32,
    tiny: f32,
    bounds: Vec<LayerBounds>,
    lower: Vec<f32>,
    upper: Vec<f32>,
    bad: bool,
}

fn place(source: Source) -> usize {
    match source {
        Source::Input => 0,
        Source::Layer(index) => index + 1,
    }
}

/// Terms of the longest sum of an edge, forward and backward.
fn terms(edge: &Edge) -> [usize; 2] {
    match &edge.map {
        Map::Dense(weight) => [weight.ncols(), weight.nrows()],
        _ => [1, 1],
    }
}

fn dispatches(edge: &Edge, direction: usize) -> usize {
    terms(edge)[direction].div_ceil(CHUNK).max(1)
}

fn depths(net: &Layers) -> Vec<Depths> {
    let writes = |source: Source| {
        let edges = net.layers.iter().flat_map(|layer| &layer.edges).filter(|edge| edge.source == source);
        edges.fold((0, 0), |(edges, all), edge| (edges + 1, all + dispatches(edge, 1)))
    };
    let chunk = |edge: &Edge, direction: usize| terms(edge)[direction].min(CHUNK);
    net.layers
        .iter()
        .map(|layer| {
            let all = || layer.edges.iter();
            let sources: Vec<(usize, usize)> = all().map(|edge| writes(edge.source)).collect();
            let longest = all().map(|edge| chunk(edge, 0)).max().unwrap_or(0);
            Depths {
                forward: longest + all().map(|edge| dispatches(edge, 0)).sum::<usize>(),
                terms_back: all().map(|edge| chunk(edge, 1)).max().unwrap_or(1),
                writes_back: sources.iter().map(|&(_, all)| all).max().unwrap_or(1),
                start_writes: sources.iter().filter(|s| s.0 > 1).map(|&(_, all)| all).max().unwrap_or(0),
            }
        })
        .collect()
}

fn weights(map: &Map) -> Vec<f32> {
    match map {
        Map::Dense(weight) => weight.iter().copied().collect(),
        Map::Diagonal(weight) => weight.clone(),
        _ => panic!("the emulator has dense and diagonal maps only"),
    }
}

impl<'a> Emulator<'a> {
    /// Without `charge`, nothing is charged, as with `Soundness::TrustF32`.
    pub fn new(net: &'a Layers, policy: Policy, off: Option<Term>, charge: bool) -> Self {
        let of_layer = |layer: &wavehull::graph::Layer| {
            let longest = layer.edges.iter().map(|edge| terms(edge)[0].max(terms(edge)[1])).sum::<usize>();
            layer.extent.len() * longest
        };
        let most = net.layers.iter().map(of_layer).max().unwrap_or(1) as f64;
        let all = net.layers.iter().flat_map(|layer| &layer.edges).flat_map(|edge| weights(&edge.map));
        let largest = all.fold(0.0_f64, |m, w| m.max(f64::from(w.abs())));
        let tiny = round_up(8.0 * most * (1.0 + largest) * 2.0_f64.powi(40 - 126));
        Self {
            net,
            depths: depths(net),
            off,
            a: Arithmetic::new(policy),
            u: if charge { 2.0_f32.powi(-23) } else { 0.0 },
            tiny: if charge && off != Some(Term::Tiny) { tiny } else { 0.0 },
            bounds: Vec::new(),
            lower: Vec::new(),
            upper: Vec::new(),
            bad: false,
        }
    }

    /// A lower bound of every row over a box; `None` for magnitudes beyond 2^40.
    pub fn run(mut self, lower: &[f32], upper: &[f32], rows: &[Start]) -> Option<Vec<f32>> {
        (self.lower, self.upper) = (lower.to_vec(), upper.to_vec());
        for (index, layer) in self.net.layers.iter().enumerate() {
            self.interval(index);
            if layer.activation != Activation::None && (layer.edges.len() > 1 || layer.edges[0].source != Source::Input)
            {
                self.refine(index);
            }
            self.lines(index);
        }
        let found = rows.iter().map(|start| self.query(start)).collect();
        (!self.bad).then_some(found)
    }

    /// A charge, or 0 if its term is left out.
    fn charge(&self, term: Term, value: f32) -> f32 {
        if self.off == Some(term) { 0.0 } else { value }
    }

    fn gamma(&self, depth: usize) -> f32 {
        let du = depth as f64 * f64::from(self.u);
        round_up(du / (1.0 - du))
    }

    fn grow(&self, term: Term, depth: usize) -> f32 {
        round_up(1.0 + 2.0 * depth as f64 * f64::from(self.charge(term, self.u)))
    }

    /// Bounds of a source's values.
    fn values(&mut self, source: Source) -> Vec<(f32, f32)> {
        let Source::Layer(index) = source else {
            return self.lower.iter().copied().zip(self.upper.iter().copied()).collect();
        };
        let state = &self.bounds[index];
        let ends: Vec<(f32, f32)> = state.lower.iter().copied().zip(state.upper.iter().copied()).collect();
        ends.into_iter().map(|(l, h)| self.activated(index, l, h)).collect()
    }

    /// Bounds of f(z) for z in [l, h].
    fn activated(&mut self, index: usize, l: f32, h: f32) -> (f32, f32) {
        let round = self.charge(Term::Smooth, smooth::ROUND);
        match self.net.layers[index].activation {
            Activation::None => (l, h),
            Activation::Relu => (l.max(0.0), h.max(0.0)),
            Activation::Sigmoid => smooth::bounds(&mut self.a, round, l, h),
            Activation::Tanh => {
                let (low, high) = smooth::bounds(&mut self.a, round, 2.0 * l, 2.0 * h);
                (self.a.sum(&[2.0 * low, -1.0, -round]), self.a.sum(&[2.0 * high, -1.0, round]))
            }
        }
    }

    fn interval(&mut self, index: usize) {
        let layer = &self.net.layers[index];
        let n = layer.extent.len();
        // Centre, radius and magnitude of every z.
        let mut sums = vec![[0.0_f32; 3]; n];
        for (number, edge) in layer.edges.iter().enumerate() {
            self.a.site = Site::Interval;
            let values: Vec<[f32; 3]> = self.values(edge.source).into_iter().map(|v| self.prepared(v)).collect();
            for (j, sum) in sums.iter_mut().enumerate() {
                for (part, sum) in sum.iter_mut().enumerate() {
                    let factor = |w: f32| if part == 0 { w } else { w.abs() };
                    let pairs: Vec<(f32, f32)> = match &edge.map {
                        Map::Dense(weight) => {
                            values.iter().zip(weight.row(j)).map(|(v, &w)| (v[part], factor(w))).collect()
                        }
                        map => vec![(values[j][part], factor(weights(map)[j]))],
                    };
                    *sum = self.added(&pairs, (number > 0).then_some(*sum));
                }
            }
        }
        let mut state = LayerBounds::default();
        sums.into_iter().enumerate().for_each(|(j, sums)| self.interval_finish(&mut state, index, j, sums));
        self.bounds.push(state);
    }

    /// interval_prepare: centre, radius and magnitude.
    fn prepared(&mut self, (l, h): (f32, f32)) -> [f32; 3] {
        self.bad |= is_huge(l) || is_huge(h);
        let sum = self.a.add(l, h);
        let middle = self.a.mul(0.5, sum);
        let (above, below) = (self.a.sub(h, middle), self.a.sub(middle, l));
        let grow = 1.0 + self.charge(Term::Radius, 4.0 * self.u);
        let radius = self.a.mul(above.max(below), grow);
        let radius = if l == 0.0 && h == 0.0 { 0.0 } else { self.a.add(radius, self.tiny) };
        [middle, radius, l.abs().max(h.abs())]
    }

    /// A product with its sums cut into dispatches of 128 terms, each of which adds to what stands there.
    fn added(&mut self, pairs: &[(f32, f32)], before: Option<f32>) -> f32 {
        let mut sum = before;
        for chunk in pairs.chunks(CHUNK) {
            let held = sum.map(|sum| (sum, 1.0));
            sum = Some(self.a.dot(&[chunk, held.as_slice()].concat()));
        }
        sum.unwrap_or(0.0)
    }

    fn interval_finish(&mut self, state: &mut LayerBounds, index: usize, j: usize, [s, r, v]: [f32; 3]) {
        let layer = &self.net.layers[index];
        let weight_rel = layer.edges.iter().fold(0.0_f32, |rel, edge| edge.rel.max(rel));
        let g = self.gamma(self.depths[index].forward + 8);
        let (bias, bias_abs) = (layer.bias[j], layer.bias_abs[j]);
        let up = self.a.add(1.0, self.charge(Term::IntervalGrow, 2.0 * g));
        let size = self.a.mul(v, up);
        let factor = self.a.add(self.charge(Term::IntervalProduct, g), self.charge(Term::IntervalWeight, weight_rel));
        let parts = [
            self.a.mul(r, up),
            self.a.mul(factor, size),
            self.a.mul(self.charge(Term::IntervalBias, g), bias.abs()),
            self.charge(Term::IntervalBiasAbs, bias_abs),
            self.tiny,
        ];
        let total = self.a.sum(&parts);
        let grow = self.a.sum(&[
            1.0,
            self.charge(Term::IntervalGrow, 16.0 * self.u),
            self.charge(Term::IntervalGrow, 2.0 * g),
        ]);
        let total = self.a.mul(total, grow);
        let (mut l, mut h) = (self.a.sum(&[s, bias, -total]), self.a.sum(&[s, bias, total]));
        if self.off != Some(Term::IntervalStep) {
            (l, h) = (step_down(l), -step_down(-h));
        }
        let size = self.a.mul(size, 1.0 + 4.0 * self.u);
        self.bad |= is_huge(l) || is_huge(h) || is_huge(size);
        state.lower.push(l);
        state.upper.push(h);
        state.weight_sum.push(size);
    }

    fn lines(&mut self, index: usize) {
        self.a.site = Site::Lines;
        let layer = &self.net.layers[index];
        let n = layer.extent.len();
        let compact = self.is_compact(index);
        let active: Vec<usize> = (0..n).filter(|&j| !compact || self.bounds[index].upper[j] > 0.0).collect();
        let depths = self.depths[index];
        let terms = if compact { depths.terms_back.min(active.len()) } else { depths.terms_back };
        let writes = if self.off == Some(Term::Writes) { 0 } else { depths.writes_back };
        let g_k = (terms + writes + 2) as f32 * self.u * (1.0 + 0.0078125);
        let lines = active.iter().map(|&neuron| self.line(index, neuron, g_k)).collect();
        self.bounds[index].lines = lines;
    }

    /// A dense ReLU layer: rows keep its active neurons only.
    fn is_compact(&self, index: usize) -> bool {
        let layer = &self.net.layers[index];
        layer.activation == Activation::Relu && matches!(&layer.edges[..], [Edge { map: Map::Dense(_), .. }])
    }

    /// relax_neurons for one neuron.
    fn line(&mut self, index: usize, neuron: usize, g_k: f32) -> Line {
        let layer = &self.net.layers[index];
        let weight_rel = layer.edges.iter().fold(0.0_f32, |rel, edge| edge.rel.max(rel));
        let state = &self.bounds[index];
        let (l, h, size) = (state.lower[neuron], state.upper[neuron], state.weight_sum[neuron]);
        let g_c = self.gamma(constant_depth(layer.extent.len()));
        let [below, above] = self.two_lines(layer.activation, l, h);
        let y = self.activated(index, l, h);
        let (bias, bias_abs) = (layer.bias[neuron], layer.bias_abs[neuron]);
        let flat = [below, above].iter().all(|&(slope, offset)| slope == 0.0 && offset == 0.0);
        let sides = [(below, -1.0), (above, 1.0)].map(|((slope, offset), sign)| {
            let part = self.a.mul(slope, bias);
            let sizes = self.a.add(part.abs(), offset.abs());
            let slack = self.a.mul(self.charge(Term::Line, 4.0 * self.u), sizes);
            let slack = self.a.add(slack, if flat { 0.0 } else { self.tiny });
            let total = self.a.sum(&[part, offset, sign * slack]);
            let factor = [
                self.charge(Term::Product, g_k),
                self.charge(Term::Weight, weight_rel),
                self.charge(Term::Slope, self.u),
            ];
            let factor = self.a.sum(&factor);
            let product = self.a.mul(factor, size);
            let inner = self.a.add(product, self.charge(Term::BiasAbs, bias_abs));
            let parts = [self.a.mul(slope, inner), self.a.mul(self.charge(Term::OffsetSum, g_c), total.abs())];
            let cost = self.a.sum(&parts);
            let cost = self.a.mul(cost, 1.0 + self.charge(Term::CostGrow, 16.0 * self.u));
            let cost = self.a.add(cost, self.tiny);
            let end = if sign < 0.0 { y.0 } else { y.1 };
            Side { slope, offset: total, cost, bound: self.moved(end, y.0.abs().max(y.1.abs()), sign, g_c) }
        });
        Line { neuron, sides }
    }

    /// A bound moved outward by the rounding of a sum in which it stands, and of moving it.
    fn moved(&mut self, end: f32, size: f32, sign: f32, g_c: f32) -> f32 {
        let wide = self.a.mul(self.charge(Term::LastSum, g_c), size);
        let wide = self.a.mul(wide, 1.0 + self.charge(Term::Moved, 4.0 * self.u));
        let own = self.a.mul(self.charge(Term::Moved, 2.0 * self.u), end.abs());
        self.a.sum(&[end, sign * wide, sign * own])
    }

    /// (slope, offset) of a line below the activation and of one above it.
    fn two_lines(&mut self, activation: Activation, l: f32, h: f32) -> [(f32, f32); 2] {
        match activation {
            Activation::Relu if h <= 0.0 => [(0.0, 0.0); 2],
            Activation::Relu if l < 0.0 => {
                let width = self.a.sub(h, l);
                let slope = self.a.div(h, width).clamp(0.0, 1.0);
                let rest = self.a.sub(1.0, slope);
                let (left, right) = (self.a.mul(-l, slope), self.a.mul(h, rest));
                let t = self.a.mul(left.max(right), 1.0 + self.charge(Term::Offset, 8.0 * self.u));
                [(if h > -l { 1.0 } else { 0.0 }, 0.0), (slope, self.a.add(t, self.tiny))]
            }
            Activation::None | Activation::Relu => [(1.0, 0.0); 2],
            Activation::Sigmoid | Activation::Tanh => {
                let round = self.charge(Term::Smooth, smooth::ROUND);
                let tanh = activation == Activation::Tanh;
                let twice = if tanh { 2.0 } else { 1.0 };
                let lines = smooth::lines(&mut self.a, (round, self.u), twice * l, twice * h);
                let of = |a: &mut Arithmetic, (slope, offset): (f32, f32), sign: f32| match tanh {
                    true => (4.0 * slope, a.sum(&[2.0 * offset, -1.0, sign * round])),
                    false => (slope, offset),
                };
                [of(&mut self.a, lines[0], -1.0), of(&mut self.a, lines[1], 1.0)]
            }
        }
    }

    fn box_lines(&mut self) -> Vec<Line> {
        self.a.site = Site::Lines;
        let g_c = self.gamma(constant_depth(self.lower.len()));
        let ends: Vec<(f32, f32)> = self.lower.iter().copied().zip(self.upper.iter().copied()).collect();
        let line = |(neuron, (l, h)): (usize, (f32, f32))| {
            let size = l.abs().max(h.abs());
            let of = |bound: f32| Side { bound, ..Side::default() };
            Line { neuron, sides: [of(self.moved(l, size, -1.0, g_c)), of(self.moved(h, size, 1.0, g_c))] }
        };
        ends.into_iter().enumerate().map(line).collect()
    }
}
