//! Hyper-parameters: what a member may have for itself, with names, ranges and defaults in one table.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nearest::nearest;

/// One hyper-parameter's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// A number; counts are whole.
    Number(f64),
    /// The widths of hidden layers, first to last.
    Widths(Vec<usize>),
}

/// What values a hyper-parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any number of its range.
    Real,
    /// Whole numbers of its range.
    Count,
    /// A list of widths, each of its range.
    Widths,
}

/// A hyper-parameter that there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Its name in files and logs.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The range: `[least, most]`, without an end whose flag in `open` is set.
    pub range: [f64; 2],
    /// Which ends of the range do not belong to it.
    pub open: [bool; 2],
    /// Its value where nobody sets it (`hidden`: one layer of this width).
    pub default: f64,
    /// Whether it belongs to the model (otherwise to training).
    pub model: bool,
    /// Whether members with different values cannot share an array.
    pub shape: bool,
}

const INF: f64 = f64::INFINITY;
const LARGE: f64 = 1_048_576.0;

const fn real(name: &'static str, range: [f64; 2], open: [bool; 2], default: f64) -> Key {
    Key { name, kind: Kind::Real, range, open, default, model: false, shape: false }
}

const fn shape(name: &'static str, kind: Kind, default: f64, model: bool) -> Key {
    Key { name, kind, range: [1.0, LARGE], open: [false; 2], default, model, shape: true }
}

/// All hyper-parameters; `docs/train.md` says what each does.
pub const KEYS: &[Key] = &[
    real("learning_rate", [0.0, INF], [true, true], 1e-3),
    real("momentum", [0.0, 1.0], [false, true], 0.0),
    real("beta1", [0.0, 1.0], [false, true], 0.9),
    real("beta2", [0.0, 1.0], [false, true], 0.999),
    real("epsilon", [0.0, INF], [true, true], 1e-8),
    real("decay", [0.0, 1.0], [false, true], 0.99),
    real("weight_decay", [0.0, INF], [false, true], 0.0),
    real("clip", [0.0, INF], [false, true], 0.0),
    real("label_smoothing", [0.0, 1.0], [false, true], 0.0),
    real("warmup", [0.0, 1.0], [false, true], 0.0),
    real("gamma", [0.0, 1.0], [true, false], 0.1),
    real("noise", [0.0, INF], [false, true], 0.0),
    real("radius", [0.0, 1.0], [false; 2], 0.1),
    real("radius_start", [0.0, 1.0], [false, true], 0.01),
    real("radius_ramp", [0.0, 1.0], [false; 2], 0.5),
    real("kappa", [0.0, 1.0], [false; 2], 0.5),
    real("certify_at", [0.0, 1.0], [false; 2], 0.0),
    Key { model: true, ..real("dropout", [0.0, 1.0], [false, true], 0.0) },
    shape("batch", Kind::Count, 64.0, false),
    shape("hidden", Kind::Widths, 128.0, true),
    shape("width", Kind::Count, 64.0, true),
    shape("layers", Kind::Count, 2.0, true),
    shape("heads", Kind::Count, 4.0, true),
    shape("context", Kind::Count, 64.0, true),
];

impl Key {
    /// The hyper-parameter of a name.
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// Its value where nobody sets it.
    pub fn default_setting(&self) -> Setting {
        match self.kind {
            Kind::Widths => Setting::Widths(vec![self.default as usize]),
            _ => Setting::Number(self.default),
        }
    }

    /// Its range in words.
    pub fn wants(&self) -> String {
        let [least, most] = self.range;
        let low = format!("{} {least}", if self.open[0] { "above" } else { "at least" });
        let range = match (most.is_finite(), self.open[1]) {
            (false, _) => low,
            (true, true) => format!("{low} and below {most}"),
            (true, false) => format!("{low} and at most {most}"),
        };
        match self.kind {
            Kind::Real => format!("a number {range}"),
            Kind::Count => format!("a whole number {range}"),
            Kind::Widths => format!("a list of whole numbers, each {range}"),
        }
    }

    /// Refuses a value that it does not take.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] that says what it takes.
    pub fn check(&self, setting: &Setting) -> Result<()> {
        let inside = |x: f64| {
            let [least, most] = self.range;
            let low = if self.open[0] { x > least } else { x >= least };
            low && if self.open[1] { x < most } else { x <= most }
        };
        let (good, shown) = match (self.kind, setting) {
            (Kind::Real, Setting::Number(x)) => (inside(*x), x.to_string()),
            (Kind::Count, Setting::Number(x)) => (inside(*x) && x.fract() == 0.0, x.to_string()),
            (Kind::Widths, Setting::Widths(list)) => {
                (!list.is_empty() && list.iter().all(|&w| inside(w as f64)), format!("{list:?}"))
            }
            (_, Setting::Number(x)) => (false, x.to_string()),
            (_, Setting::Widths(list)) => (false, format!("{list:?}")),
        };
        if good {
            return Ok(());
        }
        Err(Error::bad_input(format!("'{}' is {shown}, but must be {}", self.name, self.wants())))
    }
}

/// The hyper-parameters of one member: those that were set, and defaults for all others.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Setting>", into = "BTreeMap<String, Setting>")]
pub struct Hyper(BTreeMap<&'static str, Setting>);

impl Hyper {
    /// Defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a name that there is not, with the nearest one, and for a value out of range.
    pub fn set(&mut self, name: &str, setting: Setting) -> Result<()> {
        let key = Key::find(name).ok_or_else(|| {
            let fault = Error::bad_input(format!("there is no hyper-parameter '{name}'"));
            match nearest(name, KEYS.iter().map(|k| k.name)) {
                Some(near) => fault.with_help(format!("did you mean '{near}'?")),
                None => fault,
            }
        })?;
        key.check(&setting)?;
        self.0.insert(key.name, setting);
        Ok(())
    }

    /// The same with a number set.
    ///
    /// # Errors
    /// As [`Hyper::set`].
    pub fn with(mut self, name: &str, number: f64) -> Result<Self> {
        self.set(name, Setting::Number(number))?;
        Ok(self)
    }

    /// Whether it was set.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The value: that which was set, or the default; `None` if there is no such hyper-parameter.
    pub fn get(&self, name: &str) -> Option<Setting> {
        self.0.get(name).cloned().or_else(|| Key::find(name).map(Key::default_setting))
    }

    /// The value of a number; 0 for a name of none.
    pub fn number(&self, name: &str) -> f64 {
        match self.get(name) {
            Some(Setting::Number(x)) => x,
            _ => 0.0,
        }
    }

    /// The value of a count; 0 for a name of none.
    pub fn count(&self, name: &str) -> usize {
        self.number(name) as usize
    }

    /// The value of widths; empty for a name of none.
    pub fn widths(&self, name: &str) -> Vec<usize> {
        match self.get(name) {
            Some(Setting::Widths(list)) => list,
            _ => vec![],
        }
    }

    /// All that were set, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Setting)> {
        self.0.iter().map(|(&name, setting)| (name, setting))
    }

    /// These, with those of another put over them.
    #[must_use]
    pub fn over(mut self, other: &Self) -> Self {
        self.0.extend(other.0.iter().map(|(&name, setting)| (name, setting.clone())));
        self
    }
}

impl TryFrom<BTreeMap<String, Setting>> for Hyper {
    type Error = Error;

    fn try_from(map: BTreeMap<String, Setting>) -> Result<Self> {
        let mut hyper = Self::new();
        map.into_iter().try_for_each(|(name, setting)| hyper.set(&name, setting))?;
        Ok(hyper)
    }
}

impl From<Hyper> for BTreeMap<String, Setting> {
    fn from(hyper: Hyper) -> Self {
        hyper.0.into_iter().map(|(name, setting)| (name.to_owned(), setting)).collect()
    }
}

/// Groups members that can share an array: those that agree in every hyper-parameter that changes shapes. Gives places in the list, groups
/// and members in order of appearance.
pub fn shape_classes<'a>(members: impl IntoIterator<Item = &'a Hyper>) -> Vec<Vec<usize>> {
    let mut classes: Vec<(Vec<Option<Setting>>, Vec<usize>)> = Vec::new();
    for (place, member) in members.into_iter().enumerate() {
        let shape: Vec<_> = KEYS.iter().filter(|k| k.shape).map(|k| member.get(k.name)).collect();
        match classes.iter_mut().find(|(known, _)| *known == shape) {
            Some((_, places)) => places.push(place),
            None => classes.push((shape, vec![place])),
        }
    }
    classes.into_iter().map(|(_, places)| places).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused_in_words() {
        let mut hyper = Hyper::new();
        let said =
            |hyper: &mut Hyper, name: &str, x: f64| hyper.set(name, Setting::Number(x)).expect_err(name).to_string();
        assert_eq!(said(&mut hyper, "momentum", 1.0), "'momentum' is 1, but must be a number at least 0 and below 1");
        assert_eq!(said(&mut hyper, "learning_rate", 0.0), "'learning_rate' is 0, but must be a number above 0");
        assert!(said(&mut hyper, "batch", 2.5).contains("a whole number at least 1"));
        assert!(said(&mut hyper, "hidden", 3.0).contains("a list of whole numbers"));
        assert!(said(&mut hyper, "clip", f64::NAN).contains("NaN"));
        assert!(hyper.set("hidden", Setting::Widths(vec![])).is_err());
        let error = hyper.set("learning_rat", Setting::Number(1.0)).expect_err("no such name");
        assert_eq!(error.help(), Some("did you mean 'learning_rate'?"));
        KEYS.iter().for_each(|key| key.check(&key.default_setting()).expect("defaults are in range"));
    }

    #[test]
    fn files_keep_every_bit() {
        let mut hyper =
            Hyper::new().with("learning_rate", 0.1 + 0.2).expect("a rate").with("clip", 1e-300).expect("a norm");
        hyper.set("hidden", Setting::Widths(vec![3, 4])).expect("widths");
        let text = serde_json::to_string(&hyper).expect("JSON");
        assert_eq!(serde_json::from_str::<Hyper>(&text).expect("the same"), hyper);
        assert!(serde_json::from_str::<Hyper>(r#"{"momentum": 2}"#).is_err());
        assert!(serde_json::from_str::<Hyper>(r#"{"moment": 0}"#).is_err());
    }

    #[test]
    fn members_of_one_shape_come_together() {
        let plain = Hyper::new();
        let fast = Hyper::new().with("learning_rate", 0.1).expect("a rate");
        let wide = Hyper::new().with("width", 128.0).expect("a width");
        let said = Hyper::new().with("batch", 64.0).expect("the default, said");
        assert_eq!(shape_classes([&plain, &wide, &fast, &said, &wide]), [vec![0, 2, 3], vec![1, 4]]);
    }
}
