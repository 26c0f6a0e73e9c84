//! `wavehull hash predict`.

use std::path::PathBuf;
use std::process::ExitCode;

use wavehull::hash::data::{self, Names};
use wavehull::hash::session;
use wavehull::{Result, VERSION};

use super::ShortlistArgs;
use crate::cli::device::{DeviceArgs, DeviceReport};
use crate::cli::progress::Bar;
use crate::cli::{Global, SCHEMA};

/// Arguments of `wavehull hash predict`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Prints a line a sample: `label:logit`, the best first.

Examples:
  wavehull hash predict runs/relations data/debian-relations/test.txt.gz --top 5")]
pub struct Args {
    /// The folder of a training
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Samples, in the format of the Extreme Classification Repository; their labels are not looked at
    #[arg(value_name = "FILE")]
    pub samples: PathBuf,
    /// Labels a sample
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=128))]
    pub top: u64,
    /// Names of the labels, one a line [default: those of the training, else numbers]
    #[arg(long, value_name = "FILE")]
    pub names: Option<PathBuf>,
    #[command(flatten)]
    pub shortlist: ShortlistArgs,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(serde::Serialize)]
struct Document {
    schema: u32,
    version: &'static str,
    device: DeviceReport,
    samples: Vec<Vec<Answer>>,
}

#[derive(serde::Serialize)]
struct Answer {
    label: u32,
    name: Option<String>,
    logit: f32,
}

/// Finds labels.
///
/// # Errors
/// Bad files with their place; device errors.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    let (config, [_, labels]) = session::configuration(&args.folder)?;
    let (set, _) = data::read(&args.samples, &data::ReadOptions::default())?;
    let gpu = args.device.open(global)?;
    let bar = Bar::phases(global);
    let control = bar.control();
    let network = session::open(&gpu, &args.folder, &control)?;
    let names = match &args.names {
        Some(path) => Some(Names::read(path, labels)?),
        None => session::label_names(&config.data, labels, config.options.seed)?,
    };
    let top = usize::try_from(args.top).unwrap_or(usize::MAX);
    let best = network.predict(&set, top, args.shortlist.options().as_ref(), &control)?;
    bar.finish();
    let answer = |&(label, logit): &(u32, f32)| Answer {
        label,
        name: names.as_ref().and_then(|names| names.get(label)).map(str::to_owned),
        logit,
    };
    let samples: Vec<Vec<Answer>> = best.iter().map(|row| row.iter().map(answer).collect()).collect();
    if args.json {
        global.print_json(&Document { schema: SCHEMA, version: VERSION, device: gpu.caps().into(), samples })?;
        return Ok(ExitCode::SUCCESS);
    }
    for sample in samples {
        let words =
            sample.into_iter().map(|a| format!("{}:{:.3}", a.name.unwrap_or_else(|| a.label.to_string()), a.logit));
        global.print(words.collect::<Vec<_>>().join(" "));
    }
    Ok(ExitCode::SUCCESS)
}
