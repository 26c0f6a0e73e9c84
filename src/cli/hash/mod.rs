//! `wavehull hash`: networks with very many labels, trained and asked through active sets.

mod eval;
mod export;
mod predict;
mod train;

use std::process::ExitCode;

use wavehull::Result;
use wavehull::hash::Shortlist;
use wavehull::hash::clusters::ClusterOptions;
use wavehull::hash::lsh::{Family, LshOptions};

use super::Global;

/// Arguments of `wavehull hash`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Train a network as CONFIG.toml describes it, or go on with its training
    Train(train::Args),
    /// How good a trained network is: precision of the exact answers, and recall and speed of short lists
    Eval(eval::Args),
    /// The labels that a trained network finds for samples
    Predict(predict::Args),
    /// Write a trained network for other programs: ONNX, safetensors
    Export(export::Args),
}

impl Args {
    /// Whether errors are printed as JSON too.
    pub fn wants_json(&self) -> bool {
        match &self.task {
            Task::Train(args) => args.json,
            Task::Eval(args) => args.json,
            Task::Predict(args) => args.json,
            Task::Export(args) => args.json,
        }
    }
}

/// Runs what was asked for.
///
/// # Errors
/// Bad files with their place; device errors.
pub fn run(args: &Args, global: &Global) -> Result<ExitCode> {
    match &args.task {
        Task::Train(args) => train::run(args, global),
        Task::Eval(args) => eval::run(args, global),
        Task::Predict(args) => predict::run(args, global),
        Task::Export(args) => export::run(args, global),
    }
}

/// Which labels are scored: all of them, or a short list.
#[derive(Debug, Clone, clap::Args)]
pub struct ShortlistArgs {
    /// Score only the labels that hash tables return
    #[arg(long)]
    pub sparse: bool,
    /// Hash tables
    #[arg(long, value_name = "L", default_value_t = 200, requires = "sparse", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub tables: u64,
    /// Codes of a key: more make buckets smaller
    #[arg(long, value_name = "K", default_value_t = 4, requires = "sparse", value_parser = clap::value_parser!(u64).range(1..=10))]
    pub codes: u64,
    /// Labels that one bucket gives at most: a power of two
    #[arg(long, value_name = "N", default_value_t = 64, requires = "sparse", value_parser = clap::value_parser!(u64).range(4..=256))]
    pub bucket: u64,
    /// Score only the labels of the clusters (of like rows, by k-means) whose centroids score best
    #[arg(long, conflicts_with = "sparse")]
    pub clustered: bool,
    /// Clusters that a sample asks: more find more of the exact answers
    #[arg(long, value_name = "N", default_value_t = 16, requires = "clustered", value_parser = clap::value_parser!(u64).range(1..=128))]
    pub probes: u64,
    /// Clusters [default: twice the square root of the number of labels]
    #[arg(long, value_name = "C", requires = "clustered", value_parser = clap::value_parser!(u64).range(1..))]
    pub clusters: Option<u64>,
}

impl ShortlistArgs {
    /// The short list, if one was asked for.
    pub fn options(&self) -> Option<Shortlist> {
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        if self.clustered {
            return Some(Shortlist::Clusters(ClusterOptions {
                clusters: self.clusters.map_or(0, size),
                probes: size(self.probes),
                ..ClusterOptions::default()
            }));
        }
        self.sparse.then(|| {
            Shortlist::Tables(LshOptions {
                family: Family::Dwta,
                codes: size(self.codes),
                tables: size(self.tables),
                bucket: size(self.bucket),
                ..LshOptions::default()
            })
        })
    }
}
