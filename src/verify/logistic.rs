//! The table behind `shaders/lib/logistic.wgsl`: numbers at or below the logistic function and its tangents' offsets, from f64.

/// Entries of s at i / STEP, i = 0 ..= LAST.
const STEP: f64 = 512.0;
const LAST: usize = 8192;
/// First entry of g, and its last index.
const GAP: usize = 8200;
const SLOPES: usize = 4096;

/// More than the platform's `exp`, `ln` and `sqrt` and the few operations around them may err, on numbers of at most 1.
const SLACK: f64 = 1e-13;

/// s(x) = 1 / (1 + exp(-x)).
fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// min over x <= 0 of s(x) - k x, for k in [0, 1/4]: at s (1 - s) = k.
fn lowest(k: f64) -> f64 {
    if k <= 0.0 {
        return 0.0;
    }
    // s = (1 - sqrt(1 - 4k)) / 2, without cancellation; x = ln(s / (1 - s)). At a minimum an error of x hardly matters.
    let s = 2.0 * k / (1.0 + (1.0 - 4.0 * k).max(0.0).sqrt());
    s - k * (s / (1.0 - s)).ln()
}

/// The table, rounded down.
pub(super) fn table() -> Vec<f32> {
    let mut table = vec![0.0_f32; GAP + SLOPES + 1];
    for (i, entry) in table.iter_mut().take(LAST + 1).enumerate() {
        *entry = super::soundness::round_down(logistic(i as f64 / STEP) - SLACK);
    }
    for (i, entry) in table[GAP..].iter_mut().enumerate() {
        *entry = super::soundness::round_down(lowest(i as f64 / (4 * SLOPES) as f64) - SLACK);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{GAP, LAST, SLOPES, STEP, logistic, lowest, table};

    #[test]
    fn entries_are_below_and_near() {
        let table = table();
        for (i, &entry) in table[..=LAST].iter().enumerate() {
            let gap = logistic(i as f64 / STEP) - f64::from(entry);
            assert!((0.0..1e-7).contains(&gap), "entry {i}: {gap:e}");
        }
        for i in 0..=SLOPES {
            let k = i as f64 / (4 * SLOPES) as f64;
            let gap = lowest(k) - f64::from(table[GAP + i]);
            assert!((0.0..1e-7).contains(&gap), "slope {k}: {gap:e}");
        }
    }

    #[test]
    fn the_least_offset_is_a_minimum() {
        for i in 1..=SLOPES {
            let k = i as f64 / (4 * SLOPES) as f64;
            let least = (0..4000).map(|j| -0.01 * f64::from(j)).map(|x| logistic(x) - k * x).fold(f64::MAX, f64::min);
            assert!(lowest(k) <= least + 1e-12 && lowest(k) > least - 1e-4, "{k}: {} against {least}", lowest(k));
        }
    }
}
