//! The folder of a member: its checkpoint while it trains, its network when it has finished.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::group::Course;
use crate::error::{Error, Result};
use crate::graph::{Graph, onnx};
use crate::train::checkpoint::{self, torch_name};
use crate::train::config::Config;
use crate::train::search::Assignment;
use crate::train::{Member, Snapshot, State};

/// The folder of a member.
pub(super) fn folder(config: &Config, member: usize) -> PathBuf {
    config.train.folder.join(format!("member-{member:04}"))
}

/// The file of a member's checkpoint.
pub(super) fn checkpoint(config: &Config, member: usize) -> PathBuf {
    folder(config, member).join("checkpoint.safetensors")
}

/// Writes all that a member is.
pub(super) fn save(file: &Path, snapshot: Snapshot, assignment: &Assignment, course: &Course) -> Result<()> {
    let Snapshot { step, tables, .. } = snapshot;
    let arrays = tables
        .into_iter()
        .enumerate()
        .map(|(i, table)| (format!("table.{i}"), ndarray::Array1::from(table).into_dyn()));
    let state = checkpoint::State {
        fingerprint: course.fingerprint.clone(),
        member: assignment.trial as u64,
        step,
        epoch: step / course.epoch.max(1),
        cursor: step % course.epoch.max(1) * course.batch as u64,
        seed: assignment.seed,
        hyper: assignment.hyper.clone(),
        notes: BTreeMap::new(),
    };
    checkpoint::Snapshot { state, tables: arrays.collect() }.save(file)
}

/// A member as its checkpoint has it.
pub(super) fn load(file: &Path, member: Member, assignment: &Assignment, course: &Course) -> Result<Snapshot> {
    let saved = checkpoint::Snapshot::load(file)?;
    let known = &saved.state;
    if known.fingerprint != course.fingerprint || known.seed != member.seed || known.hyper != assignment.hyper {
        let what = "a checkpoint of another model, loss, optimiser, schedule, data, seed or other hyper-parameters";
        return Err(Error::bad_input(what)
            .in_file(file)
            .with_help("train into another folder, or remove the checkpoint"));
    }
    let step = known.step;
    if step > course.total {
        let what = format!("a checkpoint after {step} steps, but members train for {} now", course.total);
        return Err(Error::bad_input(what).in_file(file).with_help("train as long as before, or into another folder"));
    }
    let state = if step >= course.total { State::Finished } else { State::Running };
    let tables = saved.tables.into_values().map(|table| table.iter().copied().collect()).collect();
    Ok(Snapshot { member, state, step, tables })
}

/// Writes a trained network for other programs.
pub(super) fn export(folder: &Path, graph: &Graph) -> Result<()> {
    checkpoint::replace(&folder.join("model.onnx"), &onnx::write(graph)?)?;
    // Parameters and statistics by the names that torch gives them.
    let constants = graph.values.iter().filter_map(|v| Some((torch_name(&v.name), (**v.constant.as_ref()?).clone())));
    checkpoint::export_parameters(&folder.join("model.safetensors"), &constants.collect())
}
