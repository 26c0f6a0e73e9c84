//! Files that replace others only once they are whole.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A file in the making beside its target, which stays as it is until the file is whole.
#[derive(Debug)]
pub(super) struct Draft {
    pub file: File,
    path: PathBuf,
    target: PathBuf,
}

impl Draft {
    /// A draft of `target`, which must not be what it is made from.
    pub fn beside(target: &Path, source: Option<&Path>) -> Result<Self> {
        let io = |e| Error::io(target, e);
        // What a link leads to is replaced, not the link; a device or a pipe cannot be.
        let target = match std::fs::metadata(target) {
            Ok(found) if !found.is_file() => {
                return Err(Error::bad_input("this is no file that can be replaced")
                    .in_file(target)
                    .with_help("name a file"));
            }
            Ok(found) if found.permissions().readonly() => {
                return Err(io(std::io::ErrorKind::PermissionDenied.into()));
            }
            Ok(_) if source.is_some_and(|source| source.canonicalize().ok() == target.canonicalize().ok()) => {
                return Err(Error::bad_input("a file cannot become its own result")
                    .in_file(target)
                    .with_help("name another"));
            }
            Ok(_) => target.canonicalize().map_err(io)?,
            Err(_) => target.to_owned(),
        };
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let path = target.with_file_name(name);
        let file = File::create_new(&path).map_err(io)?;
        Ok(Self { file, path, target })
    }

    /// Puts the file, which is whole, in the place of its target.
    pub fn keep(self) -> Result<()> {
        let io = |e| Error::io(&self.target, e);
        self.file.sync_all().and_then(|()| std::fs::rename(&self.path, &self.target)).map_err(io)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After `keep` there is none.
        let _ = std::fs::remove_file(&self.path);
    }
}
