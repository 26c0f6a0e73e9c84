//! Where the elements of a value lie in a sample: row-major as in the graph, or channels last.

use crate::tensor::pitch;

/// Axes of a sample as they lie in memory; rows of the last one start at multiples of four words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Lengths in memory, outermost first: without the graph's batch axis.
    pub dims: Vec<usize>,
    /// `[rows, columns, channels]` of what the graph calls `[1, channels, rows, columns]`.
    pub image: bool,
}

impl Layout {
    /// Row-major, as the graph has it; a leading 1 is the graph's batch axis, as a rule.
    pub fn plain(shape: &[usize]) -> Self {
        let dims = match shape {
            [1, rest @ ..] if !rest.is_empty() => rest,
            [] => &[1],
            all => all,
        };
        Self { dims: dims.to_vec(), image: false }
    }

    /// Channels last, for `[1, channels, rows, columns]`.
    pub fn image(shape: &[usize]) -> Option<Self> {
        let &[1, c, h, w] = shape else { return None };
        Some(Self { dims: vec![h, w, c], image: true })
    }

    /// Channels last, for `[1, channels, length]`: an image of one row.
    pub fn sequence(shape: &[usize]) -> Option<Self> {
        let &[1, c, l] = shape else { return None };
        Some(Self { dims: vec![1, l, c], image: true })
    }

    /// Length of the last axis in memory.
    pub fn columns(&self) -> usize {
        self.dims.last().copied().unwrap_or(1)
    }

    /// Rows of that length.
    pub fn rows(&self) -> usize {
        self.dims.iter().rev().skip(1).product()
    }

    /// Words of a sample, padding included.
    pub fn words(&self) -> usize {
        self.rows() * pitch(self.columns())
    }

    /// The word of the graph's element `index` (row-major).
    pub fn place(&self, index: usize) -> usize {
        let (row, column) = match *self.dims {
            [h, w, c] if self.image => {
                debug_assert!(index < h * w * c);
                (index % (h * w), index / (h * w))
            }
            _ => (index / self.columns(), index % self.columns()),
        };
        row * pitch(self.columns()) + column
    }

    /// Whether elements follow each other in the graph's order without padding.
    pub fn is_dense(&self) -> bool {
        let gapless = self.columns().is_multiple_of(4) || self.rows() == 1;
        gapless && (!self.image || self.rows() == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::Layout;

    #[test]
    fn elements_have_places_of_their_own() {
        let image = Layout::image(&[1, 3, 2, 5]).expect("an image");
        assert_eq!((image.dims.clone(), image.words(), image.is_dense()), (vec![2, 5, 3], 40, false));
        assert_eq!([image.place(0), image.place(1), image.place(10), image.place(29)], [0, 4, 1, 38]);
        let plain = Layout::plain(&[1, 3, 6]);
        assert_eq!((plain.words(), plain.place(6), plain.is_dense()), (24, 8, false));
        assert!(Layout::plain(&[1, 10]).is_dense() && Layout::plain(&[1, 3, 8]).is_dense());
        assert!(Layout::image(&[1, 10, 1, 1]).expect("an image").is_dense());
        let mut seen = std::collections::HashSet::new();
        assert!((0..30).all(|i| image.place(i) < image.words() && seen.insert(image.place(i))));
    }
}
