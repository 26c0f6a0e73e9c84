//! A member on disk: all that it takes to go on bit for bit, in one safetensors file that is never half written.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use ndarray::{ArrayD, IxDyn};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, View};
use serde::{Deserialize, Serialize};

use super::hyper::Hyper;
use crate::error::{Error, Result};
pub use crate::files::replace;

/// Of the files that this version writes; others are refused.
pub const FORMAT: u32 = 1;
/// The entry of the file's metadata that holds everything but the tables.
const ENTRY: &str = "wavehull";

/// A member between two steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// What is no table.
    pub state: State,
    /// Arrays by name: parameters, the optimiser's moments, running statistics.
    pub tables: BTreeMap<String, ArrayD<f32>>,
}

/// What a member is besides its tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Tells models apart: two members with the same one have the same tables and may be exchanged.
    pub fingerprint: String,
    /// Its number among the members or trials.
    pub member: u64,
    /// Steps done; also what its random streams are keyed by.
    pub step: u64,
    /// Epochs done.
    pub epoch: u64,
    /// Samples seen of the epoch that it is in.
    pub cursor: u64,
    /// Its seed, which together with `epoch` gives the order of its samples.
    pub seed: u64,
    /// Its hyper-parameters that were set.
    pub hyper: Hyper,
    /// What else the writer wants to find again, such as best scores.
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Header<S> {
    format: u32,
    #[serde(flatten)]
    state: S,
}

/// The format alone, to tell a newer file from a damaged one.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// What a snapshot must be to go on with a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expected {
    /// The model's fingerprint.
    pub fingerprint: String,
    /// Its tables, with their shapes.
    pub shapes: BTreeMap<String, Vec<usize>>,
}

/// A table as safetensors wants to see it: little-endian bytes.
struct Table {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Table {
    fn new(array: &ArrayD<f32>) -> Self {
        Self { shape: array.shape().to_vec(), bytes: array.iter().flat_map(|x| x.to_le_bytes()).collect() }
    }
}

impl View for &Table {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

impl Snapshot {
    /// Writes it. The file appears under its name only when all of it is on disk; a crash leaves the one that was there before.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let header = serde_json::to_string(&Header { format: FORMAT, state: &self.state });
        let header = header.map_err(|e| Error::internal(e.to_string()))?;
        replace(path, &packed(&self.tables, ENTRY, header)?)
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] for a file that is cut off or no snapshot;
    /// [`crate::ErrorKind::Unsupported`] for one of another format.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::parse(&bytes).map_err(|e| e.in_file(path))
    }

    /// Reads one that must fit a model.
    ///
    /// # Errors
    /// As [`Snapshot::load`]; [`crate::ErrorKind::BadInput`] for a snapshot of another model, naming the table that differs.
    pub fn load_for(path: &Path, expected: &Expected) -> Result<Self> {
        let snapshot = Self::load(path)?;
        expected.check(&snapshot).map_err(|e| e.in_file(path))?;
        Ok(snapshot)
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let damaged = |e: safetensors::SafeTensorError| {
            Error::bad_input(format!("this is no safetensors file, or it is cut off: {e}"))
                .with_help("put an earlier copy back, or remove the file: its member then begins anew")
                .with_source(e)
        };
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
        let Some(header) = metadata.metadata().as_ref().and_then(|entries| entries.get(ENTRY)) else {
            return Err(Error::bad_input("these are tensors, but no checkpoint of wavehull")
                .with_help("parameters alone cannot be gone on from: the optimiser's state is missing"));
        };
        let torn = |e: serde_json::Error| {
            Error::bad_input(format!("the checkpoint's header is damaged: {e}"))
                .with_help("put an earlier copy back, or remove the file: its member then begins anew")
                .with_source(e)
        };
        let format = serde_json::from_str::<FormatOnly>(header).map_err(torn)?.format;
        if format != FORMAT {
            return Err(Error::unsupported(format!("a checkpoint of format {format}; this version reads {FORMAT}"))
                .with_help("go on with the version that wrote it"));
        }
        let header: Header<State> = serde_json::from_str(header).map_err(torn)?;
        let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let tables =
            file.iter().map(|(name, view)| Ok((name.to_owned(), array(name, &view)?))).collect::<Result<_>>()?;
        Ok(Self { state: header.state, tables })
    }

    /// What another snapshot must be to take this one's place.
    pub fn expected(&self) -> Expected {
        let shapes = self.tables.iter().map(|(name, table)| (name.clone(), table.shape().to_vec())).collect();
        Expected { fingerprint: self.state.fingerprint.clone(), shapes }
    }
}

impl Expected {
    /// Whether a snapshot fits.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`], naming the first table that is missing, foreign or of another shape.
    pub fn check(&self, snapshot: &Snapshot) -> Result<()> {
        let fault = |message: String| {
            Err(Error::bad_input(message)
                .with_help("this checkpoint is of another model: take its own configuration, or another folder"))
        };
        for (name, shape) in &self.shapes {
            match snapshot.tables.get(name) {
                None => return fault(format!("tensor '{name}' of the model is missing in the checkpoint")),
                Some(table) if table.shape() != shape.as_slice() => {
                    return fault(format!(
                        "tensor '{name}' has shape {:?}, but the model's has {shape:?}",
                        table.shape()
                    ));
                }
                Some(_) => {}
            }
        }
        let known: BTreeSet<&String> = self.shapes.keys().collect();
        if let Some(name) = snapshot.tables.keys().find(|name| !known.contains(name)) {
            return fault(format!("the checkpoint holds tensor '{name}', which the model has not"));
        }
        if snapshot.state.fingerprint != self.fingerprint {
            return fault(format!(
                "the checkpoint's model is '{}', but this one is '{}'",
                snapshot.state.fingerprint, self.fingerprint
            ));
        }
        Ok(())
    }
}

/// Writes parameters alone for other programs: safetensors with names as torch writes them ([`torch_name`]).
///
/// # Errors
/// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] if two names become one.
pub fn export_parameters(path: &Path, parameters: &BTreeMap<String, ArrayD<f32>>) -> Result<()> {
    let mut renamed: BTreeMap<String, ArrayD<f32>> = BTreeMap::new();
    for (name, table) in parameters {
        if renamed.insert(torch_name(name), table.clone()).is_some() {
            return Err(
                Error::bad_input(format!("two parameters would both be named '{}'", torch_name(name))).in_file(path)
            );
        }
    }
    // transformers and others ask for this entry.
    replace(path, &packed(&renamed, "format", "pt".to_owned())?)
}

/// A graph's name as torch writes it: parts separated by full stops, no leading separator (`/layers/0/weight` is `layers.0.weight`).
pub fn torch_name(name: &str) -> String {
    let parts = name.split(['/', ':', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(".")
}

/// Reads all f32 tensors of a safetensors file, whoever wrote it.
///
/// # Errors
/// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] for a file that is none; [`crate::ErrorKind::Unsupported`] for other element types.
pub fn read_parameters(path: &Path) -> Result<BTreeMap<String, ArrayD<f32>>> {
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| {
        Error::bad_input(format!("this is no safetensors file, or it is cut off: {e}")).in_file(path).with_source(e)
    })?;
    let tables = file.iter().map(|(name, view)| Ok((name.to_owned(), array(name, &view)?)));
    tables.collect::<Result<_>>().map_err(|e| e.in_file(path))
}

/// A file of tables with one entry of metadata. One alone: the format keeps entries in a hash map, and with two the bytes of a file would depend
/// on chance.
fn packed(tables: &BTreeMap<String, ArrayD<f32>>, entry: &str, text: String) -> Result<Vec<u8>> {
    let tables: BTreeMap<&String, Table> = tables.iter().map(|(name, array)| (name, Table::new(array))).collect();
    let metadata = HashMap::from([(entry.to_owned(), text)]);
    safetensors::serialize(tables.iter().map(|(name, table)| (name.as_str(), table)), Some(metadata))
        .map_err(|e| Error::internal(e.to_string()))
}

fn array(name: &str, view: &TensorView<'_>) -> Result<ArrayD<f32>> {
    if view.dtype() != Dtype::F32 {
        return Err(Error::unsupported(format!("tensor '{name}' is of type {:?}; only F32 is read", view.dtype())));
    }
    let numbers = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    ArrayD::from_shape_vec(IxDyn(view.shape()), numbers)
        .map_err(|e| Error::bad_input(format!("tensor '{name}' does not fit its shape: {e}")))
}

#[cfg(test)]
mod tests;
