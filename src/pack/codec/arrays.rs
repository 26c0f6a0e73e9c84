//! Whole files of arrays through a container and back: safetensors, NPY, NPZ. Names, shapes, types, a safetensors file's metadata and every bit of the
//! values return.
//!
//! Arrays of I8, U8, I16, F16 and BF16 are taken. Safetensors files go through piece by piece, however large they are; arrays of numpy one at a time.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use half::f16;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::draft::Draft;
use super::{EncodeOptions, Entry, Head, Reader, Writer, Written};
use crate::error::{Error, Result};
use crate::files::{self, npy};
use crate::gpu::{Control, Gpu};
use crate::pack::input::safetensors::{element_of, header};
use crate::pack::input::stem;
use crate::pack::values::{Element, Granularity};

/// The entry that holds what a safetensors file says of itself, as JSON.
const METADATA: &str = "__metadata__";
/// Bytes that are read at once.
const PIECE: usize = 1 << 24;

/// The kinds of files of arrays, by the ends of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Safetensors,
    Npy,
    Npz,
}

impl Form {
    fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("npy") => Ok(Self::Npy),
            Some("npz") => Ok(Self::Npz),
            _ => Err(Error::bad_input("this is no file of arrays by its name")
                .in_file(path)
                .with_help("name it .safetensors, .npy or .npz")),
        }
    }
}

/// Compresses a file of arrays.
///
/// # Errors
/// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] for files that are damaged; [`crate::ErrorKind::Unsupported`] for arrays of other types; those of
/// the device. A file that is there already stays as it was until the new one is whole.
pub async fn encode_file_async(
    from: &Path,
    to: &Path,
    options: &EncodeOptions,
    gpu: Option<&Gpu>,
    control: &Control,
) -> Result<Written> {
    let form = Form::of(from)?;
    let source = File::open(from).map_err(|e| Error::io(from, e))?;
    let draft = Draft::beside(to, Some(from))?;
    let mut writer = Writer::new(BufWriter::new(&draft.file), to, options)?.on(gpu).controlled(control);
    match form {
        Form::Safetensors => push_safetensors(&mut writer, source, from, control).await?,
        Form::Npy => push_array(&mut writer, &stem(from), npy::parse(&files::bytes(from)?), from).await?,
        Form::Npz => push_npz(&mut writer, source, from, control).await?,
    }
    let (sink, written) = writer.finish()?;
    sink.into_inner().map_err(|e| Error::io(to, e.into_error()))?;
    draft.keep()?;
    Ok(written)
}

/// Blocking twin of [`encode_file_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn encode_file(
    from: &Path,
    to: &Path,
    options: &EncodeOptions,
    gpu: Option<&Gpu>,
    control: &Control,
) -> Result<Written> {
    pollster::block_on(encode_file_async(from, to, options, gpu, control))
}

/// Brings the file of arrays back that [`encode_file_async`] compressed, in any of the three forms; checks every sum on the way.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] that says where the file is damaged; [`crate::ErrorKind::Unsupported`] for a form that cannot hold what is inside;
/// [`crate::ErrorKind::Io`]; those of the device. A file that is there already stays as it was until the new one is whole.
pub async fn decode_file_async(from: &Path, to: &Path, gpu: Option<&Gpu>, control: &Control) -> Result<Vec<Entry>> {
    let form = Form::of(to)?;
    let source = BufReader::new(File::open(from).map_err(|e| Error::io(from, e))?);
    let mut reader = Reader::new(source, from)?.on(gpu).controlled(control);
    let entries = reader.entries().to_vec();
    let draft = Draft::beside(to, Some(from))?;
    let sink = BufWriter::new(&draft.file);
    match form {
        Form::Safetensors => pull_safetensors(&mut reader, &entries, (sink, to), control).await?,
        Form::Npy => pull_npy(&mut reader, &entries, (sink, to)).await?,
        Form::Npz => pull_npz(&mut reader, &entries, (sink, to), control).await?,
    }
    draft.keep()?;
    Ok(entries)
}

/// Blocking twin of [`decode_file_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn decode_file(from: &Path, to: &Path, gpu: Option<&Gpu>, control: &Control) -> Result<Vec<Entry>> {
    pollster::block_on(decode_file_async(from, to, gpu, control))
}

/// Decodes all of a container and compares every checksum.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] that says where the file is damaged; else as [`decode_file_async`].
pub async fn check_async(file: &Path, gpu: Option<&Gpu>, control: &Control) -> Result<Vec<Entry>> {
    let source = BufReader::new(File::open(file).map_err(|e| Error::io(file, e))?);
    let mut reader = Reader::new(source, file)?.on(gpu).controlled(control);
    let entries = reader.entries().to_vec();
    for (done, entry) in entries.iter().enumerate() {
        let name = &entry.head().name;
        control.report(name, done as u64, entries.len() as u64, "tensors");
        for piece in pieces(entry) {
            reader.values_async(name, piece).await?;
        }
    }
    Ok(entries)
}

/// Blocking twin of [`check_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn check(file: &Path, gpu: Option<&Gpu>, control: &Control) -> Result<Vec<Entry>> {
    pollster::block_on(check_async(file, gpu, control))
}

fn refused(name: &str, what: &str, file: &Path) -> Error {
    Error::unsupported(format!("array '{name}' holds {what}"))
        .in_file(file)
        .with_help("int8, uint8, int16, float16 and bfloat16 are coded: convert it, or keep it in a file of its own")
}

fn head(name: &str, element: Element, shape: &[usize]) -> Head {
    Head { name: name.to_owned(), kind: None, element, granularity: Granularity::Unknown, shape: shape.to_vec() }
}

async fn push_safetensors<W: Write>(writer: &mut Writer<W>, file: File, from: &Path, control: &Control) -> Result<()> {
    let io = |e| Error::io(from, e);
    let length = file.metadata().map_err(io)?.len();
    let mut file = BufReader::new(file);
    let (start, table) = header(&mut file, length).map_err(|e| e.in_file(from))?;
    let names = table.offset_keys();
    let element = |name: &str, dtype| element_of(dtype).ok_or_else(|| refused(name, &format!("{dtype:?}"), from));
    // Before anything is coded.
    for (name, info) in names.iter().filter_map(|name| Some((name, table.info(name)?))) {
        element(name, info.dtype)?;
    }
    if let Some(metadata) = table.metadata() {
        let text = serde_json::to_vec(metadata).map_err(|e| Error::internal(e.to_string()))?;
        writer.begin(head(METADATA, Element::U8, &[text.len()]))?;
        writer.push_async(&text).await?;
        writer.end_async().await?;
    }
    for (done, name) in names.iter().enumerate() {
        control.report(name, done as u64, names.len() as u64, "tensors");
        let Some(info) = table.info(name) else { continue };
        let element = element(name, info.dtype)?;
        writer.begin(head(name, element, &info.shape)).map_err(|e| e.in_file(from))?;
        let (first, end) = info.data_offsets;
        file.seek(SeekFrom::Start(start + first as u64)).map_err(io)?;
        let mut left = end - first;
        let mut piece = vec![0; left.min(PIECE)];
        while left > 0 {
            let now = left.min(PIECE);
            file.read_exact(&mut piece[..now]).map_err(io)?;
            writer.push_async(&piece[..now]).await?;
            left -= now;
        }
        writer.end_async().await?;
    }
    Ok(())
}

async fn push_npz<W: Write>(writer: &mut Writer<W>, file: File, from: &Path, control: &Control) -> Result<()> {
    let mut archive = npy::Archive::open(BufReader::new(file)).map_err(|e| e.in_file(from))?;
    let names = archive.names();
    for (done, name) in names.iter().enumerate() {
        control.report(name, done as u64, names.len() as u64, "arrays");
        push_array(writer, name, archive.array(name), from).await?;
    }
    Ok(())
}

async fn push_array<W: Write>(
    writer: &mut Writer<W>,
    name: &str,
    array: Result<npy::Numbers>,
    from: &Path,
) -> Result<()> {
    use npy::Numbers;
    let array = array.map_err(|e| e.in_file(from))?;
    if name == METADATA {
        return Err(refused(name, "a name that safetensors files keep for themselves", from));
    }
    let shape = array.shape().to_vec();
    let halves = |all: Vec<u16>| -> Vec<u8> { all.iter().flat_map(|half| half.to_le_bytes()).collect() };
    let (element, bytes) = match array {
        Numbers::U8(a) => (Element::U8, a.into_iter().collect()),
        Numbers::I8(a) => (Element::I8, a.into_iter().map(i8::cast_unsigned).collect()),
        Numbers::I16(a) => (Element::I16, halves(a.into_iter().map(i16::cast_unsigned).collect())),
        Numbers::F16(a) => (Element::F16, halves(a.into_iter().map(f16::to_bits).collect())),
        Numbers::F32(_) => return Err(refused(name, "float32", from)),
        Numbers::F64(_) => return Err(refused(name, "float64", from)),
        Numbers::Whole(_) => return Err(refused(name, "whole numbers of 32 or 64 bits", from)),
    };
    writer.begin(head(name, element, &shape)).map_err(|e| e.in_file(from))?;
    writer.push_async(&bytes).await?;
    writer.end_async().await
}

/// Values of an entry that are decoded at once: whole chunks of at most [`PIECE`] bytes.
fn pieces(entry: &Entry) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
    let step = (PIECE / 2 / entry.chunk_len()).max(1) * entry.chunk_len();
    let len = entry.len();
    (0..len).step_by(step).map(move |first| first..len.min(first + step))
}

async fn pull_safetensors<R: Read + Seek>(
    reader: &mut Reader<R>,
    entries: &[Entry],
    (mut sink, to): (BufWriter<&File>, &Path),
    control: &Control,
) -> Result<()> {
    let mut table = serde_json::Map::new();
    if entries.iter().any(is_metadata) {
        let text = reader.values_async(METADATA, 0..reader.len(METADATA)).await?;
        let metadata = serde_json::from_slice::<std::collections::BTreeMap<String, String>>(&text)
            .map_err(|e| Error::bad_input(format!("what the file says of itself is damaged: {e}")).in_file(to))?;
        table.insert(METADATA.to_owned(), serde_json::json!(metadata));
    }
    let mut at = 0;
    for entry in arrays(entries) {
        let Head { name, element, shape, .. } = entry.head();
        let (dtype, bytes) = match element {
            Element::I4 => return Err(nibbles(name, to)),
            Element::I8 => ("I8", 1),
            Element::U8 => ("U8", 1),
            Element::I16 => ("I16", 2),
            Element::F16 => ("F16", 2),
            Element::Bf16 => ("BF16", 2),
        };
        let end = at + bytes * entry.len();
        table.insert(name.clone(), serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, end] }));
        at = end;
    }
    let mut text = serde_json::to_string(&table).map_err(|e| Error::internal(e.to_string()))?;
    // The format wants data to begin at a multiple of 8.
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let io = |e| Error::io(to, e);
    sink.write_all(&(text.len() as u64).to_le_bytes()).and_then(|()| sink.write_all(text.as_bytes())).map_err(io)?;
    for (done, entry) in arrays(entries).enumerate() {
        let name = &entry.head().name;
        control.report(name, done as u64, entries.len() as u64, "tensors");
        for piece in pieces(entry) {
            let values = reader.values_async(name, piece).await?;
            sink.write_all(&values).map_err(io)?;
        }
    }
    sink.flush().map_err(io)
}

fn is_metadata(entry: &Entry) -> bool {
    entry.head().name == METADATA
}

/// All entries but what the file says of itself, which only safetensors can hold.
fn arrays(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(|entry| !is_metadata(entry))
}

fn nibbles(name: &str, to: &Path) -> Error {
    Error::unsupported(format!("tensor '{name}' is of 4-bit integers, which such files cannot hold")).in_file(to)
}

async fn pull_npy<R: Read + Seek>(
    reader: &mut Reader<R>,
    entries: &[Entry],
    (mut sink, to): (BufWriter<&File>, &Path),
) -> Result<()> {
    let (Some(entry), 1) = (arrays(entries).next(), arrays(entries).count()) else {
        return Err(Error::unsupported(format!("an NPY file holds one array, not {}", arrays(entries).count()))
            .in_file(to)
            .with_help("name the result .npz or .safetensors"));
    };
    let bytes = array_bytes(reader, entry, to).await?;
    sink.write_all(&bytes).and_then(|()| sink.flush()).map_err(|e| Error::io(to, e))
}

async fn pull_npz<R: Read + Seek>(
    reader: &mut Reader<R>,
    entries: &[Entry],
    (sink, to): (BufWriter<&File>, &Path),
    control: &Control,
) -> Result<()> {
    let io = |e| Error::io(to, e);
    let zipped = |e: zip::result::ZipError| Error::io(to, std::io::Error::other(e));
    let mut archive = ZipWriter::new(sink);
    let options = SimpleFileOptions::default().large_file(true);
    for (done, entry) in arrays(entries).enumerate() {
        let name = &entry.head().name;
        control.report(name, done as u64, entries.len() as u64, "arrays");
        let bytes = array_bytes(reader, entry, to).await?;
        archive.start_file(format!("{name}.npy"), options).map_err(zipped)?;
        archive.write_all(&bytes).map_err(io)?;
    }
    archive.finish().map_err(zipped)?.flush().map_err(io)
}

/// An array as an NPY file of version 1.0: a dictionary that makes data begin at a multiple of 64, and the values.
async fn array_bytes<R: Read + Seek>(reader: &mut Reader<R>, entry: &Entry, to: &Path) -> Result<Vec<u8>> {
    let Head { name, element, shape, .. } = entry.head();
    let kind = match element {
        Element::I8 => "|i1",
        Element::U8 => "|u1",
        Element::I16 => "<i2",
        Element::F16 => "<f2",
        Element::I4 => return Err(nibbles(name, to)),
        Element::Bf16 => {
            return Err(Error::unsupported(format!("array '{name}' is of bfloat16, which numpy does not have"))
                .in_file(to)
                .with_help("name the result .safetensors"));
        }
    };
    // A tuple of one element has a comma.
    let axes = match shape.as_slice() {
        [one] => format!("{one},"),
        axes => axes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let mut text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({axes}), }}");
    text.extend(std::iter::repeat_n(' ', (text.len() + 11).next_multiple_of(64) - text.len() - 11));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    let length = u16::try_from(text.len()).map_err(|_| Error::internal("an NPY header of more than 64 KiB"))?;
    bytes.extend(length.to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(reader.values_async(name, 0..entry.len()).await?);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Scratch;

    #[test]
    fn arrays_come_back_bit_for_bit_in_every_form() {
        let scratch = Scratch::new("pack-arrays");
        let npy = |name: &str| scratch.file(name, b"");
        let made = ndarray::Array3::from_shape_fn((5, 70, 11), |(i, j, k)| (i * j % 5) as i8 - (k % 3) as i8);
        let mut bytes = Vec::new();
        ndarray_npy::WriteNpyExt::write_npy(&made, &mut bytes).unwrap();
        let (source, packed) = (scratch.file("a.npy", &bytes), npy("a.whpk"));
        let written =
            encode_file(&source, &packed, &EncodeOptions::default(), None, &Control::default()).expect("compressed");
        assert!(written.bytes < 5 * 70 * 11, "{written:?}");
        for form in ["b.npy", "b.npz", "b.safetensors"] {
            let back = npy(form);
            let entries = decode_file(&packed, &back, None, &Control::default()).expect(form);
            assert_eq!((entries[0].head().shape.as_slice(), entries[0].head().name.as_str()), (&[5, 70, 11][..], "a"));
            // The other forms go round once more.
            let (again, last) = (npy("again.whpk"), npy("last.npy"));
            encode_file(&back, &again, &EncodeOptions::default(), None, &Control::default()).expect(form);
            decode_file(&again, &last, None, &Control::default()).expect(form);
            let numbers = npy::parse(&std::fs::read(&last).unwrap()).unwrap();
            let npy::Numbers::I8(found) = numbers else { panic!("{form}: another type") };
            assert_eq!(found, made.clone().into_dyn(), "{form}");
        }
    }

    #[test]
    fn what_cannot_be_coded_or_held_is_said_and_leaves_nothing() {
        let scratch = Scratch::new("pack-arrays-refused");
        let mut bytes = Vec::new();
        ndarray_npy::WriteNpyExt::write_npy(&ndarray::arr1(&[1.0_f32, 2.0]), &mut bytes).unwrap();
        let (floats, target) = (scratch.file("f.npy", &bytes), scratch.file("f.whpk", b"old"));
        let encoded = |from: &Path| encode_file(from, &target, &EncodeOptions::default(), None, &Control::default());
        let error = encoded(&floats).expect_err("float32");
        assert!(error.message().contains("float32") && error.help().is_some(), "{error}");
        assert_eq!(std::fs::read(&target).unwrap(), b"old", "what was there stays");
        assert!(encoded(&scratch.file("f.txt", b"x")).expect_err("a text").help().is_some());
        // A file into itself, by another name: refused or replaced by a whole one, never lost.
        let own = scratch.file("own.npy", &bytes);
        assert!(
            encode_file(
                &own,
                &own.parent().unwrap().join("./own.npy"),
                &EncodeOptions::default(),
                None,
                &Control::default()
            )
            .is_err()
        );
        assert_eq!(std::fs::read(&own).unwrap(), bytes);
        let cut = scratch.file("cut.npy", &bytes[..bytes.len() - 3]);
        assert_eq!(encoded(&cut).expect_err("cut off").place().map(|place| place.file.clone()), Some(cut));
    }
}
