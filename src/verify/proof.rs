//! Proofs as data: what a verifier chose and what it claims, as text that anybody can read and re-check.
//!
//! A proof is UTF-8 text, one item a line; blank lines and lines that begin with `#` are ignored:
//!
//! ```text
//! wavehull-proof 1
//! network sha256:<64 hex digits>    of the ONNX file's bytes, unpacked
//! property sha256:<64 hex digits>   of the VNN-LIB file's bytes, unpacked
//! soundness strict                  or trust-f32: how the claims were made
//! query 0                           every query of the property, ascending
//! layer 0 256                       every layer with an activation: index, width
//! slopes 0 1 0.5 ...                the slope of the line below each of its neurons, in [0, 1]
//! upper 0.1 0.25 ...                the slope of the line above; where the activation is a sigmoid or tanh, only there
//! refine 17 -0.25 1.5               neurons bounded by back-substitution, ascending: index, claimed lower, upper
//! claim 0 0 0.1234                  for every conjunction of the query: conjunction, row, claimed lower bound
//! end
//! ```
//!
//! Layers are those of [`crate::graph::Layers`] whose activation is not `None`, in their order, counted from 0; a layer's neurons
//! are numbered in ONNX's row-major order. A max-pool is a few ReLU layers there. Lines give slopes only: a checker finds
//! offsets that make them sound.
//!
//! The property holds if in every conjunction of every query one row's value is positive (not negative for a
//! strict row) all over the query's box. Reading a proof checks its form only; [`crate::verify::check`] checks
//! that it proves anything.

use crate::error::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};
use std::fmt::{self, Write as _};

mod read;

/// The words that may follow `soundness`.
pub const SOUNDNESS: [&str; 2] = ["strict", "trust-f32"];

/// A proof that a network has a property.
#[derive(Debug, Clone)]
pub struct Proof {
    /// SHA-256 of the unpacked ONNX file, 64 lower-case hex digits.
    pub network: String,
    /// SHA-256 of the unpacked VNN-LIB file, 64 lower-case hex digits.
    pub property: String,
    /// How the claims were made, one of [`SOUNDNESS`]. A checker does not care.
    pub soundness: String,
    /// One entry for each query of the property, in its order.
    pub queries: Vec<QueryProof>,
    /// Line numbers of the items in the order of the text; empty for a proof that was not read from text.
    lines: Vec<usize>,
}

/// The part of a proof that is about one query.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryProof {
    /// One entry for each layer with an activation, from the input on.
    pub layers: Vec<LayerProof>,
    /// One entry for each conjunction, ascending.
    pub claims: Vec<Claim>,
}

/// Choices and claims for one layer with an activation.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerProof {
    /// Slope of the line below every neuron, in [0, 1]; its length is the layer's width. Ignored for a ReLU whose bounds
    /// exclude a change of sign.
    pub slopes: Vec<f64>,
    /// Slope of the line above every neuron of a sigmoid or tanh layer, in [0, 1]; empty for a ReLU layer, whose upper line
    /// follows from its bounds.
    pub upper: Vec<f64>,
    /// Neurons whose pre-activation was bounded by back-substitution, ascending: index, claimed lower bound,
    /// claimed upper bound.
    pub refined: Vec<(usize, f64, f64)>,
}

impl LayerProof {
    /// The number of lines that it takes.
    fn items(&self) -> usize {
        2 + usize::from(!self.upper.is_empty()) + self.refined.len()
    }
}

/// The claim that a row of a conjunction is positive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Claim {
    /// Index of the conjunction in the query.
    pub conjunction: usize,
    /// Index of the row in the conjunction.
    pub row: usize,
    /// Claimed lower bound of the row's value over the box.
    pub bound: f64,
}

/// An item of a proof, to find its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    Network,
    Property,
    Query(usize),
    Layer(usize, usize),
    Slopes(usize, usize),
    Upper(usize, usize),
    Refine(usize, usize, usize),
    Claim(usize, usize),
    End,
}

impl Proof {
    /// A proof from its parts.
    pub fn new(
        network: impl Into<String>,
        property: impl Into<String>,
        soundness: impl Into<String>,
        queries: Vec<QueryProof>,
    ) -> Self {
        Self { network: network.into(), property: property.into(), soundness: soundness.into(), queries, lines: vec![] }
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`ErrorKind::BadProof`] with line and column if anything is malformed, missing, repeated, out of order, out
    /// of range or not finite.
    pub fn parse(text: &str) -> Result<Self> {
        read::parse(text)
    }

    /// The line on which an item stands in the text that the proof was read from.
    pub(crate) fn line_of(&self, item: Item) -> Option<usize> {
        let given = |q: usize, k: usize| self.queries.get(q).and_then(|q| q.layers.get(k));
        let items = |q: usize, k: usize| given(q, k).map_or(0, LayerProof::items);
        let upper = |q: usize, k: usize| given(q, k).map_or(0, |l| usize::from(!l.upper.is_empty()));
        let layer = |q: usize, k: usize| query_start(self, q) + 1 + (0..k).map(|i| items(q, i)).sum::<usize>();
        let index = match item {
            Item::Network => 1,
            Item::Property => 2,
            Item::Query(q) => query_start(self, q),
            Item::Layer(q, k) => layer(q, k),
            Item::Slopes(q, k) => layer(q, k) + 1,
            Item::Upper(q, k) => layer(q, k) + 2,
            Item::Refine(q, k, r) => layer(q, k) + 2 + upper(q, k) + r,
            Item::Claim(q, c) => layer(q, self.queries.get(q)?.layers.len()) + c,
            Item::End => query_start(self, self.queries.len()),
        };
        self.lines.get(index).copied()
    }
}

/// Index of a query's first item among all items: four lines stand before the first query.
fn query_start(proof: &Proof, query: usize) -> usize {
    let items = |q: &QueryProof| 1 + q.layers.iter().map(LayerProof::items).sum::<usize>() + q.claims.len();
    4 + proof.queries.iter().take(query).map(items).sum::<usize>()
}

/// Two proofs are equal if they say the same; where their lines stand in a file does not matter.
impl PartialEq for Proof {
    fn eq(&self, other: &Self) -> bool {
        (&self.network, &self.property, &self.soundness, &self.queries)
            == (&other.network, &other.property, &other.soundness, &other.queries)
    }
}

/// A number in its shortest form that reads back to the same `f64`.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        if size == 0.0 || (1e-5..1e16).contains(&size) { write!(f, "{}", self.0) } else { write!(f, "{:e}", self.0) }
    }
}

/// Writes the text of the proof. Numbers read back exactly.
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "wavehull-proof 1")?;
        writeln!(f, "network sha256:{}", self.network)?;
        writeln!(f, "property sha256:{}", self.property)?;
        writeln!(f, "soundness {}", self.soundness)?;
        for (index, query) in self.queries.iter().enumerate() {
            writeln!(f, "query {index}")?;
            for (index, layer) in query.layers.iter().enumerate() {
                writeln!(f, "layer {index} {}", layer.slopes.len())?;
                write_numbers(f, "slopes", &layer.slopes)?;
                if !layer.upper.is_empty() {
                    write_numbers(f, "upper", &layer.upper)?;
                }
                for &(neuron, lower, upper) in &layer.refined {
                    writeln!(f, "refine {neuron} {} {}", Number(lower), Number(upper))?;
                }
            }
            for claim in &query.claims {
                writeln!(f, "claim {} {} {}", claim.conjunction, claim.row, Number(claim.bound))?;
            }
        }
        writeln!(f, "end")
    }
}

fn write_numbers(f: &mut fmt::Formatter<'_>, keyword: &str, numbers: &[f64]) -> fmt::Result {
    f.write_str(keyword)?;
    for &number in numbers {
        write!(f, " {}", Number(number))?;
    }
    f.write_str("\n")
}

/// The SHA-256 digest of some bytes as 64 lower-case hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An error about a proof.
pub(crate) fn bad_proof(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadProof, message)
}

#[cfg(test)]
mod tests;
