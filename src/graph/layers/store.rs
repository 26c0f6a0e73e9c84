//! Numbers with error bounds as the `f32` numbers of a layer.

use crate::error::{Error, Result};
use crate::graph::bounded::{Bounded, GROW};

/// Largest relative error of a weight that folding may cause. Rounding to `f32` causes 2^-24; only weights that become
/// subnormal come near this.
const MAX_REL: f64 = 1.0 / 1_048_576.0;

/// The nearest `f32` and a bound on the distance to the real number, relative to that `f32`; `None` if the number
/// overflows or the bound is above [`MAX_REL`].
pub(super) fn stored(x: Bounded) -> Option<(f32, f64)> {
    let narrow = x.value as f32;
    let wide = f64::from(narrow);
    if !narrow.is_finite() {
        return None;
    }
    if x.error == 0.0 && wide == x.value {
        return Some((narrow, 0.0));
    }
    // Exact: the difference to the nearest `f32` has at most 53 bits.
    let distance = x.error + (x.value - wide).abs();
    let rel = distance / wide.abs() * GROW;
    // Also refuses the NaN and the infinity of a weight rounded to 0.
    (rel <= MAX_REL).then_some((narrow, rel))
}

/// Weights as `f32` numbers and a bound on their relative errors; `node` is what errors call them.
pub(super) fn weights(real: impl Iterator<Item = Bounded>, node: &str) -> Result<(Vec<f32>, f64)> {
    let mut rel = 0f64;
    let store = |weight: Bounded| {
        let (narrow, error) = stored(weight).ok_or_else(|| out_of_range(node, weight))?;
        rel = rel.max(error);
        Ok(narrow)
    };
    let narrow = real.map(store).collect::<Result<Vec<_>>>()?;
    Ok((narrow, rel))
}

/// Biases as `f32` numbers, and a bound on the absolute error of each; `node` is what errors call them.
pub(super) fn biases(bias: &[Bounded], node: &str) -> Result<(Vec<f32>, Vec<f32>)> {
    let store = |&b: &Bounded| {
        let narrow = b.value as f32;
        // Exact, as in `stored`.
        let rounding = (b.value - f64::from(narrow)).abs();
        let error = round_up((b.error + rounding) * GROW);
        if narrow.is_finite() && error.is_finite() { Ok((narrow, error)) } else { Err(out_of_range(node, b)) }
    };
    bias.iter().map(store).collect()
}

/// The smallest `f32` that is at least `x >= 0`; never subnormal, because a GPU may take those for 0.
pub(super) fn round_up(x: f64) -> f32 {
    if x == 0.0 {
        return 0.0;
    }
    let narrow = x as f32;
    let up = if f64::from(narrow) < x { narrow.next_up() } else { narrow };
    up.max(f32::MIN_POSITIVE)
}

/// The error for a number that folding drove out of the range of `f32`.
pub(super) fn out_of_range(node: &str, x: Bounded) -> Error {
    Error::unsupported(format!("a weight or bias of about {:e} up to node '{node}' leaves the range of f32", x.value))
        .with_help("rescale the network's normalisation so that its constants are of moderate size")
}
