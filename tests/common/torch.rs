//! Numbers that `scripts/make_train_fixtures.py` gives torch, too.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use wavehull::graph::Graph;

/// Multiples of 2^-16 in -1/2..1/2: FNV-1a of the name, then splitmix64 of that plus the place.
pub fn numbers(name: &str, count: usize) -> Vec<f64> {
    let fold = |seed: u64, byte: u8| (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    let number = |place: u64| {
        let mut z = place.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(seed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 48) as f64 / 65536.0 - 0.5
    };
    (1..).take(count).map(number).collect()
}

/// Numbers of 0..65536 that a hash gives.
pub fn whole(name: &str, count: usize) -> Vec<u32> {
    numbers(name, count).into_iter().map(|x| ((x + 0.5) * 65536.0) as u32).collect()
}

/// Weights get smaller with their fan; scales of normalisations and variances are around 1. All are exact in `f32`.
pub fn start(name: &str, shape: &[usize]) -> Vec<f32> {
    let data = numbers(name, shape.iter().product());
    if shape.len() > 1 {
        let fan: usize = shape[1..].iter().product();
        let factor = 2f64.powi(1 - (usize::BITS - fan.leading_zeros()) as i32 / 2);
        return data.into_iter().map(|x| (x * factor) as f32).collect();
    }
    let around = if name.ends_with("weight") || name.ends_with("running_var") { 1.0 } else { 0.0 };
    data.into_iter().map(|x| (x + around) as f32).collect()
}

/// Whether a constant of a graph is a parameter or a statistic.
pub fn is_state(name: &str) -> bool {
    ["weight", "bias", "running_mean", "running_var"].iter().any(|end| name.ends_with(end))
}

/// Gives parameters and statistics their numbers.
pub fn fill(graph: &mut Graph) {
    for value in graph.values.iter_mut().filter(|v| v.constant.is_some()) {
        if is_state(&value.name) {
            let data = start(&value.name, &value.shape);
            value.constant = Some(Arc::new(ArrayD::from_shape_vec(IxDyn(&value.shape), data).unwrap()));
        }
    }
}

/// A file of tests/fixtures/train.
pub fn fixture(name: &str) -> String {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/train/{name}.txt"));
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}
