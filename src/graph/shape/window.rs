//! The shapes of convolutions and pools, and which taps of a window lie inside the input.
//!
//! Numbers from a file may be anything: every sum and product is checked, and a result with far more positions than
//! its input is refused, so that a few bytes of damaged padding cannot fill the memory.

use super::{Shape, elements};
use crate::graph::Window;
use std::ops::Range;

/// Positions (rows times columns) that a result may have whatever its input has.
const MAX_PLANE: usize = 1 << 20;
/// Beyond that, how many times the positions of its input.
const MAX_GROWTH: usize = 4;

/// `[channels, height, width]` of one sample.
fn image(shape: &[usize]) -> Result<[usize; 3], String> {
    match *shape {
        [1, channels, height, width] if channels > 0 && height > 0 && width > 0 => Ok([channels, height, width]),
        [batch, _, _, _] if batch > 1 => {
            Err(format!("a batch of {batch} (shape {shape:?}) where one sample is expected"))
        }
        _ => Err(format!("an operand of shape {shape:?} where [1, channels, height, width] is expected")),
    }
}

/// Rows or columns from the first tap of a window to its last.
fn span(kernel: usize, dilation: usize) -> Result<usize, String> {
    let span = kernel.checked_sub(1).and_then(|gaps| gaps.checked_mul(dilation)?.checked_add(1));
    span.filter(|_| dilation > 0)
        .ok_or_else(|| format!("a kernel of {kernel} taps with dilation {dilation} is impossible"))
}

/// The number of windows along one axis of `len` elements.
fn windows(window: &Window, kernel: [usize; 2], axis: usize, len: usize) -> Result<usize, String> {
    let [stride, begin, end] = [window.strides[axis], window.begin[axis], window.end[axis]];
    let span = span(kernel[axis], window.dilations[axis])?;
    let padded = len.checked_add(begin).and_then(|sum| sum.checked_add(end));
    let padded = padded.ok_or_else(|| format!("padding {begin} and {end} is impossible"))?;
    if stride == 0 {
        return Err("a stride of 0".to_owned());
    }
    match padded.checked_sub(span) {
        Some(room) => Ok(room / stride + 1),
        None => Err(format!("a window that spans {span} elements where the padded input has {padded}")),
    }
}

/// The shape of a result, unless it has absurdly more positions than its input.
fn result(channels: usize, plane: [usize; 2], input: [usize; 2]) -> Shape {
    let shape = vec![1, channels, plane[0], plane[1]];
    elements(&shape)?;
    if plane[0] * plane[1] > MAX_PLANE.max(MAX_GROWTH * input[0] * input[1]) {
        let [height, width] = input;
        return Err(format!("an input of {height} x {width} would become {} x {}", plane[0], plane[1]));
    }
    Ok(shape)
}

/// Checks the optional bias, which is the last operand.
fn bias(operands: &[&[usize]], channels: usize) -> Result<(), String> {
    match operands.get(2) {
        Some(shape) if **shape != [channels] => {
            Err(format!("a bias of shape {shape:?} where there are {channels} output channels"))
        }
        _ => Ok(()),
    }
}

/// `[first, per group, kernel height, kernel width]` of a weight.
fn weight(shape: &[usize]) -> Result<[usize; 4], String> {
    let dims = <[usize; 4]>::try_from(shape).ok().filter(|dims| !dims.contains(&0));
    dims.ok_or_else(|| format!("a weight of shape {shape:?}, which must have 4 dimensions, none of them 0"))
}

/// Whether `channels` fall into groups evenly.
fn grouped(channels: usize, groups: usize) -> Result<(), String> {
    if groups > 0 && channels.is_multiple_of(groups) {
        return Ok(());
    }
    Err(format!("{channels} channels do not fall into {groups} groups"))
}

/// The shape of `Conv`.
pub(super) fn conv(window: &Window, operands: &[&[usize]]) -> Shape {
    let [channels, height, width] = image(operands[0])?;
    let [out, per_group, rows, columns] = weight(operands[1])?;
    grouped(channels, window.groups)?;
    grouped(out, window.groups)?;
    if channels / window.groups != per_group {
        let (groups, weight) = (window.groups, operands[1]);
        return Err(format!("a weight of shape {weight:?} for {channels} channels in {groups} groups"));
    }
    bias(operands, out)?;
    let kernel = [rows, columns];
    let plane = [windows(window, kernel, 0, height)?, windows(window, kernel, 1, width)?];
    result(out, plane, [height, width])
}

/// The shape of `ConvTranspose`.
pub(super) fn conv_transpose(window: &Window, output_padding: [usize; 2], operands: &[&[usize]]) -> Shape {
    let [channels, height, width] = image(operands[0])?;
    let [from, per_group, rows, columns] = weight(operands[1])?;
    grouped(channels, window.groups)?;
    if from != channels {
        let weight = operands[1];
        return Err(format!("a weight of shape {weight:?} for {channels} channels"));
    }
    let out = elements(&[per_group, window.groups])?;
    bias(operands, out)?;
    let axis = |axis: usize, len: usize, kernel: usize| {
        let span = span(kernel, window.dilations[axis])?;
        let [stride, begin, end] = [window.strides[axis], window.begin[axis], window.end[axis]];
        let extra = output_padding[axis];
        if stride == 0 || extra >= stride.max(window.dilations[axis]) {
            return Err(format!("a stride of {stride} with output padding {extra}, which must be smaller"));
        }
        let grown = len.checked_sub(1).and_then(|gaps| gaps.checked_mul(stride)?.checked_add(span)?.checked_add(extra));
        let grown = grown.ok_or_else(|| format!("a stride of {stride} is impossible"))?;
        let cut = begin.checked_add(end).and_then(|padding| grown.checked_sub(padding));
        cut.filter(|&left| left > 0)
            .ok_or_else(|| format!("padding {begin} and {end} leaves nothing of a result of {grown}"))
    };
    result(out, [axis(0, height, rows)?, axis(1, width, columns)?], [height, width])
}

/// The shape of `MaxPool` and `AveragePool`.
pub(super) fn pool(window: &Window, kernel: [usize; 2], operand: &[usize]) -> Shape {
    let [channels, height, width] = image(operand)?;
    if window.groups != 1 {
        return Err(format!("a pool in {} groups", window.groups));
    }
    elements(&kernel)?;
    let len = [height, width];
    let plane = [windows(window, kernel, 0, height)?, windows(window, kernel, 1, width)?];
    let shape = result(channels, plane, len)?;
    for axis in 0..2 {
        let empty = (0..plane[axis]).find(|&at| taps(window, axis, at, kernel[axis], len[axis]).is_empty());
        if let Some(at) = empty {
            let (begin, end) = (window.begin[axis], window.end[axis]);
            let what = ["row", "column"][axis];
            return Err(format!("padding {begin} and {end}: the windows of {what} {at} lie outside the input"));
        }
    }
    Ok(shape)
}

/// The i below `count` for which `i step + offset - begin` is an index below `len`.
fn inside(count: usize, step: usize, offset: usize, begin: usize, len: usize) -> Range<usize> {
    let first = begin.saturating_sub(offset).div_ceil(step);
    let past = (begin + len).saturating_sub(offset).div_ceil(step).min(count);
    first.min(past)..past
}

/// The taps of the window at position `at` that lie inside an input of `len` elements along an axis. The window must
/// have passed this module's checks, here and below.
pub(in crate::graph) fn taps(window: &Window, axis: usize, at: usize, kernel: usize, len: usize) -> Range<usize> {
    inside(kernel, window.dilations[axis], at * window.strides[axis], window.begin[axis], len)
}

/// The positions below `windows` whose tap `tap` lies inside an input of `len` elements along an axis, and the element
/// that the first of them reads; the next ones read every `strides[axis]`th.
pub(in crate::graph) fn positions(
    window: &Window,
    axis: usize,
    tap: usize,
    windows: usize,
    len: usize,
) -> (Range<usize>, usize) {
    let [stride, begin] = [window.strides[axis], window.begin[axis]];
    let offset = tap * window.dilations[axis];
    let range = inside(windows, stride, offset, begin, len);
    let first = if range.is_empty() { 0 } else { range.start * stride + offset - begin };
    (range, first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::PLAIN as ONE;

    #[test]
    fn convolutions_have_the_shapes_of_the_specification() {
        let x = &[1, 4, 9, 7][..];
        assert_eq!(conv(&ONE, &[x, &[5, 4, 3, 3]]), Ok(vec![1, 5, 7, 5]));
        let window = Window { strides: [2, 3], begin: [1, 0], end: [2, 1], dilations: [2, 1], groups: 2 };
        assert_eq!(conv(&window, &[x, &[6, 2, 3, 2], &[6]]), Ok(vec![1, 6, 4, 3]));
        let up = Window { strides: [2, 3], begin: [1, 0], end: [1, 0], ..ONE };
        assert_eq!(conv_transpose(&up, [1, 0], &[x, &[4, 5, 3, 2]]), Ok(vec![1, 5, 18, 20]));
        assert_eq!(pool(&Window { strides: [2; 2], ..ONE }, [2, 2], x), Ok(vec![1, 4, 4, 3]));
    }

    #[test]
    fn operands_that_do_not_fit_are_named() {
        let refused = |window: &Window, operands: &[&[usize]], part: &str| {
            let text = conv(window, operands).unwrap_err();
            assert!(text.contains(part), "{text}");
        };
        refused(&ONE, &[&[4, 9, 7], &[5, 4, 3, 3]], "[4, 9, 7]");
        refused(&ONE, &[&[2, 4, 9, 7], &[5, 4, 3, 3]], "a batch of 2");
        refused(&ONE, &[&[1, 4, 9, 7], &[5, 4, 3]], "[5, 4, 3]");
        refused(&ONE, &[&[1, 4, 9, 7], &[5, 3, 3, 3]], "[5, 3, 3, 3]");
        refused(&ONE, &[&[1, 4, 9, 7], &[5, 4, 3, 3], &[4]], "bias of shape [4]");
        refused(&Window { groups: 3, ..ONE }, &[&[1, 4, 9, 7], &[6, 1, 3, 3]], "3 groups");
        refused(&Window { groups: 0, ..ONE }, &[&[1, 4, 9, 7], &[6, 1, 3, 3]], "0 groups");
        refused(&Window { strides: [1, 0], ..ONE }, &[&[1, 1, 9, 7], &[1, 1, 3, 3]], "stride of 0");
        refused(&Window { dilations: [0, 1], ..ONE }, &[&[1, 1, 9, 7], &[1, 1, 3, 3]], "dilation 0");
        refused(&ONE, &[&[1, 1, 9, 7], &[1, 1, 3, 8]], "spans 8");
    }

    #[test]
    fn absurd_windows_are_refused_without_overflow() {
        let (x, w) = (&[1, 1, 3, 3][..], &[1, 1, 2, 2][..]);
        for huge in [usize::MAX, usize::MAX / 2, 1 << 40, 1 << 11] {
            for window in [
                Window { begin: [huge; 2], ..ONE },
                Window { begin: [huge; 2], end: [huge; 2], ..ONE },
                Window { begin: [huge; 2], end: [huge; 2], dilations: [huge; 2], ..ONE },
            ] {
                assert!(conv(&window, &[x, w]).is_err(), "{window:?}");
                assert!(pool(&window, [2, 2], x).is_err(), "{window:?}");
            }
            assert!(conv(&Window { dilations: [huge; 2], ..ONE }, &[x, w]).is_err());
            assert!(conv_transpose(&Window { strides: [huge; 2], ..ONE }, [0; 2], &[x, w]).is_err());
            assert!(conv_transpose(&Window { dilations: [huge; 2], ..ONE }, [0; 2], &[x, w]).is_err());
            assert!(conv_transpose(&Window { begin: [huge; 2], ..ONE }, [0; 2], &[x, w]).is_err());
            assert!(conv_transpose(&ONE, [huge; 2], &[x, w]).is_err());
            assert!(pool(&ONE, [huge; 2], x).is_err());
            // A stride beyond the input leaves one window.
            assert_eq!(conv(&Window { strides: [huge; 2], ..ONE }, &[x, w]), Ok(vec![1, 1, 1, 1]));
        }
    }

    #[test]
    fn taps_and_positions_are_those_that_fall_inside() {
        let mut checked = 0;
        for (stride, begin, dilation, kernel, len) in
            (0..3usize.pow(5)).map(|n| (1 + n % 3, n / 3 % 3, 1 + n / 9 % 3, 1 + n / 27 % 3, 1 + n / 81 % 3 * 3))
        {
            let window = Window { strides: [stride; 2], begin: [begin; 2], dilations: [dilation; 2], ..ONE };
            let windows = 4;
            let source = |at: usize, tap: usize| (at * stride + tap * dilation).checked_sub(begin).filter(|&x| x < len);
            for at in 0..windows {
                let range = taps(&window, 0, at, kernel, len);
                assert!((0..kernel).all(|tap| range.contains(&tap) == source(at, tap).is_some()), "{window:?} {at}");
            }
            for tap in 0..kernel {
                let (range, first) = positions(&window, 1, tap, windows, len);
                for at in 0..windows {
                    let read = range.contains(&at).then(|| first + (at - range.start) * stride);
                    assert_eq!(read, source(at, tap), "{window:?} {tap}");
                    checked += usize::from(read.is_some());
                }
            }
        }
        assert!(checked > 500);
    }
}
