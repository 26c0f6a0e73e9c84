//! `wavehull train`: arrays of models as CONFIG.toml describes them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use wavehull::train::checkpoint::replace;
use wavehull::train::config::{Config, Length, Loaded};
use wavehull::train::data::{Dataset, Inputs, Normaliser};
use wavehull::train::session::{self, Outcome, Session, Standing, differing};
use wavehull::{Error, ErrorKind, Result, VERSION};

use super::device::{DeviceArgs, DeviceReport};
use super::progress::Bar;
use super::{Global, SCHEMA, exit};

/// Arguments of `wavehull train`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
docs/train.md has every key of CONFIG.toml, and what the folder holds afterwards. After Ctrl-C the same command goes on from the \
checkpoints.

Exit codes: 0 done, 2 bad configuration or data, 4 no device or not enough memory, 130 stopped.

Examples:
  wavehull train examples/configs/blobs.toml --check       what would be trained, without a device
  wavehull train examples/configs/blobs.toml               six small networks at once
  wavehull train examples/configs/blobs.toml --slots 1 --folder one-by-one")]
pub struct Args {
    /// Model, data, members and, perhaps, a search
    #[arg(value_name = "CONFIG.toml")]
    pub config: PathBuf,
    /// Read and check the configuration and its data, say what would be trained, and stop; needs no device and writes nothing
    #[arg(long)]
    pub check: bool,
    /// Members that are trained at once, in place of `slots` in [train]; 1: one after the other
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub slots: Option<u64>,
    /// Where checkpoints, logs and networks go, in place of `folder` in [train]
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
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

/// `inputs.json`: what the trained networks want to be fed, and what their outputs stand for.
#[derive(serde::Serialize)]
struct Feed<'a> {
    schema: u32,
    /// Of the network's input; images have their channels first.
    shape: Vec<usize>,
    outputs: usize,
    /// A stored number x goes in as `x scale + shift`, one pair a channel (a feature); of text: nothing.
    #[serde(flatten)]
    normaliser: Option<Normaliser>,
    class_names: &'a [String],
    /// The characters of a text by their tokens.
    characters: String,
}

impl<'a> Feed<'a> {
    fn new(config: &Config, loaded: &'a Loaded) -> Self {
        let set = &loaded.train;
        let mut shape = vec![1];
        match *set.sample_shape() {
            [h, w, c] => shape.extend([c, h, w]),
            ref other => shape.extend(other),
        }
        let numbers = !matches!(set.inputs, Inputs::Tokens(_));
        Self {
            schema: SCHEMA,
            shape,
            outputs: set.targets.outputs(),
            normaliser: numbers.then(|| Normaliser::fit(config.data.normalise, &set.inputs)),
            class_names: &set.class_names,
            characters: loaded.vocabulary.iter().flat_map(|v| v.characters()).collect(),
        }
    }

    fn write(&self, config: &Config) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::internal("a description cannot be written as JSON").with_source(e))?;
        replace(&config.train.folder.join(FEED), (text + "\n").as_bytes())
    }
}

/// Trains; what was learned stands in the configuration's folder.
///
/// # Errors
/// Bad configurations and data with their place; device errors.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    let mut config = Config::read(&args.config).map_err(with_next_step)?;
    if let Some(slots) = args.slots.and_then(|slots| usize::try_from(slots).ok()) {
        config.train.slots = Some(slots);
    }
    if let Some(folder) = &args.folder {
        config.train.folder.clone_from(folder);
    }
    let loaded = config.load().map_err(with_next_step)?;
    session::check(&config, &loaded).map_err(|e| with_next_step(config.in_file(e)))?;
    if args.check {
        global.print(plan(&config, &loaded));
        return Ok(ExitCode::SUCCESS);
    }
    let gpu = args.device.open(global)?;
    global.say(who(&config));
    let bar = Bar::phases(global);
    let placed = |error: Error| match error.kind() {
        ErrorKind::BadInput | ErrorKind::Unsupported => with_next_step(config.in_file(error)),
        _ => error,
    };
    let feed = Feed::new(&config, &loaded);
    // In front of the networks that it is about; but what another training wrote stays until this one has run.
    if !config.train.folder.join(FEED).exists() {
        feed.write(&config)?;
    }
    let outcome = Session::new(&gpu, &config).and_then(|session| session.run(&loaded, &bar.control()));
    bar.finish();
    let outcome = outcome.map_err(placed)?;
    feed.write(&config)?;
    if args.json {
        let document = Document { schema: SCHEMA, version: VERSION, device: gpu.caps().into(), outcome: &outcome };
        global.print_json(&document)?;
    } else {
        global.print(table(&outcome));
        best(&outcome, &config.train.folder).into_iter().for_each(|line| global.print(line));
    }
    if outcome.stopped {
        global.say("stopped: the same command goes on from the checkpoints");
        return Ok(ExitCode::from(exit::INTERRUPTED));
    }
    Ok(ExitCode::SUCCESS)
}

/// What helps with an error that does not say it itself.
fn with_next_step(error: Error) -> Error {
    match (error.kind(), error.help()) {
        (ErrorKind::BadInput | ErrorKind::Unsupported, None) => {
            error.with_help("docs/train.md has every key of CONFIG.toml, and says what data is read")
        }
        _ => error,
    }
}

/// `6 members of 'mlp' into runs/blobs`
fn who(config: &Config) -> String {
    let count = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let who = match &config.search {
        Some(search) => format!("a search of {}", count(search.trials, "trial")),
        None => count(config.members.len(), "member"),
    };
    format!("{who} of '{}' into {}", config.model.name(), config.train.folder.display())
}

/// What would be trained.
fn plan(config: &Config, loaded: &Loaded) -> String {
    let part = |set: Option<&Dataset>| set.map_or(0, Dataset::len);
    let (valid, test) = (part(loaded.validation.as_ref()), part(loaded.test.as_ref()));
    let length = match config.train.length {
        Length::Epochs(n) => format!("{n} epochs"),
        Length::Steps(n) => format!("{n} steps"),
    };
    let (shape, outputs) = (loaded.train.sample_shape(), loaded.train.targets.outputs());
    let samples = loaded.train.len();
    let groups = config.shape_classes().len();
    let mut lines = vec![
        who(config),
        format!(
            "{samples} samples to train on, {valid} for validation, {test} to test on; shape {shape:?}, {outputs} outputs"
        ),
        format!("{length} of {} each", config.train.optimiser.name()),
    ];
    if groups > 1 {
        lines.push(format!("members have {groups} shapes, which are trained one after the other"));
    }
    lines.push("the configuration and its data are in order; nothing was trained or written".to_owned());
    lines.join("\n")
}

/// The file that says what to feed networks.
const FEED: &str = "inputs.json";

/// Rows of a table that somebody reads.
const ROWS: usize = 32;

/// A line a member, the best first.
fn table(outcome: &Outcome) -> String {
    let keys = differing(&outcome.members);
    let certified = outcome.members.iter().any(|standing| standing.certified.or(standing.test_certified).is_some());
    let mut rows = vec![head(&keys, certified)];
    rows.extend(outcome.members.iter().take(ROWS).map(|standing| row(standing, &keys, certified)));
    let widths: Vec<usize> =
        (0..rows[0].len()).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| -> String {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    if let Some(more @ 1..) = outcome.members.len().checked_sub(ROWS) {
        lines.push(format!("{more} more, which did worse: --json has them all"));
    }
    let Outcome { steps, occupancy, seconds, .. } = outcome;
    let share = 100.0 * occupancy;
    lines.push(match *steps {
        0 => "no steps were left to do".to_owned(),
        _ => format!("{steps} steps of all members in {seconds:.1} s; {share:.0} % of the steps that the device computed were a member's"),
    });
    lines.join("\n")
}

/// Where the network of the best member is, if it has finished.
fn best(outcome: &Outcome, folder: &Path) -> Option<String> {
    let file = folder.join(format!("member-{:04}", outcome.members.first()?.member)).join("model.onnx");
    file.is_file().then(|| format!("the best network: {}", file.display()))
}

/// A hyper-parameter as a table has room for it.
fn short(value: &str) -> String {
    match value.parse::<f64>() {
        Ok(number) if value.len() > 8 => format!("{number:.3e}"),
        _ => value.to_owned(),
    }
}

fn head(keys: &[&str], certified: bool) -> Vec<String> {
    let mut cells: Vec<String> = vec!["member".into(), "seed".into()];
    cells.extend(keys.iter().map(|key| (*key).to_owned()));
    cells.extend(["steps", "train loss", "loss", "correct", "test"].map(str::to_owned));
    cells.extend(["certified", "on test"].into_iter().filter(|_| certified).map(str::to_owned));
    cells.push(String::new());
    cells
}

fn row(standing: &Standing, keys: &[&str], certified: bool) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.4}"));
    let mut cells = vec![standing.member.to_string(), standing.seed.to_string()];
    cells.extend(keys.iter().map(|key| standing.hyper.get(*key).map_or_else(|| "-".to_owned(), |value| short(value))));
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", 100.0 * share));
    cells.extend([standing.steps.to_string(), number(standing.train_loss), number(standing.loss)]);
    cells.extend([share(standing.correct), share(standing.test_correct)]);
    cells.extend([standing.certified, standing.test_certified].into_iter().filter(|_| certified).map(share));
    cells.push(standing.state.name().to_owned());
    cells
}
