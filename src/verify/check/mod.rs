//! Re-checks a proof on the CPU, with nothing from the path that made it.
//!
//! The checker takes *choices* from a proof: lower slopes, which neurons were bounded by back-substitution, which
//! row of a conjunction stays positive. Every bound it derives itself, from the graph, in f64 whose every rounding
//! is covered outward ([DeepPoly][1], [CROWN][2]; error terms as in Higham, *Accuracy and Stability*, chapter 3). The
//! numbers in the proof are claims: one that is tighter than what can be derived is refused. So an accepted proof
//! means that the network, evaluated in exact arithmetic, has the property; whoever wrote the proof need not be
//! trusted.
//!
//! For every query and its box:
//! 1. interval bounds of each vector from those of the vector before it;
//! 2. for `refine`d neurons of a ReLU layer, in both signs, and for the claimed rows: a linear form that is walked
//!    back to the input, evaluated over the span before each ReLU and over the box, of which the best bound counts;
//! 3. what is derived is intersected with the intervals and used from then on, never the claimed numbers.
//!
//! [1]: https://doi.org/10.1145/3290354
//! [2]: https://arxiv.org/abs/1811.00866

mod bounds;
mod rounding;
mod steps;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::verify::proof::{Claim, Item, LayerProof, Proof, QueryProof, SOUNDNESS, bad_proof};
use crate::verify::property::{InputBox, Property, Query, Row};
use bounds::{Form, Region, Span};
use rounding::{Rounding, sum_abs};
use steps::{Matrix, Network, Step};

/// How many neurons or rows walk back at once: enough to feed the matrix product, few enough to stay in caches.
const BATCH: usize = 256;

/// What an accepted proof shows.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone, PartialEq)]
pub struct CheckReport {
    /// Number of queries.
    pub queries: usize,
    /// Number of row claims, over all queries.
    pub claims: usize,
    /// Number of neurons bounded by back-substitution, over all queries.
    pub refined: usize,
    /// The smallest re-derived lower bound of a claimed row; `+inf` if there is no claim.
    pub worst: f64,
    /// How the claims were made, as the proof says: `strict` or `trust-f32`. Both were checked alike.
    pub soundness: String,
}

/// Checks that a proof establishes that a network has a property.
///
/// The digests are those of the files that `graph` and `property` were read from
/// ([`sha256_hex`](crate::verify::proof::sha256_hex)). Inputs and report are `Send + Sync`: many proofs can be
/// checked on as many threads.
///
/// # Errors
/// [`ErrorKind::BadProof`](crate::error::ErrorKind::BadProof) with the line, where the proof was read from text, if
/// it is about another network or property, incomplete, or claims more than can be derived;
/// [`ErrorKind::Unsupported`](crate::error::ErrorKind::Unsupported) or
/// [`ErrorKind::BadInput`](crate::error::ErrorKind::BadInput) for a network that cannot be re-checked.
pub fn check(
    proof: &Proof,
    graph: &Graph,
    network_sha256: &str,
    property: &Property,
    property_sha256: &str,
) -> Result<CheckReport> {
    digest(proof, Item::Network, "network", &proof.network, network_sha256)?;
    digest(proof, Item::Property, "property", &proof.property, property_sha256)?;
    derive(proof, graph, property, Rounding::of_this_processor()?)
}

/// Checks a proof file against the files of the network and the property, plain or gzipped.
///
/// # Errors
/// As [`check`], and if a file cannot be read.
#[cfg(feature = "onnx")]
pub fn check_files(
    proof: &std::path::Path,
    network: &std::path::Path,
    property: &std::path::Path,
) -> Result<CheckReport> {
    use crate::error::ErrorKind;
    use crate::verify::proof::sha256_hex;

    let bytes = std::fs::read(proof).map_err(|e| Error::io(proof, e))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count() + 1;
        bad_proof("the proof is not UTF-8 text").at(line, 1).with_help(HELP).in_file(proof)
    })?;
    let parsed = Proof::parse(&text).map_err(|e| e.in_file(proof))?;
    let (graph, network_bytes) = crate::graph::onnx::read(network)?;
    let (read_property, property_bytes) = crate::verify::vnnlib::read(property)?;
    check(&parsed, &graph, &sha256_hex(&network_bytes), &read_property, &sha256_hex(&property_bytes)).map_err(|e| {
        let file = if e.kind() == ErrorKind::BadProof { proof } else { network };
        e.in_file(file)
    })
}

const HELP: &str = "do not rely on this proof; have it written again by the program that made it";

/// An error about an item of a proof, with its line if there is one.
fn refuse(proof: &Proof, item: Item, message: impl Into<String>) -> Error {
    let error = bad_proof(message).with_help(HELP);
    match proof.line_of(item) {
        Some(line) => error.at(line, 1),
        None => error,
    }
}

fn digest(proof: &Proof, item: Item, what: &str, claimed: &str, found: &str) -> Result<()> {
    if claimed.eq_ignore_ascii_case(found) {
        return Ok(());
    }
    let help = format!("check against the very file that the proof was made for; this {what} has sha256 {found}");
    Err(refuse(proof, item, format!("the proof is about another {what}")).with_help(help))
}

/// [`check`] without the digests, in a given arithmetic.
fn derive(proof: &Proof, graph: &Graph, property: &Property, rounding: Rounding) -> Result<CheckReport> {
    let network = Network::new(graph)?;
    let (inputs, outputs) = (network.widths.first(), network.widths.last());
    if (inputs, outputs) != (Some(&property.inputs), Some(&property.outputs)) {
        let message = format!(
            "the property is about {} inputs and {} outputs, the network has {} and {}",
            property.inputs,
            property.outputs,
            graph.input_len(),
            graph.output_len()
        );
        return Err(Error::bad_input(message).with_help("use the property with the network that it was written for"));
    }
    if !SOUNDNESS.contains(&proof.soundness.as_str()) {
        return Err(bad_proof(format!("the soundness `{}` is not known", proof.soundness)).with_help(HELP));
    }
    let (given, wanted) = (proof.queries.len(), property.queries.len());
    if given != wanted {
        let item = if given < wanted { Item::End } else { Item::Query(wanted) };
        return Err(refuse(proof, item, format!("the proof has {given} queries, the property {wanted}")));
    }
    let soundness = proof.soundness.clone();
    let mut report = CheckReport { queries: given, claims: 0, refined: 0, worst: f64::INFINITY, soundness };
    for (index, (query, given)) in property.queries.iter().zip(&proof.queries).enumerate() {
        let worst = Checker { proof, network: &network, rounding, index, query, given }.check()?;
        report.claims += given.claims.len();
        report.refined += given.layers.iter().map(|layer| layer.refined.len()).sum::<usize>();
        report.worst = report.worst.min(worst);
    }
    Ok(report)
}

/// One query and what a proof says about it.
struct Checker<'a> {
    proof: &'a Proof,
    network: &'a Network,
    rounding: Rounding,
    index: usize,
    query: &'a Query,
    given: &'a QueryProof,
}

impl<'a> Checker<'a> {
    /// The smallest re-derived bound of a claimed row.
    fn check(&self) -> Result<f64> {
        self.widths()?;
        self.claims(&self.region()?)
    }

    /// Bounds of every vector over the box, with the choices of the proof.
    fn region(&self) -> Result<Region<'a>> {
        let mut region = Region::new(self.network, self.rounding, self.input(&self.query.input)?);
        let mut layers = self.given.layers.iter().enumerate();
        for step in &self.network.steps {
            let mut slopes: &[f64] = &[];
            if matches!(step, Step::Relu)
                && let Some((number, layer)) = layers.next()
            {
                self.refine(&mut region, number, layer)?;
                slopes = &layer.slopes;
            }
            region.forward(slopes)?;
        }
        Ok(region)
    }

    fn input(&self, given: &InputBox) -> Result<Span> {
        let (lo, hi) = (&given.lo_out, &given.hi_out);
        let sound = |(l, h): (&f64, &f64)| l.is_finite() && h.is_finite() && l <= h;
        let width = self.network.widths.first().copied().unwrap_or(0);
        if lo.len() != width || hi.len() != width || !lo.iter().zip(hi).all(sound) {
            return Err(Error::bad_input(format!("an input of query {} has no finite interval", self.index))
                .with_help("give every input a lower and an upper bound, the lower one not above the upper one"));
        }
        Ok(Span::new(lo.clone(), hi.clone()))
    }

    /// Demands that the proof's layers are the network's, with a slope in [0, 1] for each neuron.
    fn widths(&self) -> Result<()> {
        let widths = self.network.relu_widths();
        if self.given.layers.len() != widths.len() {
            let message = format!("the proof has {} layers, the network {}", self.given.layers.len(), widths.len());
            return Err(refuse(self.proof, Item::Query(self.index), message));
        }
        for (number, (layer, width)) in self.given.layers.iter().zip(widths).enumerate() {
            if layer.slopes.len() != width {
                let message =
                    format!("layer {number} has {} neurons in the proof, {width} in the network", layer.slopes.len());
                return Err(refuse(self.proof, Item::Layer(self.index, number), message));
            }
            if let Some(slope) = layer.slopes.iter().find(|slope| !(0.0..=1.0).contains(*slope)) {
                let message = format!("the slope {slope} is not in [0, 1]");
                return Err(refuse(self.proof, Item::Slopes(self.index, number), message));
            }
        }
        Ok(())
    }

    /// Bounds the neurons that the proof lists by back-substitution, and narrows the newest span to that.
    fn refine(&self, region: &mut Region<'a>, number: usize, layer: &LayerProof) -> Result<()> {
        let width = layer.slopes.len();
        for (start, listed) in layer.refined.chunks(BATCH).enumerate().map(|(i, chunk)| (i * BATCH, chunk)) {
            let neurons: Vec<usize> = listed.iter().map(|&(neuron, ..)| neuron).collect();
            if let Some(neuron) = neurons.iter().find(|&&neuron| neuron >= width) {
                let message = format!("neuron {neuron} does not exist in a layer of width {width}");
                return Err(refuse(self.proof, Item::Layer(self.index, number), message));
            }
            let derived = region.lower_bounds(Form::plus_and_minus(&neurons, width))?;
            let (lower, upper) = derived.split_at(neurons.len());
            let Some(span) = region.spans.last_mut() else {
                return Err(Error::internal("the proof checker has lost its bounds"));
            };
            for (at, (&(neuron, low, high), (l, u))) in listed.iter().zip(lower.iter().zip(upper)).enumerate() {
                let (l, h) = (span.lo[neuron].max(*l), span.hi[neuron].min(-u));
                // Written so that a NaN claim is refused.
                if !(low <= l && high >= h) {
                    let message = format!(
                        "neuron {neuron} of layer {number}: the proof claims [{low}, {high}], [{l}, {h}] can be derived"
                    );
                    return Err(refuse(self.proof, Item::Refine(self.index, number, start + at), message));
                }
                span.lo[neuron] = l;
                span.hi[neuron] = h;
                span.mag[neuron] = l.abs().max(h.abs());
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
        let mut worst = f64::INFINITY;
        for (start, claims) in self.given.claims.chunks(BATCH).enumerate().map(|(i, chunk)| (i * BATCH, chunk)) {
            let mut rows = vec![];
            for (at, claim) in claims.iter().enumerate() {
                rows.push(self.row(start + at, claim)?);
            }
            let derived = region.lower_bounds(self.form(region, &rows)?)?;
            for (at, (claim, (row, bound))) in claims.iter().zip(rows.iter().zip(derived)).enumerate() {
                let enough = |x: f64| x > 0.0 || (row.strict && x == 0.0);
                if !(claim.bound <= bound && enough(claim.bound) && enough(bound)) {
                    let message = format!(
                        "conjunction {}: the proof claims that row {} is at least {}, {bound} can be derived",
                        claim.conjunction, claim.row, claim.bound
                    );
                    return Err(refuse(self.proof, Item::Claim(self.index, start + at), message));
                }
                worst = worst.min(bound);
            }
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

    /// Rows of conjunctions as forms over the network's output.
    fn form(&self, region: &Region<'_>, rows: &[&Row]) -> Result<Form> {
        let Some(span) = region.spans.last() else {
            return Err(Error::internal("the proof checker has lost its bounds"));
        };
        let cols = span.lo.len();
        let mut matrix = Matrix { cols, data: vec![0.0; rows.len() * cols] };
        for (row, form) in rows.iter().zip(matrix.data.chunks_exact_mut(cols)) {
            for &(output, coefficient) in &row.coefficients {
                let Some(entry) = form.get_mut(output) else {
                    return Err(Error::bad_input(format!("the property names output {output} of {cols}"))
                        .with_help("use the property with the network that it was written for"));
                };
                *entry = coefficient;
            }
        }
        let r = self.rounding;
        let slack = rows.iter().zip(matrix.data.chunks_exact(cols)).map(|(row, form)| {
            let size = r.at_most(sum_abs(form, &span.mag), cols);
            r.over(row.slop + row.coefficient_rel * size)
        });
        let error = slack.collect();
        Ok(Form::new(matrix, rows.iter().map(|row| row.constant).collect(), error))
    }
}
