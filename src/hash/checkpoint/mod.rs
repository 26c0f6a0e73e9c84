//! Checkpoints of tables of rows: a base with all rows, then increments with those that a gradient has touched since.
//!
//! A [`Store`] is a folder. Each save writes two files, in this order, and each of them first under a name that ends with `.part`, brought to the disk
//! and renamed, so that it is there whole or not at all:
//!
//! | file | holds |
//! | --- | --- |
//! | `rows-00000012.bin` | rows: of all tables (a *base*), or only those whose `book[row].y` is above the step of the state before (an *increment*) |
//! | `state-00000012.ckpt` | the manifest of state 12: its step, its tables, the files of rows that make it up with their lengths and CRC-32s, and the caller's bytes |
//!
//! A state exists from the moment its manifest has its name. Whatever happens before (a kill, a full disk, a loss of power) leaves files that no
//! manifest names; they are removed after the next save. When increments grow past [`Policy::fold_at`] of their base, the next save
//! writes a new base from the device; files of old states go only when the manifest of the new one is there.
//!
//! With catch-up optimisers a row that was not touched is saved as it lies on the device, with its stamp: a complete state, since replaying what it missed
//! gives the same bits before a save and after a load. A row that is in no increment comes back with the stamp of its last save, however
//! often it was swept since, so the oldest stamp ([`Loaded::oldest_stamp`]) may lie further back than one horizon: sweep to one
//! horizon after another from there. Optimisers that change rows without a gradient and without a stamp (dense ones) must use
//! [`Store::save_all_async`].
//!
//! # Files of rows
//! Little-endian words behind the eight bytes `WHROWS01`: blocks of `[table, n, words of a row in all arrays, 1 + states]`, n ascending
//! ids, the weights as they lie in memory (`[n, words]`: bits of f32, or pairs of 16 bits), each table of state likewise, the book `[n, 4]`.
//! `[u32::MAX, blocks, 0, 0]` ends the file. Zeros behind the hidden elements, and what pads rows to four words, are saved as what they are.
//!
//! # Manifests
//! A line `wavehull-hash-checkpoint 1 J M CRC`, then J bytes of JSON (`schema`, `number`, `step`, `tables`, `files`), then M bytes of
//! the caller's; `CRC` is the CRC-32 of both, in hexadecimal.

mod device;
mod disk;
mod format;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use format::Shape;

pub(super) use device::{pieces, read_async};
use disk::{Disk, UNFINISHED};
pub(super) use disk::{Draft, Real};
use format::{Block, Manifest, Part, Reader, Writer};

use crate::error::{Error, ErrorKind, Result};
use crate::gpu::{Control, Gpu, Kernel};
use crate::hash::Rows;

/// When a new base is written, and how much is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// A new base is written instead of an increment that would bring the increments beyond this share of their base.
    pub fold_at: f64,
    /// Bases that are kept, at least one; of all but the last only the newest state is.
    pub bases: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self { fold_at: 0.5, bases: 2 }
    }
}

/// A folder of checkpoints.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    /// The state that the tables on the device were saved as or loaded from last: what an increment goes on from.
    parent: Option<Manifest>,
    /// When to write a base, and what to keep.
    pub policy: Policy,
}

/// A state in a folder, as its manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its number; later ones are higher.
    pub number: u64,
    /// The optimiser's step.
    pub step: u32,
    /// Its tables.
    pub tables: Vec<Shape>,
    /// Files of rows: a base, then increments.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// A file that is no part of a usable state.
#[derive(Debug)]
pub struct LeftOut {
    /// Its name in the folder.
    pub name: String,
    /// Why: damaged, cut off, not finished.
    pub why: Error,
}

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// States whose manifests are whole, the newest first. Their rows are checked when they are loaded.
    pub states: Vec<State>,
    /// What else lies there of a checkpoint.
    pub left_out: Vec<LeftOut>,
}

/// What a save wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The number of the new state.
    pub number: u64,
    /// Whether it is a new base.
    pub base: bool,
    /// Rows written, of all tables together.
    pub rows: u64,
    /// Bytes of the rows' file.
    pub bytes: u64,
}

/// What a load brought back.
#[derive(Debug)]
pub struct Loaded {
    /// The number of the state.
    pub number: u64,
    /// The optimiser's step.
    pub step: u32,
    /// The caller's bytes.
    pub meta: Vec<u8>,
    /// The least stamp of any row (`book[row].x`): what catch-up has to begin at.
    pub oldest_stamp: u32,
    /// Newer states and unfinished files that were passed over, with the reason.
    pub left_out: Vec<LeftOut>,
}

/// A manifest and the caller's bytes.
type Described = (Manifest, Vec<u8>);

/// Manifests by number, newest first, and other names.
struct Folder {
    manifests: Vec<(u64, Result<Described>)>,
    rows: BTreeSet<u64>,
    unfinished: Vec<String>,
}

impl Store {
    /// The checkpoints in a folder, which is made if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        Ok(Self::on(folder, Arc::new(Real)))
    }

    pub(crate) fn on(folder: &Path, disk: Arc<dyn Disk>) -> Self {
        Self { folder: folder.to_owned(), disk, parent: None, policy: Policy::default() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn read_folder(&self) -> Result<Folder> {
        let io = |e| Error::io(&self.folder, e);
        let mut folder = Folder { manifests: Vec::new(), rows: BTreeSet::new(), unfinished: Vec::new() };
        let mut numbers = BTreeSet::new();
        for entry in fs::read_dir(&self.folder).map_err(io)? {
            let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
            let whole = name.strip_suffix(UNFINISHED);
            let stem = whole.unwrap_or(&name);
            let (state, rows) = (format::number_of(stem, "state-", ".ckpt"), format::rows_number(stem));
            match (whole.is_some(), state, rows) {
                (true, Some(_), _) | (true, _, Some(_)) => folder.unfinished.push(name),
                (false, Some(number), _) => drop(numbers.insert(number)),
                (false, _, Some(number)) => drop(folder.rows.insert(number)),
                _ => {}
            }
        }
        let read = |&number: &u64| (number, Manifest::read(&self.folder.join(format::state_name(number)), number));
        folder.manifests = numbers.iter().rev().map(read).collect();
        folder.unfinished.sort();
        Ok(folder)
    }

    /// The states in the folder, and what else lies there.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the folder cannot be read.
    pub fn states(&self) -> Result<Listing> {
        Ok(self.read_folder()?.listing(&self.folder))
    }

    /// Saves the tables as they are after `step`: what changed since the state that this store saved or loaded last, or all of them if there
    /// is none or increments have grown too large. `meta` is whatever the caller wants back.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] with the file, after which all states of before are still there; those of [`Gpu::run_async`].
    pub async fn save_async(
        &mut self,
        gpu: &Gpu,
        tables: &[(&str, &Rows)],
        step: u32,
        meta: &[u8],
        control: &Control,
    ) -> Result<Saved> {
        let shapes: Vec<Shape> = tables.iter().map(|(name, table)| Shape::new(name, table)).collect();
        let Some(parent) = self.parent.clone().filter(|p| p.tables == shapes && p.step <= step) else {
            return self.save_all_async(gpu, tables, step, meta, control).await;
        };
        let mut touched = Vec::new();
        for (_, table) in tables {
            touched.push(device::touched_async(gpu, table, parent.step, control).await?);
        }
        let bytes: u64 = shapes.iter().zip(&touched).map(|(shape, ids)| shape.row_bytes() * ids.len() as u64).sum();
        let (increments, base) = parent.sizes();
        if (increments + bytes) as f64 > self.policy.fold_at * base as f64 {
            return self.save_all_async(gpu, tables, step, meta, control).await;
        }
        let (number, total) = (self.next_number()?, touched.iter().map(|ids| ids.len() as u64).sum());
        let disk = Arc::clone(&self.disk);
        let mut writer = Writer::new(&*disk, &self.folder, number)?;
        let mut write = counted(&mut writer, control, total);
        for (i, (_, table)) in tables.iter().enumerate() {
            device::chosen_async(gpu, (i, table), &touched[i], control, &mut write).await?;
        }
        drop(write);
        let part = writer.keep()?;
        self.commit(Manifest::new(number, step, shapes, [parent.files, vec![part]].concat()), meta)
    }

    /// Saves all rows as a new base.
    ///
    /// # Errors
    /// As [`Store::save_async`].
    pub async fn save_all_async(
        &mut self,
        gpu: &Gpu,
        tables: &[(&str, &Rows)],
        step: u32,
        meta: &[u8],
        control: &Control,
    ) -> Result<Saved> {
        let shapes: Vec<Shape> = tables.iter().map(|(name, table)| Shape::new(name, table)).collect();
        let (number, total) = (self.next_number()?, shapes.iter().map(|shape| shape.rows as u64).sum());
        let disk = Arc::clone(&self.disk);
        let mut writer = Writer::new(&*disk, &self.folder, number)?;
        let mut write = counted(&mut writer, control, total);
        for (i, (_, table)) in tables.iter().enumerate() {
            device::all_async(gpu, (i, table), control, &mut write).await?;
        }
        drop(write);
        let part = writer.keep()?;
        self.commit(Manifest::new(number, step, shapes, vec![part]), meta)
    }

    /// A number that no file has ever had here.
    fn next_number(&self) -> Result<u64> {
        let folder = self.read_folder()?;
        let last = folder.manifests.iter().map(|(number, _)| *number).chain(folder.rows).max();
        Ok(last.map_or(1, |last| last + 1))
    }

    /// Writes the manifest of a state whose rows are on the disk; then it exists, and older ones may go.
    fn commit(&mut self, manifest: Manifest, meta: &[u8]) -> Result<Saved> {
        let mut draft = Draft::beside(&*self.disk, &self.folder.join(format::state_name(manifest.number)))?;
        draft.write(&manifest.bytes(meta)?)?;
        draft.keep()?;
        let base = manifest.files.len() == 1;
        let (rows, bytes) = manifest.files.last().map_or((0, 0), |part| (part.rows, part.bytes));
        let number = manifest.number;
        self.parent = Some(manifest);
        self.tidy();
        Ok(Saved { number, base, rows, bytes })
    }

    /// Removes what no kept state needs. What cannot be removed now is tried again after the next save.
    fn tidy(&self) {
        let Ok(folder) = self.read_folder() else { return };
        let whole: Vec<&Manifest> = folder.manifests.iter().filter_map(|(_, m)| Some(&m.as_ref().ok()?.0)).collect();
        let mut bases: Vec<&str> = Vec::new();
        let (mut kept, mut goes) = (BTreeSet::new(), folder.unfinished.clone());
        for manifest in &whole {
            let Part { name, .. } = &manifest.files[0];
            let known = bases.iter().position(|base| base == name);
            let keep = match known {
                Some(at) => at == 0,
                None => bases.len() < self.policy.bases.max(1),
            };
            if known.is_none() && keep {
                bases.push(name);
            }
            if keep {
                kept.extend(manifest.files.iter().filter_map(|part| format::rows_number(&part.name)));
            } else {
                goes.push(format::state_name(manifest.number));
            }
        }
        // Manifests that cannot be read go when every kept file is newer than they are.
        let oldest = kept.first().copied().unwrap_or(0);
        let lost = folder.manifests.iter().filter(|(number, m)| m.is_err() && *number < oldest);
        goes.extend(lost.map(|(number, _)| format::state_name(*number)));
        // A newer manifest that cannot be read may be whole for the version that wrote it.
        let unreadable = folder.manifests.iter().any(|(number, m)| m.is_err() && *number >= oldest);
        let orphans = folder.rows.iter().filter(|number| !unreadable && !kept.contains(*number));
        // Manifests first: a state never names rows that are gone.
        for name in goes.into_iter().chain(orphans.map(|&number| format::rows_name(number))) {
            if let Err(e) = self.disk.remove(&self.folder.join(&name)) {
                log::warn!("{name} of an old checkpoint cannot be removed: {e}");
                return;
            }
        }
    }

    /// Loads the newest state of which every file is whole into the tables; `None` if the folder has no state at all. What was passed over is
    /// said in [`Loaded::left_out`].
    ///
    /// # Errors
    /// [`ErrorKind::BadInput`] if there are states and none is whole (naming the newest one's fault), or if they are of other tables;
    /// [`ErrorKind::Unsupported`] if the newest state is of a newer version.
    pub async fn load_async(
        &mut self,
        gpu: &Gpu,
        tables: &[(&str, &Rows)],
        control: &Control,
    ) -> Result<Option<Loaded>> {
        match self.newest()? {
            Some(((manifest, meta), left_out)) => {
                let loaded = self.bring_async(gpu, tables, manifest, meta, control).await?;
                Ok(Some(Loaded { left_out, ..loaded }))
            }
            None => Ok(None),
        }
    }

    /// The newest state of which every file is whole, and what was passed over.
    fn newest(&self) -> Result<Option<(Described, Vec<LeftOut>)>> {
        let folder = self.read_folder()?;
        let mut left_out = folder.unfinished(&self.folder);
        let passed = left_out.len();
        for (number, manifest) in folder.manifests {
            let found = match manifest {
                Err(e) if e.kind() == ErrorKind::Unsupported => return Err(e),
                Err(e) => Err(e),
                Ok((manifest, meta)) => manifest.verify(&self.folder).map(|()| (manifest, meta)),
            };
            match found {
                Ok(found) => return Ok(Some((found, left_out))),
                Err(why) => left_out.push(LeftOut { name: format::state_name(number), why }),
            }
        }
        if left_out.len() == passed {
            return Ok(None);
        }
        Err(left_out.swap_remove(passed).why.with_help(format!(
            "no state in {} is whole: put a copy of its files back, or begin in another folder",
            self.folder.display()
        )))
    }

    /// Loads one state.
    ///
    /// # Errors
    /// As [`Store::load_async`], naming the file at fault; the help says which other state may be whole.
    pub async fn load_state_async(
        &mut self,
        gpu: &Gpu,
        tables: &[(&str, &Rows)],
        number: u64,
        control: &Control,
    ) -> Result<Loaded> {
        let path = self.folder.join(format::state_name(number));
        let read = Manifest::read(&path, number);
        let read = read.and_then(|(manifest, meta)| manifest.verify(&self.folder).map(|()| (manifest, meta)));
        match read {
            Ok((manifest, meta)) => self.bring_async(gpu, tables, manifest, meta, control).await,
            Err(e) => Err(match self.whole_besides(number) {
                Some(State { number, step, .. }) => {
                    e.with_help(format!("state {number}, of step {step}, is whole: load that one"))
                }
                None => e,
            }),
        }
    }

    /// Removes the states with higher numbers than this one, whole or not, and says how many: the tables go on from this one. Their rows go with
    /// the next save, so no number is ever given twice.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; then the newest of them are gone and the others are still there.
    pub fn forget_after(&mut self, number: u64) -> Result<usize> {
        let mut forgotten = 0;
        // The newest first: wherever this stops, the states that are left are those of a training that was stopped earlier.
        for (later, _) in self.read_folder()?.manifests.into_iter().take_while(|(later, _)| *later > number) {
            let path = self.folder.join(format::state_name(later));
            self.disk.remove(&path).map_err(|e| Error::io(&path, e))?;
            forgotten += 1;
        }
        self.disk.sync_folder(&self.folder).map_err(|e| Error::io(&self.folder, e))?;
        Ok(forgotten)
    }

    /// The newest other state of which every file is whole.
    fn whole_besides(&self, number: u64) -> Option<State> {
        let manifests = self.read_folder().ok()?.manifests.into_iter().filter(|(other, _)| *other != number);
        let mut whole = manifests.filter_map(|(_, manifest)| Some(manifest.ok()?.0));
        whole.find(|manifest| manifest.verify(&self.folder).is_ok()).map(|manifest| State::of(&manifest))
    }

    /// Puts the rows of a verified state into the tables.
    async fn bring_async(
        &mut self,
        gpu: &Gpu,
        tables: &[(&str, &Rows)],
        manifest: Manifest,
        meta: Vec<u8>,
        control: &Control,
    ) -> Result<Loaded> {
        let path = self.folder.join(format::state_name(manifest.number));
        device::fits(&manifest.tables, tables).map_err(|e| e.in_file(&path))?;
        self.parent = None;
        let (mut done, total) = (0, manifest.files.iter().map(|part| part.rows).sum());
        for (i, part) in manifest.files.iter().enumerate() {
            let path = self.folder.join(&part.name);
            let mut reader = Reader::open(&path, &manifest.tables)?;
            while let Some(block) = reader.next()? {
                control.report("loading a checkpoint", done, total, "rows");
                device::put_async(gpu, tables[block.table].1, &block, control).await?;
                done += block.ids.len() as u64;
            }
            if i == 0 {
                reader.check_base()?;
            }
        }
        let mut oldest_stamp = u32::MAX;
        for (_, table) in tables {
            oldest_stamp = oldest_stamp.min(device::oldest_async(gpu, table, control).await?);
        }
        let (number, step) = (manifest.number, manifest.step);
        self.parent = Some(manifest);
        Ok(Loaded { number, step, meta, oldest_stamp, left_out: Vec::new() })
    }
}

/// Blocking twins.
#[cfg(not(target_arch = "wasm32"))]
impl Store {
    /// Blocking twin of [`Store::save_async`].
    pub fn save(
        &mut self,
        gpu: &Gpu,
        tables: &[(&str, &Rows)],
        step: u32,
        meta: &[u8],
        control: &Control,
    ) -> Result<Saved> {
        pollster::block_on(self.save_async(gpu, tables, step, meta, control))
    }

    /// Blocking twin of [`Store::save_all_async`].
    pub fn save_all(
        &mut self,
        gpu: &Gpu,
        tables: &[(&str, &Rows)],
        step: u32,
        meta: &[u8],
        control: &Control,
    ) -> Result<Saved> {
        pollster::block_on(self.save_all_async(gpu, tables, step, meta, control))
    }

    /// Blocking twin of [`Store::load_async`].
    pub fn load(&mut self, gpu: &Gpu, tables: &[(&str, &Rows)], control: &Control) -> Result<Option<Loaded>> {
        pollster::block_on(self.load_async(gpu, tables, control))
    }

    /// Blocking twin of [`Store::load_state_async`].
    pub fn load_state(
        &mut self,
        gpu: &Gpu,
        tables: &[(&str, &Rows)],
        number: u64,
        control: &Control,
    ) -> Result<Loaded> {
        pollster::block_on(self.load_state_async(gpu, tables, number, control))
    }
}

impl State {
    fn of(manifest: &Manifest) -> Self {
        Self {
            number: manifest.number,
            step: manifest.step,
            tables: manifest.tables.clone(),
            files: manifest.files.len(),
            bytes: manifest.files.iter().map(|part| part.bytes).sum(),
        }
    }
}

impl Folder {
    fn unfinished(&self, folder: &Path) -> Vec<LeftOut> {
        let left = |name: &String| {
            let why = Error::bad_input("a save that was not finished").in_file(&folder.join(name));
            LeftOut { name: name.clone(), why: why.with_help("nothing to do: the next save removes it") }
        };
        self.unfinished.iter().map(left).collect()
    }

    fn listing(self, folder: &Path) -> Listing {
        let mut listing = Listing { states: Vec::new(), left_out: self.unfinished(folder) };
        for (number, manifest) in self.manifests {
            match manifest {
                Ok((manifest, _)) => listing.states.push(State::of(&manifest)),
                Err(why) => listing.left_out.push(LeftOut { name: format::state_name(number), why }),
            }
        }
        listing
    }
}

/// What writes blocks, says how far it is, and stops when asked to.
fn counted<'a, 'b>(
    writer: &'a mut Writer<'b>,
    control: &'a Control,
    total: u64,
) -> impl FnMut(Block) -> Result<()> + Send {
    let mut done = 0;
    move |block| {
        control.cancel.check()?;
        writer.block(&block)?;
        done += block.ids.len() as u64;
        control.report("saving a checkpoint", done, total, "rows");
        Ok(())
    }
}

pub(super) fn catalogue() -> Vec<Kernel> {
    device::catalogue()
}
