//! What accesses and operations cost, from a table that can be replaced: `energy.toml` beside this file is the one that is shipped.
//!
//! Every figure has a node and a source. Energy of a buffer access per bit, for a node: of each size in the table the entry with the nearest port
//! (as a ratio) counts; between two sizes it is interpolated along a power of the size, outside of the table it grows with the square root
//! of the size, as the table itself does on average.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::toml_file;
use crate::error::{Error, Result};
use crate::pack::Element;

const SHIPPED: &str = include_str!("energy.toml");

/// A table of energies.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    sram: Vec<Sram>,
    write_over_read: f64,
    dram: Vec<(String, f64)>,
    arithmetic: Vec<Arithmetic>,
    scale: Vec<(u32, u32, f64)>,
    codec: f64,
    sources: Vec<Sourced>,
}

/// A memory of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sram {
    node: u32,
    bits: f64,
    port: f64,
    per_bit: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Arithmetic {
    element: Element,
    node: u32,
    multiply: f64,
    add: f64,
}

/// Where a part of a table comes from, for reports.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Sourced {
    /// What: `SRAM, 45 nm`.
    pub what: String,
    /// From where.
    pub source: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    sources: BTreeMap<String, String>,
    write: FileWrite,
    sram: Vec<Spanned<FileSram>>,
    dram: Vec<FileDram>,
    arithmetic: Vec<Spanned<FileArithmetic>>,
    #[serde(default)]
    scale: Vec<FileScale>,
    codec: FileCodec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileWrite {
    over_read: Spanned<f64>,
    source: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSram {
    node: u32,
    source: Spanned<String>,
    kib: Vec<Spanned<f64>>,
    port: Vec<Spanned<f64>>,
    read_pj: Vec<Spanned<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileDram {
    kind: String,
    pj_per_bit: Spanned<f64>,
    source: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileArithmetic {
    element: Spanned<String>,
    node: u32,
    multiply_pj: Spanned<f64>,
    multiply_source: Spanned<String>,
    add_pj: Spanned<f64>,
    add_source: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileScale {
    node: u32,
    from: u32,
    factor: Spanned<f64>,
    source: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCodec {
    pj_per_value: Spanned<f64>,
    source: Spanned<String>,
}

const ELEMENTS: [Element; 6] = [Element::I4, Element::I8, Element::U8, Element::I16, Element::F16, Element::Bf16];

impl Table {
    /// The table that comes with the crate.
    ///
    /// # Errors
    /// None: a test reads it.
    pub fn shipped() -> Result<Self> {
        Self::parse(SHIPPED)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`]; as [`Table::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        Self::parse(&text).map_err(|e| e.in_file(path))
    }

    /// Reads a text.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] with line and column for what is no TOML, keys that are not known or missing, figures below 0 and
    /// sources that `[sources]` does not have.
    pub fn parse(text: &str) -> Result<Self> {
        let file: File = toml_file::parse(text, "the shipped table, src/pack/machine/energy.toml, shows every key")?;
        let reader = Reader { text, sources: &file.sources, seen: Vec::new() };
        reader.table(&file)
    }

    /// Energy of reading a bit from a memory of so many bytes and rows of so many bits.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a node that the table does not have.
    pub fn sram_read(&self, node: u32, bytes: u64, port: u32) -> Result<f64> {
        let mut curve: BTreeMap<u64, Sram> = BTreeMap::new();
        let away = |sram: &Sram| (sram.port / f64::from(port.max(1))).ln().abs();
        for sram in self.sram.iter().filter(|sram| sram.node == node) {
            let entry = curve.entry(sram.bits as u64).or_insert(*sram);
            if away(sram) < away(entry) {
                *entry = *sram;
            }
        }
        let points: Vec<(f64, f64)> = curve.values().map(|sram| (sram.bits, sram.per_bit)).collect();
        let bits = (bytes.max(1) * 8) as f64;
        interpolated(&points, bits).ok_or_else(|| self.no_node("memories", node, self.sram.iter().map(|s| s.node)))
    }

    /// Energy of writing a bit over that of reading one.
    pub fn write_over_read(&self) -> f64 {
        self.write_over_read
    }

    /// Energy of a bit to or from DRAM of a kind.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a kind that the table does not have.
    pub fn dram(&self, kind: &str) -> Result<f64> {
        let found = self.dram.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind));
        found.map(|&(_, energy)| energy).ok_or_else(|| {
            let known: Vec<&str> = self.dram.iter().map(|(name, _)| name.as_str()).collect();
            Error::bad_input(format!("the energy table has no DRAM of kind '{kind}'"))
                .with_help(format!("it has {}; or give dram_pj_per_bit in [energy]", known.join(", ")))
        })
    }

    /// Energies of a product, and of adding it to a sum.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for an element or node that the table does not have, and cannot scale to.
    pub fn arithmetic(&self, node: u32, element: Element) -> Result<(f64, f64)> {
        let at = |node: u32| self.arithmetic.iter().find(|a| a.element == element && a.node == node);
        if let Some(found) = at(node) {
            return Ok((found.multiply, found.add));
        }
        let scaled = self
            .scale
            .iter()
            .filter(|&&(to, _, _)| to == node)
            .find_map(|&(_, from, factor)| at(from).map(|found| (found.multiply * factor, found.add * factor)));
        scaled.ok_or_else(|| {
            let nodes = self.arithmetic.iter().map(|a| a.node).chain(self.scale.iter().map(|s| s.0));
            self.no_node(&format!("{} arithmetic", element.name()), node, nodes)
        })
    }

    /// Energy of decoding or encoding a value.
    pub fn codec(&self) -> f64 {
        self.codec
    }

    /// Where the figures come from.
    pub fn sources(&self) -> &[Sourced] {
        &self.sources
    }

    fn no_node(&self, what: &str, node: u32, known: impl Iterator<Item = u32>) -> Error {
        let mut known: Vec<u32> = known.collect();
        known.sort_unstable();
        known.dedup();
        let known: Vec<String> = known.iter().map(u32::to_string).collect();
        Error::bad_input(format!("the energy table has no {what} of {node} nm"))
            .with_help(format!("it has {} nm", known.join(", ")))
    }
}

/// Between two points along a power, outside with the square root.
fn interpolated(points: &[(f64, f64)], at: f64) -> Option<f64> {
    let (&(first, low), &(last, high)) = (points.first()?, points.last()?);
    if at <= first {
        return Some(low * (at / first).sqrt());
    }
    if at >= last {
        return Some(high * (at / last).sqrt());
    }
    let i = points.iter().rposition(|&(size, _)| size <= at)?;
    let ((x0, y0), (x1, y1)) = (points[i], *points.get(i + 1)?);
    if y0 <= 0.0 || y1 <= 0.0 {
        return Some(y0 + (y1 - y0) * (at - x0) / (x1 - x0));
    }
    Some(y0 * (y1 / y0).powf((at / x0).ln() / (x1 / x0).ln()))
}

/// A file on its way to a table.
struct Reader<'a> {
    text: &'a str,
    sources: &'a BTreeMap<String, String>,
    seen: Vec<Sourced>,
}

impl Reader<'_> {
    fn table(mut self, file: &File) -> Result<Table> {
        let mut sram = Vec::new();
        for entry in &file.sram {
            self.sram(entry, &mut sram)?;
        }
        let mut dram = Vec::new();
        for entry in &file.dram {
            self.source(format!("DRAM, {}", entry.kind), &entry.source)?;
            dram.push((entry.kind.clone(), self.figure(&entry.pj_per_bit)?));
        }
        let mut arithmetic = Vec::new();
        for entry in &file.arithmetic {
            arithmetic.push(self.arithmetic(entry.get_ref())?);
        }
        let mut scale = Vec::new();
        for entry in &file.scale {
            self.source(format!("arithmetic of {} nm from {} nm", entry.node, entry.from), &entry.source)?;
            scale.push((entry.node, entry.from, self.figure(&entry.factor)?));
        }
        self.source("writes over reads".into(), &file.write.source)?;
        self.source("codec".into(), &file.codec.source)?;
        let write_over_read = self.figure(&file.write.over_read)?;
        let codec = self.figure(&file.codec.pj_per_value)?;
        Ok(Table { sram, write_over_read, dram, arithmetic, scale, codec, sources: self.seen })
    }

    fn sram(&mut self, entry: &Spanned<FileSram>, sram: &mut Vec<Sram>) -> Result<()> {
        let FileSram { node, source, kib, port, read_pj } = entry.get_ref();
        self.source(format!("SRAM, {node} nm"), source)?;
        if kib.len() != port.len() || kib.len() != read_pj.len() || kib.is_empty() {
            let what =
                format!("kib, port and read_pj have {}, {} and {} figures", kib.len(), port.len(), read_pj.len());
            return Err(toml_file::fault(self.text, entry.span(), what).with_help("give as many of each"));
        }
        for ((kib, port), read) in kib.iter().zip(port).zip(read_pj) {
            for size in [kib, port] {
                if self.figure(size)? <= 0.0 {
                    return Err(toml_file::fault(self.text, size.span(), "a memory of size 0"));
                }
            }
            let (bits, port) = (kib.get_ref() * 8192.0, *port.get_ref());
            sram.push(Sram { node: *node, bits, port, per_bit: self.figure(read)? / port });
        }
        Ok(())
    }

    fn arithmetic(&mut self, entry: &FileArithmetic) -> Result<Arithmetic> {
        let named = ELEMENTS.into_iter().find(|element| element.name() == entry.element.get_ref());
        let element = named.ok_or_else(|| {
            let known: Vec<&str> = ELEMENTS.iter().map(|element| element.name()).collect();
            toml_file::fault(self.text, entry.element.span(), format!("unknown element '{}'", entry.element.get_ref()))
                .with_help(format!("there are {}", known.join(", ")))
        })?;
        self.source(format!("{} multiply, {} nm", element.name(), entry.node), &entry.multiply_source)?;
        self.source(format!("{} add, {} nm", element.name(), entry.node), &entry.add_source)?;
        let (multiply, add) = (self.figure(&entry.multiply_pj)?, self.figure(&entry.add_pj)?);
        Ok(Arithmetic { element, node: entry.node, multiply, add })
    }

    fn figure(&self, figure: &Spanned<f64>) -> Result<f64> {
        let value = *figure.get_ref();
        if !value.is_finite() || value < 0.0 {
            return Err(toml_file::fault(self.text, figure.span(), format!("{value} is no figure of at least 0")));
        }
        Ok(value)
    }

    fn source(&mut self, what: String, name: &Spanned<String>) -> Result<()> {
        let source = self.sources.get(name.get_ref()).ok_or_else(|| {
            let known: Vec<&str> = self.sources.keys().map(String::as_str).collect();
            toml_file::fault(self.text, name.span(), format!("[sources] has no '{}'", name.get_ref()))
                .with_help(format!("it has {}", known.join(", ")))
        })?;
        self.seen.push(Sourced { what, source: source.clone() });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_table_gives_its_own_figures_and_interpolates_between_them() {
        let table = Table::shipped().unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b, "{a} {b}");
        close(table.sram_read(45, 32 << 10, 64).unwrap(), 17.0 / 64.0);
        close(table.sram_read(22, 256 << 10, 128).unwrap(), 17.8 / 128.0);
        close(table.sram_read(22, 256 << 10, 512).unwrap(), 30.0 / 256.0);
        // Half way, in the sense of a power, from 256 KB to 1 MB.
        close(table.sram_read(45, 512 << 10, 128).unwrap(), (76.1_f64 * 153.0).sqrt() / 128.0);
        close(table.sram_read(65, 256, 16).unwrap(), 0.5 * 1.92 / 16.0);
        close(table.sram_read(65, 16 << 20, 256).unwrap(), 2.0 * 980.0 / 256.0);
        assert_eq!(table.dram("hbm2").unwrap(), 6.25);
        assert_eq!(table.arithmetic(45, Element::I8).unwrap(), (0.2, 0.1));
        close(table.arithmetic(22, Element::I8).unwrap().0, 0.2 * 0.223);
        for error in [
            table.sram_read(7, 1024, 64).unwrap_err(),
            table.arithmetic(7, Element::I8).unwrap_err(),
            table.dram("SDRAM").unwrap_err(),
        ] {
            assert!(error.help().is_some_and(|help| help.starts_with("it has")), "{error}");
        }
        assert!(table.sources().iter().any(|s| s.what == "SRAM, 45 nm" && s.source.contains("CACTI 7")));
    }

    #[test]
    fn faults_of_a_table_have_their_place() {
        let fault = |from: &str, to: &str| {
            assert!(SHIPPED.contains(from), "{from}");
            let error = Table::parse(&SHIPPED.replacen(from, to, 1)).unwrap_err();
            let line = error.place().and_then(|place| place.position).unwrap().0;
            (line, error.message().to_owned())
        };
        let line_of = |text: &str| SHIPPED[..SHIPPED.find(text).unwrap()].matches('\n').count() + 1;
        let (line, message) = fault("over_read", "over_reed");
        assert!(message.contains("over_reed"), "{message}");
        assert_eq!(line, line_of("over_read"));
        let (line, message) = fault("kind = \"DDR4\"\npj_per_bit = 17.5", "kind = \"DDR4\"\npj_per_bit = -1");
        assert_eq!((line, message.as_str()), (line_of("pj_per_bit = 17.5"), "-1 is no figure of at least 0"));
        let (line, message) = fault("source = \"malladi\"", "source = \"mallard\"");
        assert_eq!((line, message.as_str()), (line_of("source = \"malladi\""), "[sources] has no 'mallard'"));
        assert!(fault("kib =     [1,    8,", "kib =     [").1.contains("have 7, 9 and 9"));
        assert!(fault("element = \"i4\"", "element = \"i5\"").1.contains("unknown element"));
        assert_eq!(fault("[sources]", "[sources").0, line_of("[sources]"));
    }
}
