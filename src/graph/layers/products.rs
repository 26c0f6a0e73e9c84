//! Matrix products of a computed value with constants.

use super::linear::Linear;
use super::lower::{Lowering, check_terms, refused, too_big};
use super::sparse::Terms;
use super::store;
use super::term::Term;
use super::weights::Weights;
use crate::error::Result;
use crate::graph::bounded::Bounded;
use crate::graph::shape::{self, MAX_ELEMENTS, broadcast_index};
use crate::graph::{Node, ValueId};

/// Products `[m, k] [k, n]` for a stack of pairs of matrices, one side of which is computed.
struct Product {
    m: usize,
    k: usize,
    n: usize,
    /// Which matrices of both sides meet, in the order of the result.
    pairs: Vec<[usize; 2]>,
    /// Whether the sides are stored transposed.
    transposed: [bool; 2],
    /// The side that is computed.
    side: usize,
}

impl Product {
    /// The elements `[left, right]` that product `pair` multiplies at row i, column j and depth l.
    fn elements(&self, pair: [usize; 2], i: usize, j: usize, l: usize) -> [usize; 2] {
        let Self { m, k, n, transposed, .. } = *self;
        let left = if transposed[0] { l * m + i } else { i * k + l };
        let right = if transposed[1] { j * k + l } else { l * n + j };
        [pair[0] * m * k + left, pair[1] * k * n + right]
    }

    /// Whether every result reads every computed value.
    fn is_dense(&self) -> bool {
        self.pairs.len() == 1 && [self.m, self.n][self.side] == 1
    }

    /// The terms (computed value, constant) of each result.
    fn rows(&self) -> impl Iterator<Item = impl Iterator<Item = [usize; 2]> + '_> + '_ {
        let at = move |pair: [usize; 2], i: usize, j: usize| {
            (0..self.k).map(move |l| {
                let elements = self.elements(pair, i, j, l);
                [elements[self.side], elements[1 - self.side]]
            })
        };
        let places = (0..self.m).flat_map(move |i| (0..self.n).map(move |j| (i, j)));
        self.pairs.iter().flat_map(move |&pair| places.clone().map(move |(i, j)| at(pair, i, j)))
    }
}

impl Lowering<'_> {
    pub(super) fn matmul(&mut self, node: &Node) -> Result<Term> {
        let shapes = [0, 1].map(|i| self.graph.value(node.inputs[i]).shape.as_slice());
        let shape::MatMulShape { m, k, n, batch_a, batch_b, batch, .. } =
            shape::matmul(shapes[0], shapes[1]).map_err(|why| refused(node, &why))?;
        let left = broadcast_index(&batch_a, &batch);
        let pairs = left.into_iter().zip(broadcast_index(&batch_b, &batch)).map(|(a, b)| [a, b]).collect();
        let side = self.computed_side(node)?;
        self.multiplied(node, &Product { m, k, n, pairs, transposed: [false; 2], side })
    }

    pub(super) fn gemm(&mut self, node: &Node, [alpha, beta]: [f32; 2], transposed: [bool; 2]) -> Result<Term> {
        let shape = |id: ValueId| self.graph.value(id).shape.as_slice();
        let [m, k, n] = shape::gemm(shape(node.inputs[0]), shape(node.inputs[1]), None, transposed[0], transposed[1])
            .map_err(|why| refused(node, &why))?;
        let side = self.computed_side(node)?;
        let mut term = self.multiplied(node, &Product { m, k, n, pairs: vec![[0, 0]], transposed, side })?;
        let factor = |by: f32, len: usize| vec![Bounded::exact(f64::from(by)); len];
        if alpha != 1.0 {
            term = self.scaled(term, &factor(alpha, m * n), Bounded::mul, &node.name)?;
        }
        match node.inputs.get(2) {
            None => Ok(term),
            Some(&id) if self.computed[id.0] => {
                let mut other = self.widened(id, &[m, n], &node.name)?;
                if beta != 1.0 {
                    other = self.scaled(other, &factor(beta, m * n), Bounded::mul, &node.name)?;
                }
                self.added(term, other, &node.name)
            }
            Some(&id) => {
                let mut shift = self.broadcast(id, &[m, n])?;
                let beta = Bounded::exact(f64::from(beta));
                shift.iter_mut().for_each(|c| *c = c.mul(beta));
                term.shift(&shift);
                Ok(term)
            }
        }
    }

    /// Which of the first two operands is computed.
    fn computed_side(&self, node: &Node) -> Result<usize> {
        match [0, 1].map(|i| self.computed[node.inputs[i].0]) {
            [true, true] => Err(refused(node, "multiplies two computed values")),
            [true, false] => Ok(0),
            [false, true] => Ok(1),
            [false, false] => Err(refused(node, "adds a computed value to a product of constants")),
        }
    }

    fn multiplied(&mut self, node: &Node, product: &Product) -> Result<Term> {
        let constant = node.inputs[1 - product.side];
        let map = if product.is_dense() {
            let rows = product.m * product.n;
            if shape::elements(&[rows, product.k]).is_err() {
                return Err(too_big(node, &format!("a dense layer of more than {MAX_ELEMENTS} weights")));
            }
            let (numbers, rel) = self.numbers(constant, &node.name)?;
            let data = product.rows().flatten().map(|[_, at]| numbers[at]).collect();
            Linear::Dense(Weights::new(data, [rows, product.k, 1], rel))
        } else {
            check_terms(node, &[product.pairs.len(), product.m, product.n, product.k])?;
            let numbers = &self.constant(constant)?.data;
            let width = self.graph.value(node.inputs[product.side]).shape.iter().product();
            let mut terms = Terms::new(width);
            for row in product.rows() {
                terms.push(row.map(|[column, at]| (column, numbers[at])));
            }
            Linear::Sparse(terms)
        };
        let term = self.take(node.inputs[product.side])?;
        self.followed(term, &map, &node.name)
    }

    /// A constant in `f32` and a bound on its relative errors (0 for the numbers of the file), row-major.
    pub(super) fn numbers(&self, id: ValueId, node: &str) -> Result<(Vec<f32>, f64)> {
        match &self.graph.value(id).constant {
            Some(constant) => Ok((constant.iter().copied().collect(), 0.0)),
            None => store::weights(self.constant(id)?.data.iter().copied(), node),
        }
    }
}
