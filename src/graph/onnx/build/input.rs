//! The network's input.

use crate::error::{Error, Result};
use crate::graph::onnx::order::value_name;
use crate::graph::shape::elements;
use rten_onnx::onnx::{DataType, ValueInfoProto};

/// The shape of the network's input for one sample, and whether it is one of integers.
pub(super) fn shape(info: &ValueInfoProto) -> Result<(Vec<usize>, bool)> {
    let name = value_name(info);
    let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let kind = tensor.and_then(|t| t.elem_type);
    let whole = matches!(kind, Some(DataType::INT32 | DataType::INT64));
    if !whole && !matches!(kind, Some(DataType::FLOAT | DataType::DOUBLE)) {
        let kind = kind.map_or("no element type".to_owned(), |kind| format!("type {kind}"));
        return Err(Error::unsupported(format!("the input '{name}' has {kind}"))
            .with_help("inputs must be FLOAT or DOUBLE tensors, or INT64 and INT32 ones that name rows of tables"));
    }
    let Some(declared) = tensor.and_then(|t| t.shape.as_ref()) else {
        return Err(Error::bad_input(format!("the input '{name}' declares no shape"))
            .with_help("export the network with a fixed input shape"));
    };
    let mut shape = Vec::with_capacity(declared.dim.len());
    for (i, dim) in declared.dim.iter().enumerate() {
        let fixed = dim.dim_value.filter(|&d| d > 0).and_then(|d| usize::try_from(d).ok());
        match fixed {
            Some(fixed) => shape.push(fixed),
            // The batch.
            None if i == 0 => shape.push(1),
            None => {
                let symbol = dim.dim_param.as_deref().unwrap_or("no size");
                return Err(Error::unsupported(format!(
                    "the input '{name}' has no fixed size in dimension {i} ({symbol})"
                ))
                .with_help("only the first dimension, the batch, may be open"));
            }
        }
    }
    elements(&shape).map_err(|why| Error::bad_input(format!("the input '{name}': {why}")))?;
    Ok((shape, whole))
}
