//! Writing a container: tensors one after another, their values as they come.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::table::{self, CHUNK_STEP, Chunk, Entry, HEADER, Head, MAX_NAME};
use super::{Codec, EncodeOptions, MAX_CHUNK, bytes, raw};
use crate::error::{Error, Result};
use crate::gpu::{Control, Gpu};
use crate::pack::values::{Element, Values};

/// Writes tensors to anything that takes bytes, a pipe too: the table comes last, and no more than a chunk is held in memory.
#[derive(Debug)]
pub struct Writer<W> {
    sink: W,
    file: PathBuf,
    options: EncodeOptions,
    gpu: Option<Gpu>,
    control: Control,
    entries: Vec<Entry>,
    names: BTreeSet<String>,
    open: Option<Open>,
    payloads: u64,
}

/// A tensor whose values are coming.
#[derive(Debug)]
struct Open {
    entry: Entry,
    codec: Codec,
    values: usize,
    /// Values that came, in bytes, and those of them that wait for a whole chunk.
    came: usize,
    waiting: Vec<u8>,
}

/// What became of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// The codec of its chunks but those that are stored raw.
    pub codec: Codec,
    /// Number of values.
    pub values: u64,
    /// Bits of the values as they are.
    pub raw_bits: u64,
    /// Bytes of its payloads.
    pub bytes: u64,
    /// Chunks, and those of them that did not pay and stand as they are.
    pub chunks: u64,
    /// Of the chunks, those stored raw.
    pub raw_chunks: u64,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Written {
    /// Each tensor.
    pub tensors: Vec<Stored>,
    /// Bytes of the file.
    pub bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a container; `file` is what errors call it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] for options out of range.
    pub fn new(mut sink: W, file: &Path, options: &EncodeOptions) -> Result<Self> {
        let chunk = options.chunk;
        if chunk == 0 || chunk > MAX_CHUNK || !chunk.is_multiple_of(CHUNK_STEP) {
            return Err(Error::bad_input(format!("chunks of {chunk} values"))
                .with_help(format!("take a multiple of {CHUNK_STEP}, at most {MAX_CHUNK}")));
        }
        sink.write_all(&table::header()).map_err(|error| Error::io(file, error))?;
        Ok(Self {
            sink,
            file: file.to_owned(),
            options: options.clone(),
            gpu: None,
            control: Control::default(),
            entries: Vec::new(),
            names: BTreeSet::new(),
            open: None,
            payloads: 0,
        })
    }

    /// Codes on this device.
    #[must_use]
    pub fn on(self, gpu: Option<&Gpu>) -> Self {
        Self { gpu: gpu.cloned(), ..self }
    }

    /// Stops between chunks if the token says so.
    #[must_use]
    pub fn controlled(self, control: &Control) -> Self {
        Self { control: Control { cancel: control.cancel.clone(), progress: None }, ..self }
    }

    /// A whole tensor.
    ///
    /// # Errors
    /// Those of [`Writer::begin`], [`Writer::push_async`] and [`Writer::end_async`].
    pub async fn write_async(&mut self, values: &Values) -> Result<()> {
        self.begin(Head {
            name: values.name().to_owned(),
            kind: Some(values.kind()),
            element: values.element(),
            granularity: values.granularity(),
            shape: values.shape().to_vec(),
        })?;
        if let Some(bytes) = values.bytes() {
            self.push_async(bytes).await?;
        }
        for halves in values.halves().unwrap_or_default().chunks(self.options.chunk) {
            let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
            self.push_async(&bytes).await?;
        }
        self.end_async().await
    }

    /// Begins a tensor.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a name that is there already or is too long, for a shape that is none, and while another tensor is open.
    pub fn begin(&mut self, head: Head) -> Result<()> {
        let wrong = |what: &str| self.wrong(&head.name, what);
        if self.open.is_some() {
            return Err(wrong("begins before the tensor before it has ended"));
        }
        if head.name.len() > MAX_NAME {
            return Err(wrong("has a name that is too long"));
        }
        if self.names.contains(&head.name) {
            return Err(wrong("is there already").with_help("names of a file have to differ"));
        }
        let values = head.values().map_err(|error| wrong(error.message()))?;
        let codec = match self.options.codec {
            Some(codec) if codec.takes(head.element) => codec,
            _ => Codec::best(head.element),
        };
        self.names.insert(head.name.clone());
        let entry = Entry { head, chunk: self.options.chunk, chunks: Vec::new() };
        self.open = Some(Open { entry, codec, values, came: 0, waiting: Vec::new() });
        Ok(())
    }

    /// More values of the open tensor: a byte each, or two (little-endian) for elements of 16 bits, cut anywhere.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] without an open tensor, for more values than its shape has, and for 4-bit values outside -8 to 7;
    /// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::Cancelled`]; those of the device.
    pub async fn push_async(&mut self, mut more: &[u8]) -> Result<()> {
        let Some(open) = &mut self.open else { return Err(self.wrong("", "gets values before it begins")) };
        let element = open.entry.head.element;
        let stride = bytes::stride(element);
        let name = open.entry.head.name.clone();
        if more.len() > open.values * stride - open.came {
            let what = format!("gets more than the {} values of its shape", open.values);
            return Err(self.wrong(&name, &what));
        }
        if element == Element::I4 && more.iter().any(|&byte| !(-8..8).contains(&byte.cast_signed())) {
            return Err(self.wrong(&name, "has a value outside -8 to 7"));
        }
        open.came += more.len();
        let chunk = self.options.chunk * stride;
        while let Some(open) = &mut self.open {
            let room = chunk - open.waiting.len();
            let (now, later) = more.split_at(room.min(more.len()));
            open.waiting.extend(now);
            more = later;
            if open.waiting.len() < chunk {
                break;
            }
            self.flush_async().await?;
        }
        Ok(())
    }

    /// Blocking twin of [`Writer::push_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn push(&mut self, more: &[u8]) -> Result<()> {
        pollster::block_on(self.push_async(more))
    }

    /// Ends the open tensor.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] without an open tensor, and for fewer values than its shape has; those of [`Writer::push_async`].
    pub async fn end_async(&mut self) -> Result<()> {
        let Some(open) = &self.open else { return Err(self.wrong("", "ends before it begins")) };
        let stride = bytes::stride(open.entry.head.element);
        if open.came != open.values * stride {
            let what = format!("ends after {} bytes of the {} of its shape", open.came, open.values * stride);
            return Err(self.wrong(&open.entry.head.name, &what));
        }
        if !open.waiting.is_empty() {
            self.flush_async().await?;
        }
        self.entries.extend(self.open.take().map(|open| open.entry));
        Ok(())
    }

    /// Blocking twin of [`Writer::end_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn end(&mut self) -> Result<()> {
        pollster::block_on(self.end_async())
    }

    /// Writes the table, and gives the sink back.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] while a tensor is open; [`crate::ErrorKind::Io`].
    pub fn finish(mut self) -> Result<(W, Written)> {
        if let Some(open) = &self.open {
            return Err(self.wrong(&open.entry.head.name, "has not ended"));
        }
        let table = table::write(&self.entries);
        let footer = table::footer(&table, self.payloads);
        let written = self.sink.write_all(&table).and_then(|()| self.sink.write_all(&footer));
        written.and_then(|()| self.sink.flush()).map_err(|error| Error::io(&self.file, error))?;
        let bytes = HEADER + self.payloads + (table.len() + footer.len()) as u64;
        let tensors = self.entries.iter().map(Stored::of).collect();
        Ok((self.sink, Written { tensors, bytes }))
    }

    /// Codes what waits, and writes it.
    async fn flush_async(&mut self) -> Result<()> {
        self.control.cancel.check()?;
        let Some(open) = &mut self.open else { return Ok(()) };
        let waiting = std::mem::take(&mut open.waiting);
        let element = open.entry.head.element;
        let len = waiting.len() / bytes::stride(element);
        let words = bytes::to_words(&waiting);
        let mut codec = open.codec;
        let mut payload = codec.encode(self.gpu.as_ref(), element, &words, len, &self.control).await?;
        if payload.len() >= raw::words(element, len) {
            codec = Codec::Raw;
            payload = raw::encode(element, &words, len);
        }
        let stored: Vec<u8> = bytes::of_words(&payload, 4 * payload.len());
        open.entry.chunks.push(Chunk {
            codec: codec.id(),
            words: payload.len() as u32,
            payload_crc: crc32fast::hash(&stored),
            values_crc: crc32fast::hash(&waiting),
            offset: HEADER + self.payloads,
        });
        self.payloads += stored.len() as u64;
        self.sink.write_all(&stored).map_err(|error| Error::io(&self.file, error))
    }

    fn wrong(&self, name: &str, what: &str) -> Error {
        Error::bad_input(format!("tensor '{name}' {what}")).in_file(&self.file)
    }
}

impl Stored {
    fn of(entry: &Entry) -> Self {
        let coded = entry.chunks.iter().find(|chunk| chunk.codec != Codec::Raw.id());
        Self {
            name: entry.head.name.clone(),
            codec: coded.and_then(|chunk| Codec::of_id(chunk.codec).ok()).unwrap_or(Codec::Raw),
            values: entry.len() as u64,
            raw_bits: entry.len() as u64 * u64::from(entry.head.element.bits()),
            bytes: entry.stored(),
            chunks: entry.chunks.len() as u64,
            raw_chunks: entry.chunks.iter().filter(|chunk| chunk.codec == Codec::Raw.id()).count() as u64,
        }
    }
}
