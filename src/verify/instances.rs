//! Lists of instances: many (network, property) pairs, batched per network in one process.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::proof::{Proof, sha256_hex};
use super::property::Property;
use super::split::Boxes;
use super::verifier::{Outcome, Reason, Verdict, Verifier, VerifyOptions};
use super::vnnlib;
use crate::error::{Error, Result};
use crate::gpu::{Control, Gpu};
use crate::graph::{Graph, onnx};

/// One line of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// The network as written in the list.
    pub onnx: String,
    /// The property as written in the list.
    pub vnnlib: String,
    /// The list's time limit in seconds, if it has one.
    pub timeout: Option<f64>,
    /// The published verdict, `unsat`, `sat` or `open`, if the list has one. Read by [`InstanceReport::new`] alone, after the
    /// result is final.
    pub verdict: Option<String>,
}

/// The result of one instance, in VNN-COMP's words; the schema of `docs/json.md`.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct InstanceReport {
    /// The network as written in the list.
    pub onnx: String,
    /// The property as written in the list.
    pub vnnlib: String,
    /// `unsat` (holds), `sat` (violated), `unknown`, `timeout` or `error`.
    pub result: &'static str,
    /// The published verdict, if the list has one.
    pub expected: Option<String>,
    /// Seconds from the start of the network's batch to this answer.
    pub seconds: f64,
    /// The tightest margin, if bounds were computed.
    pub margin: Option<f64>,
    /// How far splitting came, if boxes were split.
    pub boxes: Option<Boxes>,
    /// `strict` or `trust-f32`.
    pub soundness: &'static str,
    /// Why it is `unknown`, `timeout` or `error`.
    pub reason: Option<String>,
}

/// Counts of results; the schema of `docs/json.md`.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Summary {
    /// Properties that hold.
    pub unsat: usize,
    /// Properties with a counterexample.
    pub sat: usize,
    /// Neither shown.
    pub unknown: usize,
    /// Stopped by the clock.
    pub timeout: usize,
    /// Could not be read or run.
    pub error: usize,
    /// Contradictions with the list's verdicts.
    pub wrong: usize,
    /// Wall-clock seconds of the whole list.
    pub seconds: f64,
}

/// What one instance came to.
#[derive(Debug)]
pub struct Finished {
    /// Its place in the list.
    pub index: usize,
    /// Its report.
    pub report: InstanceReport,
    /// The full outcome, unless it ended in an error.
    pub outcome: Option<Outcome>,
    /// The proof, if it holds and proofs were asked for.
    pub proof: Option<Proof>,
}

impl InstanceReport {
    /// The report of one instance.
    pub fn new(instance: &Instance, options: &VerifyOptions, outcome: &Result<Outcome>) -> Self {
        let (result, reason, seconds, margin, boxes) = match outcome {
            Ok(o) => {
                let (result, reason) = match &o.verdict {
                    Verdict::Holds => ("unsat", None),
                    Verdict::Violated(_) => ("sat", None),
                    Verdict::Unknown(why @ Reason::Timeout) => ("timeout", Some(why.to_string())),
                    Verdict::Unknown(why) => ("unknown", Some(why.to_string())),
                };
                (result, reason, o.seconds, o.margin, o.boxes)
            }
            Err(error) => ("error", Some(error.to_string()), 0.0, None, None),
        };
        Self {
            onnx: instance.onnx.clone(),
            vnnlib: instance.vnnlib.clone(),
            result,
            expected: instance.verdict.clone(),
            seconds,
            margin,
            boxes,
            soundness: options.soundness.name(),
            reason,
        }
    }

    /// Whether the result contradicts the published verdict.
    pub fn is_wrong(&self) -> bool {
        matches!((self.result, self.expected.as_deref()), ("unsat", Some("sat")) | ("sat", Some("unsat")))
    }
}

impl Summary {
    /// Counts reports; `seconds` is the caller's.
    pub fn of<'a>(reports: impl IntoIterator<Item = &'a InstanceReport>, seconds: f64) -> Self {
        let mut summary = Self { seconds, ..Self::default() };
        for report in reports {
            *match report.result {
                "unsat" => &mut summary.unsat,
                "sat" => &mut summary.sat,
                "timeout" => &mut summary.timeout,
                "error" => &mut summary.error,
                _ => &mut summary.unknown,
            } += 1;
            summary.wrong += usize::from(report.is_wrong());
        }
        summary
    }
}

/// Reads a list: with a header that names the columns `onnx`, `vnnlib` and perhaps `timeout_s` (or `timeout`) and `verdict`,
/// or without one in VNN-COMP's order onnx, vnnlib, timeout.
///
/// # Errors
/// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] with the line for a row without both files or with a time that is none.
pub fn read_list(path: &Path) -> Result<Vec<Instance>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    parse_list(&text).map_err(|e| e.in_file(path))
}

fn parse_list(text: &str) -> Result<Vec<Instance>> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
    let mut columns = [Some(0), Some(1), Some(2), None];
    let mut list = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| {
            let line = e.position().map_or(1, |p| usize::try_from(p.line()).unwrap_or(1));
            Error::bad_input("not a line of comma-separated values").at(line, 1).with_source(e)
        })?;
        let line = record.position().map_or(1, |p| usize::try_from(p.line()).unwrap_or(1));
        if list.is_empty() && record.iter().any(|field| field == "onnx") {
            columns = [&["onnx"][..], &["vnnlib"], &["timeout_s", "timeout"], &["verdict"]]
                .map(|names| record.iter().position(|field| names.contains(&field)));
            if columns[1].is_none() {
                return Err(Error::bad_input("the header names a column 'onnx' but none 'vnnlib'").at(line, 1));
            }
            continue;
        }
        let field = |i: usize| columns[i].and_then(|c| record.get(c)).filter(|s| !s.is_empty());
        let (Some(onnx), Some(vnnlib)) = (field(0), field(1)) else {
            return Err(Error::bad_input("a row needs a network and a property")
                .at(line, 1)
                .with_help("write `net.onnx,property.vnnlib,seconds`, or name the columns in a header"));
        };
        let timeout = field(2)
            .map(|t| {
                t.parse::<f64>()
                    .ok()
                    .filter(|s| s.is_finite() && *s > 0.0)
                    .ok_or_else(|| Error::bad_input(format!("'{t}' is not a number of seconds")).at(line, 1))
            })
            .transpose()?;
        list.push(Instance {
            onnx: onnx.to_owned(),
            vnnlib: vnnlib.to_owned(),
            timeout,
            verdict: field(3).map(|word| published(word, line)).transpose()?,
        });
    }
    if list.is_empty() {
        return Err(Error::bad_input("the list has no instances")
            .at(1, 1)
            .with_help("write one `net.onnx,property.vnnlib,seconds` a line"));
    }
    Ok(list)
}

/// A verdict in the words of VNN-COMP: a word that nobody knows must not pass for an open one.
fn published(word: &str, line: usize) -> Result<String> {
    let known = match word.to_lowercase().as_str() {
        "unsat" | "holds" | "verified" => "unsat",
        "sat" | "violated" | "falsified" => "sat",
        "open" | "unknown" | "timeout" | "-" => "open",
        _ => {
            return Err(Error::bad_input(format!("'{word}' is no verdict"))
                .at(line, 1)
                .with_help("write unsat (or holds), sat (or violated), or open (or nothing)"));
        }
    };
    Ok(known.to_owned())
}

/// A property that was read, with the digest of its file.
struct Loaded {
    index: usize,
    property: Property,
    digest: String,
}

/// Verifies a list. Paths are relative to `base`. Each network's properties run in common batches; `each` hears of every
/// instance as soon as it is settled, networks in the order of their first appearance; an instance's own time limit counts from
/// the start of its network's batch. An instance that cannot be
/// read or run ends as `error`; the others go on.
///
/// # Errors
/// [`crate::ErrorKind::Cancelled`] and [`crate::ErrorKind::DeviceLost`] end the whole list.
pub async fn verify_list_async(
    gpu: &Gpu,
    base: &Path,
    list: &[Instance],
    options: &VerifyOptions,
    control: &Control,
    mut each: impl FnMut(Finished),
) -> Result<()> {
    let mut networks: Vec<&str> = Vec::new();
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, instance) in list.iter().enumerate() {
        let group = groups.entry(&instance.onnx).or_default();
        if group.is_empty() {
            networks.push(&instance.onnx);
        }
        group.push(index);
    }
    for onnx in networks {
        let indices = &groups[onnx];
        let network = onnx::read(&base.join(onnx)).map(|(graph, bytes)| (graph, sha256_hex(&bytes)));
        let mut failed: Vec<(usize, Error)> = Vec::new();
        let mut loaded = Vec::new();
        for &index in indices {
            match vnnlib::read(&base.join(&list[index].vnnlib)) {
                Ok((property, bytes)) => loaded.push(Loaded { index, property, digest: sha256_hex(&bytes) }),
                Err(error) => failed.push((index, error)),
            }
        }
        match network {
            Ok((graph, digest)) => {
                run_network(gpu, &graph, &digest, list, &loaded, options, control, &mut each, &mut failed).await?;
            }
            Err(error) => failed.extend(loaded.iter().map(|l| (l.index, copy_of(&error)))),
        }
        for (index, error) in failed {
            let report = InstanceReport::new(&list[index], options, &Err(error));
            each(Finished { index, report, outcome: None, proof: None });
        }
    }
    Ok(())
}

/// Blocking twin of [`verify_list_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn verify_list(
    gpu: &Gpu,
    base: &Path,
    list: &[Instance],
    options: &VerifyOptions,
    control: &Control,
    each: impl FnMut(Finished),
) -> Result<()> {
    pollster::block_on(verify_list_async(gpu, base, list, options, control, each))
}

#[expect(clippy::too_many_arguments, reason = "the loop over networks of one function, taken out")]
async fn run_network(
    gpu: &Gpu,
    graph: &Graph,
    digest: &str,
    list: &[Instance],
    loaded: &[Loaded],
    options: &VerifyOptions,
    control: &Control,
    each: &mut impl FnMut(Finished),
    failed: &mut Vec<(usize, Error)>,
) -> Result<()> {
    let verifier = match Verifier::new_async(gpu, graph, options.clone()).await {
        Ok(verifier) => verifier,
        Err(error) if ends_the_list(&error) => return Err(error),
        Err(error) => {
            failed.extend(loaded.iter().map(|l| (l.index, copy_of(&error))));
            return Ok(());
        }
    };
    // A property that does not fit the network must not spoil the batch of the others.
    let (fitting, odd): (Vec<&Loaded>, Vec<&Loaded>) =
        loaded.iter().partition(|l| l.property.inputs == graph.input_len() && l.property.outputs == graph.output_len());
    for l in odd {
        if let Err(error) = verifier.verify_async(&[&l.property], control).await {
            failed.push((l.index, error));
        }
    }
    let limit = |l: &&Loaded| list[l.index].timeout.map(Duration::from_secs_f64);
    let requests: Vec<_> = fitting.iter().map(|l| (&l.property, limit(l))).collect();
    let mut told = vec![false; fitting.len()];
    let run = verifier.verify_each_async(&requests, control, |place, mut outcome| {
        told[place] = true;
        let l = fitting[place];
        let queries = outcome.proof.take();
        let proof = queries.map(|queries| Proof::new(digest, l.digest.as_str(), options.soundness.name(), queries));
        let outcome = Ok(outcome);
        let report = InstanceReport::new(&list[l.index], options, &outcome);
        each(Finished { index: l.index, report, outcome: outcome.ok(), proof });
    });
    match run.await {
        Err(error) if ends_the_list(&error) => Err(error),
        Err(error) => {
            let left = fitting.iter().zip(told).filter(|(_, told)| !told);
            failed.extend(left.map(|(l, _)| (l.index, copy_of(&error))));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

fn ends_the_list(error: &Error) -> bool {
    matches!(error.kind(), crate::ErrorKind::Cancelled | crate::ErrorKind::DeviceLost)
}

/// One failure of a network is the failure of all its instances.
fn copy_of(error: &Error) -> Error {
    let copy = Error::new(error.kind(), error.to_string());
    match error.help() {
        Some(help) => copy.with_help(help),
        None => copy,
    }
}

#[cfg(test)]
mod tests {
    use super::parse_list;

    #[test]
    fn lists_with_and_without_header() {
        let with =
            parse_list("onnx,vnnlib,timeout_s,verdict,tool\na.onnx,p.vnnlib,30,unsat,x\n").map_err(|e| e.to_string());
        let with = with.expect("a list with a header");
        assert_eq!(
            (with[0].onnx.as_str(), with[0].timeout, with[0].verdict.as_deref()),
            ("a.onnx", Some(30.0), Some("unsat"))
        );
        let without = parse_list("a.onnx,p.vnnlib,116\n\nb.onnx,q.vnnlib,5\n").expect("VNN-COMP's own form");
        assert_eq!((without.len(), without[1].timeout, without[1].verdict.as_deref()), (2, Some(5.0), None));
    }

    #[test]
    fn bad_lists_name_the_line() {
        for (text, place) in [("a.onnx\n", (1, 1)), ("a.onnx,p.vnnlib,5\nb.onnx,q.vnnlib,soon\n", (2, 1)), ("", (1, 1))]
        {
            let error = parse_list(text).expect_err(text);
            assert_eq!(error.place().and_then(|p| p.position), Some(place), "{text}");
        }
    }
}
