//! Arrays of numpy: each is a tensor that belongs to no layer.
//!
//! A name that starts with `w/` says weights, `a/` activations (and is left out of the tensor's name); otherwise an array of three axes is
//! a map `[y, x, channel]`, any other one weights: `[filter, ky, kx, channel]`, `[filter, x, channel]`, `[out, in]`, or one filter.
//! Activations of one axis are one position, of two rows of channels, of four `[sample, y, x, channel]`: a tensor each.
//! Whole numbers of 8 and 16 bits and float16 are stored as they are, float32 and float64 as the options say.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::{ReadOptions, stem};
use crate::error::{Error, Result};
use crate::files;
use crate::files::npy::{Archive, Numbers, parse};
use crate::pack::layer::Workload;
use crate::pack::quantise::{self, Affine, Calibrator, Filters};
use crate::pack::values::{Element, Kind, Values};

pub(super) fn npy(path: &Path, options: &ReadOptions) -> Result<Workload> {
    let loose = tensors(&stem(path), parse(&files::bytes(path)?)?, options)?;
    Ok(Workload { loose, ..Workload::default() })
}

pub(super) fn npz(path: &Path, options: &ReadOptions) -> Result<Workload> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut archive = Archive::open(BufReader::new(file))?;
    let mut workload = Workload::default();
    for name in archive.names() {
        let numbers = archive.array(&name)?;
        if numbers.shape().is_empty() {
            workload.notes.push(format!("array '{name}' is a single number and left out"));
            continue;
        }
        workload.loose.extend(tensors(&name, numbers, options)?);
    }
    Ok(workload)
}

/// The tensors of an array.
fn tensors(name: &str, numbers: Numbers, options: &ReadOptions) -> Result<Vec<Values>> {
    let dims = numbers.shape().to_vec();
    let (kind, name) = match (name.split_once('/'), dims.len()) {
        (Some(("w", rest)), _) => (Kind::Weights, rest),
        (Some(("a", rest)), _) => (Kind::Activations, rest),
        (_, 3) => (Kind::Activations, name),
        _ => (Kind::Weights, name),
    };
    let (count, shape) = axes(kind, &dims).ok_or_else(|| {
        Error::unsupported(format!("array '{name}' of shape {dims:?} is neither weights nor a map")).with_help(
            "weights have up to 4 axes [filter, ky, kx, channel], activations up to 4 [sample, y, x, channel]",
        )
    })?;
    let each = shape.iter().product::<usize>();
    let called = |i: usize| if count == 1 { name.to_owned() } else { format!("{name}[{i}]") };
    let part = |i: usize| i * each..(i + 1) * each;
    let bytes = |all: Vec<u8>, element| {
        let of = |i: usize| Values::from_bytes(called(i), kind, element, &shape, all[part(i)].to_vec());
        (0..count).map(of).collect::<Result<Vec<_>>>()
    };
    let halves = |all: Vec<u16>, element| {
        let of = |i: usize| Values::from_halves(called(i), kind, element, &shape, all[part(i)].to_vec());
        (0..count).map(of).collect::<Result<Vec<_>>>()
    };
    match numbers {
        Numbers::U8(a) => bytes(a.into_iter().collect(), Element::U8),
        Numbers::I8(a) => bytes(a.into_iter().map(i8::cast_unsigned).collect(), Element::I8),
        Numbers::I16(a) => halves(a.into_iter().map(i16::cast_unsigned).collect(), Element::I16),
        Numbers::F16(a) => halves(a.into_iter().map(half::f16::to_bits).collect(), Element::F16),
        Numbers::Whole(_) => Err(Error::unsupported(format!("array '{name}' holds whole numbers of 32 or 64 bits"))
            .with_help("no accelerator stores such values: save as int8, uint8 or int16, array.astype('int8')")),
        other => {
            let all: Vec<f32> = other.into_f32().into_iter().collect();
            floats(kind, &shape, &all, options, (0..count).map(|i| (called(i), part(i))))
        }
    }
}

/// How many tensors an array of these axes is, and the shape of each.
fn axes(kind: Kind, dims: &[usize]) -> Option<(usize, Vec<usize>)> {
    match (kind, dims) {
        (Kind::Weights, &[n]) => Some((1, vec![1, 1, 1, n])),
        (Kind::Weights, &[m, n]) => Some((1, vec![m, 1, 1, n])),
        (Kind::Weights, &[m, x, n]) => Some((1, vec![m, 1, x, n])),
        (Kind::Weights, &[_, _, _, _]) | (Kind::Activations, &[_, _, _]) => Some((1, dims.to_vec())),
        (Kind::Activations, &[n]) => Some((1, vec![1, 1, n])),
        (Kind::Activations, &[y, n]) => Some((1, vec![y, 1, n])),
        (Kind::Activations, &[samples, y, x, n]) => Some((samples, vec![y, x, n])),
        _ => None,
    }
}

/// Numbers of an array, quantised: those of activations over the range of the whole array.
fn floats(
    kind: Kind,
    shape: &[usize],
    all: &[f32],
    options: &ReadOptions,
    parts: impl Iterator<Item = (String, std::ops::Range<usize>)>,
) -> Result<Vec<Values>> {
    let affine = {
        let mut calibrator = Calibrator::new(options.activations.calibration, all.len());
        calibrator.see(all);
        let [low, high] = calibrator.range();
        Affine::new(options.activations.element, low, high)
    };
    let quantised = |(name, part): (String, std::ops::Range<usize>)| match (kind, shape) {
        (Kind::Weights, &[m, y, x, n]) => {
            quantise::weights(&name, [m, y, x, n], &all[part], Filters::First, &options.weights).map(|q| q.values)
        }
        (_, &[y, x, n]) => {
            let element = options.activations.element;
            quantise::activations(&name, [y, x, n], &all[part], element, affine).map(|q| q.values)
        }
        _ => Err(Error::internal("a tensor of another shape")),
    };
    parts.map(quantised).collect()
}
