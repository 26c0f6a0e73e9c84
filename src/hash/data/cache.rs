//! A parsed set as it lies in memory, so that the next reading of its file takes one pass over bytes.
//!
//! The file is the writer's: numbers in its byte order. `N` samples, `F` non-zeros, `L` labels of all samples together.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `89 77 68 73 63 0d 0a 1a` ("whsc") |
//! | 4 | version, 1 |
//! | 4 | 0x01020304: the byte order |
//! | 12 x 8 | length and CRC-32 of the source file, whether empty samples were kept, `N`, features, labels, `F`, `L`, the counts of [`Notes`] |
//! | 4 + 4 | CRC-32 of all before; zero |
//! | 4 `N` | non-zeros of each sample |
//! | 4 `F` + 4 `F` | their features; their values |
//! | 4 `N` | labels of each sample |
//! | 4 `L` | their ids |
//! | 4 | CRC-32 of all before |
//!
//! Nothing in it is trusted: the length must be the one that the header's counts make, both checksums must hold, and the set must stand
//! [`SparseSet::check`].

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::source::{self, Fingerprint};
use super::{Cache, Notes, part};
use crate::error::{Error, Result};
use crate::files::replace_with;
use crate::hash::set::{Lists, SparseSet};

const MAGIC: [u8; 8] = *b"\x89whsc\r\n\x1a";
const VERSION: u32 = 1;
const ORDER: u32 = 0x0102_0304;
const HEADER: usize = 120;
const COUNTS: usize = 12;

/// What a cache was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    /// The source file.
    pub file: Fingerprint,
    /// Whether samples without features were kept, as [`super::ReadOptions::keep_empty`].
    pub keep_empty: bool,
}

/// Where the cache of a file is, if there is to be one. In a common folder its name tells files of one name in different folders apart.
pub fn place(path: &Path, cache: &Cache) -> Option<PathBuf> {
    let mut name = path.file_name()?.to_owned();
    match cache {
        Cache::Off => None,
        Cache::Beside => {
            name.push(".wavehull-cache");
            Some(path.with_file_name(name))
        }
        Cache::Folder(folder) => {
            let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            name.push(format!(".{:016x}.wavehull-cache", crate::fnv::fnv1a(&whole.to_string_lossy())));
            Some(folder.join(name))
        }
    }
}

/// Writes a cache; it is there whole or not at all.
///
/// # Errors
/// [`crate::ErrorKind::Io`].
pub fn store(path: &Path, origin: &Origin, set: &SparseSet, notes: &Notes) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    }
    replace_with(path, |file| {
        let mut sum = Summed { writer: file, crc: crc32fast::Hasher::new() };
        sum.put(&header(origin, set, notes))?;
        sum.put(bytemuck::cast_slice(&counts(&set.features)))?;
        sum.put(bytemuck::cast_slice(&set.features.ids))?;
        sum.put(bytemuck::cast_slice(&set.values))?;
        sum.put(bytemuck::cast_slice(&counts(&set.labels)))?;
        sum.put(bytemuck::cast_slice(&set.labels.ids))?;
        let crc = sum.crc.clone().finalize();
        sum.put(&crc.to_ne_bytes())
    })
    .map_err(|e| Error::io(path, e))
}

struct Summed<'a> {
    writer: &'a mut dyn Write,
    crc: crc32fast::Hasher,
}

impl Summed<'_> {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.crc.update(bytes);
        self.writer.write_all(bytes)
    }
}

fn counts(lists: &Lists) -> Vec<u32> {
    lists.offsets.windows(2).map(|ends| u32::try_from(ends[1] - ends[0]).unwrap_or(u32::MAX)).collect()
}

fn header(origin: &Origin, set: &SparseSet, notes: &Notes) -> Vec<u8> {
    let of = |n: usize| n as u64;
    let numbers: [u64; COUNTS] = [
        origin.file.length,
        u64::from(origin.file.crc),
        u64::from(origin.keep_empty),
        of(set.len()),
        of(set.feature_count),
        of(set.label_count),
        of(set.features.ids.len()),
        of(set.labels.ids.len()),
        of(notes.sorted),
        of(notes.doubled_labels),
        of(notes.empty),
        of(notes.unlabelled),
    ];
    let mut bytes = MAGIC.to_vec();
    bytes.extend([VERSION, ORDER].map(u32::to_ne_bytes).concat());
    bytes.extend(bytemuck::cast_slice::<_, u8>(&numbers));
    bytes.extend(crc32fast::hash(&bytes).to_ne_bytes());
    bytes.extend([0; 4]);
    bytes
}

/// Reads the cache of a source.
///
/// # Errors
/// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] for a cache that is damaged, cut off, or of another source.
pub fn load(path: &Path, origin: &Origin) -> Result<(SparseSet, Notes)> {
    let io = |e| Error::io(path, e);
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    read_from(file, length, Some(origin))
        .map_err(|e| e.in_file(path).with_help("delete it: it is made again from the text"))
}

/// Reads a cache of `length` bytes from a stream, of any source if none is named.
///
/// # Errors
/// Those of [`load`].
pub fn read_from(mut reader: impl Read, length: u64, origin: Option<&Origin>) -> Result<(SparseSet, Notes)> {
    let mut head = [0; HEADER];
    if length < HEADER as u64 {
        return Err(Error::bad_input("the cache is cut off within its header"));
    }
    reader.read_exact(&mut head).map_err(source::failed)?;
    let n = numbers(&head, origin)?;
    let [samples, features, labels, non_zeros, entries] = sizes(&n, length)?;
    let mut sections = Sections { reader, crc: crc32fast::Hasher::new() };
    sections.crc.update(&head);
    let feature_counts = sections.words(samples)?;
    let feature_ids = sections.words(non_zeros)?;
    let mut values = vec![0_f32; non_zeros];
    sections.fill(bytemuck::cast_slice_mut(&mut values))?;
    let label_counts = sections.words(samples)?;
    let label_ids = sections.words(entries)?;
    let crc = sections.crc.clone().finalize();
    if sections.words(1)? != [crc] {
        return Err(Error::bad_input("the cache's checksum does not hold: it is damaged"));
    }
    let lists = |counts: &[u32], ids| {
        let mut offsets = Vec::with_capacity(counts.len() + 1);
        offsets.push(0);
        part::push_counts(&mut offsets, counts);
        Lists { offsets, ids }
    };
    let set = SparseSet {
        feature_count: features,
        label_count: labels,
        features: lists(&feature_counts, feature_ids),
        values,
        labels: lists(&label_counts, label_ids),
    };
    set.check().map_err(|e| Error::bad_input(format!("the cache holds no proper set: {}", e.message())))?;
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let [sorted, doubled_labels, empty, unlabelled] = [n[8], n[9], n[10], n[11]].map(count);
    Ok((set, Notes { sorted, doubled_labels, empty, unlabelled, ..Notes::default() }))
}

/// The header's numbers, if it is one of this version, whole, and of this origin.
fn numbers(head: &[u8; HEADER], origin: Option<&Origin>) -> Result<[u64; COUNTS]> {
    let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let refuse = |what: &str| Err(Error::bad_input(what));
    if head[..8] != MAGIC {
        return refuse("this is no cache of samples");
    }
    if word(12) != ORDER {
        return refuse("the cache was written on a machine with another byte order, or is damaged");
    }
    if word(8) != VERSION {
        return Err(Error::bad_input(format!("the cache is of version {}, not {VERSION}", word(8))));
    }
    if word(HEADER - 8) != crc32fast::hash(&head[..HEADER - 8]) || word(HEADER - 4) != 0 {
        return refuse("the cache's header is damaged");
    }
    let mut numbers = [0_u64; COUNTS];
    bytemuck::cast_slice_mut(&mut numbers).copy_from_slice(&head[16..HEADER - 8]);
    let own = [numbers[0], numbers[1], numbers[2]];
    match origin {
        Some(o) if own[..2] != [o.file.length, u64::from(o.file.crc)] => {
            refuse("the file has changed since the cache was made")
        }
        Some(o) if own[2] != u64::from(o.keep_empty) => refuse("the cache was made by other options"),
        _ => Ok(numbers),
    }
}

/// Samples, features, labels, non-zeros and label entries, if a file of this length holds them.
fn sizes(n: &[u64; COUNTS], length: u64) -> Result<[usize; 5]> {
    let [samples, features, labels, non_zeros, entries] = [n[3], n[4], n[5], n[6], n[7]];
    let words = samples.checked_mul(2).and_then(|w| w.checked_add(non_zeros.checked_mul(2)?)?.checked_add(entries));
    let promised = words.and_then(|w| w.checked_mul(4)?.checked_add(HEADER as u64 + 4));
    if promised != Some(length) {
        let promised = promised.map_or_else(|| "too many".to_owned(), |n| n.to_string());
        return Err(Error::bad_input(format!("the cache has {length} bytes, but its header makes {promised}")));
    }
    if features.max(labels) >= u64::from(u32::MAX) {
        return Err(Error::bad_input("the cache's header has more ids than there can be"));
    }
    let size = |n: u64| usize::try_from(n).map_err(|_| Error::bad_input("the cache is too large for this machine"));
    Ok([size(samples)?, size(features)?, size(labels)?, size(non_zeros)?, size(entries)?])
}

struct Sections<R> {
    reader: R,
    crc: crc32fast::Hasher,
}

impl<R: Read> Sections<R> {
    fn words(&mut self, count: usize) -> Result<Vec<u32>> {
        let mut words = vec![0_u32; count];
        self.fill(bytemuck::cast_slice_mut(&mut words))?;
        Ok(words)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.reader.read_exact(bytes).map_err(source::failed)?;
        self.crc.update(bytes);
        Ok(())
    }
}
