//! Names of variables and their declarations.

use std::collections::BTreeMap;

use super::fault::Fault;
use super::lexer::quoted;
use super::linear::Variable;
use crate::error::Error;

/// How variables are named, for the `help` of errors.
pub(super) const NAME_HELP: &str = "inputs are named X_0, X_1, ... and outputs Y_0, Y_1, ...";

/// The declared variables of one letter. Indices must end up without gaps; only a run from 0 can be used.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// Offset of the declaration of 0, 1, ...
    pub(super) run: Vec<usize>,
    /// Declared beyond the run, with offset.
    pub(super) early: BTreeMap<u32, usize>,
}

impl Declared {
    /// Adds an index; false if it is there already.
    pub(super) fn add(&mut self, index: u32, at: usize) -> bool {
        let next = self.run.len();
        if (index as usize) < next || self.early.contains_key(&index) {
            return false;
        }
        self.early.insert(index, at);
        while let Some(entry) = self.early.first_entry() {
            if *entry.key() as usize != self.run.len() {
                break;
            }
            self.run.push(entry.remove());
        }
        true
    }

    /// An error if there is a gap.
    pub(super) fn check(&self, letter: char) -> Result<(), Fault> {
        let Some((index, &at)) = self.early.first_key_value() else {
            return Ok(());
        };
        let missing = self.run.len();
        let error = Error::bad_input(format!("{letter}_{index} is declared but {letter}_{missing} is not"));
        Err(Fault::new(at, error, format!("declare {letter}_0, {letter}_1, ... without gaps, before their first use")))
    }
}

/// `X_12` or `Y_0`.
pub(super) fn variable(name: &str, at: usize) -> Result<Variable, Fault> {
    let index = |digits: &str| {
        let canonical = digits == "0" || !digits.starts_with(['0', '+']);
        digits.parse::<u32>().ok().filter(|&i| canonical && i < u32::MAX)
    };
    let found = match (name.strip_prefix("X_"), name.strip_prefix("Y_")) {
        (Some(digits), _) => index(digits).map(Variable::Input),
        (_, Some(digits)) => index(digits).map(Variable::Output),
        _ => None,
    };
    found.ok_or_else(|| {
        let error = Error::bad_input(format!("{} is neither a number nor a name of an input or output", quoted(name)));
        Fault::new(at, error, NAME_HELP)
    })
}

/// The error for the words that other formats use for NaN and infinity.
pub(super) fn not_a_number(atom: &str) -> Option<Error> {
    let word = atom.trim_start_matches(['-', '+']);
    let is = ["nan", "inf", "infinity", "oo"].iter().any(|w| word.eq_ignore_ascii_case(w));
    is.then(|| Error::bad_input(format!("{} is not a real number", quoted(atom))))
}
