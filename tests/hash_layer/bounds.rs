//! What every stage of a step must give, and how far from it a device may be, by WGSL's rules: a sum whose terms pass through at most D
//! roundings is within D u sum |terms|; exp is within 3 + 2 |x| ulp, a division 2.5 ulp, log 3 ulp or 2^-21 around 1.
//! Stages take what they read with its own error, so the same functions bound one stage (errors 0) and a whole step.

use std::collections::BTreeMap;

use wavehull::hash::layer::Loss;
use wavehull::hash::layer::reference::Problem;

use crate::common::U;

/// Numbers and their bounds.
pub type Near = Vec<(f64, f64)>;

pub fn exact(values: &[f32]) -> Near {
    values.iter().map(|&x| (f64::from(x), 0.0)).collect()
}

pub fn values(near: &Near) -> Vec<f64> {
    near.iter().map(|&(x, _)| x).collect()
}

pub fn forward(problem: &Problem<'_>) -> Near {
    let (width, batch) = (problem.hidden.width(), problem.batch);
    let h = problem.forward();
    let bound = |at: usize| {
        let (sample, column) = (at / width, at % width);
        let entries = batch.offsets[sample] as usize..batch.offsets[sample + 1] as usize;
        let depth = entries.len() as f64 + 1.0;
        let term =
            |e: usize| (f64::from(batch.values[e]) * problem.input[batch.features[e] as usize * width + column]).abs();
        if column < problem.hidden.elements { depth * U * entries.map(term).sum::<f64>() } else { 0.0 }
    };
    h.into_iter().enumerate().map(|(at, x)| (x, bound(at))).collect()
}

pub fn logits(problem: &Problem<'_>, h: &Near) -> Near {
    let (width, active) = (problem.hidden.width(), problem.sets.len());
    let z = problem.logits(&values(h));
    let bound = |at: usize| {
        let row = &problem.output[problem.sets.id(at / active, at % active) * width..][..width];
        let of_h = &h[at / active * width..][..width];
        of_h.iter().zip(row).map(|((x, e), w)| w.abs() * (e + (width as f64 + 1.0) * U * (x.abs() + e))).sum()
    };
    z.into_iter().enumerate().map(|(at, x)| (x, bound(at))).collect()
}

/// Losses and gradients.
pub fn losses(problem: &Problem<'_>, z: &Near) -> (Near, Near) {
    let active = problem.sets.len();
    let (loss, gradient) = problem.losses(&values(z));
    let (mut of_loss, mut of_gradient) = (Vec::new(), Vec::new());
    for (sample, z) in z.chunks(active).enumerate() {
        let labels = problem.labels(sample);
        let is_label = |place: usize| labels.iter().any(|&l| l as usize == problem.sets.id(sample, place));
        let label: Vec<bool> = (0..active).map(is_label).collect();
        let ids: Vec<usize> = (0..active).map(|place| problem.sets.id(sample, place)).collect();
        let (one, each) = match problem.loss {
            Loss::Softmax => softmax(z, &label, labels.len(), problem.correction.map(|c| (c, &ids[..]))),
            Loss::Bce => bce(z, &label),
        };
        of_loss.push((loss[sample], one));
        // Scaled by one over the batch: two roundings, and results that are flushed.
        let samples = problem.batch.samples as f64;
        let whole = each.iter().zip(&gradient[sample * active..]);
        of_gradient.extend(whole.map(|(bound, g)| (*g, bound / samples + 3.0 * U * g.abs() + 1e-37)));
    }
    (of_loss, of_gradient)
}

/// Roundings of a sum over so many elements by lanes.
fn depth(active: usize) -> f64 {
    let lanes = if active <= 4096 { 64 } else { 256 };
    (active.div_ceil(4 * lanes) + 32 + 4) as f64
}

fn softmax(z: &[(f64, f64)], label: &[bool], n: usize, correction: Option<(&[f64], &[usize])>) -> (f64, Vec<f64>) {
    if n == 0 {
        return (0.0, vec![0.0; z.len()]);
    }
    let corrected = |place: usize| z[place].0 - correction.map_or(0.0, |(c, ids)| c[ids[place]]);
    let x: Vec<f64> = (0..z.len()).map(corrected).collect();
    let top = x.iter().copied().fold(x[0], f64::max);
    // Of the exponents: what the logits bring, taking the correction away, taking the maximum away. (The device's maximum may be another
    // one's: it cancels.)
    let slack = z.iter().map(|(_, e)| *e).fold(0.0, f64::max);
    let exponent = |place: usize| {
        let d = (x[place] - top).abs() + 2.0 * slack;
        z[place].1 + U * (d + if correction.is_some() { x[place].abs() } else { 0.0 })
    };
    let relative = |place: usize| {
        // A probability that is flushed to 0 has no relative error.
        let gone = x[place] - top < -150.0 - 2.0 * slack;
        let far = U * (3.0 + 2.0 * ((x[place] - top).abs() + 2.0 * slack));
        if gone { 0.0 } else { exponent(place).exp_m1() + far }
    };
    let sum: f64 = x.iter().map(|x| (x - top).exp()).sum();
    let share = |place: usize| (x[place] - top).exp() / sum;
    let of_sum = (0..z.len()).map(|place| share(place) * relative(place)).sum::<f64>() + depth(z.len()) * U;
    let wanted = |place: usize| if label[place] { 1.0 / n as f64 } else { 0.0 };
    let bound = |place: usize| {
        let p = share(place);
        1.1 * (p * (relative(place) + of_sum + 3.0 * U) + 4.0 * U * wanted(place) + 2.0 * U * p) + 2e-38
    };
    let named = |place: usize| wanted(place) * (exponent(place) + (depth(z.len()) + 5.0) * U * (x[place] - top).abs());
    let of_labels: f64 = (0..z.len()).map(named).sum();
    // The maximum that is taken away on the device differs by up to the slack, in both parts alike.
    let loss = 1.1 * (of_sum + of_labels) + 2_f64.powi(-21) + 8.0 * U * (sum.ln() + slack + of_labels);
    (loss, (0..z.len()).map(bound).collect())
}

fn bce(z: &[(f64, f64)], label: &[bool]) -> (f64, Vec<f64>) {
    let (mut loss, mut each) = (0.0, Vec::new());
    for (&(x, e), &label) in z.iter().zip(label) {
        let t = if label { -x } else { x };
        let tail = (-t.abs()).exp().ln_1p();
        // lib/smooth: the series leaves 2e-8 out; its arguments and terms have about 20 roundings.
        let value = t.max(0.0) + tail;
        loss += e + U * ((25.0 + 2.0 * t.abs()) * tail + 2.0 * t.abs()) + 2e-8 * tail + depth(z.len()) * U * value;
        let sigmoid = if t > 0.0 { 1.0 / (1.0 + (-t).exp()) } else { t.exp() / (1.0 + t.exp()) };
        each.push(e / 4.0 + U * sigmoid * (9.0 + 2.0 * if t < 0.0 { t.abs() } else { t.min(20.0) }) + 2e-38);
    }
    (1.1 * loss + 1e-37, each)
}

pub fn hidden_gradient(problem: &Problem<'_>, h: &Near, dz: &Near) -> Near {
    let (width, active) = (problem.hidden.width(), problem.sets.len());
    let gradient = problem.hidden_gradient(&values(h), &values(dz));
    let bound = |at: usize| {
        let (sample, column) = (at / width, at % width);
        if column >= problem.hidden.elements {
            return 0.0;
        }
        let row = |place: usize| problem.output[problem.sets.id(sample, place) * width + column];
        let terms = || (0..active).map(|place| (dz[sample * active + place], row(place)));
        let bound: f64 = terms().map(|((g, e), w)| w.abs() * (e + (active as f64 + 33.0) * U * (g.abs() + e))).sum();
        // Where rounding decides whether the ReLU is open, the gradient may be all or nothing.
        let (x, e) = h[at];
        let either = problem.hidden.relu && e > 0.0 && x <= e;
        let all: f64 = terms().map(|((g, _), w)| g * w).sum();
        bound + if either { all.abs() } else { 0.0 }
    };
    gradient.iter().enumerate().map(|(at, &g)| (g, bound(at))).collect()
}

/// Gradients of the rows at each place of a shared set, one after the other.
pub fn row_gradient(problem: &Problem<'_>, h: &Near, dz: &Near) -> Near {
    let (width, active, samples) = (problem.hidden.width(), problem.sets.len(), problem.batch.samples);
    let mut found = Vec::new();
    for at in 0..active * width {
        let terms = (0..samples).map(|sample| (dz[sample * active + at / width], h[sample * width + at % width]));
        let one = |((g, e), (x, d)): ((f64, f64), (f64, f64))| {
            let depth = (samples as f64 + 1.0) * U;
            (g * x, e * (x.abs() + d) + g.abs() * d + depth * (g.abs() + e) * (x.abs() + d))
        };
        found.push(terms.map(one).fold((0.0, 1e-37), |sum, term| (sum.0 + term.0, sum.1 + term.1)));
    }
    found
}

/// The gradients of the rows of the input table, summed without rounding from those of the hidden elements.
pub fn input_gradient(problem: &Problem<'_>, dh: &Near) -> BTreeMap<u32, Near> {
    let (width, batch) = (problem.hidden.width(), problem.batch);
    let mut rows = BTreeMap::new();
    for sample in 0..batch.samples {
        for entry in batch.offsets[sample] as usize..batch.offsets[sample + 1] as usize {
            let row = rows.entry(batch.features[entry]).or_insert_with(|| vec![(0.0, 1e-300); width]);
            let value = f64::from(batch.values[entry]);
            for (to, (x, e)) in row.iter_mut().zip(&dh[sample * width..]) {
                *to = (to.0 + value * x, to.1 + value.abs() * (e + 1e-12 * x.abs()));
            }
        }
    }
    rows
}

/// Those of the active rows of the output table.
pub fn output_gradient(problem: &Problem<'_>, h: &Near, dz: &Near) -> BTreeMap<u32, Near> {
    let (width, active) = (problem.hidden.width(), problem.sets.len());
    let mut rows = BTreeMap::new();
    for (at, (g, e)) in dz.iter().enumerate() {
        let id = u32::try_from(problem.sets.id(at / active, at % active)).unwrap();
        let row = rows.entry(id).or_insert_with(|| vec![(0.0, 1e-300); width]);
        for (to, (x, d)) in row.iter_mut().zip(&h[at / active * width..]) {
            *to = (to.0 + g * x, to.1 + e * (x.abs() + d) + g.abs() * d + 1e-12 * (g * x).abs());
        }
    }
    rows
}

/// Whether rows are those of the oracle and what was computed from the device's numbers lies within their bounds.
pub fn within(got: &BTreeMap<u32, Near>, near: &BTreeMap<u32, Near>, oracle: &BTreeMap<u32, Vec<f64>>) -> bool {
    let close = |(got, near): (&(f64, f64), &(f64, f64))| (got.0 - near.0).abs() <= near.1;
    let same = |(oracle, near): (&f64, &(f64, f64))| (oracle - near.0).abs() <= 1e-9 * (1.0 + oracle.abs());
    got.keys().eq(oracle.keys())
        && got.iter().all(|(id, row)| row.iter().zip(&near[id]).all(close))
        && oracle.iter().all(|(id, row)| row.iter().zip(&near[id]).all(same))
}
