//! Reads the text of a proof, line by line.

use super::{Claim, LayerProof, Proof, QueryProof, SOUNDNESS, bad_proof};
use crate::error::{Error, Result};
use std::str::SplitAsciiWhitespace;

const HELP: &str = "correct this line, or have the proof written again by the program that made it";

pub(super) fn parse(text: &str) -> Result<Proof> {
    let mut reader = Reader { text: text.lines().enumerate(), ahead: None, last: 0, lines: vec![] };
    let mut header = reader.item("wavehull-proof")?;
    let version = header.index("the version")?;
    if version != 1 {
        return Err(header
            .error(format!("version {version} of the proof format is not known"))
            .with_help("this program reads version 1; use the program that made the proof, or a newer one"));
    }
    header.end()?;
    let network = reader.digest("network")?;
    let property = reader.digest("property")?;
    let soundness = reader.soundness()?;
    let mut queries = vec![];
    while reader.next_is("query") {
        queries.push(reader.query(queries.len())?);
    }
    reader.item("end")?.end()?;
    if let Some((number, line)) = reader.advance() {
        return Err(Fields::new(number, line).error("there is text after `end`"));
    }
    Ok(Proof { network, property, soundness, queries, lines: reader.lines })
}

/// The lines of a proof that say something, with one line of look-ahead.
struct Reader<'a> {
    text: std::iter::Enumerate<std::str::Lines<'a>>,
    ahead: Option<(usize, &'a str)>,
    last: usize,
    lines: Vec<usize>,
}

impl<'a> Reader<'a> {
    /// The next line that says something, with its number.
    fn advance(&mut self) -> Option<(usize, &'a str)> {
        if let Some(line) = self.ahead.take() {
            return Some(line);
        }
        for (index, line) in self.text.by_ref() {
            self.last = index + 1;
            let said = line.trim_ascii_start();
            if !said.is_empty() && !said.starts_with('#') {
                return Some((index + 1, line));
            }
        }
        None
    }

    /// True if the next line begins with a keyword.
    fn next_is(&mut self, keyword: &str) -> bool {
        self.ahead = self.advance();
        self.ahead.is_some_and(|(_, line)| line.split_ascii_whitespace().next() == Some(keyword))
    }

    /// The fields behind the keyword that the next line must begin with.
    fn item(&mut self, keyword: &str) -> Result<Fields<'a>> {
        let Some((number, line)) = self.advance() else {
            let message = format!("the proof ends where a line `{keyword} ...` is expected");
            return Err(bad_proof(message).at(self.last + 1, 1).with_help("the file was cut short; write it again"));
        };
        let mut fields = Fields::new(number, line);
        let found = fields.word(keyword)?;
        if found != keyword {
            return Err(fields.error(format!("expected a line `{keyword} ...`, found `{}`", shown(found))));
        }
        self.lines.push(number);
        Ok(fields)
    }

    fn digest(&mut self, keyword: &str) -> Result<String> {
        let mut fields = self.item(keyword)?;
        let word = fields.word("a digest `sha256:...`")?;
        let hex = word.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(fields.error(format!("expected `sha256:` and 64 hex digits, found `{}`", shown(word))));
        }
        fields.end()?;
        Ok(hex.to_ascii_lowercase())
    }

    fn soundness(&mut self) -> Result<String> {
        let mut fields = self.item("soundness")?;
        let word = fields.word("`strict` or `trust-f32`")?;
        if !SOUNDNESS.contains(&word) {
            return Err(fields.error(format!("expected `strict` or `trust-f32`, found `{}`", shown(word))));
        }
        fields.end()?;
        Ok(word.to_owned())
    }

    fn query(&mut self, index: usize) -> Result<QueryProof> {
        let mut fields = self.item("query")?;
        fields.exactly(index, "query")?;
        fields.end()?;
        let mut query = QueryProof { layers: vec![], claims: vec![] };
        while self.next_is("layer") {
            query.layers.push(self.layer(query.layers.len())?);
        }
        while self.next_is("claim") {
            query.claims.push(self.claim(query.claims.len())?);
        }
        Ok(query)
    }

    fn layer(&mut self, index: usize) -> Result<LayerProof> {
        let mut fields = self.item("layer")?;
        fields.exactly(index, "layer")?;
        let width = fields.index("the width")?;
        if width == 0 {
            return Err(fields.error("a layer has at least one neuron"));
        }
        fields.end()?;
        let slopes = self.slopes("slopes", width)?;
        let upper = if self.next_is("upper") { self.slopes("upper", width)? } else { vec![] };
        let mut refined: Vec<(usize, f64, f64)> = vec![];
        while self.next_is("refine") {
            let mut fields = self.item("refine")?;
            let neuron = fields.index("a neuron")?;
            if neuron >= width {
                return Err(fields.error(format!("neuron {neuron} does not exist in a layer of width {width}")));
            }
            if refined.last().is_some_and(|last| last.0 >= neuron) {
                return Err(fields.error(format!("neuron {neuron} is repeated or out of order")));
            }
            let lower = fields.number("the lower bound")?;
            let upper = fields.number("the upper bound")?;
            if lower > upper {
                return Err(fields.error(format!("the lower bound {lower} is above the upper bound {upper}")));
            }
            fields.end()?;
            refined.push((neuron, lower, upper));
        }
        Ok(LayerProof { slopes, upper, refined })
    }

    fn slopes(&mut self, keyword: &str, width: usize) -> Result<Vec<f64>> {
        let mut fields = self.item(keyword)?;
        let mut slopes = vec![];
        while slopes.len() < width {
            let slope = fields.number("a slope")?;
            if !(0.0..=1.0).contains(&slope) {
                return Err(fields.error(format!("the slope {slope} is not in [0, 1]")));
            }
            slopes.push(slope);
        }
        fields.end()?;
        Ok(slopes)
    }

    fn claim(&mut self, index: usize) -> Result<Claim> {
        let mut fields = self.item("claim")?;
        fields.exactly(index, "claim of conjunction")?;
        let row = fields.index("a row")?;
        let bound = fields.number("the row's lower bound")?;
        fields.end()?;
        Ok(Claim { conjunction: index, row, bound })
    }
}

/// The fields of one line.
struct Fields<'a> {
    number: usize,
    line: &'a str,
    rest: SplitAsciiWhitespace<'a>,
    /// Byte offset of the field read last.
    at: usize,
}

impl<'a> Fields<'a> {
    fn new(number: usize, line: &'a str) -> Self {
        Self { number, line, rest: line.split_ascii_whitespace(), at: 0 }
    }

    /// An error at the field read last.
    fn error(&self, message: impl Into<String>) -> Error {
        let column = self.line.get(..self.at).map_or(0, |before| before.chars().count()) + 1;
        bad_proof(message).at(self.number, column).with_help(HELP)
    }

    fn word(&mut self, what: &str) -> Result<&'a str> {
        let Some(word) = self.rest.next() else {
            self.at = self.line.len();
            return Err(self.error(format!("the line ends where {what} is expected")));
        };
        self.at = word.as_ptr().addr() - self.line.as_ptr().addr();
        Ok(word)
    }

    fn index(&mut self, what: &str) -> Result<usize> {
        let word = self.word(what)?;
        let digits = word.bytes().all(|b| b.is_ascii_digit());
        match word.parse() {
            Ok(index) if digits => Ok(index),
            _ => Err(self.error(format!("expected {what} as a whole number, found `{}`", shown(word)))),
        }
    }

    /// An index whose value is known in advance.
    fn exactly(&mut self, expected: usize, what: &str) -> Result<()> {
        let found = self.index(what)?;
        if found == expected {
            return Ok(());
        }
        Err(self.error(format!("expected {what} {expected}, found {found}: missing, repeated or out of order")))
    }

    fn number(&mut self, what: &str) -> Result<f64> {
        let word = self.word(what)?;
        // Rust would also read `inf`, `nan` and `infinity`.
        let plain = word.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        match word.parse::<f64>() {
            Ok(number) if plain && number.is_finite() => Ok(number),
            _ => Err(self.error(format!("expected {what} as a finite number, found `{}`", shown(word)))),
        }
    }

    fn end(mut self) -> Result<()> {
        match self.rest.next() {
            None => Ok(()),
            Some(word) => {
                self.at = word.as_ptr().addr() - self.line.as_ptr().addr();
                Err(self.error(format!("unexpected `{}` at the end of the line", shown(word))))
            }
        }
    }
}

/// A piece of the user's text, short enough for a message.
fn shown(word: &str) -> String {
    match word.char_indices().nth(40) {
        None => word.to_owned(),
        Some((end, _)) => format!("{}...", &word[..end]),
    }
}
