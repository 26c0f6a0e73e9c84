//! Bytes of a file as they are or unpacked, by blocks of whole lines; and files that are there whole or not at all.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::error::{Error, ErrorKind, Result};

/// The longest line. A sample has a few kilobytes; without a limit a file without line ends would fill the memory.
pub(super) const LONGEST: usize = 64 << 20;

/// What tells one state of a file from another: its length, and the CRC-32 of its bytes as they lie on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fingerprint {
    /// Bytes on the disk.
    pub length: u64,
    /// Their CRC-32 (IEEE 802.3).
    pub crc: u32,
}

/// A reader that takes the fingerprint of what passes.
#[derive(Debug)]
pub(super) struct Watched<R> {
    reader: R,
    length: u64,
    crc: crc32fast::Hasher,
}

impl<R: Read> Watched<R> {
    pub fn new(reader: R) -> Self {
        Self { reader, length: 0, crc: crc32fast::Hasher::new() }
    }

    /// Reads what is left, and tells.
    pub fn finish(mut self) -> io::Result<Fingerprint> {
        let mut rest = vec![0; 1 << 18];
        while self.read(&mut rest)? > 0 {}
        Ok(Fingerprint { length: self.length, crc: self.crc.finalize() })
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.length += n as u64;
        self.crc.update(&buffer[..n]);
        Ok(n)
    }
}

/// The fingerprint of a file as it is now.
pub(super) fn fingerprint(path: &Path) -> io::Result<Fingerprint> {
    Watched::new(File::open(path)?).finish()
}

/// The same bytes, unpacked where they are gzipped (told by content); and whether they were. Works on pipes.
pub(super) fn unpacked<'a>(mut reader: impl Read + 'a) -> io::Result<(Box<dyn Read + 'a>, bool)> {
    let mut head = Vec::with_capacity(2);
    reader.by_ref().take(2).read_to_end(&mut head)?;
    let gzip = head == [0x1f, 0x8b];
    let whole = io::Cursor::new(head).chain(reader);
    Ok(if gzip {
        (Box::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, whole))), true)
    } else {
        (Box::new(whole), false)
    })
}

/// Whole lines of a text.
#[derive(Debug)]
pub(super) struct Block {
    /// Number of the first, from 1.
    pub line: usize,
    pub bytes: Vec<u8>,
}

/// Cuts a stream into blocks of whole lines. Cuts depend on the bytes and the size alone.
pub(super) struct Blocks<'a> {
    reader: Box<dyn Read + 'a>,
    gzip: bool,
    size: usize,
    line: usize,
    /// The begin of a line whose end has not been read.
    rest: Vec<u8>,
    /// What reading came to, once it ended.
    end: Option<Result<()>>,
}

impl<'a> Blocks<'a> {
    pub fn new(reader: impl Read + 'a, size: usize) -> Result<Self> {
        let (reader, gzip) = unpacked(reader).map_err(failed)?;
        Ok(Self { reader, gzip, size: size.max(1), line: 1, rest: Vec::new(), end: None })
    }

    /// The next block; what can be read before a fault comes before the fault.
    pub fn next(&mut self) -> Result<Option<Block>> {
        let mut bytes = std::mem::take(&mut self.rest);
        loop {
            if let Some(end) = self.end.take() {
                self.end = Some(Ok(()));
                return end.map(|()| None);
            }
            let wanted = if bytes.len() < self.size { self.size - bytes.len() } else { self.size };
            let before = bytes.len();
            let read = self.reader.by_ref().take(wanted as u64).read_to_end(&mut bytes);
            let ended = match read {
                Ok(n) if n == wanted => false,
                Ok(_) => {
                    self.end = Some(Ok(()));
                    true
                }
                Err(e) => {
                    self.end = Some(Err(self.broken(e, &bytes)));
                    false
                }
            };
            let cut = if ended {
                bytes.len()
            } else {
                // What was there before is a line's begin: only what is new can hold its end.
                bytes[before..].iter().rposition(|&b| b == b'\n').map_or(0, |at| before + at + 1)
            };
            if cut > 0 {
                self.rest = bytes.split_off(cut);
                let line = self.line;
                self.line += bytes.iter().filter(|&&b| b == b'\n').count();
                return Ok(Some(Block { line, bytes }));
            }
            if bytes.len() > LONGEST {
                return Err(Error::bad_input(format!("a line of more than {} MiB", LONGEST >> 20))
                    .at(self.line, 1)
                    .with_help("this is no text of samples: check that it is the right file"));
            }
        }
    }

    /// As many blocks as there are threads.
    pub fn some(&mut self, count: usize) -> (Vec<Block>, Result<()>) {
        let mut blocks = Vec::new();
        while blocks.len() < count {
            match self.next() {
                Ok(Some(block)) => blocks.push(block),
                Ok(None) => break,
                Err(e) => return (blocks, Err(e)),
            }
        }
        (blocks, Ok(()))
    }

    /// The error for a read that failed behind `bytes`.
    fn broken(&self, e: io::Error, bytes: &[u8]) -> Error {
        let line = self.line + bytes.iter().filter(|&&b| b == b'\n').count();
        let column = bytes.iter().rev().take_while(|&&b| b != b'\n').count() + 1;
        damaged(self.gzip, e).at(line, column)
    }
}

/// A read that failed, which may be the fault of the packed data.
pub(super) fn damaged(gzip: bool, e: io::Error) -> Error {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    if gzip && matches!(e.kind(), InvalidData | InvalidInput | UnexpectedEof) {
        return Error::bad_input(format!("the compressed data is cut off or damaged from here on: {e}"))
            .with_help("fetch the file again; `gzip -t` checks it")
            .with_source(e);
    }
    failed(e)
}

/// A read that failed.
pub(super) fn failed(e: io::Error) -> Error {
    Error::new(ErrorKind::Io, e.to_string()).with_source(e)
}
