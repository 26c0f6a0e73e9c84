//! From conditions to queries: disjunctions multiply out, boxes intersect, alternatives with the same box share a query.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::fault::Fault;
use super::number::Number;
use crate::error::{Error, ErrorKind, Result};
use crate::verify::property::{Conjunction, InputBox, Query, Row};

/// Most alternatives that a property may multiply out to.
const MAX_TERMS: usize = 100_000;
/// Most coefficients and conditions that the alternatives may have in all once multiplied out.
const MAX_CONDITIONS: usize = 5_000_000;
/// Most input intervals of all boxes together (32 bytes each).
pub(super) const MAX_INTERVALS: usize = 1 << 26;

/// A range of one input; infinite where there is no bound. Fields as in [`InputBox`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Interval {
    lo: f64,
    hi: f64,
    lo_out: f64,
    hi_out: f64,
}

/// A bound on one input as the file states it, with its offset in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) input: u32,
    pub(super) at: usize,
    pub(super) interval: Interval,
}

/// Conditions that must hold together.
#[derive(Debug, Default)]
pub(super) struct Conjunct {
    pub(super) bounds: Vec<Bound>,
    pub(super) rows: Vec<Row>,
    pub(super) choices: Vec<Choice>,
}

/// An `or` with its offset: one of the terms must hold.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) at: usize,
    pub(super) terms: Vec<Term>,
}

/// A conjunction without disjunctions inside: rows, and the groups (indices into [`Groups`]) whose input bounds it takes.
#[derive(Debug, Clone, Default)]
pub(super) struct Term {
    groups: Vec<u32>,
    rows: Vec<Row>,
}

/// The input bounds of one group inside an `or`: each input once, ascending.
#[derive(Debug)]
struct Group {
    at: usize,
    bounds: Vec<(u32, Interval)>,
}

/// All groups of a file. Terms share them by index, so that multiplying out copies no bounds.
#[derive(Debug, Default)]
pub(super) struct Groups(Vec<Group>);

impl Interval {
    const ALL: Self =
        Self { lo: f64::NEG_INFINITY, hi: f64::INFINITY, lo_out: f64::NEG_INFINITY, hi_out: f64::INFINITY };

    /// `x <= bound`, or `x < bound`: then the inner end is an `f64` that is certainly below the bound.
    pub(super) fn at_most(bound: Number, strict: bool) -> Self {
        let hi = match (strict, bound.error == 0.0) {
            (false, _) => bound.value,
            (true, true) => bound.value.next_down(),
            (true, false) => bound.below(),
        };
        Self { hi, hi_out: bound.above(), ..Self::ALL }
    }

    /// `x >= bound`, or `x > bound`.
    pub(super) fn at_least(bound: Number, strict: bool) -> Self {
        let mirrored = Self::at_most(bound.negated(), strict);
        Self { lo: 0.0 - mirrored.hi, lo_out: 0.0 - mirrored.hi_out, ..Self::ALL }
    }

    fn meet(self, other: Self) -> Self {
        Self {
            lo: self.lo.max(other.lo),
            hi: self.hi.min(other.hi),
            lo_out: self.lo_out.max(other.lo_out),
            hi_out: self.hi_out.min(other.hi_out),
        }
    }

    /// True if no `f64` is left for an attack.
    fn is_empty(self) -> bool {
        self.lo > self.hi
    }

    /// True if no real number is left: the real ends lie beyond the outward ones, and where those are the same number
    /// and the inner ends cross, a bound was strict.
    fn is_certainly_empty(self) -> bool {
        self.is_empty() && self.lo_out >= self.hi_out
    }

    fn bits(self) -> [u64; 4] {
        [self.lo, self.hi, self.lo_out, self.hi_out].map(f64::to_bits)
    }
}

impl Groups {
    /// Multiplies out the conditions of one alternative of an `or` at offset `at`.
    pub(super) fn close(&mut self, conjunct: Conjunct, at: usize) -> Result<Vec<Term>, Fault> {
        let mut own = Term { groups: Vec::new(), rows: conjunct.rows };
        if !conjunct.bounds.is_empty() {
            own.groups.push(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
            self.0.push(Group { at, bounds: merged(conjunct.bounds)? });
        }
        multiplied(own, conjunct.choices)
    }
}

impl Term {
    /// Its size: what a copy of it costs.
    fn weight(&self) -> usize {
        self.groups.len() + weight(&self.rows)
    }
}

fn weight(rows: &[Row]) -> usize {
    rows.iter().map(|r| 1 + r.coefficients.len()).sum()
}

/// Alternatives with the sum of their weights.
struct Product {
    terms: Vec<Term>,
    weight: usize,
}

/// The alternatives in which `own` holds and one term of each choice; the first choice varies
/// slowest.
fn multiplied(own: Term, mut choices: Vec<Choice>) -> Result<Vec<Term>, Fault> {
    let weight = own.weight();
    if let (0, [only]) = (weight, choices.as_mut_slice()) {
        return Ok(std::mem::take(&mut only.terms));
    }
    let mut product = Product { weight, terms: vec![own] };
    for choice in choices {
        let factor = Product { weight: choice.terms.iter().map(Term::weight).sum(), terms: choice.terms };
        product = product.times(factor, choice.at)?;
    }
    Ok(product.terms)
}

impl Product {
    fn times(mut self, mut choice: Self, at: usize) -> Result<Self, Fault> {
        if self.terms.len() == 1 && self.weight == 0 {
            return Ok(choice);
        }
        let weight = self.check(&choice, at)?;
        // One alternative is added in place: a file may have a great many of these, and copies would take quadratic time.
        if let [only] = choice.terms.as_mut_slice() {
            let only = std::mem::take(only);
            for left in &mut self.terms {
                left.groups.extend_from_slice(&only.groups);
                left.rows.extend_from_slice(&only.rows);
            }
            return Ok(Self { weight, ..self });
        }
        let mut terms = Vec::with_capacity(self.terms.len() * choice.terms.len());
        for left in &self.terms {
            for right in &choice.terms {
                terms.push(Term {
                    groups: left.groups.iter().chain(&right.groups).copied().collect(),
                    rows: left.rows.iter().chain(&right.rows).cloned().collect(),
                });
            }
        }
        Ok(Self { terms, weight })
    }

    /// The weight of the product with a choice at offset `at`, if the limits allow it.
    fn check(&self, choice: &Self, at: usize) -> Result<usize, Fault> {
        let count = self.terms.len().saturating_mul(choice.terms.len());
        let (left, right) =
            (self.weight.saturating_mul(choice.terms.len()), choice.weight.saturating_mul(self.terms.len()));
        let weight = left.saturating_add(right);
        // What the file itself spells out is not held against it: only what copying adds.
        let copied = weight.saturating_sub(self.weight.saturating_add(choice.weight));
        if count > MAX_TERMS && count > choice.terms.len() {
            let message = format!(
                "with this `or` the property multiplies out to {count} alternatives; at most {MAX_TERMS} are read"
            );
            return Err(too_big(at, message));
        }
        if copied > MAX_CONDITIONS {
            let message = format!(
                "with this `or` the property multiplies out to {weight} coefficients; at most {MAX_CONDITIONS} are read"
            );
            return Err(too_big(at, message));
        }
        Ok(weight)
    }
}

fn too_big(at: usize, message: impl Into<String>) -> Fault {
    let help = "split the property: one file for each part of the `or`";
    Fault::new(at, Error::new(ErrorKind::TooBig, message), help)
}

/// Sorts bounds by input and intersects those on the same one.
fn merged(mut bounds: Vec<Bound>) -> Result<Vec<(u32, Interval)>, Fault> {
    bounds.sort_by_key(|b| b.input);
    let mut merged: Vec<(u32, Interval)> = Vec::with_capacity(bounds.len() / 2 + 1);
    for bound in bounds {
        match merged.last_mut() {
            Some((input, interval)) if *input == bound.input => {
                *interval = interval.meet(bound.interval);
                if interval.is_empty() {
                    return Err(empty(bound.at, bound.input, *interval));
                }
            }
            _ => merged.push((bound.input, bound.interval)),
        }
    }
    Ok(merged)
}

fn empty(at: usize, input: u32, interval: Interval) -> Fault {
    let Interval { lo, hi, .. } = interval;
    let message = format!("no value is left for X_{input}: it must be at least {lo} and at most {hi}");
    Fault::new(at, Error::bad_input(message), "swap the two bounds, or remove the one that does not belong")
}

/// The plain asserts of a file, and what its `or`s are multiplied into.
#[derive(Debug)]
pub(super) struct Assembler<'a> {
    groups: &'a [Group],
    base: Vec<Interval>,
    rows: Vec<Row>,
    queries: Vec<Query>,
    /// The query of each set of groups met; `None` if their boxes have no point in common.
    by_groups: HashMap<Vec<u32>, Option<usize>>,
    /// Queries, with the number of inputs in which each differs from the base box, by the hash of those differences.
    by_box: HashMap<u64, Vec<(usize, usize)>>,
    /// Where each input was declared.
    declared: &'a [usize],
    /// [`MAX_INTERVALS`], or less in tests.
    max_intervals: usize,
}

impl<'a> Assembler<'a> {
    /// The queries of a whole file, from all of its asserts taken together.
    pub(super) fn run(
        conjunct: Conjunct,
        groups: &'a Groups,
        declared: &'a [usize],
        max_intervals: usize,
    ) -> Result<Vec<Query>, Fault> {
        let mut base = vec![Interval::ALL; declared.len()];
        for bound in conjunct.bounds {
            if let Some(interval) = base.get_mut(bound.input as usize) {
                *interval = interval.meet(bound.interval);
                if interval.is_empty() {
                    return Err(empty(bound.at, bound.input, *interval));
                }
            }
        }
        let mut assembler = Self {
            groups: &groups.0,
            base,
            rows: conjunct.rows,
            queries: Vec::new(),
            by_groups: HashMap::new(),
            by_box: HashMap::new(),
            declared,
            max_intervals,
        };
        let last = conjunct.choices.last().map_or(0, |c| c.at);
        let terms = multiplied(Term::default(), conjunct.choices)?;
        assembler.distribute(terms, last)?;
        Ok(assembler.queries)
    }

    /// Gives each term to the query of its box.
    fn distribute(&mut self, terms: Vec<Term>, last_choice: usize) -> Result<(), Fault> {
        let common = weight(&self.rows);
        if terms.len() > 1 && common.saturating_mul(terms.len()) > MAX_CONDITIONS {
            let message = format!("{} alternatives share {common} coefficients, too many to write out", terms.len());
            return Err(too_big(last_choice, message));
        }
        for term in terms {
            let Some(query) = self.query_of(term.groups)? else {
                continue;
            };
            let conjunction: Conjunction = self.rows.iter().cloned().chain(term.rows).collect();
            if let Some(query) = self.queries.get_mut(query) {
                query.unsafe_if.push(conjunction);
            }
        }
        if self.queries.is_empty() {
            let message = "the input bounds of the `or`s contradict each other in every combination";
            let help = "check the bounds on the inputs: no input is left to look at";
            return Err(Fault::new(last_choice, Error::bad_input(message), help));
        }
        Ok(())
    }

    /// The query for a set of groups, made if its box is new; `None` if the box is empty.
    fn query_of(&mut self, groups: Vec<u32>) -> Result<Option<usize>, Fault> {
        if let Some(&query) = self.by_groups.get(&groups) {
            return Ok(query);
        }
        let query = match self.changes(&groups)? {
            None => None,
            Some(changes) => Some(self.query_with(&changes, &groups)?),
        };
        self.by_groups.insert(groups, query);
        Ok(query)
    }

    /// The inputs whose interval the groups make smaller than the base box has it; `None` if they
    /// have no point in common. A single group that contradicts the plain asserts is a mistake in
    /// the file; several groups may well exclude each other.
    fn changes(&self, groups: &[u32]) -> Result<Option<Vec<(u32, Interval)>>, Fault> {
        let groups: Vec<&Group> = groups.iter().filter_map(|&g| self.groups.get(g as usize)).collect();
        let mut all: Vec<(u32, Interval)> = groups.iter().flat_map(|g| &g.bounds).copied().collect();
        if groups.len() > 1 {
            all.sort_by_key(|&(input, _)| input);
        }
        let mut changes = Vec::with_capacity(all.len());
        for same in all.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(input, _)) = same.first() else {
                continue;
            };
            let Some(&base) = self.base.get(input as usize) else {
                continue;
            };
            let interval = same.iter().fold(base, |meet, &(_, interval)| meet.meet(interval));
            if interval.is_empty() {
                return match groups.as_slice() {
                    [_, _, ..] if interval.is_certainly_empty() => Ok(None),
                    [.., last] => Err(empty(last.at, input, interval)),
                    [] => Ok(None),
                };
            }
            if interval != base {
                changes.push((input, interval));
            }
        }
        Ok(Some(changes))
    }

    /// The query whose box is the base box with these changes.
    fn query_with(&mut self, changes: &[(u32, Interval)], groups: &[u32]) -> Result<usize, Fault> {
        let mut hasher = DefaultHasher::new();
        for (input, interval) in changes {
            (input, interval.bits()).hash(&mut hasher);
        }
        let hash = hasher.finish();
        let alike = self.by_box.get(&hash).into_iter().flatten();
        // Every change differs from the base, so a box with as many changes and these among them is the same box.
        let found = alike.filter(|(_, count)| *count == changes.len()).find(|(query, _)| {
            self.queries.get(*query).is_some_and(|q| changes.iter().all(|&(i, c)| interval_of(&q.input, i) == Some(c)))
        });
        if let Some(&(query, _)) = found {
            return Ok(query);
        }
        let query = self.queries.len();
        let at = groups.last().and_then(|&g| self.groups.get(g as usize)).map(|g| g.at);
        if (query + 1).saturating_mul(self.base.len()) > self.max_intervals {
            let message = format!("{} boxes of {} inputs are too many to hold", query + 1, self.base.len());
            return Err(too_big(at.unwrap_or(0), message));
        }
        let input = self.boxed(changes, at)?;
        self.queries.push(Query { input, unsafe_if: Vec::new() });
        self.by_box.entry(hash).or_default().push((query, changes.len()));
        Ok(query)
    }

    /// The base box with changes; `at` is the group they come from. Every input must have both bounds.
    fn boxed(&self, changes: &[(u32, Interval)], at: Option<usize>) -> Result<InputBox, Fault> {
        let column = |f: fn(&Interval) -> f64| -> Vec<f64> {
            let mut column: Vec<f64> = self.base.iter().map(f).collect();
            for (input, interval) in changes {
                if let Some(end) = column.get_mut(*input as usize) {
                    *end = f(interval);
                }
            }
            column
        };
        let (lo, hi) = (column(|i| i.lo), column(|i| i.hi));
        let open = lo.iter().zip(&hi).position(|(lo, hi)| lo.is_infinite() || hi.is_infinite());
        if let Some(input) = open {
            let (which, sign) = if lo[input].is_infinite() { ("lower", ">=") } else { ("upper", "<=") };
            let place = if at.is_some() { " in this part of the `or`" } else { "" };
            let error = Error::bad_input(format!("X_{input} has no {which} bound{place}"));
            let at = at.or_else(|| self.declared.get(input).copied()).unwrap_or(0);
            return Err(Fault::new(at, error, format!("add `(assert ({sign} X_{input} c))` with a number for c")));
        }
        Ok(InputBox { lo, hi, lo_out: column(|i| i.lo_out), hi_out: column(|i| i.hi_out) })
    }
}

fn interval_of(input: &InputBox, index: u32) -> Option<Interval> {
    let i = index as usize;
    Some(Interval {
        lo: *input.lo.get(i)?,
        hi: *input.hi.get(i)?,
        lo_out: *input.lo_out.get(i)?,
        hi_out: *input.hi_out.get(i)?,
    })
}
