//! `wavehull bench`: kernels measured against what the device can do.

use std::path::PathBuf;
use std::process::ExitCode;

use wavehull::{Error, Result};

use super::Global;
use super::device::DeviceArgs;

/// Arguments of `wavehull bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run only entries whose name contains this
    #[arg(long, value_name = "PATTERN")]
    pub only: Option<String>,
    /// Write JSON to a file, or to stdout without one
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub json: Option<String>,
    /// Show what moved since an earlier run's JSON
    #[arg(long, value_name = "OLD.json")]
    pub compare: Option<PathBuf>,
    /// Fewer repetitions and smaller sizes
    #[arg(long)]
    pub quick: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Measures.
///
/// # Errors
/// Device errors.
pub fn run(args: Args, global: &Global) -> Result<ExitCode> {
    let _ = (args.only, args.json, args.compare, args.quick);
    args.device.open(global)?;
    Err(Error::unsupported("this build has no benchmarks"))
}
