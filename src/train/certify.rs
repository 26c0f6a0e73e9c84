//! Certified training: what a member minimises when its network shall be provably right in a box around every sample.

#[cfg(feature = "config")]
use super::data::{Dataset, Inputs};
use super::optimiser::COEFFICIENTS;
use crate::error::{Error, Result};

/// The column of the coefficients that has the radius of the box.
pub(super) const RADIUS: usize = COEFFICIENTS - 2;
/// The column that has the share of the loss of the samples themselves.
pub(super) const SHARE: usize = COEFFICIENTS - 1;

/// A member's way of being trained with interval bound propagation (S. Gowal et al., 2018): the loss is
/// `s CE(sample) + (1 - s) CE(worst case in the box)`, where the radius of the box grows from 0 to [`radius`](Self::radius) and s falls
/// from 1 to [`kappa`](Self::kappa), both along a straight line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Certify {
    /// How far each input may be off, once the box has grown to its full size; inputs stay in 0..1.
    pub radius: f64,
    /// Steps before the box grows.
    pub start: u64,
    /// Steps in which it grows.
    pub ramp: u64,
    /// Share of the loss of the samples themselves, in the end.
    pub kappa: f64,
    /// Radius at which evaluations count what is certified; `None`: that of training.
    pub judged: Option<f64>,
}

impl Default for Certify {
    fn default() -> Self {
        Self { radius: 0.1, start: 0, ramp: 0, kappa: 0.5, judged: None }
    }
}

impl Certify {
    /// Radius, and share of the loss of the samples themselves, in the step after `step` steps.
    pub fn at(&self, step: u64) -> [f64; 2] {
        let done = step.saturating_sub(self.start);
        let grown = match () {
            () if step < self.start => 0.0,
            () if done >= self.ramp => 1.0,
            () => done as f64 / self.ramp as f64,
        };
        [self.radius * grown, 1.0 - (1.0 - self.kappa) * grown]
    }

    /// Radius and share in an evaluation.
    pub(super) fn judging(&self) -> [f64; 2] {
        [self.judged.unwrap_or(self.radius), self.kappa]
    }

    /// Refuses numbers that no training can want.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`], which names the number.
    pub fn check(&self) -> Result<()> {
        let refused = |what: String, help: &str| Err(Error::bad_input(what).with_help(help));
        for radius in [Some(self.radius), self.judged].into_iter().flatten() {
            if !(0.0..=1.0).contains(&radius) {
                return refused(format!("a radius of {radius}"), "inputs are in 0..1: give a radius from 0 to 1");
            }
        }
        if !(0.0..=1.0).contains(&self.kappa) {
            return refused(format!("a kappa of {}", self.kappa), "give a share from 0 to 1");
        }
        Ok(())
    }

    /// Puts radius and share into a row of coefficients.
    pub(super) fn write([radius, share]: [f64; 2], row: &mut [f32]) {
        (row[RADIUS], row[SHARE]) = (radius as f32, share as f32);
    }
}

/// Refuses inputs outside 0..1, to which boxes are cut. Bytes are divided by 255.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] naming the first sample.
#[cfg(feature = "config")]
pub(super) fn check_inputs(set: &Dataset) -> Result<()> {
    let Inputs::F32(inputs) = &set.inputs else { return Ok(()) };
    let Some(at) = inputs.iter().position(|x| !(0.0..=1.0).contains(x)) else { return Ok(()) };
    let sample = at / (inputs.len() / set.len().max(1)).max(1);
    Err(Error::bad_input(format!(
        "sample {sample} has an input outside 0..1, to which certified training cuts its boxes"
    ))
    .with_help("scale the inputs to 0..1, or train with another loss"))
}

#[cfg(test)]
mod tests {
    use super::Certify;

    #[test]
    fn boxes_grow_along_a_line() {
        let certify = Certify { radius: 0.2, start: 10, ramp: 20, kappa: 0.5, judged: None };
        for (step, radius, share) in [(0, 0.0, 1.0), (10, 0.0, 1.0), (15, 0.05, 0.875), (30, 0.2, 0.5), (999, 0.2, 0.5)]
        {
            let [r, s] = certify.at(step);
            assert!((r - radius).abs() < 1e-15 && (s - share).abs() < 1e-15, "step {step}: {r}, {s}");
        }
        assert_eq!(Certify::default().at(0), [0.1, 0.5], "without a ramp at once");
        assert_eq!(Certify { start: 3, ..Certify::default() }.at(2), [0.0, 1.0]);
        assert_eq!(Certify { judged: Some(0.05), ..certify }.judging(), [0.05, 0.5]);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let of = |radius, kappa, judged| Certify { radius, kappa, judged, ..Certify::default() }.check();
        assert!(of(0.0, 0.0, None).is_ok() && of(1.0, 1.0, Some(0.3)).is_ok());
        for bad in [of(-0.1, 0.5, None), of(f64::NAN, 0.5, None), of(0.1, 1.5, None), of(0.1, 0.5, Some(2.0))] {
            assert!(bad.is_err());
        }
    }
}
