//! What a container says about its tensors, and how that lies in a file.
//!
//! | bytes | what |
//! | --- | --- |
//! | 16 | mark `89 w h p k 0d 0a 1a`, version (u32), CRC-32 of these 12 bytes |
//! | | payloads of all chunks of all tensors, one behind the other without gaps |
//! | | table: number of tensors (u32), then each of them |
//! | 32 | length of the table (u64), bytes of all payloads (u64), CRC-32 of the table, CRC-32 of the 20 bytes before, mark `w h p k - e n d` |
//!
//! A tensor: length of its name (u32) and the name in UTF-8; kind (0 weights, 1 activations, 2 an array of any shape), element, granularity (a byte each) and a byte 0; values of a group of the
//! granularity (u64); number of axes (u32) and their lengths (u64 each); values of a chunk (u32); and for each chunk its codec (a byte) and three
//! bytes 0, the words of its payload (u32), the CRC-32 of its payload and that of its values as [`super::Reader::values`] gives them. All numbers are
//! little-endian. How many chunks there are follows from the shape, where a payload lies from the lengths of those before it: no two overlap, whatever a file says.
//!
//! The table is behind the payloads, so that a file can be written to a pipe.

use crate::error::{Error, Result};
use crate::pack::values::{Element, Granularity, Kind};

use super::{MAX_CHUNK, raw};

/// Opens a file; like PNG's mark, it does not survive a transfer that changes line ends or the eighth bit.
pub(super) const MARK: [u8; 8] = *b"\x89whpk\r\n\x1a";
/// Closes a file.
pub(super) const END: [u8; 8] = *b"whpk-end";
/// What this build writes and reads.
pub(super) const VERSION: u32 = 1;
/// Bytes before the first payload.
pub(super) const HEADER: u64 = 16;
/// Bytes behind the table.
pub(super) const FOOTER: u64 = 32;
/// Values of a chunk are a multiple of this.
pub(super) const CHUNK_STEP: usize = 256;
/// Bytes of the longest name.
pub(super) const MAX_NAME: usize = 1 << 16;

/// Axes of an array.
const MAX_AXES: usize = 8;

const KINDS: [Option<Kind>; 3] = [Some(Kind::Weights), Some(Kind::Activations), None];
const ELEMENTS: [Element; 6] = [Element::I4, Element::I8, Element::U8, Element::I16, Element::F16, Element::Bf16];

/// What a tensor is, before any of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The name, of which a file has each once.
    pub name: String,
    /// Weights or activations; none for an array of any shape.
    pub kind: Option<Kind>,
    /// The container of its values.
    pub element: Element,
    /// How finely it was quantised.
    pub granularity: Granularity,
    /// `[filter, ky, kx, channel]`, `[y, x, channel]`, or whatever an array has.
    pub shape: Vec<usize>,
}

impl Head {
    /// Number of values.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a shape of the wrong number of axes or of more values than can be counted.
    pub fn values(&self) -> Result<usize> {
        let axes = match self.kind {
            Some(Kind::Weights) => 4,
            Some(Kind::Activations) => 3,
            None => self.shape.len().min(MAX_AXES),
        };
        let product = self.shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n));
        let bytes = product.filter(|n| n.checked_mul(4).is_some());
        match bytes {
            Some(values) if self.shape.len() == axes => Ok(values),
            Some(_) => Err(Error::bad_input(format!("a shape of {} axes in place of {axes}", self.shape.len()))),
            None => Err(Error::bad_input("a shape of more values than can be counted")),
        }
    }
}

/// A chunk of a tensor in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// The number of its codec ([`super::Codec::of_id`]).
    pub codec: u8,
    /// Words of its payload.
    pub words: u32,
    /// CRC-32 of the payload.
    pub payload_crc: u32,
    /// CRC-32 of the values.
    pub values_crc: u32,
    /// Where the payload begins in the file; not stored.
    pub offset: u64,
}

/// A tensor in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub(super) head: Head,
    pub(super) chunk: usize,
    pub(super) chunks: Vec<Chunk>,
}

impl Entry {
    /// What it is.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.head.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values of all chunks but the last.
    pub fn chunk_len(&self) -> usize {
        self.chunk
    }

    /// The chunks, in order.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Bytes of all payloads.
    pub fn stored(&self) -> u64 {
        self.chunks.iter().map(|chunk| 4 * u64::from(chunk.words)).sum()
    }

    /// Values of chunk `i`.
    pub(super) fn values_of(&self, i: usize) -> usize {
        self.chunk.min(self.len() - i * self.chunk)
    }
}

pub(super) fn header() -> [u8; 16] {
    let mut header = [0; 16];
    header[..8].copy_from_slice(&MARK);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let crc = crc32fast::hash(&header[..12]);
    header[12..].copy_from_slice(&crc.to_le_bytes());
    header
}

pub(super) fn footer(table: &[u8], payloads: u64) -> [u8; 32] {
    let mut footer = [0; 32];
    footer[..8].copy_from_slice(&(table.len() as u64).to_le_bytes());
    footer[8..16].copy_from_slice(&payloads.to_le_bytes());
    footer[16..20].copy_from_slice(&crc32fast::hash(table).to_le_bytes());
    let crc = crc32fast::hash(&footer[..20]);
    footer[20..24].copy_from_slice(&crc.to_le_bytes());
    footer[24..].copy_from_slice(&END);
    footer
}

pub(super) fn write(entries: &[Entry]) -> Vec<u8> {
    let mut table = Vec::new();
    let word = |table: &mut Vec<u8>, n: usize| table.extend((n as u32).to_le_bytes());
    word(&mut table, entries.len());
    for Entry { head, chunk, chunks } in entries {
        word(&mut table, head.name.len());
        table.extend(head.name.as_bytes());
        let (granularity, group) = match head.granularity {
            Granularity::Unknown => (0, 0),
            Granularity::Tensor => (1, 0),
            Granularity::Channel => (2, 0),
            Granularity::Group(n) => (3, n),
        };
        let element = ELEMENTS.iter().position(|&element| element == head.element).unwrap_or(ELEMENTS.len());
        let kind = KINDS.iter().position(|&kind| kind == head.kind).unwrap_or(KINDS.len());
        table.extend([kind as u8, element as u8, granularity, 0]);
        table.extend((group as u64).to_le_bytes());
        word(&mut table, head.shape.len());
        head.shape.iter().for_each(|&n| table.extend((n as u64).to_le_bytes()));
        word(&mut table, *chunk);
        for chunk in chunks {
            table.extend([chunk.codec, 0, 0, 0]);
            for n in [chunk.words, chunk.payload_crc, chunk.values_crc] {
                table.extend(n.to_le_bytes());
            }
        }
    }
    table
}

/// Reads a table that lies behind `payloads` bytes of payloads.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] with tensor, chunk and byte of the file.
pub(super) fn read(table: &[u8], payloads: u64) -> Result<Vec<Entry>> {
    let mut cursor = Cursor { bytes: table, at: 0, base: HEADER + payloads };
    let tensors = cursor.word("the number of tensors")?;
    let mut offset = HEADER;
    let mut entries = Vec::new();
    for index in 0..tensors {
        let what = format!("tensor {index} of {tensors}");
        entries.push(cursor.entry(&what, &mut offset, HEADER + payloads)?);
    }
    if cursor.at != table.len() {
        return Err(cursor.wrong("the table goes on behind its last tensor"));
    }
    if offset != HEADER + payloads {
        let has = offset - HEADER;
        return Err(cursor.wrong(&format!("the chunks of the table have {has} bytes, the file has {payloads}")));
    }
    Ok(entries)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    base: u64,
}

impl Cursor<'_> {
    fn wrong(&self, what: &str) -> Error {
        Error::bad_input(format!("byte {}: {what}", self.base + self.at as u64))
    }

    fn take(&mut self, n: usize, what: &str) -> Result<&[u8]> {
        if self.bytes.len() - self.at < n {
            return Err(self.wrong(&format!("the table ends before {what}")));
        }
        self.at += n;
        Ok(&self.bytes[self.at - n..self.at])
    }

    fn word(&mut self, what: &str) -> Result<usize> {
        let bytes = self.take(4, what)?;
        Ok(bytes.iter().rev().fold(0, |n, &byte| n << 8 | usize::from(byte)))
    }

    fn long(&mut self, what: &str) -> Result<usize> {
        let bytes = self.take(8, what)?;
        let n = bytes.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte));
        usize::try_from(n).map_err(|_| self.wrong(&format!("{what} is {n}, more than this machine counts")))
    }

    fn entry(&mut self, what: &str, offset: &mut u64, end: u64) -> Result<Entry> {
        let length = self.word(&format!("the name of {what}"))?;
        if length > MAX_NAME {
            return Err(self.wrong(&format!("the name of {what} has {length} bytes")));
        }
        let name = std::str::from_utf8(self.take(length, &format!("the name of {what}"))?).map(str::to_owned);
        let Ok(name) = name else { return Err(self.wrong(&format!("the name of {what} is not UTF-8"))) };
        let what = format!("tensor '{name}'");
        let (kind, element, granularity) = self.kinds(&what)?;
        let axes = self.word(&what)?;
        if axes > MAX_AXES {
            return Err(self.wrong(&format!("{what} has {axes} axes")));
        }
        let shape = (0..axes).map(|_| self.long(&format!("an axis of {what}"))).collect::<Result<_>>()?;
        let head = Head { name, kind, element, granularity, shape };
        let values = head.values().map_err(|error| self.wrong(&format!("{what}: {}", error.message())))?;
        let chunk = self.word(&what)?;
        if chunk == 0 || chunk > MAX_CHUNK || !chunk.is_multiple_of(CHUNK_STEP) {
            return Err(self.wrong(&format!("{what} has chunks of {chunk} values")));
        }
        let count = values.div_ceil(chunk);
        if (self.bytes.len() - self.at) / 16 < count {
            return Err(self.wrong(&format!("the table ends before the {count} chunks of {what}")));
        }
        let mut entry = Entry { head, chunk, chunks: Vec::with_capacity(count) };
        for i in 0..count {
            let chunk = self.chunk(&format!("{what}, chunk {i}"), raw::words(element, entry.values_of(i)), *offset)?;
            *offset += 4 * u64::from(chunk.words);
            if *offset > end {
                return Err(self.wrong(&format!("{what}, chunk {i} ends at byte {offset}, the payloads at {end}")));
            }
            entry.chunks.push(chunk);
        }
        Ok(entry)
    }

    fn kinds(&mut self, what: &str) -> Result<(Option<Kind>, Element, Granularity)> {
        let [kind, element, granularity, zero] = <[u8; 4]>::try_from(self.take(4, what)?).unwrap_or_default();
        let group = self.long(&format!("the granularity of {what}"))?;
        let Some(&kind) = KINDS.get(usize::from(kind)) else {
            return Err(self.wrong(&format!("{what} is of kind {kind}")));
        };
        let granularity = match (granularity, group, zero) {
            (0, 0, 0) => Granularity::Unknown,
            (1, 0, 0) => Granularity::Tensor,
            (2, 0, 0) => Granularity::Channel,
            (3, _, 0) => Granularity::Group(group),
            _ => return Err(self.wrong(&format!("{what} has granularity {granularity} of {group}, {zero}"))),
        };
        match ELEMENTS.get(usize::from(element)) {
            Some(&element) => Ok((kind, element, granularity)),
            None => Err(self
                .wrong(&format!("{what} has elements of type {element}"))
                .with_help("decode it with the version of wavehull that wrote it, or a newer one")),
        }
    }

    fn chunk(&mut self, what: &str, most: usize, offset: u64) -> Result<Chunk> {
        let [codec, a, b, c] = <[u8; 4]>::try_from(self.take(4, what)?).unwrap_or_default();
        let words = self.word(what)?;
        if (a, b, c) != (0, 0, 0) || words > most {
            return Err(self.wrong(&format!("{what} has {words} words, values take {most} at most")));
        }
        let [payload_crc, values_crc] = [self.word(what)? as u32, self.word(what)? as u32];
        Ok(Chunk { codec, words: words as u32, payload_crc, values_crc, offset })
    }
}
