//! Sets of sparse samples: read, kept, made and described.
//!
//! [`read`] is the way in for a file of the Extreme Classification Repository ([`xmc`]); with a [`Cache`] the text is parsed once.
//! [`text`] makes a skip-gram task of plain text, [`generate`] a set of the size and shape of Amazon-670K. A set is split by [`split`],
//! described by [`Statistics`], and its ids get [`Names`] where a file has them.

pub mod cache;
mod exact;
pub mod generate;
mod names;
mod part;
mod source;
pub mod split;
mod statistics;
pub mod text;
pub mod xmc;

use std::path::{Path, PathBuf};

pub use names::Names;
pub use source::Fingerprint;
pub use statistics::{Spread, Statistics, Unseen, frequencies, propensities};

use crate::error::{Error, Result};
use crate::hash::set::SparseSet;

/// Where a parsed set is kept for the next time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Cache {
    /// Nowhere.
    #[default]
    Off,
    /// Beside its file, as `NAME.wavehull-cache`.
    Beside,
    /// In a folder, which is made if there is none.
    Folder(PathBuf),
}

/// How to read a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// Threads that parse; 0: as many as the machine has. The result is the same.
    pub threads: usize,
    /// Where the parsed set is kept.
    pub cache: Cache,
    /// Keeps samples without features, which have the bias alone, instead of refusing the file.
    pub keep_empty: bool,
    /// Bytes of text that a thread parses at a time.
    pub block: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { threads: 0, cache: Cache::Off, keep_empty: false, block: 1 << 20 }
    }
}

/// What the cache did for a call of [`read`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CacheUse {
    /// None was asked for, or the file is no ordinary file.
    #[default]
    Off,
    /// The set comes from it.
    Used,
    /// There was none; there is now.
    Written,
    /// It was not fit to be used, and was written anew; why.
    Rewritten(String),
    /// It could not be written; why. The set comes from the text.
    NotWritten(String),
}

/// What a reader saw and a user may want to know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notes {
    /// Samples whose ids did not ascend, and were sorted.
    pub sorted: usize,
    /// Labels that stood twice in a sample; the second was dropped.
    pub doubled_labels: usize,
    /// Samples without features, kept because the options say so.
    pub empty: usize,
    /// Samples without labels.
    pub unlabelled: usize,
    /// What the cache did.
    pub cache: CacheUse,
}

impl Notes {
    /// Adds the counts of another part of the file.
    fn add(&mut self, other: &Self) {
        self.sorted += other.sorted;
        self.doubled_labels += other.doubled_labels;
        self.empty += other.empty;
        self.unlabelled += other.unlabelled;
    }

    /// What is out of the ordinary, a sentence each without a full stop; an ordinary file has none.
    pub fn sentences(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (count, what) in [
            (self.sorted, "samples had ids out of order, which were sorted"),
            (self.doubled_labels, "labels stood twice in their sample and count once"),
            (self.empty, "samples have no features"),
            (self.unlabelled, "samples have no labels"),
        ] {
            if count > 0 {
                all.push(format!("{count} {what}"));
            }
        }
        match &self.cache {
            CacheUse::Off | CacheUse::Used | CacheUse::Written => {}
            CacheUse::Rewritten(why) => all.push(format!("the cache was written anew: {why}")),
            CacheUse::NotWritten(why) => {
                all.push(format!("no cache was written, so the text will be parsed again next time: {why}"))
            }
        }
        all
    }
}

/// Reads a set from a file of the Extreme Classification Repository, or from its cache where there is one of this very file.
///
/// The cache is taken only if the file's length and CRC-32 are those it was made from, and all its own checksums hold; anything else is
/// noted, and the text is parsed. A cache that cannot be written is noted too, and no error.
///
/// # Errors
/// Those of [`xmc::read`].
pub fn read(path: &Path, options: &ReadOptions) -> Result<(SparseSet, Notes)> {
    let io = |e| Error::io(path, e);
    let ordinary = std::fs::metadata(path).map_err(io)?.is_file();
    let Some(place) = cache::place(path, &options.cache).filter(|_| ordinary) else {
        return xmc::read(path, options);
    };
    let mut why = None;
    if place.exists() {
        let state = source::fingerprint(path).map_err(io)?;
        match cache::load(&place, &cache::Origin { file: state, keep_empty: options.keep_empty }) {
            Ok((set, notes)) => return Ok((set, Notes { cache: CacheUse::Used, ..notes })),
            Err(e) => why = Some(e.message().to_owned()),
        }
    }
    // The fingerprint is of the bytes that were parsed, whatever happens to the file meanwhile.
    let mut watched = source::Watched::new(std::fs::File::open(path).map_err(io)?);
    let (set, mut notes) = xmc::read_from(&mut watched, options).map_err(|e| e.in_file(path))?;
    let state = watched.finish().map_err(io)?;
    let origin = cache::Origin { file: state, keep_empty: options.keep_empty };
    notes.cache = match (cache::store(&place, &origin, &set, &notes), why) {
        (Err(e), _) => CacheUse::NotWritten(e.to_string()),
        (Ok(()), Some(why)) => CacheUse::Rewritten(why),
        (Ok(()), None) => CacheUse::Written,
    };
    Ok((set, notes))
}

#[cfg(test)]
mod tests;
