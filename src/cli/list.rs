//! `wavehull verify --instances`: a list of instances, each network's in common batches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;
use wavehull::verify::Verdict;
use wavehull::verify::instances::{Finished, Instance, InstanceReport, Summary, read_list, verify_list};
use wavehull::{Error, ErrorKind, Result, VERSION};

use super::device::DeviceReport;
use super::progress::Bar;
use super::render::{Table, counted, number, since, time};
use super::verify::{Args, Memory, StartUp, split_words};
use super::{Global, SCHEMA, exit, vnncomp, write_file};

/// Instances that are named one by one when their splitting was cut short.
const CUT_SHORT: usize = 20;

/// Which list, and what to write about it.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Lists")]
pub struct ListArgs {
    /// Verify every line of this CSV file: network, property, seconds (VNN-COMP's form), or named columns
    #[arg(long, value_name = "LIST.csv")]
    instances: Option<PathBuf>,
    /// Only instances whose network or property contains this
    #[arg(long, value_name = "SUBSTRING", conflicts_with = "network")]
    only: Option<String>,
    /// Only the first N of them
    #[arg(long, value_name = "N", conflicts_with = "network")]
    first: Option<usize>,
    /// Write each counterexample to DIR/ROW.txt as a VNN-COMP result file (row 1 is the first instance)
    #[arg(long, value_name = "DIR", conflicts_with = "network")]
    counterexamples: Option<PathBuf>,
    /// Write each proof to DIR/ROW.proof
    #[arg(long, value_name = "DIR", conflicts_with = "network")]
    proofs: Option<PathBuf>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    version: &'static str,
    device: DeviceReport,
    startup: StartUp,
    memory: Memory,
    /// Stopped before its end.
    stopped: bool,
    instances: Vec<Line<'a>>,
    summary: &'a Summary,
}

#[derive(Serialize)]
struct Line<'a> {
    row: usize,
    #[serde(flatten)]
    report: &'a InstanceReport,
}

/// Reports by row, and the files that go with them.
struct Book<'a> {
    args: &'a ListArgs,
    /// Row of each instance, from 1.
    rows: &'a [usize],
    reports: BTreeMap<usize, InstanceReport>,
    /// The first file that could not be written.
    failed: Option<Error>,
}

/// Verifies a list.
///
/// # Errors
/// Those of reading the list, opening the device, [`verify_list`] and writing files.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    let Some(file) = &args.list.instances else {
        return Err(Error::bad_input("verify needs a network and a property, or a list"));
    };
    let start = Instant::now();
    let (rows, list) = selected(&args.list, read_list(file)?)?;
    for folder in [&args.list.counterexamples, &args.list.proofs].into_iter().flatten() {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    }
    let reading = since(start);
    let gpu = args.device.open_tuned(global)?;
    let startup = StartUp { reading, device: since(start) - reading };

    let bar = Bar::counting(global, list.len());
    let mut news = News::new(&list);
    let mut book = Book { args: &args.list, rows: &rows, reports: BTreeMap::new(), failed: None };
    let base = file.parent().unwrap_or(Path::new(""));
    let computing = Instant::now();
    let ended = verify_list(&gpu, base, &list, &args.options(args.list.proofs.is_some()), &bar.control(), |finished| {
        bar.advance();
        if let Some(line) = news.hear(&finished.report) {
            bar.note(&line);
        }
        book.enter(finished);
    });
    bar.finish();
    // What is known is printed first, whatever ended the list.
    let (stopped, error) = match ended {
        Ok(()) => (false, book.failed.take()),
        Err(error) if error.kind() == ErrorKind::Cancelled => (true, book.failed.take()),
        Err(error) => (true, Some(error)),
    };
    let summary = Summary::of(book.reports.values(), since(computing));
    if args.json {
        let instances = book.reports.iter().map(|(&row, report)| Line { row, report }).collect();
        let device = gpu.caps().into();
        global.print_json(&Document {
            schema: SCHEMA,
            version: VERSION,
            device,
            startup,
            memory: Memory::of(&gpu),
            stopped,
            instances,
            summary: &summary,
        })?;
    } else {
        print_words(&book.reports, &summary, startup, list.len(), global);
        global.print(Memory::of(&gpu));
    }
    error.map_or_else(|| Ok(code(&summary, stopped)), Err)
}

fn code(summary: &Summary, stopped: bool) -> ExitCode {
    match summary {
        Summary { wrong: 1.., .. } => ExitCode::from(exit::WRONG),
        _ if stopped => ExitCode::from(exit::INTERRUPTED),
        Summary { error: 1.., .. } => ExitCode::from(exit::BAD_INPUT),
        _ => ExitCode::SUCCESS,
    }
}

/// The wanted instances with their rows.
fn selected(args: &ListArgs, list: Vec<Instance>) -> Result<(Vec<usize>, Vec<Instance>)> {
    let wanted = |i: &Instance| args.only.as_ref().is_none_or(|part| i.onnx.contains(part) || i.vnnlib.contains(part));
    let picked: (Vec<usize>, Vec<Instance>) =
        (1..).zip(list).filter(|(_, i)| wanted(i)).take(args.first.unwrap_or(usize::MAX)).unzip();
    if picked.0.is_empty() {
        return Err(Error::bad_input("no instance of the list is selected")
            .with_help("--only looks for a part of a network's or property's path as the list writes it"));
    }
    Ok(picked)
}

impl Book<'_> {
    fn enter(&mut self, finished: Finished) {
        let row = self.rows[finished.index];
        if let Err(error) = self.write_files(row, &finished) {
            self.failed.get_or_insert(error);
        }
        self.reports.insert(row, finished.report);
    }

    fn write_files(&self, row: usize, finished: &Finished) -> Result<()> {
        let violated = finished.outcome.as_ref().is_some_and(|o| matches!(o.verdict, Verdict::Violated(_)));
        if let (Some(folder), true) = (&self.args.counterexamples, violated) {
            let text = vnncomp::result_file(finished.report.result, finished.outcome.as_ref());
            write_file(&folder.join(format!("{row}.txt")), &text)?;
        }
        if let (Some(folder), Some(proof)) = (&self.args.proofs, &finished.proof) {
            write_file(&folder.join(format!("{row}.proof")), &proof.to_string())?;
        }
        Ok(())
    }
}

/// A line for every network that is done.
struct News {
    /// For each network, how many instances are open and the reports of the others.
    networks: BTreeMap<String, (usize, Vec<InstanceReport>)>,
}

impl News {
    fn new(list: &[Instance]) -> Self {
        let mut networks: BTreeMap<String, (usize, Vec<InstanceReport>)> = BTreeMap::new();
        for instance in list {
            networks.entry(instance.onnx.clone()).or_default().0 += 1;
        }
        Self { networks }
    }

    /// The line, if this was the network's last instance.
    fn hear(&mut self, report: &InstanceReport) -> Option<String> {
        let (open, reports) = self.networks.get_mut(&report.onnx)?;
        *open -= 1;
        reports.push(report.clone());
        (*open == 0).then(|| {
            let summary = Summary::of(reports.iter(), longest(reports.iter()));
            format!("{}: {}", report.onnx, words(&summary))
        })
    }
}

/// When the last answer of a network came.
fn longest<'a>(reports: impl Iterator<Item = &'a InstanceReport>) -> f64 {
    reports.map(|r| r.seconds).fold(0.0, f64::max)
}

fn words(summary: &Summary) -> String {
    let Summary { unsat, sat, unknown, timeout, error, wrong, seconds } = *summary;
    let mut parts = vec![format!("{unsat} hold, {sat} violated, {unknown} unknown")];
    for (count, what) in [(timeout, "timeout"), (error, "error"), (wrong, "WRONG")] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    format!("{} in {}", parts.join(", "), time(seconds))
}

fn print_words(
    reports: &BTreeMap<usize, InstanceReport>,
    summary: &Summary,
    startup: StartUp,
    total: usize,
    global: &Global,
) {
    for (row, report) in reports.iter().filter(|(_, r)| r.result == "error" || r.is_wrong()) {
        let why = report.reason.as_deref().unwrap_or("contradicts the list's verdict");
        let what = format!("row {row}: {}, {}: {}: {why}", report.onnx, report.vnnlib, report.result);
        global.print(global.out.red(&what));
    }
    global.print(table(reports, summary).render(global.out));
    for line in cut_short(reports) {
        global.print(line);
    }
    if reports.len() < total {
        global.print(global.out.yellow(&format!(
            "stopped: {} of {} are done",
            reports.len(),
            counted(total, "instance")
        )));
    }
    let StartUp { reading, device } = startup;
    let startup = format!("start-up: reading {}, device {}", time(reading), time(device));
    let count = counted(reports.len(), "instance");
    global.print(format!("{count}: {}; {} ({startup})", against_the_list(reports, summary), time(summary.seconds)));
}

/// A line for every instance whose splitting was cut short, nearest to its end first.
fn cut_short(reports: &BTreeMap<usize, InstanceReport>) -> Vec<String> {
    let left =
        |r: &InstanceReport| r.boxes.map(|boxes| boxes.left).filter(|_| matches!(r.result, "unknown" | "timeout"));
    let mut open: Vec<_> = reports.iter().filter_map(|(row, r)| Some((left(r)?, row, r))).collect();
    open.sort_by_key(|&(left, row, _)| (left, row));
    let line = |&(_, row, r): &(u64, &usize, &InstanceReport)| {
        let boxes = r.boxes.map_or_else(String::new, split_words);
        let margin = r.margin.map_or_else(|| "none".to_owned(), number);
        format!("row {row}: {}, {}: boxes: {boxes}; margin {margin}; {}", r.onnx, r.vnnlib, time(r.seconds))
    };
    let mut lines: Vec<String> = open.iter().take(CUT_SHORT).map(line).collect();
    if open.len() > CUT_SHORT {
        lines.push(format!("and {} more that were cut short (--json has all)", open.len() - CUT_SHORT));
    }
    lines
}

/// `21 right, 0 wrong, 9 unknown`, and what else there is.
fn against_the_list(reports: &BTreeMap<usize, InstanceReport>, summary: &Summary) -> String {
    let right = reports.values().filter(|r| r.expected.as_deref() == Some(r.result)).count();
    let news = (summary.unsat + summary.sat).saturating_sub(right + summary.wrong);
    let mut text = format!("{right} right, {} wrong, {} unknown", summary.wrong, summary.unknown + summary.timeout);
    for (count, what) in [(news, "decided that the list leaves open"), (summary.error, "not run")] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    text
}

/// A row for each folder of networks, or for each network where they are all in one folder.
fn table(reports: &BTreeMap<usize, InstanceReport>, all: &Summary) -> Table {
    let folder = |r: &InstanceReport| Path::new(&r.onnx).parent().map(|p| p.display().to_string()).unwrap_or_default();
    let file = |r: &InstanceReport| {
        Path::new(&r.onnx).file_name().map_or(r.onnx.clone(), |f| f.to_string_lossy().into_owned())
    };
    let one_folder = reports.values().map(folder).collect::<std::collections::BTreeSet<_>>().len() <= 1;
    let mut groups: BTreeMap<String, Vec<&InstanceReport>> = BTreeMap::new();
    for report in reports.values() {
        groups.entry(if one_folder { file(report) } else { folder(report) }).or_default().push(report);
    }
    let first = if one_folder { "network" } else { "folder" };
    let mut table =
        Table::new(&[first, "instances", "hold", "violated", "unknown", "timeout", "error", "wrong", "time"]);
    let mut add = |name: &str, count: usize, s: &Summary| {
        let counts = [count, s.unsat, s.sat, s.unknown, s.timeout, s.error, s.wrong].map(|n| n.to_string());
        let [count, unsat, sat, unknown, timeout, error, wrong] = counts;
        table.row([name.to_owned(), count, unsat, sat, unknown, timeout, error, wrong, time(s.seconds)]);
    };
    for (name, members) in &groups {
        let mut networks: BTreeMap<&str, f64> = BTreeMap::new();
        for report in members {
            let last = networks.entry(&report.onnx).or_default();
            *last = last.max(report.seconds);
        }
        add(name, members.len(), &Summary::of(members.iter().copied(), networks.values().sum()));
    }
    if groups.len() > 1 {
        add("all", reports.len(), all);
    }
    table
}
