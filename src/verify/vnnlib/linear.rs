//! Linear expressions over the variables, and the rows they become.

use super::number::Number;
use crate::verify::property::Row;

/// An input `X_i` or an output `Y_i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Variable {
    /// `X_i`
    Input(u32),
    /// `Y_i`
    Output(u32),
}

/// One side of a comparison. The two simple cases spare an allocation: big files have millions of them.
#[derive(Debug, Clone)]
pub(super) enum Operand {
    /// A constant.
    Number(Number),
    /// A variable.
    Variable(Variable),
    /// Anything else.
    Sum(Linear),
}

/// A sum of multiples of variables (in any order, repetitions allowed) and a constant.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    terms: Vec<(Variable, Number)>,
    constant: Number,
}

/// A [`Linear`] with its like terms collected and those that vanish removed; indices ascend.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) inputs: Vec<(u32, Number)>,
    pub(super) outputs: Vec<(u32, Number)>,
    pub(super) constant: Number,
}

/// Why a comparison cannot become a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowProblem {
    /// A number overflowed `f64`.
    TooLarge,
    /// A coefficient is not 0 but so small, or so badly cancelled, that `f64` cannot hold it.
    Lost(u32),
}

impl Operand {
    fn into_linear(self) -> Linear {
        match self {
            Self::Number(constant) => Linear { terms: Vec::new(), constant },
            Self::Variable(v) => Linear { terms: vec![(v, Number::ONE)], constant: Number::ZERO },
            Self::Sum(linear) => linear,
        }
    }

    /// The constant, if the operand has no variables.
    pub(super) fn as_number(&self) -> Option<Number> {
        match self {
            Self::Number(n) => Some(*n),
            Self::Sum(linear) if linear.terms.is_empty() => Some(linear.constant),
            _ => None,
        }
    }

    pub(super) fn negated(self) -> Self {
        self.mapped(Number::negated)
    }

    pub(super) fn plus(self, other: Self) -> Self {
        if let (Some(a), Some(b)) = (self.as_number(), other.as_number()) {
            return Self::Number(a.plus(b));
        }
        let (mut sum, other) = (self.into_linear(), other.into_linear());
        sum.terms.extend(other.terms);
        sum.constant = sum.constant.plus(other.constant);
        Self::Sum(sum)
    }

    /// The product, if at least one factor is a constant.
    pub(super) fn times(self, other: Self) -> Option<Self> {
        match (self.as_number(), other.as_number()) {
            (_, Some(factor)) => Some(self.scaled(factor)),
            (Some(factor), None) => Some(other.scaled(factor)),
            (None, None) => None,
        }
    }

    fn scaled(self, factor: Number) -> Self {
        self.mapped(|n| n.times(factor))
    }

    /// The operand with each number of it changed.
    fn mapped(self, change: impl Fn(Number) -> Number) -> Self {
        if let Some(n) = self.as_number() {
            return Self::Number(change(n));
        }
        let mut linear = self.into_linear();
        for (_, coefficient) in &mut linear.terms {
            *coefficient = change(*coefficient);
        }
        linear.constant = change(linear.constant);
        Self::Sum(linear)
    }

    /// Collects like terms.
    pub(super) fn collected(self) -> Collected {
        let Linear { mut terms, constant } = self.into_linear();
        // Stable, so that sums of the same file are always formed in the same order.
        terms.sort_by_key(|&(variable, _)| variable);
        let mut collected = Collected { inputs: Vec::new(), outputs: Vec::new(), constant };
        for group in terms.chunk_by(|a, b| a.0 == b.0) {
            let sum = group.iter().fold(Number::ZERO, |sum, &(_, n)| sum.plus(n));
            match group.first().map(|&(variable, _)| variable) {
                Some(Variable::Input(i)) if !sum.is_zero() => collected.inputs.push((i, sum)),
                Some(Variable::Output(i)) if !sum.is_zero() => collected.outputs.push((i, sum)),
                _ => {}
            }
        }
        collected
    }
}

impl Collected {
    /// The condition `self <= 0` (or `< 0`), or with `negate` `-self <= 0`, as a row over the outputs.
    pub(super) fn row(&self, negate: bool, strict: bool) -> Result<Row, RowProblem> {
        let signed = |n: Number| if negate { n.negated() } else { n };
        let mut coefficients = Vec::with_capacity(self.outputs.len());
        let mut coefficient_rel = 0.0_f64;
        for &(index, coefficient) in &self.outputs {
            if !coefficient.is_finite() {
                return Err(RowProblem::TooLarge);
            }
            let relative = coefficient.relative_error();
            if relative >= 1.0 {
                return Err(RowProblem::Lost(index));
            }
            coefficient_rel = coefficient_rel.max(relative);
            coefficients.push((index as usize, signed(coefficient).value));
        }
        let constant = signed(self.constant);
        if !constant.is_finite() {
            return Err(RowProblem::TooLarge);
        }
        Ok(Row { coefficients, constant: constant.value, slop: constant.error, coefficient_rel, strict })
    }
}
