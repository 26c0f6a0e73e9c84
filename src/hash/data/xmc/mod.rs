//! The text format of the Extreme Classification Repository, plain or gzipped.
//!
//! The first line is `samples features labels`; each further line is a sample, `label,label feature:value feature:value ...`. Ids count
//! from 0. A sample without labels begins with a space. What files in the wild do beyond that, and what becomes of it:
//!
//! | what | becomes |
//! | --- | --- |
//! | ids of a sample that do not ascend | sorted; counted in [`Notes::sorted`] |
//! | a label twice in a sample | says nothing new: dropped; counted in [`Notes::doubled_labels`] |
//! | a feature twice in a sample | an error: sum or last, nobody can tell |
//! | a sample without labels | kept; counted in [`Notes::unlabelled`] |
//! | a sample without features (also an empty line) | an error, for it can teach nothing; kept and counted with [`ReadOptions::keep_empty`] |
//! | a sample without labels whose line begins with its first feature | understood |
//! | line ends of Windows, tabs, more spaces than one, a byte order mark, empty lines behind the last sample | understood |
//! | values that are no finite f32, ids that the header does not allow, more or fewer samples than it promises | errors with line and column |
//!
//! Columns count bytes. Blocks of lines are parsed by threads while the next are read; blocks are cut by size alone, so neither the set nor
//! an error depends on the number of threads.

mod line;
mod write;

use std::io::Read;
use std::path::Path;

pub use write::{write, write_to};

use super::part;
use super::source::{Block, Blocks};
use super::{Notes, ReadOptions};
use crate::error::{Error, Result};
use crate::hash::set::SparseSet;

/// Reads a file; the cache is not looked at.
///
/// # Errors
/// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] with file, line and column.
pub fn read(path: &Path, options: &ReadOptions) -> Result<(SparseSet, Notes)> {
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    read_from(file, options).map_err(|e| e.in_file(path))
}

/// Reads a stream. Beyond the set itself it holds two blocks a thread.
///
/// # Errors
/// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] with line and column.
pub fn read_from(reader: impl Read, options: &ReadOptions) -> Result<(SparseSet, Notes)> {
    let threads = part::threads(options.threads);
    let mut blocks = Blocks::new(reader, options.block)?;
    let first = blocks.next()?.ok_or_else(|| Error::bad_input("the file is empty"))?;
    let (header, first) = split_header(first, options.keep_empty)?;
    let mut set = part::empty(header.features, header.labels);
    let mut notes = Notes::default();
    let (mut ready, mut end) = (vec![first], Ok(()));
    loop {
        let ended = end.is_err() || ready.is_empty();
        let work = |block: &Block| line::parse(block, &header);
        let next = || if ended { (Vec::new(), Ok(())) } else { blocks.some(threads) };
        let (parsed, (more, more_end)) = part::beside(&ready, threads, work, next);
        for parsed in parsed {
            let (part, counted) = parsed?;
            part::append(&mut set, &part);
            notes.add(&counted);
        }
        end?;
        if ended {
            break;
        }
        (ready, end) = (more, more_end);
    }
    part::trim(&mut set);
    complete(&set, header.samples)?;
    Ok((set, notes))
}

/// What the first line says, and how to read the others.
#[derive(Debug)]
struct Header {
    samples: usize,
    features: usize,
    labels: usize,
    keep_empty: bool,
}

/// Takes the header off the first block.
fn split_header(mut block: Block, keep_empty: bool) -> Result<(Header, Block)> {
    let end = block.bytes.iter().position(|&b| b == b'\n');
    let rest = end.map_or_else(Vec::new, |end| block.bytes.split_off(end + 1));
    let text = block.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&block.bytes);
    let [samples, features, labels] = header(text).map_err(|e| e.at(1, 1))?;
    Ok((Header { samples, features, labels, keep_empty }, Block { line: 2, bytes: rest }))
}

fn header(text: &[u8]) -> Result<[usize; 3]> {
    let help = "begin the file with a line `samples features labels`, such as `490449 135909 670091`";
    let refuse = |what: String| Error::bad_input(what).with_help(help);
    let words: Vec<&[u8]> = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    if words.iter().any(|word| word.contains(&b':')) {
        return Err(refuse("the header is missing: the first line is a sample".to_owned()));
    }
    let Ok([samples, features, labels]) = <[&[u8]; 3]>::try_from(words.as_slice()) else {
        return Err(refuse(format!("a header of {} words, not three numbers", words.len())));
    };
    let number = |word: &[u8], most: u64, what: &str| {
        let text = std::str::from_utf8(word).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        match text.map(|text| text.parse::<u64>().unwrap_or(u64::MAX)) {
            None => Err(refuse(format!("the header's number of {what} is {}", line::shown(word)))),
            Some(n) if n > most => Err(refuse(format!("the header's number of {what}, {n}, is above {most}"))),
            Some(n) => usize::try_from(n).map_err(|_| refuse(format!("{n} {what} are too many for this machine"))),
        }
    };
    // The last row of a table is its bias's, and a row's number must fit a word.
    let ids = u64::from(u32::MAX) - 1;
    Ok([number(samples, 1 << 40, "samples")?, number(features, ids, "features")?, number(labels, ids, "labels")?])
}

fn complete(set: &SparseSet, promised: usize) -> Result<()> {
    if set.len() == promised {
        return Ok(());
    }
    Err(Error::bad_input(format!("the file ends after {} samples, but its header promises {promised}", set.len()))
        .at(set.len() + 2, 1)
        .with_help("the file is cut off: fetch it again; or correct the header's first number"))
}
