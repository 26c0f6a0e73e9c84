//! The lines of a block.

use super::super::Notes;
use super::super::part::Part;
use super::super::source::Block;
use super::Header;
use crate::error::{Error, Result};

/// A fault: where in the line, from 0, what, and the next step.
type Fault = (usize, String, String);

/// The samples of a block.
pub(super) fn parse(block: &Block, header: &Header) -> Result<(Part, Notes)> {
    let (mut part, mut notes) = (Part::default(), Notes::default());
    // Twelve bytes a non-zero are usual; a wrong guess costs a move.
    part.features.reserve(block.bytes.len() / 12);
    part.values.reserve(block.bytes.len() / 12);
    let bytes = block.bytes.strip_suffix(b"\n").unwrap_or(&block.bytes);
    if block.bytes.is_empty() {
        return Ok((part, notes));
    }
    for (line, text) in (block.line..).zip(bytes.split(|&b| b == b'\n')) {
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let mut reader = Line { text, header, part: &mut part, notes: &mut notes };
        let read = if line < header.samples + 2 { reader.sample() } else { reader.behind() };
        read.map_err(|(column, what, help)| Error::bad_input(what).at(line, column + 1).with_help(help))?;
    }
    Ok((part, notes))
}

/// A word of the file for a message: not all of it if it is long, and nothing that a terminal would obey.
pub(super) fn shown(word: &[u8]) -> String {
    let text = String::from_utf8_lossy(&word[..word.len().min(40)]);
    let dots = if word.len() > 40 { "..." } else { "" };
    format!("'{}{dots}'", text.escape_debug())
}

fn blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

struct Line<'a> {
    text: &'a [u8],
    header: &'a Header,
    part: &'a mut Part,
    notes: &'a mut Notes,
}

impl Line<'_> {
    /// A line behind the last sample: nothing may stand there.
    fn behind(&self) -> Result<(), Fault> {
        match self.text.iter().position(|&b| !blank(b)) {
            None => Ok(()),
            Some(at) => Err((
                at,
                format!("more samples than the {} that the header promises", self.header.samples),
                "correct the header's first number, or remove the lines behind".to_owned(),
            )),
        }
    }

    fn sample(&mut self) -> Result<(), Fault> {
        let (features, labels) = (self.part.features.len(), self.part.labels.len());
        let end = self.word_end(0);
        let mut at = 0;
        if end > 0 && !self.text[..end].contains(&b':') {
            self.labels(end)?;
            at = end;
        }
        self.features(at)?;
        let sorted = [self.sort_labels(labels), self.sort_features(features)?];
        self.notes.sorted += usize::from(sorted.contains(&true));
        if self.part.features.len() == features {
            if !self.header.keep_empty {
                return Err((
                    0,
                    "a sample without features".to_owned(),
                    "it can teach nothing: remove the line and lower the header's first number, or set the option `keep_empty`".to_owned(),
                ));
            }
            self.notes.empty += 1;
        }
        self.notes.unlabelled += usize::from(self.part.labels.len() == labels);
        self.part.close(features, labels);
        Ok(())
    }

    /// Where the word that begins at `at` ends.
    fn word_end(&self, at: usize) -> usize {
        self.text[at..].iter().position(|&b| blank(b)).map_or(self.text.len(), |n| at + n)
    }

    /// The labels in the first word, which ends at `last`.
    fn labels(&mut self, last: usize) -> Result<(), Fault> {
        let mut at = 0;
        loop {
            let end = self.text[at..last].iter().position(|&b| b == b',').map_or(last, |n| at + n);
            let id = self.id(at, end, self.header.labels, "label")?;
            self.part.labels.push(id);
            if end == last {
                return Ok(());
            }
            at = end + 1;
        }
    }

    fn features(&mut self, mut at: usize) -> Result<(), Fault> {
        loop {
            at += self.text[at..].iter().position(|&b| !blank(b)).unwrap_or(self.text.len() - at);
            if at == self.text.len() {
                return Ok(());
            }
            // One pass over a word's bytes: the id is a number while digits come, and the value a small decimal while it is one.
            let mut colon = at;
            while self.text.get(colon).is_some_and(u8::is_ascii_digit) {
                colon += 1;
            }
            if self.text.get(colon) != Some(&b':') {
                return Err(self.no_feature(at));
            }
            let id = self.id(at, colon, self.header.features, "feature")?;
            let end = self.word_end(colon + 1);
            let word = &self.text[colon + 1..end];
            let Some(value) = small_decimal(word).or_else(|| number(word)) else {
                return Err((
                    colon + 1,
                    format!("the value {} of feature {id} is no finite number of 32 bits", shown(word)),
                    "correct the value, or remove the feature from the sample".to_owned(),
                ));
            };
            self.part.features.push(id);
            self.part.values.push(value);
            at = end;
        }
    }

    /// The id in `text[at..end]`.
    fn id(&self, at: usize, end: usize, count: usize, what: &str) -> Result<u32, Fault> {
        let digits = &self.text[at..end];
        let mut id = 0_u64;
        for &digit in digits {
            if !digit.is_ascii_digit() {
                return Err(no_id(at, digits, what));
            }
            id = (10 * id + u64::from(digit - b'0')).min(1 << 40);
        }
        if digits.is_empty() {
            return Err(no_id(at, digits, what));
        }
        match u32::try_from(id) {
            Ok(id) if (id as usize) < count => Ok(id),
            _ => Err((
                at,
                format!("{what} {} is not below the header's {count}", shown(digits)),
                too_large(id, count, what),
            )),
        }
    }

    /// Why a word is no `feature:value`.
    fn no_feature(&self, at: usize) -> Fault {
        let word = &self.text[at..self.word_end(at)];
        if let Some(colon) = word.iter().position(|&b| b == b':') {
            return no_id(at, &word[..colon], "feature");
        }
        // A list of labels that goes on: its last part ended with a comma, this one begins with one, or no feature has come yet.
        let before = self.text[..at].iter().rfind(|&&b| !blank(b));
        if before == Some(&b',') || word.starts_with(b",") || !self.text[..at].contains(&b':') {
            let help = "write labels with commas and without spaces, `12,7 3:0.5`; features as `id:value`";
            return (at, format!("{} stands where a feature should, with no value", shown(word)), help.to_owned());
        }
        let help = format!(
            "write it as `id:value`; a feature that is just there has the value 1: `{}:1`",
            shown(word).trim_matches('\'')
        );
        (at, format!("the feature {} has no value", shown(word)), help)
    }

    /// Sorts labels and drops doubles; whether they were out of order.
    fn sort_labels(&mut self, first: usize) -> bool {
        let own = &mut self.part.labels[first..];
        if own.windows(2).all(|pair| pair[0] < pair[1]) {
            return false;
        }
        let sorted = own.windows(2).any(|pair| pair[0] > pair[1]);
        own.sort_unstable();
        let mut kept = first;
        for i in first..self.part.labels.len() {
            if i == first || self.part.labels[i] != self.part.labels[kept - 1] {
                self.part.labels[kept] = self.part.labels[i];
                kept += 1;
            }
        }
        self.notes.doubled_labels += self.part.labels.len() - kept;
        self.part.labels.truncate(kept);
        sorted
    }

    /// Sorts features; whether they were out of order.
    fn sort_features(&mut self, first: usize) -> Result<bool, Fault> {
        let own = &mut self.part.features[first..];
        if own.windows(2).all(|pair| pair[0] < pair[1]) {
            return Ok(false);
        }
        let values = &mut self.part.values[first..];
        let mut pairs: Vec<(u32, f32)> = own.iter().copied().zip(values.iter().copied()).collect();
        pairs.sort_by_key(|pair| pair.0);
        if let Some(pair) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let id = pair[0].0;
            let help = "give each feature of a sample one value: add the two, or remove one".to_owned();
            return Err((self.second(id), format!("feature {id} stands twice in the sample"), help));
        }
        for ((id, value), pair) in own.iter_mut().zip(values).zip(pairs) {
            (*id, *value) = pair;
        }
        Ok(true)
    }

    /// Where a feature stands for the second time.
    fn second(&self, id: u32) -> usize {
        let mut at = 0;
        let mut seen = false;
        while at < self.text.len() {
            let end = self.word_end(at);
            let word = &self.text[at..end];
            let own = word.iter().position(|&b| b == b':').and_then(|colon| std::str::from_utf8(&word[..colon]).ok());
            if own.is_some_and(|own| own.parse() == Ok(id)) {
                if seen {
                    return at;
                }
                seen = true;
            }
            at = end + 1;
        }
        0
    }
}

fn no_id(at: usize, word: &[u8], what: &str) -> Fault {
    if word.is_empty() && what == "label" {
        let help =
            "write labels with commas and without spaces: `12,7 3:0.5`; a sample without labels begins with a space";
        return (at, "a comma without a label".to_owned(), help.to_owned());
    }
    let help = "ids are whole numbers from 0; names belong into a file of their own, one a line";
    (at, format!("the {what} {} is no number", shown(word)), help.to_owned())
}

fn too_large(id: u64, count: usize, what: &str) -> String {
    if id == count as u64 {
        return format!(
            "ids count from 0; if those of this file count from 1, raise the header's number of {what}s to {} (no {what} 0 will then be seen)",
            count + 1
        );
    }
    format!("correct the header's number of {what}s if it is too small, or the id")
}

/// The value of a decimal of few digits. A mantissa below 2^24 and ten to at most the tenth are exact in f32, so that their quotient is
/// rounded once: the nearest f32, as the standard library finds it. Others are left to that.
fn small_decimal(word: &[u8]) -> Option<f32> {
    const TENS: [f32; 11] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];
    let (negative, digits) = match word {
        [b'-', rest @ ..] => (true, rest),
        all => (false, all),
    };
    if digits.len() > 11 {
        return None;
    }
    let (mut mantissa, mut point) = (0_u64, None);
    for (i, &byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => mantissa = 10 * mantissa + u64::from(byte - b'0'),
            b'.' if point.is_none() => point = Some(i),
            _ => return None,
        }
    }
    let decimals = point.map_or(0, |at| digits.len() - 1 - at);
    if mantissa >= 1 << 24 || digits.len() == usize::from(point.is_some()) {
        return None;
    }
    let value = mantissa as f32 / TENS[decimals];
    Some(if negative { -value } else { value })
}

fn number(word: &[u8]) -> Option<f32> {
    std::str::from_utf8(word).ok()?.parse().ok().filter(|value: &f32| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::{number, small_decimal};
    use proptest::prelude::*;

    #[test]
    fn decimals_at_the_edges() {
        for text in ["0", "-0", "0.0", ".5", "5.", "16777215", "-1.6777215", "0.000000001", "00000000001"] {
            let own = small_decimal(text.as_bytes()).unwrap();
            assert_eq!(own.to_bits(), text.parse::<f32>().unwrap().to_bits(), "{text}");
        }
        for text in ["", "-", ".", "-.", "1.2.3", "16777216", "1e3", "nan", "0.0000000001", "--1", "+1"] {
            assert_eq!(small_decimal(text.as_bytes()), None, "{text}");
        }
        for text in ["", "nan", "inf", "-infinity", "1e39", "1,5", "0x10", "1 "] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn small_decimals_are_rounded_as_the_standard_library_does(mantissa in 0_u32..1 << 24, at in 0_usize..9) {
            let mut text = format!("{mantissa:08}");
            text.insert(at.min(text.len()), '.');
            let own = small_decimal(text.as_bytes()).expect("few digits");
            prop_assert_eq!(own.to_bits(), text.parse::<f32>().expect("a decimal").to_bits(), "{}", text);
        }
    }
}
