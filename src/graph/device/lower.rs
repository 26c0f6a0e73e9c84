//! From nodes to steps.

use ndarray::{ArrayD, Ix4, IxDyn};

use super::layout::{self, Form, Layout};
use super::plan::{Geometry, Operand, Planner, Slot, Work, same_len};
use crate::error::{Error, Result};
use crate::graph::shape::{broadcast, broadcast_index, transpose_index};
use crate::graph::{Node, Op, ValueId, Window};
use crate::ops::conv::Weight;
use crate::ops::elementwise::{Binary, Unary};
use crate::ops::pool::{Pool, Pooling};

/// Whether an operator reads its first operand channels last.
pub(super) fn reads_image(op: &Op) -> bool {
    matches!(op, Op::Conv(_) | Op::ConvTranspose { .. } | Op::MaxPool { .. } | Op::AveragePool { .. })
}

impl Planner<'_> {
    pub(super) fn node(&mut self, node: &Node) -> Result<()> {
        let out = node.output;
        match (&node.op, node.inputs.as_slice()) {
            (Op::Relu, &[x]) if self.fuse_relu(x, out) => Ok(()),
            (Op::Relu, &[x]) => self.unary(Unary::Relu, x, out),
            (Op::Sigmoid, &[x]) => self.unary(Unary::Sigmoid, x, out),
            (Op::Tanh, &[x]) => self.unary(Unary::Tanh, x, out),
            (Op::Add, &[x, y]) => self.binary(Binary::Add, x, y, out),
            (Op::Sub, &[x, y]) => self.binary(Binary::Sub, x, y, out),
            (Op::Mul, &[x, y]) => self.binary(Binary::Mul, x, y, out),
            (Op::Div, &[x, y]) => self.binary(Binary::Div, x, y, out),
            (Op::Gemm { .. }, &[a, b, ref rest @ ..]) => self.gemm(&node.op, [a, b], rest.first().copied(), out),
            (Op::MatMul, &[a, b]) => self.matmul([a, b], out),
            (Op::Conv(window), &[x, w, ref rest @ ..]) => self.conv(node, window, false, [x, w], rest.first().copied()),
            (Op::ConvTranspose { window, .. }, &[x, w, ref rest @ ..]) => {
                self.conv(node, window, true, [x, w], rest.first().copied())
            }
            (Op::MaxPool { kernel, window }, &[x]) => self.pool(Pooling::Max, *kernel, window, x, out),
            (Op::AveragePool { kernel, window, count_include_pad }, &[x]) => {
                let pooling = if *count_include_pad { Pooling::MeanOfWindow } else { Pooling::Mean };
                self.pool(pooling, *kernel, window, x, out)
            }
            (Op::BatchNormalization { epsilon }, _) => self.normalise(node, *epsilon),
            (Op::Softmax { axis }, &[x]) => self.softmax(*axis, x, out),
            (Op::CausalSoftmax, &[x]) => self.causal_softmax(x, out),
            (Op::LeakyRelu { alpha }, &[x]) => self.leaky_relu(*alpha, x, out),
            (Op::Gelu, &[x]) => self.gelu(x, out),
            (Op::Dropout { .. }, &[x]) => {
                let layout = self.layout_of(x);
                let slot = self.require(x, layout)?;
                self.alias(out, layout, slot);
                Ok(())
            }
            (Op::LayerNormalization { axis, epsilon }, &[_, _, _]) => self.layer_norm(node, *axis, *epsilon),
            (Op::GroupNormalization { groups, epsilon }, &[_, _, _]) => self.group_norm(node, *groups, *epsilon),
            (Op::Embedding { .. }, &[ids, table]) => self.embedding(node, [ids, table]),
            (Op::Reshape, &[x]) => {
                let slot = self.require(x, Layout::Flat)?;
                self.alias(out, Layout::Flat, slot);
                Ok(())
            }
            (Op::Pad { pads, value }, &[x]) => {
                let source = layout::padded(self.shape(x), pads);
                self.rearrange(x, out, |i| source.get(i).copied().flatten(), *value)
            }
            (Op::Transpose { perm }, &[x]) => {
                let source = transpose_index(self.shape(x), perm);
                self.rearrange(x, out, |i| source.get(i).copied(), 0.0)
            }
            (Op::Select { indices }, &[x]) => self.rearrange(x, out, |i| indices.get(i).copied(), 0.0),
            (Op::Concat { axis }, operands) => self.concat(*axis, operands, out),
            _ => Err(Error::internal(format!(
                "node '{}' ({}) has another number of operands",
                node.name,
                node.op.name()
            ))),
        }
    }

    fn unary(&mut self, op: Unary, x: ValueId, out: ValueId) -> Result<()> {
        let layout = self.layout_of(x);
        let from = self.require(x, layout)?;
        let to = self.slot(out, layout);
        self.step(Work::Unary { op, x: Operand::Slot(from) }, to);
        Ok(())
    }

    /// Operands broadcast to the result's shape; the layout is that of an operand which has this shape already.
    fn binary(&mut self, op: Binary, x: ValueId, y: ValueId, out: ValueId) -> Result<()> {
        let shape = self.shape(out);
        let settled = [x, y].into_iter().find(|&id| self.constant_of(id).is_none() && self.shape(id) == shape);
        let layout = settled.map_or(Layout::Flat, |id| self.layout_of(id));
        let form = Form { shape, layout };
        let x = self.operand(x, form)?;
        let y = self.operand(y, form)?;
        let to = self.slot(out, layout);
        self.step(Work::Binary { op, x, y }, to);
        Ok(())
    }

    fn operand(&mut self, id: ValueId, form: Form<'_>) -> Result<Operand> {
        match self.constant_of(id) {
            Some(constant) => Ok(Operand::Constant(self.placed(constant, form, 1.0))),
            None => Ok(Operand::Slot(self.broadcast(id, form)?)),
        }
    }

    fn rearrange(
        &mut self,
        x: ValueId,
        out: ValueId,
        source: impl Fn(usize) -> Option<usize>,
        fill: f32,
    ) -> Result<()> {
        let layout = self.preferred(out);
        let form = Form { shape: self.shape(out), layout: layout.canonical(self.shape(out)) };
        let slot = self.moved(x, form, source, Some(fill))?;
        self.alias(out, layout, slot);
        Ok(())
    }

    fn concat(&mut self, axis: usize, operands: &[ValueId], out: ValueId) -> Result<()> {
        let shape = self.shape(out);
        let layout = self.preferred(out).canonical(shape);
        let lengths: Vec<usize> = operands.iter().map(|&id| self.shape(id)[axis]).collect();
        let inner: usize = shape[axis + 1..].iter().product();
        let slot = self.slot(out, layout);
        for (which, &id) in operands.iter().enumerate() {
            let source = layout::concatenated(&lengths, which, inner.max(1), shape.iter().product());
            self.move_into(id, Form { shape, layout }, |i| source.get(i).copied().flatten(), None, slot)?;
        }
        Ok(())
    }

    fn conv(
        &mut self,
        node: &Node,
        window: &Window,
        transposed: bool,
        [x, w]: [ValueId; 2],
        bias: Option<ValueId>,
    ) -> Result<()> {
        let weight = self.needs_constant(node, w)?;
        let view = weight.view().into_dimensionality::<Ix4>().map_err(|e| Error::internal(e.to_string()))?;
        let packed =
            if transposed { Weight::transposed(&view, window.groups)? } else { Weight::forward(&view, window.groups)? };
        let bias = match bias {
            Some(id) => {
                let elements: Vec<f32> = self.needs_constant(node, id)?.iter().copied().collect();
                Some(self.constant(vec![elements.len()], elements))
            }
            None => None,
        };
        let (image, result) = (image(self.shape(x))?, image(self.shape(node.output))?);
        let weight = self.constant(packed.elements.shape().to_vec(), packed.elements.iter().copied().collect());
        // Where there is one window or one tap, its distance to the next means nothing, and may be absurd.
        let (windows, taps) = (if transposed { image } else { result }, packed.elements.shape().to_vec());
        let geometry = Geometry {
            stride: std::array::from_fn(|k| if windows[k] == 1 { 1 } else { window.strides[k] }),
            pad: window.begin,
            dilation: std::array::from_fn(|k| if taps[k] == 1 { 1 } else { window.dilations[k] }),
            groups: packed.groups,
            transposed,
        };
        let x = self.require(x, Layout::Image)?;
        let to = self.slot(node.output, Layout::Image);
        self.step(Work::Conv { x, weight, bias, geometry, image, result, relu: false }, to);
        Ok(())
    }

    fn pool(&mut self, pooling: Pooling, kernel: [usize; 2], window: &Window, x: ValueId, out: ValueId) -> Result<()> {
        let (image, result) = (image(self.shape(x))?, image(self.shape(out))?);
        let pool = Pool {
            kernel,
            stride: std::array::from_fn(|k| if result[k] == 1 { 1 } else { window.strides[k] }),
            pad: window.begin,
            dilation: std::array::from_fn(|k| if kernel[k] == 1 { 1 } else { window.dilations[k] }),
        };
        let x = self.require(x, Layout::Image)?;
        let to = self.slot(out, Layout::Image);
        self.step(Work::Pool { x, pool, pooling, image, result }, to);
        Ok(())
    }

    /// `x s + t` with s and t from f64: the numbers that a file keeps are not needed one by one.
    fn normalise(&mut self, node: &Node, epsilon: f32) -> Result<()> {
        let &[x, ref statistics @ ..] = node.inputs.as_slice() else {
            return Err(Error::internal(format!("node '{}' has no operands", node.name)));
        };
        let mut known = Vec::with_capacity(4);
        for &id in statistics {
            known.push(self.needs_constant(node, id)?.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>());
        }
        let [scale, bias, mean, variance] = known.as_slice() else {
            return Err(Error::internal(format!("node '{}' has {} statistics", node.name, known.len())));
        };
        let factor: Vec<f64> = scale.iter().zip(variance).map(|(s, v)| s / (v + f64::from(epsilon)).sqrt()).collect();
        let shift = bias.iter().zip(mean).zip(&factor).map(|((b, m), f)| b - m * f);
        let shape = self.shape(x);
        let layout = self.layout_of(x);
        let mut parts = [Vec::new(), Vec::new()];
        parts[1].extend(shift.map(|v| v as f32));
        parts[0].extend(factor.iter().map(|&v| v as f32));
        let mut channel = vec![1; shape.len()];
        channel[1] = parts[0].len();
        let mut operands = Vec::with_capacity(2);
        for part in parts {
            let array = ArrayD::from_shape_vec(IxDyn(&channel), part).map_err(|e| Error::internal(e.to_string()))?;
            operands.push(Operand::Constant(self.placed(&array, Form { shape, layout }, 1.0)));
        }
        let from = self.require(x, layout)?;
        let scaled = self.temporary(layout.words(shape));
        self.step(Work::Binary { op: Binary::Mul, x: Operand::Slot(from), y: operands[0] }, scaled);
        let to = self.slot(node.output, layout);
        self.step(Work::Binary { op: Binary::Add, x: Operand::Slot(scaled), y: operands[1] }, to);
        Ok(())
    }

    /// Softmax along an axis: that axis is moved to the end, unless it is there.
    fn softmax(&mut self, axis: usize, x: ValueId, out: ValueId) -> Result<()> {
        let shape = self.shape(x).to_vec();
        let n = shape[axis];
        let rows = shape.iter().product::<usize>() / n.max(1);
        let layout = Layout::Rows(n);
        if axis + 1 == shape.len() {
            let from = self.require(x, layout)?;
            let to = self.slot(out, layout);
            self.step(Work::Softmax { x: from, rows, n }, to);
            return Ok(());
        }
        let mut perm: Vec<usize> = (0..shape.len()).filter(|&a| a != axis).collect();
        perm.push(axis);
        let turned: Vec<usize> = perm.iter().map(|&a| shape[a]).collect();
        let there = transpose_index(&shape, &perm);
        let form = Form { shape: &turned, layout: layout.canonical(&turned) };
        let from = self.moved(x, form, |i| there.get(i).copied(), Some(0.0))?;
        let middle = self.temporary(form.layout.words(&turned));
        self.step(Work::Softmax { x: from, rows, n }, middle);
        let mut back = vec![0; there.len()];
        for (i, &element) in there.iter().enumerate() {
            back[element] = i;
        }
        let to = Form { shape: &shape, layout: self.preferred(out).canonical(&shape) };
        let list = layout::index(form, to, |i| back.get(i).copied())?;
        let index = self.index(list);
        let slot = self.slot(out, to.layout);
        self.step(Work::Reorder { x: Operand::Slot(middle), index, fill: Some(0.0) }, slot);
        Ok(())
    }

    /// NumPy's product: leading dimensions are a stack, and broadcast.
    fn matmul(&mut self, [a, b]: [ValueId; 2], out: ValueId) -> Result<()> {
        let (left, right) = (self.shape(a), self.shape(b));
        let (m, k) = if let [.., m, k] = *left { (m, k) } else { (1, left.iter().product()) };
        let n = if let [.., _, n] = *right { n } else { 1 };
        let leading = |shape: &[usize]| shape[..shape.len().saturating_sub(2)].to_vec();
        let (stack_a, stack_b) = (leading(left), leading(right));
        let stack = broadcast(&stack_a, &stack_b).map_err(Error::internal)?;
        let pairs: usize = stack.iter().product();
        let x = self.factor(a, [&stack_a, &stack], [m, k])?;
        let y = self.factor(b, [&stack_b, &stack], [k, n])?;
        let slot = self.slot(out, Layout::Rows(n));
        self.product(x, y, None, [pairs, m, k, n], slot);
        Ok(())
    }

    /// One side of a product: a constant matrix that all pairs share, or a slot with the whole stack.
    fn factor(&mut self, id: ValueId, [own, stack]: [&[usize]; 2], [rows, columns]: [usize; 2]) -> Result<Operand> {
        if let (Some(constant), 1) = (self.constant_of(id), own.iter().product::<usize>()) {
            let elements = constant.iter().copied().collect();
            return Ok(Operand::Constant(self.constant(vec![rows, columns], elements)));
        }
        let layout = Layout::Rows(columns);
        let whole: Vec<usize> = stack.iter().copied().chain([rows, columns]).collect();
        if same_len(self.shape(id), &whole) {
            return Ok(Operand::Slot(self.require(id, layout)?));
        }
        let source: Vec<usize> = own.iter().copied().chain([rows, columns]).collect();
        let source = broadcast_index(&source, &whole);
        let form = Form { shape: &whole, layout: layout.canonical(&whole) };
        Ok(Operand::Slot(self.moved(id, form, |i| source.get(i).copied(), Some(0.0))?))
    }

    fn product(&mut self, a: Operand, b: Operand, bias: Option<usize>, size: [usize; 4], out: Slot) {
        let [stack, m, k, n] = size;
        // Rows that share their matrix are rows of one product.
        let size = if matches!(b, Operand::Constant(_)) { [1, stack * m, k, n] } else { size };
        self.step(Work::Product { a, b, bias, size, relu: false }, out);
    }

    /// `alpha op(A) op(B) + beta C`.
    fn gemm(&mut self, op: &Op, [a, b]: [ValueId; 2], c: Option<ValueId>, out: ValueId) -> Result<()> {
        let &Op::Gemm { alpha, beta, trans_a, trans_b } = op else {
            return Err(Error::internal("not a Gemm"));
        };
        let shape = self.shape(out);
        let &[m, n] = shape else { return Err(Error::internal(format!("a Gemm of shape {shape:?}"))) };
        let k = self.shape(a)[usize::from(!trans_a)];
        // The factor goes into one constant; what is left of it into a step of its own.
        let fold_b = self.constant_of(b).is_some();
        let fold_a = !fold_b && self.constant_of(a).is_some();
        let x = self.side(a, trans_a, [m, k], if fold_a { alpha } else { 1.0 })?;
        let y = self.side(b, trans_b, [k, n], if fold_b { alpha } else { 1.0 })?;
        let layout = Layout::Rows(n).canonical(shape);
        let form = Form { shape, layout };
        let rest = if fold_a || fold_b { 1.0 } else { alpha };
        let constant = c.and_then(|id| self.constant_of(id));
        let as_bias = constant.filter(|c| rest == 1.0 && (m == 1 || matches!(c.shape(), [_] | [1, _] | [])));
        let bias = as_bias.map(|c| {
            let row = Form { shape: &[n], layout: Layout::Flat };
            let elements = c.iter().copied().collect::<Vec<f32>>();
            self.placed(&ndarray::Array1::from(elements).into_dyn(), row, beta)
        });
        if rest == 1.0 && (c.is_none() || bias.is_some()) {
            let slot = self.slot(out, layout);
            self.product(x, y, bias, [1, m, k, n], slot);
            return Ok(());
        }
        let mut slot = self.temporary(layout.words(shape));
        self.product(x, y, bias, [1, m, k, n], slot);
        if rest != 1.0 {
            slot = self.scaled(Operand::Slot(slot), rest, layout.words(shape));
        }
        let Some(c) = c else {
            self.alias(out, layout, slot);
            return Ok(());
        };
        let third = match constant {
            Some(constant) => Operand::Constant(self.placed(constant, form, beta)),
            None => {
                let computed = self.broadcast(c, form)?;
                Operand::Slot(self.scaled(Operand::Slot(computed), beta, layout.words(shape)))
            }
        };
        let to = self.slot(out, layout);
        self.step(Work::Binary { op: Binary::Add, x: Operand::Slot(slot), y: third }, to);
        Ok(())
    }

    /// One side of a Gemm, `[rows, columns]` after its transposition.
    fn side(&mut self, id: ValueId, transposed: bool, [rows, columns]: [usize; 2], factor: f32) -> Result<Operand> {
        if let Some(constant) = self.constant_of(id) {
            let matrix = constant.mapv(|v| v * factor);
            let elements =
                if transposed { matrix.t().iter().copied().collect() } else { matrix.iter().copied().collect() };
            return Ok(Operand::Constant(self.constant(vec![rows, columns], elements)));
        }
        let layout = Layout::Rows(columns);
        if !transposed {
            return Ok(Operand::Slot(self.require(id, layout)?));
        }
        let shape = [rows, columns];
        let source = transpose_index(self.shape(id), &[1, 0]);
        let form = Form { shape: &shape, layout: layout.canonical(&shape) };
        Ok(Operand::Slot(self.moved(id, form, |i| source.get(i).copied(), Some(0.0))?))
    }

    pub(super) fn scaled(&mut self, x: Operand, factor: f32, words: usize) -> Slot {
        let factor = Operand::Constant(self.constant(vec![1], vec![factor]));
        let out = self.temporary(words);
        self.step(Work::Binary { op: Binary::Mul, x, y: factor }, out);
        out
    }
}

/// `[height, width, channels]` of `[1, C, H, W]`.
fn image(shape: &[usize]) -> Result<[usize; 3]> {
    match *shape {
        [1, channels, height, width] => Ok([height, width, channels]),
        _ => Err(Error::internal(format!("an image of shape {shape:?}"))),
    }
}
