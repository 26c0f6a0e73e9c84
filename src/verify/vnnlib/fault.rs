//! Errors at an offset, and the ones that several parts of the parser share.

use super::lexer::{Token, quoted};
use crate::error::Error;

/// A message about an offset in the text, made into an error with line and column by whoever has the text.
#[derive(Debug)]
pub(super) struct Fault {
    at: usize,
    error: Box<Error>,
}

impl Fault {
    pub(super) fn new(at: usize, error: Error, help: impl Into<String>) -> Self {
        Self { at, error: Box::new(error.with_help(help)) }
    }

    pub(super) fn placed(self, place: impl Fn(usize) -> (usize, usize)) -> Error {
        let (line, column) = place(self.at);
        self.error.at(line, column)
    }
}

pub(super) fn unexpected(token: Token<'_>, at: usize, expected: &str, help: &str) -> Fault {
    let found = match token {
        Token::Open => "`(`".to_owned(),
        Token::Close => "`)`".to_owned(),
        Token::Atom(atom) => quoted(atom),
        Token::Quoted => "quoted text".to_owned(),
        Token::End => "the end of the file".to_owned(),
    };
    Fault::new(at, Error::bad_input(format!("expected {expected}, found {found}")), help)
}

pub(super) fn no_conditions(head: &str, at: usize) -> Fault {
    let error = Error::bad_input(format!("`{head}` has no conditions"));
    Fault::new(at, error, format!("put at least one condition into it, or remove the `({head})`"))
}

pub(super) fn unknown_condition(head: &str, at: usize) -> Fault {
    match head {
        "assert" | "declare-const" | "declare-fun" => {
            let error = Error::bad_input(format!("`{head}` inside a condition"));
            Fault::new(at, error, "a `)` is missing before it")
        }
        "not" | "=>" | "xor" | "ite" | "let" | "distinct" => {
            let error = Error::unsupported(format!("`{head}` is not supported in conditions"));
            Fault::new(at, error, "write the condition with `and`, `or` and comparisons")
        }
        _ => {
            let error = Error::bad_input(format!("unknown condition {}", quoted(head)));
            Fault::new(at, error, "conditions start with `<=`, `>=`, `<`, `>`, `=`, `and` or `or`")
        }
    }
}

pub(super) fn unknown_arithmetic(head: &str, at: usize, help: &str) -> Fault {
    if head == "/" {
        let error = Error::unsupported("`/` is not supported");
        return Fault::new(at, error, "write the quotient as a decimal, or multiply the comparison by the divisor");
    }
    Fault::new(at, Error::bad_input(format!("unknown operator {}", quoted(head))), help)
}
