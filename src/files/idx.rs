//! IDX, the format of MNIST: a magic number that holds the element type and the number of axes, sizes as big-endian words, elements.

use ndarray::{ArrayD, IxDyn};

use crate::error::{Error, Result};

/// The array of a file of bytes.
pub(crate) fn parse(bytes: &[u8]) -> Result<ArrayD<u8>> {
    let no_idx = || {
        Error::bad_input(
            "this is no IDX file: it must start with two zero bytes, the element type and the number of axes",
        )
        .with_help("files of MNIST are named like train-images-idx3-ubyte.gz")
    };
    let [0, 0, kind, axes, rest @ ..] = bytes else { return Err(no_idx()) };
    match kind {
        0x08 => {}
        0x09 | 0x0b..=0x0e => {
            return Err(Error::unsupported(format!("IDX elements of type 0x{kind:02x}; only bytes (0x08) are read"))
                .with_help("save the array as NPY"));
        }
        _ => return Err(no_idx()),
    }
    let axes = usize::from(*axes);
    let cut = || Error::bad_input("the file is cut off within its header").with_help("download the file again");
    let (header, elements) = rest.split_at_checked(axes * 4).ok_or_else(cut)?;
    let word = |b: &[u8]| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize;
    let shape: Vec<usize> = header.chunks_exact(4).map(word).collect();
    let promised = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if shape.is_empty() || promised != Some(elements.len()) {
        return Err(Error::bad_input(format!("the header promises {shape:?} bytes, but {} follow it", elements.len()))
            .with_help("the file is cut off or damaged: download it again"));
    }
    ArrayD::from_shape_vec(IxDyn(&shape), elements.to_vec()).map_err(|e| Error::internal(e.to_string()))
}
