//! How long a recording takes: on the device's own clock and on the wall, repeated until the median can be trusted.

use std::collections::{HashMap, HashSet};
use web_time::Instant;

use super::report::KernelTime;
use crate::error::Result;
use crate::gpu::{Command, Control, Gpu, Kernel, Recording};

/// Fewest runs of an entry.
const RUNS: usize = 5;
/// Most repetitions inside one run.
const REPETITIONS: usize = 4096;
/// Seconds after which an analysis is not run again, even if there were fewer runs: the largest take seconds each.
const LONG: f64 = 2.0;

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

/// What a call took: wall-clock seconds, and the device's of every dispatch if it was asked for.
#[derive(Debug, Default)]
pub(super) struct Profiled {
    pub seconds: f64,
    pub dispatches: Vec<(&'static str, f64)>,
}

/// Seconds and dispatches by kernel, summed over runs.
#[derive(Debug, Default)]
struct Kernels(HashMap<&'static str, (f64, u64)>);

impl Kernels {
    /// Adds a run; gives its device seconds.
    fn add(&mut self, run: Profiled) -> f64 {
        for &(name, seconds) in &run.dispatches {
            let entry = self.0.entry(name).or_default();
            *entry = (entry.0 + seconds, entry.1 + 1);
        }
        run.dispatches.iter().map(|(_, seconds)| seconds).sum()
    }

    /// Those of one run, the longest first.
    fn mean(self, runs: usize) -> Vec<KernelTime> {
        let runs = runs.max(1);
        let entry = |(name, (seconds, count)): (&str, (f64, u64))| KernelTime {
            name: name.to_owned(),
            seconds: seconds / runs as f64,
            dispatches: count / runs as u64,
        };
        let mut all: Vec<KernelTime> = self.0.into_iter().map(entry).collect();
        all.sort_by(|a, b| b.seconds.total_cmp(&a.seconds).then_with(|| a.name.cmp(&b.name)));
        all
    }
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

    /// Times calls on the wall's clock; the first call is not counted, but reported. A call says what it took, by a unit of
    /// work if it likes, so the clock that ends the runs is another.
    pub fn time_calls(&self, mut call: impl FnMut() -> Result<f64>) -> Result<Timing> {
        let first = call()?;
        let mut wall = Vec::new();
        let start = Instant::now();
        while wall.len() < RUNS || start.elapsed().as_secs_f64() < self.effort.total {
            self.control.cancel.check()?;
            wall.push(call()?);
        }
        Ok(Timing::of(&wall, None, Some(first)))
    }

    /// Times calls on the wall's clock and, where the device has one, on its own: `call` runs once, with every dispatch timed if
    /// it is given true, and says how long that took and each of its kernels. Also the kernels of a run, the longest first.
    pub fn time_profiled(
        &self,
        gpu: &Gpu,
        first: f64,
        mut call: impl FnMut(bool) -> Result<Profiled>,
    ) -> Result<(Timing, Vec<KernelTime>)> {
        let (mut wall, mut device) = (Vec::new(), Vec::new());
        let mut kernels = Kernels::default();
        let device_clock = gpu.caps().timestamps;
        let start = Instant::now();
        let spent = |least: f64| start.elapsed().as_secs_f64() >= least;
        while wall.is_empty() || !spent(LONG) && (wall.len() < RUNS || !spent(self.effort.total)) {
            self.control.cancel.check()?;
            wall.push(call(false)?.seconds);
            if device_clock {
                device.push(kernels.add(call(true)?));
            }
        }
        let timing = Timing::of(&wall, device_clock.then_some(&device), Some(first));
        Ok((timing, kernels.mean(device.len())))
    }

    /// The times of a call that is too long to repeat: it ran with every dispatch timed.
    pub fn once(gpu: &Gpu, run: Profiled) -> (Timing, Vec<KernelTime>) {
        let wall = [run.seconds];
        let mut kernels = Kernels::default();
        let device = [kernels.add(run)];
        (Timing::of(&wall, gpu.caps().timestamps.then_some(&device), None), kernels.mean(1))
    }

    fn repetitions(&self, seconds: f64) -> usize {
        let wanted = (self.effort.run / seconds.max(1e-9)).ceil();
        (wanted as usize).clamp(1, REPETITIONS)
    }
}

impl Timing {
    /// Of runs by the wall's clock, and by the device's where it has one; `first` is what the first call took.
    pub fn of(wall: &[f64], device: Option<&[f64]>, first: Option<f64>) -> Self {
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
    use super::{Kernels, Profiled, Timing, median};

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

    #[test]
    fn kernels_of_several_runs_become_those_of_one() {
        let mut kernels = Kernels::default();
        let run = |a: f64| Profiled { seconds: 9.0, dispatches: vec![("a", a), ("b", 3.0), ("a", a)] };
        assert_eq!([kernels.add(run(1.0)), kernels.add(run(2.0))], [5.0, 7.0], "device seconds of each run");
        let mean = kernels.mean(2);
        let found: Vec<(&str, f64, u64)> = mean.iter().map(|k| (k.name.as_str(), k.seconds, k.dispatches)).collect();
        assert_eq!(found, [("a", 3.0, 2), ("b", 3.0, 1)], "the longest first, equals by name");
    }
}
