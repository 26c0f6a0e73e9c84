//! The command line: one file a subcommand. Data goes to stdout, talk to stderr.

mod bench;
mod check;
mod demo;
mod device;
mod devices;
mod doctor;
mod fault;
mod hash;
mod list;
mod pack;
mod progress;
mod render;
mod train;
mod verify;
mod vnncomp;
mod welcome;

use std::fmt::Display;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand};
use serde::Serialize;
use wavehull::{CancelToken, Control, Error, ErrorKind, Result};

use render::Style;

/// Version of every JSON document that the program writes; `docs/json.md` describes them.
const SCHEMA: u32 = 1;

/// Exit codes other than 0, as `--help` lists them.
mod exit {
    pub const NEGATIVE: u8 = 1;
    pub const BAD_INPUT: u8 = 2;
    pub const UNKNOWN: u8 = 3;
    pub const DEVICE: u8 = 4;
    pub const WRONG: u8 = 5;
    pub const INTERRUPTED: u8 = 130;
}

const EXIT_CODES: &str = "\
Exit codes:
  0    holds, accepted, or done
  1    violated (verify), refused (check, demo), a wrong answer (bench)
  2    wrong usage or bad input
  3    unknown or timeout (verify)
  4    no device, or the device failed or is too small
  5    a list with a verdict that contradicts the published one (verify --instances)
  130  stopped with Ctrl-C; what was known by then was printed";

/// Trains, proves, packs and hashes neural networks on any Vulkan, Metal or DX12 GPU.
#[derive(Debug, Parser)]
#[command(name = "wavehull", version, after_help = EXIT_CODES)]
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    talk: TalkArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct TalkArgs {
    /// Print results and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more on stderr: -v what is done, -vv each stage, -vvv also the graphics stack
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prove robustness of a hundred digits, draw a counterexample, re-check every proof on the CPU
    Demo(demo::Args),
    /// Decide a VNN-LIB property of an ONNX network, or a list of them
    Verify(verify::Args),
    /// Train an array of models at once, or search for the best of many
    Train(train::Args),
    /// What lossless compression does to an accelerator's memory; compressed files of tensors
    Pack(pack::Args),
    /// Networks with hundreds of thousands of labels, trained and asked through active sets
    Hash(hash::Args),
    /// Re-check a proof on the CPU, without a GPU
    Check(check::Args),
    /// List the adapters of this machine
    Devices(devices::Args),
    /// Test this machine: limits, every kernel, results against f64
    Doctor(doctor::Args),
    /// Measure kernels against what this device can do
    Bench(bench::Args),
}

/// What every command gets: how to print, and whether to stop.
#[derive(Debug, Clone)]
pub struct Global {
    /// Nothing on stderr but errors.
    pub quiet: bool,
    /// Cancelled by Ctrl-C.
    pub cancel: CancelToken,
    /// Colours of stdout.
    pub out: Style,
    /// Colours of stderr.
    pub err: Style,
}

impl Global {
    /// Prints data: a line, or several without the last newline.
    pub fn print(&self, text: impl Display) {
        let mut stdout = std::io::stdout().lock();
        if writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_err() {
            // The reader has closed the pipe (`wavehull devices | head -1`): nobody is left to print for.
            std::process::exit(0);
        }
    }

    /// Prints a JSON document.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if it cannot be written as JSON.
    pub fn print_json(&self, document: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(document)
            .map_err(|e| Error::internal("a report cannot be written as JSON").with_source(e))?;
        self.print(text);
        Ok(())
    }

    /// Talks to the user on stderr, unless told to be quiet.
    pub fn say(&self, line: impl Display) {
        if !self.quiet {
            // A closed stderr is no reason to stop.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// A control whose progress goes nowhere.
    pub fn control(&self) -> Control {
        Control { cancel: self.cancel.clone(), progress: None }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli.talk);
    let global =
        Global { quiet: cli.talk.quiet, cancel: CancelToken::new(), out: Style::stdout(), err: Style::stderr() };
    stop_on_ctrl_c(&global.cancel);
    let json = cli.command.as_ref().is_some_and(Command::wants_json);
    run(cli.command, &global).unwrap_or_else(|error| fault::report(&error, json, &global))
}

fn run(command: Option<Command>, global: &Global) -> Result<ExitCode> {
    match command {
        None => welcome::run(global),
        Some(Command::Demo(args)) => demo::run(&args, global),
        Some(Command::Verify(args)) => verify::run(&args, global),
        Some(Command::Train(args)) => train::run(&args, global),
        Some(Command::Pack(args)) => pack::run(&args, global),
        Some(Command::Hash(args)) => hash::run(&args, global),
        Some(Command::Check(args)) => check::run(&args, global),
        Some(Command::Devices(args)) => devices::run(&args, global),
        Some(Command::Doctor(args)) => doctor::run(&args, global),
        Some(Command::Bench(args)) => bench::run(args, global),
    }
}

impl Command {
    fn wants_json(&self) -> bool {
        match self {
            Self::Demo(args) => args.json,
            Self::Verify(args) => args.json,
            Self::Train(args) => args.json,
            Self::Pack(args) => args.wants_json(),
            Self::Hash(args) => args.wants_json(),
            Self::Check(args) => args.json,
            Self::Devices(args) => args.json,
            Self::Doctor(args) => args.json,
            Self::Bench(args) => args.json.as_deref() == Some("-"),
        }
    }
}

/// Log messages go to stderr. The environment is not read: what is printed depends on the arguments alone.
fn start_log(talk: &TalkArgs) {
    use log::LevelFilter::{Debug, Error, Info, Trace, Warn};
    let ours = if talk.quiet { Error } else { [Warn, Info, Debug, Trace][usize::from(talk.verbose.min(3))] };
    let theirs = if talk.verbose >= 3 { Info } else { Error };
    env_logger::Builder::new().filter_level(theirs).filter_module("wavehull", ours).init();
}

/// The first Ctrl-C ends the work at its next cut, a second one ends the program.
fn stop_on_ctrl_c(cancel: &CancelToken) {
    let cancel = cancel.clone();
    let handler = move || {
        if cancel.is_cancelled() {
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
        cancel.cancel();
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        log::warn!("Ctrl-C will end the program at once: {error}");
    }
}

/// Writes a file.
fn write_file(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).map_err(|e| Error::io(file, e))
}

/// The exit code of an error.
fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::BadInput | ErrorKind::Unsupported | ErrorKind::Io => exit::BAD_INPUT,
        // A file that is too big for any device is the file's fault.
        ErrorKind::TooBig if error.place().is_some() => exit::BAD_INPUT,
        ErrorKind::BadProof => exit::NEGATIVE,
        ErrorKind::Cancelled => exit::INTERRUPTED,
        _ => exit::DEVICE,
    }
}
