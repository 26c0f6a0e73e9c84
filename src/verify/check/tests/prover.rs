//! A prover in plain loops, without any care for rounding: what the checker is compared with.

use super::nets::Dense;
use crate::verify::proof::{Claim, LayerProof, Proof, QueryProof};
use crate::verify::property::{Property, Query, Row};

/// How a proof is made.
#[derive(Clone, Copy)]
pub(super) struct Choices {
    /// Refine neurons whose interval bounds contain a change of sign.
    pub(super) refine: bool,
    /// How far claims are moved to the safe side, relative to `1 + |claim|`.
    pub(super) margin: f64,
}

type Bounds = Vec<(f64, f64)>;

/// A proof by back-substitution; its claims may be false where the property is.
pub(super) fn prove(net: &Dense, property: &Property, choices: Choices) -> Proof {
    let queries = property.queries.iter().map(|query| prove_query(net, query, choices)).collect();
    Proof::new("0".repeat(64), "1".repeat(64), "strict", queries)
}

fn prove_query(net: &Dense, query: &Query, choices: Choices) -> QueryProof {
    let input: Bounds = query.input.lo_out.iter().copied().zip(query.input.hi_out.iter().copied()).collect();
    let (mut before, mut layers): (Vec<Bounds>, Vec<LayerProof>) = (vec![], vec![]);
    let lowered = |x: f64| x - choices.margin * (1.0 + x.abs());
    for k in 0..net.0.len() - 1 {
        let mut bounds = interval(net, k, &before, &input);
        let mut refined = vec![];
        for j in 0..bounds.len() {
            let (l, h) = bounds[j];
            if choices.refine && l < 0.0 && h > 0.0 {
                let mut unit = vec![0.0; bounds.len()];
                unit[j] = 1.0;
                let low = lower(net, k, &unit, 0.0, &before, &layers, &input);
                unit[j] = -1.0;
                let high = -lower(net, k, &unit, 0.0, &before, &layers, &input);
                bounds[j] = (l.max(low), h.min(high));
                refined.push((j, lowered(bounds[j].0), -lowered(-bounds[j].1)));
            }
        }
        let slopes = bounds.iter().map(|&(l, h)| if h > -l { 1.0 } else { 0.0 }).collect();
        before.push(bounds);
        layers.push(LayerProof { slopes, upper: vec![], refined });
    }
    let claim = |(conjunction, rows): (usize, &Vec<Row>)| {
        let bounds = rows.iter().map(|row| row_bound(net, row, &before, &layers, &input));
        let best = bounds.enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        let (row, bound) = best.expect("a conjunction of a test has rows");
        Claim { conjunction, row, bound: lowered(bound) }
    };
    let claims = query.unsafe_if.iter().enumerate().map(claim).collect();
    QueryProof { layers, claims }
}

fn row_bound(net: &Dense, row: &Row, before: &[Bounds], layers: &[LayerProof], input: &Bounds) -> f64 {
    let last = net.0.len() - 1;
    let mut form = vec![0.0; net.0[last].1.len()];
    for &(output, coefficient) in &row.coefficients {
        form[output] = coefficient;
    }
    let by_interval = least(&form, &interval(net, last, before, input)) + row.constant;
    by_interval.max(lower(net, last, &form, row.constant, before, layers, input))
}

/// Interval bounds of the pre-activations of layer `k`.
fn interval(net: &Dense, k: usize, before: &[Bounds], input: &Bounds) -> Bounds {
    let from = match k.checked_sub(1) {
        None => input.clone(),
        Some(previous) => before[previous].iter().map(|&(l, h)| (l.max(0.0), h.max(0.0))).collect(),
    };
    let (rows, bias) = &net.0[k];
    let bound = |(row, &b): (&Vec<f32>, &f32)| {
        let plus: Vec<f64> = row.iter().map(|&w| f64::from(w)).collect();
        let minus: Vec<f64> = plus.iter().map(|w| -w).collect();
        (least(&plus, &from) + f64::from(b), -least(&minus, &from) + f64::from(b))
    };
    rows.iter().zip(bias).map(bound).collect()
}

/// The smallest value of `a . x` over bounds of `x`.
fn least(a: &[f64], bounds: &[(f64, f64)]) -> f64 {
    a.iter().zip(bounds).map(|(a, (l, h))| if *a >= 0.0 { a * l } else { a * h }).sum()
}

/// The best lower bound of `a . z_k + c` on the way back to the input.
fn lower(
    net: &Dense,
    k: usize,
    a: &[f64],
    mut c: f64,
    before: &[Bounds],
    layers: &[LayerProof],
    input: &Bounds,
) -> f64 {
    let (mut a, mut best) = (a.to_vec(), f64::NEG_INFINITY);
    for layer in (0..=k).rev() {
        let (rows, bias) = &net.0[layer];
        c += a.iter().zip(bias).map(|(a, &b)| a * f64::from(b)).sum::<f64>();
        let column = |p: usize| a.iter().zip(rows).map(|(a, row)| a * f64::from(row[p])).sum::<f64>();
        a = (0..rows[0].len()).map(column).collect();
        if layer == 0 {
            return best.max(least(&a, input) + c);
        }
        let behind: Bounds = before[layer - 1].iter().map(|&(l, h)| (l.max(0.0), h.max(0.0))).collect();
        best = best.max(least(&a, &behind) + c);
        for ((a, &(l, h)), slope) in a.iter_mut().zip(&before[layer - 1]).zip(&layers[layer - 1].slopes) {
            if h <= 0.0 {
                *a = 0.0;
            } else if l < 0.0 && *a < 0.0 {
                c -= *a * l * h / (h - l);
                *a *= h / (h - l);
            } else if l < 0.0 {
                *a *= slope;
            }
        }
    }
    best
}
