//! Lines below and above the activation of a neuron, sound for any slope that somebody proposes.
//!
//! **ReLU.** `relu(z) - s z` is convex, so its maximum over `[l, h]` is at an end: any slope s of the line above is sound with
//! `offset = max(-l s, h (1 - s))`, rounded up; s near `h / (h - l)` makes both equal. Rounding the slope to nearest and taking
//! `-l s` alone would pass below the ReLU at h. The line below passes through 0, with any slope in [0, 1].
//!
//! **Logistic function** `S(z) = 1 / (1 + exp(-z))`, slope k >= 0 from the proof. The best offset below is the minimum of
//! `d(z) = S(z) - k z` over `[l, h]`. For z >= 0, S is concave, and so is d: its minimum is at an end. For z <= 0, S is convex, and
//! d lies above each of its tangents: with any c <= 0
//!
//! ```text
//! d(z) >= d(c) + d'(c) (z - c),    d'(c) = S(c) (1 - S(c)) - k
//! ```
//!
//! whose minimum over `[l, min(h, 0)]` is at an end. Nothing is assumed about c; what makes the bound tight is c near the
//! stationary point, where `S' = k`, that is `S = (1 - sqrt(1 - 4 k)) / 2`, or c at the end next to it. The line above is the
//! line below the other branch: `1 - S(-z) = S(z)`, so the maximum of d over `[l, h]` is 1 minus its minimum over `[-h, -l]`.
//!
//! **Tanh** is `2 S(2 z) - 1`, so `tanh(z) - k z = 2 (S(u) - (k / 4) u) - 1` with `u = 2 z`; these scalings are exact.

use super::bounds::Span;
use super::rounding::Rounding;
use crate::graph::Activation;

/// Where a bound is further out than this, a sigmoid's lines are horizontal: products with slopes must not overflow.
const FAR: f64 = 1e280;

/// Slopes below this are taken for 0, so that scaling one is exact.
const FLAT: f64 = 1e-290;

/// `slope z + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Line {
    pub(super) slope: f64,
    pub(super) offset: f64,
}

/// The two lines that bound a neuron's value y by its pre-activation z.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Lines {
    /// `y = z`.
    Same,
    /// `y = 0`.
    Zero,
    /// `below(z) <= y <= above(z)`.
    Between { below: Line, above: Line },
}

impl Lines {
    /// The lines of a ReLU for a pre-activation in `[l, h]` and a chosen lower slope in [0, 1].
    pub(super) fn relu(r: Rounding, l: f64, h: f64, slope: f64) -> Self {
        if h <= 0.0 {
            return Self::Zero;
        }
        if l >= 0.0 {
            return Self::Same;
        }
        let below = Line { slope, offset: 0.0 };
        if !(l.is_finite() && h.is_finite()) {
            return Self::Between { below, above: Line { slope: 1.0, offset: f64::INFINITY } };
        }
        let slope = (h / (h - l)).clamp(0.0, 1.0);
        let at_l = r.up(-l * slope);
        let at_h = r.up(h * r.up(1.0 - slope));
        Self::Between { below, above: Line { slope, offset: at_l.max(at_h) } }
    }

    /// The lines of the logistic function for chosen slopes in [0, 1]; horizontal ones where an end is not known.
    pub(super) fn sigmoid(r: Rounding, [l, h]: [f64; 2], [below, above]: [f64; 2]) -> Self {
        let ([l, h], [below, above]) = known([l, h], [below, above]);
        Self::Between {
            below: Line { slope: below, offset: logistic_gap(r, l, h, below) },
            above: Line { slope: above, offset: r.up(1.0 - logistic_gap(r, -h, -l, above)) },
        }
    }

    /// The lines of tanh, likewise.
    pub(super) fn tanh(r: Rounding, [l, h]: [f64; 2], [below, above]: [f64; 2]) -> Self {
        let ([l, h], [below, above]) = known([l, h], [below, above]);
        let (l, h) = (2.0 * l, 2.0 * h);
        Self::Between {
            below: Line { slope: below, offset: r.down(2.0 * logistic_gap(r, l, h, below / 4.0) - 1.0) },
            above: Line { slope: above, offset: r.up(1.0 - 2.0 * logistic_gap(r, -h, -l, above / 4.0)) },
        }
    }
}

/// An interval and slopes that the formulas below can take.
fn known([l, h]: [f64; 2], slopes: [f64; 2]) -> ([f64; 2], [f64; 2]) {
    if l >= -FAR && h <= FAR {
        ([l, h], slopes.map(|k| if k < FLAT { 0.0 } else { k }))
    } else {
        // Where S is 0 or 1 but for less than any offset's rounding.
        ([l, h].map(|z| z.clamp(-FAR, FAR)), [0.0; 2])
    }
}

/// At most the minimum of `S(z) - k z` over `[l, h]`; with k = 0 over everything to the right of l as well.
fn logistic_gap(r: Rounding, l: f64, h: f64, k: f64) -> f64 {
    // At most S(z) - k z.
    let at = |z: f64| r.down(r.logistic(z)[0] - r.up(k * z));
    if k == 0.0 {
        return at(l);
    }
    if l >= 0.0 {
        return at(l).min(at(h));
    }
    let end = h.min(0.0);
    // Not `clamp`, which panics where rounding is ignored and l > h comes of it.
    let c = stationary(k).min(end).max(l);
    // Between these is d'(c); s (1 - s) rises up to s = 1/2, which is where z <= 0 ends.
    let [low, high] = r.logistic(c).map(|s| s.min(0.5));
    let steepness = |s: f64| s * (1.0 - s);
    let [low, high] = [r.below(steepness(low)), r.over(steepness(high))];
    let [low, high] = [r.down(low - k), r.up(high - k)];
    let to_the_left = r.down(high.max(0.0) * r.down(l - c));
    let to_the_right = r.down(low.min(0.0) * r.up(end - c));
    let convex = r.down(at(c) + to_the_left.min(to_the_right));
    if h > 0.0 { convex.min(at(h)) } else { convex }
}

/// Near the place z <= 0 at which `S'(z) = k`; 0 if S is nowhere that steep.
fn stationary(k: f64) -> f64 {
    let s = 2.0 * k / (1.0 + (1.0 - 4.0 * k).max(0.0).sqrt());
    if s < 0.5 { s.ln() - (-s).ln_1p() } else { 0.0 }
}

/// Bounds of `activation(z)`.
pub(super) fn image(r: Rounding, activation: Activation, z: &Span) -> Span {
    let apply = |bound: fn(Rounding, f64, f64) -> (f64, f64)| {
        let (lo, hi) = z.lo.iter().zip(&z.hi).map(|(&l, &h)| bound(r, l, h)).unzip();
        Span::new(lo, hi)
    };
    match activation {
        Activation::None => z.clone(),
        Activation::Relu => apply(|_, l, h| (l.max(0.0), h.max(0.0))),
        Activation::Sigmoid => apply(|r, l, h| (r.logistic(l)[0], r.logistic(h)[1])),
        Activation::Tanh => apply(|r, l, h| {
            let (l, h) = (r.logistic(2.0 * l)[0], r.logistic(2.0 * h)[1]);
            (r.down(2.0 * l - 1.0).max(-1.0), r.up(2.0 * h - 1.0).min(1.0))
        }),
    }
}
