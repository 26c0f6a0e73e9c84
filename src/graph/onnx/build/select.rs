//! Slice, Gather and Split: which elements they take.

use super::{Builder, Site, Slot};
use crate::error::Result;
use crate::graph::onnx::reshape;
use crate::graph::onnx::tensor::Integers;
use crate::graph::shape::{elements, lattice, stride};
use crate::graph::{Op, ValueId};
use std::sync::Arc;

/// Most elements that all selections of one network may have: each takes an index of 8 bytes.
const MAX_SELECTED: usize = 1 << 24;

/// The indices of the elements that have one of these places along each axis.
fn places(shape: &[usize], lists: &[Vec<usize>]) -> Vec<usize> {
    let axes = lists.iter().enumerate();
    lattice(axes.map(|(axis, list)| list.iter().map(|at| at * stride(shape, axis)).collect()))
}

/// The places that a slice of an axis of `len` takes.
fn slice([start, end, step]: [i64; 3], len: usize) -> Result<Vec<usize>, String> {
    let len = i64::try_from(len).map_err(|_| format!("an axis of {len} elements"))?;
    let place = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
    let (first, last) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let (start, end) = (place(start).clamp(first, last), place(end).clamp(first, last));
    let distance = if step > 0 { end - start } else { start - end };
    let Some(size) = step.checked_abs().filter(|&size| size > 0) else {
        return Err(format!("a step of {step}"));
    };
    let count = if distance > 0 { (distance - 1) / size + 1 } else { 0 };
    (0..count).map(|i| usize::try_from(start + i * step).map_err(|_| format!("start {start}"))).collect()
}

/// The place that a possibly negative index means.
fn index(at: i64, len: usize) -> Result<usize, String> {
    let signed = i64::try_from(len).unwrap_or(i64::MAX);
    let place = if at < 0 { at.saturating_add(signed) } else { at };
    let place = usize::try_from(place).ok().filter(|&place| place < len);
    place.ok_or_else(|| format!("index {at} is outside an axis of {len} elements"))
}

/// How many elements each of `count` equal parts of an axis has; the last may have fewer.
fn parts(len: usize, count: usize) -> Vec<i64> {
    let size = len.div_ceil(count.max(1));
    (0..count).map(|i| len.saturating_sub(i * size).min(size)).map(|part| part.try_into().unwrap_or(i64::MAX)).collect()
}

impl<'a> Builder<'a> {
    pub(super) fn slice(&mut self, site: &Site<'a>) -> Result<()> {
        let a = site.attributes(&["starts", "ends", "axes"])?;
        let list = |b: &mut Self, name, i| b.integers(site, a.ints(name)?, i, name);
        let (starts, ends) = (list(self, "starts", 1)?, list(self, "ends", 2)?);
        let (Some(starts), Some(ends)) = (starts, ends) else {
            return Err(site.bad("it has no starts or no ends"));
        };
        let axes = list(self, "axes", 3)?.unwrap_or_else(|| (0i64..).take(starts.len()).collect());
        let steps = self.integers(site, None, 4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err(site.bad(&format!("starts {starts:?}, ends {ends:?}, axes {axes:?} and steps {steps:?}")));
        }
        let (slot, shape) = self.selected(site)?;
        let mut lists = self.everything(site, &shape)?;
        for (i, &at) in axes.iter().enumerate() {
            let axis = reshape::axis(at, shape.len(), false).map_err(|why| site.bad(&why))?;
            let taken = slice([starts[i], ends[i], steps[i]], shape[axis]);
            lists[axis] = taken.map_err(|why| site.bad(&format!("axis {axis}: {why}")))?;
        }
        self.take(site, slot, &shape, &lists, lists.iter().map(Vec::len).collect())
    }

    pub(super) fn gather(&mut self, site: &Site<'a>) -> Result<()> {
        let at = site.attributes(&["axis"])?.int("axis", 0)?;
        let (slot, shape) = self.selected(site)?;
        let axis = reshape::axis(at, shape.len(), false).map_err(|why| site.bad(&why))?;
        let indices = match self.slot(site.required(1)?, &site.reader())? {
            Slot::Int(indices) => indices,
            Slot::Ids(ids) if axis == 0 && shape.len() == 2 => {
                let table = self.fixed(site, 0, "table")?;
                return self.emit(site, Op::Embedding { padding: None }, vec![ids, table], vec![]);
            }
            _ => {
                return Err(site.unsupported("its indices are not constant integers").with_help(
                    "elements at fixed places can be gathered, and rows of a constant table [rows, width]",
                ));
            }
        };
        let taken = indices.data.iter().map(|&at| index(at, shape[axis])).collect::<Result<Vec<_>, _>>();
        let mut lists = self.everything(site, &shape)?;
        lists[axis] = taken.map_err(|why| site.bad(&why))?;
        let result = [&shape[..axis], &indices.dims, &shape[axis + 1..]].concat();
        self.take(site, slot, &shape, &lists, result)
    }

    /// What the first operand stands for, and its shape.
    fn selected(&mut self, site: &Site<'a>) -> Result<(Slot, Vec<usize>)> {
        let slot = match self.first(site)? {
            // Selected numbers are no ids any more; the error says so.
            Slot::Ids(_) => Slot::Float(self.operand(site, 0)?),
            slot => slot,
        };
        let shape = match &slot {
            Slot::Float(x) | Slot::Ids(x) => self.shape(*x).to_vec(),
            Slot::Int(integers) => integers.dims.clone(),
        };
        Ok((slot, shape))
    }

    /// All places along each axis of a tensor that is to be selected from.
    fn everything(&self, site: &Site<'a>, shape: &[usize]) -> Result<Vec<Vec<usize>>> {
        self.selectable(site, elements(shape).map_err(|why| site.bad(&why))?)?;
        Ok(shape.iter().map(|&dim| (0..dim).collect()).collect())
    }

    /// Refuses what would take the memory of more than [`MAX_SELECTED`] indices.
    fn selectable(&self, site: &Site<'a>, count: usize) -> Result<()> {
        if count <= MAX_SELECTED {
            return Ok(());
        }
        Err(site
            .unsupported(&format!("selections of and from more than {MAX_SELECTED} elements"))
            .with_help("a damaged file may ask for this; else split the network's tensors before exporting it"))
    }

    /// Counts the elements of a selection, or of a list of integers, before it is made.
    pub(super) fn reserve(&mut self, site: &Site<'a>, shape: &[usize]) -> Result<()> {
        let count = elements(shape).map_err(|why| site.bad(&why))?;
        if count == 0 {
            return Err(site.bad(&format!("its result of shape {shape:?} is empty")));
        }
        self.selected = self.selected.saturating_add(count);
        self.selectable(site, self.selected)
    }

    /// Lets the first output stand for the elements at these places along each axis; `result` is their shape.
    fn take(
        &mut self,
        site: &Site<'a>,
        slot: Slot,
        shape: &[usize],
        lists: &[Vec<usize>],
        result: Vec<usize>,
    ) -> Result<()> {
        self.reserve(site, &result)?;
        let indices = places(shape, lists);
        match slot {
            Slot::Float(x) | Slot::Ids(x) => self.emit_select(site, (site.output()?, ""), x, (indices, result)),
            Slot::Int(integers) => {
                let data = indices.into_iter().map(|i| integers.data[i]).collect();
                self.emit_integers(site, Integers { dims: result, data })
            }
        }
    }

    /// Adds a `Select` as an output of the node; the suffix tells the nodes of one with several outputs apart.
    fn emit_select(
        &mut self,
        site: &Site<'a>,
        (name, suffix): (&'a str, &str),
        x: ValueId,
        (indices, shape): (Vec<usize>, Vec<usize>),
    ) -> Result<()> {
        let op = Op::Select { indices: Arc::new(indices) };
        let id = self.infer(site, [&format!("{}{suffix}", site.name), name], op, vec![x], shape)?;
        self.slots.insert(name, Slot::Float(id));
        Ok(())
    }

    pub(super) fn split(&mut self, site: &Site<'a>) -> Result<()> {
        let attributes = site.attributes(&["axis", "split", "num_outputs"])?;
        let x = self.operand(site, 0)?;
        let shape = self.shape(x).to_vec();
        let axis = reshape::axis(attributes.int("axis", 0)?, shape.len(), false).map_err(|why| site.bad(&why))?;
        let outputs = &site.node.output;
        let sizes = self.integers(site, attributes.ints("split")?, 1, "split")?;
        let sizes = sizes.unwrap_or_else(|| parts(shape[axis], outputs.len()));
        let converted: Option<Vec<usize>> = sizes.iter().map(|&size| usize::try_from(size).ok()).collect();
        let total = converted.iter().flatten().try_fold(0usize, |sum, &size| sum.checked_add(size));
        let Some(converted) = converted.filter(|c| c.len() == outputs.len() && total == Some(shape[axis])) else {
            let count = outputs.len();
            return Err(site.bad(&format!("parts {sizes:?} of axis {axis} of shape {shape:?} for {count} outputs")));
        };
        let mut lists = self.everything(site, &shape)?;
        let mut start = 0;
        for (i, (name, &size)) in outputs.iter().zip(&converted).enumerate() {
            lists[axis] = (start..start + size).collect();
            start += size;
            if !self.read.contains(name.as_str()) || name.is_empty() {
                continue;
            }
            let result: Vec<usize> = lists.iter().map(Vec::len).collect();
            self.reserve(site, &result)?;
            let selection = (places(&shape, &lists), result);
            self.emit_select(site, (name, &format!("_{i}")), x, selection)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_count_from_both_ends() {
        let taken = |start, end, step| slice([start, end, step], 5).unwrap();
        assert_eq!(taken(1, 4, 1), [1, 2, 3]);
        assert_eq!(taken(-3, i64::MAX, 2), [2, 4]);
        assert_eq!(taken(i64::MAX, i64::MIN, -2), [4, 2, 0]);
        assert_eq!(taken(3, 0, -1), [3, 2, 1]);
        assert_eq!(taken(-9, 2, 1), [0, 1]);
        assert_eq!(taken(4, 1, 1), [0; 0]);
        assert_eq!(taken(0, 5, i64::MAX), [0]);
        assert!(slice([0, 5, 0], 5).is_err() && slice([0, 5, i64::MIN], 5).is_err());
    }

    #[test]
    fn indices_and_parts_fit_their_axis() {
        assert_eq!((index(-1, 3), index(2, 3)), (Ok(2), Ok(2)));
        assert!(index(3, 3).is_err() && index(-4, 3).is_err() && index(i64::MIN, 3).is_err());
        assert_eq!(parts(7, 3), [3, 3, 1]);
        assert_eq!(parts(4, 2), [2, 2]);
        assert_eq!(places(&[2, 3], &[vec![1], vec![2, 0]]), [5, 3]);
    }
}
