//! Plain text for language models of characters.

use std::collections::BTreeSet;
use std::path::Path;

use ndarray::Array2;

use super::{Dataset, Inputs, Targets};
use crate::error::{Error, Result};
use crate::files;

/// The characters of a text in the order of their code points; a token is a place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary(Vec<char>);

impl Vocabulary {
    /// The characters of a text.
    pub fn of(text: &str) -> Self {
        Self(text.chars().collect::<BTreeSet<char>>().into_iter().collect())
    }

    /// All characters; the place of each is its token.
    pub fn characters(&self) -> &[char] {
        &self.0
    }

    /// The token of a character, if it is known.
    pub fn token(&self, character: char) -> Option<u32> {
        self.0.binary_search(&character).ok().and_then(|i| u32::try_from(i).ok())
    }

    /// The text of tokens; unknown ones are left out.
    pub fn text(&self, tokens: &[u32]) -> String {
        tokens.iter().filter_map(|&t| self.0.get(t as usize)).collect()
    }
}

/// Reads a text and cuts it into windows of `context` characters that do not overlap; the targets are the same windows one character
/// later, so that a rest of fewer than `context + 1` characters is left out. With `vocabulary` the characters must be among those.
///
/// # Errors
/// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] for a file that is no UTF-8 or too short for one window, and for a
/// character that is not in the vocabulary, with its place.
pub fn read_text(path: &Path, context: usize, vocabulary: Option<&Vocabulary>) -> Result<(Dataset, Vocabulary)> {
    windows(&files::text(path)?, context, vocabulary).map_err(|e| e.in_file(path))
}

fn windows(text: &str, context: usize, vocabulary: Option<&Vocabulary>) -> Result<(Dataset, Vocabulary)> {
    let vocabulary = vocabulary.cloned().unwrap_or_else(|| Vocabulary::of(text));
    let mut tokens = Vec::with_capacity(text.len());
    let (mut line, mut column) = (1, 1);
    for character in text.chars() {
        tokens.push(vocabulary.token(character).ok_or_else(|| {
            Error::bad_input(format!("the character {character:?} is not in the vocabulary of the training text"))
                .at(line, column)
                .with_help("add it to the training text, or remove it here")
        })?);
        (line, column) = if character == '\n' { (line + 1, 1) } else { (line, column + 1) };
    }
    let samples = tokens.len().saturating_sub(1).checked_div(context).unwrap_or(0);
    if samples == 0 {
        return Err(Error::bad_input(format!(
            "a text of {} characters holds no window of {context} and the character after it",
            tokens.len()
        ))
        .with_help("use a longer text or a shorter, positive context"));
    }
    let window = |first: usize| {
        let part = tokens[first..first + samples * context].to_vec();
        Array2::from_shape_vec((samples, context), part).map_err(|e| Error::internal(e.to_string()))
    };
    let targets = Targets::Tokens { tokens: window(1)?, vocabulary: vocabulary.0.len() };
    Ok((Dataset::new(Inputs::Tokens(window(0)?), targets)?, vocabulary))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn targets_are_one_character_ahead() {
        let (set, vocabulary) = windows("abcab", 2, None).expect("two windows");
        assert_eq!(set.inputs, Inputs::Tokens(array![[0, 1], [2, 0]]));
        assert_eq!(set.targets, Targets::Tokens { tokens: array![[1, 2], [0, 1]], vocabulary: 3 });
        assert_eq!(vocabulary.text(&[2, 0, 1, 9]), "cab");
        let (set, _) = windows("abcabcab", 3, None).expect("a rest is left out");
        assert_eq!(set.len(), 2);
    }

    #[test]
    fn short_texts_and_foreign_characters_are_refused() {
        assert!(windows("ab", 2, None).expect_err("too short").message().contains("no window of 2"));
        assert!(windows("", 4, None).is_err() && windows("abc", 0, None).is_err());
        let error = windows("ab\naé", 1, Some(&Vocabulary::of("ab\n"))).expect_err("foreign");
        assert_eq!(error.place().and_then(|p| p.position), Some((2, 2)));
    }
}
