//! Full-integer TFLite networks, brought into the form that [`integer`](super::integer) computes.
//!
//! Read are int8 activations with int8 weights, per channel or per tensor, of one graph with one input and a batch of 1, with the operators
//! `ADD`, `AVERAGE_POOL_2D`, `CONCATENATION`, `CONV_2D`, `DEPTHWISE_CONV_2D`, `EXPAND_DIMS`, `FULLY_CONNECTED`, `LOGISTIC`, `MAX_POOL_2D`, `MEAN`
//! (of the whole map), `MUL`, `PAD`, `QUANTIZE`, `RELU`, `RELU6`, `RESHAPE`, `SOFTMAX`, `SQUEEZE`, `TANH`. A float input that is quantised first and a
//! float output that is dequantised last are left out: the network then starts and ends at the codes.

mod flatbuffer;
mod lower;
mod model;
mod moves;
mod products;
mod tables;

use std::path::Path;

use super::integer::Network;
use crate::error::{Error, Result};

/// The largest file that is read.
const LARGEST: u64 = 4 << 30;

/// Reads a TFLite file.
///
/// # Errors
/// [`crate::ErrorKind::Io`] if it cannot be read; those of [`parse`], with the file's name.
pub fn read(file: &Path) -> Result<Network> {
    let size = std::fs::metadata(file).map_err(|error| Error::io(file, error))?.len();
    if size > LARGEST {
        return Err(Error::bad_input(format!("{size} bytes are too many for a TFLite network")).in_file(file));
    }
    let bytes = std::fs::read(file).map_err(|error| Error::io(file, error))?;
    let name = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    parse(&bytes, &name).map_err(|error| error.in_file(file))
}

/// Reads the bytes of a TFLite file; `name` is for titles.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] for a damaged file, [`crate::ErrorKind::Unsupported`] for a network that is not full-integer or uses something not
/// supported; both name the table or the operator.
pub fn parse(bytes: &[u8], name: &str) -> Result<Network> {
    lower::lower(&model::Model::parse(bytes)?, name, bytes.len())
}
