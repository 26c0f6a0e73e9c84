//! `wavehull hash train`.

use std::path::PathBuf;
use std::process::ExitCode;

use wavehull::hash::config::{Config, Length};
use wavehull::hash::session::{self, Loaded, Look, Outcome, Session};
use wavehull::{Error, ErrorKind, Result, VERSION};

use crate::cli::device::{DeviceArgs, DeviceReport};
use crate::cli::progress::Bar;
use crate::cli::{Global, SCHEMA, exit};

/// Arguments of `wavehull hash train`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
docs/hash.md has every key of CONFIG.toml, the presets of the papers, and what the folder holds afterwards. After Ctrl-C, or a crash, the same command \
goes on from the last checkpoint; with --from, from an earlier one, and what came after that is removed.

Exit codes: 0 done, 2 bad configuration or data, 4 no device or not enough memory, 130 stopped.

Examples:
  wavehull hash train examples/configs/relations.toml --check     what would be trained, without a device
  wavehull hash train examples/configs/relations.toml             25,918 labels through shared negatives
  wavehull hash train examples/configs/relations.toml --from 504  once more from step 504, if there is a checkpoint of it")]
pub struct Args {
    /// Data, model and active sets
    #[arg(value_name = "CONFIG.toml")]
    pub config: PathBuf,
    /// Read and check the configuration and its data, say what would be trained, and stop; needs no device and writes nothing but the data's cache
    #[arg(long)]
    pub check: bool,
    /// Where checkpoints, the log and the network go, in place of `folder` in [train]
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// In place of `seed` in [train]
    #[arg(long, value_name = "N")]
    pub seed: Option<u32>,
    /// Go back to the folder's checkpoint of this step and on from there; later checkpoints and lines of the log are removed
    #[arg(long, value_name = "STEP", conflicts_with = "check")]
    pub from: Option<u64>,
    /// Print the outcome as JSON
    #[arg(long, conflicts_with = "check")]
    pub json: bool,
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Document<'a> {
    schema: u32,
    version: &'static str,
    device: DeviceReport,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// Trains; what was learned stands in the configuration's folder.
///
/// # Errors
/// Bad configurations and data with their place; device errors.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    let mut config = Config::read(&args.config).map_err(with_next_step)?;
    if let Some(folder) = &args.folder {
        config.folder.clone_from(folder);
    }
    if let Some(seed) = args.seed {
        config.set_seed(u64::from(seed));
    }
    let loaded = session::load(&config.data, config.options.seed).map_err(with_next_step)?;
    loaded.notes.iter().for_each(|note| global.say(note));
    if args.check {
        global.print(plan(&config, &loaded));
        return Ok(ExitCode::SUCCESS);
    }
    let gpu = args.device.open(global)?;
    let bar = Bar::phases(global);
    let control = bar.control();
    let session = match args.from {
        Some(step) => Session::going_back(&gpu, &config, &loaded, step, &control)?,
        None => Session::new(&gpu, &config, &loaded, &control)?,
    };
    let place = config.folder.display();
    bar.note(&match (session.step(), session.forgotten()) {
        (0, _) => plan(&config, &loaded),
        (step, 0) => format!("going on after step {step} of the training in {place}"),
        (step, later) => {
            format!("back to step {step} of the training in {place}; {later} later checkpoints are removed")
        }
    });
    let outcome = session.run(&control, &mut |look| bar.note(&line(look)));
    bar.finish();
    let outcome = outcome?;
    if args.json {
        let document = Document { schema: SCHEMA, version: VERSION, device: gpu.caps().into(), outcome: &outcome };
        global.print_json(&document)?;
    } else {
        outcome.looks.last().into_iter().for_each(|look| global.print(line(look)));
        global.print(format!("{} steps in {:.1} s, in {}", outcome.steps, outcome.seconds, config.folder.display()));
    }
    if outcome.stopped {
        global.say("stopped: the same command goes on from the checkpoint");
        return Ok(ExitCode::from(exit::INTERRUPTED));
    }
    Ok(ExitCode::SUCCESS)
}

/// What helps with an error that does not say it itself.
pub fn with_next_step(error: Error) -> Error {
    match (error.kind(), error.help()) {
        (ErrorKind::BadInput | ErrorKind::Unsupported, None) => {
            error.with_help("docs/hash.md has every key of CONFIG.toml, and says what data is read")
        }
        _ => error,
    }
}

/// What would be trained.
fn plan(config: &Config, loaded: &Loaded) -> String {
    let (train, options) = (&loaded.train, &config.options);
    let length = match config.length {
        Length::Epochs(n) => format!("{n} epochs"),
        Length::Steps(n) => format!("{n} steps"),
    };
    [
        format!(
            "{} samples to train on, {} to look at; {} features, {} labels",
            train.len(),
            loaded.test.len(),
            train.feature_count,
            train.label_count
        ),
        format!(
            "{} hidden, {} parameters; mode '{}', {length} in batches of {} into {}",
            options.hidden,
            (train.feature_count + train.label_count) * (options.hidden + 1),
            options.mode.name(),
            options.batch,
            config.folder.display()
        ),
    ]
    .join("\n")
}

/// `epoch 1.00  P@1 0.7061  P@3 ...  21,164 samples/s  loss 5.23  active 2,350 (0 from hash)  rebuilds 0 %`
fn line(look: &Look) -> String {
    let mut parts = vec![format!("epoch {:.2}", look.epoch)];
    if let Some(precision) = &look.precision {
        parts.extend(precision.at.iter().map(|(k, p)| format!("P@{k} {p:.4}")));
    }
    if let (Some(one), Some(ten)) = (look.recall_1, look.recall_10) {
        parts.push(format!("recall@1 {one:.4}  recall@10 {ten:.4}"));
    }
    let tally = &look.tally;
    if tally.steps == 0 {
        return parts.join("  ");
    }
    parts.push(format!("loss {:.4}", tally.loss));
    parts.push(format!("{:.0} samples/s", look.samples_per_second));
    parts.push(format!(
        "active {:.0} ({:.0} labels, {:.0} candidates, {:.0} fill)",
        tally.active, tally.from_labels, tally.from_candidates, tally.from_fill
    ));
    if tally.rebuilds > 0 {
        parts.push(format!("rebuilds {:.0} % of the time", 100.0 * tally.rebuild_share));
    }
    parts.join("  ")
}
