//! Reading a container: its table at once, values when they are asked for.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::table::{self, END, Entry, FOOTER, HEADER, MARK, VERSION};
use super::{Codec, bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Control, Gpu};
use crate::pack::values::{Kind, Values};

/// Gives tensors, or any range of the values of one, of which it reads the chunks that hold them and no others.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    file: PathBuf,
    gpu: Option<Gpu>,
    control: Control,
    entries: Vec<Entry>,
    names: BTreeMap<String, usize>,
}

impl<R: Read + Seek> Reader<R> {
    /// Reads the table; `file` is what errors call the source.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; [`ErrorKind::BadInput`] that says where the file is damaged; [`ErrorKind::Unsupported`] for another version.
    pub fn new(mut source: R, file: &Path) -> Result<Self> {
        let io = |error| Error::io(file, error);
        let size = source.seek(SeekFrom::End(0)).map_err(io)?;
        source.seek(SeekFrom::Start(0)).map_err(io)?;
        let header = read(&mut source, HEADER.min(size)).map_err(io)?;
        check_header(&header).map_err(|error| error.in_file(file))?;
        let cut = |what: &str| damaged(format!("byte {size}: {what}: it was cut off, in writing or in copying"));
        if size < HEADER + FOOTER {
            return Err(cut("the file ends without a table").in_file(file));
        }
        source.seek(SeekFrom::Start(size - FOOTER)).map_err(io)?;
        let footer = read(&mut source, FOOTER).map_err(io)?;
        if footer.len() as u64 != FOOTER || footer[24..] != END {
            return Err(cut("the file does not end as it should").in_file(file));
        }
        let (table, payloads, crc) = check_footer(&footer, size).map_err(|error| error.in_file(file))?;
        source.seek(SeekFrom::Start(HEADER + payloads)).map_err(io)?;
        let table = read(&mut source, table).map_err(io)?;
        let begin = HEADER + payloads;
        if crc32fast::hash(&table) != crc {
            let what = damaged(format!("bytes {begin} to {}: the table's checksum does not match", size - FOOTER));
            return Err(what.in_file(file));
        }
        let entries = table::read(&table, payloads).map_err(|error| helped(error).in_file(file))?;
        let mut names = BTreeMap::new();
        for (index, entry) in entries.iter().enumerate() {
            if names.insert(entry.head.name.clone(), index).is_some() {
                let what = damaged(format!("bytes from {begin} on: two tensors are called '{}'", entry.head.name));
                return Err(what.in_file(file));
            }
        }
        Ok(Self { source, file: file.to_owned(), gpu: None, control: Control::default(), entries, names })
    }

    /// Decodes on this device.
    #[must_use]
    pub fn on(self, gpu: Option<&Gpu>) -> Self {
        Self { gpu: gpu.cloned(), ..self }
    }

    /// Stops between chunks if the token says so.
    #[must_use]
    pub fn controlled(self, control: &Control) -> Self {
        Self { control: Control { cancel: control.cancel.clone(), progress: None }, ..self }
    }

    /// All tensors, as the table has them.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Number of values of a tensor; 0 if there is none of this name.
    pub(super) fn len(&self, name: &str) -> usize {
        self.names.get(name).map_or(0, |&index| self.entries[index].len())
    }

    /// A tensor by its name. An array of any shape comes as weights: its first axis counts filters, all others together are channels.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if there is none; those of [`Reader::values_async`].
    pub async fn tensor_async(&mut self, name: &str) -> Result<Values> {
        let index = self.index(name)?;
        let head = self.entries[index].head.clone();
        let values = self.values_async(name, 0..self.entries[index].len()).await?;
        let (kind, shape) = match (head.kind, head.shape.as_slice()) {
            (Some(kind), shape) => (kind, shape.to_vec()),
            (None, []) => (Kind::Weights, vec![1; 4]),
            (None, [first, rest @ ..]) => (Kind::Weights, vec![*first, 1, 1, rest.iter().product()]),
        };
        let made = if head.element.bits() == 16 {
            let halves = values.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect();
            Values::from_halves(head.name, kind, head.element, &shape, halves)
        } else {
            Values::from_bytes(head.name, kind, head.element, &shape, values)
        };
        made.map(|values| values.quantised(head.granularity)).map_err(|error| helped(error).in_file(&self.file))
    }

    /// Blocking twin of [`Reader::tensor_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn tensor(&mut self, name: &str) -> Result<Values> {
        pollster::block_on(self.tensor_async(name))
    }

    /// Some values of a tensor, in row-major order: a byte each (4-bit ones sign-extended), or two, little-endian, for elements of 16 bits.
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if there are no such values, or with tensor, chunk and bytes where the file is damaged; [`ErrorKind::Unsupported`] for a codec that
    /// this build does not have; [`ErrorKind::Io`]; [`ErrorKind::Cancelled`]; those of the device.
    pub async fn values_async(&mut self, name: &str, range: Range<usize>) -> Result<Vec<u8>> {
        let index = self.index(name)?;
        let (len, chunk) = (self.entries[index].len(), self.entries[index].chunk);
        let stride = bytes::stride(self.entries[index].head.element);
        if range.start > range.end || range.end > len {
            let what = format!("tensor '{name}' has no values {} to {}, it has {len}", range.start, range.end);
            return Err(Error::bad_input(what).in_file(&self.file));
        }
        let mut values = Vec::new();
        if range.is_empty() {
            return Ok(values);
        }
        for i in range.start / chunk..range.end.div_ceil(chunk) {
            let first = i * chunk;
            let decoded = self.chunk_async(index, i).await?;
            let (from, to) = (range.start.max(first) - first, range.end.min(first + chunk) - first);
            values.extend_from_slice(&decoded[from * stride..to * stride]);
        }
        Ok(values)
    }

    /// Blocking twin of [`Reader::values_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn values(&mut self, name: &str, range: Range<usize>) -> Result<Vec<u8>> {
        pollster::block_on(self.values_async(name, range))
    }

    /// Chunk `i` of a tensor, decoded and checked.
    async fn chunk_async(&mut self, index: usize, i: usize) -> Result<Vec<u8>> {
        self.control.cancel.check()?;
        let entry = &self.entries[index];
        let (chunk, element, len) = (entry.chunks[i], entry.head.element, entry.values_of(i));
        let size = 4 * u64::from(chunk.words);
        let place =
            format!("tensor '{}', chunk {i}, bytes {} to {}", entry.head.name, chunk.offset, chunk.offset + size);
        let at = |error: Error| {
            let message = format!("{place}: {}", error.message());
            match error.kind() {
                ErrorKind::BadInput => damaged(message).in_file(&self.file),
                ErrorKind::Unsupported => {
                    Error::unsupported(message).with_help(error.help().unwrap_or_default()).in_file(&self.file)
                }
                _ => error,
            }
        };
        let codec = Codec::of_id(chunk.codec).map_err(at)?;
        self.source.seek(SeekFrom::Start(chunk.offset)).map_err(|error| Error::io(&self.file, error))?;
        let stored = read(&mut self.source, size).map_err(|error| Error::io(&self.file, error))?;
        if stored.len() as u64 != size {
            return Err(at(Error::bad_input(format!("the file ends after {} bytes of it", stored.len()))));
        }
        if crc32fast::hash(&stored) != chunk.payload_crc {
            return Err(at(Error::bad_input("the checksum of the payload does not match")));
        }
        let payload = bytes::to_words(&stored);
        let words = codec.decode(self.gpu.as_ref(), element, &payload, len, &self.control).await.map_err(at)?;
        let values = bytes::of_words(&words, len * bytes::stride(element));
        if crc32fast::hash(&values) != chunk.values_crc {
            return Err(at(Error::bad_input("the checksum of the decoded values does not match")));
        }
        Ok(values)
    }

    fn index(&self, name: &str) -> Result<usize> {
        self.names.get(name).copied().ok_or_else(|| {
            let some: Vec<&str> = self.entries.iter().take(8).map(|entry| entry.head.name.as_str()).collect();
            Error::bad_input(format!("there is no tensor '{name}'"))
                .with_help(format!("it has {} tensors, the first: {}", self.entries.len(), some.join(", ")))
                .in_file(&self.file)
        })
    }
}

/// Up to `n` bytes: memory grows as they come, whatever `n` says.
fn read(source: &mut impl Read, n: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(n).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn damaged(message: String) -> Error {
    helped(Error::bad_input(message))
}

fn helped(error: Error) -> Error {
    if error.help().is_some() {
        return error;
    }
    error.with_help("the file is damaged: copy it again, or encode the tensors again")
}

fn check_header(header: &[u8]) -> Result<()> {
    if header.len() < 8 || header[..8] != MARK {
        return Err(Error::bad_input("bytes 0 to 8: this is no container of wavehull pack")
            .with_help("`wavehull pack encode` writes them"));
    }
    if header.len() < 16 {
        return Err(damaged(format!("byte {}: the file ends within its header", header.len())));
    }
    if crc32fast::hash(&header[..12]).to_le_bytes() != header[12..16] {
        return Err(damaged("bytes 0 to 16: the header's checksum does not match".to_owned()));
    }
    let version = little(&header[8..12]);
    if version != u64::from(VERSION) {
        let what = format!("byte 8: a container of version {version}, this build reads version {VERSION}");
        return Err(
            Error::unsupported(what).with_help("read it with the version of wavehull that wrote it, or a newer one")
        );
    }
    Ok(())
}

/// Length of the table, bytes of the payloads and the table's checksum.
fn check_footer(footer: &[u8], size: u64) -> Result<(u64, u64, u32)> {
    let begin = size - FOOTER;
    if crc32fast::hash(&footer[..20]).to_le_bytes() != footer[20..24] {
        return Err(damaged(format!("bytes {begin} to {size}: the footer's checksum does not match")));
    }
    let (table, payloads) = (little(&footer[..8]), little(&footer[8..16]));
    let all = table.checked_add(payloads).and_then(|n| n.checked_add(HEADER + FOOTER));
    if all != Some(size) {
        let what = format!("a table of {table} bytes and payloads of {payloads} in a file of {size} bytes");
        return Err(damaged(format!("byte {begin}: {what}")));
    }
    Ok((table, payloads, little(&footer[16..20]) as u32))
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte))
}
