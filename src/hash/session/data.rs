//! What a network is trained on, or asked with: read, made of a text, or drawn.

use std::path::Path;

use crate::error::{Error, Result};
use crate::hash::SparseSet;
use crate::hash::config::{DataConfig, Source};
use crate::hash::data::generate::{Recipe, generate};
use crate::hash::data::text::{Corpus, SkipGram};
use crate::hash::data::{self, Cache, Names, ReadOptions, split};

/// What a network is trained on, and looked at with.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it is trained on.
    pub train: SparseSet,
    /// What it is looked at with; may be empty.
    pub test: SparseSet,
    /// Names of the labels, if they are known.
    pub label_names: Option<Names>,
    /// What was noticed while reading.
    pub notes: Vec<String>,
}

/// Reads what a configuration is trained on.
///
/// # Errors
/// Those of the readers, with their places.
pub fn load(config: &DataConfig, seed: u64) -> Result<Loaded> {
    let mut loaded = match &config.source {
        Source::Files { train, test } => read_files(config, train, test.as_deref(), seed)?,
        Source::Text { file, options } => {
            let corpus = Corpus::read(file, &SkipGram { seed, ..*options })?;
            let last = first_of_test(&corpus, config);
            let notes = vec![format!(
                "{} words, {} of them distinct; {} too rare, {} thinned out",
                corpus.read,
                corpus.words.len(),
                corpus.rare,
                corpus.thinned
            )];
            let (train, test) = (corpus.samples(0..last), corpus.samples(last..corpus.len()));
            Loaded { train, test, label_names: Some(corpus.words), notes }
        }
        Source::Generated { samples, features, labels } => {
            let recipe = Recipe { features: *features, labels: *labels, ..Recipe::amazon_670k(seed) };
            let train = generate(&recipe, 0..*samples, 0)?;
            let test = generate(&recipe, *samples..samples + part_of(*samples, config.test_share), 0)?;
            Loaded { train, test, label_names: None, notes: Vec::new() }
        }
    };
    if let Some(path) = &config.label_names {
        loaded.label_names = Some(Names::read(path, loaded.train.label_count)?);
    }
    Ok(loaded)
}

/// The test part alone, of a network of so many features and labels, and what was noticed while reading. A training part is read only where
/// the test part is a share of it.
///
/// # Errors
/// Those of [`load`]; [`crate::ErrorKind::BadInput`] for a part of other features and labels.
pub fn load_test(config: &DataConfig, seed: u64, network: [usize; 2]) -> Result<(SparseSet, Vec<String>)> {
    let mut notes = Vec::new();
    let (test, path) = match &config.source {
        Source::Files { test: Some(path), .. } => (read_file(config, path, &mut notes)?, Some(path)),
        Source::Files { train, test: None } => {
            let whole = read_file(config, train, &mut notes)?;
            (parts(whole, config.test_share, seed).map_err(|e| e.in_file(train))?.1, Some(train))
        }
        Source::Text { file, options } => {
            let corpus = Corpus::read(file, &SkipGram { seed, ..*options })?;
            (corpus.samples(first_of_test(&corpus, config)..corpus.len()), Some(file))
        }
        Source::Generated { samples, features, labels } => {
            let recipe = Recipe { features: *features, labels: *labels, ..Recipe::amazon_670k(seed) };
            let last = samples + part_of(*samples, config.test_share);
            (generate(&recipe, *samples..last, 0)?, None)
        }
    };
    let fits = same_space(network, &test, "the network");
    match path {
        Some(path) => fits.map_err(|e| e.in_file(path))?,
        None => fits?,
    }
    Ok((test, notes))
}

/// Names of so many labels, if the configuration knows any; samples are not read for them.
///
/// # Errors
/// Those of [`load`].
pub fn label_names(config: &DataConfig, labels: usize, seed: u64) -> Result<Option<Names>> {
    match (&config.label_names, &config.source) {
        (Some(path), _) => Names::read(path, labels).map(Some),
        (None, Source::Text { file, options }) => {
            let words = Corpus::read(file, &SkipGram { seed, ..*options })?.words;
            if words.len() != labels {
                let what = format!("{} words, but the network has {labels} labels", words.len());
                let help = "the text has changed since the training: put the old one back, or give names with --names";
                return Err(Error::bad_input(what).in_file(file).with_help(help));
            }
            Ok(Some(words))
        }
        (None, _) => Ok(None),
    }
}

/// Where the test part of a text begins: windows of neighbours overlap, so it is one end of the text.
fn first_of_test(corpus: &Corpus, config: &DataConfig) -> usize {
    corpus.len() - part_of(corpus.len(), config.test_share)
}

/// So large a share of this many; one at least, unless the share is 0.
fn part_of(count: usize, share: f64) -> usize {
    if share > 0.0 { ((count as f64 * share) as usize).clamp(1, count.max(1)) } else { 0 }
}

/// The training part and a test part of this share, which is drawn.
fn parts(whole: SparseSet, share: f64, seed: u64) -> Result<(SparseSet, SparseSet)> {
    match part_of(whole.len(), share) {
        0 => {
            let none = split::select(&whole, &[])?;
            Ok((whole, none))
        }
        some => split::split(&whole, some, seed),
    }
}

fn read_file(config: &DataConfig, path: &Path, notes: &mut Vec<String>) -> Result<SparseSet> {
    let cache = if config.cache { Cache::Beside } else { Cache::Off };
    let (set, said) = data::read(path, &ReadOptions { cache, ..ReadOptions::default() })?;
    notes.extend(said.sentences().into_iter().map(|line| format!("{}: {line}", path.display())));
    Ok(set)
}

fn read_files(config: &DataConfig, train: &Path, test: Option<&Path>, seed: u64) -> Result<Loaded> {
    let mut notes = Vec::new();
    let whole = read_file(config, train, &mut notes)?;
    let (train, test) = match test {
        Some(path) => {
            let test = read_file(config, path, &mut notes)?;
            let space = [whole.feature_count, whole.label_count];
            same_space(space, &test, "the training part").map_err(|e| e.in_file(path).at(1, 1))?;
            (whole, test)
        }
        None => parts(whole, config.test_share, seed).map_err(|e| e.in_file(train))?,
    };
    Ok(Loaded { train, test, label_names: None, notes })
}

/// Refuses a test part of another shape than `who`.
fn same_space([features, labels]: [usize; 2], test: &SparseSet, who: &str) -> Result<()> {
    if [features, labels] == [test.feature_count, test.label_count] {
        return Ok(());
    }
    let what = format!(
        "{} features and {} labels, but {who} has {features} and {labels}",
        test.feature_count, test.label_count
    );
    Err(Error::bad_input(what).with_help("both parts of a set count the same features and labels"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::config::Config;

    fn config(data: &str) -> DataConfig {
        Config::parse(&format!("[data]\n{data}"), &std::env::temp_dir()).expect("a configuration").data
    }

    #[test]
    fn the_test_part_alone_is_the_test_part() {
        let folder = std::env::temp_dir().join(format!("wavehull-parts-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let name = |name: &str| folder.join(name).to_str().expect("a name").to_owned();
        let line = |i: usize| format!("{} {}:1 {}:0.5\n", i % 3, i % 5, 5 + i % 2);
        let text = |n: usize| (0..n).fold(format!("{n} 7 3\n"), |text, i| text + &line(i));
        std::fs::write(name("a.txt"), text(40)).expect("a file");
        std::fs::write(name("b.txt"), text(9)).expect("a file");
        std::fs::write(name("words.txt"), "one two three one two three four one two four ".repeat(9)).expect("a file");
        let files = |more: &str| config(&format!("train = '{}'\ncache = false\n{more}", name("a.txt")));
        let both = files(&format!("test = '{}'", name("b.txt")));
        let words = config(&format!("format = \"text\"\nfile = '{}'\nsubsample = 0", name("words.txt")));
        let drawn = config("format = \"generated\"\nsamples = 50\nfeatures = 300\nlabels = 200");
        for config in [&both, &files("test_share = 0.3"), &files("test_share = 0"), &words, &drawn] {
            let whole = load(config, 7).expect("all");
            let space = [whole.train.feature_count, whole.train.label_count];
            let (test, notes) = load_test(config, 7, space).expect("the test part");
            assert_eq!(test, whole.test, "{config:?}");
            assert!(notes.iter().all(|note| whole.notes.contains(note)), "{notes:?}");
            let error = load_test(config, 7, [space[0], space[1] + 1]).expect_err("another network");
            assert!(error.help().is_some(), "{error}");
            let names = label_names(config, space[1], 7).expect("names");
            assert_eq!(names, whole.label_names);
        }
        // Nothing is read of a training part that has its own test part.
        std::fs::remove_file(name("a.txt")).expect("a file");
        assert_eq!(load_test(&both, 7, [7, 3]).expect("the test part").0.len(), 9);
        assert!(label_names(&words, 5, 7).expect_err("other words").to_string().contains("4 words"));
        let _ = std::fs::remove_dir_all(&folder);
    }
}
