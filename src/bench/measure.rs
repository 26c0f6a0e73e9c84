//! How long a recording takes: on the device's own clock and on the wall, repeated until the median can be trusted.

use std::collections::HashSet;
use web_time::Instant;

use crate::error::Result;
use crate::gpu::{Command, Control, Gpu, Kernel, Recording};

/// Fewest runs of an entry.
const RUNS: usize = 5;
/// Most repetitions inside one run.
const REPETITIONS: usize = 4096;

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// Seconds that all runs of an entry take together, at least.
    pub total: f64,
    /// Seconds that one run takes, at least: short kernels are repeated inside a run.
    pub run: f64,
}

impl Effort {
    /// Enough for figures to report, or for a smoke test.
    pub fn new(quick: bool) -> Self {
        if quick { Self { total: 0.03, run: 0.003 } } else { Self { total: 0.3, run: 0.02 } }
    }
}

/// Times of one operation in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Timing {
    /// Median: of the device's clock if it has one, else of the wall's.
    pub seconds: f64,
    /// Median absolute deviation of the same.
    pub spread: f64,
    /// Median of the wall's clock, submission and waiting included.
    pub wall: f64,
    /// Number of runs behind the medians.
    pub runs: usize,
    /// Whether `seconds` come from the device's clock.
    pub device_clock: bool,
    /// What the first call took beyond `wall`: compiling, mostly.
    pub first: Option<f64>,
}

/// Times recordings on one device.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    pub gpu: &'a Gpu,
    pub control: Control,
    pub effort: Effort,
    seen: std::cell::RefCell<HashSet<Kernel>>,
}

impl<'a> Meter<'a> {
    /// Timed calls hear of a cancellation, but report to nobody: a sink costs time.
    pub fn new(gpu: &'a Gpu, control: &Control, effort: Effort) -> Self {
        let control = Control { cancel: control.cancel.clone(), progress: None };
        Self { gpu, control, effort, seen: Default::default() }
    }

    /// Runs an operation once, so that its answer can be checked, and says how long that took if one of its kernels
    /// had not been compiled before.
    pub fn first(&self, record: &dyn Fn(&mut Recording) -> Result<()>) -> Result<Option<f64>> {
        let mut recording = Recording::new();
        record(&mut recording)?;
        let new = recording.commands().iter().fold(false, |new, command| match command {
            Command::Dispatch(d) => self.seen.borrow_mut().insert(d.kernel.clone()) || new,
            _ => new,
        });
        let start = Instant::now();
        self.gpu.run(&recording, &self.control)?;
        Ok(new.then(|| start.elapsed().as_secs_f64()))
    }

    /// Times an operation; `first` is what [`Meter::first`] gave.
    pub fn time(&self, first: Option<f64>, record: &dyn Fn(&mut Recording) -> Result<()>) -> Result<Timing> {
        let repeated = |count: usize| -> Result<Recording> {
            let mut recording = Recording::new();
            for _ in 0..count {
                record(&mut recording)?;
            }
            Ok(recording)
        };
        let once = self.gpu.run(&repeated(1)?, &self.control)?.seconds;
        let mut count = self.repetitions(once);
        // A single call is mostly submission; a second look at the repeated one corrects the count.
        let many = self.gpu.run(&repeated(count)?, &self.control)?.seconds;
        count = self.repetitions(many / count as f64).max(count);
        let recording = repeated(count)?;
        let device_clock = self.gpu.caps().timestamps;
        let share = 1.0 / count as f64;
        let (mut wall, mut device) = (Vec::new(), Vec::new());
        let start = Instant::now();
        while wall.len() < RUNS || start.elapsed().as_secs_f64() < self.effort.total {
            wall.push(self.gpu.run(&recording, &self.control)?.seconds * share);
            if device_clock {
                let times = self.gpu.profile(&recording, &self.control)?.kernel_times;
                device.push(times.iter().map(|(_, seconds)| seconds).sum::<f64>() * share);
            }
        }
        Ok(Timing::of(&wall, if device_clock { Some(&device) } else { None }, first))
    }

    /// Times calls on the wall's clock; the first call is not counted, but reported.
    pub fn time_calls(&self, mut call: impl FnMut() -> Result<f64>) -> Result<Timing> {
        let first = call()?;
        let mut wall = Vec::new();
        while wall.len() < RUNS || wall.iter().sum::<f64>() < self.effort.total {
            self.control.cancel.check()?;
            wall.push(call()?);
        }
        Ok(Timing::of(&wall, None, Some(first)))
    }

    fn repetitions(&self, seconds: f64) -> usize {
        let wanted = (self.effort.run / seconds.max(1e-9)).ceil();
        (wanted as usize).clamp(1, REPETITIONS)
    }
}

impl Timing {
    fn of(wall: &[f64], device: Option<&[f64]>, first: Option<f64>) -> Self {
        let times = device.unwrap_or(wall);
        let (seconds, wall_median) = (median(times), median(wall));
        let spread = median(&times.iter().map(|t| (t - seconds).abs()).collect::<Vec<_>>());
        Self {
            seconds,
            spread,
            wall: wall_median,
            runs: wall.len(),
            device_clock: device.is_some(),
            first: first.map(|f| (f - wall_median).max(0.0)),
        }
    }

    /// The time of one of `count` equal parts.
    pub fn per(self, count: f64) -> Self {
        Self { seconds: self.seconds / count, spread: self.spread / count, wall: self.wall / count, ..self }
    }
}

/// Seconds of a call that gives nothing back but success.
pub(super) fn clock(call: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    call()?;
    Ok(start.elapsed().as_secs_f64())
}

/// The middle value, 0 of nothing.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::{Timing, median};

    #[test]
    fn medians_ignore_outliers() {
        assert_eq!([median(&[]), median(&[3.0]), median(&[9.0, 1.0, 2.0]), median(&[1.0, 2.0])], [0.0, 3.0, 2.0, 1.5]);
        let timing = Timing::of(&[1.0, 1.5, 1.0, 50.0, 1.25], None, Some(4.0));
        assert_eq!((timing.seconds, timing.spread, timing.runs), (1.25, 0.25, 5));
        assert_eq!(
            (timing.first, timing.device_clock),
            (Some(2.75), false),
            "what the first call took beyond the median"
        );
    }

    #[test]
    fn the_device_clock_decides_where_there_is_one() {
        let timing = Timing::of(&[2.0, 2.0, 2.0], Some(&[1.0, 1.0, 1.5]), None);
        assert_eq!((timing.seconds, timing.wall, timing.device_clock), (1.0, 2.0, true));
        assert_eq!(timing.per(2.0).seconds, 0.5);
    }
}
