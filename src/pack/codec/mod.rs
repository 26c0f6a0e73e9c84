//! Lossless codecs for tensors, on the device and on the host, and the container that files of tensors are.
//!
//! A codec works on a *chunk*: at most [`MAX_CHUNK`] consecutive values, as words in the layout of [`super::Values::words`]. What it makes of them,
//! the *payload*, is whole words (little-endian in files). Each codec has functions that record its kernels from memory to memory of the
//! device, and a plain twin for the host that gives the very same words. Before anything runs on a payload that came from outside, its structure is
//! checked on the host: whatever the bytes are, no kernel reads outside of its buffers or runs long.
//!
//! [`Codec`] has one line for each codec; [`Writer`] and [`Reader`] are the container.

mod arrays;
mod bytes;
mod draft;
pub mod exponent;
#[cfg(feature = "fixed-lane")]
pub mod fixed_lane;
pub mod layout;
pub mod matmul;
pub mod rans;
mod raw;
mod reader;
mod table;
pub mod width;
mod writer;

#[cfg(not(target_arch = "wasm32"))]
pub use arrays::{check, decode_file, encode_file};
pub use arrays::{check_async, decode_file_async, encode_file_async};
pub use layout::Layout;
pub use reader::Reader;
pub use table::{Chunk, Entry, Head};
pub use writer::{Stored, Writer, Written};

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

use super::values::{Element, Values};
use crate::error::{Error, Result};
use crate::gpu::{Control, Gpu, Kernel};
use crate::tensor::Tensor;

/// Most values of a chunk.
pub const MAX_CHUNK: usize = 1 << 22;
/// Values of a chunk unless the writer is told otherwise: what has to be read to get at any one of them.
pub const CHUNK: usize = 1 << 20;

/// A lossless code for the values of a chunk.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Codec {
    /// Values as they are, 4-bit ones two a byte.
    Raw,
    /// Groups of 32 values, each at the width that its largest needs ([`width`]); integers only.
    Width,
    /// Groups of 16 values in lanes of fixed places (`fixed_lane`); integers only. Patented: US 12118212.
    #[cfg(feature = "fixed-lane")]
    FixedLane,
    /// Bytes by their frequencies ([`rans`]); integers only.
    Rans,
    /// Exponents by their frequencies, signs and mantissas as they are ([`exponent`]); floats only.
    Exponent,
}

/// Numbers in files with the names of their codecs; what this build does not read can still be named.
const NAMES: [(u8, &str); 5] = [(0, "raw"), (1, "width"), (2, "fixed-lane"), (3, "rans"), (4, "exponent")];

impl Codec {
    /// All codecs of this build.
    pub const ALL: &[Self] = &[
        Self::Raw,
        Self::Width,
        #[cfg(feature = "fixed-lane")]
        Self::FixedLane,
        Self::Rans,
        Self::Exponent,
    ];

    /// The number in files.
    pub const fn id(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Width => 1,
            #[cfg(feature = "fixed-lane")]
            Self::FixedLane => 2,
            Self::Rans => 3,
            Self::Exponent => 4,
        }
    }

    /// As users write it: `width`.
    pub const fn name(self) -> &'static str {
        NAMES[self.id() as usize].1
    }

    /// By number.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`] for a number that this build has no codec for.
    pub fn of_id(id: u8) -> Result<Self> {
        Self::ALL.iter().copied().find(|codec| codec.id() == id).ok_or_else(|| {
            let name = NAMES.iter().find(|(known, _)| *known == id).map(|(_, name)| *name);
            let help = if name == Some("fixed-lane") {
                "build with `--features fixed-lane` (mind the patent notice in its documentation)"
            } else {
                "decode it with the version of wavehull that wrote it, or a newer one"
            };
            Error::unsupported(format!("codec {id} ({}) is not in this build", name.unwrap_or("unknown")))
                .with_help(help)
        })
    }

    /// By name.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a name that no codec of this build has.
    pub fn of_name(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|codec| codec.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|codec| codec.name()).collect();
            Error::bad_input(format!("there is no codec '{name}'")).with_help(format!("codecs: {}", names.join(", ")))
        })
    }

    /// Whether it codes such values.
    pub const fn takes(self, element: Element) -> bool {
        match self {
            Self::Raw => true,
            Self::Width | Self::Rans => !element.is_float(),
            #[cfg(feature = "fixed-lane")]
            Self::FixedLane => !element.is_float(),
            Self::Exponent => element.is_float(),
        }
    }

    /// What [`Writer`] takes for such values unless it is told otherwise: what makes them smallest.
    pub const fn best(element: Element) -> Self {
        if element.is_float() { Self::Exponent } else { Self::Rans }
    }

    /// The payload of a chunk: `words` of `len` values.
    async fn encode(
        self,
        gpu: Option<&Gpu>,
        element: Element,
        words: &[u32],
        len: usize,
        control: &Control,
    ) -> Result<Vec<u32>> {
        if len == 0 {
            return Ok(Vec::new());
        }
        match (self, gpu) {
            (Self::Raw, _) => Ok(raw::encode(element, words, len)),
            (Self::Width, None) => Ok(width::reference::encode(element, words, len)),
            (Self::Width, Some(gpu)) => {
                width::encode_async(gpu, element, &upload(gpu, words).await?, len, control).await
            }
            (Self::Rans | Self::Exponent, None) => rans::reference::encode(element, words, len),
            (Self::Rans, Some(gpu)) => rans::encode_async(gpu, element, &upload(gpu, words).await?, len, control).await,
            (Self::Exponent, Some(gpu)) => {
                exponent::encode_async(gpu, element, &upload(gpu, words).await?, len, control).await
            }
            #[cfg(feature = "fixed-lane")]
            (Self::FixedLane, None) => Ok(fixed_lane::reference::encode(element, words, len)),
            #[cfg(feature = "fixed-lane")]
            (Self::FixedLane, Some(gpu)) => {
                fixed_lane::encode_async(gpu, element, &upload(gpu, words).await?, len, control).await
            }
        }
    }

    /// The words of the `len` values of a chunk; errors say what of the payload is wrong.
    async fn decode(
        self,
        gpu: Option<&Gpu>,
        element: Element,
        payload: &[u32],
        len: usize,
        control: &Control,
    ) -> Result<Vec<u32>> {
        if len > MAX_CHUNK {
            return Err(Error::bad_input(format!("a chunk of {len} values, more than {MAX_CHUNK}")));
        }
        if len == 0 {
            return if payload.is_empty() { Ok(Vec::new()) } else { Err(Error::bad_input("a payload of no values")) };
        }
        let tensor = match (self, gpu) {
            (Self::Raw, _) => return raw::decode(element, payload, len),
            (codec, _) if !codec.takes(element) => {
                return Err(Error::bad_input(format!("codec {} has no {} values", codec.name(), element.name())));
            }
            (Self::Width, None) => return width::reference::decode(element, payload, len),
            (Self::Width, Some(gpu)) => width::decode_async(gpu, element, payload, len, control).await?,
            (Self::Rans | Self::Exponent, None) => return rans::reference::decode(element, payload, len),
            (Self::Rans, Some(gpu)) => rans::decode_async(gpu, element, payload, len, control).await?,
            (Self::Exponent, Some(gpu)) => exponent::decode_async(gpu, element, payload, len, control).await?,
            #[cfg(feature = "fixed-lane")]
            (Self::FixedLane, None) => return fixed_lane::reference::decode(element, payload, len),
            #[cfg(feature = "fixed-lane")]
            (Self::FixedLane, Some(gpu)) => fixed_lane::decode_async(gpu, element, payload, len, control).await?,
        };
        let Some(gpu) = gpu else { return Err(Error::internal("a device's array without a device")) };
        let mut recording = crate::gpu::Recording::new();
        let ticket = tensor.record_read(&mut recording);
        let mut output = gpu.run_async(&recording, control).await?;
        Ok(tensor.take(&mut output, ticket))
    }
}

async fn upload(gpu: &Gpu, words: &[u32]) -> Result<Tensor<u32>> {
    Tensor::from_slice_async(gpu, &[words.len()], words).await
}

/// How tensors go into a file.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct EncodeOptions {
    /// The codec of all tensors that it takes; `None` for [`Codec::best`] of each.
    pub codec: Option<Codec>,
    /// Values of a chunk: a multiple of 256, at most [`MAX_CHUNK`].
    pub chunk: usize,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self { codec: None, chunk: CHUNK }
    }
}

/// Writes tensors to a file, coded on the device or, without one, on the host: the bytes are the same.
///
/// # Errors
/// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] for two tensors of one name and for options out of range;
/// [`crate::ErrorKind::Cancelled`]; those of the device.
pub async fn encode_async(
    file: &Path,
    tensors: &[Values],
    options: &EncodeOptions,
    gpu: Option<&Gpu>,
    control: &Control,
) -> Result<Written> {
    let draft = draft::Draft::beside(file, None)?;
    let mut writer = Writer::new(BufWriter::new(&draft.file), file, options)?.on(gpu).controlled(control);
    for (done, values) in (0..).zip(tensors) {
        control.report(values.name(), done, tensors.len() as u64, "tensors");
        writer.write_async(values).await?;
    }
    let (sink, written) = writer.finish()?;
    sink.into_inner().map_err(|e| Error::io(file, e.into_error()))?;
    draft.keep()?;
    Ok(written)
}

/// Blocking twin of [`encode_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn encode(
    file: &Path,
    tensors: &[Values],
    options: &EncodeOptions,
    gpu: Option<&Gpu>,
    control: &Control,
) -> Result<Written> {
    pollster::block_on(encode_async(file, tensors, options, gpu, control))
}

/// Reads all tensors of a file, decoded on the device or, without one, on the host.
///
/// # Errors
/// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] that says where the file is damaged; [`crate::ErrorKind::Unsupported`] for
/// what a newer version wrote; [`crate::ErrorKind::Cancelled`]; those of the device.
pub async fn decode_async(file: &Path, gpu: Option<&Gpu>, control: &Control) -> Result<Vec<Values>> {
    let source = BufReader::new(File::open(file).map_err(|error| Error::io(file, error))?);
    let mut reader = Reader::new(source, file)?.on(gpu).controlled(control);
    let names: Vec<String> = reader.entries().iter().map(|entry| entry.head().name.clone()).collect();
    let mut tensors = Vec::new();
    for (done, name) in (0..).zip(&names) {
        control.report(name, done, names.len() as u64, "tensors");
        tensors.push(reader.tensor_async(name).await?);
    }
    Ok(tensors)
}

/// Blocking twin of [`decode_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn decode(file: &Path, gpu: Option<&Gpu>, control: &Control) -> Result<Vec<Values>> {
    pollster::block_on(decode_async(file, gpu, control))
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let kernels = [layout::catalogue(), width::catalogue(), rans::catalogue(), matmul::catalogue()].concat();
    #[cfg(feature = "fixed-lane")]
    let kernels = [kernels, fixed_lane::catalogue()].concat();
    kernels
}
