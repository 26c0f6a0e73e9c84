//! The rules' numbers, worked out on the host in f64.

use crate::error::{Error, Result};
use crate::hash::rows::Storage;

/// How rows follow their gradients; the forms are torch's.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Rule {
    /// `w -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)` (Kingma and Ba, ICLR 2015); t is the step of the training, also for
    /// rows that are rarely touched.
    Adam {
        /// How much of the mean stays.
        beta1: f64,
        /// How much of the mean square stays.
        beta2: f64,
        /// Added to the root.
        epsilon: f64,
    },
    /// `v += g^2`, `w -= lr g / (sqrt(v) + epsilon)` (Duchi, Hazan and Singer, JMLR 2011).
    Adagrad {
        /// Added to the root.
        epsilon: f64,
    },
    /// `w -= lr g`.
    Sgd,
}

/// Which rows a step moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
pub enum Mode {
    /// Every row, at every step: the reference.
    Dense,
    /// Those that the step touched.
    Lazy,
    /// Those that the step touched, and every row replays the steps that it missed before it is next read.
    CatchUp,
}

/// What a rule's kernels know of one step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Coefficients {
    pub(super) rate: f32,
    pub(super) root: f32,
}

/// What they know of all steps.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Constants {
    pub(super) keep1: f32,
    pub(super) add1: f32,
    pub(super) keep2: f32,
    pub(super) add2: f32,
    pub(super) epsilon: f32,
}

impl Rule {
    /// Adam with the usual numbers.
    pub const fn adam() -> Self {
        Self::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }

    /// Adagrad with torch's number.
    pub const fn adagrad() -> Self {
        Self::Adagrad { epsilon: 1e-10 }
    }

    /// Tables of state: Adam's m and v, Adagrad's sum of squares.
    pub const fn states(&self) -> usize {
        match self {
            Self::Adam { .. } => 2,
            Self::Adagrad { .. } => 1,
            Self::Sgd => 0,
        }
    }

    /// Whether rows move without a gradient.
    pub const fn moves_alone(&self) -> bool {
        matches!(self, Self::Adam { .. })
    }

    /// The kernels' name of the formula.
    pub(super) const fn flag(&self) -> &'static str {
        match self {
            Self::Adam { .. } => "ADAM",
            Self::Adagrad { .. } => "ADAGRAD",
            Self::Sgd => "SGD",
        }
    }

    /// Refuses numbers that no training can want.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`], which names the number.
    pub fn check(&self) -> Result<()> {
        match *self {
            Self::Adam { beta1, beta2, epsilon } => {
                share("beta1", beta1)?;
                share("beta2", beta2)?;
                positive(epsilon)
            }
            Self::Adagrad { epsilon } => positive(epsilon),
            Self::Sgd => Ok(()),
        }
    }

    pub(super) fn constants(&self) -> Constants {
        match *self {
            Self::Adam { beta1, beta2, epsilon } => Constants {
                keep1: beta1 as f32,
                add1: (1.0 - beta1) as f32,
                keep2: beta2 as f32,
                add2: (1.0 - beta2) as f32,
                epsilon: epsilon as f32,
            },
            Self::Adagrad { epsilon } => Constants { epsilon: epsilon as f32, ..Constants::default() },
            Self::Sgd => Constants::default(),
        }
    }

    /// Of step `number`, from 1 on.
    pub(super) fn coefficients(&self, number: u32, learning_rate: f64) -> Result<Coefficients> {
        if !(0.0..=f64::from(f32::MAX)).contains(&learning_rate) {
            return Err(refused("learning rate", learning_rate, "from 0 on, finite"));
        }
        let (rate, root) = match *self {
            Self::Adam { beta1, beta2, .. } => {
                let left = |beta: f64| 1.0 - beta.powf(f64::from(number));
                (learning_rate / left(beta1), 1.0 / left(beta2).sqrt())
            }
            Self::Adagrad { .. } | Self::Sgd => (learning_rate, 1.0),
        };
        Ok(Coefficients { rate: (rate as f32).min(f32::MAX), root: root as f32 })
    }
}

impl Mode {
    /// Refuses a mode that a rule or a storage does not have.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unsupported`].
    pub fn check(self, rule: Rule, storage: Storage) -> Result<()> {
        if self == Self::CatchUp && storage == Storage::Bf16 && rule.moves_alone() {
            return Err(Error::unsupported("catching up with weights in bf16")
                .with_help("use f32 weights to catch up, or lazy steps: a replayed step would be rounded at random once, a dense one each time"));
        }
        Ok(())
    }
}

fn refused(what: &str, value: f64, wanted: &str) -> Error {
    Error::bad_input(format!("a {what} of {value}")).with_help(format!("give a number {wanted}"))
}

/// From 0 to below 1, also when rounded to f32: what stays must shrink.
fn share(what: &str, value: f64) -> Result<()> {
    let fits = (0.0..1.0).contains(&value) && (value as f32) < 1.0;
    if fits { Ok(()) } else { Err(refused(what, value, "from 0 to below 1 - 2^-25")) }
}

fn positive(epsilon: f64) -> Result<()> {
    let real = 1e-30..=f64::from(f32::MAX);
    if real.contains(&epsilon) {
        Ok(())
    } else {
        Err(refused("epsilon", epsilon, "from 1e-30 on, in the range of an f32"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Mode, Rule};
    use crate::ErrorKind;
    use crate::hash::rows::Storage;

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        let adam = |beta1, beta2, epsilon| Rule::Adam { beta1, beta2, epsilon }.check();
        let rate = |value| Rule::adam().coefficients(1, value).map(drop);
        for (result, name) in [
            (adam(1.0, 0.9, 1e-8), "beta1"),
            (adam(-0.1, 0.9, 1e-8), "beta1"),
            (adam(1.0 - 1e-9, 0.9, 1e-8), "beta1"),
            (adam(0.9, f64::NAN, 1e-8), "beta2"),
            (adam(0.9, 0.999, 0.0), "epsilon"),
            (adam(0.9, 0.999, 1e-40), "epsilon"),
            (Rule::Adagrad { epsilon: f64::INFINITY }.check(), "epsilon"),
            (rate(-1e-3), "learning rate"),
            (rate(f64::NAN), "learning rate"),
            (rate(1e39), "learning rate"),
        ] {
            let error = result.unwrap_err();
            assert!(error.kind() == ErrorKind::BadInput && error.message().contains(name), "{error}");
        }
        for rule in [Rule::adam(), Rule::adagrad(), Rule::Sgd, Rule::Adam { beta1: 0.0, beta2: 0.0, epsilon: 1.0 }] {
            rule.check().unwrap();
            rule.coefficients(u32::MAX, 0.0).unwrap();
        }
    }

    #[test]
    fn coefficients_are_those_of_the_formula() {
        let rule = Rule::adam();
        let first = rule.coefficients(1, 1e-3).unwrap();
        assert!(
            (f64::from(first.rate) - 1e-2).abs() < 1e-9 && (f64::from(first.root) - 1000.0_f64.sqrt()).abs() < 1e-5
        );
        let late = rule.coefficients(1_000_000, 1e-3).unwrap();
        assert_eq!((late.rate, late.root), (1e-3, 1.0));
        let constants = rule.constants();
        assert_eq!((constants.keep1, constants.add1), (0.9, 0.1_f64 as f32));
        assert_eq!((constants.keep2, constants.add2), (0.999, (1.0 - 0.999_f64) as f32));
    }

    #[test]
    fn weights_in_bf16_do_not_catch_up() {
        let error = Mode::CatchUp.check(Rule::adam(), Storage::Bf16).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.help().is_some());
        Mode::Lazy.check(Rule::adam(), Storage::Bf16).unwrap();
        Mode::Dense.check(Rule::adam(), Storage::Bf16).unwrap();
        Mode::CatchUp.check(Rule::Sgd, Storage::Bf16).unwrap();
        Mode::CatchUp.check(Rule::adam(), Storage::F32).unwrap();
    }
}
