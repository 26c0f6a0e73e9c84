//! The target shapes of Flatten, Reshape, Squeeze and Unsqueeze, all of which become
//! [`Op::Reshape`](crate::graph::Op::Reshape).

use crate::graph::shape::{Shape, elements};

/// The target of `Reshape`: -1 is what is left (once), 0 copies the input's dimension.
pub(super) fn reshape(from: &[usize], spec: &[i64], allow_zero: bool) -> Shape {
    let misfit = |why: &str| Err(format!("shape {from:?} cannot become {spec:?}: {why}"));
    let mut target = Vec::with_capacity(spec.len());
    let mut free = None;
    for (i, &dim) in spec.iter().enumerate() {
        match (dim, from.get(i)) {
            (-1, _) if free.is_some() => return misfit("-1 may stand only once"),
            (-1, _) => {
                free = Some(i);
                target.push(1);
            }
            (0, _) if allow_zero => return misfit("empty tensors are not supported"),
            (0, Some(&same)) => target.push(same),
            (0, None) => return misfit("a 0 stands where the input has no dimension"),
            (dim, _) => match usize::try_from(dim) {
                Ok(dim) => target.push(dim),
                Err(_) => return misfit("a dimension is negative"),
            },
        }
    }
    let (have, fixed) = (elements(from)?, elements(&target)?);
    if let Some(i) = free
        && fixed > 0
        && have % fixed == 0
    {
        target[i] = have / fixed;
    }
    if elements(&target)? != have {
        return misfit(&format!("{have} elements do not fit"));
    }
    Ok(target)
}

/// A possibly negative axis as an index; `rank` itself is allowed if `inclusive`.
pub(super) fn axis(axis: i64, rank: usize, inclusive: bool) -> Result<usize, String> {
    let rank_i = i64::try_from(rank).unwrap_or(i64::MAX);
    let at = if axis < 0 { axis.saturating_add(rank_i) } else { axis };
    usize::try_from(at)
        .ok()
        .filter(|&at| at < rank || (inclusive && at == rank))
        .ok_or_else(|| format!("axis {axis} is outside a tensor of {rank} dimensions"))
}

/// `Flatten`: the dimensions before and from `at`, each multiplied into one.
pub(super) fn flatten(from: &[usize], at: i64) -> Shape {
    elements(from)?;
    let (rows, columns) = from.split_at(axis(at, from.len(), true)?);
    Ok(vec![rows.iter().product(), columns.iter().product()])
}

/// `Squeeze`: without the dimensions `axes`, or without all that are 1.
pub(super) fn squeeze(from: &[usize], axes: Option<&[i64]>) -> Shape {
    let Some(axes) = axes else {
        return Ok(from.iter().copied().filter(|&dim| dim != 1).collect());
    };
    let mut drop = vec![false; from.len()];
    for &at in axes {
        let i = axis(at, from.len(), false)?;
        if from[i] != 1 {
            return Err(format!("axis {at} of shape {from:?} is not 1 and cannot be squeezed"));
        }
        drop[i] = true;
    }
    let kept = from.iter().zip(&drop).filter(|(_, drop)| !**drop);
    Ok(kept.map(|(&dim, _)| dim).collect())
}

/// `Unsqueeze`: with new dimensions of 1 at `axes` of the output.
pub(super) fn unsqueeze(from: &[usize], axes: &[i64]) -> Shape {
    let rank = from.len().saturating_add(axes.len());
    let mut new = vec![false; rank];
    for &at in axes {
        let i = axis(at, rank, false)?;
        if std::mem::replace(&mut new[i], true) {
            return Err(format!("axis {at} is named twice in {axes:?}"));
        }
    }
    let mut old = from.iter().copied();
    Ok(new.iter().map(|&new| if new { 1 } else { old.next().unwrap_or(1) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reshape_resolves_zero_and_minus_one() {
        assert_eq!(reshape(&[1, 2, 6], &[0, -1], false), Ok(vec![1, 12]));
        assert_eq!(reshape(&[1], &[], false), Ok(vec![]));
        assert_eq!(reshape(&[2, 3], &[-1, 2], false), Ok(vec![3, 2]));
        for bad in [&[-1, -1][..], &[4, -1], &[5], &[0, 0, 0], &[-2, 3], &[i64::MAX, 2]] {
            assert!(reshape(&[2, 3], bad, false).is_err(), "{bad:?}");
        }
        assert!(reshape(&[2, 3], &[0, 3], true).is_err());
    }

    #[test]
    fn flatten_squeeze_and_unsqueeze_take_negative_axes() {
        assert_eq!(flatten(&[2, 3, 4], 1), Ok(vec![2, 12]));
        assert_eq!(flatten(&[2, 3, 4], -1), Ok(vec![6, 4]));
        assert_eq!(flatten(&[2, 3], 0), Ok(vec![1, 6]));
        assert!(flatten(&[2, 3], 3).is_err());
        assert!(flatten(&[usize::MAX, 2], 1).is_err());
        assert_eq!(squeeze(&[1, 3, 1], None), Ok(vec![3]));
        assert_eq!(squeeze(&[1, 3, 1], Some(&[-1])), Ok(vec![1, 3]));
        assert!(squeeze(&[1, 3, 1], Some(&[1])).is_err());
        assert_eq!(unsqueeze(&[3], &[0, -1]), Ok(vec![1, 3, 1]));
        assert!(unsqueeze(&[3], &[0, 0]).is_err());
        assert!(unsqueeze(&[3], &[i64::MIN]).is_err());
    }
}
