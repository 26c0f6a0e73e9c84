//! The data of a configuration, and whether the rest of it can be done with them.

use ndarray::ArrayD;

use super::{Config, Loaded, Loss, ModelConfig};
use crate::error::{Error, Result};
use crate::train::certify::check_inputs;
use crate::train::data::{Dataset, Inputs, Normalisation, Targets};

impl Config {
    /// Reads the data and checks them against the rest.
    ///
    /// # Errors
    /// Those of [`super::DataConfig::load`]; [`crate::ErrorKind::BadInput`] with the place of the key that asks for what these data have not: a batch
    /// larger than the training part, a loss for other targets, shifts of what is no image.
    pub fn load(&self) -> Result<Loaded> {
        let loaded = self.data.load(self.base.count("context"));
        let loaded = loaded.map_err(|e| self.blame(&["data.validation", "data"], e))?;
        self.check_batch(&loaded)?;
        self.check_loss(&loaded)?;
        self.check_augment(&loaded)?;
        self.oriented(loaded)
    }

    fn check_batch(&self, loaded: &Loaded) -> Result<()> {
        let samples = loaded.train.len();
        let asked = self.members.iter().map(|m| &m.hyper).chain([&self.base]).filter(|hyper| hyper.has("batch"));
        match asked.map(|hyper| hyper.count("batch")).find(|&batch| batch > samples) {
            None => Ok(()),
            Some(batch) => {
                let what = format!("the training part has {samples} samples, which do not fill a batch of {batch}");
                let fault =
                    Error::bad_input(what).with_help("use a smaller batch, or keep fewer samples for validation");
                Err(self.blame(&["members.batch", "train.batch"], fault))
            }
        }
    }

    fn check_loss(&self, loaded: &Loaded) -> Result<()> {
        let values = matches!(loaded.train.targets, Targets::Values(_));
        if self.train.loss == Some(Loss::Certified) && !values {
            let sets = [Some(&loaded.train), loaded.validation.as_ref(), loaded.test.as_ref()];
            let inside = sets.into_iter().flatten().try_for_each(check_inputs);
            return inside.map_err(|fault| self.blame(&["train.loss"], fault));
        }
        let of_classes = |loss| matches!(loss, Loss::CrossEntropy | Loss::Certified);
        let Some(loss) = self.train.loss.filter(|&loss| of_classes(loss) == values) else { return Ok(()) };
        let what = match loss {
            Loss::CrossEntropy | Loss::Certified => "this loss is for classes, but the targets are values",
            Loss::Mse | Loss::Bce => "this loss is for values, but the targets are classes",
        };
        let fault = Error::bad_input(what).with_help(
            "leave `loss` out, or change the targets: task in [data] of a CSV file, the element type of an NPY file",
        );
        Err(self.blame(&["train.loss"], fault))
    }

    fn check_augment(&self, loaded: &Loaded) -> Result<()> {
        let (augment, shape) = (self.data.augment, loaded.train.sample_shape());
        let noise = self.members.iter().map(|m| &m.hyper).chain([&self.base]).any(|h| h.number("noise") > 0.0);
        if shape.len() == 3 || (augment.shift == 0 && !augment.flip && augment.crop == 0 && !noise) {
            return Ok(());
        }
        let what = format!("shift, flip, crop and noise are for images, but a sample has shape {shape:?}");
        let fault =
            Error::bad_input(what).with_help("leave them out, or give images: [samples, rows, columns, channels]");
        Err(self.blame(&["data.augment", "members.noise", "train.noise"], fault))
    }

    /// Point clouds lie in files as `[points, 3]`, and PointNet takes `[3, points]`.
    fn oriented(&self, mut loaded: Loaded) -> Result<Loaded> {
        if self.model != ModelConfig::Pointnet || !matches!(loaded.train.sample_shape(), [_, 3]) {
            return Ok(loaded);
        }
        if self.data.normalise == Normalisation::Standard {
            let fault = Error::bad_input("clouds of points are not normalised coordinate by coordinate")
                .with_help("leave `normalise` out, and scale the clouds themselves");
            return Err(self.blame(&["data.normalise"], fault));
        }
        let parts = [Some(&mut loaded.train), loaded.validation.as_mut(), loaded.test.as_mut()];
        parts.into_iter().flatten().for_each(turn);
        Ok(loaded)
    }
}

/// Exchanges the two axes of each sample.
fn turn(set: &mut Dataset) {
    fn turned<A: Clone>(a: &ArrayD<A>) -> ArrayD<A> {
        a.view().permuted_axes(vec![0, 2, 1]).as_standard_layout().into_owned()
    }
    match &mut set.inputs {
        Inputs::F32(a) => *a = turned(a),
        Inputs::U8(a) => *a = turned(a),
        Inputs::Tokens(_) => {}
    }
}
