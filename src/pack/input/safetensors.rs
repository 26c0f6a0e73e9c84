//! Tensors of a safetensors file, read one at a time: each is weights that belong to no layer.
//!
//! Axes are torch's: `[out, in]`, and `[filter, channel, ky, kx]`, of which channels become the last axis; `[channels, 1, ky, kx]` is
//! taken as depthwise, one filter of all channels. F16, BF16, I8, U8 and I16 are stored as they are, F32 and F64 as the options say;
//! other tensors are left out with a note.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::ReadOptions;
use super::layers::WeightForm;
use crate::error::{Error, Result};
use crate::pack::layer::Workload;
use crate::pack::quantise;
use crate::pack::values::{Element, Kind, Values};

/// Longest header that the format allows.
const LONGEST: u64 = 100_000_000;

pub(super) fn read(path: &Path, options: &ReadOptions) -> Result<Workload> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
    let mut file = BufReader::new(file);
    let (start, header) = header(&mut file, length).map_err(|e| e.in_file(path))?;
    let mut workload = Workload::default();
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let Some(element) = element(info.dtype).filter(|_| !info.shape.contains(&0)) else {
            let note = format!("tensor '{name}' of type {:?} and shape {:?} is left out", info.dtype, info.shape);
            workload.notes.push(note);
            continue;
        };
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        file.seek(SeekFrom::Start(start + from as u64))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| Error::io(path, e))?;
        workload.loose.push(tensor(&name, info, element, &bytes, options)?);
    }
    Ok(workload)
}

/// Where data begins, and what there is.
pub(in crate::pack) fn header(file: &mut impl Read, length: u64) -> Result<(u64, Metadata)> {
    let damaged = |why: String| {
        Error::bad_input(format!("this is no safetensors file, or it is cut off: {why}"))
            .with_help("write it again, with safetensors.torch.save_file for example")
    };
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|e| damaged(e.to_string()))?;
    let size = u64::from_le_bytes(size);
    if size > LONGEST || size > length {
        return Err(damaged(format!("its header would have {size} bytes")));
    }
    let mut text = Vec::new();
    file.take(size).read_to_end(&mut text).map_err(|e| damaged(e.to_string()))?;
    let header: Metadata = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
    let (have, want) = (length - 8 - size.min(length - 8), header.data_len() as u64);
    if have != want {
        return Err(damaged(format!("{want} bytes of tensors are promised, {have} are there")));
    }
    Ok((8 + size, header))
}

/// What elements of a type are; those to be quantised first are `None` inside.
fn element(dtype: Dtype) -> Option<Option<Element>> {
    match dtype {
        Dtype::F32 | Dtype::F64 => Some(None),
        stored => element_of(stored).map(Some),
    }
}

/// The container that holds a type as it is.
pub(in crate::pack) fn element_of(dtype: Dtype) -> Option<Element> {
    match dtype {
        Dtype::F16 => Some(Element::F16),
        Dtype::BF16 => Some(Element::Bf16),
        Dtype::I8 => Some(Element::I8),
        Dtype::U8 => Some(Element::U8),
        Dtype::I16 => Some(Element::I16),
        _ => None,
    }
}

fn tensor(
    name: &str,
    info: &TensorInfo,
    element: Option<Element>,
    bytes: &[u8],
    options: &ReadOptions,
) -> Result<Values> {
    let (dims, form) = match info.shape.as_slice() {
        [] => (vec![1, 1], WeightForm::Rows),
        &[n] => (vec![1, n], WeightForm::Rows),
        &[m, n] => (vec![m, n], WeightForm::Rows),
        &[m, c, x] => (vec![m, c, 1, x], WeightForm::conv(&[m, c], if x > 1 { m } else { 1 })),
        &[m, c, y, x] => (vec![m, c, y, x], WeightForm::conv(&[m, c], if y * x > 1 { m } else { 1 })),
        [m, rest @ ..] => (vec![*m, rest.iter().product()], WeightForm::Rows),
    };
    let (shape, order) = form.order(&dims);
    let halves = |i: usize| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]);
    match element {
        Some(element) if element.bits() == 8 => {
            Values::from_bytes(name, Kind::Weights, element, &shape, order.iter().map(|&i| bytes[i]).collect())
        }
        Some(element) => {
            Values::from_halves(name, Kind::Weights, element, &shape, order.iter().map(|&i| halves(i)).collect())
        }
        None => {
            let numbers: Vec<f32> = if info.dtype == Dtype::F64 {
                bytes.as_chunks().0.iter().map(|&eight| f64::from_le_bytes(eight) as f32).collect()
            } else {
                bytes.as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect()
            };
            let arranged: Vec<f32> = order.iter().map(|&i| numbers[i]).collect();
            quantise::weights(name, shape, &arranged, form.filters(), &options.weights).map(|q| q.values)
        }
    }
}
