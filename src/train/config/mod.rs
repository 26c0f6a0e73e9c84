//! CONFIG.toml: what `wavehull train` is told. `docs/train.md` has every key.
//!
//! Whatever is wrong is an error with line and column; a key that nobody knows comes with the nearest that is known. Paths are relative to the folder of
//! the file.

mod data;
mod load;
mod members;
mod model;
mod schedule;

use std::path::{Path, PathBuf};

pub use data::{Augment, DataConfig, Loaded, Source, Synthetic};
pub use members::{Member, SearchConfig, SearchMethod};
pub use model::{Activation, ModelConfig};
pub use schedule::{Length, Loss, Optimiser, Schedule, TrainConfig};

use super::data::Normalisation;
use super::hyper::{Hyper, KEYS, Key, Kind, Setting};
use super::search::Searcher;
use crate::error::{Error, Result};
use crate::files::tree::{self, Item, Places, Section, Value};

/// A whole configuration, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What paths are relative to.
    pub folder: PathBuf,
    /// What is trained.
    pub model: ModelConfig,
    /// On what.
    pub data: DataConfig,
    /// How.
    pub train: TrainConfig,
    /// Hyper-parameters that all members share, from `[model]`, `[data]` and `[train]`.
    pub base: Hyper,
    /// Who; empty with a search.
    pub members: Vec<Member>,
    /// Or who is looked for.
    pub search: Option<SearchConfig>,
    /// The file, if it was one.
    file: Option<PathBuf>,
    places: Places,
}

const SECTIONS: &[&str] = &["model", "data", "train", "members", "search"];

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] with the place for whatever is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let config = Self::parse(&text, path.parent().unwrap_or(Path::new(""))).map_err(|e| e.in_file(path))?;
        Ok(Self { file: Some(path.to_owned()), ..config })
    }

    /// Reads a text; paths in it are relative to `folder`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self> {
        let tree = tree::parse(text)?;
        let places = Places::new(text, &tree);
        let root = Section::new(text, "", &tree);
        root.only(SECTIONS)?;
        let needed = |key: &str, name, example: &str| -> Result<Section<'_>> {
            root.inner(key, name)?.ok_or_else(|| {
                root.fault(0, format!("there is no section {name}"))
                    .with_help(format!("begin with\n\n{name}\n{example}"))
            })
        };
        let empty = tree::Table::default();
        let optional =
            |key: &str, name| Ok::<_, Error>(root.inner(key, name)?.unwrap_or(Section::new(text, name, &empty)));

        let mut base = Hyper::new();
        let model = ModelConfig::parse(needed("model", "[model]", "kind = \"mlp\"")?, folder, &mut base)?;
        let train_section = optional("train", "[train]")?;
        let train = TrainConfig::parse(train_section, folder, &mut base)?;
        let data = DataConfig::parse(needed("data", "[data]", "format = \"idx\"")?, folder, &mut base)?;
        let scope = Scope { model: &model, train: &train };
        scope.settings(train_section, &mut base)?;
        let search = match root.inner("search", "[search]")? {
            Some(section) => Some(SearchConfig::parse(section, &scope)?),
            None => None,
        };
        let members_section = root.inner("members", "[members]")?;
        let members = match (&search, members_section) {
            (Some(_), Some(section)) => {
                return Err(section
                    .fault(section.table.at, "[members] and [search] exclude one another")
                    .with_help("a search draws its members from [search.space]; remove one of the two sections"));
            }
            (Some(_), None) => vec![],
            (None, section) => {
                members::parse(section.unwrap_or(Section::new(text, "[members]", &empty)), &scope, &base)?
            }
        };
        let folder = folder.to_owned();
        let config = Self { folder, model, data, train, base, members, search, file: None, places };
        config.check(&root)?;
        Ok(config)
    }

    /// What only sections together can get wrong.
    fn check(&self, root: &Section<'_>) -> Result<()> {
        if self.train.loss == Some(Loss::Certified) {
            self.check_certified(root)?;
        }
        let language = matches!(self.model, ModelConfig::Transformer);
        let text = matches!(self.data.source, Source::Text { .. });
        if language != text {
            let message = match language {
                true => "a transformer is trained on text, but [data] has another format",
                false => "text is for a transformer, but [model] has another kind",
            };
            return Err(root.fault(root.at("data"), message));
        }
        for hyper in self.members.iter().map(|m| &m.hyper).chain([&self.base]).filter(|_| language) {
            if hyper.count("context") != self.base.count("context") {
                let fault = Error::bad_input("all members read windows of one length, so 'context' is no list")
                    .with_help("set 'context' in [model]");
                return Err(self.blame(&["members.context"], fault));
            }
            let (width, heads) = (hyper.count("width"), hyper.count("heads"));
            if !width.is_multiple_of(heads.max(1)) {
                return Err(root
                    .fault(root.at("model"), format!("a width of {width} cannot be shared by {heads} heads"))
                    .with_help("the width must be a multiple of the number of heads"));
            }
        }
        Ok(())
    }

    /// Adds the place of the first of some keys (`section.key`) to an error that has none, and the file.
    fn blame(&self, keys: &[&str], error: Error) -> Error {
        self.in_file(self.places.blame(keys, error))
    }

    /// Adds this file to an error that names none: what only sections, data and model together got wrong.
    #[must_use]
    pub fn in_file(&self, error: Error) -> Error {
        let known = error.place().is_some_and(|place| !place.file.as_os_str().is_empty());
        match &self.file {
            Some(file) if !known => error.in_file(file),
            _ => error,
        }
    }

    /// Bounds go through linear layers and ReLUs; boxes are cut to 0..1, so that is where inputs must be.
    fn check_certified(&self, root: &Section<'_>) -> Result<()> {
        let what = match &self.model {
            ModelConfig::Mlp { activation: Activation::Relu } | ModelConfig::Onnx { .. } => None,
            ModelConfig::Mlp { .. } => Some("this activation".to_owned()),
            other => Some(format!("a model of kind '{}'", other.name())),
        };
        let mut hypers = self.members.iter().map(|m| &m.hyper).chain([&self.base]);
        let what = what.or_else(|| hypers.any(|h| h.number("dropout") > 0.0).then(|| "'dropout'".to_owned()));
        if let Some(what) = what {
            let message = format!("loss = \"certified\" has no bounds for {what}");
            return Err(root
                .fault(root.at("model"), message)
                .with_help("kind = \"mlp\" with activation = \"relu\" and without dropout, or kind = \"onnx\""));
        }
        let normalise = self.data.normalise;
        if normalise != Normalisation::Unit {
            let word = if normalise == Normalisation::None { "none" } else { "standard" };
            let what = format!("loss = \"certified\" wants inputs from 0 to 1, but [data] has normalise = \"{word}\"");
            return Err(root.fault(root.at("data"), what).with_help("normalise = \"unit\""));
        }
        if self.base.number("noise") > 0.0 {
            let what = "loss = \"certified\" wants inputs from 0 to 1, but [data] adds noise to them";
            return Err(root.fault(root.at("data"), what).with_help("leave out 'noise' of augment"));
        }
        Ok(())
    }

    /// A searcher, if a search is configured.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for rungs that are none.
    pub fn searcher(&self) -> Result<Option<Box<dyn Searcher>>> {
        self.search.as_ref().map(|search| search.searcher(&self.base, self.train.seed)).transpose()
    }

    /// Members that can share an array; places in [`Config::members`].
    pub fn shape_classes(&self) -> Vec<Vec<usize>> {
        super::hyper::shape_classes(self.members.iter().map(|m| &m.hyper))
    }
}

/// Hyper-parameters of certified training alone.
const CERTIFIED: [&str; 5] = ["radius", "radius_start", "radius_ramp", "kappa", "certify_at"];

/// Which hyper-parameters mean something here.
struct Scope<'a> {
    model: &'a ModelConfig,
    train: &'a TrainConfig,
}

impl Scope<'_> {
    fn keys(&self) -> impl Iterator<Item = &'static Key> {
        KEYS.iter().filter(|key| self.meaningless(key).is_none())
    }

    /// Why a hyper-parameter means nothing to this model or training.
    fn meaningless(&self, key: &Key) -> Option<String> {
        let optimiser = self.train.optimiser;
        let certified = self.train.loss == Some(Loss::Certified);
        let good = match key.name {
            _ if key.model => self.model.keys().contains(&key.name),
            "momentum" => matches!(optimiser, Optimiser::Sgd | Optimiser::RmsProp),
            "beta1" | "beta2" => matches!(optimiser, Optimiser::Adam | Optimiser::AdamW),
            "epsilon" => optimiser != Optimiser::Sgd,
            "decay" => optimiser == Optimiser::RmsProp,
            "gamma" => matches!(self.train.schedule, Schedule::Step { .. }),
            "label_smoothing" | "noise" => !certified,
            name if CERTIFIED.contains(&name) => certified,
            _ => true,
        };
        let to = match key.name {
            _ if key.model => format!("a model of kind '{}'", self.model.name()),
            "gamma" => "this schedule; it is for schedule = \"step\"".to_owned(),
            "label_smoothing" | "noise" => "loss = \"certified\"".to_owned(),
            name if CERTIFIED.contains(&name) => "this loss; it is for loss = \"certified\"".to_owned(),
            _ => format!("the optimiser '{}'", optimiser.name()),
        };
        (!good).then(|| format!("'{}' means nothing to {to}", key.name))
    }

    /// The hyper-parameter of a key of a section, with whatever else the section knows for messages.
    fn key(&self, section: &Section<'_>, name: &str, at: usize, others: &[&str]) -> Result<&'static Key> {
        let known: Vec<&str> = self.keys().map(|k| k.name).chain(others.iter().copied()).collect();
        let key = Key::find(name).ok_or_else(|| section.unknown(name, at, &known))?;
        match self.meaningless(key) {
            Some(why) => Err(section.fault(at, why)),
            None => Ok(key),
        }
    }

    /// Sets the hyper-parameters of `[train]`, whose other keys were read before.
    fn settings(&self, section: Section<'_>, base: &mut Hyper) -> Result<()> {
        for (name, at, item) in &section.table.entries {
            if schedule::KNOWN.contains(&name.as_str()) {
                continue;
            }
            let key = self.key(&section, name, *at, schedule::KNOWN)?;
            if key.model || key.name == "noise" {
                let place = if key.model { "[model]" } else { "[data] as augment = { noise = ... }" };
                return Err(section.fault(*at, format!("'{name}' belongs into {place}")));
            }
            base.set(name, setting(&section, key, item)?)?;
        }
        Ok(())
    }
}

/// One value of a hyper-parameter, checked.
fn setting(section: &Section<'_>, key: &Key, item: &Item) -> Result<Setting> {
    let wrong = || {
        let message =
            format!("'{}' in {} is {}, but must be {}", key.name, section.name, item.value.kind(), key.wants());
        section.fault(item.at, message)
    };
    let setting = match (&item.value, key.kind) {
        (Value::List(list), Kind::Widths) => {
            let width = |i: &Item| match i.value {
                Value::Whole(w) => usize::try_from(w).map_err(|_| wrong()),
                _ => Err(wrong()),
            };
            Setting::Widths(list.iter().map(width).collect::<Result<_>>()?)
        }
        (value, Kind::Real | Kind::Count) => Setting::Number(value.number().ok_or_else(wrong)?),
        _ => return Err(wrong()),
    };
    key.check(&setting).map_err(|e| section.place(item.at, e))?;
    Ok(setting)
}

#[cfg(test)]
mod tests;
