//! `shaders/lib/logistic.wgsl` on bad arithmetic, with a table of its own, and the function itself.

use std::sync::OnceLock;

use crate::arithmetic::Arithmetic;

pub const ROUND: f32 = 1.0e-6;
const BEND: f32 = 6.0e-8;
const STEP: f32 = 512.0;
const LAST: usize = 8192;
const GAP: usize = 8200;
const SLOPES: usize = 4096;

pub fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// min over x <= 0 of s(x) - k x.
fn lowest(k: f64) -> f64 {
    if k <= 0.0 {
        return 0.0;
    }
    let s = 2.0 * k / (1.0 + (1.0 - 4.0 * k).max(0.0).sqrt());
    s - k * (s / (1.0 - s)).ln()
}

/// The table that the device gets: values and least offsets, rounded down.
pub fn table() -> &'static [f32] {
    static TABLE: OnceLock<Vec<f32>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let down = |value: f64| {
            let value = value - 1e-13;
            let near = value as f32;
            if f64::from(near) > value { near.next_down() } else { near }
        };
        let mut table = vec![0.0; GAP + SLOPES + 1];
        (0..=LAST).for_each(|i| table[i] = down(logistic(i as f64 / f64::from(STEP))));
        (0..=SLOPES).for_each(|i| table[GAP + i] = down(lowest(i as f64 / (4 * SLOPES) as f64)));
        table
    })
}

/// A chord of the table from entry `first + i`, `t` of the way to the next.
fn chord(a: &mut Arithmetic, i: usize, t: f32) -> f32 {
    let (low, next) = (table()[i], table()[i + 1]);
    let rise = a.sub(next, low);
    let part = a.mul(t, rise);
    a.add(low, part)
}

fn at(a: &mut Arithmetic, round: f32, x: f32) -> (f32, f32) {
    let t = x.abs().min(15.999) * STEP;
    let low = chord(a, (t as usize).min(LAST - 1), t - t.floor());
    let high = if x.abs() >= 15.5 { 1.0 } else { a.sum(&[low, BEND, round]) };
    let (low, high) = (a.sub(low, round).max(0.5 - round), high.min(1.0));
    let ends = if x < 0.0 { (a.sum(&[1.0, -high, -round]), a.sum(&[1.0, -low, round])) } else { (low, high) };
    (ends.0.clamp(0.0, 1.0), ends.1.clamp(0.0, 1.0))
}

/// Bounds of s on [l, h].
pub fn bounds(a: &mut Arithmetic, round: f32, l: f32, h: f32) -> (f32, f32) {
    (at(a, round, l).0, at(a, round, h).1)
}

/// (slope, offset) of a line below s on [l, h] and of one above; `round` is what the table's errors are covered by.
pub fn lines(a: &mut Arithmetic, (round, u): (f32, f32), l: f32, h: f32) -> [(f32, f32); 2] {
    let low = slope(l, h).clamp(0.0, 0.25);
    let high = slope(-h, -l).clamp(0.0, 0.25);
    let below = offset(a, (round, u), low, l, h);
    let above = offset(a, (round, u), high, -h, -l);
    [(low, below), (high, a.sum(&[1.0, -above, round]))]
}

/// Any slope is sound, so it needs no bad arithmetic.
fn slope(l: f32, h: f32) -> f32 {
    let (l, h) = (f64::from(l), f64::from(h));
    let (sl, sh) = (logistic(l), logistic(h));
    let chord = if h - l < 1e-3 { sl * (1.0 - sl) } else { (sh - sl) / (h - l) };
    if l >= 0.0 || h > 0.0 && chord <= sl * (1.0 - sl) {
        return chord as f32;
    }
    let mut touching = 0.5 * (l + h);
    if h > 0.0 {
        let (mut left, mut right) = (l, 0.0);
        for _ in 0..16 {
            touching = 0.5 * (left + right);
            let s = logistic(touching);
            if s * (1.0 - s) * (h - touching) < sh - s { left = touching } else { right = touching }
        }
    }
    touching = touching.min(0.5 * (l + h));
    (logistic(touching) * (1.0 - logistic(touching))) as f32
}

fn offset(a: &mut Arithmetic, (round, u): (f32, f32), k: f32, l: f32, h: f32) -> f32 {
    let end = |a: &mut Arithmetic, x: f32| {
        let (s, part) = (at(a, round, x).0, a.mul(k, x));
        a.sub(s, part)
    };
    let mut t = end(a, l).min(end(a, h));
    if l < 0.0 {
        let low = at(a, round, l).0;
        let high = at(a, round, h.min(0.0)).1;
        let rises = low * (1.0 - low) - round > k;
        let falls = h < 0.0 && high * (1.0 - high) + round < k;
        if !rises && !falls {
            let place = k * (4 * SLOPES) as f32;
            let i = (place as usize).min(SLOPES - 1);
            t = t.min(chord(a, GAP + i, place - i as f32));
        }
    }
    let wide = a.mul(4.0 * u * k, l.abs().max(h.abs()));
    a.sum(&[t, -wide, -round])
}
