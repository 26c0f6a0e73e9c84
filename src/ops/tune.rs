//! Kernel variants chosen by measurement, and the file that keeps the choice.
//!
//! [`tune`] times the variants of each class of shape on an open device and puts the fastest into its [`Tuning`](crate::gpu::Tuning) table; with a
//! folder, what was measured is kept in a file and read back the next time. Nothing is measured or written unless it is
//! called. Variants agree bit for bit, so no result depends on what is chosen.
//!
//! The file is flat JSON, `tuning-<hash>.json`, one a device: adapter, backend, driver and the crate's version, which must all
//! be the same for it to count, then the variant of each class. It may be read, edited and deleted at any time.

mod file;
mod probe;

use std::path::PathBuf;

use crate::error::Result;
use crate::gpu::{Caps, Control, Gpu};
use crate::ops::matmul::{Class, Variant};

/// How to choose variants.
#[non_exhaustive]
#[derive(Debug, Clone, Default)]
pub struct TuneOptions {
    /// The folder of the cache file, made if it is not there; `None` keeps nothing. Not used on wasm, which has no files.
    pub folder: Option<PathBuf>,
    /// Seconds for a class of shapes (compiling counts), after which the best so far, or the shipped variant, is chosen.
    /// `None` for two seconds, three quarters of one on a software device.
    pub seconds: Option<f64>,
    /// Measure nothing: only take over what the file has.
    pub cached_only: bool,
}

/// Where the choices of a device come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tuned {
    /// Classes whose variant was measured now.
    pub measured: usize,
    /// Classes whose variant came from the file.
    pub kept: usize,
    /// The file, if there is a folder.
    pub file: Option<PathBuf>,
}

/// Chooses kernel variants for a device, from the cache file as far as it goes, else by measuring for a second or two.
/// A cache file that is corrupt, foreign or cannot be written is no error: a warning goes to the log.
///
/// # Errors
/// [`crate::ErrorKind::Cancelled`] and [`crate::ErrorKind::DeviceLost`]; a variant that does not run is left out.
pub async fn tune_async(gpu: &Gpu, options: &TuneOptions, control: &Control) -> Result<Tuned> {
    let caps = gpu.caps();
    let path = options.folder.as_ref().map(|folder| file::path(folder, caps));
    let mut report = Tuned { file: path.clone(), ..Tuned::default() };
    for (class, variant) in path.as_ref().map(|path| file::read(path, caps)).unwrap_or_default() {
        let known = Class::ALL.iter().any(|c| c.name() == class);
        if known && Variant::from_name(&variant).is_some_and(|v| v.fits(caps)) {
            caps.tuning.set(&class, &variant);
            report.kept += 1;
        }
    }
    if !options.cached_only {
        report.measured = probe::run(gpu, options.seconds, control).await?;
    }
    if let Some(path) = path.filter(|_| report.measured > 0) {
        file::write(&path, caps);
    }
    Ok(report)
}

/// Blocking twin of [`tune_async`].
///
/// # Errors
/// As there.
#[cfg(not(target_arch = "wasm32"))]
pub fn tune(gpu: &Gpu, options: &TuneOptions, control: &Control) -> Result<Tuned> {
    pollster::block_on(tune_async(gpu, options, control))
}

/// The cache file of a device in a folder, whether it is there or not.
pub fn cache_file(folder: &std::path::Path, caps: &Caps) -> PathBuf {
    file::path(folder, caps)
}
