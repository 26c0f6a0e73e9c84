//! A prover made of the checker's own bounds: proofs of networks of every kind, with claims as tight as they can be.

use super::*;
use crate::graph::Activation;
use crate::verify::check::bounds::{Slopes, Span};
use crate::verify::check::maps::Matrix;
use crate::verify::check::network::Layer;
use crate::verify::check::parallel::pieces;
use crate::verify::proof::{Claim, LayerProof, QueryProof};
use crate::verify::property::{Query, Row};

/// A proof that refines every neuron whose lines are not exact; the smallest claim, which need not be positive.
pub(super) fn crown(layers: &Layers, property: &Property) -> (Vec<QueryProof>, f64) {
    let network = Network::new(layers).expect("a network");
    let queries: Vec<QueryProof> = property.queries.iter().map(|query| prove(&network, query)).collect();
    let claims = queries.iter().flat_map(|query| &query.claims);
    let worst = claims.map(|claim| claim.bound).fold(f64::INFINITY, f64::min);
    (queries, worst)
}

fn prove(network: &Network, query: &Query) -> QueryProof {
    let input = Span::new(query.input.lo_out.clone(), query.input.hi_out.clone());
    let mut region = Region::new(network, Rounding::IEEE, input);
    let mut layers = vec![];
    for layer in &network.layers {
        let (mut z, toll) = region.affine().expect("another layer");
        if layer.activation == Activation::None {
            region.pass((z, toll), Slopes { below: &[], above: &[] }).expect("a layer without slopes");
            continue;
        }
        let curved = layer.activation != Activation::Relu;
        let loose: Vec<usize> = (0..layer.width()).filter(|&j| curved || (z.lo[j] < 0.0 && z.hi[j] > 0.0)).collect();
        // The intervals of the first layer are exact.
        let loose = if layers.is_empty() { vec![] } else { loose };
        let derived = pieces(&loose, 64, Rounding::IEEE, |piece| region.neurons(&toll, piece)).expect("bounds");
        let bounds = derived.iter().flat_map(|batch| batch[..batch.len() / 2].iter().zip(&batch[batch.len() / 2..]));
        let mut refined = vec![];
        for (&neuron, (low, high)) in loose.iter().zip(bounds) {
            z.narrow(neuron, *low, -high);
            // Another checker adds in another order.
            refined.push((neuron, lowered(z.lo[neuron]), -lowered(-z.hi[neuron])));
        }
        let (slopes, upper) = slopes(layer, &z);
        region.pass((z, toll), Slopes { below: &slopes, above: &upper }).expect("slopes of that layer");
        layers.push(LayerProof { slopes, upper, refined });
    }
    QueryProof { layers, claims: query.unsafe_if.iter().enumerate().map(|(i, rows)| claim(&region, i, rows)).collect() }
}

/// Slopes below and above: for a ReLU the one of smaller area, for a sigmoid the smaller one of both ends, which is sound
/// for DeepPoly's lines through the ends.
fn slopes(layer: &Layer, z: &Span) -> (Vec<f64>, Vec<f64>) {
    let steepness = |z: f64| match layer.activation {
        Activation::Tanh => 1.0 - z.tanh() * z.tanh(),
        _ => 0.25 * (1.0 - (z / 2.0).tanh() * (z / 2.0).tanh()),
    };
    let ends = z.lo.iter().zip(&z.hi);
    if layer.activation == Activation::Relu {
        return (ends.map(|(l, h)| if *h > -l { 1.0 } else { 0.0 }).collect(), vec![]);
    }
    let flat: Vec<f64> = ends.map(|(l, h)| steepness(*l).min(steepness(*h)).max(0.0)).collect();
    (flat.clone(), flat)
}

/// The best row of a conjunction.
fn claim(region: &Region<'_>, conjunction: usize, rows: &[Row]) -> Claim {
    let mut matrix = Matrix::zeros(rows.len(), region.network.outputs());
    for (row, form) in rows.iter().zip(matrix.rows_mut()) {
        row.coefficients.iter().for_each(|&(output, coefficient)| form[output] = coefficient);
    }
    let constants = rows.iter().map(|row| row.constant).collect();
    let errors = rows.iter().map(|row| row.slop).collect();
    let bounds = region.outputs(matrix, constants, errors).expect("bounds");
    let (row, bound) = bounds.into_iter().enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).expect("a row");
    // What the checker charges for inexact coefficients is left to it.
    Claim { conjunction, row, bound: lowered(bound) }
}

fn lowered(x: f64) -> f64 {
    x - 1e-9 * (1.0 + x.abs())
}
