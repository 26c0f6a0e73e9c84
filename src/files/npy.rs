//! NPY and NPZ, the formats of numpy: one array a file, or a zip archive of such.

use std::io::{Read, Seek};

use half::f16;
use ndarray::ArrayD;
use ndarray_npy::{ReadNpyError, ReadNpyExt, ReadableElement};
use zip::ZipArchive;

use super::limited;
use crate::error::{Error, Result};

/// An array of a file, of an element type that is read.
#[derive(Debug)]
pub(crate) enum Numbers {
    F16(ArrayD<f16>),
    F32(ArrayD<f32>),
    F64(ArrayD<f64>),
    U8(ArrayD<u8>),
    I8(ArrayD<i8>),
    I16(ArrayD<i16>),
    /// Of 32 or 64 bits.
    Whole(ArrayD<i64>),
}

impl Numbers {
    /// The numbers, rounded to f32 where it does not hold them.
    pub(crate) fn into_f32(self) -> ArrayD<f32> {
        match self {
            Self::F16(a) => a.mapv(f16::to_f32),
            Self::F32(a) => a,
            Self::F64(a) => a.mapv(|x| x as f32),
            Self::U8(a) => a.mapv(f32::from),
            Self::I8(a) => a.mapv(f32::from),
            Self::I16(a) => a.mapv(f32::from),
            Self::Whole(a) => a.mapv(|x| x as f32),
        }
    }

    /// The numbers, if they are whole by their type; else as they were.
    #[cfg(feature = "train")]
    pub(crate) fn into_whole(self) -> Result<ArrayD<i64>, Self> {
        match self {
            Self::U8(a) => Ok(a.mapv(i64::from)),
            Self::I8(a) => Ok(a.mapv(i64::from)),
            Self::I16(a) => Ok(a.mapv(i64::from)),
            Self::Whole(a) => Ok(a),
            Self::F16(_) | Self::F32(_) | Self::F64(_) => Err(self),
        }
    }

    /// Sizes of the axes.
    #[cfg(feature = "pack")]
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Self::F16(a) => a.shape(),
            Self::F32(a) => a.shape(),
            Self::F64(a) => a.shape(),
            Self::U8(a) => a.shape(),
            Self::I8(a) => a.shape(),
            Self::I16(a) => a.shape(),
            Self::Whole(a) => a.shape(),
        }
    }
}

/// The arrays of an NPZ file, read one at a time.
#[derive(Debug)]
pub(crate) struct Archive<R>(ZipArchive<R>);

impl<R: Read + Seek> Archive<R> {
    /// Reads the list of what is in it.
    pub(crate) fn open(reader: R) -> Result<Self> {
        ZipArchive::new(reader).map(Self).map_err(damaged)
    }

    /// Names of its arrays, in the order of the file.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.file_names().map(|name| name.strip_suffix(".npy").unwrap_or(name).to_owned()).collect()
    }

    /// One array.
    pub(crate) fn array(&mut self, name: &str) -> Result<Numbers> {
        let index = self.0.index_for_name(&format!("{name}.npy")).or_else(|| self.0.index_for_name(name));
        let Some(index) = index else {
            return Err(Error::bad_input(format!("the archive has no array '{name}'"))
                .with_help(format!("it has {}", self.names().join(", "))));
        };
        let bytes = limited(self.0.by_index(index).map_err(damaged)?)?;
        parse(&bytes).map_err(|e| {
            let told = Error::new(e.kind(), format!("array '{name}': {}", e.message()));
            match e.help() {
                Some(help) => told.with_help(help),
                None => told,
            }
        })
    }
}

fn damaged(e: zip::result::ZipError) -> Error {
    Error::bad_input(format!("this is no NPZ archive, or it is damaged: {e}"))
        .with_help("write it with numpy.savez(file, x=..., y=...)")
}

/// The array of an NPY file.
pub(crate) fn parse(bytes: &[u8]) -> Result<Numbers> {
    check_size(bytes)?;
    // The reader tells the element type only by refusing the wrong ones.
    if let Some(a) = read_as::<f32>(bytes)? {
        return Ok(Numbers::F32(a));
    }
    if let Some(a) = read_as::<u8>(bytes)? {
        return Ok(Numbers::U8(a));
    }
    if let Some(a) = read_as::<i8>(bytes)? {
        return Ok(Numbers::I8(a));
    }
    if let Some(a) = read_as::<f64>(bytes)? {
        return Ok(Numbers::F64(a));
    }
    if let Some(a) = read_as::<i64>(bytes)? {
        return Ok(Numbers::Whole(a));
    }
    if let Some(a) = read_as::<i32>(bytes)? {
        return Ok(Numbers::Whole(a.mapv(i64::from)));
    }
    if let Some(a) = read_as::<u32>(bytes)? {
        return Ok(Numbers::Whole(a.mapv(i64::from)));
    }
    if let Some(a) = read_as::<i16>(bytes)? {
        return Ok(Numbers::I16(a));
    }
    if let Some(a) = read_halves(bytes)? {
        return Ok(Numbers::F16(a));
    }
    Err(Error::unsupported("the elements are of a type that is not read").with_help(
        "save as float16, float32, float64, uint8, int8, int16, int32, uint32 or int64: array.astype('float32')",
    ))
}

/// The array, or nothing if its elements are of another type.
fn read_as<A: ReadableElement + Clone>(bytes: impl Read) -> Result<Option<ArrayD<A>>> {
    match ArrayD::<A>::read_npy(bytes) {
        Ok(array) => Ok(Some(array.as_standard_layout().into_owned())),
        Err(ReadNpyError::WrongDescriptor(_)) => Ok(None),
        Err(e) => {
            let message = match &e {
                ReadNpyError::MissingData => "the file holds fewer numbers than its header promises".to_owned(),
                ReadNpyError::ExtraBytes(n) => format!("{n} bytes follow the array that the header describes"),
                other => format!("this is no NPY file: {other}"),
            };
            Err(Error::bad_input(message).with_help("write it with numpy.save").with_source(e))
        }
    }
}

/// An array of float16, which the reader does not know: its header is changed to one of bit patterns, of the same length.
fn read_halves(bytes: &[u8]) -> Result<Option<ArrayD<f16>>> {
    let (head, rest) = bytes.split_at(bytes.len().min(256));
    let Some(at) = head.windows(5).position(|w| w == b"'<f2'") else { return Ok(None) };
    let mut head = head.to_vec();
    head[at + 2] = b'u';
    Ok(read_as::<u16>(head.chain(rest))?.map(|bits| bits.mapv(f16::from_bits)))
}

/// Refuses a header that promises more numbers than the file has bytes, before memory is taken for them. Other faults of a header
/// are the reader's to find.
fn check_size(bytes: &[u8]) -> Result<()> {
    let head = &bytes[..bytes.len().min(1 << 16)];
    let after = |mark: &[u8]| head.windows(mark.len()).position(|w| w == mark).map(|at| &head[at + mark.len()..]);
    let Some(tail) = after(b"shape").and_then(|tail| tail.iter().position(|&b| b == b'(').map(|at| &tail[at + 1..]))
    else {
        return Ok(());
    };
    let inside: Vec<u8> = tail.iter().copied().take_while(|&b| b != b')').collect();
    let sizes = inside.split(|&b| b == b',').map(|d| String::from_utf8_lossy(d).trim().to_owned());
    let promised = sizes.filter(|d| !d.is_empty()).try_fold(1u64, |n, d| n.checked_mul(d.parse().ok()?));
    match promised {
        Some(n) if n <= bytes.len() as u64 => Ok(()),
        _ => Err(Error::bad_input("the header promises more numbers than the file has bytes")
            .with_help("the file is cut off or damaged: write it again")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray_npy::WriteNpyExt;

    #[test]
    fn halves_are_read_as_bit_patterns() {
        let mut bytes = Vec::new();
        ndarray::array![[0x3c00_u16, 0xc000], [0x0001, 0x7bff]].write_npy(&mut bytes).expect("memory");
        let at = bytes.windows(5).position(|w| w == b"'<u2'").expect("a header");
        bytes[at + 2] = b'f';
        let Numbers::F16(read) = parse(&bytes).expect("an array") else { panic!("no halves") };
        assert_eq!(read.shape(), [2, 2]);
        let numbers: Vec<f32> = read.iter().map(|x| x.to_f32()).collect();
        assert_eq!(numbers, [1.0, -2.0, 5.960_464_5e-8, 65504.0]);
    }
}
