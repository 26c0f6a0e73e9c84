//! The verifier's book: every query of every property of a call, and what is known of it so far.

use std::ops::Range;

use super::proof::{Claim, QueryProof};
use super::property::{Conjunction, Property, Query, Row};
use super::soundness::{round_down, round_up};
use super::split::{Boxes, Splits};
use super::state::Spec;
use super::verifier::{Counterexample, Outcome, Reason, Verdict};

/// A query on its way.
pub(super) struct Open<'a> {
    /// Its place in its property.
    pub index: usize,
    pub query: &'a Query,
    /// The best row of each condition, once bounds were computed.
    pub bounds: Vec<Option<Claim>>,
    /// How near an attack came to each condition.
    pub losses: Vec<f32>,
    /// The linear bound on the inputs of each condition's best row.
    pub forms: Vec<Option<Vec<f32>>>,
    /// How far splitting came, if this box was split.
    pub splits: Option<Splits>,
    pub state: State,
    pub proof: Option<QueryProof>,
    pub overflow: bool,
}

#[derive(PartialEq)]
pub(super) enum State {
    Undecided,
    Holds,
    Violated(Box<Counterexample>),
}

/// When a property is given up, and what that is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// From the start of the call.
    pub seconds: f64,
    pub reason: Reason,
}

/// What is known of one property: the range of its queries, its time limit, and when it was settled.
struct Entry {
    queries: Range<usize>,
    limit: Option<Limit>,
    settled: Option<f64>,
    late: bool,
}

/// All queries of a call.
pub(super) struct Book<'a> {
    pub open: Vec<Open<'a>>,
    entries: Vec<Entry>,
}

impl<'a> Open<'a> {
    fn new(index: usize, query: &'a Query) -> Self {
        let conditions = query.unsafe_if.len();
        Self {
            index,
            query,
            bounds: vec![None; conditions],
            losses: vec![0.0; conditions],
            forms: vec![None; conditions],
            splits: None,
            state: if conditions == 0 { State::Holds } else { State::Undecided },
            proof: None,
            overflow: false,
        }
    }

    /// Takes the form of each open condition's best row from those of all rows of this query.
    pub fn keep_forms(&mut self, forms: &[f32], n_in: usize) {
        let mut first = 0;
        for (conjunction, condition) in self.query.unsafe_if.iter().enumerate() {
            if let Some(claim) = self.bounds[conjunction].filter(|claim| claim.bound <= 0.0) {
                let row = first + claim.row;
                self.forms[conjunction] = Some(forms[row * n_in..(row + 1) * n_in].to_vec());
            }
            first += condition.len();
        }
    }

    /// Where the linear bound of a condition's best row is least.
    pub fn corner(&self, conjunction: usize) -> Option<Vec<f32>> {
        let form = self.forms[conjunction].as_ref()?;
        let ends = self.query.input.lo_out.iter().zip(&self.query.input.hi_out);
        Some(form.iter().zip(ends).map(|(&a, (&l, &h))| if a < 0.0 { round_up(h) } else { round_down(l) }).collect())
    }

    /// The tightest margin that is known.
    fn margin(&self) -> Option<f64> {
        let claims = || self.bounds.iter().flatten().map(|claim| claim.bound).reduce(f64::min);
        self.splits.as_ref().map_or_else(claims, |splits| Some(splits.margin))
    }
}

impl<'a> Book<'a> {
    /// Properties with their time limits.
    pub fn new(properties: &[(&'a Property, Option<Limit>)]) -> Self {
        let mut book = Self { open: Vec::new(), entries: Vec::with_capacity(properties.len()) };
        for (property, limit) in properties {
            let first = book.open.len();
            book.open.extend(property.queries.iter().enumerate().map(|(index, query)| Open::new(index, query)));
            let queries = first..book.open.len();
            book.entries.push(Entry { queries, limit: *limit, settled: None, late: false });
        }
        book
    }

    /// Undecided queries of properties that are neither settled nor out of time.
    pub fn todo(&self) -> Vec<usize> {
        let live = self.entries.iter().filter(|entry| entry.settled.is_none() && !entry.late);
        live.flat_map(|entry| entry.queries.clone()).filter(|&i| self.open[i].state == State::Undecided).collect()
    }

    /// Looks at the clock (`now`, in seconds from the start of the call) and hands every property that is newly settled or
    /// out of time to `each`.
    pub fn settle(&mut self, now: f64, each: &mut impl FnMut(usize, Outcome)) {
        for property in 0..self.entries.len() {
            let entry = &mut self.entries[property];
            if entry.settled.is_some() || entry.late {
                continue;
            }
            let mine = &self.open[entry.queries.clone()];
            let violated = mine.iter().any(|q| matches!(q.state, State::Violated(_)));
            let decided = violated || mine.iter().all(|q| q.state == State::Holds);
            // A cap ends the search; what was found by then is an answer. An answer behind a time limit is none.
            let late = entry.limit.is_some_and(|limit| now >= limit.seconds);
            entry.late = late && !(decided && entry.limit.is_some_and(|limit| limit.reason == Reason::Cap));
            if decided {
                entry.settled = Some(now);
            }
            if entry.settled.is_some() || entry.late {
                let reason = entry.limit.map_or(Reason::NotTight, |limit| limit.reason);
                let outcome = self.outcome(property, now, reason);
                each(property, outcome);
            }
        }
    }

    /// Hands over what was never settled.
    pub fn finish(&mut self, now: f64, each: &mut impl FnMut(usize, Outcome)) {
        self.settle(now, each);
        for property in 0..self.entries.len() {
            let entry = &self.entries[property];
            if entry.settled.is_none() && !entry.late {
                let overflow = self.open[entry.queries.clone()].iter().any(|q| q.overflow);
                let reason = if overflow { Reason::Overflow } else { Reason::NotTight };
                let outcome = self.outcome(property, now, reason);
                each(property, outcome);
            }
        }
    }

    fn outcome(&self, property: usize, seconds: f64, otherwise: Reason) -> Outcome {
        let entry = &self.entries[property];
        let mine = &self.open[entry.queries.clone()];
        let bounds = mine.iter().filter_map(Open::margin);
        // What no bound reached still has the number it started with, which says nothing.
        let margin = bounds.reduce(f64::min).filter(|&bound| bound > -super::soundness::HUGE / 4.0);
        let violated = mine.iter().find_map(|q| match &q.state {
            State::Violated(found) => Some(found.clone()),
            _ => None,
        });
        let holds = mine.iter().all(|q| q.state == State::Holds);
        let verdict = match violated {
            _ if entry.late => Verdict::Unknown(otherwise),
            Some(found) => Verdict::Violated(found),
            None if holds => Verdict::Holds,
            None => Verdict::Unknown(otherwise),
        };
        let proof = mine.iter().map(|q| q.proof.clone()).collect::<Option<Vec<_>>>();
        let boxes = mine.iter().filter_map(|q| q.splits.as_ref().map(|splits| splits.boxes)).reduce(Boxes::plus);
        Outcome { proof: proof.filter(|_| verdict == Verdict::Holds), verdict, margin, boxes, seconds }
    }
}

/// Whether `coefficients . y + constant <= 0` (or `< 0`) for every output within its error.
pub(super) fn surely_fulfilled(row: &Row, y: &[(f64, f64)]) -> bool {
    let mut value = row.constant;
    let mut error = row.slop;
    let mut size = row.constant.abs();
    for &(j, c) in &row.coefficients {
        let (v, e) = y[j];
        value += c * v;
        size += (c * v).abs();
        error += c.abs() * e + row.coefficient_rel * c.abs() * (v.abs() + e);
    }
    // Every one of the at most n + 1 additions and n products errs by at most 2^-53 of the sum of magnitudes.
    error += 2.0 * (row.coefficients.len() + 2) as f64 * f64::EPSILON * size;
    let top = value + error * (1.0 + 1e-12);
    if row.strict { top < 0.0 } else { top <= 0.0 }
}

pub(super) fn row_count(query: &Query) -> usize {
    query.unsafe_if.iter().map(Conjunction::len).sum()
}

/// The conditions that no bound excludes, those first to which the attack came nearest.
pub(super) fn nearest(open: &Open<'_>, most: usize) -> Vec<usize> {
    let excluded = |c: &usize| open.bounds[*c].as_ref().is_some_and(|claim| claim.bound > 0.0);
    let mut all: Vec<usize> = (0..open.bounds.len()).filter(|c| !excluded(c)).collect();
    all.sort_by(|&a, &b| open.losses[a].total_cmp(&open.losses[b]));
    all.truncate(most);
    all
}

/// The largest box of f32 values inside `[l, h]`, or the value nearest to it where there is none.
pub(super) fn inward(l: f64, h: f64) -> (f32, f32) {
    let (low, high) = (round_up(l), round_down(h));
    if low <= high { (low, high) } else { (((l + h) / 2.0) as f32, ((l + h) / 2.0) as f32) }
}

/// The rows of all queries, each padded to `rows`.
pub(super) fn specification(queries: &[&Query], rows: usize, outputs: usize) -> Spec {
    let mut spec = Spec { rows, outputs, ..Spec::default() };
    for query in queries {
        let all: Vec<&Row> = query.unsafe_if.iter().flatten().collect();
        for index in 0..rows {
            let mut dense = vec![0.0_f32; outputs];
            let (mut constant, mut error, mut rel) = (0.0, 0.0, 0.0_f32);
            if let Some(row) = all.get(index) {
                for &(j, c) in &row.coefficients {
                    dense[j] = c as f32;
                    let exact = f64::from(dense[j]) == c;
                    let rounded = if exact { 0.0 } else { 2.0_f64.powi(-23) };
                    rel = rel.max(round_up(row.coefficient_rel + rounded));
                }
                constant = row.constant as f32;
                error = round_up((f64::from(constant) - row.constant).abs() + row.slop);
            }
            spec.coefficients.extend(dense);
            spec.rel.push(rel);
            spec.state.extend([constant, error]);
            spec.used.push(u32::from(index < all.len()));
        }
    }
    spec
}

/// The best row of every condition.
pub(super) fn claims(query: &Query, margins: &[f32]) -> Vec<Option<Claim>> {
    let mut first = 0;
    query
        .unsafe_if
        .iter()
        .enumerate()
        .map(|(conjunction, condition)| {
            let rows = &margins[first..first + condition.len()];
            first += condition.len();
            let (row, &bound) = rows.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
            Some(Claim { conjunction, row, bound: f64::from(bound) })
        })
        .collect()
}
