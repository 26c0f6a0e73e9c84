//! Constants of a file in any type that weights are stored in, as numbers.

use rten_onnx::onnx::{DataLocation, DataType, TensorProto};

use crate::error::{Error, Result};
use crate::pack::values::Element;

/// Most values of one constant: 2^28, as everywhere in a network.
const MAX_VALUES: usize = 1 << 28;

/// A constant.
#[derive(Debug, Clone)]
pub(super) struct Constant {
    pub(super) dims: Vec<usize>,
    pub(super) data: Data,
}

/// Its values.
#[derive(Debug, Clone)]
pub(super) enum Data {
    Numbers(Vec<f32>),
    /// Bit patterns of fp16 or bf16.
    Halves(Element, Vec<u16>),
    /// Whole numbers of so many bits.
    Whole {
        bits: u32,
        signed: bool,
        values: Vec<i32>,
    },
}

impl Constant {
    /// The numbers of a constant in floating point.
    pub(super) fn numbers(&self) -> Option<Vec<f32>> {
        match &self.data {
            Data::Numbers(numbers) => Some(numbers.clone()),
            Data::Halves(Element::F16, bits) => Some(bits.iter().map(|&b| half::f16::from_bits(b).to_f32()).collect()),
            Data::Halves(_, bits) => Some(bits.iter().map(|&b| half::bf16::from_bits(b).to_f32()).collect()),
            Data::Whole { .. } => None,
        }
    }
}

/// Decodes a constant; `None` for types that no weight is stored in (INT64, BOOL, strings).
pub(super) fn decode(tensor: &TensorProto) -> Result<Option<Constant>> {
    let name = tensor.name.as_deref().unwrap_or_default();
    if tensor.data_location == Some(DataLocation::EXTERNAL) || !tensor.external_data.is_empty() {
        return Err(Error::unsupported(format!("tensor '{name}' keeps its data in another file"))
            .with_help("put all into one file: onnx.save(onnx.load(file), new, save_as_external_data=False)"));
    }
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let len = dims.as_ref().and_then(|dims| dims.iter().try_fold(1_usize, |n, &d| n.checked_mul(d)));
    let (Some(dims), Some(len)) = (dims, len.filter(|&len| len <= MAX_VALUES)) else {
        return Err(Error::bad_input(format!("tensor '{name}' has the impossible shape {:?}", tensor.dims)));
    };
    let whole = |bits, signed, values: Option<Vec<i32>>| values.map(|values| Data::Whole { bits, signed, values });
    let typed = || tensor.int32_data.clone();
    let data = match tensor.data_type {
        Some(DataType::FLOAT) => {
            raw(tensor, len, f32::from_le_bytes).or_else(|| fits(tensor.float_data.clone(), len)).map(Data::Numbers)
        }
        Some(DataType::FLOAT16) => halves(tensor, len).map(|bits| Data::Halves(Element::F16, bits)),
        Some(DataType::BFLOAT16) => halves(tensor, len).map(|bits| Data::Halves(Element::Bf16, bits)),
        Some(DataType::INT8) => {
            let values = raw(tensor, len, |[b]| i32::from(b.cast_signed())).or_else(|| fits(typed(), len));
            whole(8, true, values.filter(|v| within(v, -128, 127)))
        }
        Some(DataType::UINT8) => {
            let values = raw(tensor, len, |[b]| i32::from(b)).or_else(|| fits(typed(), len));
            whole(8, false, values.filter(|v| within(v, 0, 255)))
        }
        Some(DataType::INT16) => {
            let values = raw(tensor, len, |b| i32::from(i16::from_le_bytes(b))).or_else(|| fits(typed(), len));
            whole(16, true, values.filter(|v| within(v, -32768, 32767)))
        }
        Some(DataType::UINT16) => {
            let values = raw(tensor, len, |b| i32::from(u16::from_le_bytes(b))).or_else(|| fits(typed(), len));
            whole(16, false, values.filter(|v| within(v, 0, 65535)))
        }
        Some(DataType::INT32) => whole(32, true, raw(tensor, len, i32::from_le_bytes).or_else(|| fits(typed(), len))),
        Some(DataType::INT4) => {
            whole(4, true, nibbles(tensor, len).map(|v| v.iter().map(|n| (n << 28) >> 28).collect()))
        }
        Some(DataType::UINT4) => whole(4, false, nibbles(tensor, len)),
        _ => return Ok(None),
    };
    let data = data.ok_or_else(|| {
        Error::bad_input(format!("tensor '{name}' of shape {dims:?} does not have {len} values of its type"))
            .with_help("the file is damaged or was written wrongly; export it again")
    })?;
    if let Data::Numbers(numbers) = &data
        && let Some(at) = numbers.iter().position(|x| !x.is_finite())
    {
        return Err(Error::bad_input(format!("tensor '{name}' holds {} at value {at}", numbers[at]))
            .with_help("the training probably diverged; export the network from a sound checkpoint"));
    }
    Ok(Some(Constant { dims, data }))
}

/// Values from raw bytes, if that is how they are stored.
fn raw<T, const N: usize>(tensor: &TensorProto, len: usize, value: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
    let bytes = tensor.raw_data.as_ref()?.borrow();
    let (chunks, rest) = bytes.as_chunks::<N>();
    (chunks.len() == len && rest.is_empty()).then(|| chunks.iter().map(|&chunk| value(chunk)).collect())
}

fn fits<T>(values: Vec<T>, len: usize) -> Option<Vec<T>> {
    Some(values).filter(|values| values.len() == len)
}

fn within(values: &[i32], least: i32, most: i32) -> bool {
    values.iter().all(|v| (least..=most).contains(v))
}

fn halves(tensor: &TensorProto, len: usize) -> Option<Vec<u16>> {
    let typed = || tensor.int32_data.iter().map(|&bits| u16::try_from(bits).ok()).collect::<Option<Vec<_>>>();
    raw(tensor, len, u16::from_le_bytes).or_else(|| fits(typed()?, len))
}

/// Two values a byte, the first in the low bits.
fn nibbles(tensor: &TensorProto, len: usize) -> Option<Vec<i32>> {
    let packed = len.div_ceil(2);
    let typed = || tensor.int32_data.iter().map(|&byte| u8::try_from(byte & 0xff).ok()).collect::<Option<Vec<_>>>();
    let bytes = raw(tensor, packed, |[b]| b).or_else(|| fits(typed()?, packed))?;
    let both = bytes.iter().flat_map(|&byte| [i32::from(byte & 15), i32::from(byte >> 4)]);
    Some(both.take(len).collect())
}
