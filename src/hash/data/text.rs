//! Skip-gram tasks from plain text: a word is the input, the words around it are the labels (Mikolov et al. 2013; the task that SLIDE trains
//! on Text8).
//!
//! A *word* is a run of letters (Unicode's), in lower case; everything else separates words, so `don't` is two. Words longer than 100
//! bytes are cut. Words seen fewer than [`SkipGram::min_count`] times are left out; then frequent ones are thinned as word2vec does: a word
//! that is a share `f` of the text is kept with chance `(sqrt(f / t) + 1) t / f`. What is left out leaves no gap: the window reaches over it.
//!
//! Each word that is left is a sample with one feature, itself, of value 1; its labels are the distinct words at most [`SkipGram::window`]
//! places before or behind it. (word2vec draws a smaller window for each word; we do not.) Ids are by falling frequency, words of equal
//! frequency in alphabetical order, and the same for features and labels. Lines mean nothing.
//!
//! A [`Corpus`] holds four bytes a word; samples are made of a range of it, as many as memory allows at a time ([`Corpus::bytes`]).

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use super::part::{self, Part};
use super::{Names, source};
use crate::error::{Error, Result};
use crate::hash::set::SparseSet;
use crate::ops::random::{Stream, purpose};

/// Bytes of a word that count.
const LONGEST: usize = 100;
/// Bytes read at a time.
const AT_ONCE: usize = 1 << 20;

/// How a text becomes a task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SkipGram {
    /// Words seen less often are left out.
    pub min_count: u64,
    /// Places on either side whose words are labels.
    pub window: usize,
    /// The share `t` from which on words are thinned, word2vec's `sample`; none: all are kept.
    pub subsample: Option<f64>,
    /// Draws which frequent words are left out.
    pub seed: u64,
}

impl Default for SkipGram {
    fn default() -> Self {
        Self { min_count: 5, window: 5, subsample: Some(1e-3), seed: 0 }
    }
}

/// The words of a text that are left, as ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Corpus {
    /// The words, by id.
    pub words: Names,
    /// How often each stands in the text, before thinning.
    pub counts: Vec<u64>,
    /// The text.
    pub tokens: Vec<u32>,
    /// Places on either side whose words are labels.
    pub window: usize,
    /// Words of the text as it was read.
    pub read: u64,
    /// How many of these were too rare.
    pub rare: u64,
    /// How many were thinned out.
    pub thinned: u64,
}

impl Corpus {
    /// Reads a text, plain or gzipped.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] for text that is not UTF-8, with its place, for options that make no sense,
    /// and if fewer than two words are left.
    pub fn read(path: &Path, options: &SkipGram) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
        Self::read_from(file, options).map_err(|e| e.in_file(path))
    }

    /// Reads a stream.
    ///
    /// # Errors
    /// Those of [`Corpus::read`].
    pub fn read_from(reader: impl Read, options: &SkipGram) -> Result<Self> {
        if options.window == 0 || options.subsample.is_some_and(|t| !(t > 0.0 && t.is_finite())) {
            return Err(Error::bad_input(format!(
                "a window of {} and a sample of {:?}",
                options.window, options.subsample
            ))
            .with_help("ask for a window of 1 or more, and a positive share from which on words are thinned"));
        }
        let mut words = Words::default();
        words.read(reader)?;
        words.corpus(options)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Bytes that so many samples take in memory, at most.
    pub fn bytes(&self, samples: usize) -> usize {
        samples.saturating_mul(2 * size_of::<usize>() + 8 + self.window.saturating_mul(8))
    }

    /// The samples of words `range` (windows reach over its ends). Test samples are best taken from one end: samples drawn at random share
    /// their windows with their neighbours.
    pub fn samples(&self, range: Range<usize>) -> SparseSet {
        let mut set = part::empty(self.words.len(), self.words.len());
        let range = range.start.min(self.len())..range.end.min(self.len());
        let mut first = range.start;
        while first < range.end {
            let end = range.end.min(first + 4096);
            part::append(&mut set, &self.part(first..end));
            first = end;
        }
        part::trim(&mut set);
        set
    }

    fn part(&self, range: Range<usize>) -> Part {
        let mut part = Part::default();
        let mut around = Vec::new();
        for at in range {
            let (features, labels) = (part.features.len(), part.labels.len());
            let end = self.tokens.len().min(at.saturating_add(self.window).saturating_add(1));
            around.clear();
            around.extend_from_slice(&self.tokens[at.saturating_sub(self.window)..at]);
            around.extend_from_slice(&self.tokens[at + 1..end]);
            around.sort_unstable();
            around.dedup();
            part.labels.extend_from_slice(&around);
            part.features.push(self.tokens[at]);
            part.values.push(1.0);
            part.close(features, labels);
        }
        part
    }
}

/// Words as they are first seen.
#[derive(Debug, Default)]
struct Words {
    ids: HashMap<String, u32>,
    counts: Vec<u64>,
    tokens: Vec<u32>,
    /// The word that is being read.
    word: String,
    line: usize,
    column: usize,
}

impl Words {
    fn read(&mut self, reader: impl Read) -> Result<()> {
        let (mut reader, gzip) = source::unpacked(reader).map_err(source::failed)?;
        (self.line, self.column) = (1, 1);
        let mut bytes = Vec::new();
        loop {
            let before = bytes.len();
            reader
                .by_ref()
                .take(AT_ONCE as u64)
                .read_to_end(&mut bytes)
                .map_err(|e| source::damaged(gzip, e).at(self.line, self.column))?;
            let ended = bytes.len() == before;
            let valid = match std::str::from_utf8(&bytes) {
                Ok(text) => text.len(),
                Err(e) => e.valid_up_to(),
            };
            // The first part was found to be text just now.
            self.text(std::str::from_utf8(&bytes[..valid]).unwrap_or_default())?;
            bytes.drain(..valid);
            // A character may be cut by the end of what was read; it has four bytes at most.
            if bytes.len() > 3 || ended && !bytes.is_empty() {
                return Err(Error::bad_input("the text is not UTF-8")
                    .at(self.line, self.column)
                    .with_help("save the file as UTF-8, such as by `iconv -f latin1 -t utf-8`"));
            }
            if ended {
                return self.end_word();
            }
        }
    }

    fn text(&mut self, text: &str) -> Result<()> {
        for c in text.chars() {
            if c.is_ascii_lowercase() {
                self.push(c);
            } else if c.is_ascii_uppercase() {
                self.push(c.to_ascii_lowercase());
            } else if c.is_alphabetic() {
                c.to_lowercase().for_each(|c| self.push(c));
            } else {
                self.end_word()?;
            }
            self.column += c.len_utf8();
            if c == '\n' {
                (self.line, self.column) = (self.line + 1, 1);
            }
        }
        Ok(())
    }

    fn push(&mut self, c: char) {
        if self.word.len() + c.len_utf8() <= LONGEST {
            self.word.push(c);
        }
    }

    fn end_word(&mut self) -> Result<()> {
        if self.word.is_empty() {
            return Ok(());
        }
        let id = match self.ids.get(self.word.as_str()) {
            Some(&id) => id,
            None => {
                let id = crate::ops::word(self.counts.len())?;
                self.counts.push(0);
                self.ids.insert(self.word.clone(), id);
                id
            }
        };
        self.counts[id as usize] += 1;
        self.tokens.push(id);
        self.word.clear();
        Ok(())
    }

    fn corpus(self, options: &SkipGram) -> Result<Corpus> {
        let read = self.tokens.len() as u64;
        let mut kept: Vec<(u64, String, u32)> = self
            .ids
            .into_iter()
            .map(|(word, id)| (self.counts[id as usize], word, id))
            .filter(|(count, ..)| *count >= options.min_count)
            .collect();
        // The order of a hash table shows nowhere: words are distinct.
        kept.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let mut places = vec![u32::MAX; self.counts.len()];
        for (place, (.., id)) in (0..).zip(&kept) {
            places[*id as usize] = place;
        }
        let counts: Vec<u64> = kept.iter().map(|word| word.0).collect();
        let total: u64 = counts.iter().sum();
        let chances = options.subsample.map(|t| chances(&counts, total, t));
        let stream = Stream::new(options.seed);
        let mut tokens = self.tokens;
        let mut place = 0;
        tokens.retain_mut(|token| {
            *token = places[*token as usize];
            if *token == u32::MAX {
                return false;
            }
            place += 1;
            let Some(chances) = &chances else { return true };
            u64::from(stream.word(place - 1, 0, 0, purpose::SUBSAMPLE)) < chances[*token as usize]
        });
        tokens.shrink_to_fit();
        if tokens.len() < 2 {
            return Err(Error::bad_input(format!("of {read} words {} are left, which makes no pair", tokens.len()))
                .with_help("use a longer text, a lower `min_count`, or no subsampling"));
        }
        let words = Names::new(kept.into_iter().map(|word| word.1).collect());
        let (rare, thinned) = (read - total, total - tokens.len() as u64);
        Ok(Corpus { words, counts, tokens, window: options.window, read, rare, thinned })
    }
}

/// For each word, how many of 2^32 draws keep it.
fn chances(counts: &[u64], total: u64, t: f64) -> Vec<u64> {
    let chance = |&count: &u64| {
        let f = count as f64 / total as f64;
        (((f / t).sqrt() + 1.0) * t / f).min(1.0)
    };
    counts.iter().map(|count| (chance(count) * 4_294_967_296.0) as u64).collect()
}
