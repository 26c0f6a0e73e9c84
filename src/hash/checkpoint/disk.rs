//! Files that appear whole or not at all, on a disk that tests can make fail.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What a store does to a disk besides reading.
pub(crate) trait Disk: fmt::Debug + Send + Sync {
    /// A new file, or an old one emptied.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>>;
    /// Gives a file another name, at once.
    fn rename(&self, old: &Path, new: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Brings the names in a folder to the disk.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// A file that is being written.
pub(crate) trait Sink: Write + Send {
    /// Brings what was written to the disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// The disk of this machine.
#[derive(Debug)]
pub(crate) struct Real;

impl Sink for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Disk for Real {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(File::create(path)?))
    }

    fn rename(&self, old: &Path, new: &Path) -> io::Result<()> {
        fs::rename(old, new)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        // Where folders cannot be opened the system does it.
        if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
    }
}

/// What the name of an unfinished file ends with.
pub(super) const UNFINISHED: &str = ".part";

/// A file in the making, beside the name that it will have once all of it is on the disk.
pub(crate) struct Draft<'a> {
    disk: &'a dyn Disk,
    sink: Option<Box<dyn Sink>>,
    path: PathBuf,
    target: PathBuf,
    sum: crc32fast::Hasher,
    bytes: u64,
}

impl<'a> Draft<'a> {
    /// A draft of a file.
    pub(crate) fn beside(disk: &'a dyn Disk, target: &Path) -> Result<Self> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(UNFINISHED);
        let path = target.with_file_name(name);
        let sink = Some(disk.create(&path).map_err(|e| failed(target, e))?);
        Ok(Self { disk, sink, path, target: target.to_owned(), sum: crc32fast::Hasher::new(), bytes: 0 })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(sink) = &mut self.sink else { return Err(Error::internal("a finished file is written")) };
        sink.write_all(bytes).map_err(|e| failed(&self.target, e))?;
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Writes words as little-endian bytes.
    pub(crate) fn write_words(&mut self, words: &[u32]) -> Result<()> {
        if cfg!(target_endian = "little") {
            return self.write(bytemuck::cast_slice(words));
        }
        self.write(&words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// Brings it to the disk and gives it its name; its length and CRC-32.
    pub(crate) fn keep(mut self) -> Result<(u64, u32)> {
        let done = (|| {
            let mut sink = self.sink.take().ok_or_else(|| io::Error::other("finished twice"))?;
            sink.flush()?;
            sink.sync()?;
            drop(sink);
            self.disk.rename(&self.path, &self.target)?;
            let folder = self.target.parent().filter(|folder| !folder.as_os_str().is_empty());
            self.disk.sync_folder(folder.unwrap_or(Path::new(".")))
        })();
        if let Err(e) = done {
            let _ = self.disk.remove(&self.path);
            return Err(failed(&self.target, e));
        }
        Ok((self.bytes, std::mem::take(&mut self.sum).finalize()))
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.sink.take().is_some() {
            let _ = self.disk.remove(&self.path);
        }
    }
}

fn failed(target: &Path, e: io::Error) -> Error {
    let full = matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let error = Error::io(target, e);
    if full {
        error.with_help("make room on the disk and save again; what was saved before is still there")
    } else {
        error
    }
}
