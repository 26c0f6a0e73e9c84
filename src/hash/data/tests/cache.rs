use std::path::Path;

use proptest::prelude::*;

use super::{Scratch, same, set_of, sets};
use crate::error::ErrorKind;
use crate::hash::data::cache::{Origin, load, place, read_from, store};
use crate::hash::data::{Cache, CacheUse, Fingerprint, Notes, ReadOptions, read, xmc};
use crate::hash::set::SparseSet;

fn small() -> SparseSet {
    set_of(&[(vec![(0, 0.5), (2, -3.0)], vec![1]), (vec![(1, 2.0)], vec![]), (vec![(2, 1.0)], vec![0, 1])], 3, 2)
}

fn beside() -> ReadOptions {
    ReadOptions { cache: Cache::Beside, ..ReadOptions::default() }
}

/// A file of the small set, and its cache.
fn written(scratch: &Scratch) -> (std::path::PathBuf, std::path::PathBuf) {
    let path = scratch.0.join("set.txt");
    xmc::write(&path, &small()).unwrap();
    let (set, notes) = read(&path, &beside()).unwrap();
    assert_eq!((set, notes.cache), (small(), CacheUse::Written));
    (path, scratch.0.join("set.txt.wavehull-cache"))
}

#[test]
fn a_cache_is_written_once_and_used_after() {
    let scratch = Scratch::new();
    let (path, cache) = written(&scratch);
    let bytes = std::fs::read(&cache).unwrap();
    let (set, notes) = read(&path, &beside()).unwrap();
    assert!(same(&set, &small()));
    assert_eq!(notes, Notes { unlabelled: 1, cache: CacheUse::Used, ..Notes::default() });
    assert_eq!(std::fs::read(&cache).unwrap(), bytes);
    // Without a cache nothing is written, and no other file was left.
    read(&path, &ReadOptions::default()).unwrap();
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 2);
}

#[test]
fn a_folder_holds_caches_of_files_of_one_name() {
    let scratch = Scratch::new();
    let folder = scratch.0.join("caches/inner");
    let options = ReadOptions { cache: Cache::Folder(folder.clone()), ..ReadOptions::default() };
    for name in ["a", "b"] {
        std::fs::create_dir(scratch.0.join(name)).unwrap();
        let path = scratch.file(&format!("{name}/set.txt"), format!("1 2 2\n{} 0:1\n", usize::from(name == "b")));
        assert_eq!(read(&path, &options).unwrap().1.cache, CacheUse::Written);
        assert_eq!(read(&path, &options).unwrap().1.cache, CacheUse::Used);
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 2);
}

#[test]
fn a_stale_cache_is_told_and_made_again() {
    let scratch = Scratch::new();
    let (path, _) = written(&scratch);
    // The same length, so that the checksum must tell.
    let text = std::fs::read_to_string(&path).unwrap().replace("0.5", "0.7");
    std::fs::write(&path, text).unwrap();
    let (set, notes) = read(&path, &beside()).unwrap();
    assert_eq!(set.values[0], 0.7);
    assert_eq!(notes.cache, CacheUse::Rewritten("the file has changed since the cache was made".to_owned()));
    assert_eq!(read(&path, &beside()).unwrap().1.cache, CacheUse::Used);
    // Options that change the set do not share a cache: what one refuses the other must not let in.
    let keeping = ReadOptions { keep_empty: true, ..beside() };
    std::fs::write(&path, "1 2 2\n1\n").unwrap();
    assert!(matches!(read(&path, &keeping).unwrap().1.cache, CacheUse::Rewritten(_)));
    assert!(read(&path, &beside()).unwrap_err().message().contains("without features"));
}

#[test]
fn no_flipped_bit_no_cut_and_no_tail_goes_unseen() {
    let scratch = Scratch::new();
    let (path, cache) = written(&scratch);
    let whole = std::fs::read(&cache).unwrap();
    let from = |bytes: &[u8]| read_from(bytes, bytes.len() as u64, None);
    assert!(from(&whole).is_ok());
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            assert_eq!(from(&bytes).expect_err("a flipped bit").kind(), ErrorKind::BadInput, "bit {bit} of byte {at}");
        }
        assert_eq!(from(&whole[..at]).expect_err("cut off").kind(), ErrorKind::BadInput, "cut at {at}");
    }
    assert!(from(&[whole.as_slice(), &[0]].concat()).is_err());
    for (at, bytes) in [(0, &whole[..0]), (1, &whole[..whole.len() - 1]), (2, &whole[..130])] {
        std::fs::write(&cache, bytes).unwrap();
        let (set, notes) = read(&path, &beside()).unwrap();
        assert!(same(&set, &small()) && matches!(notes.cache, CacheUse::Rewritten(_)), "{at}: {notes:?}");
        assert_eq!(std::fs::read(&cache).unwrap(), whole);
    }
    std::fs::write(&cache, &whole[..130]).unwrap();
    let error = load(&cache, &Origin::default()).unwrap_err();
    assert!(error.to_string().contains("set.txt.wavehull-cache") && error.help().unwrap().contains("delete it"));
}

#[test]
fn a_cache_with_right_checksums_and_wrong_contents_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.0.join("c");
    let origin = Origin { file: Fingerprint { length: 7, crc: 9 }, keep_empty: false };
    type Harm = fn(&mut SparseSet);
    let harms: [Harm; 5] = [
        |set| set.features.ids[0] = 3,
        |set| set.labels.ids.swap(1, 2),
        |set| set.values[1] = f32::NAN,
        |set| set.features.offsets[1] = 1,
        |set| set.feature_count = 2,
    ];
    for (i, harm) in harms.iter().enumerate() {
        let mut set = small();
        harm(&mut set);
        store(&path, &origin, &set, &Notes::default()).unwrap();
        let error = load(&path, &origin).expect_err("harm");
        assert!(error.message().contains("no proper set"), "harm {i}: {error}");
    }
    store(&path, &origin, &small(), &Notes::default()).unwrap();
    assert!(load(&path, &Origin { file: Fingerprint { length: 7, crc: 8 }, ..origin }).is_err());
    assert!(load(&path, &Origin { keep_empty: true, ..origin }).is_err());
    assert!(same(&load(&path, &origin).unwrap().0, &small()));
}

#[test]
fn a_place_that_cannot_be_written_is_noted_and_no_error() {
    let scratch = Scratch::new();
    let path = scratch.file("set.txt", "1 2 2\n1 0:1\n");
    let wall = scratch.file("wall", "");
    let options = ReadOptions { cache: Cache::Folder(wall.join("caches")), ..ReadOptions::default() };
    let (set, notes) = read(&path, &options).unwrap();
    assert!(set.len() == 1 && matches!(&notes.cache, CacheUse::NotWritten(why) if why.contains("wall")), "{notes:?}");
    assert!(notes.sentences()[0].starts_with("no cache was written"));
    assert_eq!(place(Path::new("a/b.txt"), &Cache::Off), None);
    assert_eq!(place(Path::new("a/b.txt"), &Cache::Beside).unwrap(), Path::new("a/b.txt.wavehull-cache"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_cache_holds_the_set_bit_for_bit(set in sets(), sorted in 0_usize..9, unlabelled in 0_usize..9) {
        let scratch = Scratch::new();
        let path = scratch.0.join("c");
        let origin = Origin { file: Fingerprint { length: 1, crc: 2 }, keep_empty: true };
        let notes = Notes { sorted, unlabelled, ..Notes::default() };
        store(&path, &origin, &set, &notes).unwrap();
        let (again, told) = load(&path, &origin).unwrap();
        prop_assert!(same(&set, &again));
        prop_assert_eq!(notes, told);
    }
}
