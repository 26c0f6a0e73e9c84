//! Operators that only move elements.

use super::{Scalar, Tensor};
use crate::graph::shape::{lattice, stride};
use std::borrow::Cow;

/// The input within a frame of `value`; `out` is the result's shape.
pub(super) fn pad<T: Scalar>(x: &Tensor<T>, pads: &[[usize; 2]], value: f32, out: &[usize]) -> Vec<T> {
    let mut data = vec![T::exact(f64::from(value)); out.iter().product()];
    let axes = x.shape.iter().zip(pads).enumerate();
    let inside = lattice(axes.map(|(i, (&dim, pad))| (0..dim).map(|at| (at + pad[0]) * stride(out, i)).collect()));
    for (at, &x) in inside.into_iter().zip(&x.data) {
        data[at] = x;
    }
    data
}

/// Operands behind each other along an axis.
pub(super) fn concat<T: Scalar>(operands: &[Cow<'_, Tensor<T>>], axis: usize) -> Vec<T> {
    let Some(first) = operands.first() else {
        return Vec::new();
    };
    let outer: usize = first.shape[..axis].iter().product();
    let size = |x: &Tensor<T>| x.data.len() / outer.max(1);
    (0..outer).flat_map(|at| operands.iter().flat_map(move |x| x.data[at * size(x)..][..size(x)].to_vec())).collect()
}

/// The elements at these indices.
pub(super) fn select<T: Scalar>(x: &Tensor<T>, indices: &[usize]) -> Vec<T> {
    indices.iter().map(|&index| x.data[index]).collect()
}
