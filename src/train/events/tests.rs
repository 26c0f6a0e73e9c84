//! Event files read by code that shares nothing with the writer: checksums bit by bit, fields by a general reader of Protocol Buffers.

use super::*;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("wavehull-events-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

/// CRC-32C as a division of polynomials, most significant bit first, with bits of bytes and result reflected.
fn slow_crc(data: &[u8]) -> u32 {
    let mut rest = u32::MAX;
    for byte in data {
        for bit in 0..8 {
            let carry = (rest >> 31 & 1) ^ u32::from(byte >> bit & 1);
            rest = rest << 1 ^ if carry == 1 { 0x1edc_6f41 } else { 0 };
        }
    }
    !rest.reverse_bits()
}

/// Records of a file, with both checksums checked.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let check = |data: &[u8], stored: &[u8]| {
        let masked = u32::from_le_bytes(stored.try_into().expect("four bytes")).wrapping_sub(0xa282_ead8);
        assert_eq!(masked.rotate_left(15), slow_crc(data));
    };
    let mut list = Vec::new();
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        check(&bytes[..8], &bytes[8..12]);
        let data = &bytes[12..12 + length];
        check(data, &bytes[12 + length..16 + length]);
        list.push(data.to_vec());
        bytes = &bytes[16 + length..];
    }
    list
}

#[derive(Debug, PartialEq)]
enum Wire {
    Varint(u64),
    Eight(f64),
    Bytes(Vec<u8>),
    Four(f32),
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Wire)> {
    fn number(bytes: &mut &[u8]) -> u64 {
        let length = bytes.iter().position(|b| b & 0x80 == 0).expect("an end") + 1;
        let (head, rest) = bytes.split_at(length);
        *bytes = rest;
        head.iter().rev().fold(0, |n, b| n << 7 | u64::from(b & 0x7f))
    }
    fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
        let (head, rest) = bytes.split_at(n);
        *bytes = rest;
        head
    }
    let mut list = Vec::new();
    while !bytes.is_empty() {
        let tag = number(&mut bytes);
        let wire = match tag & 7 {
            0 => Wire::Varint(number(&mut bytes)),
            1 => Wire::Eight(f64::from_le_bytes(take(&mut bytes, 8).try_into().expect("eight bytes"))),
            2 => {
                let length = number(&mut bytes) as usize;
                Wire::Bytes(take(&mut bytes, length).to_vec())
            }
            5 => Wire::Four(f32::from_le_bytes(take(&mut bytes, 4).try_into().expect("four bytes"))),
            other => panic!("wire type {other}"),
        };
        list.push((tag >> 3, wire));
    }
    list
}

fn inner(fields: &[(u64, Wire)], field: u64) -> Vec<u8> {
    match fields.iter().find(|f| f.0 == field) {
        Some((_, Wire::Bytes(bytes))) => bytes.clone(),
        other => panic!("field {field} is {other:?}"),
    }
}

#[test]
fn known_checksums() {
    // RFC 3720, B.4.
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(slow_crc(b"123456789"), 0xe306_9283);
}

#[test]
fn scalars_come_back() {
    let run = folder("scalars").join("member-3");
    let mut writer = EventWriter::create(&run).expect("a file");
    let path = writer.path().to_owned();
    for (step, value) in [(0, 2.5), (300, -0.125), (1 << 40, f32::NAN)] {
        writer.scalar(1234.5, step, "loss/train", value);
    }
    writer.flush().expect("written");
    assert!(path.file_name().is_some_and(|n| n.to_string_lossy().contains("tfevents")));
    let records = records(&std::fs::read(&path).expect("the file"));
    assert_eq!(inner(&fields(&records[0]), 3), b"brain.Event:2");
    assert_eq!(records.len(), 4);
    for (record, (step, value)) in records[1..].iter().zip([(0, 2.5f32), (300, -0.125), (1 << 40, f32::NAN)]) {
        let event = fields(record);
        assert_eq!(event[..2], [(1, Wire::Eight(1234.5)), (2, Wire::Varint(step))]);
        let entry = fields(&inner(&fields(&inner(&event, 5)), 1));
        assert_eq!(entry[0], (1, Wire::Bytes(b"loss/train".to_vec())));
        let (2, Wire::Four(read)) = entry[1] else { panic!("{entry:?}") };
        assert_eq!(read.to_bits(), value.to_bits());
    }
    // A second writer of the same second does not touch the first file.
    let second = EventWriter::create(&run).expect("another file");
    assert!(second.path() > path.as_path());
    drop(second);
    std::fs::remove_dir_all(run.parent().expect("a folder")).expect("gone");
}

#[test]
fn a_log_has_one_line_an_event_and_goes_on() {
    let path = folder("log").join("runs/log.jsonl");
    let hyper = Hyper::new().with("learning_rate", 0.01).expect("a rate");
    let mut log = Log::open(&path).expect("a log");
    log.write(&LogEvent::Member { member: 2, seed: 7, step: 0, hyper: &hyper }).expect("written");
    let values = BTreeMap::from([("loss", f64::NAN), ("accuracy", 0.5)]);
    log.write(&LogEvent::Scalars { member: 2, step: 9, epoch: 0.25, values: &values }).expect("written");
    drop(log);
    // A crash in mid-line.
    OpenOptions::new().append(true).open(&path).and_then(|mut f| f.write_all(b"{\"event\":")).expect("written");
    let mut log = Log::open(&path).expect("the same log");
    log.write(&LogEvent::Left { member: 2, step: 10, reason: Reason::Diverged }).expect("written");
    let text = std::fs::read_to_string(&path).expect("the log");
    let lines: Vec<Result<serde_json::Value, _>> = text.lines().map(serde_json::from_str).collect();
    let line = |i: usize| lines[i].as_ref().expect("JSON");
    assert_eq!(lines.len(), 4);
    assert_eq!((&line(0)["event"], &line(0)["hyper"]["learning_rate"]), (&"member".into(), &0.01.into()));
    assert!(line(1)["values"]["loss"].is_null() && line(1)["values"]["accuracy"] == 0.5);
    assert!(lines[2].is_err());
    assert_eq!((&line(3)["event"], &line(3)["reason"]), (&"left".into(), &"diverged".into()));
    assert!(line(3)["time"].as_f64().is_some_and(|t| t > 1e9));
    std::fs::remove_dir_all(folder("log")).unwrap_or(());
}
