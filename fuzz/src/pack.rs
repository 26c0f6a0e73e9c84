//! What is demanded of the reader of containers (`wavehull::pack`), whatever the bytes: no panic, values as many as the table says, and errors
//! that name the file and the place. Checksums stop most damage before anything looks at it, so bytes are also tried with their checksums
//! made right, and as the payload of a container that is otherwise in order.

use std::io::Cursor;
use std::path::Path;

use wavehull::pack::codec::EncodeOptions;
use wavehull::pack::{Reader, Writer};
use wavehull::{Error, ErrorKind};

/// What errors should call the source.
const FILE: &str = "fuzzed.whpk";
/// Values that are read at once.
const SMALL: usize = 1 << 16;
/// Bytes before the payloads, and behind the table.
const HEADER: usize = 16;
const FOOTER: usize = 32;

/// The reader of containers.
pub fn pack(bytes: &[u8]) {
    read(bytes);
    if let Some(sealed) = sealed(bytes) {
        read(&sealed);
    }
    if let Some((&[codec, element, low, high], payload)) = bytes.split_first_chunk() {
        read(&around(codec % 6, element % 6, usize::from(u16::from_le_bytes([low, high])), payload));
    }
}

/// Reads all that a container says it has; what can be read at all is written again, and reads the same.
fn read(bytes: &[u8]) {
    let mut reader = match Reader::new(Cursor::new(bytes), Path::new(FILE)) {
        Ok(reader) => reader,
        Err(error) => return said(&error),
    };
    let entries = reader.entries().to_vec();
    let mut whole = Vec::new();
    for entry in &entries {
        let (name, len) = (&entry.head().name, entry.len());
        let stride = entry.head().element.bits().div_ceil(8) as usize;
        for range in [0..len.min(SMALL), len.saturating_sub(1)..len] {
            match reader.values(name, range.clone()) {
                Ok(values) => assert_eq!(values.len(), range.len() * stride, "as many values as were asked for"),
                Err(error) => said(&error),
            }
        }
        if len <= SMALL {
            match reader.tensor(name) {
                Ok(values) => whole.push(values),
                Err(error) => said(&error),
            }
        }
    }
    if whole.len() < entries.len() {
        return;
    }
    let mut writer = Writer::new(Vec::new(), Path::new(FILE), &EncodeOptions::default()).expect("memory takes bytes");
    for values in &whole {
        pollster(writer.write_async(values));
    }
    let (again, _) = writer.finish().expect("memory takes bytes");
    let mut reader = Reader::new(Cursor::new(again), Path::new(FILE)).expect("what was written reads back");
    for values in &whole {
        assert!(reader.tensor(values.name()).expect("what was written reads back") == *values, "the same tensor");
    }
}

/// Without a device a future is ready at once.
fn pollster(future: impl Future<Output = wavehull::Result<()>>) {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(done) = future.as_mut().poll(&mut context) else { panic!("the host waits for nobody") };
    done.expect("what was read can be written");
}

/// Errors name the file, a place in it and a next step.
fn said(error: &Error) {
    assert!(matches!(error.kind(), ErrorKind::BadInput | ErrorKind::Unsupported), "{error}: {:?}", error.kind());
    assert_eq!(error.place().map(|place| place.file.as_path()), Some(Path::new(FILE)), "{error}");
    assert!(error.message().contains("byte") || error.message().contains("tensor"), "{error}");
    assert!(error.help().is_some(), "{error}");
}

/// The same bytes with the checksums of header, table, footer and payloads made right, as far as the lengths are.
pub fn sealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut sealed = bytes.to_vec();
    let size = sealed.len();
    let footer = size.checked_sub(FOOTER).filter(|&footer| footer >= HEADER)?;
    let table = usize::try_from(u64::from_le_bytes(sealed[footer..footer + 8].try_into().ok()?)).ok()?;
    let begin = footer.checked_sub(table).filter(|&begin| begin >= HEADER)?;
    put(&mut sealed, footer + 8, &((begin - HEADER) as u64).to_le_bytes());
    let crc = crc32(&sealed[..12]);
    put(&mut sealed, 12, &crc);
    let crc = crc32(&sealed[begin..footer]);
    put(&mut sealed, footer + 16, &crc);
    let crc = crc32(&sealed[footer..footer + 20]);
    put(&mut sealed, footer + 20, &crc);
    // A table that can be read says where payloads lie, and the places of their checksums follow from it.
    if let Ok(reader) = Reader::new(Cursor::new(&sealed), Path::new(FILE)) {
        let entries = reader.entries().to_vec();
        let mut at = begin + 4;
        for entry in &entries {
            at += 28 + entry.head().name.len() + 8 * entry.head().shape.len() - 4;
            for chunk in entry.chunks() {
                let from = chunk.offset as usize;
                let crc = crc32(&sealed[from..from + 4 * chunk.words as usize]);
                put(&mut sealed, at + 8, &crc);
                at += 16;
            }
        }
        let crc = crc32(&sealed[begin..footer]);
        put(&mut sealed, footer + 16, &crc);
        let crc = crc32(&sealed[footer..footer + 20]);
        put(&mut sealed, footer + 20, &crc);
    }
    Some(sealed)
}

/// A container of one tensor of one chunk with this payload, cut to whole words.
pub fn around(codec: u8, element: u8, len: usize, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len() / 4 * 4];
    let mut table = vec![1, 0, 0, 0, 1, 0, 0, 0, b't', 1, element, 0, 0];
    table.extend(0_u64.to_le_bytes());
    table.extend(3_u32.to_le_bytes());
    [1, 1, len].iter().for_each(|&n| table.extend((n as u64).to_le_bytes()));
    table.extend((1_u32 << 16).to_le_bytes());
    if len > 0 {
        table.extend([codec, 0, 0, 0]);
        table.extend((payload.len() as u32 / 4).to_le_bytes());
        table.extend([0; 8]);
    }
    let mut file = b"\x89whpk\r\n\x1a\x01\0\0\0\0\0\0\0".to_vec();
    file.extend(payload);
    file.extend(&table);
    file.extend((table.len() as u64).to_le_bytes());
    file.extend([0; 16]);
    file.extend(b"whpk-end");
    sealed(&file).expect("long enough")
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

/// CRC-32 (IEEE 802.3), bit by bit.
pub(crate) fn crc32(bytes: &[u8]) -> [u8; 4] {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    let crc = bytes.iter().fold(!0_u32, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)));
    (!crc).to_le_bytes()
}
