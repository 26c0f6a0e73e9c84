use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use proptest::prelude::*;

use super::{Scratch, same, set_of, sets};
use crate::error::ErrorKind;
use crate::hash::data::{Notes, ReadOptions, read, xmc};
use crate::hash::set::SparseSet;

fn parse(text: impl AsRef<[u8]>) -> crate::Result<(SparseSet, Notes)> {
    xmc::read_from(text.as_ref(), &ReadOptions::default())
}

fn options(threads: usize, block: usize) -> ReadOptions {
    ReadOptions { threads, block, ..ReadOptions::default() }
}

#[test]
fn what_files_in_the_wild_do_is_understood() {
    let text = "\u{feff}7 10 5\r\n1,4 0:0.5 3:2\n 9:1e-3\n2 5:1 3:-.5 4:5.\r\n4,0,4,2 1:1\n0\t2:1 \t 3:2  \n3:7 8:1\n 7:0\n\n  \n";
    let (set, notes) = parse(text).unwrap();
    let expected = set_of(
        &[
            (vec![(0, 0.5), (3, 2.0)], vec![1, 4]),
            (vec![(9, 0.001)], vec![]),
            (vec![(3, -0.5), (4, 5.0), (5, 1.0)], vec![2]),
            (vec![(1, 1.0)], vec![0, 2, 4]),
            (vec![(2, 1.0), (3, 2.0)], vec![0]),
            (vec![(3, 7.0), (8, 1.0)], vec![]),
            (vec![(7, 0.0)], vec![]),
        ],
        10,
        5,
    );
    set.check().unwrap();
    assert_eq!(set, expected);
    assert_eq!(notes, Notes { sorted: 2, doubled_labels: 1, unlabelled: 3, ..Notes::default() });
    assert_eq!(notes.sentences().len(), 3);
    // No end of the last line, no samples at all.
    assert_eq!(parse("1 2 2\n1 1:4").unwrap().0, set_of(&[(vec![(1, 4.0)], vec![1])], 2, 2));
    for text in ["0 2 2", "0 2 2\n", "0 2 2\n\n"] {
        assert_eq!(parse(text).unwrap().0, set_of(&[], 2, 2));
    }
}

#[test]
fn bad_input_is_told_with_its_place_and_a_next_step() {
    for (text, place, message, help) in [
        ("", None, "the file is empty", ""),
        ("\n", Some((1, 1)), "a header of 0 words", "samples features labels"),
        ("1,2 3:0.5\n", Some((1, 1)), "the header is missing: the first line is a sample", "begin the file with"),
        ("3 4\n", Some((1, 1)), "a header of 2 words", "begin the file with"),
        ("1 2 x\n0 0:1\n", Some((1, 1)), "the header's number of labels is 'x'", ""),
        ("1 -2 3\n0 0:1\n", Some((1, 1)), "number of features is '-2'", ""),
        ("1 4294967295 3\n0 0:1\n", Some((1, 1)), "number of features, 4294967295, is above", ""),
        ("1 99999999999999999999999 3\n", Some((1, 1)), "is above", ""),
        ("3 4 4\n0 0:1\n0 1:1\n", Some((4, 1)), "ends after 2 samples, but its header promises 3", "cut off"),
        ("1 4 4\n0 0:1\n\n 0 1:1\n", Some((4, 2)), "more samples than the 1", "correct the header"),
        (
            "1 4 4\n4 0:1\n",
            Some((2, 1)),
            "label '4' is not below the header's 4",
            "raise the header's number of labels to 5",
        ),
        ("1 4 4\n1,7 0:1\n", Some((2, 3)), "label '7' is not below the header's 4", "if it is too small"),
        (
            "1 4 4\n1 0:1 4:2\n",
            Some((2, 7)),
            "feature '4' is not below the header's 4",
            "if those of this file count from 1",
        ),
        ("1 4 4\n1 99999999999999999999999:1\n", Some((2, 3)), "is not below", ""),
        ("1 4 4\n1 2:1 1:3 2:2\n", Some((2, 11)), "feature 2 stands twice", "add the two"),
        ("1 4 4\n1 2:nan\n", Some((2, 5)), "the value 'nan' of feature 2 is no finite number", "correct the value"),
        ("1 4 4\n1 2:-inf\n", Some((2, 5)), "'-inf'", ""),
        ("1 4 4\n1 2:1e39\n", Some((2, 5)), "'1e39'", ""),
        ("1 4 4\n1 2:\n", Some((2, 5)), "''", ""),
        ("1 4 4\n1 2:1,5\n", Some((2, 5)), "'1,5'", ""),
        ("1 4 4\n1 2: 1\n", Some((2, 5)), "''", ""),
        ("1 4 4\n1, 2 3:1\n", Some((2, 3)), "a comma without a label", "without spaces"),
        ("1 4 4\n1 ,2 3:1\n", Some((2, 3)), "',2' stands where a feature should", "without spaces"),
        ("1 4 4\n1 2 3:1\n", Some((2, 3)), "'2' stands where a feature should", "without spaces"),
        ("1 4 4\n1 2:1 3\n", Some((2, 7)), "the feature '3' has no value", "`3:1`"),
        ("1 4 4\n1 a:1\n", Some((2, 3)), "the feature 'a' is no number", "names belong"),
        ("1 4 4\n1 -1:1\n", Some((2, 3)), "the feature '-1' is no number", ""),
        ("1 4 4\nlibc6 1:1\n", Some((2, 1)), "the label 'libc6' is no number", "names belong"),
        ("2 4 4\n1 1:1\n1\n", Some((3, 1)), "a sample without features", "keep_empty"),
        ("2 4 4\n1 1:1\n\n", Some((3, 1)), "a sample without features", "it can teach nothing"),
        ("1 4 4\n1 1:\u{1b}[2J\n", Some((2, 5)), "'\\u{1b}[2J'", ""),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::BadInput, "{text}");
        assert_eq!(error.place().and_then(|p| p.position), place, "{text}: {error}");
        assert!(error.message().contains(message), "{text}: {error}");
        assert!(error.help().unwrap_or_default().contains(help), "{text}: {:?}", error.help());
    }
    // Bytes that are no text.
    let error = parse(b"1 4 4\n1 2:\xff\xfe\n").unwrap_err();
    assert_eq!(error.place().and_then(|p| p.position), Some((2, 5)));
}

#[test]
fn the_first_fault_of_the_file_is_told_wherever_it_is_cut() {
    let text = "4 9 9\n1 1:1\n1 1:x\n1 2:y\n1 99:1\n1 1:1\n";
    for block in 1..text.len() {
        for threads in 1..4 {
            let error = xmc::read_from(text.as_bytes(), &options(threads, block)).unwrap_err();
            assert_eq!(error.to_string(), ":3:5: the value 'x' of feature 1 is no finite number of 32 bits");
        }
    }
}

#[test]
fn samples_without_features_are_kept_where_they_are_wanted() {
    let options = ReadOptions { keep_empty: true, ..ReadOptions::default() };
    let (set, notes) = xmc::read_from("3 2 2\n1\n\n0 1:1\n".as_bytes(), &options).unwrap();
    assert_eq!(set, set_of(&[(vec![], vec![1]), (vec![], vec![]), (vec![(1, 1.0)], vec![0])], 2, 2));
    assert_eq!((notes.empty, notes.unlabelled), (2, 1));
    let mut text = Vec::new();
    xmc::write_to(&mut text, &set).unwrap();
    assert_eq!(xmc::read_from(text.as_slice(), &options).unwrap().0, set);
}

#[test]
fn lines_that_never_end_are_refused_before_memory_ends() {
    let endless = "1 2 3\n".as_bytes().chain(std::io::repeat(b'1'));
    let error = xmc::read_from(endless, &options(1, 1 << 22)).unwrap_err();
    assert!(error.to_string().contains(":2:1: a line of more than 64 MiB"), "{error}");
}

#[test]
fn gzip_that_is_cut_off_or_damaged_is_told_with_the_line() {
    let scratch = Scratch::new();
    let set = set_of(&vec![(vec![(0, 0.25), (7, 1.5)], vec![3]); 40], 9, 4);
    let path = scratch.0.join("set.txt.gz");
    xmc::write(&path, &set).unwrap();
    assert!(same(&xmc::read(&path, &ReadOptions::default()).unwrap().0, &set));
    let packed = std::fs::read(&path).unwrap();
    assert!(packed.starts_with(&[0x1f, 0x8b]));
    for cut in 0..packed.len() {
        let error = xmc::read_from(&packed[..cut], &options(1, 64)).expect_err("cut off");
        assert_eq!(error.kind(), ErrorKind::BadInput, "{cut}: {error}");
        if cut > 2 {
            assert!(error.message().contains("cut off or damaged"), "{cut}: {error}");
            assert!(error.place().and_then(|p| p.position).is_some() && error.help().is_some(), "{cut}");
        }
    }
    // Two members one after the other, as `cat a.gz b.gz` makes.
    let mut members = Vec::new();
    for text in ["2 2 2\n0 0:1\n", "1 1:1\n"] {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text.as_bytes()).unwrap();
        members.extend(packer.finish().unwrap());
    }
    assert_eq!(parse(members).unwrap().0.len(), 2);
}

#[test]
fn errors_name_the_file() {
    let scratch = Scratch::new();
    let path = scratch.file("bad.txt", "1 2 3\n0 0:z\n");
    assert!(read(&path, &ReadOptions::default()).unwrap_err().to_string().contains("bad.txt:2:5: the value 'z'"));
    let missing = read(&scratch.0.join("none"), &ReadOptions::default()).unwrap_err();
    assert!(missing.kind() == ErrorKind::Io && missing.to_string().contains("none"), "{missing}");
    assert!(read(&scratch.0, &ReadOptions::default()).is_err(), "a folder is no file");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_reads_back_bit_for_bit(set in sets(), threads in 1_usize..4, block in 1_usize..200) {
        let mut text = Vec::new();
        xmc::write_to(&mut text, &set).unwrap();
        let (again, notes) = xmc::read_from(text.as_slice(), &options(threads, block)).unwrap();
        prop_assert!(same(&set, &again));
        prop_assert_eq!(notes.sorted + notes.doubled_labels + notes.empty, 0);
    }

    #[test]
    fn threads_and_blocks_do_not_show(set in sets(), at in 0_usize..10_000, byte in 0_u8..128, block in 1_usize..99) {
        let mut text = Vec::new();
        xmc::write_to(&mut text, &set).unwrap();
        let at = at % text.len();
        text[at] = byte;
        let told = |threads, block| match xmc::read_from(text.as_slice(), &options(threads, block)) {
            Ok((set, notes)) => { set.check().unwrap(); Ok((set, notes)) }
            Err(e) => Err((e.to_string(), e.help().map(str::to_owned))),
        };
        let one = told(1, 1 << 20);
        prop_assert_eq!(&one, &told(2, block));
        prop_assert_eq!(&one, &told(3, 1));
    }
}

#[test]
fn the_shipped_set_reads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/debian-relations");
    let mut last = None;
    for threads in [1, 2] {
        let start = Instant::now();
        let (train, notes) = read(&folder.join("train.txt.gz"), &options(threads, 1 << 20)).unwrap();
        println!("train.txt.gz by {threads} threads: {:.3} s", start.elapsed().as_secs_f64());
        assert_eq!((train.len(), train.feature_count, train.label_count), (42_756, 43_322, 25_918));
        assert_eq!((notes.sorted, notes.doubled_labels, notes.empty, notes.unlabelled), (0, 0, 0, 0));
        train.check().unwrap();
        assert!(last.replace(train.clone()).is_none_or(|before| same(&before, &train)));
    }
    let (test, _) = read(&folder.join("test.txt.gz"), &ReadOptions::default()).unwrap();
    assert_eq!((test.len(), test.feature_count, test.label_count), (14_253, 43_322, 25_918));
}
