//! `wavehull devices`: the adapters of this machine.

use std::process::ExitCode;

use serde::Serialize;
use wavehull::gpu::{Caps, adapters};
use wavehull::{Gpu, Options, Result, VERSION};

use super::device::{DeviceReport, banner, cache_file, cache_folder, kind};
use super::render::Table;
use super::{Global, SCHEMA};

/// Arguments of `wavehull devices`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    version: &'static str,
    devices: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    index: usize,
    #[serde(flatten)]
    device: DeviceReport,
    /// Where measured choices of kernels are kept, once there are some.
    tuning: Option<String>,
}

/// Lists the adapters, best first.
///
/// # Errors
/// [`wavehull::ErrorKind::NoAdapter`] if there is none.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    let found = adapters();
    if found.is_empty() {
        // Opening says what to do about it.
        Gpu::open(&Options::default())?;
    }
    if args.json {
        let tuning = |caps: &Caps| cache_file(caps).map(|file| file.display().to_string());
        let entry = |(index, caps)| Entry { index, device: DeviceReport::from(caps), tuning: tuning(caps) };
        let devices = found.iter().enumerate().map(entry).collect();
        global.print_json(&Document { schema: SCHEMA, version: VERSION, devices })?;
    } else {
        global.print(table(&found).render(global.out));
        if let Some(folder) = cache_folder() {
            global.say(format!("measured choices of kernels are kept in {}", folder.display()));
        }
        if let Some(banner) = found.first().and_then(|best| banner(best, global.err)) {
            global.say(banner);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn table(found: &[Caps]) -> Table {
    let mut table = Table::new(&["index", "name", "backend", "driver", "kind"]);
    for (index, caps) in found.iter().enumerate() {
        let [name, backend, driver] = [&caps.name, &caps.backend, &caps.driver].map(Clone::clone);
        table.row([index.to_string(), name, backend, driver, kind(caps.kind).to_owned()]);
    }
    table
}
