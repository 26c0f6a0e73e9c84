//! TOML as a tree in which everything knows its place, and sections that refuse what they do not know.

#[cfg(feature = "config")]
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};
use crate::nearest::nearest;

/// A value with its place in the text.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub at: usize,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    Whole(i64),
    Real(f64),
    Flag(bool),
    Time,
    #[cfg_attr(not(feature = "config"), expect(dead_code, reason = "lists are read by configurations of arrays"))]
    List(Vec<Item>),
    Table(Table),
}

/// Keys with their places and values, in the order of the text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub at: usize,
    pub entries: Vec<(String, usize, Item)>,
}

/// A text as TOML.
pub(crate) fn parse(text: &str) -> Result<Table> {
    let root = DeTable::parse(text).map_err(|e| {
        let (line, column) = place(text, e.span().map_or(0, |span| span.start));
        let words: Vec<&str> = e.message().lines().map(str::trim).collect();
        Error::bad_input(format!("this is no TOML: {}", words.join("; "))).at(line, column)
    })?;
    table(text, 0, root.get_ref())
}

fn table(text: &str, at: usize, entries: &DeTable<'_>) -> Result<Table> {
    let mut list = Vec::new();
    for (key, value) in entries.iter() {
        list.push((key.get_ref().to_string(), key.span().start, item(text, value.span().start, value.get_ref())?));
    }
    list.sort_by_key(|&(_, at, _)| at);
    Ok(Table { at, entries: list })
}

fn item(text: &str, at: usize, value: &DeValue<'_>) -> Result<Item> {
    let fault = |what: &str| {
        let (line, column) = place(text, at);
        Error::bad_input(format!("this {what} cannot be represented")).at(line, column)
    };
    let value = match value {
        DeValue::String(s) => Value::Text(s.to_string()),
        DeValue::Integer(i) => Value::Whole(i64::from_str_radix(i.as_str(), i.radix()).map_err(|_| fault("number"))?),
        DeValue::Float(f) => Value::Real(f.as_str().parse().map_err(|_| fault("number"))?),
        DeValue::Boolean(b) => Value::Flag(*b),
        DeValue::Datetime(_) => Value::Time,
        DeValue::Array(list) => {
            Value::List(list.iter().map(|v| item(text, v.span().start, v.get_ref())).collect::<Result<_>>()?)
        }
        DeValue::Table(entries) => Value::Table(table(text, at, entries)?),
    };
    Ok(Item { at, value })
}

#[cfg(feature = "config")]
/// Where keys stand, by names such as `data.validation`: for faults that show only once the data is there.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Places(BTreeMap<String, (usize, usize)>);

#[cfg(feature = "config")]
impl Places {
    pub fn new(text: &str, root: &Table) -> Self {
        let mut places = Self::default();
        places.add(text, "", root);
        places
    }

    fn add(&mut self, text: &str, prefix: &str, table: &Table) {
        for (key, at, item) in &table.entries {
            let name = format!("{prefix}{key}");
            if let Value::Table(inner) = &item.value {
                self.add(text, &format!("{name}."), inner);
            }
            self.0.insert(name, place(text, *at));
        }
    }

    /// Adds the place of the first of some keys that the file has, unless the error has a place of its own.
    pub fn blame(&self, keys: &[&str], error: Error) -> Error {
        match keys.iter().find_map(|key| self.0.get(*key)).filter(|_| error.place().is_none()) {
            Some(&(line, column)) => error.at(line, column),
            None => error,
        }
    }
}

/// Line and column, from 1, of a place in a text.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    (line, before.chars().rev().take_while(|&c| c != '\n').count() + 1)
}

impl Value {
    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Whole(_) => "a whole number",
            Self::Real(_) => "a number",
            Self::Flag(_) => "true or false",
            Self::Time => "a date or time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Whole(i) => Some(*i as f64),
            Self::Real(x) => Some(*x),
            _ => None,
        }
    }
}

/// A table whose keys are known, with its name for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section<'a> {
    text: &'a str,
    pub name: &'a str,
    pub table: &'a Table,
}

impl<'a> Section<'a> {
    pub fn new(text: &'a str, name: &'a str, table: &'a Table) -> Self {
        Self { text, name, table }
    }

    /// An error at a place of the text.
    pub fn fault(&self, at: usize, message: impl Into<String>) -> Error {
        let (line, column) = place(self.text, at);
        Error::bad_input(message).at(line, column)
    }

    /// Adds the place to an error that has none.
    pub fn place(&self, at: usize, error: Error) -> Error {
        let (line, column) = place(self.text, at);
        error.at(line, column)
    }

    /// Refuses keys that are not known, with the nearest one that is.
    pub fn only(&self, known: &[&str]) -> Result<()> {
        for (key, at, _) in &self.table.entries {
            if !known.contains(&key.as_str()) {
                return Err(self.unknown(key, *at, known));
            }
        }
        Ok(())
    }

    pub fn unknown(&self, key: &str, at: usize, known: &[&str]) -> Error {
        let near = match nearest(key, known.iter().copied()) {
            Some(near) if self.name.is_empty() => format!(": did you mean [{near}]?"),
            Some(near) => format!(": did you mean '{near}'?"),
            None => String::new(),
        };
        let what = if self.name.is_empty() { "section" } else { "key" };
        let within = if self.name.is_empty() { String::new() } else { format!(" in {}", self.name) };
        let quoted = if self.name.is_empty() { format!("[{key}]") } else { format!("'{key}'") };
        self.fault(at, format!("unknown {what} {quoted}{within}{near}"))
            .with_help(format!("there are {}", known.join(", ")))
    }

    pub fn item(&self, key: &str) -> Option<&'a Item> {
        self.table.entries.iter().find(|(name, _, _)| name == key).map(|(_, _, item)| item)
    }

    /// The place of a key, or of the section where it is not set.
    pub fn at(&self, key: &str) -> usize {
        self.table.entries.iter().find(|(name, _, _)| name == key).map_or(self.table.at, |&(_, at, _)| at)
    }

    pub fn missing(&self, key: &str, what: &str) -> Error {
        self.fault(self.table.at, format!("{} needs '{key}': {what}", self.name))
    }

    fn wrong(&self, key: &str, item: &Item, wants: &str) -> Error {
        self.fault(item.at, format!("'{key}' in {} is {}, but must be {wants}", self.name, item.value.kind()))
    }

    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.item(key)
            .map(|item| match &item.value {
                Value::Text(text) => Ok(text.as_str()),
                _ => Err(self.wrong(key, item, "a text in quotes")),
            })
            .transpose()
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.item(key)
            .map(|item| match item.value {
                Value::Flag(flag) => Ok(flag),
                _ => Err(self.wrong(key, item, "true or false")),
            })
            .transpose()
    }

    /// One of some words, with what each stands for.
    pub fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<Option<T>> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(Some(*meaning));
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let near = match nearest(text, known.iter().copied()) {
            Some(near) => format!(": did you mean '{near}'?"),
            None => String::new(),
        };
        let at = self.item(key).map_or(self.table.at, |item| item.at);
        Err(self
            .fault(at, format!("'{key}' in {} cannot be '{text}'{near}", self.name))
            .with_help(format!("it can be {}", known.join(", "))))
    }

    /// A whole number of a range.
    pub fn whole(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>> {
        let Some(item) = self.item(key) else { return Ok(None) };
        let wants = match (*range.start(), *range.end()) {
            (least, most) if most >= i64::MAX as u64 => format!("a whole number of at least {least}"),
            (least, most) => format!("a whole number from {least} to {most}"),
        };
        let Value::Whole(number) = item.value else { return Err(self.wrong(key, item, &wants)) };
        match u64::try_from(number).ok().filter(|n| range.contains(n)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.fault(item.at, format!("'{key}' in {} is {number}, but must be {wants}", self.name))),
        }
    }

    /// A finite number that passes a test.
    pub fn number(&self, key: &str, wants: &str, good: impl Fn(f64) -> bool) -> Result<Option<f64>> {
        let Some(item) = self.item(key) else { return Ok(None) };
        match item.value.number() {
            Some(x) if x.is_finite() && good(x) => Ok(Some(x)),
            Some(x) => Err(self.fault(item.at, format!("'{key}' in {} is {x}, but must be {wants}", self.name))),
            None => Err(self.wrong(key, item, wants)),
        }
    }

    /// A section of the same text.
    pub fn within<'b>(&self, name: &'b str, table: &'b Table) -> Section<'b>
    where
        'a: 'b,
    {
        Section { text: self.text, name, table }
    }

    /// A table within this one.
    pub fn inner(&self, key: &str, name: &'a str) -> Result<Option<Section<'a>>> {
        let Some(item) = self.item(key) else { return Ok(None) };
        match &item.value {
            Value::Table(table) => Ok(Some(Section { text: self.text, name, table })),
            _ => Err(self.wrong(key, item, "a table")),
        }
    }
}
