//! Softmax and batch normalisation.

use super::{Scalar, Tensor};
use crate::graph::shape::stride;

/// `exp(x - max) / sum exp(x - max)` along an axis. Any number may stand for the maximum without changing the result.
pub(super) fn softmax<T: Scalar>(x: &Tensor<T>, axis: usize) -> Vec<T> {
    let (len, step) = (x.shape[axis], stride(&x.shape, axis));
    let mut data = x.data.clone();
    for start in (0..data.len()).filter(|at| at / step % len == 0) {
        let places = || (0..len).map(|i| start + i * step);
        let largest = places().map(|at| data[at].value()).fold(f64::MIN, f64::max);
        let mut sum = T::ZERO;
        for at in places() {
            data[at] = data[at].sub(T::exact(largest)).exp();
            sum = sum.add(data[at]);
        }
        for at in places() {
            data[at] = data[at].div(sum);
        }
    }
    data
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
