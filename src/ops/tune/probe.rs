//! The timing probe: the variants of each class of product, the shipped one first, until the class's time is up.

use web_time::Instant;

use crate::error::{ErrorKind, Result};
use crate::gpu::{Caps, Control, Gpu, Recording};
use crate::ops::matmul::{Class, Matmul, Variant};
use crate::tensor::Tensor;

/// Seconds of device time that one timed run should take, at least, so that the clock's grain does not count.
const RUN: f64 = 0.002;
/// Timed runs of a variant; the fastest counts, for whatever disturbs a run makes it slower.
const RUNS: usize = 3;
/// A variant must be this much faster than the shipped one to replace it.
const MARGIN: f64 = 0.95;

/// Measures the classes that have no choice yet; the number of those that have one now.
pub(super) async fn run(gpu: &Gpu, seconds: Option<f64>, control: &Control) -> Result<usize> {
    let caps = gpu.caps();
    let seconds = seconds.unwrap_or(if caps.is_software() { 0.75 } else { 2.0 });
    let mut measured = 0;
    // Large first: kernels that are compiled for one class are there for the next.
    for class in Class::ALL.into_iter().rev().filter(|class| caps.tuning.get(class.name()).is_none()) {
        match fastest(gpu, class, seconds, control).await {
            Ok(Some(variant)) => {
                log::info!("{}: {variant}", class.name());
                caps.tuning.set(class.name(), &variant.to_string());
                measured += 1;
            }
            Ok(None) => log::warn!("no variant of {} runs on this device", class.name()),
            Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::DeviceLost) => return Err(error),
            // No memory for the operands, most likely: the shipped choice stands.
            Err(error) => log::warn!("variants of {} were not measured: {error}", class.name()),
        }
    }
    Ok(measured)
}

/// A product that stands for its class.
fn shape(class: Class, software: bool) -> [usize; 3] {
    match (class, software) {
        (Class::Narrow, true) => [128, 16, 256],
        (Class::Small, true) => [96, 128, 192],
        // No product keeps a processor waiting for workgroups: a small one tells the same.
        (Class::Medium | Class::Large, true) => [192, 256, 256],
        (Class::Narrow, false) => [4096, 16, 512],
        (Class::Small, false) => [384, 384, 512],
        (Class::Medium, false) => [1024, 1024, 512],
        (Class::Large, false) => [4096, 2048, 512],
    }
}

/// What may win, the shipped choice first.
fn candidates(caps: &Caps, class: Class, n: usize) -> Vec<Variant> {
    let shipped = Variant::shipped(caps, class);
    let narrow = class == Class::Narrow;
    let fits = |v: &Variant| match *v {
        Variant::Direct { rows, columns, lanes } => {
            // A narrow product gets the tile that fits it; four rows are never the best.
            rows > 4 && !narrow && columns * lanes >= 64
        }
        _ => !caps.is_software() && v.fits(caps) && (!narrow || v.tile(n, n).0 <= 32),
    };
    let others = Variant::ALL.into_iter().filter(|v| *v != shipped && fits(v));
    std::iter::once(shipped).chain(others).collect()
}

/// The fastest variant of a class among those that the time sufficed for; `None` if none runs.
async fn fastest(gpu: &Gpu, class: Class, seconds: f64, control: &Control) -> Result<Option<Variant>> {
    let caps = gpu.caps();
    let [m, n, k] = shape(class, caps.is_software());
    let a = filled(gpu, [m, k]).await?;
    let b = filled(gpu, [k, n]).await?;
    let c = Tensor::uninit_async(gpu, &[m, n]).await?;
    let candidates = candidates(caps, class, n);
    let mut best: Option<(Variant, f64)> = None;
    let start = Instant::now();
    for (index, &variant) in candidates.iter().enumerate() {
        if best.is_some() && start.elapsed().as_secs_f64() > seconds {
            log::info!("{}: no time left for {} variants", class.name(), candidates.len() - index);
            break;
        }
        control.report("choosing kernels", index as u64, candidates.len() as u64, "variants");
        let matmul = Matmul { variant: Some(variant), ..Matmul::default() };
        let record = |recording: &mut Recording| matmul.record(recording, caps, &a, &b, &c);
        let limit = best.map_or(f64::INFINITY, |(_, time)| 2.0 * time);
        match time(gpu, &record, limit, control).await {
            Ok(took) => {
                log::debug!("{}: {variant} takes {took:.3e} s", class.name());
                let better =
                    |(leader, least): (Variant, f64)| took < least * if leader == candidates[0] { MARGIN } else { 1.0 };
                if best.is_none_or(better) {
                    best = Some((variant, took));
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::DeviceLost) => return Err(error),
            Err(error) => log::warn!("{variant} is left out on this device: {error}"),
        }
    }
    Ok(best.map(|(variant, _)| variant))
}

/// Numbers that cost what ordinary ones cost: no zeros, no denormals.
async fn filled(gpu: &Gpu, [rows, columns]: [usize; 2]) -> Result<Tensor> {
    let values: Vec<f32> = (0..rows * columns).map(|i| ((i * 37 % 101) as f32 - 50.25) / 64.0).collect();
    Tensor::from_slice_async(gpu, &[rows, columns], &values).await
}

/// Seconds of one product: the fastest of a few runs of several each, or of one if that is beyond the limit already.
async fn time(gpu: &Gpu, record: &impl Fn(&mut Recording) -> Result<()>, limit: f64, control: &Control) -> Result<f64> {
    let control = Control { cancel: control.cancel.clone(), progress: None };
    let repeated = |count: usize| -> Result<Recording> {
        let mut recording = Recording::new();
        (0..count).try_for_each(|_| record(&mut recording))?;
        Ok(recording)
    };
    let one = repeated(1)?;
    // The first run compiles.
    gpu.run_async(&one, &control).await?;
    let once = seconds(gpu, &one, &control).await?;
    if once > limit {
        return Ok(once);
    }
    let count = ((RUN / once.max(1e-7)).ceil() as usize).clamp(1, 200);
    let recording = repeated(count)?;
    let mut least = f64::INFINITY;
    for _ in 0..RUNS {
        least = least.min(seconds(gpu, &recording, &control).await? / count as f64);
    }
    Ok(least)
}

/// By the device's clock if it has one, else by the wall's.
async fn seconds(gpu: &Gpu, recording: &Recording, control: &Control) -> Result<f64> {
    let output = gpu.profile_async(recording, control).await?;
    let device: f64 = output.kernel_times.iter().map(|(_, seconds)| seconds).sum();
    // Some drivers grant timestamps and leave them at zero.
    Ok(if device > 0.0 { device } else { output.seconds })
}
