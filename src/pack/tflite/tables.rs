//! Operators that are functions of one code, and softmax.

use super::lower::{Lowering, Op, bounds};
use super::products::same_shape;
use crate::error::Result;
use crate::pack::integer::{Bounds, Multiplier, StepKind, Tensor, softmax_exponentials};

fn push(
    lowering: &mut Lowering<'_, '_>,
    op: &Op<'_>,
    code: impl FnOnce(&Tensor, &Tensor) -> Result<Box<dyn Fn(i32) -> i32>>,
) -> Result<()> {
    let (input, output) = (lowering.computed(op, 0)?, lowering.define(op.output()?)?);
    lowering.spend(256)?;
    let [from, to] = [input, output].map(|tensor| &lowering.tensors[tensor]);
    same_shape(op, to, from.shape)?;
    let code = code(from, to)?;
    let mut codes = Box::new([0; 256]);
    for (q, entry) in (-128..).zip(codes.iter_mut()) {
        *entry = code(q).clamp(-128, 127) as i8;
    }
    lowering.push(StepKind::Table { input, codes }, output);
    Ok(())
}

/// A function of real numbers, in f32 as the reference makes its table.
pub(super) fn curve(lowering: &mut Lowering<'_, '_>, op: Op<'_>, f: fn(f32) -> f32) -> Result<()> {
    push(lowering, &op, |from, to| {
        let (scale, zero) = (from.scale, from.zero_point);
        let (inverse, out) = (1.0 / to.scale, to.zero_point);
        Ok(Box::new(move |q| ((f(scale * (q - zero) as f32) * inverse).round() + out as f32) as i32))
    })
}

/// `RELU` and `RELU6` (the code of the activation that is part of operators).
pub(super) fn relu(lowering: &mut Lowering<'_, '_>, op: Op<'_>, activation: i8) -> Result<()> {
    push(lowering, &op, |from, to| {
        // In f32, as there.
        rescaled(&op, f64::from(from.scale / to.scale), from, to, bounds(&op, activation, to)?)
    })
}

/// `QUANTIZE` of codes to other codes.
pub(super) fn requantize(lowering: &mut Lowering<'_, '_>, op: Op<'_>) -> Result<()> {
    push(lowering, &op, |from, to| rescaled(&op, f64::from(from.scale) / f64::from(to.scale), from, to, Bounds::ALL))
}

fn rescaled(op: &Op<'_>, factor: f64, from: &Tensor, to: &Tensor, bounds: Bounds) -> Result<Box<dyn Fn(i32) -> i32>> {
    let multiplier = Multiplier::new(factor).ok_or_else(|| op.unsupported("a factor of 2^30 or more"))?;
    let (zero, out) = (from.zero_point, to.zero_point);
    Ok(Box::new(move |q| bounds.cut(i64::from(multiplier.apply(q - zero).wrapping_add(out))).into()))
}

/// `SOFTMAX` over the channels.
pub(super) fn softmax(lowering: &mut Lowering<'_, '_>, op: Op<'_>) -> Result<()> {
    let (input, output) = (lowering.computed(&op, 0)?, lowering.define(op.output()?)?);
    lowering.spend(1024)?;
    let [from, to] = [input, output].map(|tensor| &lowering.tensors[tensor]);
    same_shape(&op, to, from.shape)?;
    if to.scale != 1.0 / 256.0 || to.zero_point != -128 || to.channels() > 4095 {
        return Err(op.unsupported("more than 4,095 channels, or codes that are not 1/256 from -128 on"));
    }
    let beta = op.options()?.number(0)?;
    let Some(exponentials) = softmax_exponentials(from.scale, beta) else {
        return Err(op.unsupported(format!("scale {} and beta {beta}", from.scale)));
    };
    lowering.push(StepKind::Softmax { input, exponentials }, output);
    Ok(())
}
