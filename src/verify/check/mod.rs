//! Re-checks a proof on the CPU, with nothing from the path that made it but the network as [`Layers`].
//!
//! The checker takes *choices* from a proof: slopes of lines, which neurons were bounded by back-substitution, which
//! row of a conjunction stays positive. Every bound it derives itself, from the layers, in f64 whose every rounding
//! is covered outward ([DeepPoly][1], [CROWN][2]; error terms as in Higham, *Accuracy and Stability*, chapter 3). The
//! numbers in the proof are claims: one that is tighter than what can be derived is refused. So an accepted proof
//! means that the network, evaluated in exact arithmetic, has the property; whoever wrote the proof need not be
//! trusted.
//!
//! For every query and its box:
//! 1. interval bounds of each layer from those of the layers that it reads;
//! 2. for `refine`d neurons of a layer with an activation, in both signs, and for the claimed rows: a linear form that is walked
//!    back from layer to layer. Where paths meet, coefficients are added up. Wherever a form stands on one layer alone it
//!    is evaluated on the bounds of that layer's values, at the end on the box, and the best bound counts;
//! 3. what is derived is intersected with the intervals and used from then on, never the claimed numbers;
//! 4. a proof gives slopes only: the checker finds offsets that make the lines sound over its own bounds.
//!
//! What is shared with the rest is how a file becomes [`Layers`], with bounds on what folding constants rounded. A
//! sigmoid needs the platform's exponential function, which is taken to err by at most 8 ulp.
//!
//! [1]: https://doi.org/10.1145/3290354
//! [2]: https://arxiv.org/abs/1811.00866

mod bounds;
mod form;
mod lines;
mod maps;
mod network;
mod parallel;
mod query;
mod rounding;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::graph::{Graph, Layers};
use crate::verify::proof::{Item, Proof, SOUNDNESS, bad_proof};
use crate::verify::property::Property;
use network::Network;
use query::Checker;
use rounding::Rounding;

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
    derive(proof, &Layers::from_graph(graph)?, property, Rounding::of_this_processor()?)
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
fn derive(proof: &Proof, layers: &Layers, property: &Property, rounding: Rounding) -> Result<CheckReport> {
    let network = Network::new(layers)?;
    let (inputs, outputs) = (network.inputs, network.outputs());
    if (inputs, outputs) != (property.inputs, property.outputs) {
        let message = format!(
            "the property is about {} inputs and {} outputs, the network has {inputs} and {outputs}",
            property.inputs, property.outputs
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
