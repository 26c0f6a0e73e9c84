//! `wavehull hash eval`.

use std::path::PathBuf;
use std::process::ExitCode;

use wavehull::hash::quality::{Precision, Quality};
use wavehull::hash::{data, session};
use wavehull::ops::random::{Stream, purpose};
use wavehull::{Error, Result, VERSION};

use super::ShortlistArgs;
use crate::cli::device::{DeviceArgs, DeviceReport};
use crate::cli::progress::Bar;
use crate::cli::{Global, SCHEMA};

/// Arguments of `wavehull hash eval`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wavehull hash eval runs/relations
  wavehull hash eval runs/relations --clustered --probes 16
  wavehull hash eval runs/relations --sparse --tables 200 --codes 4")]
pub struct Args {
    /// The folder of a training
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Samples to look at, in the format of the Extreme Classification Repository [default: the training's test part]
    #[arg(long, value_name = "FILE")]
    pub test: Option<PathBuf>,
    /// Take at most so many samples of them
    #[arg(long, value_name = "N")]
    pub samples: Option<usize>,
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
    #[serde(flatten)]
    quality: Quality,
}

/// Measures a trained network.
///
/// # Errors
/// Bad files with their place; device errors.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    let (config, space) = session::configuration(&args.folder)?;
    let test = match &args.test {
        Some(path) => data::read(path, &data::ReadOptions::default())?.0,
        None => {
            let (test, notes) = session::load_test(&config.data, config.options.seed, space)?;
            notes.iter().for_each(|note| global.say(note));
            test
        }
    };
    if test.is_empty() {
        let help = "give samples with `--test FILE`";
        return Err(Error::bad_input("there are no samples to look at").in_file(&args.folder).with_help(help));
    }
    let gpu = args.device.open(global)?;
    let bar = Bar::phases(global);
    let control = bar.control();
    let network = session::open(&gpu, &args.folder, &control)?;
    // The first ones of a fixed random order: files may be sorted by label.
    let mut chosen = Stream::new(1).permutation(test.len(), 0, purpose::SPLIT);
    chosen.truncate(args.samples.unwrap_or(test.len()));
    let quality = network.quality(&test, &chosen, args.shortlist.options().as_ref(), &control)?;
    bar.finish();
    if args.json {
        global.print_json(&Document { schema: SCHEMA, version: VERSION, device: gpu.caps().into(), quality })?;
        return Ok(ExitCode::SUCCESS);
    }
    global.print(table(&quality, if args.shortlist.clustered { "clusters" } else { "tables  " }));
    Ok(ExitCode::SUCCESS)
}

fn table(quality: &Quality, way: &str) -> String {
    let precision = |p: &Precision| p.at.iter().map(|(k, p)| format!("P@{k} {p:.4}")).collect::<Vec<_>>().join("  ");
    let per = |seconds: f64| 1e6 * seconds / quality.samples.max(1) as f64;
    let mut lines = vec![
        format!("{} samples, {} of them without labels", quality.samples, quality.exact.unlabelled),
        format!("exact     {}  {:.1} us a sample", precision(&quality.exact), per(quality.exact_seconds)),
    ];
    if let Some(sparse) = &quality.sparse {
        lines.push(format!(
            "{way}  {}  {:.1} us a sample ({:.1} % of exact; built in {:.1} s)",
            precision(&sparse.precision),
            per(sparse.seconds),
            100.0 * sparse.seconds / quality.exact_seconds.max(1e-12),
            sparse.build_seconds
        ));
        lines.push(format!(
            "          {:.0} candidates ({:.2} % of the labels), recall@1 {:.4}, recall@10 {:.4}",
            sparse.candidates,
            100.0 * sparse.candidates / quality.labels as f64,
            sparse.recall_1,
            sparse.recall_10
        ));
    }
    lines.join("\n")
}
