//! Samples to run a network on.

use std::path::Path;

use ndarray::{Array2, ArrayD, Axis, Slice};

use crate::error::{Error, Result};
use crate::files::{self, idx, npy};

/// Reads the first `most` samples of a file, along the first axis of its array: NPY, or IDX (the format of MNIST), gzipped or not.
/// Unsigned bytes are pixels and stand for p / 255; other numbers are taken as they are.
///
/// # Errors
/// `Io`; `BadInput` and `Unsupported` for files that are neither, all naming the file.
pub fn samples(path: &Path, most: usize) -> Result<ArrayD<f32>> {
    let bytes = files::bytes(path)?;
    let numbers = if bytes.starts_with(b"\x93NUMPY") {
        npy::parse(&bytes)
    } else if bytes.starts_with(&[0, 0]) {
        idx::parse(&bytes).map(npy::Numbers::U8)
    } else {
        Err(Error::unsupported("these are no samples that are read").with_help(
            "save an array of shape [samples, ..] with numpy.save, or give an IDX file such as MNIST's images",
        ))
    };
    let numbers = numbers.map_err(|e| e.in_file(path))?;
    if numbers.shape().is_empty() || most == 0 {
        return Err(Error::bad_input("there is no sample").in_file(path).with_help("the first axis counts samples"));
    }
    let take = Slice::from(..numbers.shape()[0].min(most));
    Ok(match numbers {
        npy::Numbers::U8(a) => a.slice_axis(Axis(0), take).mapv(|p| f32::from(p) / 255.0),
        other => other.into_f32().slice_axis(Axis(0), take).to_owned(),
    })
}

/// Samples as a network of whole numbers takes them.
pub(super) struct Given {
    /// How many there are.
    pub count: usize,
    /// Of one of them.
    pub shape: Vec<usize>,
    /// Sample after sample.
    pub numbers: Vec<f32>,
    /// They are codes of 8 bits, not numbers to quantise.
    pub codes: bool,
}

/// As [`samples`], and whether they are signed bytes, which are codes already.
pub(super) fn given(path: &Path, most: usize) -> Result<Given> {
    let bytes = files::bytes(path)?;
    let codes = bytes.starts_with(b"\x93NUMPY") && matches!(npy::parse(&bytes), Ok(npy::Numbers::I8(_)));
    let numbers = samples(path, most)?;
    let (count, shape) = (numbers.shape()[0], numbers.shape()[1..].to_vec());
    Ok(Given { count, shape, numbers: numbers.iter().copied().collect(), codes })
}

/// Samples `[n, ..]` as rows.
///
/// # Errors
/// `BadInput` for an array without axes.
pub fn flatten(samples: &ArrayD<f32>) -> Result<Array2<f32>> {
    let Some(&count) = samples.shape().first() else {
        return Err(
            Error::bad_input("one number where samples are expected").with_help("the first axis counts samples")
        );
    };
    let length = samples.shape()[1..].iter().product();
    Array2::from_shape_vec((count, length), samples.iter().copied().collect())
        .map_err(|e| Error::internal(e.to_string()))
}
