//! Names of schemes, for tables and for the command line.
//!
//! | name | scheme |
//! | --- | --- |
//! | `none` | containers as they are |
//! | `one-width` | one width for the tensor |
//! | `zvc` | zero-value compression |
//! | `rle4` | zero runs with counts of 4 bits |
//! | `ss16` | ShapeShifter, groups of 16; `ss16:prefix=3` another prefix, `ss16:dense` zeros stored too |
//! | `fixed16` | fixed-lane width coding, groups of 16; options `prefix=4`, `zero`, `same`, `restart=position`, `row` or `tensor`, `pointer=32` |
//! | `scnn4` | SCNN's streams, groups of 4; `scnn4w` with widths, `scnn4:run=3` counts of 3 bits |
//! | `ebpc`, `huffman`, `rans`, `entropy` | as they say |
//!
//! `zero` allows width 0, `same` a bit for the width of the group before.
//! A group may stand among the options too: `fixed:group=8,zero,same` is `fixed8:zero,same`.

use std::fmt;
use std::str::FromStr;

use super::{FixedLane, Restart, Scheme};
use crate::error::{Error, Result};

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options: Vec<String> = Vec::new();
        let mut option = |given: bool, text: String| options.extend(given.then_some(text));
        let name = match *self {
            Self::Uncompressed => "none".to_owned(),
            Self::OneWidth => "one-width".to_owned(),
            Self::ZeroValue => "zvc".to_owned(),
            Self::ZeroRuns { run_bits } => format!("rle{run_bits}"),
            Self::ShapeShifter { group, prefix, zero_vector } => {
                option(prefix != 0, format!("prefix={prefix}"));
                option(!zero_vector, "dense".to_owned());
                format!("ss{group}")
            }
            Self::FixedLane(FixedLane { group, prefix, zero_width, same_as_previous, restart, pointer }) => {
                option(prefix != 0, format!("prefix={prefix}"));
                option(zero_width, "zero".to_owned());
                option(same_as_previous, "same".to_owned());
                option(restart != Restart::Row, format!("restart={restart}"));
                option(pointer != 32, format!("pointer={pointer}"));
                format!("fixed{group}")
            }
            Self::Scnn { group, run_bits, widths } => {
                option(run_bits != 4, format!("run={run_bits}"));
                format!("scnn{group}{}", if widths { "w" } else { "" })
            }
            Self::BitPlanes => "ebpc".to_owned(),
            Self::Huffman => "huffman".to_owned(),
            Self::Rans => "rans".to_owned(),
            Self::Entropy => "entropy".to_owned(),
        };
        let colon = if options.is_empty() { "" } else { ":" };
        f.pad(&format!("{name}{colon}{}", options.join(",")))
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Position => "position",
            Self::Row => "row",
            Self::Tensor => "tensor",
        })
    }
}

/// The options of a scheme that nobody has asked for yet.
struct Options<'a> {
    scheme: &'a str,
    left: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> Options<'a> {
    fn refuse(&self, what: impl fmt::Display) -> Error {
        Error::bad_input(format!("scheme '{}': {what}", self.scheme)).with_help(
            "names look like none, zvc, rle4, ss16, fixed16:zero,same,restart=row, scnn4w, ebpc, huffman, entropy",
        )
    }

    fn take(&mut self, name: &str) -> Option<Option<&'a str>> {
        let at = self.left.iter().position(|(known, _)| *known == name)?;
        Some(self.left.remove(at).1)
    }

    fn flag(&mut self, name: &str) -> Result<bool> {
        match self.take(name) {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some(value)) => {
                let what = format!("'{name}' takes no value, '{value}' was given");
                Err(self.refuse(what))
            }
        }
    }

    fn number<T: FromStr>(&mut self, name: &str, default: T) -> Result<T> {
        let Some(value) = self.take(name) else { return Ok(default) };
        let parsed = value.and_then(|value| value.parse().ok());
        parsed.ok_or_else(|| self.refuse(format!("'{name}' needs a number, as in {name}=8")))
    }

    fn restart(&mut self) -> Result<Restart> {
        match self.take("restart") {
            None | Some(Some("row")) => Ok(Restart::Row),
            Some(Some("position")) => Ok(Restart::Position),
            Some(Some("tensor")) => Ok(Restart::Tensor),
            Some(_) => Err(self.refuse("'restart' is position, row or tensor")),
        }
    }

    fn finish(self, scheme: Scheme) -> Result<Scheme> {
        match self.left.first() {
            None => Ok(scheme),
            Some((name, _)) => Err(self.refuse(format!("'{name}' is no option of it"))),
        }
    }
}

impl FromStr for Scheme {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let pairs = rest.split(',').map(str::trim).filter(|option| !option.is_empty());
        let left = pairs.map(|pair| pair.split_once('=').map_or((pair, None), |(key, value)| (key, Some(value))));
        let mut options = Options { scheme: text, left: left.collect() };
        let (stem, widths) = match name.strip_suffix('w') {
            Some(stem) if stem.starts_with("scnn") => (stem, true),
            _ => (name, false),
        };
        let digits = stem.trim_start_matches(|c: char| !c.is_ascii_digit());
        let family = &stem[..stem.len() - digits.len()];
        let count = |default: usize| match digits {
            "" => Ok(default),
            digits => digits.parse().map_err(|_| options.refuse(format!("'{digits}' is no number"))),
        };
        let scheme = match (family, digits) {
            ("none", "") => Self::Uncompressed,
            ("one-width", "") => Self::OneWidth,
            ("zvc", "") => Self::ZeroValue,
            ("ebpc", "") => Self::BitPlanes,
            ("huffman", "") => Self::Huffman,
            ("rans", "") => Self::Rans,
            ("entropy", "") => Self::Entropy,
            ("rle", _) => Self::ZeroRuns { run_bits: u32::try_from(count(4)?).unwrap_or(u32::MAX) },
            ("ss", _) => {
                let group = count(16)?;
                Self::ShapeShifter {
                    group: options.number("group", group)?,
                    prefix: options.number("prefix", 0)?,
                    zero_vector: !options.flag("dense")?,
                }
            }
            ("fixed", _) => {
                let group = count(16)?;
                Self::FixedLane(FixedLane {
                    group: options.number("group", group)?,
                    prefix: options.number("prefix", 0)?,
                    zero_width: options.flag("zero")?,
                    same_as_previous: options.flag("same")?,
                    restart: options.restart()?,
                    pointer: options.number("pointer", 32)?,
                })
            }
            ("scnn", _) => {
                let group = count(4)?;
                Self::Scnn { group: options.number("group", group)?, run_bits: options.number("run", 4)?, widths }
            }
            _ => return Err(options.refuse("no scheme has this name")),
        };
        options.finish(scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::Element;
    use proptest::prelude::*;

    #[test]
    fn short_names_mean_what_they_say() {
        let parse = |text: &str| text.parse::<Scheme>().unwrap();
        let lanes = FixedLane { group: 8, prefix: 4, zero_width: true, same_as_previous: true, ..Default::default() };
        assert_eq!(parse("fixed:group=8,prefix=4,zero,same,restart=row"), Scheme::FixedLane(lanes));
        assert_eq!(parse("fixed16"), Scheme::FixedLane(FixedLane::default()));
        assert_eq!(parse("scnn4w"), Scheme::Scnn { group: 4, run_bits: 4, widths: true });
        assert_eq!(parse("ss16:prefix=3,dense"), Scheme::ShapeShifter { group: 16, prefix: 3, zero_vector: false });
        for element in [Element::I4, Element::I8, Element::U8, Element::I16, Element::F16, Element::Bf16] {
            for scheme in Scheme::standard() {
                scheme.check(element).unwrap();
                assert_eq!(parse(&scheme.to_string()), scheme);
            }
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, why) in [
            ("zip", "no scheme has this name"),
            ("none7", "no scheme has this name"),
            ("zvc:zero", "'zero' is no option of it"),
            ("fixed16:zero=1", "'zero' takes no value"),
            ("fixed16:prefix", "'prefix' needs a number"),
            ("fixed16:restart=filter", "'restart' is position, row or tensor"),
            ("ss99999999999999999999999", "is no number"),
            ("", "no scheme has this name"),
        ] {
            let error = text.parse::<Scheme>().unwrap_err();
            assert!(error.message().contains(why), "{text}: {error}");
        }
        for (text, why) in [
            ("fixed12", "not 12"),
            ("fixed512", "not 512"),
            ("ss2", "not 2"),
            ("fixed16:prefix=2", "prefix of 3 to 16 bits, not 2"),
            ("fixed16:prefix=3,zero", "prefix of 4 to 16 bits, not 3"),
            ("fixed16:pointer=65", "not 65"),
            ("rle0", "not 0"),
            ("rle17", "not 17"),
            ("scnn3", "not 3"),
            ("scnn4:run=9", "not 9"),
        ] {
            let error = text.parse::<Scheme>().unwrap().check(Element::I8).unwrap_err();
            assert!(error.message().contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn names_come_back(group in 0..9_u32, prefix in 0..20_u32, pointer in 0..70_u32, bits in 0..20_u32, flags: [bool; 2], at in 0..3_usize) {
            let group = 1_usize << group;
            let restart = [Restart::Position, Restart::Row, Restart::Tensor][at];
            let [zero_width, same_as_previous] = flags;
            for scheme in [
                Scheme::FixedLane(FixedLane { group, prefix, zero_width, same_as_previous, restart, pointer }),
                Scheme::ShapeShifter { group, prefix, zero_vector: zero_width },
                Scheme::Scnn { group, run_bits: bits, widths: zero_width },
                Scheme::ZeroRuns { run_bits: bits },
            ] {
                prop_assert_eq!(scheme.to_string().parse::<Scheme>().unwrap(), scheme);
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,30}") {
            let _ = text.parse::<Scheme>();
        }
    }
}
