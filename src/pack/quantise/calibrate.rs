//! The range of numbers that codes of activations are spread over.

/// How a range is found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Calibration {
    /// From the smallest to the largest number that was seen.
    MinMax,
    /// The same without a share of the numbers at each end: `Percentile(99.9)` leaves out the 0.1 % that are smallest and the 0.1 % that are
    /// largest, each count rounded down. From 50 to 100.
    Percentile(f64),
}

/// Sees numbers, a part at a time, and tells their range. Of all that it saw it keeps no more than the share that is left out.
#[derive(Debug, Clone)]
pub struct Calibrator {
    /// How many numbers are left out at each end.
    out: usize,
    lows: Vec<f32>,
    highs: Vec<f32>,
}

impl Calibrator {
    /// For so many numbers in all.
    pub fn new(calibration: Calibration, numbers: usize) -> Self {
        let out = match calibration {
            Calibration::MinMax => 0,
            // At least one is left, also where half of them go at each end.
            Calibration::Percentile(share) => {
                let share = ((100.0 - share) / 100.0).clamp(0.0, 0.5);
                // One part in 2^40 more, so that 0.1 % of 1000 is 1, though 99.9 is no number of f64.
                let out = (share * numbers as f64 * (1.0 + 2.0_f64.powi(-40))) as usize;
                out.min(numbers.saturating_sub(1) / 2)
            }
        };
        Self { out, lows: vec![], highs: vec![] }
    }

    /// Sees some of them.
    pub fn see(&mut self, numbers: &[f32]) {
        let keep = self.out + 1;
        // A few at a time, so that what is kept stays small beside what was seen.
        for part in numbers.chunks(keep.max(1 << 16)) {
            self.lows.extend_from_slice(part);
            self.highs.extend_from_slice(part);
            if self.lows.len() > keep {
                self.lows.select_nth_unstable_by(keep - 1, f32::total_cmp);
                self.lows.truncate(keep);
                self.highs.select_nth_unstable_by(keep - 1, |a, b| b.total_cmp(a));
                self.highs.truncate(keep);
            }
        }
    }

    /// The smallest and the largest number that is not left out; 0 and 0 if there was none.
    pub fn range(&self) -> [f32; 2] {
        // The last that was kept on each side; where fewer were seen than foreseen, the extreme ones.
        let low = self.lows.iter().copied().max_by(f32::total_cmp).unwrap_or(0.0);
        let high = self.highs.iter().copied().min_by(f32::total_cmp).unwrap_or(0.0);
        if low <= high { [low, high] } else { [high, low] }
    }
}
