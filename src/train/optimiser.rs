//! Optimisers: the formulas' coefficients of every member, worked out on the host in f64; the passes over the tables are in
//! [`tables`].

pub mod tables;

use crate::error::{Error, Result};

/// Columns of a table of coefficients.
pub const COEFFICIENTS: usize = 16;

/// How a member's parameters follow its gradients. Members of one array have the same kind and each its own numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Optimiser {
    /// Stochastic gradient descent: `v = momentum v + (1 - dampening) d`, `w -= lr v`, or with Nesterov's momentum
    /// `w -= lr (d + momentum v)`, where `d` is the gradient plus `weight_decay w`. As in torch the first step takes `v =
    /// d`.
    Sgd {
        /// How much of the velocity stays.
        momentum: f64,
        /// How much of the gradient the velocity leaves out.
        dampening: f64,
        /// Nesterov's form.
        nesterov: bool,
        /// Added to the gradient, times the parameter.
        weight_decay: f64,
    },
    /// Adam (Kingma and Ba, ICLR 2015) in torch's form: `w -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)`.
    Adam {
        /// How much of the mean stays.
        beta1: f64,
        /// How much of the mean square stays.
        beta2: f64,
        /// Added to the root.
        eps: f64,
        /// Added to the gradient, times the parameter.
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019): `w` loses `lr weight_decay w` instead.
    AdamW {
        /// How much of the mean stays.
        beta1: f64,
        /// How much of the mean square stays.
        beta2: f64,
        /// Added to the root.
        eps: f64,
        /// What a parameter loses of itself, times the learning rate.
        weight_decay: f64,
    },
    /// RMSprop in torch's form: `v = alpha v + (1 - alpha) d^2`, `u = momentum u + d / (sqrt(v) + eps)`, `w -= lr u`.
    RmsProp {
        /// How much of the mean square stays.
        alpha: f64,
        /// Added to the root.
        eps: f64,
        /// How much of the last update stays.
        momentum: f64,
        /// Added to the gradient, times the parameter.
        weight_decay: f64,
    },
}

/// The formula of an optimiser, as the kernel knows it: what members of one array have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Formula {
    /// [`Optimiser::Sgd`].
    Sgd,
    /// [`Optimiser::Adam`] and [`Optimiser::AdamW`], which differ in coefficients only.
    Adam,
    /// [`Optimiser::RmsProp`].
    RmsProp,
}

impl Optimiser {
    /// Plain gradient descent.
    pub const fn sgd() -> Self {
        Self::Sgd { momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0 }
    }

    /// Adam with the usual numbers.
    pub const fn adam() -> Self {
        Self::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }

    /// AdamW with torch's numbers.
    pub const fn adam_w() -> Self {
        Self::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2 }
    }

    /// RMSprop with torch's numbers.
    pub const fn rms_prop() -> Self {
        Self::RmsProp { alpha: 0.99, eps: 1e-8, momentum: 0.0, weight_decay: 0.0 }
    }

    /// The formula.
    pub const fn formula(&self) -> Formula {
        match self {
            Self::Sgd { .. } => Formula::Sgd,
            Self::Adam { .. } | Self::AdamW { .. } => Formula::Adam,
            Self::RmsProp { .. } => Formula::RmsProp,
        }
    }

    /// Tables of state that this member needs; its array has as many as its neediest member, and zeros serve who needs
    /// fewer.
    pub fn state_tables(&self) -> usize {
        match *self {
            Self::Sgd { momentum, .. } => usize::from(momentum != 0.0),
            Self::Adam { .. } | Self::AdamW { .. } => 2,
            Self::RmsProp { momentum, .. } => 1 + usize::from(momentum != 0.0),
        }
    }

    /// Refuses numbers that no training can want.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`], which names the number.
    pub fn check(&self) -> Result<()> {
        match *self {
            Self::Sgd { momentum, dampening, nesterov, weight_decay } => {
                share("momentum", momentum)?;
                amount("weight decay", weight_decay)?;
                if !(0.0..=1.0).contains(&dampening) {
                    return Err(refused("dampening", dampening, "from 0 to 1"));
                }
                if nesterov && (momentum <= 0.0 || dampening != 0.0) {
                    return Err(Error::bad_input("Nesterov's form without momentum, or with dampening")
                        .with_help("give a momentum above 0 and a dampening of 0"));
                }
                Ok(())
            }
            Self::Adam { beta1, beta2, eps, weight_decay } | Self::AdamW { beta1, beta2, eps, weight_decay } => {
                share("beta1", beta1)?;
                share("beta2", beta2)?;
                positive("eps", eps)?;
                amount("weight decay", weight_decay)
            }
            Self::RmsProp { alpha, eps, momentum, weight_decay } => {
                share("alpha", alpha)?;
                share("momentum", momentum)?;
                positive("eps", eps)?;
                amount("weight decay", weight_decay)
            }
        }
    }

    /// The member's row of the table of coefficients for the step after `step` steps, at a learning rate, with the
    /// gradient's norm limited to
    /// `clip`: live, rate, decay, l2, keep1, add1, keep2, add2, a, b, root, eps, limit, fresh, 0, 0 (optimise.wgsl has the
    /// formulas). Bias corrections are f64 until here. A row of zeros is an empty slot, which nothing touches.
    pub fn coefficients(&self, step: u64, lr: f64, clip: Option<f64>) -> [f32; COEFFICIENTS] {
        let first = step == 0;
        let row = Row { rate: lr, decay: 1.0, limit: clip.unwrap_or(0.0), ..Row::default() };
        let row = match *self {
            Self::Sgd { momentum, dampening, nesterov, weight_decay } => {
                let add = if first { 1.0 } else { 1.0 - dampening };
                let (a, b) = match (momentum == 0.0, nesterov) {
                    (true, _) => (0.0, 1.0),
                    (false, true) => (momentum, 1.0),
                    (false, false) => (1.0, 0.0),
                };
                Row { l2: weight_decay, keep1: momentum, add1: add, a, b, ..row }
            }
            Self::Adam { beta1, beta2, eps, weight_decay } => {
                Row { l2: weight_decay, ..adam(row, beta1, beta2, eps, step) }
            }
            Self::AdamW { beta1, beta2, eps, weight_decay } => {
                Row { decay: 1.0 - lr * weight_decay, ..adam(row, beta1, beta2, eps, step) }
            }
            Self::RmsProp { alpha, eps, momentum, weight_decay } => {
                Row { l2: weight_decay, keep1: momentum, keep2: alpha, add2: 1.0 - alpha, eps, ..row }
            }
        };
        let head = [1.0, row.rate, row.decay, row.l2, row.keep1, row.add1, row.keep2, row.add2];
        let tail = [row.a, row.b, row.root, row.eps, row.limit, f64::from(u8::from(first)), 0.0, 0.0];
        std::array::from_fn(|i| if i < 8 { head[i] as f32 } else { tail[i - 8] as f32 })
    }
}

/// The coefficients by name.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    rate: f64,
    decay: f64,
    l2: f64,
    keep1: f64,
    add1: f64,
    keep2: f64,
    add2: f64,
    a: f64,
    b: f64,
    root: f64,
    eps: f64,
    limit: f64,
}

fn adam(row: Row, beta1: f64, beta2: f64, eps: f64, step: u64) -> Row {
    // Beyond any count that i32 holds both corrections are 1 for every beta below 1 that f32 can tell from 1.
    let t = i32::try_from(step.saturating_add(1)).unwrap_or(i32::MAX);
    let (of_mean, of_square) = (1.0 - beta1.powi(t), 1.0 - beta2.powi(t));
    let (keep1, add1, keep2, add2) = (beta1, 1.0 - beta1, beta2, 1.0 - beta2);
    Row { rate: row.rate / of_mean, root: 1.0 / of_square.sqrt(), eps, keep1, add1, keep2, add2, ..row }
}

/// Refuses a learning rate that is negative, infinite or NaN.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`].
pub fn check_rate(lr: f64) -> Result<()> {
    amount("learning rate", lr)
}

/// Refuses a limit of the gradient's norm that is not above 0.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`].
pub fn check_clip(limit: Option<f64>) -> Result<()> {
    limit.map_or(Ok(()), |limit| positive("limit of the gradient's norm", limit))
}

fn refused(what: &str, value: f64, wanted: &str) -> Error {
    Error::bad_input(format!("a {what} of {value}")).with_help(format!("give a number {wanted}"))
}

fn share(what: &str, value: f64) -> Result<()> {
    if (0.0..1.0).contains(&value) { Ok(()) } else { Err(refused(what, value, "from 0 to below 1")) }
}

fn amount(what: &str, value: f64) -> Result<()> {
    if (0.0..=f64::from(f32::MAX)).contains(&value) { Ok(()) } else { Err(refused(what, value, "from 0 on, finite")) }
}

fn positive(what: &str, value: f64) -> Result<()> {
    let real = f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX);
    if real.contains(&value) { Ok(()) } else { Err(refused(what, value, "above 0, in the range of an f32")) }
}

#[cfg(test)]
mod tests {
    use super::{Optimiser, check_clip, check_rate};
    use crate::ErrorKind;

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        let sgd = |momentum, dampening, nesterov, weight_decay| {
            Optimiser::Sgd { momentum, dampening, nesterov, weight_decay }.check()
        };
        let adam = |beta1, beta2, eps, weight_decay| Optimiser::Adam { beta1, beta2, eps, weight_decay }.check();
        for (result, name) in [
            (check_rate(-1e-3), "learning rate"),
            (check_rate(f64::NAN), "learning rate"),
            (check_rate(f64::INFINITY), "learning rate"),
            (check_clip(Some(0.0)), "norm"),
            (sgd(1.0, 0.0, false, 0.0), "momentum"),
            (sgd(0.9, 1.5, false, 0.0), "dampening"),
            (sgd(0.0, 0.0, true, 0.0), "Nesterov"),
            (sgd(0.9, 0.1, true, 0.0), "Nesterov"),
            (sgd(0.9, 0.0, false, -1.0), "weight decay"),
            (adam(1.0, 0.999, 1e-8, 0.0), "beta1"),
            (adam(0.9, -0.1, 1e-8, 0.0), "beta2"),
            (adam(0.9, 0.999, 0.0, 0.0), "eps"),
            (Optimiser::RmsProp { alpha: 2.0, eps: 1e-8, momentum: 0.0, weight_decay: 0.0 }.check(), "alpha"),
        ] {
            let error = result.unwrap_err();
            assert!(error.kind() == ErrorKind::BadInput && error.message().contains(name), "{name}: {error}");
        }
        for good in [Optimiser::sgd(), Optimiser::adam(), Optimiser::adam_w(), Optimiser::rms_prop()] {
            good.check().unwrap();
        }
        check_rate(0.0).unwrap();
        check_clip(None).unwrap();
    }

    #[test]
    fn coefficients_are_rounded_once() {
        let c = Optimiser::adam().coefficients(0, 1e-3, None);
        // At the first step the corrections are 1 - beta: 1e-3 / 0.1 and 1 / sqrt(0.001).
        assert_eq!(c[..4], [1.0, (1e-3 / (1.0 - 0.9_f64)) as f32, 1.0, 0.0]);
        assert_eq!(c[10], (1.0 / (1.0 - 0.999_f64).sqrt()) as f32);
        assert_eq!((c[12], c[13]), (0.0, 1.0), "no limit, fresh state");
        let c = Optimiser::adam_w().coefficients(u64::MAX, 0.5, Some(2.0));
        assert_eq!([c[1], c[2], c[3], c[10], c[12], c[13]], [0.5, 0.995, 0.0, 1.0, 2.0, 0.0]);
        let sgd = Optimiser::Sgd { momentum: 0.9, dampening: 0.5, nesterov: false, weight_decay: 0.0 };
        assert_eq!((sgd.coefficients(0, 1.0, None)[5], sgd.coefficients(1, 1.0, None)[5]), (1.0, 0.5));
    }
}
