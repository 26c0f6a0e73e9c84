//! Softmax, Gelu, normalisations and embeddings.

use super::{Scalar, Tensor};
use crate::graph::shape::stride;

/// The root of 2 / pi = 0.79788456080286535587989211986876...
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

/// `exp(x - max) / sum exp(x - max)` along an axis.
pub(super) fn softmax<T: Scalar>(x: &Tensor<T>, axis: usize) -> Vec<T> {
    let (len, step) = (x.shape[axis], stride(&x.shape, axis));
    let mut data = x.data.clone();
    for start in (0..data.len()).filter(|at| at / step % len == 0) {
        normalise(&mut data, (0..len).map(|i| start + i * step));
    }
    data
}

/// Softmax of the columns 0 to r of row r of square matrices; the others are 0.
pub(super) fn causal_softmax<T: Scalar>(x: &Tensor<T>) -> Vec<T> {
    let len = x.shape.last().copied().unwrap_or(1).max(1);
    let mut data = x.data.clone();
    for (i, row) in data.chunks_exact_mut(len).enumerate() {
        let (seen, hidden) = row.split_at_mut(i % len + 1);
        normalise(seen, 0..seen.len());
        hidden.fill(T::ZERO);
    }
    data
}

/// Softmax of the elements at some places. Any number may stand for the maximum without changing the result.
fn normalise<T: Scalar>(data: &mut [T], places: impl Iterator<Item = usize> + Clone) {
    let largest = places.clone().map(|at| data[at].value()).fold(f64::MIN, f64::max);
    let mut sum = T::ZERO;
    for at in places.clone() {
        data[at] = data[at].sub(T::exact(largest)).exp();
        sum = sum.add(data[at]);
    }
    for at in places {
        data[at] = data[at].div(sum);
    }
}

/// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
pub(super) fn gelu<T: Scalar>(x: T) -> T {
    let cubic = T::nearest(0.044715).mul(x).mul(x).mul(x);
    let inner = T::nearest(SQRT_2_OVER_PI).mul(x.add(cubic));
    T::exact(0.5).mul(x).mul(T::exact(1.0).add(inner.tanh()))
}

/// `(x - mean) / sqrt(variance + epsilon) * scale + bias` for each channel (axis 1 of `[1, C, ...]`).
pub(super) fn batch_normalization<T: Scalar>(x: &Tensor<T>, parameters: [&[T]; 4], epsilon: f32) -> Vec<T> {
    let [scale, bias, mean, variance] = parameters;
    let size = stride(&x.shape, 1);
    let mut data = x.data.clone();
    for (c, plane) in data.chunks_exact_mut(size.max(1)).enumerate() {
        let factor = scale[c].div(variance[c].add(T::exact(f64::from(epsilon))).sqrt());
        plane.iter_mut().for_each(|x| *x = x.sub(mean[c]).mul(factor).add(bias[c]));
    }
    data
}

/// Subtracts the mean of some elements and divides by the root of their variance.
fn standardise<T: Scalar>(part: &mut [T], epsilon: f32) {
    let count = T::exact(part.len() as f64);
    let mean = part.iter().fold(T::ZERO, |sum, &x| sum.add(x)).div(count);
    part.iter_mut().for_each(|x| *x = x.sub(mean));
    let variance = part.iter().fold(T::ZERO, |sum, &x| sum.add(x.mul(x))).div(count);
    let deviation = variance.add(T::exact(f64::from(epsilon))).sqrt();
    part.iter_mut().for_each(|x| *x = x.div(deviation));
}

/// Rows of the axes from `axis` on, standardised, times `scale` plus `bias`.
pub(super) fn layer_normalization<T: Scalar>(x: &Tensor<T>, parameters: [&[T]; 2], epsilon: f32) -> Vec<T> {
    let [scale, bias] = parameters;
    let mut data = x.data.clone();
    for row in data.chunks_exact_mut(scale.len().max(1)) {
        standardise(row, epsilon);
        row.iter_mut().zip(scale.iter().zip(bias)).for_each(|(x, (&scale, &bias))| *x = x.mul(scale).add(bias));
    }
    data
}

/// Groups of the channels of `[1, C, ...]`, standardised, times one scale plus one bias for each channel.
pub(super) fn group_normalization<T: Scalar>(
    x: &Tensor<T>,
    parameters: [&[T]; 2],
    groups: usize,
    epsilon: f32,
) -> Vec<T> {
    let [scale, bias] = parameters;
    let plane = stride(&x.shape, 1).max(1);
    let mut data = x.data.clone();
    let group = (data.len() / groups.max(1)).max(1);
    data.chunks_exact_mut(group).for_each(|part| standardise(part, epsilon));
    for (c, plane) in data.chunks_exact_mut(plane).enumerate() {
        plane.iter_mut().for_each(|x| *x = x.mul(scale[c]).add(bias[c]));
    }
    data
}

/// The rows of a table `[V, E]` that whole numbers name.
pub(super) fn embedding<T: Scalar>(ids: &Tensor<T>, table: &Tensor<T>) -> Result<Vec<T>, String> {
    let &[rows, width] = &table.shape[..] else {
        return Err(format!("a table of shape {:?}", table.shape));
    };
    let mut data = Vec::with_capacity(ids.data.len() * width);
    for (i, id) in ids.data.iter().enumerate() {
        let row = id.known().filter(|&x| x >= 0.0 && x < rows as f64 && x.fract() == 0.0);
        let Some(row) = row else {
            return Err(format!("element {i} is {}, which is no row of a table of {rows}", id.value()));
        };
        // A whole number in 0..rows.
        data.extend_from_slice(&table.data[row as usize * width..][..width]);
    }
    Ok(data)
}
