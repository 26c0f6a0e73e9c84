//! One query of a property against what a proof says about it.

use super::bounds::{Region, Slopes, Span};
use super::maps::Matrix;
use super::network::Network;
use super::rounding::{Rounding, sum_abs};
use super::{parallel, refuse};
use crate::error::{Error, Result};
use crate::graph::Activation;
use crate::verify::proof::{Claim, Item, LayerProof, Proof, QueryProof};
use crate::verify::property::{InputBox, Query, Row};

/// How many neurons or rows walk back at once: enough to feed a matrix product, few enough to stay in caches.
const BATCH: usize = 64;

/// One query and what a proof says about it.
pub(super) struct Checker<'a> {
    pub(super) proof: &'a Proof,
    pub(super) network: &'a Network,
    pub(super) rounding: Rounding,
    pub(super) index: usize,
    pub(super) query: &'a Query,
    pub(super) given: &'a QueryProof,
}

impl<'a> Checker<'a> {
    /// The smallest re-derived bound of a claimed row.
    pub(super) fn check(&self) -> Result<f64> {
        self.widths()?;
        self.claims(&self.region()?)
    }

    /// Bounds of every layer over the box, with the choices of the proof.
    pub(super) fn region(&self) -> Result<Region<'a>> {
        let mut region = Region::new(self.network, self.rounding, self.input(&self.query.input)?);
        let mut layers = self.given.layers.iter().enumerate();
        for layer in &self.network.layers {
            let (mut z, toll) = region.affine()?;
            let mut slopes = Slopes { below: &[], above: &[] };
            if layer.activation != Activation::None
                && let Some((number, given)) = layers.next()
            {
                let neurons: Vec<usize> = given.refined.iter().map(|&(neuron, ..)| neuron).collect();
                self.exist(&neurons, number, layer.width())?;
                let derived = parallel::pieces(&neurons, BATCH, self.rounding, |piece| region.neurons(&toll, piece))?;
                self.refine(&mut z, number, given, &derived)?;
                slopes = Slopes { below: &given.slopes, above: &given.upper };
            }
            region.pass((z, toll), slopes)?;
        }
        Ok(region)
    }

    fn input(&self, given: &InputBox) -> Result<Span> {
        let (lo, hi) = (&given.lo_out, &given.hi_out);
        let sound = |(l, h): (&f64, &f64)| l.is_finite() && h.is_finite() && l <= h;
        let width = self.network.inputs;
        if lo.len() != width || hi.len() != width || !lo.iter().zip(hi).all(sound) {
            return Err(Error::bad_input(format!("an input of query {} has no finite interval", self.index))
                .with_help("give every input a lower and an upper bound, the lower one not above the upper one"));
        }
        Ok(Span::new(lo.clone(), hi.clone()))
    }

    /// Demands that the proof's layers are the network's, with slopes in [0, 1] for each neuron.
    fn widths(&self) -> Result<()> {
        let (given, wanted) = (self.given.layers.len(), self.network.activated().count());
        if given != wanted {
            let message = format!("the proof has {given} layers, the network {wanted} with an activation");
            return Err(refuse(self.proof, Item::Query(self.index), message));
        }
        for (number, (given, layer)) in self.given.layers.iter().zip(self.network.activated()).enumerate() {
            let width = layer.width();
            if given.slopes.len() != width {
                let message =
                    format!("layer {number} has {} neurons in the proof, {width} in the network", given.slopes.len());
                return Err(refuse(self.proof, Item::Layer(self.index, number), message));
            }
            let curved = layer.activation != Activation::Relu;
            if given.upper.len() != if curved { width } else { 0 } {
                let wanted = if curved { "one upper slope a neuron" } else { "no upper slopes, being one of ReLUs" };
                let message = format!("layer {number} has {} upper slopes and needs {wanted}", given.upper.len());
                return Err(refuse(self.proof, Item::Layer(self.index, number), message));
            }
            let lines = [(&given.slopes, Item::Slopes as fn(usize, usize) -> Item), (&given.upper, Item::Upper)];
            for (slopes, item) in lines {
                if let Some(slope) = slopes.iter().find(|slope| !(0.0..=1.0).contains(*slope)) {
                    let message = format!("the slope {slope} is not in [0, 1]");
                    return Err(refuse(self.proof, item(self.index, number), message));
                }
            }
        }
        Ok(())
    }

    /// Demands that listed neurons exist.
    fn exist(&self, neurons: &[usize], number: usize, width: usize) -> Result<()> {
        let Some(neuron) = neurons.iter().find(|&&neuron| neuron >= width) else {
            return Ok(());
        };
        let message = format!("neuron {neuron} does not exist in a layer of width {width}");
        Err(refuse(self.proof, Item::Layer(self.index, number), message))
    }

    /// Narrows the bounds of listed neurons to those that were derived for them, batch by batch: lower bounds of z, then of -z.
    fn refine(&self, z: &mut Span, number: usize, layer: &LayerProof, derived: &[Vec<f64>]) -> Result<()> {
        let pairs = derived.iter().flat_map(|batch| {
            let (lower, upper) = batch.split_at(batch.len() / 2);
            lower.iter().zip(upper)
        });
        for (at, (&(neuron, low, high), (lower, upper))) in layer.refined.iter().zip(pairs).enumerate() {
            z.narrow(neuron, *lower, -upper);
            let (l, h) = (z.lo[neuron], z.hi[neuron]);
            // Written so that a NaN claim is refused.
            if !(low <= l && high >= h) {
                let message = format!(
                    "neuron {neuron} of layer {number}: the proof claims [{low}, {high}], [{l}, {h}] can be derived"
                );
                return Err(refuse(self.proof, Item::Refine(self.index, number, at), message));
            }
        }
        Ok(())
    }

    /// Demands that each conjunction has a row that is claimed and derived to be positive (not negative if strict).
    fn claims(&self, region: &Region<'_>) -> Result<f64> {
        let (given, wanted) = (self.given.claims.len(), self.query.unsafe_if.len());
        if given != wanted {
            let message =
                format!("query {} has {wanted} conjunctions, the proof claims something for {given}", self.index);
            return Err(refuse(self.proof, Item::Query(self.index), message));
        }
        let rows: Vec<&Row> =
            self.given.claims.iter().enumerate().map(|(at, claim)| self.row(at, claim)).collect::<Result<_>>()?;
        let derived = parallel::pieces(&rows, BATCH, self.rounding, |piece| self.bounds(region, piece))?;
        let mut worst = f64::INFINITY;
        let bounds = derived.into_iter().flatten();
        for (at, (claim, (row, bound))) in self.given.claims.iter().zip(rows.iter().zip(bounds)).enumerate() {
            let enough = |x: f64| x > 0.0 || (row.strict && x == 0.0);
            if !(claim.bound <= bound && enough(claim.bound) && enough(bound)) {
                let message = format!(
                    "conjunction {}: the proof claims that row {} is at least {}, {bound} can be derived",
                    claim.conjunction, claim.row, claim.bound
                );
                return Err(refuse(self.proof, Item::Claim(self.index, at), message));
            }
            worst = worst.min(bound);
        }
        Ok(worst)
    }

    /// The row that a claim is about.
    fn row(&self, position: usize, claim: &Claim) -> Result<&'a Row> {
        let refuse = |message| Err(refuse(self.proof, Item::Claim(self.index, position), message));
        if claim.conjunction != position {
            return refuse(format!("the claim of conjunction {position} is about conjunction {}", claim.conjunction));
        }
        match self.query.unsafe_if[position].get(claim.row) {
            Some(row) => Ok(row),
            None => refuse(format!("conjunction {position} has no row {}", claim.row)),
        }
    }

    /// Lower bounds of rows of conjunctions.
    fn bounds(&self, region: &Region<'_>, rows: &[&Row]) -> Result<Vec<f64>> {
        let Some(last) = region.layers.last() else {
            return Err(Error::internal("the proof checker has lost its bounds"));
        };
        let (r, cols) = (self.rounding, self.network.outputs());
        let mut matrix = Matrix::zeros(rows.len(), cols);
        for (row, form) in rows.iter().zip(matrix.rows_mut()) {
            for &(output, coefficient) in &row.coefficients {
                let Some(entry) = form.get_mut(output) else {
                    return Err(Error::bad_input(format!("the property names output {output} of {cols}"))
                        .with_help("use the property with the network that it was written for"));
                };
                *entry = coefficient;
            }
        }
        let slack = rows.iter().zip(matrix.rows()).map(|(row, form)| {
            let size = r.at_most(sum_abs(form, &last.y.mag), cols);
            r.over(row.slop + row.coefficient_rel * size)
        });
        let error = slack.collect();
        region.outputs(matrix, rows.iter().map(|row| row.constant).collect(), error)
    }
}
