//! Shapes of normalisations, of the causal softmax and of embeddings.

use super::{Shape, check_axis};

/// Operands behind the first that must all have one shape.
fn parameters(operands: &[&[usize]], wanted: &[usize]) -> Result<(), String> {
    match operands[1..].iter().find(|shape| **shape != wanted) {
        Some(shape) => Err(format!("a parameter of shape {shape:?} where {:?} needs {wanted:?}", operands[0])),
        None => Ok(()),
    }
}

/// The number of channels of `[1, C, ...]`.
fn channels(x: &[usize]) -> Result<usize, String> {
    match x {
        [1, channels, ..] => Ok(*channels),
        _ => Err(format!("an operand of shape {x:?} where [1, channels, ...] is expected")),
    }
}

pub(super) fn batch_normalization(operands: &[&[usize]]) -> Shape {
    parameters(operands, &[channels(operands[0])?])?;
    Ok(operands[0].to_vec())
}

pub(super) fn layer_normalization(operands: &[&[usize]], axis: usize) -> Shape {
    check_axis(axis, operands[0])?;
    parameters(operands, &operands[0][axis..])?;
    Ok(operands[0].to_vec())
}

pub(super) fn group_normalization(operands: &[&[usize]], groups: usize) -> Shape {
    let channels = channels(operands[0])?;
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(format!("{channels} channels do not divide into {groups} groups"));
    }
    parameters(operands, &[channels])?;
    Ok(operands[0].to_vec())
}

pub(super) fn causal_softmax(x: &[usize]) -> Shape {
    match x {
        [.., rows, columns] if rows == columns => Ok(x.to_vec()),
        _ => Err(format!("an operand of shape {x:?}, which is no stack of square matrices")),
    }
}

pub(super) fn embedding(operands: &[&[usize]], padding: Option<usize>) -> Shape {
    let &[rows, width] = operands[1] else {
        return Err(format!("a table of shape {:?} where [rows, width] is expected", operands[1]));
    };
    if let Some(row) = padding.filter(|&row| row >= rows) {
        return Err(format!("padding row {row} of a table of {rows} rows"));
    }
    Ok([operands[0], &[width]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Op;
    use crate::graph::shape::infer;

    #[test]
    fn normalisations_check_their_parameters() {
        let batch = |x: &[usize], c: &[usize]| batch_normalization(&[x, c, c, c, c]);
        assert_eq!(batch(&[1, 3, 2], &[3]), Ok(vec![1, 3, 2]));
        assert_eq!(batch(&[1, 3], &[3]), Ok(vec![1, 3]));
        assert!(batch(&[1, 3, 2], &[2]).is_err() && batch(&[2, 3], &[3]).is_err() && batch(&[1], &[1]).is_err());
        let layer = |x: &[usize], c: &[usize], axis| layer_normalization(&[x, c, c], axis);
        assert_eq!(layer(&[1, 4, 6], &[6], 2), Ok(vec![1, 4, 6]));
        assert_eq!(layer(&[1, 4, 6], &[4, 6], 1), Ok(vec![1, 4, 6]));
        assert!(layer(&[1, 4, 6], &[6], 1).unwrap_err().contains("[4, 6]"));
        assert!(layer(&[1, 4], &[], 2).unwrap_err().contains("axis 2"));
        let group = |x: &[usize], c: &[usize], groups| group_normalization(&[x, c, c], groups);
        assert_eq!(group(&[1, 6, 2], &[6], 3), Ok(vec![1, 6, 2]));
        assert!(group(&[1, 6, 2], &[6], 4).unwrap_err().contains("4 groups"));
        assert!(group(&[1, 6, 2], &[3], 3).is_err() && group(&[1, 6], &[6], 0).is_err());
        assert!(group(&[2, 6], &[6], 2).is_err());
    }

    #[test]
    fn tables_masks_and_rates_are_checked() {
        assert_eq!(embedding(&[&[1, 5], &[10, 4]], Some(9)), Ok(vec![1, 5, 4]));
        assert!(embedding(&[&[1, 5], &[10, 4]], Some(10)).unwrap_err().contains("row 10"));
        assert!(embedding(&[&[1, 5], &[10]], None).is_err());
        assert_eq!(causal_softmax(&[2, 3, 3]), Ok(vec![2, 3, 3]));
        assert!(causal_softmax(&[2, 3]).is_err() && causal_softmax(&[3]).is_err());
        assert!(infer(&Op::Dropout { rate: 0.0 }, &[&[2]], &[]).is_ok());
        for rate in [1.0, -0.1, f32::NAN] {
            assert!(infer(&Op::Dropout { rate }, &[&[2]], &[]).unwrap_err().contains("rate"));
        }
    }
}
