//! `wavehull train`: arrays of models as CONFIG.toml describes them.

use std::path::PathBuf;
use std::process::ExitCode;

use wavehull::train::config::Config;
use wavehull::train::session::{Outcome, Session, Standing, differing};
use wavehull::{Result, VERSION};

use super::device::{DeviceArgs, DeviceReport};
use super::progress::Bar;
use super::{Global, SCHEMA, exit};

/// Arguments of `wavehull train`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "docs/train.md has every key of CONFIG.toml. Members that were stopped (Ctrl-C) go on from their \
checkpoints with the same command; a search begins anew."
)]
pub struct Args {
    /// Model, data, members and, perhaps, a search
    #[arg(value_name = "CONFIG.toml")]
    pub config: PathBuf,
    /// Read and check the configuration and its data, say what would be trained, and stop
    #[arg(long)]
    pub check: bool,
    /// Print the outcome as JSON
    #[arg(long)]
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
    let config = Config::read(&args.config)?;
    let loaded = config.data.load(config.base.count("context"))?;
    let gpu = args.device.open(global)?;
    let who = match &config.search {
        Some(_) => "trials of a search".to_owned(),
        None => format!("{} members", config.members.len()),
    };
    global.say(format!("{who} of '{}' into {}", config.model.name(), config.train.folder.display()));
    if args.check {
        global.say("the configuration and its data are in order");
        return Ok(ExitCode::SUCCESS);
    }
    let bar = Bar::phases(global);
    let session = Session::new(&gpu, &config)?;
    let outcome = session.run(&loaded, &bar.control())?;
    bar.finish();
    if args.json {
        let document = Document { schema: SCHEMA, version: VERSION, device: gpu.caps().into(), outcome: &outcome };
        global.print_json(&document)?;
    } else {
        global.print(table(&outcome));
    }
    if outcome.stopped {
        global.say(match &config.search {
            Some(_) => "stopped: a search begins anew, in another folder",
            None => "stopped: the same command goes on from the checkpoints",
        });
        return Ok(ExitCode::from(exit::INTERRUPTED));
    }
    Ok(ExitCode::SUCCESS)
}

/// A line a member, the best first.
fn table(outcome: &Outcome) -> String {
    let keys = differing(&outcome.members);
    let certified = outcome.members.iter().any(|standing| standing.certified.or(standing.test_certified).is_some());
    let mut rows = vec![head(&keys, certified)];
    rows.extend(outcome.members.iter().map(|standing| row(standing, &keys, certified)));
    let widths: Vec<usize> =
        (0..rows[0].len()).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| -> String {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}"));
        cells.collect::<Vec<_>>().join("  ")
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    let Outcome { steps, occupancy, seconds, .. } = outcome;
    let share = 100.0 * occupancy;
    lines.push(format!(
        "{steps} steps of all members in {seconds:.1} s; {share:.0} % of the slots' steps held a member"
    ));
    lines.join("\n")
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
    cells.extend(keys.iter().map(|key| standing.hyper.get(*key).cloned().unwrap_or_else(|| "-".to_owned())));
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", 100.0 * share));
    cells.extend([standing.steps.to_string(), number(standing.train_loss), number(standing.loss)]);
    cells.extend([share(standing.correct), share(standing.test_correct)]);
    cells.extend([standing.certified, standing.test_certified].into_iter().filter(|_| certified).map(share));
    cells.push(standing.state.to_owned());
    cells
}
