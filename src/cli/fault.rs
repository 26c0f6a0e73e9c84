//! How errors look: code, place, message, cause and next step; and their JSON form.

use std::error::Error as _;
use std::process::ExitCode;

use serde::Serialize;
use wavehull::{Error, ErrorKind};

use super::{Global, SCHEMA, exit_code};

/// An error in JSON.
#[derive(Debug, Serialize)]
pub struct Fault {
    code: &'static str,
    message: String,
    file: Option<String>,
    line: Option<usize>,
    column: Option<usize>,
    cause: Option<String>,
    help: Option<String>,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    error: Fault,
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        let position = error.place().and_then(|p| p.position);
        Self {
            code: error.kind().code(),
            message: error.message().to_owned(),
            file: error.place().map(|p| p.file.display().to_string()),
            line: position.map(|p| p.0),
            column: position.map(|p| p.1),
            cause: causes(error),
            help: help(error).map(str::to_owned),
        }
    }
}

/// Prints an error and gives the exit code of its kind.
pub fn report(error: &Error, json: bool, global: &Global) -> ExitCode {
    eprintln!("{}", text(error, global));
    if json {
        // Should even that fail, the text above has said it.
        let _ = global.print_json(&Document { schema: SCHEMA, error: Fault::from(error) });
    }
    ExitCode::from(exit_code(error))
}

/// The error as lines of text for stderr.
pub fn text(error: &Error, global: &Global) -> String {
    let style = global.err;
    let mut text = format!("{} {error}", style.red(&format!("error[{}]:", error.kind().code())));
    if let Some(causes) = causes(error) {
        text.push_str(&format!("\n  {} {causes}", style.dim("cause:")));
    }
    if let Some(help) = help(error) {
        text.push_str(&format!("\n  {} {help}", style.cyan("help:")));
    }
    text
}

/// The next step: the error's own, or what helps with its kind.
fn help(error: &Error) -> Option<&str> {
    error.help().or(match error.kind() {
        ErrorKind::Io => Some("check the path, and that you may read or write there"),
        ErrorKind::BadInput | ErrorKind::Unsupported => Some("`wavehull COMMAND --help` says what is read"),
        ErrorKind::TooBig | ErrorKind::OutOfMemory => Some("`--memory MIB` sets how much device memory may be used"),
        _ => None,
    })
}

/// The chain of causes in one line, without those that only repeat what was said.
fn causes(error: &Error) -> Option<String> {
    let mut said = error.message().to_owned();
    let mut chain = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let line = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if !said.contains(&line) {
            said.push_str(&line);
            chain.push(line);
        }
        next = cause.source();
    }
    (!chain.is_empty()).then(|| chain.join(": "))
}
