//! `[members]` and `[search]`.

use super::{Length, Scope, setting};
use crate::error::Result;
use crate::files::tree::{Item, Section, Table, Value};
use crate::train::hyper::{Hyper, Key, Kind, Setting};
use crate::train::search::{Asha, Domain, Early, Goal, Ladder, RandomSearch, Searcher, Space, SuccessiveHalving};

/// One member of an array.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its seed.
    pub seed: u64,
    /// All hyper-parameters that were set for it or for all.
    pub hyper: Hyper,
}

/// Most members that a file may ask for: a slip in a grid must not fill the memory.
const MOST: usize = 65_536;

/// One key of `[members]`: name, place, values; a scalar has one and goes with any list.
struct Axis {
    key: &'static Key,
    at: usize,
    scalar: bool,
    values: Vec<Setting>,
}

pub(super) fn parse(section: Section<'_>, scope: &Scope<'_>, base: &Hyper) -> Result<Vec<Member>> {
    let mut axes = Vec::new();
    for (name, at, item) in &section.table.entries {
        if !["seeds", "combine"].contains(&name.as_str()) {
            let key = scope.key(&section, name, *at, &["seeds", "combine"])?;
            let (scalar, values) = values(&section, key, item)?;
            axes.push(Axis { key, at: *at, scalar, values });
        }
    }
    let zip = section.word("combine", &[("grid", false), ("zip", true)])?.unwrap_or(false);
    let seeds = seeds(&section, scope.train.seed)?;
    let settings = if zip { zipped(&section, &axes)? } else { crossed(&section, &axes)? };
    if settings.len().saturating_mul(seeds.len()) > MOST {
        return Err(section.fault(section.table.at, format!("[members] asks for more than {MOST} members")));
    }
    let mut members = Vec::new();
    for own in &settings {
        let hyper = base.clone().over(own);
        members.extend(seeds.iter().map(|&seed| Member { seed, hyper: hyper.clone() }));
    }
    Ok(members)
}

/// The value of a scalar, the values of a list, or those of a range.
fn values(section: &Section<'_>, key: &'static Key, item: &Item) -> Result<(bool, Vec<Setting>)> {
    let nested = |list: &[Item]| list.iter().all(|i| matches!(i.value, Value::List(_)));
    match &item.value {
        Value::List(list) if list.is_empty() => Err(section.fault(item.at, format!("'{}' is an empty list", key.name))),
        Value::List(list) if key.kind != Kind::Widths || nested(list) => {
            Ok((false, list.iter().map(|i| setting(section, key, i)).collect::<Result<_>>()?))
        }
        Value::Table(table) => Ok((false, range(section, key, table)?)),
        _ => Ok((true, vec![setting(section, key, item)?])),
    }
}

/// `from`, `to` and `scale` of a range.
fn ends(inner: &Section<'_>) -> Result<(f64, f64, bool)> {
    let end = |name: &str| {
        inner.number(name, "a number", |_| true)?.ok_or_else(|| inner.missing(name, "a range has both ends"))
    };
    let (from, to) = (end("from")?, end("to")?);
    let log = inner.word("scale", &[("linear", false), ("log", true)])?.unwrap_or(false);
    if log && (from <= 0.0 || to <= 0.0) {
        return Err(inner.fault(inner.table.at, "a logarithmic range has both ends above 0"));
    }
    Ok((from, to, log))
}

fn range(section: &Section<'_>, key: &Key, table: &Table) -> Result<Vec<Setting>> {
    let name = format!("the range of '{}'", key.name);
    let inner = section.within(&name, table);
    inner.only(&["from", "to", "count", "scale"])?;
    let (from, to, log) = ends(&inner)?;
    let count = inner.whole("count", 1..=MOST as u64)?.ok_or_else(|| inner.missing("count", "how many values"))?;
    let value = |i: u64| {
        let share = if count > 1 { i as f64 / (count - 1) as f64 } else { 0.0 };
        let x = match i {
            0 => from,
            _ if i + 1 == count => to,
            _ if log => (from.ln() + (to.ln() - from.ln()) * share).exp(),
            _ => from + (to - from) * share,
        };
        let setting = Setting::Number(if key.kind == Kind::Count { x.round() } else { x });
        key.check(&setting).map(|()| setting).map_err(|e| section.place(table.at, e))
    };
    (0..count).map(value).collect()
}

/// `seeds = 8` are eight from that of `[train]` on; a list is taken as it is.
fn seeds(section: &Section<'_>, first: u64) -> Result<Vec<u64>> {
    if let Some(Item { at, value: Value::List(list) }) = section.item("seeds") {
        let seed = |i: &Item| match i.value {
            Value::Whole(seed) if seed >= 0 => Ok(seed as u64),
            _ => Err(section.fault(i.at, "a seed is a whole number of at least 0")),
        };
        let list = list.iter().map(seed).collect::<Result<Vec<_>>>()?;
        return if list.is_empty() { Err(section.fault(*at, "'seeds' is an empty list")) } else { Ok(list) };
    }
    let count = section.whole("seeds", 1..=MOST as u64)?.unwrap_or(1);
    Ok((0..count).map(|i| first.wrapping_add(i)).collect())
}

fn put(hyper: &mut Hyper, axis: &Axis, value: usize) -> Result<()> {
    hyper.set(axis.key.name, axis.values[value].clone())
}

/// Lists side by side: one length for all.
fn zipped(section: &Section<'_>, axes: &[Axis]) -> Result<Vec<Hyper>> {
    let lists: Vec<&Axis> = axes.iter().filter(|a| !a.scalar).collect();
    let count = lists.first().map_or(1, |a| a.values.len());
    if let Some(odd) = lists.iter().find(|a| a.values.len() != count) {
        let (first, second) = (lists[0].key.name, odd.key.name);
        return Err(section
            .fault(odd.at, format!("'{first}' has {count} values, but '{second}' has {}", odd.values.len()))
            .with_help("lists that are zipped need one length; combine = \"grid\" takes every combination"));
    }
    let mut all = vec![Hyper::new(); count];
    for (place, hyper) in all.iter_mut().enumerate() {
        axes.iter().try_for_each(|axis| put(hyper, axis, if axis.scalar { 0 } else { place }))?;
    }
    Ok(all)
}

/// Every combination, the last key of the file fastest.
fn crossed(section: &Section<'_>, axes: &[Axis]) -> Result<Vec<Hyper>> {
    let mut all = vec![Hyper::new()];
    for axis in axes {
        if all.len().saturating_mul(axis.values.len()) > MOST {
            let message = format!("with '{}' the grid has more than {MOST} members", axis.key.name);
            return Err(section.fault(axis.at, message).with_help("combine = \"zip\" takes lists side by side"));
        }
        let mut next = Vec::new();
        for hyper in &all {
            for value in 0..axis.values.len() {
                let mut hyper = hyper.clone();
                put(&mut hyper, axis, value)?;
                next.push(hyper);
            }
        }
        all = next;
    }
    Ok(all)
}

/// How a search proceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SearchMethod {
    /// Asynchronous successive halving.
    Asha(Early),
    /// Successive halving by whole rungs.
    SuccessiveHalving,
    /// Every trial to the end.
    Random,
}

/// A search.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchConfig {
    /// How it proceeds.
    pub method: SearchMethod,
    /// Rungs, in epochs or steps as `[train]` counts.
    pub ladder: Ladder,
    /// How many trials there are.
    pub trials: usize,
    /// [`Goal::Minimise`]: the loss; [`Goal::Maximise`]: the accuracy; of the validation part.
    pub goal: Goal,
    /// What is searched.
    pub space: Space,
}

impl SearchConfig {
    pub(super) fn parse(section: Section<'_>, scope: &Scope<'_>) -> Result<Self> {
        section.only(&["method", "eta", "min_resource", "max_resource", "trials", "early", "metric", "space"])?;
        let early = section.word("early", &[("pause", Early::Pause), ("stop", Early::Stop)])?.unwrap_or_default();
        let methods = [
            ("asha", SearchMethod::Asha(early)),
            ("successive-halving", SearchMethod::SuccessiveHalving),
            ("random", SearchMethod::Random),
        ];
        let (Length::Epochs(most) | Length::Steps(most)) = scope.train.length;
        let some = 1..=super::schedule::MOST;
        let ladder = Ladder {
            least: section.whole("min_resource", some.clone())?.unwrap_or(1),
            most: section.whole("max_resource", some)?.unwrap_or(most),
            eta: section.whole("eta", 2..=1024)?.unwrap_or(3),
        };
        ladder.rungs().map_err(|e| section.place(section.at("min_resource"), e))?;
        let metrics = [("loss", Goal::Minimise), ("accuracy", Goal::Maximise)];
        Ok(Self {
            method: section.word("method", &methods)?.unwrap_or(SearchMethod::Asha(early)),
            ladder,
            trials: section.whole("trials", 1..=1 << 20)?.unwrap_or(81) as usize,
            goal: section.word("metric", &metrics)?.unwrap_or_default(),
            space: space(&section, scope)?,
        })
    }

    pub(super) fn searcher(&self, base: &Hyper, seed: u64) -> Result<Box<dyn Searcher>> {
        let (space, limit, goal, ladder) = (self.space.clone(), self.trials, self.goal, self.ladder);
        Ok(match self.method {
            SearchMethod::Asha(early) => Box::new(Asha::new(base, space, seed, limit, goal, ladder, early)?),
            SearchMethod::SuccessiveHalving => {
                Box::new(SuccessiveHalving::new(base, space, seed, limit, goal, ladder)?)
            }
            SearchMethod::Random => Box::new(RandomSearch::new(base, space, seed, limit, goal, ladder.most)),
        })
    }
}

fn space(section: &Section<'_>, scope: &Scope<'_>) -> Result<Space> {
    let inner = section.inner("space", "[search.space]")?;
    let inner = inner.ok_or_else(|| {
        section
            .missing("space", "what is searched, such as learning_rate = { from = 1e-4, to = 1e-1, scale = \"log\" }")
    })?;
    let mut space = Space::new();
    for (name, at, item) in &inner.table.entries {
        let key = scope.key(&inner, name, *at, &[])?;
        let domain = match &item.value {
            Value::Table(table) => {
                let range = inner.within("the range", table);
                range.only(&["from", "to", "scale"])?;
                match ends(&range)? {
                    (from, to, true) => Domain::LogUniform { from, to },
                    (from, to, false) => Domain::Uniform { from, to },
                }
            }
            _ => Domain::Choice(values(&inner, key, item)?.1),
        };
        space.add(key.name, domain).map_err(|e| inner.place(item.at, e))?;
    }
    Ok(space)
}
