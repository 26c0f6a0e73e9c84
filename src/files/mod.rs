//! Files of numbers as they are: bytes, unpacked where they are gzipped, and the arrays of NPY, NPZ and IDX files, and TOML whose values know their places. It knows nothing of
//! networks or samples, so it stands on the floor of `error`, below every wing that reads such files.

#[cfg(any(feature = "train", feature = "pack"))]
pub(crate) mod idx;
#[cfg(any(feature = "train", feature = "pack"))]
pub(crate) mod npy;
#[cfg(any(feature = "config", feature = "hash"))]
pub(crate) mod tree;

use std::fs::File;
#[cfg(any(feature = "train", feature = "pack"))]
use std::io::Read;
use std::path::Path;

#[cfg(any(feature = "train", feature = "pack"))]
use flate2::read::MultiGzDecoder;

#[cfg(any(feature = "train", feature = "pack"))]
use crate::error::ErrorKind;
use crate::error::{Error, Result};

/// Largest size of a data file, unpacked: a small file that unpacks to more is damaged or meant to harm.
#[cfg(any(feature = "train", feature = "pack"))]
pub(crate) const LARGEST: u64 = 16 << 30;

/// The bytes of a file, gzipped (told by content) or plain.
#[cfg(any(feature = "train", feature = "pack"))]
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>> {
    let mut packed = Vec::new();
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    file.read_to_end(&mut packed).map_err(|e| Error::io(path, e))?;
    if packed.is_empty() {
        return Err(Error::bad_input("the file is empty").in_file(path));
    }
    if !packed.starts_with(&[0x1f, 0x8b]) {
        return Ok(packed);
    }
    limited(MultiGzDecoder::new(packed.as_slice())).map_err(|e| e.in_file(path))
}

/// All that a decoder gives, as far as [`LARGEST`].
#[cfg(any(feature = "train", feature = "pack"))]
pub(crate) fn limited(decoder: impl Read) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    decoder.take(LARGEST + 1).read_to_end(&mut unpacked).map_err(|e| {
        Error::bad_input(format!("the compressed data is damaged: {e}"))
            .with_help("download the file again")
            .with_source(e)
    })?;
    if unpacked.len() as u64 > LARGEST {
        return Err(Error::new(ErrorKind::TooBig, format!("the file unpacks to more than {} GiB", LARGEST >> 30)));
    }
    Ok(unpacked)
}

/// Puts bytes into a file at once: written beside it under another name, brought to the disk, renamed.
///
/// # Errors
/// [`crate::ErrorKind::Io`]; then whatever was there before is still there.
#[cfg(any(feature = "train", feature = "hash"))]
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    if path.file_name().is_none() {
        return Err(Error::bad_input("this is no name of a file").in_file(path));
    }
    replace_with(path, |file| file.write_all(bytes)).map_err(|e| Error::io(path, e))
}

/// [`replace`] with bytes as they are made, in a folder that is there.
#[cfg(any(feature = "train", feature = "hash"))]
pub(crate) fn replace_with(
    path: &Path,
    write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let written = (|| {
        let mut file = std::io::BufWriter::with_capacity(1 << 18, File::create(&beside)?);
        write(&mut file)?;
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&beside, path)?;
        // The new name itself must reach the disk; where folders cannot be opened the system does it.
        #[cfg(unix)]
        File::open(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(())
    })();
    if written.is_err() {
        // The part is of no use to anybody.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// The text of a file.
#[cfg(any(feature = "train", feature = "pack"))]
pub(crate) fn text(path: &Path) -> Result<String> {
    String::from_utf8(bytes(path)?).map_err(|e| {
        let before = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|&&b| b != b'\n').count() + 1;
        Error::bad_input("the text is not UTF-8").in_file(path).at(line, column).with_help("save the file as UTF-8")
    })
}

/// A folder and files for tests, gone when dropped.
#[cfg(all(test, any(feature = "train", feature = "pack")))]
pub(crate) struct Scratch(std::path::PathBuf);

#[cfg(all(test, any(feature = "train", feature = "pack")))]
impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("wavehull-data-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        Self(folder)
    }

    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> std::path::PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a file for the test");
        path
    }
}

#[cfg(all(test, any(feature = "train", feature = "pack")))]
impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(all(test, any(feature = "train", feature = "pack")))]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn gzipped_files_are_unpacked_and_damage_is_named() {
        let scratch = Scratch::new("gzip");
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(b"hello").expect("memory");
        let mut packed = packer.finish().expect("memory");
        assert_eq!(bytes(&scratch.file("a.gz", &packed)).expect("gzip"), b"hello");
        packed.truncate(packed.len() - 6);
        let error = bytes(&scratch.file("b.gz", &packed)).expect_err("cut off");
        assert!(error.to_string().contains("b.gz: the compressed data is damaged"), "{error}");
    }

    #[test]
    fn empty_missing_and_foreign_files() {
        let scratch = Scratch::new("files");
        assert!(bytes(&scratch.file("e", "")).expect_err("empty").to_string().ends_with("the file is empty"));
        assert_eq!(bytes(&scratch.0.join("none")).expect_err("missing").kind(), ErrorKind::Io);
    }

    #[cfg(feature = "train")]
    #[test]
    fn text_that_is_none_is_named_with_its_place() {
        let scratch = Scratch::new("text");
        let error = text(&scratch.file("t", b"ab\nc\xff")).expect_err("no text");
        assert_eq!(error.place().and_then(|p| p.position), Some((2, 2)));
    }
}
