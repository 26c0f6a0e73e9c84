//! Convolutions and pools. Every sum runs in ascending order of channel, row and column of the kernel.

use super::{Scalar, Tensor};
use crate::graph::Window;
use crate::graph::shape::window::{positions, taps};

/// A convolution or, with `transposed`, the transpose of one; `out` is the result's shape. Shapes must have passed
/// inference.
pub(super) fn convolve<T: Scalar>(
    window: &Window,
    transposed: bool,
    [x, weight]: [&Tensor<T>; 2],
    bias: Option<&[T]>,
    out: &[usize],
) -> Vec<T> {
    let (channels, outputs) = (x.shape[1], out[1]);
    let (per_in, per_out) = (channels / window.groups, outputs / window.groups);
    let [input, result] = [[x.shape[2], x.shape[3]], [out[2], out[3]]];
    let kernel = [weight.shape[2], weight.shape[3]];
    let taps = kernel[0] * kernel[1];
    let mut data = vec![T::ZERO; outputs * result[0] * result[1]];
    for (m, plane) in data.chunks_exact_mut(result[0] * result[1]).enumerate() {
        for c in 0..per_in {
            let channel = m / per_out * per_in + c;
            let source = &x.data[channel * input[0] * input[1]..][..input[0] * input[1]];
            let at = if transposed { channel * per_out + m % per_out } else { m * per_in + c };
            for (tap, &factor) in weight.data[at * taps..][..taps].iter().enumerate() {
                let tap = [tap / kernel[1], tap % kernel[1]];
                if factor.is_zero() {
                    continue;
                }
                if transposed {
                    scatter(window, tap, factor, (source, input), (&mut *plane, result));
                } else {
                    gather(window, tap, factor, (source, input), (&mut *plane, result));
                }
            }
        }
        if let Some(bias) = bias {
            plane.iter_mut().for_each(|sum| *sum = sum.add(bias[m]));
        }
    }
    data
}

/// Adds one tap of a convolution to an output plane.
fn gather<T: Scalar>(
    window: &Window,
    tap: [usize; 2],
    factor: T,
    (source, input): (&[T], [usize; 2]),
    (plane, result): (&mut [T], [usize; 2]),
) {
    let (rows, first_row) = positions(window, 0, tap[0], result[0], input[0]);
    let (columns, first) = positions(window, 1, tap[1], result[1], input[1]);
    for (i, row) in rows.enumerate() {
        let read = &source[(first_row + i * window.strides[0]) * input[1]..][..input[1]];
        let write = &mut plane[row * result[1]..][columns.clone()];
        let read = read[first..].iter().step_by(window.strides[1]);
        write.iter_mut().zip(read).for_each(|(sum, &x)| *sum = sum.add(x.mul(factor)));
    }
}

/// Adds one tap of a transposed convolution: the roles of input and output are exchanged.
fn scatter<T: Scalar>(
    window: &Window,
    tap: [usize; 2],
    factor: T,
    (source, input): (&[T], [usize; 2]),
    (plane, result): (&mut [T], [usize; 2]),
) {
    let (rows, first_row) = positions(window, 0, tap[0], input[0], result[0]);
    let (columns, first) = positions(window, 1, tap[1], input[1], result[1]);
    for (i, row) in rows.enumerate() {
        let read = &source[row * input[1]..][columns.clone()];
        let write = &mut plane[(first_row + i * window.strides[0]) * result[1]..][..result[1]];
        let write = write[first..].iter_mut().step_by(window.strides[1]);
        write.zip(read).for_each(|(sum, &x)| *sum = sum.add(x.mul(factor)));
    }
}

/// Maximum over windows; `out` is the result's shape.
pub(super) fn max_pool<T: Scalar>(window: &Window, kernel: [usize; 2], x: &Tensor<T>, out: &[usize]) -> Vec<T> {
    pool(window, kernel, x, out, |elements| elements.reduce(T::max))
}

/// Mean over windows; `out` is the result's shape.
pub(super) fn average_pool<T: Scalar>(
    window: &Window,
    kernel: [usize; 2],
    count_include_pad: bool,
    x: &Tensor<T>,
    out: &[usize],
) -> Vec<T> {
    let size = kernel[0] * kernel[1];
    pool(window, kernel, x, out, |elements| {
        let mut inside = 0;
        let sum = elements.inspect(|_| inside += 1).fold(T::ZERO, T::add);
        let count = if count_include_pad { size } else { inside };
        Some(sum.div(T::exact(count as f64)))
    })
}

/// What `reduce` makes of the elements inside each window. Inference leaves no window without one.
fn pool<T: Scalar>(
    window: &Window,
    kernel: [usize; 2],
    x: &Tensor<T>,
    out: &[usize],
    reduce: impl Fn(&mut dyn Iterator<Item = T>) -> Option<T>,
) -> Vec<T> {
    let (height, width) = (x.shape[2], x.shape[3]);
    let element = |axis: usize, at: usize, tap: usize| {
        at * window.strides[axis] + tap * window.dilations[axis] - window.begin[axis]
    };
    let mut data = Vec::with_capacity(out.iter().product());
    for plane in x.data.chunks_exact(height * width) {
        for y in 0..out[2] {
            for x in 0..out[3] {
                let rows = taps(window, 0, y, kernel[0], height).map(|tap| element(0, y, tap) * width);
                let columns = taps(window, 1, x, kernel[1], width).map(|tap| element(1, x, tap));
                let mut elements = rows.flat_map(|row| columns.clone().map(move |column| plane[row + column]));
                data.push(reduce(&mut elements).unwrap_or(T::ZERO));
            }
        }
    }
    data
}
