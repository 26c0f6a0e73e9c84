//! Damaged and hostile containers.

use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

use wavehull::pack::{Element, EncodeOptions, Reader, Writer};
use wavehull::{Error, ErrorKind, Gpu};

use crate::common::{self, Random};
use crate::{ELEMENTS, KINDS, bytes, demands, tensor};

const FILE: &str = "hostile.whpk";

/// A small container of every element.
fn container(random: &mut Random, most: usize) -> Vec<u8> {
    let mut options = EncodeOptions::default();
    options.chunk = 256;
    let mut writer = Writer::new(Vec::new(), Path::new(FILE), &options).unwrap();
    for (i, element) in ELEMENTS.into_iter().enumerate() {
        let (len, kind) = (random.below(most), random.below(KINDS));
        let values = tensor(&format!("t{i}"), element, bytes(random, element, len, kind));
        pollster::block_on(writer.write_async(&values)).unwrap();
    }
    writer.finish().unwrap().0
}

/// Everything in a container, or the first error.
fn all(bytes: &[u8], gpu: Option<&Gpu>) -> Result<Vec<Vec<u8>>, Error> {
    let mut reader = Reader::new(Cursor::new(bytes), Path::new(FILE))?.on(gpu);
    let entries = reader.entries().to_vec();
    entries.iter().map(|entry| reader.values(&entry.head().name, 0..entry.len())).collect()
}

#[test]
fn every_flipped_bit_is_found() {
    let file = container(&mut Random::new(21), 300);
    all(&file, None).unwrap();
    for bit in 0..8 * file.len() {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = all(&flipped, None).expect_err("a flipped bit");
        assert!(error.to_string().starts_with("hostile.whpk: "), "{error}");
        assert!(error.message().contains("byte") && error.help().is_some(), "bit {bit}: {error}");
    }
}

#[test]
fn every_cut_is_found() {
    let file = container(&mut Random::new(22), 300);
    for end in 0..file.len() {
        let error = all(&file[..end], None).expect_err("a cut");
        assert!(error.message().contains("byte"), "{error}");
    }
    for begin in 1..64 {
        assert!(all(&file[begin..], None).is_err());
    }
    assert!(all(&[&file[..], &[0]].concat(), None).is_err(), "a byte behind the end");
}

/// Changes a container in one place, makes its checksums right, and says what the reader says.
fn told(at: impl Fn(&mut Vec<u8>)) -> String {
    let mut file = demands::around(1, 1, 40, &[0; 8]);
    at(&mut file);
    let sealed = demands::sealed(&file).unwrap_or(file);
    all(&sealed, None).map_or_else(|error| error.message().to_owned(), |_| "fine".to_owned())
}

#[test]
fn lies_are_told_apart() {
    // Header 16, payload 8, table from 24 on: number of tensors, name, kinds at 33, axes at 45, shape at 49, chunk at 73, its record at 77.
    let word = |at: usize, n: u32| move |file: &mut Vec<u8>| file[at..at + 4].copy_from_slice(&n.to_le_bytes());
    let long = |at: usize, n: u64| move |file: &mut Vec<u8>| file[at..at + 8].copy_from_slice(&n.to_le_bytes());
    let byte = |at: usize, n: u8| move |file: &mut Vec<u8>| file[at] = n;
    for (said, expected) in [
        (told(|_| ()), "tensor 't', chunk 0, bytes 16 to 24: the checksum of the decoded values does not match"),
        (told(byte(0, b'W')), "bytes 0 to 8: this is no container of wavehull pack"),
        (told(word(8, 7)), "byte 8: a container of version 7, this build reads version 1"),
        (told(word(24, u32::MAX)), "byte 93: the table ends before the name of tensor 1 of 4294967295"),
        (told(word(24, 0)), "byte 28: the table goes on behind its last tensor"),
        (told(word(28, u32::MAX)), "byte 32: the name of tensor 0 of 1 has 4294967295 bytes"),
        (told(byte(32, 0xff)), "byte 33: the name of tensor 0 of 1 is not UTF-8"),
        (told(byte(33, 3)), "byte 45: tensor 't' is of kind 3"),
        (told(byte(34, 6)), "byte 45: tensor 't' has elements of type 6"),
        (told(byte(36, 1)), "byte 45: tensor 't' has granularity 0 of 0, 1"),
        (told(word(45, 9)), "byte 49: tensor 't' has 9 axes"),
        (told(word(45, 2)), "byte 65: tensor 't': a shape of 2 axes in place of 3"),
        (told(long(49, u64::MAX)), "byte 73: tensor 't': a shape of more values than can be counted"),
        (told(long(49, 1 << 40)), "byte 77: the table ends before the 671088640 chunks of tensor 't'"),
        (told(word(73, 0)), "byte 77: tensor 't' has chunks of 0 values"),
        (told(word(73, 1 << 30)), "byte 77: tensor 't' has chunks of 1073741824 values"),
        (told(byte(77, 99)), "tensor 't', chunk 0, bytes 16 to 24: codec 99 (unknown) is not in this build"),
        (told(word(81, 3)), "byte 93: tensor 't', chunk 0 ends at byte 28, the payloads at 24"),
        (told(word(81, u32::MAX)), "byte 85: tensor 't', chunk 0 has 4294967295 words, values take 10 at most"),
        (told(word(81, 1)), "byte 93: the chunks of the table have 4 bytes, the file has 8"),
        (told(word(20, 0x100)), "tensor 't', chunk 0, bytes 16 to 24: word 1: group 2 has a width of 1"),
        (told(word(20, 0x9)), "tensor 't', chunk 0, bytes 16 to 24: word 1: group 0 has a width of 9"),
        (
            told(word(20, 0x8)),
            "tensor 't', chunk 0, bytes 16 to 24: word 2: the groups take 8 words, the payload has 0",
        ),
        (
            told(word(16, 5)),
            "tensor 't', chunk 0, bytes 16 to 24: word 0: block 0 begins at 0 of the data, the index says 5",
        ),
    ] {
        assert_eq!(said, expected);
    }
}

#[test]
fn two_tensors_of_one_name_are_refused() {
    let mut random = Random::new(23);
    let mut file = container(&mut random, 300);
    let from = file.windows(2).rposition(|two| two == b"t3").unwrap();
    file[from + 1] = b'4';
    let error = all(&demands::sealed(&file).unwrap(), None).unwrap_err();
    assert!(error.message().contains("two tensors are called 't4'"), "{error}");
}

/// A container with a few bytes changed, cut or repeated.
fn edited(file: &[u8], random: &mut Random) -> Vec<u8> {
    let mut file = file.to_vec();
    for _ in 0..1 + random.below(4) {
        if file.is_empty() {
            break;
        }
        let at = random.below(file.len());
        match random.below(6) {
            0 => file[at] = random.bits() as u8,
            1 => file[at] ^= 1 << random.below(8),
            2 => drop(file.drain(at..file.len().min(at + 1 + random.below(8)))),
            3 => file.truncate(at),
            4 => {
                let n = [u32::MAX, 1 << 31, 0, 1 << 22, 256, 1][random.below(6)];
                let end = file.len().min(at + 4);
                file[at..end].copy_from_slice(&n.to_le_bytes()[..end - at]);
            }
            _ => {
                let part = file[at..file.len().min(at + 1 + random.below(16))].to_vec();
                file.splice(at..at, part);
            }
        }
    }
    file
}

fn damage(until: impl Fn(usize) -> bool) -> usize {
    let mut random = Random::new(24);
    let mut tried = 0;
    while until(tried) {
        let file = container(&mut random, 600);
        for _ in 0..50 {
            demands::pack(&edited(&file, &mut random));
            tried += 1;
        }
    }
    tried
}

#[test]
fn damage_does_no_harm() {
    damage(|tried| tried < 6000);
}

#[test]
#[ignore = "ten minutes"]
fn ten_minutes_of_damage_do_no_harm() {
    let begin = Instant::now();
    let tried = damage(|_| begin.elapsed() < Duration::from_secs(600));
    common::say(&format!("{tried} damaged containers, each read in three ways"));
}

#[test]
fn a_device_decodes_no_damaged_payload() {
    let Some(gpu) = common::device("a_device_decodes_no_damaged_payload", true) else { return };
    let mut random = Random::new(25);
    for _ in 0..150 {
        let element = [Element::I4, Element::I8, Element::U8, Element::I16][random.below(4)];
        let len = 1 + random.below(20_000);
        let values = bytes(&mut random, element, len, 2);
        let words = wavehull::pack::codec::width::reference::encode(element, &crate::words(&values), len);
        let payload: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let id = ELEMENTS.iter().position(|&e| e == element).unwrap() as u8;
        let file = demands::around(1, id, len, &edited(&payload, &mut random));
        let (here, there) = (all(&file, None), all(&file, Some(gpu)));
        let words = |result: &Result<Vec<Vec<u8>>, Error>| result.as_ref().err().map(ToString::to_string);
        assert_eq!(words(&here), words(&there), "host and device say the same");
        assert!(there.err().is_none_or(|error| error.kind() == ErrorKind::BadInput));
    }
}

/// Writes the seeds of the fuzz target.
#[test]
#[ignore = "writes to the corpus"]
fn seeds_for_the_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/pack");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, most, seed) in [("small", 40, 1), ("blocks", 900, 2), ("chunks", 2000, 3)] {
        std::fs::write(folder.join(format!("{name}.whpk")), container(&mut Random::new(seed), most)).unwrap();
    }
    let values = bytes(&mut Random::new(4), Element::I8, 9000, 6);
    let payload = wavehull::pack::codec::width::reference::encode(Element::I8, &crate::words(&values), 1500);
    let payload: Vec<u8> = payload.iter().flat_map(|word| word.to_le_bytes()).collect();
    let head = [1, 1, (1500 % 256) as u8, (1500 / 256) as u8];
    std::fs::write(folder.join("payload"), [&head[..], &payload].concat()).unwrap();
}
