//! What a run of the benchmarks found: plain data, its JSON, and a table that a person can paste.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::gpu::Caps;

/// Version of the JSON document; `docs/json.md` describes it.
pub const SCHEMA: u32 = 1;

/// What a reader must know before reading any time taken on a software device.
pub const SOFTWARE_BANNER: &str = "SOFTWARE DEVICE: a CPU posing as a GPU: good for correctness, not for speed. Do not compare these times with a GPU's.";

/// The device that was measured.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The adapter's name.
    pub name: String,
    /// `vulkan`, `metal`, `dx12` or `webgpu`.
    pub backend: String,
    /// Driver name and version.
    pub driver: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: String,
    /// Whether it is the processor posing as a GPU.
    pub software: bool,
}

/// One measured operation. Figures are absent where nothing was measured; `check` says why.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The operation: the kernel's name first, then what is special.
    pub name: String,
    /// The table's section.
    pub group: String,
    /// How much work one operation is, in `unit`s.
    pub work: Option<f64>,
    /// `FLOP`, `B` (bytes read plus bytes written, at least once each), or what is counted.
    pub unit: String,
    /// What one operation takes at least in the unit of `roof` (`B`, `FLOP`), where `work` counts something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// Seconds of one operation, the median of the runs: by the clock that `clock` names.
    pub seconds: Option<f64>,
    /// Median absolute deviation of `seconds` over the runs.
    pub spread: Option<f64>,
    /// `unit`s a second.
    pub rate: Option<f64>,
    /// The entry that bounds this one's rate.
    pub roof: Option<String>,
    /// This rate as a share of the roof's; where there is a `bound`, that over `seconds`.
    pub share: Option<f64>,
    /// `ok`: the answer was right, before the clock started. `n/a: ...`: not run, and why. `error: ...`: wrong or failed.
    pub check: String,
    /// `device` or `wall`.
    pub clock: Option<String>,
    /// Seconds on the wall's clock, submission and waiting included, the median of the runs.
    pub wall: Option<f64>,
    /// Seconds that the first call took beyond `wall`, mostly for compiling; absent where all was compiled before.
    pub compile: Option<f64>,
    /// Seconds to bring the network or the operands to the device, where that is not an entry of its own.
    pub transfer: Option<f64>,
    /// Number of runs.
    pub runs: Option<usize>,
    /// What else a reader should know.
    pub note: Option<String>,
    /// Where the device's time went, the longest first; absent where one kernel is measured, or without a device clock.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernels: Vec<KernelTime>,
}

/// The device's time in one kernel.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelTime {
    /// The kernel.
    pub name: String,
    /// Device seconds of all its dispatches in one operation: those of all kernels add up to about the entry's `seconds`.
    pub seconds: f64,
    /// Dispatches of one run, which may be a batch of operations.
    pub dispatches: u64,
}

/// A run of the benchmarks.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What was measured.
    pub device: Device,
    /// The version of this crate.
    pub version: String,
    /// Whether sizes were small: a test, not a measurement.
    pub quick: bool,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Whether the run was stopped before its end.
    pub stopped: bool,
    /// The entries, in the order in which they ran.
    pub entries: Vec<Entry>,
}

impl From<&Caps> for Device {
    fn from(caps: &Caps) -> Self {
        Self {
            name: caps.name.clone(),
            backend: caps.backend.clone(),
            driver: caps.driver.clone(),
            kind: format!("{:?}", caps.kind).to_lowercase(),
            software: caps.is_software(),
        }
    }
}

impl Entry {
    /// Whether its answer was wrong or it failed to run.
    pub fn failed(&self) -> bool {
        self.check.starts_with("error")
    }
}

impl Report {
    /// Number of entries whose answer was wrong or that failed to run.
    pub fn failures(&self) -> usize {
        self.entries.iter().filter(|entry| entry.failed()).count()
    }

    /// The document as JSON text.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] if it cannot be written as JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|e| Error::internal("a report is not JSON").with_source(e))
    }

    /// Reads a document that [`Report::to_json`] wrote.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] with line and column if it is not one; [`crate::ErrorKind::Unsupported`] for another
    /// version of the schema.
    pub fn from_json(text: &str) -> Result<Self> {
        let help = "give a file that `wavehull bench --json FILE` wrote";
        let bad = |e: serde_json::Error| {
            Error::bad_input(format!("not a report of benchmarks: {e}")).at(e.line(), e.column()).with_help(help)
        };
        let document: serde_json::Value = serde_json::from_str(text).map_err(bad)?;
        match document.get("schema").and_then(serde_json::Value::as_u64) {
            Some(schema) if schema != u64::from(SCHEMA) => {
                Err(Error::unsupported(format!("a report of schema {schema}; this program reads {SCHEMA}"))
                    .with_help(help))
            }
            _ => serde_json::from_str(text).map_err(bad),
        }
    }

    /// Where the device's time went in every entry that has several kernels, as plain text.
    pub fn kernel_table(&self) -> String {
        let mut rows = vec![["entry, kernel", "time", "share", "dispatches"].map(str::to_owned).to_vec()];
        for entry in self.entries.iter().filter(|entry| !entry.kernels.is_empty()) {
            rows.push(vec![entry.name.clone()]);
            let total: f64 = entry.kernels.iter().map(|kernel| kernel.seconds).sum();
            rows.extend(entry.kernels.iter().map(|kernel| {
                let share = format!("{:.1} %", 100.0 * kernel.seconds / total.max(1e-12));
                vec![format!("  {}", kernel.name), time(kernel.seconds), share, kernel.dispatches.to_string()]
            }));
        }
        if rows.len() == 1 {
            return "no entry has several kernels that were timed by the device's clock".to_owned();
        }
        aligned(&rows) + "time: of one operation, by the device's clock; dispatches: of one run, which may be a batch"
    }

    /// The report as a table of plain text.
    pub fn table(&self) -> String {
        let device = &self.device;
        let mut text = format!(
            "device  {} ({}, {}, {})\nversion wavehull {}, {} sizes, seed {}\n",
            device.name,
            device.backend,
            device.driver,
            device.kind,
            self.version,
            if self.quick { "quick" } else { "full" },
            self.seed,
        );
        if device.software {
            text.push_str(SOFTWARE_BANNER);
            text.push('\n');
        }
        let mut rows = vec![HEADINGS.map(str::to_owned).to_vec()];
        let mut group = "";
        for entry in &self.entries {
            if entry.group != group {
                group = &entry.group;
                rows.push(vec![format!("[{group}]")]);
            }
            rows.push(cells(entry));
        }
        text.push_str(&aligned(&rows));
        text.push_str(LEGEND);
        if self.stopped {
            text.push_str("\nstopped before the end: the entries above are all that was measured");
        }
        text
    }
}

const HEADINGS: [&str; 8] = ["entry", "time", "spread", "rate", "of roof", "wall", "compile", "check"];
const LEGEND: &str = "time: median, by the device's clock (* by the wall's); spread: median absolute deviation; compile: first call beyond wall;\n\
    of roof: rate as a share of this run's own roof entry (steps and samples: of the least bytes or FLOP that they take); B: bytes read plus bytes written (transfers: bytes sent)";

fn cells(entry: &Entry) -> Vec<String> {
    let note = entry.note.as_ref().map_or(String::new(), |note| format!("; {note}"));
    let check = format!("{}{note}", entry.check);
    let Some(seconds) = entry.seconds else {
        let blank = || "n/a".to_owned();
        return vec![entry.name.clone(), blank(), blank(), blank(), blank(), blank(), blank(), check];
    };
    let star = if entry.clock.as_deref() == Some("wall") { "*" } else { "" };
    let share = match (&entry.roof, entry.share) {
        (Some(roof), Some(share)) => format!("{:.1} % {roof}", share * 100.0),
        _ => "-".to_owned(),
    };
    vec![
        entry.name.clone(),
        format!("{}{star}", time(seconds)),
        entry.spread.map_or("-".to_owned(), |s| format!("{:.1} %", 100.0 * s / seconds.max(1e-12))),
        entry.rate.map_or("-".to_owned(), |rate| scaled(rate, &entry.unit)),
        share,
        entry.wall.map_or("-".to_owned(), time),
        entry.compile.map_or("-".to_owned(), |s| if s < 1e-6 { "~0".to_owned() } else { time(s) }),
        check,
    ]
}

/// A time with three digits and its unit.
pub(super) fn time(seconds: f64) -> String {
    let (value, unit) = match seconds.abs() {
        s if s < 999.5e-6 => (seconds * 1e6, "us"),
        s if s < 0.9995 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    format!("{} {unit}", digits(value))
}

/// A rate with its unit: `38.2 GFLOP/s`, `1.52e4 launches/s`.
fn scaled(rate: f64, unit: &str) -> String {
    let prefixed = matches!(unit, "FLOP" | "B");
    match rate.abs() {
        r if prefixed && r >= 0.9995e12 => format!("{} T{unit}/s", digits(rate / 1e12)),
        r if prefixed && r >= 0.9995e9 => format!("{} G{unit}/s", digits(rate / 1e9)),
        _ if prefixed => format!("{} M{unit}/s", digits(rate / 1e6)),
        r if r >= 1e5 => format!("{rate:.2e} {unit}/s"),
        _ => format!("{} {unit}/s", digits(rate)),
    }
}

fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// Columns below each other: names and the last column lean left, figures right. A row of one cell is a section's title.
fn aligned(rows: &[Vec<String>]) -> String {
    let full = || rows.iter().filter(|row| row.len() > 1);
    let columns = full().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| full().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| match (row.len(), column) {
            (1, _) => cell.clone(),
            (_, 0) => format!("{cell:<w$}", w = widths[0]),
            (n, c) if c + 1 == n => cell.clone(),
            (_, c) => format!("{cell:>w$}", w = widths[c]),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn entry(name: &str, seconds: f64, spread: f64) -> Entry {
        Entry {
            name: name.into(),
            group: "matmul".into(),
            work: Some(2.0e9),
            unit: "FLOP".into(),
            bound: None,
            seconds: Some(seconds),
            spread: Some(spread),
            rate: Some(2.0e9 / seconds),
            roof: Some("fma_rate".into()),
            share: Some(0.25),
            check: "ok".into(),
            clock: Some("wall".into()),
            wall: Some(seconds),
            compile: None,
            transfer: None,
            runs: Some(5),
            note: None,
            kernels: vec![],
        }
    }

    pub(in super::super) fn report(entries: Vec<Entry>) -> Report {
        let device = Device {
            name: "X".into(),
            backend: "vulkan".into(),
            driver: "d 1".into(),
            kind: "software".into(),
            software: true,
        };
        Report { schema: SCHEMA, device, version: "1".into(), quick: false, seed: 7, stopped: false, entries }
    }

    #[test]
    fn json_comes_back_as_it_went() {
        let written = report(vec![entry("matmul_512", 0.05, 0.001)]);
        let text = written.to_json().expect("a report is JSON");
        assert_eq!(Report::from_json(&text).expect("its own JSON"), written);
        let other = text.replacen("\"schema\": 1", "\"schema\": 2", 1);
        let error = Report::from_json(&other).expect_err("another schema");
        assert!(error.message().contains("schema 2"), "{error}");
        let error = Report::from_json("{\n \"schema\": 1,\n x").expect_err("not JSON");
        assert_eq!(error.place().and_then(|p| p.position), Some((3, 2)), "{error}");
    }

    #[test]
    fn kernels_are_optional_in_json_and_have_a_table_of_their_own() {
        let mut one = entry("resnet", 0.05, 0.001);
        let kernel = |name: &str, seconds, dispatches| KernelTime { name: name.into(), seconds, dispatches };
        let plain = report(vec![one.clone()]);
        let text = plain.to_json().expect("a report is JSON");
        assert!(!text.contains("kernels"), "{text}");
        assert_eq!(Report::from_json(&text).expect("its own JSON"), plain);
        assert!(plain.kernel_table().starts_with("no entry"));
        one.kernels = vec![kernel("map_conv", 0.03, 12), kernel("relax_rows", 0.01, 3)];
        let full = report(vec![one]);
        let text = full.to_json().expect("a report is JSON");
        assert_eq!(Report::from_json(&text).expect("its own JSON"), full);
        let table = full.kernel_table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[1], "resnet");
        assert_eq!(lines[2], "  map_conv     30.0 ms  75.0 %  12", "{table}");
        assert_eq!(lines[3], "  relax_rows   10.0 ms  25.0 %  3", "{table}");
    }

    #[test]
    fn tables_align_and_say_why_a_cell_is_empty() {
        let mut missing = entry("matmul_4096", 1.0, 0.0);
        (missing.seconds, missing.check) = (None, "n/a: seconds a run".into());
        let text = report(vec![entry("matmul_512", 0.05, 0.001), missing]).table();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].starts_with("SOFTWARE DEVICE: a CPU posing as a GPU"), "{text}");
        assert_eq!(lines[3], "entry            time  spread          rate          of roof     wall  compile  check");
        assert_eq!(lines[4], "[matmul]");
        assert_eq!(lines[5], "matmul_512   50.0 ms*   2.0 %  40.0 GFLOP/s  25.0 % fma_rate  50.0 ms        -  ok");
        assert_eq!(
            lines[6],
            "matmul_4096       n/a     n/a           n/a              n/a      n/a      n/a  n/a: seconds a run"
        );
    }

    #[test]
    fn figures_keep_three_digits_and_a_unit() {
        for (seconds, text) in [(4.2e-7, "0.42 us"), (9.996e-4, "1.00 ms"), (0.0314, "31.4 ms"), (127.3, "127 s")] {
            assert_eq!(time(seconds), text);
        }
        for (rate, unit, text) in [
            (3.82e10, "FLOP", "38.2 GFLOP/s"),
            (1.5e12, "B", "1.50 TB/s"),
            (2.0e6, "B", "2.00 MB/s"),
            (104.2, "inputs", "104 inputs/s"),
            (123_456.0, "launches", "1.23e5 launches/s"),
        ] {
            assert_eq!(scaled(rate, unit), text);
        }
    }
}
