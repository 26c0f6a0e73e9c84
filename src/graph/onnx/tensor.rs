//! Constants: from the file's tensors to `f32` numbers and integers, without losing anything silently.

use crate::error::{Error, Result};
use crate::graph::shape::elements;
use ndarray::{ArrayD, IxDyn};
use rten_onnx::onnx::{DataLocation, DataType, TensorProto};
use std::sync::Arc;

/// A constant of the file.
#[derive(Debug, Clone)]
pub(super) enum Constant {
    /// Numbers of the network.
    Float(Arc<ArrayD<f32>>),
    /// Shapes, axes and switches.
    Int(Integers),
}

/// A tensor of integers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Integers {
    pub(super) dims: Vec<usize>,
    /// In row-major order; one for each element of `dims`.
    pub(super) data: Vec<i64>,
}

impl Integers {
    pub(super) fn scalar(number: i64) -> Self {
        Self { dims: Vec::new(), data: vec![number] }
    }

    pub(super) fn list(data: Vec<i64>) -> Self {
        Self { dims: vec![data.len()], data }
    }
}

/// Decodes a tensor; `name` is what errors call it.
pub(super) fn decode(tensor: &TensorProto, name: &str) -> Result<Constant> {
    let external = tensor.data_location == Some(DataLocation::EXTERNAL);
    if external || !tensor.external_data.is_empty() {
        return Err(Error::unsupported(format!("tensor '{name}' keeps its data in another file"))
            .with_help("put all into one file: onnx.save(onnx.load(file), new, save_as_external_data=False)"));
    }
    let (dims, len) = dims(&tensor.dims, name)?;
    match tensor.data_type {
        Some(DataType::FLOAT) => float(name, &dims, floats(tensor, name, len)?),
        Some(DataType::DOUBLE) => float(name, &dims, doubles(tensor, name, len)?),
        Some(DataType::INT64) => {
            let data = integers(tensor, name, len, &tensor.int64_data, i64::from_le_bytes)?;
            Ok(Constant::Int(Integers { dims, data }))
        }
        Some(DataType::INT32) => {
            let typed: Vec<i64> = tensor.int32_data.iter().copied().map(i64::from).collect();
            let number = |bytes| i64::from(i32::from_le_bytes(bytes));
            let data = integers(tensor, name, len, &typed, number)?;
            Ok(Constant::Int(Integers { dims, data }))
        }
        Some(DataType::BOOL) => {
            let typed: Vec<i64> = tensor.int32_data.iter().copied().map(i64::from).collect();
            let data = integers(tensor, name, len, &typed, |[byte]| i64::from(byte))?;
            Ok(Constant::Int(Integers { dims, data }))
        }
        other => {
            let kind = other.map_or("no type".to_owned(), |kind| kind.to_string());
            Err(Error::unsupported(format!("tensor '{name}' has element type {kind}"))
                .with_help("weights must be FLOAT (or DOUBLE with values that f32 holds exactly)"))
        }
    }
}

/// A constant of `f32` numbers, all of them finite.
pub(super) fn float(name: &str, dims: &[usize], data: Vec<f32>) -> Result<Constant> {
    if data.is_empty() {
        return Err(Error::unsupported(format!("tensor '{name}' is empty (shape {dims:?})")));
    }
    if let Some(i) = data.iter().position(|x| !x.is_finite()) {
        let what = if data[i].is_nan() { "NaN" } else { "an infinity" };
        let at = place(i, dims);
        return Err(Error::bad_input(format!("tensor '{name}' holds {what} at {at:?}"))
            .with_help("the training probably diverged; export the network from a sound checkpoint"));
    }
    ArrayD::from_shape_vec(IxDyn(dims), data)
        .map(|array| Constant::Float(Arc::new(array)))
        .map_err(|_| Error::bad_input(format!("tensor '{name}' does not fit shape {dims:?}")))
}

/// The dimensions and their product.
fn dims(dims: &[i64], name: &str) -> Result<(Vec<usize>, usize)> {
    let bad = |why: String| Error::bad_input(format!("tensor '{name}': {why}"));
    let converted: Option<Vec<usize>> = dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let converted = converted.ok_or_else(|| bad(format!("a dimension of {dims:?} is negative")))?;
    let len = elements(&converted).map_err(bad)?;
    Ok((converted, len))
}

/// The coordinates of a flat index.
fn place(mut index: usize, dims: &[usize]) -> Vec<usize> {
    let mut place: Vec<usize> = dims
        .iter()
        .rev()
        .map(|&dim| {
            let at = index % dim.max(1);
            index /= dim.max(1);
            at
        })
        .collect();
    place.reverse();
    place
}

/// The tensor's numbers from its raw bytes, if it has any.
fn raw<T, const N: usize>(
    tensor: &TensorProto,
    name: &str,
    len: usize,
    number: impl Fn([u8; N]) -> T,
) -> Result<Option<Vec<T>>> {
    let Some(raw) = &tensor.raw_data else {
        return Ok(None);
    };
    let raw = raw.borrow();
    if raw.is_empty() {
        return Ok(None);
    }
    let (chunks, rest) = raw.as_chunks::<N>();
    if chunks.len() != len || !rest.is_empty() {
        let have = raw.len();
        return Err(wrong_length(tensor, name, &format!("{have} bytes, not {} ", len * N)));
    }
    Ok(Some(chunks.iter().map(|&chunk| number(chunk)).collect()))
}

fn wrong_length(tensor: &TensorProto, name: &str, why: &str) -> Error {
    Error::bad_input(format!("tensor '{name}' of shape {:?} has {}", tensor.dims, why.trim_end()))
        .with_help("the file is damaged or was written wrongly; export it again")
}

fn typed<T: Clone>(tensor: &TensorProto, name: &str, len: usize, data: &[T]) -> Result<Vec<T>> {
    if data.len() == len {
        return Ok(data.to_vec());
    }
    Err(wrong_length(tensor, name, &format!("{} numbers, not {len}", data.len())))
}

fn floats(tensor: &TensorProto, name: &str, len: usize) -> Result<Vec<f32>> {
    match raw(tensor, name, len, f32::from_le_bytes)? {
        Some(data) => Ok(data),
        None => typed(tensor, name, len, &tensor.float_data),
    }
}

/// `f64` numbers, each of which `f32` must hold exactly: rounding them would change the network under proof.
fn doubles(tensor: &TensorProto, name: &str, len: usize) -> Result<Vec<f32>> {
    let data = match raw(tensor, name, len, f64::from_le_bytes)? {
        Some(data) => data,
        None => typed(tensor, name, len, &tensor.double_data)?,
    };
    let narrow = |(i, &x): (usize, &f64)| {
        let narrow = x as f32;
        if x.is_nan() || f64::from(narrow) == x {
            return Ok(narrow);
        }
        let at = place(i, &tensor.dims.iter().map(|&d| d.unsigned_abs() as usize).collect::<Vec<_>>());
        Err(Error::unsupported(format!(
            "tensor '{name}' holds the f64 number {x:e} at {at:?}, which f32 cannot hold exactly"
        ))
        .with_help("convert the network to f32 before exporting it, and prove that one"))
    };
    data.iter().enumerate().map(narrow).collect()
}

fn integers<const N: usize>(
    tensor: &TensorProto,
    name: &str,
    len: usize,
    data: &[i64],
    number: impl Fn([u8; N]) -> i64,
) -> Result<Vec<i64>> {
    match raw(tensor, name, len, number)? {
        Some(data) => Ok(data),
        None => typed(tensor, name, len, data),
    }
}
