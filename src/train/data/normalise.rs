//! Numbers that networks like: inputs scaled and shifted, channel by channel.

use ndarray::{ArrayD, Axis};

use super::Inputs;
use crate::error::{Error, Result};

/// How inputs are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Normalisation {
    /// Not at all: a byte p stands for p.
    None,
    /// A byte p stands for p / 255; other numbers stay.
    #[default]
    Unit,
    /// Mean 0 and variance 1 in each channel of the training part.
    Standard,
}

/// What a stored number stands for: `x scale + shift`, of the channel, which is the last axis. Found on the training part and kept for all others.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Normaliser {
    /// Factor of each channel.
    pub scale: Vec<f32>,
    /// Added to each channel after the factor.
    pub shift: Vec<f32>,
}

impl Normaliser {
    /// Finds it on the training part. Channels whose numbers are all equal keep scale 1 (bytes: 1 / 255) and become 0.
    pub fn fit(kind: Normalisation, inputs: &Inputs) -> Self {
        let channels = inputs.shape().last().copied().unwrap_or(1);
        let unit = match inputs {
            Inputs::U8(_) if kind != Normalisation::None => 1.0 / 255.0,
            _ => 1.0,
        };
        match (kind, inputs) {
            (Normalisation::Standard, Inputs::F32(a)) => Self::standard(a, |&x| f64::from(x), channels, unit),
            (Normalisation::Standard, Inputs::U8(a)) => Self::standard(a, |&x| f64::from(x), channels, unit),
            _ => Self { scale: vec![unit as f32; channels], shift: vec![0.0; channels] },
        }
    }

    fn standard<A>(a: &ArrayD<A>, number: impl Fn(&A) -> f64, channels: usize, unit: f64) -> Self {
        let count = (a.len() / channels.max(1)).max(1) as f64;
        let last = Axis(a.ndim() - 1);
        // Two passes in f64: the mean is known before squares of distances from it are added.
        let (scale, shift) = (0..channels)
            .map(|c| {
                let channel = a.index_axis(last, c);
                let mean = channel.iter().map(&number).sum::<f64>() / count;
                let variance = channel.iter().map(|x| (number(x) - mean).powi(2)).sum::<f64>() / count;
                let deviation = variance.sqrt();
                // Rounding of the mean leaves an equal channel a deviation of its last bits.
                let scale = if deviation > 1e-12 * mean.abs() && deviation > 0.0 { 1.0 / deviation } else { unit };
                (scale as f32, (-mean * scale) as f32)
            })
            .unzip();
        Self { scale, shift }
    }

    /// The numbers that inputs stand for.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for tokens, and for inputs with another number of channels.
    pub fn apply(&self, inputs: &Inputs) -> Result<ArrayD<f32>> {
        let channels = inputs.shape().last().copied().unwrap_or(1);
        if channels != self.scale.len() || channels != self.shift.len() {
            return Err(Error::bad_input(format!(
                "these inputs have {channels} channels, but were normalised with {}",
                self.scale.len()
            )));
        }
        let mut numbers = match inputs {
            Inputs::F32(a) => a.clone(),
            Inputs::U8(a) => a.mapv(f32::from),
            Inputs::Tokens(_) => return Err(Error::bad_input("tokens of a text cannot be normalised")),
        };
        let last = Axis(numbers.ndim() - 1);
        for mut pixel in numbers.lanes_mut(last) {
            for ((x, scale), shift) in pixel.iter_mut().zip(&self.scale).zip(&self.shift) {
                *x = *x * scale + shift;
            }
        }
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn channels_get_mean_zero_and_variance_one() {
        let inputs = Inputs::F32(array![[1.0, 10.0, 5.0], [3.0, 30.0, 5.0]].into_dyn());
        let normaliser = Normaliser::fit(Normalisation::Standard, &inputs);
        let numbers = normaliser.apply(&inputs).expect("numbers");
        assert_eq!(numbers, array![[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0]].into_dyn());
        let other = Inputs::F32(array![[2.0, 40.0, 6.0]].into_dyn());
        assert_eq!(normaliser.apply(&other).expect("numbers"), array![[0.0, 2.0, 1.0]].into_dyn());
        assert!(normaliser.apply(&Inputs::F32(array![[1.0]].into_dyn())).is_err());
    }

    #[test]
    fn bytes_are_shares_of_255() {
        let inputs = Inputs::U8(array![[0, 255], [51, 255]].into_dyn());
        let numbers = Normaliser::fit(Normalisation::Unit, &inputs).apply(&inputs).expect("numbers");
        // u = 2^-24 for the factor and u for the product.
        assert!((numbers[[1, 0]] - 0.2).abs() < 2e-7 * 0.2 && (numbers[[0, 1]] - 1.0).abs() < 2e-7, "{numbers}");
        let plain = Normaliser::fit(Normalisation::None, &inputs).apply(&inputs).expect("numbers");
        assert_eq!(plain, array![[0.0, 255.0], [51.0, 255.0]].into_dyn());
        let standard = Normaliser::fit(Normalisation::Standard, &inputs);
        assert_eq!(standard.scale[1], 1.0 / 255.0);
    }
}
