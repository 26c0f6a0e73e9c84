//! Operators that change shapes and move elements, and arithmetic on shapes.

use super::{Builder, Site, Slot};
use crate::error::Result;
use crate::graph::onnx::reshape;
use crate::graph::onnx::tensor::Integers;
use crate::graph::{Op, ValueId};

impl<'a> Builder<'a> {
    /// What the first operand stands for.
    pub(super) fn first(&mut self, site: &Site<'a>) -> Result<Slot> {
        self.slot(site.required(0)?, &site.reader())
    }

    /// Lets the first output stand for integers.
    pub(super) fn emit_integers(&mut self, site: &Site<'a>, integers: Integers) -> Result<()> {
        self.slots.insert(site.output()?, Slot::Int(integers));
        Ok(())
    }

    pub(super) fn reshape(&mut self, site: &Site<'a>) -> Result<()> {
        let known: &[&str] = match site.op {
            "Flatten" => &["axis"],
            "Reshape" => &["shape", "allowzero"],
            _ => &["axes"],
        };
        let attributes = site.attributes(known)?;
        let slot = self.first(site)?;
        let from = match &slot {
            Slot::Float(id) | Slot::Ids(id) => self.shape(*id).to_vec(),
            Slot::Int(integers) => integers.dims.clone(),
        };
        let shape = if site.op == "Flatten" {
            reshape::flatten(&from, attributes.int("axis", 1)?)
        } else {
            let name = known[0];
            let list = self.integers(site, attributes.ints(name)?, 1, name)?;
            match (site.op, list) {
                ("Squeeze", list) => reshape::squeeze(&from, list.as_deref()),
                ("Unsqueeze", Some(axes)) => reshape::unsqueeze(&from, &axes),
                ("Reshape", Some(spec)) => reshape::reshape(&from, &spec, attributes.flag("allowzero")?),
                _ => Err(format!("it has no {name}")),
            }
        };
        let shape = shape.map_err(|why| site.bad(&why))?;
        match slot {
            Slot::Float(x) => self.emit(site, Op::Reshape, vec![x], shape),
            Slot::Int(integers) => self.emit_integers(site, Integers { dims: shape, ..integers }),
            Slot::Ids(x) => {
                self.emit(site, Op::Reshape, vec![x], shape)?;
                self.become_ids(site)
            }
        }
    }

    /// Makes the number that the node's output stands for a whole one.
    fn become_ids(&mut self, site: &Site<'a>) -> Result<()> {
        let name = site.output()?;
        if let Some(&Slot::Float(id)) = self.slots.get(name) {
            self.slots.insert(name, Slot::Ids(id));
        }
        Ok(())
    }

    /// The shape of a tensor as integers.
    pub(super) fn shape_of(&mut self, site: &Site<'a>) -> Result<()> {
        let attributes = site.attributes(&["start", "end"])?;
        let x = match self.first(site)? {
            Slot::Ids(x) => x,
            _ => self.operand(site, 0)?,
        };
        let shape: Vec<i64> = self.shape(x).iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect();
        let rank = i64::try_from(shape.len()).unwrap_or(i64::MAX);
        let place = |at: i64| {
            let at = if at < 0 { at.saturating_add(rank) } else { at };
            usize::try_from(at.clamp(0, rank)).unwrap_or_default()
        };
        let (start, end) = (place(attributes.int("start", 0)?), place(attributes.int("end", rank)?));
        self.emit_integers(site, Integers::list(shape[start.min(end)..end].to_vec()))
    }

    /// A change of type that changes no number: between kinds of integers, or between `f32` and `f64`, which are both
    /// real numbers here. Numbers that become integers can do nothing but name rows of tables, for which they must be whole.
    pub(super) fn cast(&mut self, site: &Site<'a>) -> Result<()> {
        let to = site.attributes(&["to", "saturate"])?.int("to", 0)?;
        // TensorProto.DataType: 1 FLOAT, 11 DOUBLE; 6 INT32, 7 INT64.
        match (self.first(site)?, to) {
            (Slot::Float(_), 1 | 11) | (Slot::Int(_) | Slot::Ids(_), 6 | 7) => self.alias(site),
            (Slot::Float(x), 6 | 7) if self.values[x.0].constant.is_none() => {
                self.slots.insert(site.output()?, Slot::Ids(x));
                Ok(())
            }
            (_, to) => Err(site
                .unsupported(&format!("a change to element type {to}, which may change numbers"))
                .with_help("export the network in FLOAT throughout")),
        }
    }

    pub(super) fn transpose(&mut self, site: &Site<'a>) -> Result<()> {
        let attributes = site.attributes(&["perm"])?;
        let x = self.operand(site, 0)?;
        let perm = match attributes.ints("perm")? {
            None => (0..self.shape(x).len()).rev().collect(),
            Some(perm) => {
                let converted: Option<Vec<usize>> = perm.iter().map(|&axis| usize::try_from(axis).ok()).collect();
                converted.ok_or_else(|| site.bad(&format!("attribute 'perm' is {perm:?}")))?
            }
        };
        self.emit(site, Op::Transpose { perm }, vec![x], vec![])
    }

    pub(super) fn concat(&mut self, site: &Site<'a>) -> Result<()> {
        let attributes = site.attributes(&["axis"])?;
        let at = attributes.int("axis", 1)?;
        let slots = (0..site.node.input.len()).map(|i| self.slot(site.required(i)?, &site.reader()));
        let slots = slots.collect::<Result<Vec<Slot>>>()?;
        let lists: Option<Vec<&Integers>> =
            slots.iter().map(|slot| if let Slot::Int(list) = slot { Some(list) } else { None }).collect();
        if let Some(lists) = lists.filter(|lists| !lists.is_empty()) {
            if matches!(at, 0 | -1) && lists.iter().all(|list| list.dims.len() == 1) {
                self.reserve(site, &[lists.iter().map(|list| list.data.len()).sum()])?;
                let joined = lists.iter().flat_map(|list| list.data.iter().copied()).collect();
                return self.emit_integers(site, Integers::list(joined));
            }
            return Err(site.bad("integers that are no lists"));
        }
        let operands = (0..slots.len()).map(|i| self.operand(site, i)).collect::<Result<Vec<ValueId>>>()?;
        let rank = operands.first().map_or(0, |&id| self.shape(id).len());
        let axis = reshape::axis(at, rank, false).map_err(|why| site.bad(&why))?;
        self.emit(site, Op::Concat { axis }, operands, vec![])
    }

    pub(super) fn pad(&mut self, site: &Site<'a>) -> Result<()> {
        let attributes = site.attributes(&["mode", "pads", "paddings", "value"])?;
        let mode = attributes.string("mode")?;
        if !matches!(mode, "" | "constant") {
            return Err(site
                .unsupported(&format!("attribute 'mode' is '{mode}'"))
                .with_help("only padding with a constant is supported"));
        }
        let x = self.operand(site, 0)?;
        // `paddings` is the name of operator set 1.
        let listed = attributes.ints("pads")?.or(attributes.ints("paddings")?);
        let list = self.integers(site, listed, 1, "pads")?.ok_or_else(|| site.bad("it has no pads"))?;
        let axes = self.integers(site, None, 3, "axes")?;
        let pads = pads(&list, axes.as_deref(), self.shape(x).len()).map_err(|why| site.bad(&why))?;
        if list.iter().any(|&pad| pad < 0) {
            return Err(site
                .unsupported(&format!("its padding {list:?} is negative"))
                .with_help("crop with a Slice instead of negative padding"));
        }
        let mut value = attributes.float("value", 0.0)?;
        if site.operand(2).is_some() {
            value = self.number(site, 2, "padding value")?;
        }
        if pads.iter().all(|&pad| pad == [0, 0]) {
            return self.alias(site);
        }
        self.emit(site, Op::Pad { pads, value }, vec![x], vec![])
    }
}

/// `[before, after]` for each axis; the list has all numbers before, then all numbers after. Negative ones read as 0.
fn pads(list: &[i64], axes: Option<&[i64]>, rank: usize) -> Result<Vec<[usize; 2]>, String> {
    let axes = match axes {
        Some(axes) => axes.iter().map(|&at| reshape::axis(at, rank, false)).collect::<Result<Vec<_>, _>>()?,
        None => (0..rank).collect(),
    };
    if list.len() != 2 * axes.len() {
        return Err(format!("{} numbers of padding for {} axes", list.len(), axes.len()));
    }
    let number = |at: usize| usize::try_from(list[at]).unwrap_or_default();
    let mut pads = vec![[0, 0]; rank];
    for (i, &axis) in axes.iter().enumerate() {
        pads[axis] = [number(i), number(axes.len() + i)];
    }
    Ok(pads)
}
