//! Learning rates over time, each member's own.

use std::f64::consts::PI;

use crate::error::{Error, Result};

/// How a learning rate changes with a member's steps.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum Schedule {
    /// Always the base rate.
    #[default]
    Constant,
    /// Multiplied by `factor` after every `every` steps.
    Step {
        /// Steps between changes.
        every: u64,
        /// What the rate is multiplied by.
        factor: f64,
    },
    /// Half a cosine from the base rate down to `least` in `steps` steps, and `least` from there on (Loshchilov and Hutter,
    /// ICLR 2017, without restarts).
    Cosine {
        /// Steps of the descent.
        steps: u64,
        /// The rate at its end.
        least: f64,
    },
    /// Step i (from 0) of the first `steps` has `(i + 1) / (steps + 1)` of what `then` starts with; `then` begins at step
    /// `steps`.
    WarmUp {
        /// Steps before `then`.
        steps: u64,
        /// What follows.
        then: Box<Schedule>,
    },
    /// One cycle over `steps` steps as torch's `OneCycleLR` with its usual numbers (Smith and Topin, 2017): half a cosine
    /// from `base / 25` up to the base rate in the first 30 %, half a cosine down to `base / 250,000` at the last step,
    /// which stays.
    OneCycle {
        /// Steps of the cycle.
        steps: u64,
    },
}

/// From `start` to `end` along half a cosine; `part` goes from 0 to 1.
fn half_cosine(start: f64, end: f64, part: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + (PI * part).cos())
}

impl Schedule {
    /// The learning rate of the step after `step` steps, for a base rate.
    pub fn rate(&self, base: f64, step: u64) -> f64 {
        match *self {
            Self::Constant => base,
            Self::Step { every, factor } => base * factor.powf((step / every.max(1)) as f64),
            Self::Cosine { steps, least } if step < steps => half_cosine(base, least, step as f64 / steps as f64),
            Self::Cosine { least, .. } => least,
            Self::WarmUp { steps, ref then } if step < steps => {
                then.rate(base, 0) * (step + 1) as f64 / (steps as f64 + 1.0)
            }
            Self::WarmUp { steps, ref then } => then.rate(base, step - steps),
            Self::OneCycle { steps } => one_cycle(base, steps, step),
        }
    }

    /// Refuses numbers that no training can want.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`], which names the number.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Constant => Ok(()),
            Self::Step { every: 0, .. } => {
                Err(refused("a step schedule that changes after every 0 steps", "give 1 or more"))
            }
            Self::Step { factor, .. } if !(factor.is_finite() && *factor >= 0.0) => {
                Err(refused(format!("a step schedule's factor of {factor}"), "give a finite number from 0 on"))
            }
            Self::Step { .. } => Ok(()),
            Self::Cosine { least, .. } if !(least.is_finite() && *least >= 0.0) => {
                Err(refused(format!("a least learning rate of {least}"), "give a finite number from 0 on"))
            }
            Self::Cosine { steps: 0, .. } => Err(refused("a cosine over 0 steps", "give 1 or more")),
            Self::Cosine { .. } => Ok(()),
            Self::WarmUp { then, .. } => then.check(),
            Self::OneCycle { steps: 0..4 } => {
                Err(refused("a cycle of fewer than 4 steps", "give the number of steps of the whole training"))
            }
            Self::OneCycle { .. } => Ok(()),
        }
    }
}

fn refused(what: impl Into<String>, help: &str) -> Error {
    Error::bad_input(what).with_help(help)
}

fn one_cycle(base: f64, steps: u64, step: u64) -> f64 {
    let (start, least) = (base / 25.0, base / 25.0 / 1e4);
    let (top, end) = (0.3 * steps as f64 - 1.0, steps as f64 - 1.0);
    let step = step as f64;
    if step >= end {
        least
    } else if step <= top {
        half_cosine(start, base, step / top)
    } else {
        half_cosine(base, least, (step - top) / (end - top))
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    /// Rates at steps, within a few roundings of f64.
    fn assert_rates(schedule: &Schedule, base: f64, expected: &[(u64, f64)]) {
        schedule.check().unwrap();
        for &(step, rate) in expected {
            let got = schedule.rate(base, step);
            assert!((got - rate).abs() <= 1e-12 * base, "{schedule:?} at step {step}: {got}, not {rate}");
        }
    }

    #[test]
    fn rates_are_those_worked_out_by_hand() {
        assert_rates(&Schedule::Constant, 0.3, &[(0, 0.3), (u64::MAX, 0.3)]);
        let step = Schedule::Step { every: 10, factor: 0.5 };
        assert_rates(&step, 0.8, &[(0, 0.8), (9, 0.8), (10, 0.4), (19, 0.4), (20, 0.2), (35, 0.1)]);
        // cos(pi/3) = 1/2, cos(pi/2) = 0.
        let cosine = Schedule::Cosine { steps: 6, least: 0.1 };
        assert_rates(&cosine, 0.5, &[(0, 0.5), (2, 0.4), (3, 0.3), (4, 0.2), (6, 0.1), (7, 0.1), (u64::MAX, 0.1)]);
        let warm = Schedule::WarmUp { steps: 3, then: Box::new(step) };
        assert_rates(&warm, 0.8, &[(0, 0.2), (1, 0.4), (2, 0.6), (3, 0.8), (12, 0.8), (13, 0.4), (23, 0.2)]);
    }

    #[test]
    fn one_cycle_is_torchs() {
        // 20 steps: the top at step 5, the end at step 19. Between: part 1/5 of the way up has cos(pi/5) = (1 + sqrt 5) / 4,
        // the middle of the way down, step 12, is the mean of 1 and 4e-6.
        let cycle = Schedule::OneCycle { steps: 20 };
        let up = 1.0 + (0.04 - 1.0) / 2.0 * (1.0 + (1.0 + 5.0_f64.sqrt()) / 4.0);
        assert_rates(&cycle, 1.0, &[(0, 0.04), (1, up), (5, 1.0), (12, 0.500_002), (19, 4e-6), (20, 4e-6)]);
        assert_rates(&cycle, 0.5, &[(0, 0.02), (5, 0.5), (12, 0.250_001)]);
    }

    #[test]
    fn schedules_of_nothing_are_refused() {
        for bad in [
            Schedule::Step { every: 0, factor: 0.1 },
            Schedule::Step { every: 5, factor: -0.1 },
            Schedule::Step { every: 5, factor: f64::NAN },
            Schedule::Cosine { steps: 0, least: 0.0 },
            Schedule::Cosine { steps: 9, least: -1.0 },
            Schedule::OneCycle { steps: 3 },
            Schedule::WarmUp { steps: 5, then: Box::new(Schedule::OneCycle { steps: 0 }) },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
            assert!(bad.rate(0.1, 0).is_finite() || matches!(bad, Schedule::Step { .. }), "{bad:?}");
        }
    }
}
