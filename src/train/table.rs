//! The table of a member's parameters: which field holds which constant of the graph, and how its elements lie there.

use std::collections::HashMap;

use ndarray::ArrayD;

use super::Model;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Graph, Op, ValueId};
use crate::tensor::{ALIGNED, Tensor, pitch};

/// How a constant lies in its field.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    /// As in the graph, rows padded.
    Rows,
    /// A convolution's `[M, C / groups, kH, kW]` as `[kH, kW, C / groups, M]`. A transposed one's is that of the convolution that it
    /// is the transpose of.
    Conv,
    /// A matrix with rows and columns exchanged: products of rows with it read it in whole vectors.
    Turned,
    /// Row 0 or 1 of the pair that a normalisation has.
    Pair(usize),
}

/// A constant and its place.
#[derive(Debug, Clone)]
struct Entry {
    value: ValueId,
    /// The shape in the graph.
    shape: Vec<usize>,
    field: usize,
    order: Order,
}

/// A part of a table's row, see [`Tensor::field`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// Its first word in a row.
    pub first: usize,
    /// Its shape on the device.
    pub shape: Vec<usize>,
    /// A matrix that has rows and columns exchanged.
    pub turned: bool,
}

impl Field {
    /// Length of the last axis.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows of that length.
    pub fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// Words that it takes.
    pub fn words(&self) -> usize {
        self.rows() * if self.shape.len() > 1 { pitch(self.columns()) } else { self.columns() }
    }

    /// This field of a table.
    pub fn of(&self, table: &Tensor) -> Result<Tensor> {
        table.field(self.first, &self.shape).ok_or_else(|| Error::internal(format!("a table has no field {self:?}")))
    }

    /// The same memory with another shape of as many words.
    pub fn shaped(&self, table: &Tensor, shape: &[usize]) -> Result<Tensor> {
        table.field(self.first, shape).ok_or_else(|| Error::internal(format!("a table has no {shape:?} at {self:?}")))
    }
}

/// Fields of a table, and the constants in them.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    /// Words of a row.
    pub width: usize,
    pub fields: Vec<Field>,
    entries: Vec<Entry>,
    by_value: HashMap<ValueId, usize>,
}

impl Table {
    /// The table of what is trained.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a constant that two unlike operators share.
    pub fn parameters(model: &Model) -> Result<Self> {
        let graph = &model.graph;
        let mut table = Self::default();
        for (index, node) in graph.nodes.iter().enumerate() {
            let is_parameter = |value: &ValueId| model.parameters.iter().any(|p| p.value == *value);
            match node.op {
                Op::Conv(_) | Op::ConvTranspose { .. } => table.conv(graph, index, &is_parameter)?,
                Op::Gemm { trans_b: true, .. } => table.matrix(graph, index, &is_parameter)?,
                _ if norm_operands(&node.op) => table.pair(graph, index, [1, 2], &is_parameter)?,
                _ => {}
            }
        }
        for parameter in &model.parameters {
            if !table.by_value.contains_key(&parameter.value) {
                let field = table.field(rows(&graph.value(parameter.value).shape));
                table.insert(graph, parameter.value, field, Order::Rows)?;
            }
        }
        Ok(table)
    }

    /// The table of running statistics, of which the fields stand in the order of the nodes.
    pub fn statistics(graph: &Graph) -> Result<Self> {
        let mut table = Self::default();
        for (index, node) in graph.nodes.iter().enumerate() {
            if matches!(node.op, Op::BatchNormalization { .. }) {
                table.pair(graph, index, [3, 4], &|_| true)?;
            }
        }
        Ok(table)
    }

    fn conv(&mut self, graph: &Graph, node: usize, wanted: &dyn Fn(&ValueId) -> bool) -> Result<()> {
        let weight = graph.nodes[node].inputs[1];
        let &[m, c, h, w] = graph.value(weight).shape.as_slice() else { return Ok(()) };
        if wanted(&weight) && !self.by_value.contains_key(&weight) {
            let field = self.field(vec![h, w, c, m]);
            self.insert(graph, weight, field, Order::Conv)?;
        }
        Ok(())
    }

    /// The weight of a dense layer as torch stores it, `[out, in]`.
    fn matrix(&mut self, graph: &Graph, node: usize, wanted: &dyn Fn(&ValueId) -> bool) -> Result<()> {
        let weight = graph.nodes[node].inputs[1];
        let alone = graph.nodes.iter().flat_map(|n| &n.inputs).filter(|input| **input == weight).count() == 1;
        let &[rows, columns] = graph.value(weight).shape.as_slice() else { return Ok(()) };
        if alone && wanted(&weight) && !self.by_value.contains_key(&weight) {
            let field = self.field(vec![columns, rows]);
            self.fields[field].turned = true;
            self.insert(graph, weight, field, Order::Turned)?;
        }
        Ok(())
    }

    fn pair(
        &mut self,
        graph: &Graph,
        node: usize,
        operands: [usize; 2],
        wanted: &dyn Fn(&ValueId) -> bool,
    ) -> Result<()> {
        let values = operands.map(|operand| graph.nodes[node].inputs[operand]);
        match values.map(|value| wanted(&value)) {
            [true, true] => {}
            [false, false] => return Ok(()),
            _ => {
                let what =
                    format!("node '{}' has a trained scale and a fixed shift, or the reverse", graph.nodes[node].name);
                return Err(Error::new(ErrorKind::Unsupported, what).with_help("train both or none"));
            }
        }
        let length = graph.value(values[0]).shape.iter().product();
        let field = self.field(vec![2, length]);
        for (row, value) in values.into_iter().enumerate() {
            self.insert(graph, value, field, Order::Pair(row))?;
        }
        Ok(())
    }

    fn field(&mut self, shape: Vec<usize>) -> usize {
        let field = Field { first: self.width, shape, turned: false };
        self.width += field.words().next_multiple_of(ALIGNED);
        self.fields.push(field);
        self.fields.len() - 1
    }

    fn insert(&mut self, graph: &Graph, value: ValueId, field: usize, order: Order) -> Result<()> {
        let found = graph.value(value);
        if self.by_value.insert(value, self.entries.len()).is_some() {
            let what = format!("constant '{}' belongs to several normalisations", found.name);
            return Err(Error::new(ErrorKind::Unsupported, what).with_help("give each its own"));
        }
        self.entries.push(Entry { value, shape: found.shape.clone(), field, order });
        Ok(())
    }

    /// The field of a constant, if it is here.
    pub fn get(&self, value: ValueId) -> Option<&Field> {
        self.by_value.get(&value).map(|&entry| &self.fields[self.entries[entry].field])
    }

    /// The constants, in the order of their places.
    pub fn values(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.entries.iter().map(|entry| entry.value)
    }

    /// Puts a constant's elements (row-major as in the graph) into a row.
    pub fn write(&self, row: &mut [f32], value: ValueId, elements: &[f32]) {
        self.each(value, |element, word| row[word] = elements[element]);
    }

    /// A constant's elements from a row.
    pub fn read(&self, row: &[f32], value: ValueId) -> Option<ArrayD<f32>> {
        let entry = &self.entries[*self.by_value.get(&value)?];
        let mut elements = vec![0.0; entry.shape.iter().product()];
        self.each(value, |element, word| elements[element] = row[word]);
        ArrayD::from_shape_vec(entry.shape.clone(), elements).ok()
    }

    /// Zeroes what belongs to no constant: kernels leave anything in the padding of rows, and a member is not what is there.
    pub fn clear_padding(&self, row: &mut [f32]) {
        let mut clean = vec![0.0; row.len()];
        for entry in &self.entries {
            self.each(entry.value, |_, word| clean[word] = row[word]);
        }
        row.copy_from_slice(&clean);
    }

    /// Calls with each element of a constant and its word in a row.
    fn each(&self, value: ValueId, mut call: impl FnMut(usize, usize)) {
        let Some(entry) = self.by_value.get(&value).map(|&index| &self.entries[index]) else { return };
        let field = &self.fields[entry.field];
        let (columns, len) = (field.columns(), entry.shape.iter().product::<usize>());
        let stride = if field.shape.len() > 1 { pitch(columns) } else { columns };
        for element in 0..len {
            let (row, column) = match entry.order {
                Order::Rows => (element / columns, element % columns),
                Order::Pair(row) => (row, element),
                Order::Turned => (element % field.shape[0], element / field.shape[0]),
                Order::Conv => {
                    let taps = entry.shape[2] * entry.shape[3];
                    let (m, c, tap) =
                        (element / taps / entry.shape[1], element / taps % entry.shape[1], element % taps);
                    (tap * entry.shape[1] + c, m)
                }
            };
            call(element, field.first + row * stride + column);
        }
    }
}

/// The shape of a field for a constant of this shape: one row for a vector, whatever axes of length 1 it has around.
fn rows(shape: &[usize]) -> Vec<usize> {
    let mut long = shape.iter().filter(|&&length| length != 1);
    match (long.next(), long.next()) {
        (Some(&length), None) if shape.len() > 2 => vec![length],
        _ => {
            let front = shape.iter().take_while(|&&length| length == 1).count().min(shape.len().saturating_sub(1));
            shape[front..].to_vec()
        }
    }
}

/// Whether operands 1 and 2 of an operator are a normalisation's scale and shift.
pub(super) fn norm_operands(op: &Op) -> bool {
    matches!(op, Op::BatchNormalization { .. } | Op::LayerNormalization { .. } | Op::GroupNormalization { .. })
}
