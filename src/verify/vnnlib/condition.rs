//! Comparisons become bounds of inputs or rows over outputs.

use super::assemble::{Bound, Conjunct, Interval};
use super::fault::Fault;
use super::linear::{Collected, RowProblem};
use super::number::Number;
use crate::error::Error;

const LINEAR_HELP: &str =
    "bound each input by constants, and put the conditions on the outputs into comparisons of their own";

const LOST_HELP: &str = "simplify the condition by hand: factors that are 0 or at least 1e-300 in size are kept";

/// A comparison, left to right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    Less { strict: bool },
    Greater { strict: bool },
}

impl Relation {
    pub(super) fn of(head: &str) -> Option<Self> {
        Some(match head {
            "=" => Self::Equal,
            "<=" => Self::Less { strict: false },
            "<" => Self::Less { strict: true },
            ">=" => Self::Greater { strict: false },
            ">" => Self::Greater { strict: true },
            _ => return None,
        })
    }

    /// The relation with its sides exchanged.
    pub(super) fn mirrored(self) -> Self {
        match self {
            Self::Equal => Self::Equal,
            Self::Less { strict } => Self::Greater { strict },
            Self::Greater { strict } => Self::Less { strict },
        }
    }
}

/// Adds `X_index relation bound`.
pub(super) fn add_bound(
    into: &mut Conjunct,
    index: u32,
    relation: Relation,
    bound: Number,
    at: usize,
) -> Result<(), Fault> {
    if !bound.is_finite() {
        return Err(too_large(at));
    }
    let mut push = |interval| into.bounds.push(Bound { input: index, at, interval });
    match relation {
        Relation::Less { strict } => push(Interval::at_most(bound, strict)),
        Relation::Greater { strict } => push(Interval::at_least(bound, strict)),
        Relation::Equal => {
            push(Interval::at_least(bound, false));
            push(Interval::at_most(bound, false));
        }
    }
    Ok(())
}

/// Adds `difference relation 0`.
pub(super) fn add_linear(
    into: &mut Conjunct,
    relation: Relation,
    difference: &Collected,
    at: usize,
) -> Result<(), Fault> {
    let unsupported = |message: String, help: &str| Err(Fault::new(at, Error::unsupported(message), help));
    match (difference.inputs.as_slice(), difference.outputs.as_slice()) {
        ([], _) => add_rows(into, relation, difference, at),
        ([(index, factor), rest @ ..], []) => {
            if let Some((other, _)) = rest.first() {
                return unsupported(format!("this condition relates the inputs X_{index} and X_{other}"), LINEAR_HELP);
            }
            let constant = difference.constant;
            if *factor == Number::ONE {
                add_bound(into, *index, relation, constant.negated(), at)
            } else if *factor == Number::ONE.negated() {
                add_bound(into, *index, relation.mirrored(), constant, at)
            } else {
                let help =
                    format!("divide by hand and write `(<= X_{index} c)` with the quotient for c, rounded outward");
                unsupported(format!("X_{index} has a factor in this bound"), &help)
            }
        }
        ([(input, _), ..], [(output, _), ..]) => {
            unsupported(format!("this condition relates the input X_{input} and the output Y_{output}"), LINEAR_HELP)
        }
    }
}

fn add_rows(into: &mut Conjunct, relation: Relation, difference: &Collected, at: usize) -> Result<(), Fault> {
    let sides: &[(bool, bool)] = match relation {
        Relation::Less { strict } => &[(false, strict)],
        Relation::Greater { strict } => &[(true, strict)],
        Relation::Equal => &[(false, false), (true, false)],
    };
    for &(negate, strict) in sides {
        let row = difference.row(negate, strict).map_err(|problem| match problem {
            RowProblem::TooLarge => too_large(at),
            RowProblem::Lost(index) => {
                let error =
                    Error::unsupported(format!("the factor of Y_{index} in this condition is lost in rounding to f64"));
                Fault::new(at, error, LOST_HELP)
            }
        })?;
        into.rows.push(row);
    }
    Ok(())
}

fn too_large(at: usize) -> Fault {
    let error = Error::bad_input("a number in this condition is beyond the range of f64 (1.8e308)");
    Fault::new(at, error, "scale the condition down")
}
