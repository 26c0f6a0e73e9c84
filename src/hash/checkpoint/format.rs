//! The two kinds of files of a store: rows, and manifests that say which files make up a state.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::disk::Draft;
use crate::error::{Error, Result};
use crate::hash::Rows;
use crate::tensor::Tensor;

/// Of the files that this version writes.
const SCHEMA: u32 = 1;
const MAGIC: &[u8; 8] = b"WHROWS01";
/// The table of the block that ends a file of rows.
const END: u32 = u32::MAX;
/// How a manifest begins.
const TITLE: &str = "wavehull-hash-checkpoint";
/// Rows of a block at most, for readers.
const MOST_ROWS: u32 = 1 << 24;

/// A table of parameters, as manifests name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Its name.
    pub name: String,
    /// Number of rows.
    pub rows: usize,
    /// Elements of a row.
    pub columns: usize,
    /// Tables of the optimiser's state.
    pub states: usize,
    /// Words in memory of a row of the weights, and of each table of state: fewer than `columns` for weights of 16 bits.
    pub words: Vec<usize>,
}

impl Shape {
    pub(super) fn new(name: &str, table: &Rows) -> Self {
        let words =
            [table.weights.row_stride()].into_iter().chain(table.state.iter().map(Tensor::row_stride)).collect();
        let (rows, columns, states) = (table.len(), table.columns(), table.state.len());
        Self { name: name.to_owned(), rows, columns, states, words }
    }

    /// Bytes that a row takes in a file.
    pub(super) fn row_bytes(&self) -> u64 {
        4 * (1 + self.words.iter().sum::<usize>() + 4) as u64
    }
}

/// A file of rows that a state needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub name: String,
    pub bytes: u64,
    pub crc32: u32,
    pub rows: u64,
}

/// What a state is made of: a base, then increments in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub schema: u32,
    pub number: u64,
    pub step: u32,
    pub tables: Vec<Shape>,
    pub files: Vec<Part>,
}

#[derive(Deserialize)]
struct SchemaOnly {
    schema: u32,
}

pub(super) fn state_name(number: u64) -> String {
    format!("state-{number:08}.ckpt")
}

pub(super) fn rows_name(number: u64) -> String {
    format!("rows-{number:08}.bin")
}

/// The number in the name of a file of one kind.
pub(super) fn number_of(name: &str, before: &str, behind: &str) -> Option<u64> {
    let digits = name.strip_prefix(before)?.strip_suffix(behind)?;
    (digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

pub(super) fn rows_number(name: &str) -> Option<u64> {
    number_of(name, "rows-", ".bin")
}

impl Manifest {
    pub(super) fn new(number: u64, step: u32, tables: Vec<Shape>, files: Vec<Part>) -> Self {
        Self { schema: SCHEMA, number, step, tables, files }
    }

    /// The file: a line with the lengths and the CRC-32 of what follows, the manifest as JSON, the caller's bytes.
    pub(super) fn bytes(&self, meta: &[u8]) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(self).map_err(|e| Error::internal(e.to_string()))?;
        let body = [&json, meta].concat();
        let sum = crc32fast::hash(&body);
        let line = format!("{TITLE} {SCHEMA} {} {} {sum:08x}\n", json.len(), meta.len());
        Ok([line.as_bytes(), &body].concat())
    }

    pub(super) fn read(path: &Path, number: u64) -> Result<(Self, Vec<u8>)> {
        let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
        let (manifest, meta) = Self::parse(&bytes).map_err(|e| e.in_file(path))?;
        if manifest.number != number {
            return Err(damaged(&format!("it is the manifest of state {}", manifest.number)).in_file(path));
        }
        Ok((manifest, meta))
    }

    /// The manifest and the caller's bytes.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, Vec<u8>)> {
        let end = bytes.iter().take(128).position(|&b| b == b'\n').ok_or_else(|| damaged("it has no first line"))?;
        let line = std::str::from_utf8(&bytes[..end]).map_err(|_| damaged("its first line is no text"))?;
        let words: Vec<&str> = line.split(' ').collect();
        let &[TITLE, schema, json, meta, sum] = words.as_slice() else {
            return Err(damaged("it does not begin as one"));
        };
        if schema != SCHEMA.to_string() {
            return Err(newer(schema));
        }
        let body = &bytes[end + 1..];
        let (Ok(json), Ok(meta), Ok(sum)) =
            (json.parse::<usize>(), meta.parse::<usize>(), u32::from_str_radix(sum, 16))
        else {
            return Err(damaged("its first line has no lengths"));
        };
        if json.checked_add(meta) != Some(body.len()) {
            return Err(damaged(&format!("it has {} bytes behind its first line", body.len())));
        }
        if crc32fast::hash(body) != sum {
            return Err(damaged("its bytes do not have the checksum that it names"));
        }
        let torn = |e: serde_json::Error| damaged(&format!("its JSON is none: {e}"));
        let schema = serde_json::from_slice::<SchemaOnly>(&body[..json]).map_err(torn)?.schema;
        if schema != SCHEMA {
            return Err(newer(&schema.to_string()));
        }
        let manifest: Self = serde_json::from_slice(&body[..json]).map_err(torn)?;
        // Names lead nowhere but into the folder.
        if manifest.files.is_empty() || manifest.files.iter().any(|part| rows_number(&part.name).is_none()) {
            return Err(damaged("it names files that are none of a checkpoint"));
        }
        Ok((manifest, body[json..].to_vec()))
    }

    /// Bytes of the increments, and of the base.
    pub(super) fn sizes(&self) -> (u64, u64) {
        let increments = self.files.iter().skip(1).map(|part| part.bytes).sum();
        (increments, self.files.first().map_or(0, |part| part.bytes))
    }

    /// Compares every file with its length and checksum.
    pub(super) fn verify(&self, folder: &Path) -> Result<()> {
        self.files.iter().try_for_each(|part| verify(part, &folder.join(&part.name)))
    }
}

fn newer(schema: &str) -> Error {
    Error::unsupported(format!("a checkpoint of format {schema}; this version reads {SCHEMA}"))
        .with_help("go on with the version that wrote it")
}

fn damaged(why: &str) -> Error {
    Error::bad_input(format!("this manifest of a checkpoint is damaged: {why}"))
        .with_help("remove the file to go on from the state before it")
}

fn verify(part: &Part, path: &Path) -> Result<()> {
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
    if length != part.bytes {
        return Err(torn(path, &format!("it has {length} bytes, and should have {}", part.bytes)));
    }
    let room = usize::try_from(length.clamp(1, 1 << 20)).unwrap_or(1);
    let (mut sum, mut buffer) = (crc32fast::Hasher::new(), vec![0; room]);
    loop {
        match file.read(&mut buffer).map_err(|e| Error::io(path, e))? {
            0 => break,
            n => sum.update(&buffer[..n]),
        }
    }
    if sum.finalize() == part.crc32 { Ok(()) } else { Err(torn(path, "its bytes do not have their checksum")) }
}

pub(super) fn torn(path: &Path, why: &str) -> Error {
    Error::bad_input(format!("these rows of a checkpoint are damaged: {why}"))
        .in_file(path)
        .with_help("put a copy of the file back, or go on from an older state that does not need it")
}

/// Rows of one table, by ascending id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// Which of the manifest's tables.
    pub table: usize,
    /// `[n]`
    pub ids: Vec<u32>,
    /// Weights and states, `[n, words]` each.
    pub arrays: Vec<Vec<u32>>,
    /// `[n, 4]`
    pub book: Vec<u32>,
}

/// A file of rows in the making.
pub(super) struct Writer<'a> {
    draft: Draft<'a>,
    name: String,
    rows: u64,
    blocks: u32,
}

impl<'a> Writer<'a> {
    pub(super) fn new(disk: &'a dyn super::disk::Disk, folder: &Path, number: u64) -> Result<Self> {
        let name = rows_name(number);
        let mut draft = Draft::beside(disk, &folder.join(&name))?;
        draft.write(MAGIC)?;
        Ok(Self { draft, name, rows: 0, blocks: 0 })
    }

    pub(super) fn block(&mut self, block: &Block) -> Result<()> {
        let words = block.arrays.iter().map(Vec::len).sum::<usize>() / block.ids.len().max(1);
        let [table, rows, words, arrays] =
            [block.table, block.ids.len(), words, block.arrays.len()].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        self.draft.write_words(&[table, rows, words, arrays])?;
        self.draft.write_words(&block.ids)?;
        block.arrays.iter().try_for_each(|array| self.draft.write_words(array))?;
        self.draft.write_words(&block.book)?;
        self.rows += u64::from(rows);
        self.blocks += 1;
        Ok(())
    }

    pub(super) fn keep(mut self) -> Result<Part> {
        self.draft.write_words(&[END, self.blocks, 0, 0])?;
        let (bytes, crc32) = self.draft.keep()?;
        Ok(Part { name: self.name, bytes, crc32, rows: self.rows })
    }
}

/// The blocks of a file of rows, which was verified; whatever it holds is checked against the tables all the same.
pub(super) struct Reader<'a> {
    path: &'a Path,
    file: BufReader<File>,
    tables: &'a [Shape],
    /// Of each table: rows so far, and the least id that may come.
    seen: Vec<(usize, u32)>,
    blocks: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn open(path: &'a Path, tables: &'a [Shape]) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let mut reader = Self { path, file: BufReader::new(file), tables, seen: vec![(0, 0); tables.len()], blocks: 0 };
        let mut magic = [0; 8];
        reader.file.read_exact(&mut magic).map_err(|e| Error::io(path, e))?;
        if &magic == MAGIC { Ok(reader) } else { Err(torn(path, "it does not begin as such a file")) }
    }

    fn words(&mut self, count: usize) -> Result<Vec<u32>> {
        let mut words = vec![0_u32; count];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        self.file.read_exact(bytes).map_err(|_| torn(self.path, "it ends inside a block"))?;
        words.iter_mut().for_each(|word| *word = u32::from_le(*word));
        Ok(words)
    }

    /// The next block, or `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Block>> {
        let head = self.words(4)?;
        if head[0] == END {
            let whole = head[1] == self.blocks && self.file.read(&mut [0]).is_ok_and(|n| n == 0);
            return if whole { Ok(None) } else { Err(torn(self.path, "blocks are missing")) };
        }
        let table = head[0] as usize;
        let tables = self.tables;
        let shape = tables.get(table).ok_or_else(|| torn(self.path, "it has rows of a table that is none"))?;
        let rows = head[1] as usize;
        let fits = head[2] as usize == shape.words.iter().sum::<usize>() && head[3] as usize == shape.words.len();
        if !fits || rows > shape.rows || rows == 0 || head[1] > MOST_ROWS {
            return Err(torn(self.path, &format!("a block of table '{}' does not fit it", shape.name)));
        }
        let ids = self.words(rows)?;
        let least = self.seen[table].1;
        let ascending = ids[0] >= least && ids.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || ids[rows - 1] as usize >= shape.rows {
            return Err(torn(self.path, &format!("rows of table '{}' do not stand in order", shape.name)));
        }
        self.seen[table] = (self.seen[table].0 + rows, ids[rows - 1] + 1);
        let arrays = shape.words.iter().map(|words| self.words(rows * words)).collect::<Result<_>>()?;
        let book = self.words(rows * 4)?;
        self.blocks += 1;
        Ok(Some(Block { table, ids, arrays, book }))
    }

    /// Refuses a base that lacks rows.
    pub(super) fn check_base(&self) -> Result<()> {
        match self.tables.iter().zip(&self.seen).find(|(shape, seen)| shape.rows != seen.0) {
            Some((shape, seen)) => {
                let what = format!("it has {} of {} rows of table '{}'", seen.0, shape.rows, shape.name);
                Err(torn(self.path, &what))
            }
            None => Ok(()),
        }
    }
}
