//! Round trips through files and streams.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use wavehull::pack::codec::{Codec, Head, MAX_CHUNK};
use wavehull::pack::{Element, EncodeOptions, Granularity, Kind, Reader, Values, Writer};
use wavehull::{Control, ErrorKind, Gpu, pack};

use crate::common::{self, Random};
use crate::{ELEMENTS, KINDS, bytes, length, on_both, stride, tensor};

fn options(codec: Option<Codec>, chunk: usize) -> EncodeOptions {
    let mut options = EncodeOptions::default();
    (options.codec, options.chunk) = (codec, chunk);
    options
}

/// A file of its own, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("wavehull-{}-{name}.whpk", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn random_tensors(random: &mut Random, count: usize, most: f64) -> Vec<Values> {
    (0..count)
        .map(|i| {
            let element = ELEMENTS[random.below(ELEMENTS.len())];
            let (len, kind) = (length(random, most), random.below(KINDS));
            let values = tensor(&format!("tensor {i}"), element, bytes(random, element, len, kind));
            values.quantised([Granularity::Unknown, Granularity::Channel, Granularity::Group(32)][random.below(3)])
        })
        .collect()
}

/// Tensors through a file and back; gives the bytes of the file.
fn round_trip(file: &Path, tensors: &[Values], options: &EncodeOptions, gpu: Option<&Gpu>) -> Vec<u8> {
    let control = Control::default();
    let written = pack::encode(file, tensors, options, gpu, &control).unwrap();
    let bytes = std::fs::read(file).unwrap();
    assert_eq!(written.bytes, bytes.len() as u64);
    for (stored, values) in written.tensors.iter().zip(tensors) {
        assert!(stored.bytes <= values.bits().div_ceil(8) + 4 * stored.chunks, "never longer than raw: {stored:?}");
    }
    let back = pack::decode(file, gpu, &control).unwrap();
    assert_eq!(back.len(), tensors.len());
    for (a, b) in back.iter().zip(tensors) {
        assert!(a == b, "{} comes back", b.name());
    }
    bytes
}

#[test]
fn thousands_of_tensors_come_back() {
    many(6000, 14.0, 6, 23);
}

#[test]
#[ignore = "the full count: ten thousand tensors up to 2^24 values, and one of 2^28; minutes"]
fn ten_thousand_tensors_come_back() {
    many(10_000, 16.0, 40, 24);
    let mut random = Random::new(99);
    let part = bytes(&mut random, Element::I8, 1 << 20, 2);
    let values = part.iter().cycle().take(1 << 28).copied().collect();
    round_trip(&Scratch::new("huge").0, &[tensor("huge", Element::I8, values)], &EncodeOptions::default(), None);
}

/// `count` tensors of up to 2^`most` values on the host, and `large` of up to 2^`largest`.
fn many(count: usize, most: f64, large: usize, largest: u32) {
    let scratch = Scratch::new(&format!("many-{count}"));
    let mut random = Random::new(11);
    for _ in 0..count / 100 {
        let tensors = random_tensors(&mut random, 100, most);
        let codec = [None, Some(Codec::Raw), Some(*Codec::ALL.last().unwrap())][random.below(3)];
        let chunk = [256, 4096, 1 << 20][random.below(3)];
        round_trip(&scratch.0, &tensors, &options(codec, chunk), None);
    }
    for i in 0..large {
        let element = ELEMENTS[i % ELEMENTS.len()];
        let len = (f64::from(largest) - 2.0 * (random.unit() + 1.0) / 2.0).exp2() as usize;
        let values = tensor("large", element, bytes(&mut random, element, len, i % KINDS));
        round_trip(&scratch.0, &[values], &EncodeOptions::default(), None);
    }
}

#[test]
fn a_device_writes_the_bytes_of_the_host() {
    on_both("a_device_writes_the_bytes_of_the_host", |gpu| {
        let scratch = Scratch::new("device");
        let mut random = Random::new(12);
        for codec in Codec::ALL {
            let tensors = random_tensors(&mut random, 25, 16.0);
            let options = options(Some(*codec), 1 << 14);
            let here = round_trip(&scratch.0, &tensors, &options, None);
            let there = round_trip(&scratch.0, &tensors, &options, Some(gpu));
            assert!(here == there, "{codec:?}: the same file");
        }
    });
}

#[test]
fn streams_may_be_cut_anywhere() {
    let mut random = Random::new(13);
    for element in ELEMENTS {
        let len = 5000;
        let values = bytes(&mut random, element, len, 2);
        let head = Head {
            name: "t".to_owned(),
            kind: Some(Kind::Activations),
            element,
            granularity: Granularity::Tensor,
            shape: vec![1, 1, len],
        };
        let options = options(None, 1024);
        let written = |pieces: &mut dyn FnMut() -> usize| {
            let mut writer = Writer::new(Vec::new(), Path::new("memory"), &options).unwrap();
            writer.begin(head.clone()).unwrap();
            let mut rest = &values[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(pieces().min(rest.len()));
                writer.push(now).unwrap();
                rest = later;
            }
            writer.end().unwrap();
            writer.finish().unwrap().0
        };
        let whole = written(&mut || usize::MAX);
        assert!(written(&mut || random.below(777)) == whole && written(&mut || 1) == whole, "{element:?}");
        let mut reader = Reader::new(Cursor::new(&whole), Path::new("memory")).unwrap();
        for _ in 0..200 {
            let (a, b) = (random.below(len + 1), random.below(len + 1));
            let range = a.min(b)..a.max(b);
            let expected = &values[range.start * stride(element)..range.end * stride(element)];
            assert!(reader.values("t", range.clone()).unwrap() == expected, "{element:?} {range:?}");
        }
        for range in [0..len + 1, len + 1..len + 2, std::ops::Range { start: 7, end: 6 }] {
            assert_eq!(reader.values("t", range).unwrap_err().kind(), ErrorKind::BadInput);
        }
        assert!(reader.tensor("u").unwrap_err().to_string().contains("no tensor 'u'"));
    }
}

/// A source that counts what is read of it.
struct Counting<'a>(Cursor<&'a [u8]>, usize);

impl std::io::Read for &mut Counting<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.read(to)?;
        self.1 += n;
        Ok(n)
    }
}

impl std::io::Seek for &mut Counting<'_> {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn a_range_is_read_without_the_rest() {
    let mut random = Random::new(14);
    let values = tensor("t", Element::I8, bytes(&mut random, Element::I8, 1 << 20, 2));
    let mut writer = Writer::new(Vec::new(), Path::new("memory"), &options(None, 4096)).unwrap();
    pollster::block_on(writer.write_async(&values)).unwrap();
    let (file, _) = writer.finish().unwrap();
    let mut source = Counting(Cursor::new(&file), 0);
    let mut reader = Reader::new(&mut source, Path::new("memory")).unwrap();
    assert_eq!(reader.values("t", 500_000..500_010).unwrap(), values.bytes().unwrap()[500_000..500_010]);
    let table = 256 * 16 + 200;
    assert!(source.1 < table + 4096, "{} bytes were read", source.1);
}

#[test]
fn a_writer_refuses_what_does_not_fit() {
    let head = |name: &str, shape: &[usize]| Head {
        name: name.to_owned(),
        kind: Some(Kind::Activations),
        element: Element::I4,
        granularity: Granularity::Unknown,
        shape: shape.to_vec(),
    };
    let begun = || {
        let mut writer = Writer::new(Vec::new(), Path::new("there.whpk"), &EncodeOptions::default()).unwrap();
        writer.begin(head("a", &[1, 1, 3])).unwrap();
        writer
    };
    let of = |error: wavehull::Error| {
        assert_eq!(error.kind(), ErrorKind::BadInput);
        error.to_string()
    };
    assert_eq!(
        of(begun().push(&[1; 4]).unwrap_err()),
        "there.whpk: tensor 'a' gets more than the 3 values of its shape"
    );
    assert_eq!(of(begun().push(&[1, 8]).unwrap_err()), "there.whpk: tensor 'a' has a value outside -8 to 7");
    assert_eq!(of(begun().end().unwrap_err()), "there.whpk: tensor 'a' ends after 0 bytes of the 3 of its shape");
    assert_eq!(of(begun().finish().unwrap_err()), "there.whpk: tensor 'a' has not ended");
    assert!(of(begun().begin(head("b", &[1, 1, 1])).unwrap_err()).contains("before the tensor before it"));
    let mut writer = begun();
    writer.push(&[1, 2, 3]).unwrap();
    writer.end().unwrap();
    assert!(of(writer.begin(head("a", &[1, 1, 3])).unwrap_err()).contains("is there already"));
    assert!(of(writer.begin(head("b", &[3])).unwrap_err()).contains("axes"));
    assert!(of(writer.begin(head("b", &[usize::MAX, 2, 1])).unwrap_err()).contains("can be counted"));
    assert!(of(writer.push(&[1]).unwrap_err()).contains("before it begins"));
    for chunk in [0, 100, MAX_CHUNK + 256] {
        assert!(Writer::new(Vec::new(), Path::new("x"), &options(None, chunk)).is_err());
    }
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    assert_eq!(Writer::new(Full, Path::new("x"), &EncodeOptions::default()).err().unwrap().kind(), ErrorKind::Io);
}

#[test]
fn a_cancelled_call_stops() {
    let values = tensor("t", Element::I8, vec![1; 5000]);
    let control = Control::default();
    control.cancel.cancel();
    let scratch = Scratch::new("cancelled");
    let stopped = pack::encode(&scratch.0, &[values], &EncodeOptions::default(), None, &control).unwrap_err();
    assert_eq!(stopped.kind(), ErrorKind::Cancelled);
}

#[test]
fn codecs_have_names_and_numbers() {
    for codec in Codec::ALL {
        assert_eq!((Codec::of_id(codec.id()).unwrap(), Codec::of_name(codec.name()).unwrap()), (*codec, *codec));
    }
    let error = Codec::of_id(77).unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unsupported, "codec 77 (unknown) is not in this build"));
    assert!(Codec::of_name("gzip").unwrap_err().help().unwrap().contains("raw, width"));
    #[cfg(not(feature = "fixed-lane"))]
    assert!(Codec::of_id(2).unwrap_err().help().unwrap().contains("--features fixed-lane"));
    common::say("");
}
