//! Machines as TOML files: `docs/machines.md` has every key, `examples/machines/` has machines.
//!
//! Whatever is wrong is an error with line and column; unknown keys are wrong.

use std::ops::{Range, RangeInclusive};
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::cost::{Array, Energies, Machine, Overrides};
use super::grid::Grid;
use super::memory::{Bandwidth, Buffer, Buffers, Memory};
use super::scnn::Scnn;
use super::{energy, systolic, toml_file};
use crate::error::{Error, Result};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    kind: Spanned<String>,
    array: Spanned<FileArray>,
    buffers: Spanned<FileBuffers>,
    dram: FileDram,
    #[serde(default)]
    energy: FileEnergy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileArray {
    rows: Option<Spanned<u64>>,
    columns: Option<Spanned<u64>>,
    dataflow: Option<Spanned<String>>,
    lanes: Option<Spanned<u64>>,
    windows: Option<Spanned<u64>>,
    filters: Option<Spanned<u64>>,
    tiles: Option<Spanned<u64>>,
    accumulators: Option<Spanned<u64>>,
    banks: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileBuffers {
    unified: Option<FileBuffer>,
    weights: Option<FileBuffer>,
    maps: Option<FileBuffer>,
    inputs: Option<FileBuffer>,
    outputs: Option<FileBuffer>,
    #[serde(default = "yes")]
    double_buffered: bool,
    #[serde(default)]
    keep_maps: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileBuffer {
    bytes: Spanned<u64>,
    port: Spanned<u64>,
    banks: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileDram {
    kind: Spanned<String>,
    bytes_per_cycle: Spanned<f64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FileEnergy {
    node: Option<Spanned<u32>>,
    table: Option<Spanned<String>>,
    buffer_pj_per_bit: Option<Spanned<f64>>,
    dram_pj_per_bit: Option<Spanned<f64>>,
    multiply_pj: Option<Spanned<f64>>,
    add_pj: Option<Spanned<f64>>,
    codec_pj_per_value: Option<Spanned<f64>>,
}

const HELP: &str = "docs/machines.md has every key, examples/machines has whole files";

impl Machine {
    /// Reads a file. A machine without a name is called as its file.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] with line and column for whatever is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let stem = path.file_stem().map_or_else(|| "machine".into(), |stem| stem.to_string_lossy());
        let folder = path.parent().unwrap_or(Path::new(""));
        Reader { text: &text, folder: Some(folder) }.machine(&stem).map_err(|e| match e.place() {
            // A table that the file names has a place of its own.
            Some(place) if !place.file.as_os_str().is_empty() => e,
            _ => e.in_file(path),
        })
    }

    /// Reads a text, which cannot name a table of energies.
    ///
    /// # Errors
    /// As [`Machine::read`].
    pub fn parse(text: &str) -> Result<Self> {
        Reader { text, folder: None }.machine("machine")
    }
}

struct Reader<'a> {
    text: &'a str,
    folder: Option<&'a Path>,
}

impl Reader<'_> {
    fn machine(&self, name: &str) -> Result<Machine> {
        let file: File = toml_file::parse(self.text, HELP)?;
        let array = self.array(&file)?;
        let memory = Memory {
            buffers: self.buffers(&file.buffers)?,
            bandwidth: Bandwidth::bytes_per_cycle(*file.dram.bytes_per_cycle.get_ref())
                .map_err(|e| self.place(e, file.dram.bytes_per_cycle.span()))?,
            double_buffered: file.buffers.get_ref().double_buffered,
            keep_maps: file.buffers.get_ref().keep_maps,
        };
        let energy = self.energy(&file, &memory)?;
        Ok(Machine { name: file.name.unwrap_or_else(|| name.to_owned()), array, memory, energy })
    }

    fn array(&self, file: &File) -> Result<Array> {
        let array = file.array.get_ref();
        let kinds: [(&str, &[&str]); 3] = [
            ("systolic", &["rows", "columns", "dataflow"]),
            ("grid", &["lanes", "windows", "filters", "tiles"]),
            ("scnn", &["rows", "columns", "accumulators", "banks"]),
        ];
        let kind = file.kind.get_ref().as_str();
        let Some((_, known)) = kinds.iter().find(|(name, _)| *name == kind) else {
            let what = format!("there is no machine of kind '{kind}'");
            return Err(self.fault(file.kind.span(), what).with_help("kind is systolic, grid or scnn"));
        };
        let given = [
            ("rows", array.rows.as_ref().map(Spanned::span)),
            ("columns", array.columns.as_ref().map(Spanned::span)),
            ("dataflow", array.dataflow.as_ref().map(Spanned::span)),
            ("lanes", array.lanes.as_ref().map(Spanned::span)),
            ("windows", array.windows.as_ref().map(Spanned::span)),
            ("filters", array.filters.as_ref().map(Spanned::span)),
            ("tiles", array.tiles.as_ref().map(Spanned::span)),
            ("accumulators", array.accumulators.as_ref().map(Spanned::span)),
            ("banks", array.banks.as_ref().map(Spanned::span)),
        ];
        for (key, span) in given {
            if let Some(span) = span.filter(|_| !known.contains(&key)) {
                return Err(self
                    .fault(span, format!("'{key}' is no key of the array of a machine of kind '{kind}'"))
                    .with_help(format!("[array] has {}", known.join(", "))));
            }
        }
        let sized = |key, value: &Option<Spanned<u64>>, default: Option<u64>, most: u64| {
            self.whole(key, value.as_ref(), (default, file.array.span()), 1..=most).map(|n| n as usize)
        };
        Ok(match kind {
            "systolic" => Array::Systolic(
                systolic::Array {
                    rows: sized("rows", &array.rows, None, 1 << 20)?,
                    columns: sized("columns", &array.columns, None, 1 << 20)?,
                },
                self.dataflow(array, file.array.span())?,
            ),
            "grid" => Array::Grid(Grid {
                lanes: sized("lanes", &array.lanes, None, 1 << 16)?,
                windows: sized("windows", &array.windows, None, 1 << 16)?,
                filters: sized("filters", &array.filters, None, 1 << 16)?,
                tiles: sized("tiles", &array.tiles, Some(1), 1 << 10)?,
            }),
            _ => {
                let banks = sized("banks", &array.banks, Some(32), 32)?;
                let scnn = Scnn {
                    rows: sized("rows", &array.rows, None, 128)?,
                    columns: sized("columns", &array.columns, None, 128)?,
                    accumulators: sized("accumulators", &array.accumulators, None, 1 << 30)?,
                    banks: banks as u32,
                };
                let at = array.banks.as_ref().map_or(file.array.span(), Spanned::span);
                scnn.check().map_err(|e| self.place(e, at))?;
                Array::Scnn(scnn)
            }
        })
    }

    fn dataflow(&self, array: &FileArray, section: Range<usize>) -> Result<systolic::Dataflow> {
        const HELP: &str =
            "dataflow is output-stationary, weight-stationary or input-stationary; os, ws or is for short";
        let Some(name) = &array.dataflow else {
            return Err(self.fault(section, "[array] needs 'dataflow'").with_help(HELP));
        };
        Ok(match name.get_ref().as_str() {
            "output-stationary" | "os" => systolic::Dataflow::Output,
            "weight-stationary" | "ws" => systolic::Dataflow::Weight,
            "input-stationary" | "is" => systolic::Dataflow::Input,
            other => {
                return Err(self.fault(name.span(), format!("there is no dataflow '{other}'")).with_help(HELP));
            }
        })
    }

    fn buffers(&self, section: &Spanned<FileBuffers>) -> Result<Buffers> {
        let b = section.get_ref();
        match (&b.unified, &b.weights, &b.maps, &b.inputs, &b.outputs) {
            (Some(all), None, None, None, None) => Ok(Buffers::Unified(self.buffer(all)?)),
            (None, Some(weights), Some(maps), None, None) => {
                Ok(Buffers::Split { weights: self.buffer(weights)?, maps: self.buffer(maps)? })
            }
            (None, Some(weights), None, Some(inputs), Some(outputs)) => Ok(Buffers::Apart {
                weights: self.buffer(weights)?,
                inputs: self.buffer(inputs)?,
                outputs: self.buffer(outputs)?,
            }),
            _ => Err(self
                .fault(section.span(), "these buffers are no set of buffers")
                .with_help("[buffers] has either unified, or weights and maps, or weights, inputs and outputs")),
        }
    }

    fn buffer(&self, buffer: &FileBuffer) -> Result<Buffer> {
        let whole = |key, value: Option<&Spanned<u64>>, default, range| self.whole(key, value, (default, 0..0), range);
        let bytes = whole("bytes", Some(&buffer.bytes), None, 1..=1 << 50)?;
        Ok(Buffer {
            bytes,
            port: whole("port", Some(&buffer.port), None, 1..=1 << 20)? as u32,
            banks: whole("banks", buffer.banks.as_ref(), Some(1), 1..=bytes)?,
        })
    }

    fn energy(&self, file: &File, memory: &Memory) -> Result<Energies> {
        let section = &file.energy;
        let table = match &section.table {
            None => energy::Table::shipped()?,
            Some(name) => {
                let folder = self.folder.ok_or_else(|| {
                    self.fault(name.span(), "a text cannot name a table of energies")
                        .with_help("read the machine from a file, or set its `energy.table`")
                })?;
                energy::Table::read(&folder.join(name.get_ref()))?
            }
        };
        let node = section.node.as_ref().map_or(45, |node| *node.get_ref());
        let figure = |value: &Option<Spanned<f64>>| {
            let Some(value) = value else { return Ok(None) };
            let figure = *value.get_ref();
            if figure.is_finite() && figure >= 0.0 {
                return Ok(Some(figure));
            }
            Err(self.fault(value.span(), format!("{figure} is no figure of at least 0")))
        };
        let overrides = Overrides {
            buffer_per_bit: figure(&section.buffer_pj_per_bit)?,
            dram_per_bit: figure(&section.dram_pj_per_bit)?,
            multiply: figure(&section.multiply_pj)?,
            add: figure(&section.add_pj)?,
            codec_per_value: figure(&section.codec_pj_per_value)?,
        };
        // What the table lacks is said now, with its line, and not at the first layer.
        if overrides.dram_per_bit.is_none() {
            table.dram(file.dram.kind.get_ref()).map_err(|e| self.place(e, file.dram.kind.span()))?;
        }
        let node_at = section.node.as_ref().map_or(0..0, Spanned::span);
        if overrides.buffer_per_bit.is_none() {
            let buffer = memory.buffers.each()[0];
            table.sram_read(node, buffer.bytes, buffer.port).map_err(|e| self.place(e, node_at.clone()))?;
        }
        if overrides.multiply.is_none() || overrides.add.is_none() {
            table.arithmetic(node, crate::pack::Element::I8).map_err(|e| self.place(e, node_at))?;
        }
        Ok(Energies { table, node, dram: file.dram.kind.get_ref().clone(), overrides })
    }

    /// A whole number of a range, or what stands for it where it is not given.
    fn whole(
        &self,
        key: &str,
        value: Option<&Spanned<u64>>,
        (default, section): (Option<u64>, Range<usize>),
        range: RangeInclusive<u64>,
    ) -> Result<u64> {
        let Some(value) = value else {
            return default.ok_or_else(|| self.fault(section, format!("[array] needs '{key}'")).with_help(HELP));
        };
        let number = *value.get_ref();
        if range.contains(&number) {
            return Ok(number);
        }
        let what = format!("'{key}' is {number}, but must be from {} to {}", range.start(), range.end());
        Err(self.fault(value.span(), what))
    }

    fn fault(&self, span: Range<usize>, message: impl Into<String>) -> Error {
        toml_file::fault(self.text, span, message)
    }

    /// Adds a place to an error.
    fn place(&self, error: Error, span: Range<usize>) -> Error {
        let place = self.fault(span, "").place().and_then(|place| place.position);
        match place {
            Some((line, column)) => error.at(line, column),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TPU: &str = include_str!("../../../examples/machines/tpu.toml");
    const GRID: &str = include_str!("../../../examples/machines/tensorcore.toml");
    const SCNN: &str = include_str!("../../../examples/machines/scnn.toml");

    #[test]
    fn shipped_machines_are_what_they_say() {
        let tpu = Machine::parse(TPU).unwrap();
        let array = systolic::Array { rows: 128, columns: 128 };
        assert_eq!(tpu.array, Array::Systolic(array, systolic::Dataflow::Weight));
        assert_eq!(tpu.memory.buffers, Buffers::Unified(Buffer { bytes: 1 << 20, port: 256, banks: 1 }));
        assert_eq!((tpu.name(), tpu.multipliers(), tpu.needs_values()), ("TPU-like", 16_384, false));
        let grid = Machine::parse(GRID).unwrap();
        assert_eq!(grid.array, Array::Grid(Grid { lanes: 16, windows: 16, filters: 16, tiles: 1 }));
        let scnn = Machine::parse(SCNN).unwrap();
        assert_eq!((scnn.array, scnn.multipliers()), (Array::Scnn(Scnn::PUBLISHED), 1024));
        assert!(scnn.needs_values() && scnn.memory.keep_maps);
    }

    #[test]
    fn the_page_has_every_key_and_its_example_is_a_machine() {
        const PAGE: &str = include_str!("../../../docs/machines.md");
        let example = PAGE.split("```").nth(1).and_then(|block| block.strip_prefix("toml")).unwrap();
        assert_eq!(Machine::parse(example).unwrap(), Machine::parse(TPU).unwrap());
        // What toml says of an unknown key names those that are known.
        for (from, to) in [
            ("kind = \"systolic\"", "kind = \"systolic\"\nx = 1"),
            ("[array]", "[array]\nx = 1"),
            ("[buffers]", "[buffers]\nx = 1"),
            ("{ bytes", "{ x = 1, bytes"),
            ("[dram]", "[dram]\nx = 1"),
            ("[energy]", "[energy]\nx = 1"),
        ] {
            let error = Machine::parse(&TPU.replacen(from, to, 1)).unwrap_err();
            let known: Vec<&str> = error.message().split('`').skip(3).step_by(2).collect();
            assert!(known.len() > 1, "{error}");
            for key in known {
                assert!(PAGE.contains(&format!("`{key}`")) || PAGE.contains(&format!("`[{key}]`")), "{key}");
            }
        }
    }

    proptest! {
        /// Whatever is in a file: a machine, or a fault with its place.
        #[test]
        fn any_text_is_a_machine_or_has_a_place(
            which in 0_usize..3,
            at in any::<prop::sample::Index>(),
            length in 0_usize..12,
            with in "[a-z0-9_={}\\[\\].\" \n-]{0,8}",
        ) {
            let text = [TPU, GRID, SCNN][which];
            let start = at.index(text.len());
            let end = (start + length).min(text.len());
            let text = format!("{}{with}{}", &text[..start], &text[end..]);
            if let Err(error) = Machine::parse(&text) {
                prop_assert!(error.place().is_some_and(|place| place.position.is_some()), "{}", error);
            }
        }
    }

    #[test]
    fn faults_have_a_line_and_say_what_to_do() {
        for (text, from, to, what) in [
            (TPU, "rows = 128", "rws = 128", "unknown key `rws`"),
            (TPU, "rows = 128", "rows = 0", "'rows' is 0, but must be from 1 to 1048576"),
            (TPU, "rows = 128", "rows = \"many\"", "invalid type"),
            (TPU, "rows = 128", "lanes = 128", "'lanes' is no key of the array of a machine of kind 'systolic'"),
            (TPU, "kind = \"systolic\"", "kind = \"cubic\"", "no machine of kind 'cubic'"),
            (TPU, "\"weight-stationary\"", "\"row-stationary\"", "no dataflow 'row-stationary'"),
            (TPU, "bytes_per_cycle = 32", "bytes_per_cycle = 0", "a bandwidth of 0 bytes a cycle"),
            (TPU, "kind = \"LPDDR4\"", "kind = \"LPDDR9\"", "no DRAM of kind 'LPDDR9'"),
            (TPU, "node = 22", "node = 7", "no memories of 7 nm"),
            (TPU, "node = 22", "table = \"mine.toml\"", "a text cannot name a table"),
            (TPU, "node = 22", "add_pj = -1.0", "-1 is no figure of at least 0"),
            (TPU, "port = 256", "port = 0", "'port' is 0"),
            (SCNN, "banks = 32", "banks = 24", "24 accumulator banks"),
        ] {
            assert!(text.contains(from), "{from}");
            let line = text[..text.find(from).unwrap()].matches('\n').count() + 1;
            let error = Machine::parse(&text.replacen(from, to, 1)).unwrap_err();
            assert!(error.message().contains(what), "{from} -> {to}: {error}");
            let found = error.place().and_then(|place| place.position).map(|(line, _)| line);
            assert_eq!(found, Some(line), "{from} -> {to}: {error}");
        }
        let error = Machine::parse(&GRID.replacen("weights = ", "unified = ", 1)).unwrap_err();
        assert!(error.help().is_some_and(|help| help.contains("either unified")), "{error}");
        let error = Machine::parse(&TPU.replacen("rows = 128\n", "", 1)).unwrap_err();
        assert_eq!(error.message(), "[array] needs 'rows'");
    }
}
