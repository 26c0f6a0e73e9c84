//! How the elements of one sample lie in device memory, and the index lists that move them from one layout to another.

use crate::error::{Error, ErrorKind, Result};
use crate::graph::shape::broadcast_index;
use crate::ops::gather::NOTHING;
use crate::tensor::pitch;

/// The memory of one sample of a value. Layouts with the same places have one name ([`Layout::canonical`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Row-major without gaps.
    Flat,
    /// Row-major, rows of so many elements padded to whole vectors of four.
    Rows(usize),
    /// Channels last, the channels of a pixel padded to whole vectors of four; for `[1, C, H, W]` alone.
    Image,
}

impl Layout {
    /// The simplest layout with the same places for a value of this shape.
    pub(super) fn canonical(self, shape: &[usize]) -> Self {
        let len: usize = shape.iter().product();
        match (self, shape) {
            (Self::Rows(columns), _) if columns == len || columns % 4 == 0 => Self::Flat,
            (Self::Image, &[1, _, 1, 1]) => Self::Flat,
            _ => self,
        }
    }

    /// Words of a sample, padding included.
    pub(super) fn words(self, shape: &[usize]) -> usize {
        let len: usize = shape.iter().product();
        match (self, shape) {
            (Self::Flat, _) => len,
            (Self::Rows(columns), _) => len.checked_div(columns).unwrap_or(0) * pitch(columns),
            (Self::Image, &[_, channels, height, width]) => height * width * pitch(channels),
            (Self::Image, _) => len,
        }
    }

    /// The word of every element, elements in row-major order.
    fn places(self, shape: &[usize]) -> Vec<usize> {
        let len: usize = shape.iter().product();
        match (self, shape) {
            (Self::Rows(columns), _) if columns > 0 => {
                (0..len).map(|i| i / columns * pitch(columns) + i % columns).collect()
            }
            (Self::Image, &[_, channels, height, width]) => {
                let plane = (height * width).max(1);
                (0..len).map(|i| i % plane * pitch(channels) + i / plane).collect()
            }
            _ => (0..len).collect(),
        }
    }
}

/// Shape and layout of a value in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form<'a> {
    pub(super) shape: &'a [usize],
    pub(super) layout: Layout,
}

/// For every word of a sample of `to` the word of `from` that it takes, where element i of `to` is element `source(i)` of `from`.
pub(super) fn index(from: Form<'_>, to: Form<'_>, source: impl Fn(usize) -> Option<usize>) -> Result<Vec<u32>> {
    let (read, write) = (from.layout.places(from.shape), to.layout.places(to.shape));
    let words = to.layout.words(to.shape);
    if words.max(from.layout.words(from.shape)) >= NOTHING as usize {
        return Err(Error::new(
            ErrorKind::TooBig,
            format!("a value of shape {:?} is more than kernels address", to.shape),
        )
        .with_help("use a smaller network"));
    }
    let mut index = vec![NOTHING; words];
    for (i, &word) in write.iter().enumerate() {
        if let Some(&place) = source(i).and_then(|element| read.get(element)) {
            index[word] = place as u32;
        }
    }
    Ok(index)
}

/// The elements of a constant, broadcast to a shape, times a factor, at their places; 1 in the padding, by which one may divide.
pub(super) fn placed(constant: &ndarray::ArrayD<f32>, to: Form<'_>, factor: f32) -> Vec<f32> {
    let elements: Vec<f32> = constant.iter().copied().collect();
    let mut words = vec![1.0; to.layout.words(to.shape)];
    for (&word, element) in to.layout.places(to.shape).iter().zip(broadcast_index(constant.shape(), to.shape)) {
        words[word] = elements[element] * factor;
    }
    words
}

/// Element of the input of a `Pad` for each element of its output, `None` in the frame.
pub(super) fn padded(shape: &[usize], pads: &[[usize; 2]]) -> Vec<Option<usize>> {
    let mut index = vec![Some(0)];
    for (&length, &[before, after]) in shape.iter().zip(pads) {
        let at = |i: usize| i.checked_sub(before).filter(|&i| i < length);
        index = index
            .into_iter()
            .flat_map(|base: Option<usize>| (0..before + length + after).map(move |i| (base, i)))
            .map(|(base, i)| Some(base? * length + at(i)?))
            .collect();
    }
    index
}

/// Element of operand `which` of a `Concat` along an axis for each element of its output, `None` where another operand lies.
/// Lengths along the axis in `lengths`, elements behind it in `inner`.
pub(super) fn concatenated(lengths: &[usize], which: usize, inner: usize, len: usize) -> Vec<Option<usize>> {
    let total: usize = lengths.iter().sum();
    let before: usize = lengths[..which].iter().sum();
    let own = lengths[which];
    let element = |i: usize| {
        let (outer, at, rest) = (i / inner / total, i / inner % total, i % inner);
        at.checked_sub(before).filter(|&at| at < own).map(|at| (outer * own + at) * inner + rest)
    };
    (0..len).map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_a_layout_are_distinct_and_inside() {
        for (shape, layout, words) in [
            (&[1, 3, 2, 2][..], Layout::Image, 16),
            (&[2, 5], Layout::Rows(5), 16),
            (&[2, 5], Layout::Flat, 10),
            (&[1, 4, 1, 3], Layout::Image, 12),
        ] {
            let mut places = layout.places(shape);
            assert_eq!(layout.words(shape), words);
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), shape.iter().product::<usize>());
            assert!(places.iter().all(|&p| p < words), "{layout:?} {shape:?}");
        }
        assert_eq!(Layout::Image.places(&[1, 2, 1, 2]), [0, 4, 1, 5]);
        assert_eq!(Layout::Image.canonical(&[1, 5, 1, 1]), Layout::Flat);
        assert_eq!(Layout::Rows(8).canonical(&[3, 8]), Layout::Flat);
        assert_eq!(Layout::Rows(5).canonical(&[3, 5]), Layout::Rows(5));
    }

    #[test]
    fn index_lists_move_elements_as_the_operators_say() {
        assert_eq!(padded(&[2, 1], &[[0, 1], [1, 0]]), [None, Some(0), None, Some(1), None, None]);
        assert_eq!(concatenated(&[1, 2], 1, 2, 6), [None, None, Some(0), Some(1), Some(2), Some(3)]);
        let from = Form { shape: &[2, 2], layout: Layout::Flat };
        let to = Form { shape: &[2, 2], layout: Layout::Rows(2) };
        let moved = index(from, to, |i| (i != 1).then_some(i));
        assert_eq!(moved.ok(), Some(vec![0, NOTHING, NOTHING, NOTHING, 2, 3, NOTHING, NOTHING]));
    }
}
