//! A small strict preprocessor for WGSL.
//!
//! | line | meaning |
//! | --- | --- |
//! | `#import "lib/float"` | the text of `shaders/lib/float.wgsl`, once a module |
//! | `#ifdef NAME` ... `#else` ... `#endif` | depending on a define; `#ifndef` is the opposite |
//! | `#unroll i 0 ${TM}` ... `#endunroll` | the lines once for each value of `i`, with `${i}` replaced |
//! | `${NAME}` | the value of a define or unroll variable |
//!
//! Whatever is unknown (an import, a name, a directive) is an error: nothing is passed through silently.

use crate::error::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};

/// The shared parts that `#import` knows.
const LIBRARY: &[(&str, &str)] = &[
    ("lib/bf16", include_str!("../../shaders/lib/bf16.wgsl")),
    ("lib/chunks", include_str!("../../shaders/lib/chunks.wgsl")),
    ("lib/conv", include_str!("../../shaders/lib/conv.wgsl")),
    ("lib/conv_weight", include_str!("../../shaders/lib/conv_weight.wgsl")),
    ("lib/divide", include_str!("../../shaders/lib/divide.wgsl")),
    ("lib/float", include_str!("../../shaders/lib/float.wgsl")),
    ("lib/halves", include_str!("../../shaders/lib/halves.wgsl")),
    ("lib/group_widths", include_str!("../../shaders/lib/group_widths.wgsl")),
    ("lib/ids", include_str!("../../shaders/lib/ids.wgsl")),
    ("lib/logistic", include_str!("../../shaders/lib/logistic.wgsl")),
    ("lib/philox", include_str!("../../shaders/lib/philox.wgsl")),
    ("lib/pool", include_str!("../../shaders/lib/pool.wgsl")),
    ("lib/requantise", include_str!("../../shaders/lib/requantise.wgsl")),
    ("lib/rows", include_str!("../../shaders/lib/rows.wgsl")),
    ("lib/smooth", include_str!("../../shaders/lib/smooth.wgsl")),
    ("lib/stored", include_str!("../../shaders/lib/stored.wgsl")),
    ("lib/strands", include_str!("../../shaders/lib/strands.wgsl")),
    ("lib/tally", include_str!("../../shaders/lib/tally.wgsl")),
    ("lib/taps", include_str!("../../shaders/lib/taps.wgsl")),
];

/// Expands `source` with `defines`.
///
/// # Errors
/// [`ErrorKind::Shader`] with the kernel's name and line for any unknown import, name or directive, and for
/// unbalanced blocks.
pub fn preprocess(name: &str, source: &str, defines: &[(&'static str, String)]) -> Result<String> {
    let mut expander = Expander {
        name,
        values: defines.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        imported: BTreeSet::new(),
        out: String::with_capacity(source.len() * 2),
    };
    let lines: Vec<(usize, &str)> = source.lines().enumerate().map(|(i, line)| (i + 1, line)).collect();
    expander.block(&lines)?;
    Ok(expander.out)
}

struct Expander<'a> {
    name: &'a str,
    values: BTreeMap<String, String>,
    imported: BTreeSet<String>,
    out: String,
}

impl Expander<'_> {
    fn block(&mut self, lines: &[(usize, &str)]) -> Result<()> {
        let mut at = 0;
        while at < lines.len() {
            let (number, line) = lines[at];
            let Some(directive) = line.trim_start().strip_prefix('#') else {
                let text = self.substitute(number, line)?;
                self.out.push_str(&text);
                self.out.push('\n');
                at += 1;
                continue;
            };
            let words: Vec<&str> = directive.split_whitespace().collect();
            at = match words.as_slice() {
                ["import", path] => {
                    self.import(number, path.trim_matches('"'))?;
                    at + 1
                }
                ["ifdef", key] => self.conditional(lines, at, self.values.contains_key(*key))?,
                ["ifndef", key] => self.conditional(lines, at, !self.values.contains_key(*key))?,
                ["unroll", variable, low, high] => {
                    let low = self.integer(number, low)?;
                    let high = self.integer(number, high)?;
                    self.unroll(lines, at, variable, low..high)?
                }
                _ => return Err(self.error(number, format!("unknown or misplaced directive '#{directive}'"))),
            };
        }
        Ok(())
    }

    fn import(&mut self, number: usize, path: &str) -> Result<()> {
        let Some((_, text)) = LIBRARY.iter().find(|(known, _)| *known == path) else {
            return Err(self.error(number, format!("unknown import \"{path}\"")));
        };
        if self.imported.insert(path.to_owned()) {
            let lines: Vec<(usize, &str)> = text.lines().map(|line| (number, line)).collect();
            self.block(&lines)?;
        }
        Ok(())
    }

    fn conditional(&mut self, lines: &[(usize, &str)], start: usize, taken: bool) -> Result<usize> {
        let (middle, end) = self.block_end(lines, start, "if", "endif")?;
        let body = match (taken, middle) {
            (true, middle) => &lines[start + 1..middle.unwrap_or(end)],
            (false, Some(middle)) => &lines[middle + 1..end],
            (false, None) => &[],
        };
        self.block(body)?;
        Ok(end + 1)
    }

    fn unroll(
        &mut self,
        lines: &[(usize, &str)],
        start: usize,
        variable: &str,
        range: std::ops::Range<u32>,
    ) -> Result<usize> {
        let (_, end) = self.block_end(lines, start, "unroll", "endunroll")?;
        if self.values.contains_key(variable) {
            return Err(self.error(lines[start].0, format!("the unroll variable '{variable}' is already defined")));
        }
        for value in range {
            self.values.insert(variable.to_owned(), value.to_string());
            self.block(&lines[start + 1..end])?;
        }
        self.values.remove(variable);
        Ok(end + 1)
    }

    /// The `#else` (if any) and the end of the block that opens at `start`.
    fn block_end(
        &self,
        lines: &[(usize, &str)],
        start: usize,
        open: &str,
        close: &str,
    ) -> Result<(Option<usize>, usize)> {
        let mut depth = 0;
        let mut middle = None;
        for (index, (_, line)) in lines.iter().enumerate().skip(start + 1) {
            let Some(directive) = line.trim_start().strip_prefix('#') else { continue };
            let word = directive.split_whitespace().next().unwrap_or_default();
            if word.starts_with(open) {
                depth += 1;
            } else if word == close && depth == 0 {
                return Ok((middle, index));
            } else if word == close {
                depth -= 1;
            } else if word == "else" && open == "if" && depth == 0 {
                middle = Some(index);
            }
        }
        Err(self.error(lines[start].0, format!("no '#{close}' for this block")))
    }

    fn integer(&self, number: usize, text: &str) -> Result<u32> {
        let text = self.substitute(number, text)?;
        text.parse().map_err(|_| self.error(number, format!("'{text}' is not a number")))
    }

    fn substitute(&self, number: usize, line: &str) -> Result<String> {
        let mut out = String::with_capacity(line.len());
        let mut rest = line;
        while let Some(start) = rest.find("${") {
            let Some(length) = rest[start..].find('}') else {
                return Err(self.error(number, "'${' without '}'".to_owned()));
            };
            let key = &rest[start + 2..start + length];
            let Some(value) = self.values.get(key) else {
                return Err(self.error(number, format!("unknown name '${{{key}}}'")));
            };
            out.push_str(&rest[..start]);
            out.push_str(value);
            rest = &rest[start + length + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn error(&self, line: usize, message: String) -> Error {
        Error::new(ErrorKind::Shader, format!("kernel '{}', line {line}: {message}", self.name))
            .with_help("a shipped kernel must expand: report this, or correct the kernel you changed")
    }
}

#[cfg(test)]
mod tests {
    use super::preprocess;

    fn expand(source: &str, defines: &[(&'static str, String)]) -> Result<String, String> {
        preprocess("k", source, defines).map_err(|e| e.to_string())
    }

    #[test]
    fn substitutes_and_unrolls() {
        let text = "#unroll i 0 ${N}\nlet a_${i} = ${i}u;\n#endunroll\n";
        let out = expand(text, &[("N", "2".into())]);
        assert_eq!(out.as_deref(), Ok("let a_0 = 0u;\nlet a_1 = 1u;\n"), "two copies");
    }

    #[test]
    fn nests_blocks() {
        let text = "#ifdef A\n#ifdef B\nab\n#else\na\n#endif\n#else\n#ifndef B\nnone\n#endif\n#endif\n";
        assert_eq!(expand(text, &[("A", String::new())]).as_deref(), Ok("a\n"), "A only");
        assert_eq!(expand(text, &[("B", String::new())]).as_deref(), Ok(""), "B only");
        assert_eq!(expand(text, &[]).as_deref(), Ok("none\n"), "neither");
    }

    #[test]
    fn whatever_is_unknown_is_an_error() {
        for (text, expected) in [
            ("a\n#import \"lib/nothing\"", "kernel 'k', line 2: unknown import \"lib/nothing\""),
            ("${X}", "kernel 'k', line 1: unknown name '${X}'"),
            ("${X", "kernel 'k', line 1: '${' without '}'"),
            ("#define X", "kernel 'k', line 1: unknown or misplaced directive '#define X'"),
            ("#endif", "kernel 'k', line 1: unknown or misplaced directive '#endif'"),
            ("#ifdef A\n", "kernel 'k', line 1: no '#endif' for this block"),
            ("#unroll i 0 x\n#endunroll", "kernel 'k', line 1: 'x' is not a number"),
        ] {
            assert_eq!(expand(text, &[]), Err(expected.to_owned()), "{text}");
        }
    }
}
