//! Opening the device, and how it is named to people and programs.

use serde::Serialize;
use wavehull::gpu::{AdapterChoice, Caps, DeviceKind};
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

    /// Opens the device and says on stderr which it is.
    ///
    /// # Errors
    /// Those of [`Gpu::open`].
    pub fn open(&self, global: &Global) -> Result<Gpu> {
        let gpu = Gpu::open(&self.options())?;
        global.say(line(gpu.caps(), global.err));
        if let Some(banner) = banner(gpu.caps(), global.err) {
            global.say(banner);
        }
        Ok(gpu)
    }
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
