//! What is demanded of the readers of sparse sets (`wavehull::hash::data`), whatever the bytes: no panic, a set that keeps its promises or an
//! error with a place, and neither may depend on threads and blocks. Bytes are read as text (or gzip, which its first two bytes tell), and as
//! a cache; checksums stop most damage to that before anything looks at it, so it is also read with its checksums made right.

use wavehull::ErrorKind;
use wavehull::hash::SparseSet;
use wavehull::hash::data::{Notes, ReadOptions, cache, text, xmc};

/// Bytes of a cache's header, which end with its checksum and four zeros.
const HEADER: usize = 120;

/// The readers of sparse sets.
pub fn sparse(bytes: &[u8]) {
    if bytes.starts_with(b"\x89whsc") {
        kept(bytes);
        kept(&sealed(bytes));
        return;
    }
    samples(bytes);
    words(bytes);
}

/// The reader of text.
fn samples(bytes: &[u8]) {
    let read = |threads, block| {
        let options =
            ReadOptions { threads, block, keep_empty: bytes.len().is_multiple_of(2), ..ReadOptions::default() };
        xmc::read_from(bytes, &options).map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::BadInput, "{error}");
            assert!(error.place().is_some() && error.help().is_some() || bytes.is_empty(), "{error}");
            (error.to_string(), error.help().map(str::to_owned))
        })
    };
    let one = read(1, 1 << 20);
    // As text: -0 and 0 are told apart.
    assert_eq!(format!("{one:?}"), format!("{:?}", read(2, 7)), "threads and blocks do not show");
    if let Ok((set, _)) = one {
        again(&set);
    }
}

/// What was read can be written, and reads the same.
fn again(set: &SparseSet) {
    set.check().expect("a set that was read keeps its promises");
    let mut written = Vec::new();
    xmc::write_to(&mut written, set).expect("memory takes bytes");
    let options = ReadOptions { threads: 1, keep_empty: true, ..ReadOptions::default() };
    let (read, notes) = xmc::read_from(written.as_slice(), &options).expect("what was written reads back");
    assert_eq!(format!("{read:?}"), format!("{set:?}"), "the same set");
    assert_eq!(Notes { empty: 0, unlabelled: 0, ..notes }, Notes::default(), "nothing left to mend");
}

/// The reader of caches.
fn kept(bytes: &[u8]) {
    match cache::read_from(bytes, bytes.len() as u64, None) {
        Ok((set, _)) => set.check().expect("a set that was read keeps its promises"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::BadInput, "{error}"),
    }
}

/// The same bytes with both checksums made right.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    if sealed.len() > HEADER + 4 {
        let crc = super::pack::crc32(&sealed[..HEADER - 8]);
        sealed[HEADER - 8..HEADER - 4].copy_from_slice(&crc);
        let end = sealed.len() - 4;
        let crc = super::pack::crc32(&sealed[..end]);
        sealed[end..].copy_from_slice(&crc);
    }
    sealed
}

/// The reader of plain text.
fn words(bytes: &[u8]) {
    let options = text::SkipGram { min_count: 1 + bytes.len() as u64 % 3, window: 2, subsample: Some(0.1), seed: 1 };
    match text::Corpus::read_from(bytes, &options) {
        Ok(corpus) => corpus.samples(0..corpus.len()).check().expect("samples keep their promises"),
        Err(error) => assert!(error.help().is_some(), "{error}"),
    }
}
