//! VNN-LIB 1.0: reads a property file into a [`Property`].
//!
//! The asserts of a file describe the *counterexamples*: the property is violated if some input inside the box has an
//! output that fulfils them all. What is read:
//!
//! * `(declare-const X_0 Real)` (or `declare-fun` without arguments) for inputs `X_0 ..` and outputs `Y_0 ..`;
//! * `(assert c)` with conditions of `<=`, `>=`, `<`, `>`, `=`, `and`, `or`, nested up to 256 brackets;
//! * in a condition, either one input against a constant (a side of the box), or linear arithmetic (`+`, `-`, `*`) over
//!   outputs and constants (a [`Row`](super::property::Row));
//! * several `or`s, which multiply out to at most 100,000 alternatives (a single `or` may have more). An alternative
//!   with input bounds of its own is a query of its own; those with the same box share one query.
//!
//! Numbers are decimals, that is real numbers. Literals and sums are kept as exact decimals as far as 38 digits go and
//! rounded to `f64` once; what that rounding may have moved is recorded in the property (`lo_out`, `hi_out`, `slop`,
//! `coefficient_rel`). A strict bound on an input (`<`) moves the attack's end inward by one `f64` and leaves the
//! proof's end closed.
//!
//! Format: <https://www.vnnlib.org>; the competition's files use the subset above.

mod assemble;
mod condition;
mod fault;
mod lexer;
mod linear;
mod names;
mod number;
mod parser;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::property::Property;
use crate::error::{Error, ErrorKind, Result};

/// Largest property text that is read, in bytes, unpacked.
const MAX_BYTES: u64 = 1 << 30;

/// Parses the text of a VNN-LIB 1.0 file.
///
/// # Errors
/// `BadInput` for anything malformed or contradictory, `Unsupported` for well-formed conditions that are not linear in
/// the outputs or not a box on the inputs, `TooBig` for a property that multiplies out beyond the limits. Each carries
/// line and column (from 1) and a next step.
pub fn parse(text: &str) -> Result<Property> {
    parser::Parser::new(text).run()
}

/// Reads a VNN-LIB file, plain or gzipped (told apart by content), and returns the property with the unpacked bytes.
///
/// # Errors
/// Those of [`parse`], and `Io` if the file cannot be read or unpacked; each names the file.
pub fn read(path: &Path) -> Result<(Property, Vec<u8>)> {
    let bytes = read_bytes(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let valid = String::from_utf8_lossy(&bytes[..e.valid_up_to()]);
        let (line, column) = lexer::place(&valid, valid.len());
        Error::bad_input("this byte is not UTF-8 text")
            .at(line, column)
            .in_file(path)
            .with_help("a VNN-LIB file is plain text, or such text packed with gzip")
    })?;
    let property = parse(text).map_err(|e| e.in_file(path))?;
    Ok((property, bytes))
}

/// The bytes of a file, unpacked if they start like a gzip file.
fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let io = |e| Error::io(path, e).with_help("check the path, and that the file may be read");
    let mut raw = Vec::new();
    File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut raw).map_err(io)?;
    if raw.starts_with(&[0x1f, 0x8b]) {
        let mut bytes = Vec::new();
        MultiGzDecoder::new(raw.as_slice()).take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| {
            Error::io(path, e).with_help("the file starts like a gzip file; `gzip -t` tells what is wrong with it")
        })?;
        raw = bytes;
    }
    if raw.len() as u64 > MAX_BYTES {
        return Err(Error::new(ErrorKind::TooBig, "a property of more than 1 GiB of text is not read")
            .in_file(path)
            .with_help("split the property: one file for each part of its `or`"));
    }
    Ok(raw)
}
