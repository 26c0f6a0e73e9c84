//! The folder of a training: names in it, its log, and the lock that keeps a second program out.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind as IoKind, Read as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Look;
use crate::error::{Error, Result};
use crate::files::replace;

/// Where a training's rows are kept, in its folder.
pub const STATE: &str = "state";
/// The log, in its folder.
pub const LOG: &str = "log.jsonl";
/// The network for other programs, in its folder.
pub const MODEL: &str = "model.safetensors";
/// What the training is, in its folder.
pub const TRAINING: &str = "training.json";
/// What the program that trains holds, in its folder.
pub const LOCK: &str = "lock";

/// Of the log's lines, as `docs/json.md` has them.
const SCHEMA: u32 = 1;

/// Held by the program that trains into a folder. It is a lock of the system's, which lets go when that program ends, however it ends; the file
/// stays and means nothing by itself.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Of a folder that may not be there yet; then nobody trains into it.
    pub(super) fn try_existing(folder: &Path) -> Result<Option<Self>> {
        if folder.is_dir() { Self::take(folder).map(Some) } else { Ok(None) }
    }

    /// Of a folder, which is made if there is none.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let path = folder.join(LOCK);
        let io = |e| Error::io(&path, e);
        let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = open.map_err(io)?;
        match file.try_lock() {
            Ok(()) => {
                // For the message to whoever comes second.
                file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(io)?;
            }
            Err(TryLockError::WouldBlock) => return Err(taken(folder, &mut file)),
            // Some file systems have no locks; that is no reason not to train.
            Err(TryLockError::Error(e)) => {
                log::warn!("{} cannot be locked ({e}): let no second program train into it", folder.display());
            }
        }
        Ok(Self { _file: file })
    }
}

fn taken(folder: &Path, file: &mut File) -> Error {
    let mut text = String::new();
    // Some systems let nobody read what another has locked.
    let read = file.take(16).read_to_string(&mut text);
    let number = read.ok().and_then(|_| text.parse::<u32>().ok());
    let who = number.map_or(String::new(), |number| format!(" (process {number})"));
    Error::bad_input(format!("another program{who} is training into this folder"))
        .in_file(folder)
        .with_help("wait for its end, stop it with Ctrl-C and go on with the same command, or choose another folder with `--folder`")
}

/// A line of the log.
#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    #[serde(flatten)]
    look: &'a Look,
}

/// What is asked of a line that was written before.
#[derive(Deserialize)]
struct Written {
    step: u64,
}

/// Adds a look to the log and brings it to the disk: a checkpoint that comes after it finds it there.
pub(super) fn log(folder: &Path, look: &Look) -> Result<()> {
    let path = folder.join(LOG);
    let line = Line { schema: SCHEMA, look };
    let mut line = serde_json::to_string(&line).map_err(|e| Error::internal("a line of the log").with_source(e))?;
    line.push('\n');
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()).and_then(|()| file.sync_data()));
    written.map_err(|e| Error::io(&path, e))
}

/// Cuts the log back to the looks up to a step, since the later ones come again, and says the step of the last that stays. A line that a
/// crash left half written goes, too.
pub(super) fn cut_log(folder: &Path, step: u64) -> Result<Option<u64>> {
    let path = folder.join(LOG);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == IoKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(&path, e)),
    };
    let (mut kept, mut last) = (Vec::with_capacity(bytes.len()), None);
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        let at = serde_json::from_slice(line).ok().map(|Written { step }| step);
        if let Some(at) = at.filter(|&at| at <= step && line.ends_with(b"\n")) {
            kept.extend_from_slice(line);
            last = Some(at);
        }
    }
    if kept.len() < bytes.len() {
        replace(&path, &kept)?;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("wavehull-folder-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            Self(folder)
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_folder_is_held_by_one_until_it_lets_go() {
        let folder = Temporary::new("lock");
        assert!(Lock::try_existing(&folder.0).expect("no folder").is_none());
        assert!(!folder.0.exists(), "asking makes nothing");
        let held = Lock::take(&folder.0).expect("nobody is there");
        let error = Lock::try_existing(&folder.0).expect_err("somebody is there");
        assert!(error.to_string().contains("another program"), "{error}");
        assert!(error.place().is_some_and(|place| place.file == folder.0), "{error}");
        assert!(error.help().is_some_and(|help| help.contains("--folder")), "{error}");
        assert!(!cfg!(unix) || error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        // What the file says is of no meaning.
        fs::write(folder.0.join(LOCK), "not a number").expect("a file");
        let _held = Lock::take(&folder.0).expect("it is free again");
        assert!(Lock::take(&folder.0).is_err());
    }

    #[test]
    fn a_log_is_cut_to_a_step_and_torn_lines_go() {
        let folder = Temporary::new("log");
        assert_eq!(cut_log(&folder.0, 5).expect("no log"), None);
        fs::create_dir_all(&folder.0).expect("a folder");
        let path = folder.0.join(LOG);
        let whole = "{\"step\":10,\"loss\":1}\n{\"schema\":1,\"step\":20}\n{\"step\":30}\n";
        fs::write(&path, format!("{whole}{{\"step\":40")).expect("a file");
        assert_eq!(cut_log(&folder.0, 40).expect("a log"), Some(30));
        assert_eq!(fs::read_to_string(&path).expect("a log"), whole);
        let before = fs::metadata(&path).and_then(|m| m.modified()).expect("a file");
        assert_eq!(cut_log(&folder.0, 30).expect("a log"), Some(30));
        assert_eq!(fs::metadata(&path).and_then(|m| m.modified()).expect("a file"), before, "nothing to cut");
        assert_eq!(cut_log(&folder.0, 29).expect("a log"), Some(20));
        assert_eq!(fs::read_to_string(&path).expect("a log").lines().count(), 2);
        // A line without its end is not known to be whole.
        fs::write(&path, "\n{}\n{\"step\":\"5\"}\n{\"step\":5}").expect("a file");
        assert_eq!(cut_log(&folder.0, 29).expect("a log"), None);
        assert_eq!(fs::read(&path).expect("a log"), b"");
    }
}
