//! The host's roofs: what its processors do by themselves, for whoever compares a device with them.

use ndarray::Array2;

use super::measure::{Timing, clock};
use super::oracle::{Random, gamma, near, wrong};
use super::{Context, Done, Measured, SEED, Spec};
use crate::error::Result;

pub(super) const GROUP: &str = "host";

pub(super) fn specs(context: &Context<'_>) -> Vec<Spec> {
    let quick = context.quick();
    let size = if quick { 256 } else { 512 };
    let bytes = if quick { 8 << 20 } else { 256 << 20 };
    vec![
        Spec::new(GROUP, "memcpy", None, move |context| memcpy(context, bytes)),
        Spec::new(GROUP, sgemm_name(quick), None, move |context| sgemm(context, size)),
    ]
}

/// The host's sgemm stands beside the device's product of the same size.
pub(super) fn sgemm_name(quick: bool) -> &'static str {
    if quick { "sgemm_256" } else { "sgemm_512" }
}

/// Copies half of the bytes to the other half, every processor a piece.
fn memcpy(context: &Context<'_>, bytes: usize) -> Result<Done> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(16);
    let words = bytes / 16;
    let from: Vec<u64> = (0..words as u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
    let mut to = vec![u64::MAX; words];
    let piece = words.div_ceil(threads).max(1);
    let mut copy = || {
        std::thread::scope(|scope| {
            for (to, from) in to.chunks_mut(piece).zip(from.chunks(piece)) {
                scope.spawn(move || to.copy_from_slice(std::hint::black_box(from)));
            }
        });
        Ok(())
    };
    let timing = context.meter.time_calls(|| clock(&mut copy))?;
    if to != from {
        return Err(wrong("the copy differs from the original".to_owned()));
    }
    let timing = Timing { first: None, ..timing };
    Measured::new(16.0 * words as f64, "B", timing).note(format!("{threads} threads")).done()
}

/// ndarray's product of f32 matrices: the crate `matrixmultiply`, threaded.
fn sgemm(context: &Context<'_>, size: usize) -> Result<Done> {
    let mut random = Random::new(SEED);
    let matrix = |random: &mut Random| Array2::from_shape_fn((size, size), |_| random.values(1)[0]);
    let (a, b) = (matrix(&mut random), matrix(&mut random));
    let c = a.dot(&b);
    for _ in 0..256 {
        let (i, j) = (random.below(size), random.below(size));
        let terms = || (0..size).map(|k| f64::from(a[[i, k]]) * f64::from(b[[k, j]]));
        let magnitude: f64 = terms().map(f64::abs).sum();
        near(&format!("element ({i}, {j})"), f64::from(c[[i, j]]), terms().sum(), gamma(size) * magnitude)?;
    }
    let timing = context.meter.time_calls(|| {
        clock(|| {
            std::hint::black_box(std::hint::black_box(&a).dot(&b));
            Ok(())
        })
    })?;
    let timing = Timing { first: None, ..timing };
    let note = "crate matrixmultiply, up to 4 threads";
    Measured::new(2.0 * (size as f64).powi(3), "FLOP", timing).note(note).done()
}
