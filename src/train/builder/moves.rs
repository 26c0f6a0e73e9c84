//! Pools, sums, products and shapes.

use super::{Builder, Layer};
use crate::graph::{Op, ValueId, Window};

/// Windows of a pool over images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Rows and columns from one window to the next.
    pub stride: [usize; 2],
    /// Padding on each side, less than the kernel: it never counts as a maximum, nor as an element of a mean.
    pub padding: [usize; 2],
}

impl Pool {
    /// Square windows side by side.
    pub fn square(size: usize) -> Self {
        Self { kernel: [size; 2], stride: [size; 2], padding: [0; 2] }
    }

    fn op(self, max: bool) -> Op {
        let (kernel, padding) = (self.kernel, self.padding);
        let window = Window { strides: self.stride, begin: padding, end: padding, dilations: [1; 2], groups: 1 };
        if max { Op::MaxPool { kernel, window } } else { Op::AveragePool { kernel, window, count_include_pad: false } }
    }
}

impl Builder {
    /// The maximum of windows of `size` side by side: squares of images `[channels, height, width]`, stretches of
    /// sequences `[channels, length]`.
    pub fn max_pool(&mut self, x: ValueId, size: usize) -> ValueId {
        self.layer("pool", |net, name| net.pool(name, x, size, true))
    }

    /// The mean of windows, as [`max_pool`](Self::max_pool).
    pub fn average_pool(&mut self, x: ValueId, size: usize) -> ValueId {
        self.layer("pool", |net, name| net.pool(name, x, size, false))
    }

    /// The maximum of windows of an image.
    pub fn max_pool_with(&mut self, x: ValueId, pool: Pool) -> ValueId {
        self.layer("pool", |net, name| net.node(name, pool.op(true), &[x], &[]))
    }

    /// The mean of windows of an image.
    pub fn average_pool_with(&mut self, x: ValueId, pool: Pool) -> ValueId {
        self.layer("pool", |net, name| net.node(name, pool.op(false), &[x], &[]))
    }

    fn pool(&mut self, name: &str, x: ValueId, size: usize, max: bool) -> Layer {
        let shape = self.whole(x)?;
        let &[1, channels, length] = &shape[..] else {
            self.image(x)?;
            return self.node(name, Pool::square(size).op(max), &[x], &[]);
        };
        let rows = self.reshaped(&format!("{name}.rows"), x, &[1, channels, 1, length])?;
        let pool = Pool { kernel: [1, size], stride: [1, size], padding: [0; 2] };
        let y = self.node(&format!("{name}.image"), pool.op(max), &[rows], &[])?;
        let length = self.whole(y)?[3];
        self.reshaped(name, y, &[1, channels, length])
    }

    /// The maximum of each channel: `[channels, ..]` becomes `[channels]`.
    pub fn global_max_pool(&mut self, x: ValueId) -> ValueId {
        self.layer("pool", |net, name| net.global_pool(name, x, true))
    }

    /// The mean of each channel: `[channels, ..]` becomes `[channels]`.
    pub fn global_average_pool(&mut self, x: ValueId) -> ValueId {
        self.layer("pool", |net, name| net.global_pool(name, x, false))
    }

    fn global_pool(&mut self, name: &str, x: ValueId, max: bool) -> Layer {
        let shape = self.whole(x)?;
        let [channels, height, width] = match shape[..] {
            [1, channels, length] => [channels, 1, length],
            [1, channels, height, width] => [channels, height, width],
            _ => return Err(format!("an operand of shape {:?} where [channels, ..] is expected", self.shape(x))),
        };
        let image = self.reshaped(&format!("{name}.rows"), x, &[1, channels, height, width])?;
        let pool = Pool { kernel: [height, width], stride: [1; 2], padding: [0; 2] };
        let y = self.node(&format!("{name}.image"), pool.op(max), &[image], &[])?;
        self.reshaped(name, y, &[1, channels])
    }

    /// The mean of windows that divide an image into `size` rows and columns of them. The image's size must be a multiple.
    pub fn adaptive_average_pool(&mut self, x: ValueId, size: [usize; 2]) -> ValueId {
        self.layer("pool", |net, name| {
            let [_, _, height, width] = net.image(x)?;
            let windows = |len: usize, parts: usize| {
                let fits = parts > 0 && len.is_multiple_of(parts);
                fits.then(|| len / parts).ok_or_else(|| format!("{len} rows or columns do not divide into {parts}"))
            };
            let kernel = [windows(height, size[0])?, windows(width, size[1])?];
            net.node(name, Pool { kernel, stride: kernel, padding: [0; 2] }.op(false), &[x], &[])
        })
    }

    /// The sum of two values: the end of a residual block.
    pub fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.layer("add", |net, name| net.pair(name, Op::Add, a, b))
    }

    /// The elementwise product of two values.
    pub fn mul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.layer("mul", |net, name| net.pair(name, Op::Mul, a, b))
    }

    /// A node of two values, which must have as many axes: a sample must not be taken for a batch.
    fn pair(&mut self, name: &str, op: Op, a: ValueId, b: ValueId) -> Layer {
        if self.whole(a)?.len() != self.whole(b)?.len() {
            return Err(format!("shapes {:?} and {:?} have different numbers of axes", self.shape(a), self.shape(b)));
        }
        self.node(name, op, &[a, b], &[])
    }

    /// A value times a number.
    pub fn scale(&mut self, x: ValueId, factor: f32) -> ValueId {
        self.layer("scale", |net, name| net.scaled(name, x, factor))
    }

    pub(super) fn scaled(&mut self, name: &str, x: ValueId, factor: f32) -> Layer {
        let factor = self.constant(&format!("{name}.factor"), &[], factor)?;
        self.node(name, Op::Mul, &[x, factor], &[])
    }

    /// The matrix product of two values, of the last two axes of each.
    pub fn matmul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.layer("matmul", |net, name| {
            if let Some(&x) = [a, b].iter().find(|&&x| net.shape(x).len() < 2) {
                return Err(format!("an operand of shape {:?}, which is no matrix", net.shape(x)));
            }
            net.pair(name, Op::MatMul, a, b)
        })
    }

    /// Values behind each other along an axis; axis 0 are the channels of images.
    pub fn concat(&mut self, values: &[ValueId], axis: usize) -> ValueId {
        self.layer("concat", |net, name| net.node(name, Op::Concat { axis: axis.saturating_add(1) }, values, &[]))
    }

    /// The same elements in another shape.
    pub fn reshape(&mut self, x: ValueId, shape: &[usize]) -> ValueId {
        self.layer("reshape", |net, name| net.node(name, Op::Reshape, &[x], &[&[1], shape].concat()))
    }

    /// All elements as one vector.
    pub fn flatten(&mut self, x: ValueId) -> ValueId {
        self.layer("flatten", |net, name| {
            let len = net.whole(x)?.iter().product();
            net.node(name, Op::Reshape, &[x], &[1, len])
        })
    }

    /// Axes in another order: axis i of the result is axis `order[i]` of x.
    pub fn transpose(&mut self, x: ValueId, order: &[usize]) -> ValueId {
        self.layer("transpose", |net, name| {
            let perm = [0].into_iter().chain(order.iter().map(|axis| axis.saturating_add(1))).collect();
            net.node(name, Op::Transpose { perm }, &[x], &[])
        })
    }
}
