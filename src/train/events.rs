//! What a training says of itself: TensorBoard event files, one folder a member, and a log of JSON lines (`docs/json.md`).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use web_time::{SystemTime, UNIX_EPOCH};

use super::hyper::Hyper;
use crate::error::{Error, Result};

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// Writes scalars of one run as TensorBoard reads them: records framed as TFRecord, each an `Event` of Protocol Buffers. A run that is
/// resumed gets another file in the same folder; TensorBoard joins them.
///
/// The file is open only while it is written to: there may be more runs than files that a system keeps open.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    /// What was not written yet.
    waiting: Vec<u8>,
}

impl EventWriter {
    /// Opens a new file in the folder of a run, which is made if it is not there.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`].
    pub fn create(run: &Path) -> Result<Self> {
        std::fs::create_dir_all(run).map_err(|e| Error::io(run, e))?;
        let time = now();
        // TensorBoard reads files of a run in the order of their names.
        let path = (0..1000)
            .find_map(|number| {
                let path = run.join(format!("events.out.tfevents.{:010}.wavehull.{number:03}", time as u64));
                match OpenOptions::new().write(true).create_new(true).open(&path) {
                    Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => None,
                    other => Some(other.map(|_| path.clone()).map_err(|e| Error::io(&path, e))),
                }
            })
            .unwrap_or_else(|| Err(Error::internal("a thousand event files of one second")))?;
        let mut writer = Self { path, waiting: Vec::new() };
        let mut event = Vec::new();
        double_field(&mut event, 1, time);
        bytes_field(&mut event, 3, b"brain.Event:2");
        writer.record(&event);
        writer.flush()?;
        Ok(writer)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds one number: `time` in seconds since 1970 ([`now`]), `tag` like `loss/train`. It is written by the next flush.
    pub fn scalar(&mut self, time: f64, step: u64, tag: &str, value: f32) {
        let mut entry = Vec::new();
        bytes_field(&mut entry, 1, tag.as_bytes());
        entry.push(2 << 3 | 5);
        entry.extend(value.to_le_bytes());
        let mut summary = Vec::new();
        bytes_field(&mut summary, 1, &entry);
        let mut event = Vec::new();
        double_field(&mut event, 1, time);
        event.push(2 << 3);
        varint(&mut event, step);
        bytes_field(&mut event, 5, &summary);
        self.record(&event);
    }

    /// Hands all that was written to the system, so that a TensorBoard that is open sees it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`].
    pub fn flush(&mut self) -> Result<()> {
        let append = || OpenOptions::new().append(true).open(&self.path)?.write_all(&self.waiting);
        append().map_err(|e| Error::io(&self.path, e))?;
        self.waiting.clear();
        Ok(())
    }

    /// Length, its checksum, data, its checksum.
    fn record(&mut self, data: &[u8]) {
        let length = (data.len() as u64).to_le_bytes();
        let parts: [&[u8]; 4] = [&length, &masked(&length).to_le_bytes(), data, &masked(data).to_le_bytes()];
        self.waiting.extend(parts.concat());
    }
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn double_field(out: &mut Vec<u8>, field: u8, number: f64) {
    out.push(field << 3 | 1);
    out.extend(number.to_le_bytes());
}

/// CRC-32C (Castagnoli: polynomial 0x1edc6f41, bits reflected), a byte at a time.
fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let (mut crc, mut bit) = (i as u32, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[i] = crc;
            i += 1;
        }
        table
    };
    !data.iter().fold(!0, |crc, &byte| TABLE[((crc ^ u32::from(byte)) & 0xff) as usize] ^ crc >> 8)
}

/// TFRecord's masking, which keeps checksums of data that holds checksums good.
fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// One line of a log; the schema of `docs/json.md`. Numbers that are NaN or infinite become `null`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum LogEvent<'a> {
    /// A training begins, or goes on.
    Start {
        /// Of all lines that follow: 1.
        schema: u32,
        /// Of this program.
        version: &'a str,
        /// What it runs on.
        device: &'a str,
        /// Members or trials.
        members: usize,
        /// Places in the array.
        slots: usize,
        /// Whether checkpoints were found and are gone on from.
        resumed: bool,
    },
    /// A member enters a slot.
    Member {
        /// Its number, from 0.
        member: usize,
        /// Its seed.
        seed: u64,
        /// Its age in steps: 0 unless it comes back.
        step: u64,
        /// The hyper-parameters that were set.
        hyper: &'a Hyper,
    },
    /// Numbers of a member.
    Scalars {
        /// Its number.
        member: usize,
        /// Its age in steps.
        step: u64,
        /// Its age in epochs.
        epoch: f64,
        /// Numbers by name.
        values: &'a BTreeMap<&'a str, f64>,
    },
    /// A snapshot was written.
    Checkpoint {
        /// The member's number.
        member: usize,
        /// Its age in steps.
        step: u64,
        /// The file.
        file: &'a Path,
    },
    /// A member leaves its slot.
    Left {
        /// Its number.
        member: usize,
        /// Its age in steps.
        step: u64,
        /// Why.
        reason: Reason,
    },
    /// A training ends.
    End {
        /// Wall-clock seconds since `start`.
        seconds: f64,
        /// The best member, if one has a score.
        best: Option<usize>,
        /// Its score.
        score: Option<f64>,
        /// Whether it was stopped before its end.
        stopped: bool,
    },
}

/// Why a member left its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// It has trained to its end.
    Finished,
    /// A search paused it.
    Paused,
    /// A search stopped it.
    Stopped,
    /// Its loss is no number any more.
    Diverged,
    /// The training was stopped.
    Cancelled,
}

impl Reason {
    /// As logs and tables have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Diverged => "diverged",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Writes a log, one line an event, each handed to the system at once.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
}

#[derive(Serialize)]
struct Line<'a> {
    time: f64,
    #[serde(flatten)]
    event: &'a LogEvent<'a>,
}

impl Log {
    /// Opens a log, to go on at its end if it is there. A last line that was cut off by a crash is ended first.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        }
        let ends_badly = std::fs::read(path).is_ok_and(|text| text.last().is_some_and(|&b| b != b'\n'));
        let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(|e| Error::io(path, e))?;
        if ends_badly {
            file.write_all(b"\n").map_err(|e| Error::io(path, e))?;
        }
        Ok(Self { path: path.to_owned(), file })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`].
    pub fn write(&mut self, event: &LogEvent<'_>) -> Result<()> {
        let mut line = serde_json::to_vec(&Line { time: now(), event }).map_err(|e| Error::internal(e.to_string()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|e| Error::io(&self.path, e))
    }
}

#[cfg(test)]
mod tests;
