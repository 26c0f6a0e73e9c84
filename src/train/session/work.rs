//! Who is trained next: a queue of members, or a search with a journal from which it goes on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Standing;
use crate::error::{Error, Result};
use crate::fnv::fnv1a;
use crate::train::config::{Config, SearchConfig};
use crate::train::events::Reason;
use crate::train::search::{Assignment, Decision, Goal, Searcher};

/// Where assignments come from.
pub(super) enum Work {
    Queue(VecDeque<Assignment>),
    Search(Search),
}

impl Work {
    /// Up to `free` members, each for a slot.
    pub fn ask(&mut self, free: usize) -> Result<Vec<Assignment>> {
        match self {
            Self::Queue(queue) => {
                let count = free.min(queue.len());
                Ok(queue.drain(..count).collect())
            }
            Self::Search(search) => search.ask(free),
        }
    }

    /// What becomes of a member that has come as far as it was to.
    pub fn tell(&mut self, standing: &Standing) -> Result<Decision> {
        match self {
            Self::Queue(_) => Ok(Decision::Finish),
            Self::Search(search) => search.tell(standing),
        }
    }

    /// Those who may have a checkpoint to go on from.
    pub fn waiting(&self) -> impl Iterator<Item = &Assignment> {
        let (Self::Queue(queue) | Self::Search(Search { again: queue, .. })) = self;
        queue.iter()
    }
}

/// A search that writes down what it is asked and told. A searcher is a function of that, so reading it back brings the search to where it
/// was. A trial's checkpoint is never ahead of the journal, and from wherever it is, the trial has the same bits at every step. (After a crash
/// trials may be of other ages relative to each other, and then be told in another order.)
pub(super) struct Search {
    searcher: Box<dyn Searcher>,
    goal: Goal,
    /// Trials that were in slots when the session before this one ended.
    again: VecDeque<Assignment>,
    /// Those of them of which the search knows all.
    settled: BTreeSet<usize>,
    path: PathBuf,
    journal: File,
}

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    /// The first: what tells searches apart.
    Search(String),
    /// So many trials were asked for.
    Ask(usize),
    /// How a trial did.
    Tell(Box<Standing>),
}

impl Search {
    /// Begins a search, or brings it to where its journal ends; then with all trials that were told.
    pub fn open(
        searcher: Box<dyn Searcher>,
        settings: &SearchConfig,
        config: &Config,
        data: u64,
    ) -> Result<(Self, Vec<Standing>)> {
        let path = config.train.folder.join("search.jsonl");
        let text = match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other.map_err(|e| Error::io(&path, e))?,
        };
        // A line that a crash cut off was not acted upon, and a search that asked for nobody has not begun.
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let whole = if whole.lines().count() < 2 { "" } else { whole };
        if whole.is_empty() {
            refuse_strangers(settings.trials, config)?;
        }
        let open = || {
            let mut journal = OpenOptions::new().create(true).write(true).truncate(false).open(&path)?;
            journal.set_len(whole.len() as u64)?;
            journal.seek(SeekFrom::End(0))?;
            Ok(journal)
        };
        let journal = open().map_err(|e| Error::io(&path, e))?;
        let mut search =
            Self { searcher, goal: settings.goal, again: VecDeque::new(), settled: BTreeSet::new(), path, journal };
        let known = identity(config, data);
        if whole.is_empty() {
            search.write(&Entry::Search(known))?;
            return Ok((search, Vec::new()));
        }
        let told = search.replay(whole, &known, config).map_err(|e| e.in_file(&search.path))?;
        Ok((search, told))
    }

    fn replay(&mut self, text: &str, known: &str, config: &Config) -> Result<Vec<Standing>> {
        let mut running: BTreeMap<usize, Assignment> = BTreeMap::new();
        let mut told: BTreeMap<usize, Standing> = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let entry: Entry = serde_json::from_str(line).map_err(|e| {
                Error::bad_input(format!("line {} is none of a search's journal: {e}", number + 1))
                    .with_help("search in another folder, or remove this one")
                    .with_source(e)
            })?;
            match entry {
                Entry::Search(other) if number == 0 && other == known => {}
                Entry::Ask(count) if number > 0 => {
                    running.extend(self.searcher.ask(count).into_iter().map(|a| (a.trial, a)));
                }
                Entry::Tell(mut standing) if number > 0 => {
                    let trial = standing.member;
                    let decision = self.searcher.tell(trial, score(&standing, self.goal))?;
                    match left(decision, &standing) {
                        Ok(reason) => {
                            standing.state = reason;
                            let assignment = running.remove(&trial);
                            // Told, but a crash came before its network was written: it ends again, for itself.
                            let network = super::files::folder(config, trial).join("model.onnx");
                            if reason == Reason::Finished && !network.is_file() {
                                self.settled.insert(trial);
                                self.again.extend(assignment);
                            }
                        }
                        Err(until) => {
                            running.entry(trial).and_modify(|assignment| assignment.until = until);
                        }
                    }
                    told.insert(trial, *standing);
                }
                _ => {
                    return Err(Error::bad_input("this folder holds a search with other settings")
                        .with_help("search in another folder, or take the settings that it began with"));
                }
            }
        }
        self.again.extend(running.into_values());
        Ok(told.into_values().collect())
    }

    fn ask(&mut self, free: usize) -> Result<Vec<Assignment>> {
        let mut given: Vec<Assignment> = self.again.drain(..free.min(self.again.len())).collect();
        let rest = free - given.len();
        let new = self.searcher.ask(rest);
        if !new.is_empty() {
            self.write(&Entry::Ask(rest))?;
        }
        given.extend(new);
        Ok(given)
    }

    fn tell(&mut self, standing: &Standing) -> Result<Decision> {
        if self.settled.remove(&standing.member) {
            return Ok(Decision::Finish);
        }
        self.write(&Entry::Tell(Box::new(standing.clone())))?;
        self.searcher.tell(standing.member, score(standing, self.goal))
    }

    /// Adds a line, which is on the disk before anything is done about it.
    fn write(&mut self, entry: &Entry) -> Result<()> {
        let mut line = serde_json::to_vec(entry).map_err(|e| Error::internal(e.to_string()))?;
        line.push(b'\n');
        let written = self.journal.write_all(&line).and_then(|()| self.journal.sync_data());
        written.map_err(|e| Error::io(&self.path, e))
    }
}

/// Checkpoints without a journal are of another kind of training: trials must not go on from them.
fn refuse_strangers(trials: usize, config: &Config) -> Result<()> {
    match (0..trials).map(|trial| super::files::checkpoint(config, trial)).find(|file| file.is_file()) {
        None => Ok(()),
        Some(file) => Err(Error::bad_input("a checkpoint of another training, in the folder of a new search")
            .in_file(&file)
            .with_help("search in another folder, or remove this one")),
    }
}

/// Why a trial leaves its slot by this decision, or where it goes on to.
pub(super) fn left(decision: Decision, standing: &Standing) -> std::result::Result<Reason, u64> {
    match decision {
        _ if standing.state == Reason::Diverged => Ok(Reason::Diverged),
        Decision::Continue { until } => Err(until),
        Decision::Pause => Ok(Reason::Paused),
        Decision::Stop => Ok(Reason::Stopped),
        Decision::Finish => Ok(Reason::Finished),
    }
}

/// What a search is told of a trial.
fn score(standing: &Standing, goal: Goal) -> f64 {
    let found = if goal == Goal::Maximise { standing.share() } else { standing.loss };
    found.filter(|_| standing.state != Reason::Diverged).unwrap_or(f64::NAN)
}

/// Tells searches apart whose journals cannot be exchanged: by all that trials and decisions depend on.
fn identity(config: &Config, data: u64) -> String {
    let train = &config.train;
    let settings = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {} {} {data}",
        config.search,
        config.base,
        config.model,
        train.length,
        train.optimiser,
        train.schedule,
        train.loss,
        train.nesterov,
        train.seed
    );
    format!("{:016x}", fnv1a(&settings))
}
