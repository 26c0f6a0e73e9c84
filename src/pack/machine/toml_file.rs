//! TOML files whose faults have a line.

use std::ops::Range;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Reads a text; keys that are not known are faults if `T` says so. `help` is added to them.
pub(super) fn parse<T: DeserializeOwned>(text: &str, help: &str) -> Result<T> {
    toml::from_str(text).map_err(|e| {
        let words: Vec<&str> = e.message().lines().map(str::trim).collect();
        let message = words.join("; ").replace("field", "key");
        fault(text, e.span().unwrap_or_default(), message).with_help(help)
    })
}

/// An error at a place of the text.
pub(super) fn fault(text: &str, span: Range<usize>, message: impl Into<String>) -> Error {
    let before = text.get(..span.start.min(text.len())).unwrap_or(text);
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    Error::bad_input(message).at(before.matches('\n').count() + 1, column)
}
