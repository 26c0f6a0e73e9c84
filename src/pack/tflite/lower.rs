//! From the tables of a file to steps of integer inference.

use std::collections::HashMap;
use std::sync::Arc;

use super::flatbuffer::Table;
use super::model::{Described, Model, Operator, Type};
use super::{moves, products, tables};
use crate::error::{Error, Result};
use crate::pack::integer::{Bounds, Network, Step, StepKind, Tensor};

/// Most codes of a tensor.
const CODES: usize = 1 << 30;

/// What operators share while the network grows.
pub(super) struct Lowering<'a, 'm> {
    pub(super) model: &'m Model<'a>,
    pub(super) tensors: Vec<Tensor>,
    numbers: Vec<usize>,
    /// Ours, for each tensor of the file that is given or computed.
    ours: Vec<Option<usize>>,
    steps: Vec<Step>,
    /// The float input that waits for its QUANTIZE.
    float_input: Option<usize>,
    input: Option<usize>,
    /// The codes behind a float output.
    dequantised: HashMap<usize, usize>,
    stored: HashMap<usize, Arc<[i8]>>,
    /// Bytes that may still be copied: a file whose tables point at the same bytes over and over is refused.
    budget: usize,
}

/// An operator with what errors say of it.
#[derive(Clone, Copy)]
pub(super) struct Op<'a> {
    pub(super) name: &'static str,
    pub(super) table: Operator<'a>,
}

impl<'a> Op<'a> {
    pub(super) fn malformed(&self, what: impl std::fmt::Display) -> Error {
        Error::bad_input(format!("operator {} ({}): {what}", self.table.index, self.name))
            .with_help("the file is damaged: download or convert it again")
    }

    pub(super) fn unsupported(&self, what: impl std::fmt::Display) -> Error {
        Error::unsupported(format!("operator {} ({}): {what}", self.table.index, self.name))
            .with_help("see the documentation of wavehull::pack::tflite for what is read")
    }

    /// The number of input `i`, if it is there.
    pub(super) fn input(&self, i: usize) -> Option<usize> {
        self.table.inputs.get(i).and_then(|tensor| usize::try_from(tensor).ok())
    }

    pub(super) fn needed(&self, i: usize) -> Result<usize> {
        self.input(i).ok_or_else(|| self.malformed(format!("input {i} is missing")))
    }

    pub(super) fn output(&self) -> Result<usize> {
        let first = self.table.outputs.get(0).and_then(|tensor| usize::try_from(tensor).ok());
        first.ok_or_else(|| self.malformed("it has no output"))
    }

    pub(super) fn options(&self) -> Result<Table<'a>> {
        self.table.options.ok_or_else(|| self.malformed("its options are missing"))
    }
}

pub(super) fn lower(model: &Model<'_>, name: &str, bytes: usize) -> Result<Network> {
    let mut lowering = Lowering {
        model,
        tensors: Vec::new(),
        numbers: Vec::new(),
        ours: vec![None; model.tensors()],
        steps: Vec::new(),
        float_input: None,
        input: None,
        dequantised: HashMap::new(),
        stored: HashMap::new(),
        budget: bytes.saturating_mul(16).saturating_add(1 << 16),
    };
    lowering.begin()?;
    for i in 0..model.operators() {
        let table = model.operator(i)?;
        lowering.operator(table)?;
    }
    lowering.end(name)
}

impl<'a> Lowering<'a, '_> {
    fn begin(&mut self) -> Result<()> {
        let input = self.model.inputs.get(0).and_then(|tensor| usize::try_from(tensor).ok());
        let (1, Some(input)) = (self.model.inputs.len(), input) else {
            let what = format!("a network of {} inputs", self.model.inputs.len());
            return Err(Error::unsupported(what).with_help("give a network of one input"));
        };
        if self.model.tensor(input)?.element == Type::Float {
            self.float_input = Some(input);
        } else {
            self.input = Some(self.define(input)?);
        }
        Ok(())
    }

    fn end(mut self, name: &str) -> Result<Network> {
        let mut outputs = Vec::new();
        self.spend(self.model.outputs.len().saturating_mul(8))?;
        for tensor in self.model.outputs.iter() {
            let tensor = usize::try_from(tensor).unwrap_or(usize::MAX);
            let codes = self.dequantised.get(&tensor).copied();
            let codes = codes.or_else(|| self.ours.get(tensor).copied().flatten());
            outputs.push(codes.ok_or_else(|| self.not_computed(tensor, "the graph"))?);
        }
        let Some(input) = self.input else {
            let input = self.float_input.unwrap_or_default();
            return Err(float(&self.model.tensor(input)?));
        };
        let Self { tensors, numbers, steps, .. } = self;
        Ok(Network { name: name.to_owned(), tensors, numbers, steps, input, outputs })
    }

    fn operator(&mut self, table: Operator<'a>) -> Result<()> {
        let named = |name| Op { name, table };
        match table.code {
            0 => products::binary(self, named("ADD")),
            1 => moves::pool(self, named("AVERAGE_POOL_2D")),
            2 => moves::concatenation(self, named("CONCATENATION")),
            3 => products::conv(self, named("CONV_2D")),
            4 => products::conv(self, named("DEPTHWISE_CONV_2D")),
            6 => self.dequantize(named("DEQUANTIZE")),
            9 => products::dense(self, named("FULLY_CONNECTED")),
            14 => tables::curve(self, named("LOGISTIC"), |x| 1.0 / (1.0 + (-x).exp())),
            17 => moves::pool(self, named("MAX_POOL_2D")),
            18 => products::binary(self, named("MUL")),
            19 => tables::relu(self, named("RELU"), 1),
            21 => tables::relu(self, named("RELU6"), 3),
            22 => moves::reshape(self, named("RESHAPE")),
            25 => tables::softmax(self, named("SOFTMAX")),
            28 => tables::curve(self, named("TANH"), f32::tanh),
            34 => moves::pad(self, named("PAD")),
            40 => moves::mean(self, named("MEAN")),
            43 => moves::reshape(self, named("SQUEEZE")),
            70 => moves::reshape(self, named("EXPAND_DIMS")),
            114 => self.quantize(named("QUANTIZE")),
            code => {
                let what = format!("operator {} has code {code}, which is not supported", table.index);
                Err(Error::unsupported(what).with_help("the documentation of wavehull::pack::tflite lists what is"))
            }
        }
    }

    fn quantize(&mut self, op: Op<'a>) -> Result<()> {
        if self.float_input.is_some() && op.input(0) == self.float_input && self.input.is_none() {
            self.input = Some(self.define(op.output()?)?);
            return Ok(());
        }
        tables::requantize(self, op)
    }

    fn dequantize(&mut self, op: Op<'a>) -> Result<()> {
        let (codes, output) = (self.computed(&op, 0)?, op.output()?);
        self.spend(self.model.outputs.len().saturating_mul(8))?;
        if !self.model.outputs.iter().any(|tensor| usize::try_from(tensor) == Ok(output)) {
            return Err(float(&self.model.tensor(output)?));
        }
        self.dequantised.insert(output, codes);
        Ok(())
    }

    /// Counts bytes that are copied from the file or made for it.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<()> {
        self.budget = self.budget.checked_sub(bytes).ok_or_else(|| {
            Error::bad_input("tables point at the same bytes over and over")
                .with_help("the file is damaged: download or convert it again")
        })?;
        Ok(())
    }

    fn not_computed(&self, tensor: usize, by: impl std::fmt::Display) -> Error {
        Error::bad_input(format!("tensor {tensor}, which {by} needs, is not computed before"))
            .with_help("the file is damaged: download or convert it again")
    }

    /// Ours of input `i`, which an earlier step computes.
    pub(super) fn computed(&self, op: &Op<'_>, i: usize) -> Result<usize> {
        let tensor = op.needed(i)?;
        if let Some(ours) = self.ours.get(tensor).copied().flatten() {
            return Ok(ours);
        }
        let described = self.model.tensor(tensor)?;
        if !described.data.is_empty() {
            return Err(op.unsupported(format!("input {i} is stored in the file")));
        }
        if described.element != Type::Int8 {
            return Err(float(&described));
        }
        Err(self.not_computed(tensor, format!("operator {}", op.table.index)))
    }

    /// A tensor that is given or computed, with the shape in the file.
    pub(super) fn define(&mut self, tensor: usize) -> Result<usize> {
        let described = self.model.tensor(tensor)?;
        let shape = shape_of(&described)?;
        self.define_as(tensor, shape)
    }

    pub(super) fn define_as(&mut self, tensor: usize, shape: [usize; 3]) -> Result<usize> {
        let described = self.model.tensor(tensor)?;
        let Some(None) = self.ours.get(tensor) else {
            return Err(described.what.malformed("it is computed twice"));
        };
        if described.element != Type::Int8 {
            return Err(float(&described));
        }
        let (scale, zero_point) = scale_of(&described)?;
        self.spend(described.name.len() + 64)?;
        self.ours[tensor] = Some(self.tensors.len());
        self.numbers.push(tensor);
        self.tensors.push(Tensor { name: described.name.to_owned(), shape, scale, zero_point });
        Ok(self.tensors.len() - 1)
    }

    pub(super) fn push(&mut self, kind: StepKind, output: usize) {
        self.steps.push(Step { kind, output });
    }

    /// Int8 numbers of the file, copied once.
    pub(super) fn int8(&mut self, tensor: usize, described: &Described<'_>) -> Result<Arc<[i8]>> {
        if let Some(stored) = self.stored.get(&tensor) {
            return Ok(Arc::clone(stored));
        }
        if described.element != Type::Int8 || described.sparse {
            let what = format!("{}: weights are {}, not plain int8", described.what, described.element.name());
            return Err(Error::unsupported(what).with_help("convert the network with int8 weights"));
        }
        let len = product(described.shape.iter()).filter(|&len| len == described.data.len() && len > 0);
        if len.is_none() {
            let what = format!("{} bytes do not fit its shape", described.data.len());
            return Err(described.what.malformed(what));
        }
        self.spend(described.data.len())?;
        let stored: Arc<[i8]> = described.data.iter().map(|byte| byte.cast_signed()).collect();
        self.stored.insert(tensor, Arc::clone(&stored));
        Ok(stored)
    }
}

/// The product of lengths, if none is negative and it can be counted.
pub(super) fn product(lengths: impl Iterator<Item = i32>) -> Option<usize> {
    let mut lengths = lengths.map(|length| usize::try_from(length).ok());
    lengths.try_fold(1_usize, |product, length| product.checked_mul(length?))
}

/// The one scale and zero point of a tensor of codes.
pub(super) fn scale_of(described: &Described<'_>) -> Result<(f32, i32)> {
    let (scale, zero_point) = (described.scales.get(0), described.zero_points.get(0).unwrap_or(0));
    let (1, Some(scale)) = (described.scales.len(), scale) else {
        let what = format!("{}: int8 without one scale", described.what);
        return Err(Error::unsupported(what).with_help("convert the network with full-integer quantisation"));
    };
    if !(scale.is_normal() && scale > 0.0 && (-128..=127).contains(&zero_point)) {
        return Err(described.what.malformed(format!("scale {scale} or zero point {zero_point} is impossible")));
    }
    Ok((scale, zero_point as i32))
}

/// Height, width and channels of a tensor of one sample.
pub(super) fn shape_of(described: &Described<'_>) -> Result<[usize; 3]> {
    let lengths: Vec<i32> = described.shape.iter().take(6).collect();
    let len = product(lengths.iter().copied()).filter(|&len| len > 0 && len <= CODES);
    if len.is_none() {
        return Err(described.what.malformed(format!("shape {lengths:?} is empty or too large")));
    }
    let lengths: Vec<usize> = lengths.iter().map(|&length| length.unsigned_abs() as usize).collect();
    match lengths[..] {
        [1, height, width, channels] => Ok([height, width, channels]),
        [1, steps, channels] => Ok([steps, 1, channels]),
        [1, channels] => Ok([1, 1, channels]),
        [1] | [] => Ok([1, 1, 1]),
        _ => {
            let what = format!("{} '{}' has shape {lengths:?}", described.what, described.name);
            Err(Error::unsupported(what).with_help("convert the network for a batch of 1 and at most 4 axes"))
        }
    }
}

/// What an activation that is part of an operator leaves of the codes.
pub(super) fn bounds(op: &Op<'_>, activation: i8, to: &Tensor) -> Result<Bounds> {
    let code = |real: f32| ((real / to.scale).round() as i32).saturating_add(to.zero_point).clamp(-128, 127);
    match activation {
        0 => Ok(Bounds::ALL),
        1 => Ok(Bounds { low: code(0.0), high: 127 }),
        2 => Ok(Bounds { low: code(-1.0), high: code(1.0) }),
        3 => Ok(Bounds { low: code(0.0), high: code(6.0) }),
        other => Err(op.unsupported(format!("activation {other}"))),
    }
}

/// The refusal of what is not int8.
pub(super) fn float(described: &Described<'_>) -> Error {
    let what = format!(
        "{} '{}' is {}: only full-integer networks of int8 are read",
        described.what,
        described.name,
        described.element.name()
    );
    Error::unsupported(what).with_help(
        "convert with optimizations = [DEFAULT], a representative_dataset and supported_ops = [TFLITE_BUILTINS_INT8]",
    )
}
