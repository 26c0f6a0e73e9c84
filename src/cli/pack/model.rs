//! The network that a command is about, and how its values are stored.

use std::path::PathBuf;

use wavehull::pack::Workload;
use wavehull::pack::input::{self, ReadOptions};
use wavehull::pack::quantise::Storage;
use wavehull::{Gpu, Result};

use super::super::Global;
use super::super::progress::Bar;
use super::parsed;

/// Which network, on which inputs.
#[derive(Debug, clap::Args)]
pub struct ModelArgs {
    /// Float ONNX, full-integer TFLite, NPY, NPZ, safetensors, or SCALE-Sim's table of layers (CSV)
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// Inputs that the network is run on, so that activations are real: an NPY array [n, ...], or images in IDX form
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
    /// How many of the inputs are taken, from the first on
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub samples: u64,
}

/// How numbers of a float network are stored.
#[derive(Debug, clap::Args)]
pub struct StorageArgs {
    /// How weights of a float network are stored: i4, i8, i16 (one scale), i8/channel, i4/32 (groups of 32), f16, bf16
    #[arg(long, value_name = "STORAGE", value_parser = parsed::<Storage>, default_value = "i8/channel")]
    pub weights: Storage,
    /// How its activations are stored: u8, i8, i16, f16, bf16; u8@99.9 cuts the range at a percentile
    #[arg(long, value_name = "STORAGE", value_parser = parsed::<Storage>, default_value = "u8")]
    pub activations: Storage,
}

impl ModelArgs {
    /// Reads the network, runs it on the inputs, and stores its numbers.
    ///
    /// # Errors
    /// Errors of the files with their place; device errors.
    pub fn read(&self, gpu: &Gpu, weights: Storage, activations: Storage, global: &Global) -> Result<Workload> {
        let options = ReadOptions {
            weights,
            activations,
            inputs: self.inputs.clone(),
            samples: usize::try_from(self.samples).unwrap_or(usize::MAX),
        };
        let bar = Bar::phases(global);
        let workload = input::read(gpu, &self.model, &options, &bar.control());
        bar.finish();
        workload
    }
}
