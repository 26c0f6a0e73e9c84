//! SCALE-Sim's configuration files.

use crate::error::{Error, Result};
use crate::pack::machine::systolic::{Array, Dataflow};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::Path;

/// The machine of a `.cfg` file, as far as it has an effect on the reports.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Config {
    /// Name of the run.
    pub run_name: String,
    /// The multipliers.
    pub array: Array,
    /// Which operand stays.
    pub dataflow: Dataflow,
    /// Buffer of maps, in KiB; a value is a byte.
    pub ifmap_kb: u64,
    /// Buffer of filters.
    pub filter_kb: u64,
    /// Buffer of results.
    pub ofmap_kb: u64,
    /// How DRAM answers.
    pub interface: Interface,
}

/// How DRAM answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub enum Interface {
    /// As fast as needed: the reports say how fast that is. Writes take a value for each column and cycle.
    Calc,
    /// As fast as the file says, in values a cycle.
    User {
        /// `IfmapSRAMBankBandwidth` (a quirk: of the SRAM).
        ifmap: u64,
        /// `FilterSRAMBankBandwidth`.
        filter: u64,
        /// The first of `Bandwidth`.
        ofmap: u64,
    },
}

/// Sections and keys of the format, in small letters, and what becomes of them.
const KEYS: &[(&str, &[&str])] = &[
    ("general", &["run_name"]),
    (
        "architecture_presets",
        &[
            "arrayheight",
            "arraywidth",
            "ifmapsramszkb",
            "filtersramszkb",
            "ofmapsramszkb",
            "ifmapoffset",
            "filteroffset",
            "ofmapoffset",
            "dataflow",
            "bandwidth",
            "memorybanks",
            "readrequestbuffer",
            "writerequestbuffer",
        ],
    ),
    (
        "layout",
        &[
            "ifmapcustomlayout",
            "ifmapsrambankbandwidth",
            "ifmapsrambanknum",
            "ifmapsrambankport",
            "filtercustomlayout",
            "filtersrambankbandwidth",
            "filtersrambanknum",
            "filtersrambankport",
        ],
    ),
    ("sparsity", &["sparsitysupport", "sparserep", "optimizedmapping", "blocksize", "randomnumbergeneratorseed"]),
    ("run_presets", &["interfacebandwidth", "useramulatortrace", "timelinearmodel"]),
];
/// Whole numbers that have no effect: addresses are only compared within an operand; request queues are Ramulator's; sets of ports and seeds
/// are those of layouts and sparsity.
const UNUSED: &[(&str, &[&str])] = &[
    (
        "architecture_presets",
        &["ifmapoffset", "filteroffset", "ofmapoffset", "memorybanks", "readrequestbuffer", "writerequestbuffer"],
    ),
    ("layout", &["ifmapsrambankport", "filtersrambankport"]),
    ("sparsity", &["blocksize", "randomnumbergeneratorseed"]),
];
/// Buffers beyond this (4 TiB) are a slip of the pen.
const MOST: u64 = 1 << 32;
/// Rows or columns.
const MOST_LANES: u64 = 1 << 16;

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`], and as [`Config::parse`], with the place in the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = crate::files::text(path)?;
        Self::parse(&text).map_err(|error| error.in_file(path))
    }

    /// Reads a text. Sections that version 2 did not have may be left out: no layouts, no sparsity, `CALC`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for what is missing, malformed or unknown, [`crate::ErrorKind::Unsupported`] for layouts of banks,
    /// sparsity and Ramulator's latencies, each with its line.
    pub fn parse(text: &str) -> Result<Self> {
        let file = Ini::parse(text)?;
        for (section, keys) in UNUSED {
            for key in *keys {
                file.number(section, key, 0..=MOST)?;
            }
        }
        file.must_be_off("layout", "ifmapcustomlayout", "layouts of banks")?;
        file.must_be_off("layout", "filtercustomlayout", "layouts of banks")?;
        file.must_be_off("sparsity", "sparsitysupport", "N:M sparsity")?;
        file.must_be_off("run_presets", "useramulatortrace", "latencies out of Ramulator")?;
        let architecture = "architecture_presets";
        let required = |key, most| file.number(architecture, key, 1..=most)?.ok_or_else(|| missing(architecture, key));
        let lanes = |key| required(key, MOST_LANES);
        let (rows, columns) = (lanes("arrayheight")?, lanes("arraywidth")?);
        let config = Self {
            run_name: file.get("general", "run_name").map_or("scale_run", |entry| &entry.value).to_owned(),
            array: Array { rows: rows as usize, columns: columns as usize },
            dataflow: file.dataflow()?,
            ifmap_kb: required("ifmapsramszkb", MOST)?,
            filter_kb: required("filtersramszkb", MOST)?,
            ofmap_kb: required("ofmapsramszkb", MOST)?,
            interface: file.interface()?,
        };
        Ok(config)
    }

    /// Values a cycle that leave the buffer of results.
    pub(super) fn write_bandwidth(&self) -> u64 {
        match self.interface {
            Interface::Calc => self.array.columns as u64,
            Interface::User { ofmap, .. } => ofmap,
        }
    }

    /// Numbers that a program set.
    pub(super) fn check(&self) -> Result<()> {
        if [self.array.rows, self.array.columns].iter().any(|&lanes| !(1..=MOST_LANES).contains(&(lanes as u64))) {
            return Err(Error::bad_input("an array has 1 to 65536 rows and columns"));
        }
        let mut numbers = vec![self.ifmap_kb, self.filter_kb, self.ofmap_kb];
        if let Interface::User { ifmap, filter, ofmap } = self.interface {
            numbers.extend([ifmap, filter, ofmap]);
        }
        if numbers.iter().any(|number| !(1..=MOST).contains(number)) {
            return Err(Error::bad_input("a machine's buffers and bandwidths are numbers from 1 to 2^32"));
        }
        Ok(())
    }
}

fn missing(section: &str, key: &str) -> Error {
    Error::bad_input(format!("section [{section}] has no '{key}'"))
        .with_help("SCALE-Sim's configs/scale.cfg has an example of every key")
}

#[derive(Debug)]
struct Entry {
    value: String,
    line: usize,
}

/// A file as Python's `configparser` reads it: keys without regard to case, `=` or `:`, comments on lines of their own.
#[derive(Debug)]
struct Ini {
    entries: HashMap<(String, String), Entry>,
}

impl Ini {
    fn parse(text: &str) -> Result<Self> {
        let mut entries: HashMap<(String, String), Entry> = HashMap::new();
        let mut section: Option<&(&str, &[&str])> = None;
        let mut seen = Vec::new();
        let (mut indent, mut has_key) = (0, false);
        for (number, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let (line, content) = (number + 1, raw.trim());
            if content.is_empty() || content.starts_with(['#', ';']) {
                continue;
            }
            let here = raw.len() - raw.trim_start().len();
            if has_key && here > indent {
                return Err(Error::bad_input("this line is indented: it would go on with the value above")
                    .with_help("write a value on one line")
                    .at(line, here + 1));
            }
            indent = here;
            if let Some(name) = content.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                has_key = false;
                section = Some(section_of(name, &mut seen).map_err(|e| e.at(line, here + 1))?);
                continue;
            }
            let (known, keys) = section.ok_or_else(|| {
                Error::bad_input("this line is in no section").with_help("begin with [general]").at(line, here + 1)
            })?;
            let (key, value) = key_of(content, known, keys).map_err(|e| e.at(line, here + 1))?;
            has_key = true;
            let before = entries.insert(((*known).to_owned(), key), Entry { value: value.to_owned(), line });
            if let Some(before) = before {
                let message = format!("this key stands in line {}, too", before.line);
                return Err(Error::bad_input(message).at(line, here + 1));
            }
        }
        Ok(Self { entries })
    }

    fn get(&self, section: &str, key: &str) -> Option<&Entry> {
        self.entries.get(&(section.to_owned(), key.to_owned()))
    }

    /// A whole number of a range, if the key is there.
    fn number(&self, section: &str, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>> {
        let Some(entry) = self.get(section, key) else { return Ok(None) };
        match entry.value.parse::<u64>() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let (least, most) = (range.start(), range.end());
                let message = format!("'{key}' is '{}': not a whole number from {least} to {most}", entry.value);
                let help = "comments stand on lines of their own";
                Err(Error::bad_input(message).with_help(help).at(entry.line, 1))
            }
        }
    }

    fn must_be_off(&self, section: &str, key: &str, what: &str) -> Result<()> {
        let Some(entry) = self.get(section, key) else { return Ok(()) };
        match entry.value.to_ascii_lowercase().as_str() {
            "false" | "no" | "off" | "0" => Ok(()),
            "true" | "yes" | "on" | "1" => Err(Error::unsupported(format!("'{key}' is on: {what} are not simulated"))
                .with_help(format!("set {key} to False in [{section}]"))
                .at(entry.line, 1)),
            _ => {
                Err(Error::bad_input(format!("'{key}' is '{}': neither True nor False", entry.value)).at(entry.line, 1))
            }
        }
    }

    fn dataflow(&self) -> Result<Dataflow> {
        let section = "architecture_presets";
        let entry = self.get(section, "dataflow").ok_or_else(|| missing(section, "dataflow"))?;
        Dataflow::of_name(&entry.value).ok_or_else(|| {
            Error::bad_input(format!("no dataflow is called '{}'", entry.value))
                .with_help("os, ws or is: output, weight or input stationary")
                .at(entry.line, 1)
        })
    }

    fn interface(&self) -> Result<Interface> {
        match self.get("run_presets", "interfacebandwidth") {
            None => Ok(Interface::Calc),
            Some(entry) if entry.value == "CALC" => Ok(Interface::Calc),
            Some(entry) if entry.value == "USER" => Ok(Interface::User {
                ifmap: self.banks("ifmapsrambankbandwidth", "ifmapsrambanknum")?,
                filter: self.banks("filtersrambankbandwidth", "filtersrambanknum")?,
                ofmap: self.bandwidth()?,
            }),
            Some(entry) => Err(Error::bad_input(format!("no interface bandwidth is called '{}'", entry.value))
                .with_help("CALC, or USER with a Bandwidth in [architecture_presets]")
                .at(entry.line, 1)),
        }
    }

    /// Bandwidth of reads, which the original wants to be a multiple of the number of banks.
    fn banks(&self, bandwidth: &str, banks: &str) -> Result<u64> {
        let width = self.number("layout", bandwidth, 1..=MOST)?.unwrap_or(10);
        let count = self.number("layout", banks, 1..=MOST)?.unwrap_or(10);
        if !width.is_multiple_of(count) {
            let line = self.get("layout", bandwidth).or(self.get("layout", banks)).map_or(1, |entry| entry.line);
            return Err(Error::bad_input(format!("'{bandwidth}' is {width}, which {count} banks cannot share"))
                .with_help(format!("make it a multiple of {banks}"))
                .at(line, 1));
        }
        Ok(width)
    }

    /// The first of a list; the original reads all and uses one.
    fn bandwidth(&self) -> Result<u64> {
        let section = "architecture_presets";
        let entry = self.get(section, "bandwidth").ok_or_else(|| missing(section, "bandwidth"))?;
        let numbers: Option<Vec<u64>> = entry
            .value
            .split(',')
            .map(|part| part.trim().parse().ok().filter(|number| (1..=MOST).contains(number)))
            .collect();
        numbers.and_then(|numbers| numbers.first().copied()).ok_or_else(|| {
            Error::bad_input(format!("'bandwidth' is '{}': not whole numbers from 1 to {MOST}", entry.value))
                .at(entry.line, 1)
        })
    }
}

fn section_of<'a>(name: &'a str, seen: &mut Vec<&'a str>) -> Result<&'static (&'static str, &'static [&'static str])> {
    if seen.contains(&name) {
        return Err(Error::bad_input(format!("section [{name}] stands here twice")));
    }
    seen.push(name);
    KEYS.iter().find(|(known, _)| *known == name).ok_or_else(|| {
        let names: Vec<_> = KEYS.iter().map(|(known, _)| *known).collect();
        Error::unsupported(format!("section [{name}] is not known here"))
            .with_help(format!("sections are {}; layers come in a file of their own", names.join(", ")))
    })
}

fn key_of<'a>(content: &'a str, section: &str, keys: &[&str]) -> Result<(String, &'a str)> {
    let (key, value) = content.split_once(['=', ':']).ok_or_else(|| {
        Error::bad_input("this line has no value").with_help("KEY: VALUE, or [SECTION]; comments begin with #")
    })?;
    let key = key.trim().to_ascii_lowercase();
    if !keys.contains(&key.as_str()) {
        return Err(Error::unsupported(format!("[{section}] has no key '{key}'"))
            .with_help(format!("keys are {}", keys.join(", "))));
    }
    Ok((key, value.trim()))
}
