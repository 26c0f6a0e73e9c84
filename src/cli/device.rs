//! Opening the device, and how it is named to people and programs.

use std::path::PathBuf;

use serde::Serialize;
use wavehull::gpu::{AdapterChoice, Caps, DeviceKind};
use wavehull::ops::tune::{self, TuneOptions};
use wavehull::{Gpu, Options, Result};

use super::Global;
use super::render::Style;

/// Which device, and how much of it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DeviceArgs {
    /// Use this adapter: a part of its name, or its index in `wavehull devices` [default: the best]
    #[arg(long, value_name = "NAME|INDEX", help_heading = "Device")]
    pub adapter: Option<String>,
    /// Take at most this much device memory [default: 1024]
    #[arg(long, value_name = "MIB", help_heading = "Device", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub memory: Option<u64>,
    /// Use the shipped choice of kernels: measure none, and read and write no cache file
    #[arg(long, help_heading = "Device")]
    pub no_tune: bool,
}

/// A device in JSON.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceReport {
    name: String,
    backend: String,
    driver: String,
    kind: DeviceKind,
    software: bool,
}

impl DeviceArgs {
    /// The options of [`Gpu::open`].
    pub fn options(&self) -> Options {
        let mut options = Options::default();
        options.adapter = match self.adapter.as_deref() {
            None => AdapterChoice::Best,
            Some(text) => text.parse().map_or_else(|_| AdapterChoice::Name(text.to_owned()), AdapterChoice::Index),
        };
        options.memory_budget = self.memory.map(|mib| mib << 20);
        options
    }

    /// Opens the device and says on stderr which it is. Kernels are chosen as an earlier measurement says.
    ///
    /// # Errors
    /// Those of [`Gpu::open`].
    pub fn open(&self, global: &Global) -> Result<Gpu> {
        let gpu = Gpu::open(&self.options())?;
        global.say(line(gpu.caps(), global.err));
        if let Some(banner) = banner(gpu.caps(), global.err) {
            global.say(banner);
        }
        self.tune(&gpu, true, global)?;
        Ok(gpu)
    }

    /// Opens the device for long work: measures which kernels are the fastest, unless that was done before.
    ///
    /// # Errors
    /// Those of [`Gpu::open`] and of [`tune::tune`].
    pub fn open_tuned(&self, global: &Global) -> Result<Gpu> {
        let gpu = self.open(global)?;
        self.tune(&gpu, false, global)?;
        Ok(gpu)
    }

    /// Reads the cache file and, unless `cached_only`, measures what it does not have.
    ///
    /// # Errors
    /// Those of [`tune::tune`].
    pub fn tune(&self, gpu: &Gpu, cached_only: bool, global: &Global) -> Result<()> {
        if self.no_tune {
            return Ok(());
        }
        let mut options = TuneOptions::default();
        (options.folder, options.cached_only) = (cache_folder(), cached_only);
        let tuned = tune::tune(gpu, &options, &global.control())?;
        if let (1.., Some(file)) = (tuned.measured, &tuned.file) {
            global
                .say(format!("kernels chosen by measurement, kept in {} (delete it to measure again)", file.display()));
        }
        Ok(())
    }
}

/// Where this user's measured choices of kernels are kept: `wavehull` in `$XDG_CACHE_HOME` or `~/.cache`, on macOS in
/// `~/Library/Caches`, on Windows in `%LOCALAPPDATA%`. `None` where none of them is known.
pub fn cache_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || variable("HOME");
    let folder = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library/Caches"))
    } else {
        variable("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".cache")))
    };
    folder.map(|folder| folder.join("wavehull"))
}

/// The file that holds this device's measured choices, whether it is there or not.
pub fn cache_file(caps: &Caps) -> Option<PathBuf> {
    cache_folder().map(|folder| tune::cache_file(&folder, caps))
}

impl From<&Caps> for DeviceReport {
    fn from(caps: &Caps) -> Self {
        Self {
            name: caps.name.clone(),
            backend: caps.backend.clone(),
            driver: caps.driver.clone(),
            kind: caps.kind,
            software: caps.is_software(),
        }
    }
}

/// The device in one line.
pub fn line(caps: &Caps, style: Style) -> String {
    format!("{} {caps}", style.bold("device:"))
}

/// What a user of a software device must know before reading any time.
pub fn banner(caps: &Caps, style: Style) -> Option<String> {
    caps.is_software().then(|| {
        style.red(
            "SOFTWARE DEVICE: the processor poses as a GPU. Results are as sound as on a GPU; times are a processor's.",
        )
    })
}

/// The kind of device in a word.
pub fn kind(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Discrete => "discrete",
        DeviceKind::Integrated => "integrated",
        DeviceKind::Virtual => "virtual",
        DeviceKind::Software => "software",
        _ => "other",
    }
}
