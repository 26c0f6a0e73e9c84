//! The bound pass of `shaders/verify/` on the CPU, formula by formula, on arithmetic that is as bad as WGSL allows: every
//! result is one of the two neighbours of the exact one, sums take any order, products are fused or not, subnormals are
//! flushed or not. Any one error term can be left out.

use wavehull::graph::{Affine, Chain};

use crate::arithmetic::{Arithmetic, Policy, Site};

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
    /// relax_neurons: `g_c t` in f.
    OffsetSum,
    /// relax_neurons: `u up max(|l|, |h|)` in f.
    Slope,
    /// relax_neurons: `g_k weight_sum` in e.
    Product,
    /// relax_neurons: `weight_rel weight_sum` in e.
    Weight,
    /// relax_neurons: `bias_abs` in e.
    BiasAbs,
    /// relax_neurons: `g_c |bias|` in e.
    BiasSum,
    /// relax_neurons: `1 + 16u` on e.
    CostGrow,
    /// relax_rows: `g_c |a| max(|l|, |h|)` in w.
    LastSum,
    /// relax_rows: `rel |a| max(|l|, |h|)` in z and w.
    Coefficients,
    /// row_start: `weight_rel weight_sum`.
    StartWeight,
    /// row_start: `bias_abs`.
    StartBias,
    /// row_finish: `72u (|c| + |X| + |Y|)`.
    Constant,
    /// row_finish: `grow`.
    Grow,
    /// row_finish: `err` in the bound.
    Carried,
    /// row_finish: `72u (|c| + |W|)` in the bound.
    Bound,
    /// row_finish: `1 + 144u` in the bound.
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

/// `ops/matmul.rs`, `CHUNK`.
const CHUNK: usize = 128;
const LANES: usize = 32;

/// A row on its way back to the input: the constant, its error, and the coefficients.
#[derive(Debug, Clone)]
pub struct Start {
    pub coefficients: Vec<f32>,
    pub constant: f32,
    pub error: f32,
    /// Bound on the relative error of the coefficients.
    pub rel: f32,
}

#[derive(Clone, Default)]
struct Line {
    neuron: usize,
    lo: f32,
    up: f32,
    t: f32,
    f: f32,
    l: f32,
    h: f32,
    e: f32,
    bias: f32,
}

#[derive(Default)]
struct LayerBounds {
    lower: Vec<f32>,
    upper: Vec<f32>,
    weight_sum: Vec<f32>,
    lines: Vec<Line>,
}

/// Where a row's coefficients stand.
enum Level {
    /// On the outputs of a layer.
    Hidden(usize),
    Input,
}

struct Row {
    /// Coefficients, as the planes whose sum they are.
    planes: Vec<Vec<f32>>,
    constant: f32,
    error: f32,
    rel: f32,
}

/// The bound pass for one box.
pub struct Emulator<'a> {
    chain: &'a Chain,
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

impl<'a> Emulator<'a> {
    /// `u = 0` charges nothing, as `Soundness::TrustF32` does.
    pub fn new(chain: &'a Chain, policy: Policy, off: Option<Term>, charge: bool) -> Self {
        let terms = chain.layers.iter().map(|l| l.weight.len()).max().unwrap_or(1) as f64;
        let largest = chain.layers.iter().flat_map(|l| l.weight.iter()).fold(0.0_f64, |m, w| m.max(f64::from(w.abs())));
        let tiny = round_up(8.0 * terms * (1.0 + largest) * 2.0_f64.powi(40 - 126));
        Self {
            chain,
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
        for index in 0..self.chain.layers.len() {
            self.interval(index);
            if index > 0 && self.chain.layers[index].relu {
                self.refine(index);
            }
            self.lines(index);
        }
        let last = self.chain.layers.len() - 1;
        let mut found = Vec::new();
        for start in rows {
            let planes = vec![start.coefficients.clone()];
            let mut row = Row { planes, constant: start.constant, error: start.error, rel: start.rel };
            let mut best = -(2.0_f32.powi(39));
            for index in (0..=last).rev() {
                best = best.max(self.level(&mut row, &Level::Hidden(index)));
                if best > 0.0 {
                    break;
                }
            }
            if best <= 0.0 {
                best = best.max(self.level(&mut row, &Level::Input));
            }
            found.push(best);
        }
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

    fn constant_depth(n: usize) -> usize {
        2 * n.div_ceil(LANES) + 72
    }

    /// Bounds of what feeds a layer.
    fn feeding(&self, index: usize) -> Vec<(f32, f32)> {
        let Some(before) = index.checked_sub(1) else {
            return self.lower.iter().copied().zip(self.upper.iter().copied()).collect();
        };
        let relu = self.chain.layers[before].relu;
        let clip = |v: f32| if relu { v.max(0.0) } else { v };
        let state = &self.bounds[before];
        state.lower.iter().zip(&state.upper).map(|(&l, &h)| (clip(l), clip(h))).collect()
    }

    fn interval(&mut self, index: usize) {
        self.a.site = Site::Interval;
        let mut values = Vec::new();
        for (l, h) in self.feeding(index) {
            self.bad |= is_huge(l) || is_huge(h);
            let sum = self.a.add(l, h);
            let middle = self.a.mul(0.5, sum);
            let (above, below) = (self.a.sub(h, middle), self.a.sub(middle, l));
            let grow = 1.0 + self.charge(Term::Radius, 4.0 * self.u);
            let radius = self.a.mul(above.max(below), grow);
            let radius = if l == 0.0 && h == 0.0 { 0.0 } else { self.a.add(radius, self.tiny) };
            values.push((middle, radius, l.abs().max(h.abs())));
        }
        let layer = &self.chain.layers[index];
        let mut state = LayerBounds::default();
        for (j, weights) in layer.weight.rows().into_iter().enumerate() {
            let mut planes = [Vec::new(), Vec::new(), Vec::new()];
            for (w, v) in weights.to_vec().chunks(CHUNK).zip(values.chunks(CHUNK)) {
                let both = || w.iter().zip(v);
                let centre: Vec<(f32, f32)> = both().map(|(&w, v)| (v.0, w)).collect();
                let radius: Vec<(f32, f32)> = both().map(|(&w, v)| (v.1, w.abs())).collect();
                let size: Vec<(f32, f32)> = both().map(|(&w, v)| (v.2, w.abs())).collect();
                for (plane, pairs) in planes.iter_mut().zip([centre, radius, size]) {
                    plane.push(self.a.dot(&pairs));
                }
            }
            self.interval_finish(&mut state, layer, j, &planes);
        }
        self.bounds.push(state);
    }

    fn interval_finish(&mut self, state: &mut LayerBounds, layer: &Affine, j: usize, planes: &[Vec<f32>; 3]) {
        let n_in = layer.weight.ncols();
        let g = self.gamma(n_in.min(CHUNK) + n_in.div_ceil(CHUNK) + 8);
        let (bias, bias_abs) = (layer.bias[j], layer.bias_abs[j]);
        let (r, v) = (self.a.sum(&planes[1]), self.a.sum(&planes[2]));
        let up = 1.0 + self.charge(Term::IntervalGrow, 2.0 * g);
        let parts = [
            self.a.mul(r, up),
            {
                let size = self.a.mul(v, up);
                let rel = self.charge(Term::IntervalWeight, layer.weight_rel);
                let factor = self.a.add(self.charge(Term::IntervalProduct, g), rel);
                self.a.mul(factor, size)
            },
            self.a.mul(self.charge(Term::IntervalBias, g), bias.abs()),
            self.charge(Term::IntervalBiasAbs, bias_abs),
            self.tiny,
        ];
        let total = self.a.sum(&parts);
        let grow = 1.0 + self.charge(Term::IntervalGrow, 16.0 * self.u + 2.0 * g);
        let total = self.a.mul(total, grow);
        let side = |a: &mut Arithmetic, total: f32| a.sum(&[&planes[0][..], &[bias, total]].concat());
        let (mut l, mut h) = (side(&mut self.a, -total), side(&mut self.a, total));
        if self.off != Some(Term::IntervalStep) {
            (l, h) = (step_down(l), -step_down(-h));
        }
        let size = self.a.mul(v, 1.0 + 2.0 * g);
        let size = self.a.mul(size, 1.0 + 4.0 * self.u);
        self.bad |= is_huge(l) || is_huge(h) || is_huge(size);
        state.lower.push(l);
        state.upper.push(h);
        state.weight_sum.push(size);
    }

    fn lines(&mut self, index: usize) {
        self.a.site = Site::Lines;
        let layer = &self.chain.layers[index];
        let n = layer.bias.len();
        let active: Vec<usize> = (0..n).filter(|&j| !layer.relu || self.bounds[index].upper[j] > 0.0).collect();
        let g_c = self.gamma(Self::constant_depth(n));
        let depth = (active.len().min(CHUNK) + n.div_ceil(CHUNK) + 2) as f32;
        let g_k = depth * self.u * (1.0 + 0.0078125);
        let mut lines = Vec::new();
        for &neuron in &active {
            let state = &self.bounds[index];
            let (l, h, size) = (state.lower[neuron], state.upper[neuron], state.weight_sum[neuron]);
            let mut line = Line { neuron, lo: 1.0, up: 1.0, l, h, bias: layer.bias[neuron], ..Line::default() };
            if layer.relu && l < 0.0 {
                self.crossing(&mut line, g_c);
            }
            let factor = self.a.add(self.charge(Term::Product, g_k), self.charge(Term::Weight, layer.weight_rel));
            let cost = [
                self.a.mul(factor, size),
                self.charge(Term::BiasAbs, layer.bias_abs[neuron]),
                self.a.mul(self.charge(Term::BiasSum, g_c), line.bias.abs()),
            ];
            let cost = self.a.sum(&cost);
            let cost = self.a.mul(cost, 1.0 + self.charge(Term::CostGrow, 16.0 * self.u));
            line.e = self.a.add(cost, self.tiny);
            lines.push(line);
        }
        self.bounds[index].lines = lines;
    }

    /// The lines of a neuron with l < 0 < h.
    fn crossing(&mut self, line: &mut Line, g_c: f32) {
        let (l, h) = (line.l, line.h);
        let width = self.a.sub(h, l);
        let slope = self.a.div(h, width).clamp(0.0, 1.0);
        let rest = self.a.sub(1.0, slope);
        let (left, right) = (self.a.mul(-l, slope), self.a.mul(h, rest));
        let t = self.a.mul(left.max(right), 1.0 + self.charge(Term::Offset, 8.0 * self.u));
        line.t = self.a.add(t, self.tiny);
        let sum = self.a.mul(self.charge(Term::OffsetSum, g_c), line.t);
        let unit = self.a.mul(self.charge(Term::Slope, self.u), slope);
        let rounding = self.a.mul(unit, f32::max(-l, h));
        let f = self.a.add(sum, rounding);
        let f = self.a.mul(f, 1.0 + 8.0 * self.u);
        line.f = self.a.add(f, self.tiny);
        line.lo = if h > -l { 1.0 } else { 0.0 };
        line.up = slope;
    }

    fn refine(&mut self, index: usize) {
        let layer = &self.chain.layers[index];
        for j in 0..layer.bias.len() {
            let state = &self.bounds[index];
            if !(state.lower[j] < 0.0 && state.upper[j] > 0.0) {
                continue;
            }
            self.a.site = Site::Costs;
            let weight = self.a.mul(self.charge(Term::StartWeight, layer.weight_rel), self.bounds[index].weight_sum[j]);
            let error = self.a.add(self.charge(Term::StartBias, layer.bias_abs[j]), weight);
            let error = self.a.mul(error, 1.0 + 4.0 * self.u);
            let row = |sign: f32| Row {
                planes: vec![layer.weight.row(j).iter().map(|w| sign * w).collect()],
                constant: sign * layer.bias[j],
                error,
                rel: 0.0,
            };
            let (mut low, mut high) = (row(1.0), row(-1.0));
            let levels = (0..index).rev().map(Level::Hidden).chain([Level::Input]);
            for level in levels {
                let (l, h) = (self.level(&mut low, &level), -self.level(&mut high, &level));
                let state = &mut self.bounds[index];
                state.lower[j] = state.lower[j].max(l);
                state.upper[j] = state.upper[j].min(h);
                if !(state.lower[j] < 0.0 && state.upper[j] > 0.0) {
                    break;
                }
            }
        }
    }

    /// Relaxes a row at a level, finishes it, and multiplies it on to the next; the bound that this level gives.
    fn level(&mut self, row: &mut Row, level: &Level) -> f32 {
        let lines = match level {
            Level::Hidden(index) => self.bounds[*index].lines.clone(),
            Level::Input => {
                let ends = self.lower.iter().zip(&self.upper).enumerate();
                ends.map(|(neuron, (&l, &h))| Line { neuron, l, h, ..Line::default() }).collect()
            }
        };
        let (n, relu) = match level {
            Level::Hidden(index) => (self.chain.layers[*index].bias.len(), self.chain.layers[*index].relu),
            Level::Input => (self.lower.len(), false),
        };
        let g_c = self.gamma(Self::constant_depth(n));
        let mut lanes = vec![[const { Vec::new() }; 4]; LANES];
        let mut out = Vec::new();
        for (k, line) in lines.iter().enumerate() {
            self.a.site = Site::Product;
            let parts: Vec<f32> = row.planes.iter().map(|plane| plane[line.neuron]).collect();
            let value = self.a.sum(&parts);
            self.bad |= is_huge(value);
            let lane = &mut lanes[k % LANES];
            self.a.site = Site::Relax;
            let negative = value < 0.0;
            let next = self.a.mul(value, if negative { line.up } else { line.lo });
            let (l, h) = (if relu { line.l.max(0.0) } else { line.l }, line.h);
            let reach = l.abs().max(h.abs());
            if matches!(level, Level::Hidden(_)) {
                self.a.site = Site::Constants;
                if negative {
                    lane[0].push(self.a.mul(value, line.t));
                    self.a.site = Site::Costs;
                    lane[2].push(self.a.mul(-value, line.f));
                }
                self.a.site = Site::Constants;
                lane[1].push(self.a.mul(next, line.bias));
                self.a.site = Site::Costs;
                lane[2].push(self.a.mul(next.abs(), line.e));
                let rel = self.a.mul(self.charge(Term::Coefficients, row.rel), value.abs());
                lane[2].push(self.a.mul(rel, reach));
            }
            self.a.site = Site::Bounds;
            lane[3].push(self.a.mul(value, if negative { h } else { l }));
            let unit = self.a.add(self.charge(Term::LastSum, g_c), self.charge(Term::Coefficients, row.rel));
            let unit = self.a.mul(unit, value.abs());
            lane[3].push(-self.a.mul(unit, reach));
            out.push((line.neuron, next));
        }
        let bound = self.finish(row, &lanes, n, level);
        if let Level::Hidden(index) = level {
            self.product(row, &out, *index);
        }
        bound
    }

    fn finish(&mut self, row: &mut Row, lanes: &[[Vec<f32>; 4]], n: usize, level: &Level) -> f32 {
        let sites = [Site::Constants, Site::Constants, Site::Costs, Site::Bounds];
        let [x, y, z, w]: [Vec<f32>; 4] = std::array::from_fn(|c| {
            self.a.site = sites[c];
            lanes.iter().map(|lane| self.a.sum(&lane[c])).collect()
        });
        let (c, error) = (row.constant, row.error);
        self.a.site = Site::Costs;
        let (size_x, size_y, size_w) = (self.a.sum(&x).abs(), self.a.sum(&y).abs(), self.a.sum(&w).abs());
        let sizes = self.a.sum(&[c.abs(), size_x, size_y]);
        let own = self.a.mul(self.charge(Term::Constant, 72.0 * self.u), sizes);
        let cost = self.a.sum(&[&[error][..], &z, &[own, self.tiny]].concat());
        let depth = Self::constant_depth(n);
        let grow = round_up(1.0 + 2.0 * depth as f64 * f64::from(self.charge(Term::Grow, self.u)));
        let cost = self.a.mul(cost, grow);
        let sizes = self.a.add(c.abs(), size_w);
        let own = self.a.mul(self.charge(Term::Bound, 72.0 * self.u), sizes);
        let slack = self.a.sum(&[self.charge(Term::Carried, error), own, self.tiny]);
        let slack = self.a.mul(slack, 1.0 + self.charge(Term::BoundGrow, 144.0 * self.u));
        self.a.site = Site::Bounds;
        let bound = self.a.sum(&[&[c][..], &w, &[-slack]].concat());
        let bound = if self.off == Some(Term::Step) { bound } else { step_down(bound) };
        if matches!(level, Level::Hidden(_)) {
            self.a.site = Site::Constants;
            row.constant = self.a.sum(&[&[c][..], &x, &y].concat());
            row.error = cost;
            self.bad |= is_huge(row.constant) || is_huge(cost);
        }
        self.bad |= is_huge(bound) && bound > 0.0;
        if is_huge(bound) { f32::MIN } else { bound }
    }

    /// The coefficients on a layer's inputs, chunk by chunk of its active neurons.
    fn product(&mut self, row: &mut Row, out: &[(usize, f32)], index: usize) {
        self.a.site = Site::Product;
        let weight = &self.chain.layers[index].weight;
        row.rel = 0.0;
        row.planes = out
            .chunks(CHUNK)
            .map(|chunk| {
                let column = |i: usize| chunk.iter().map(|&(j, a)| (a, weight[[j, i]])).collect::<Vec<_>>();
                (0..weight.ncols()).map(|i| self.a.dot(&column(i))).collect()
            })
            .collect();
        if row.planes.is_empty() {
            row.planes.push(vec![0.0; weight.ncols()]);
        }
    }
}
