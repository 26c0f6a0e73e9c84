//! Writes the format that is read.

use std::io::{self, Write};
use std::path::Path;

use super::super::source;
use crate::error::{Error, Result};
use crate::files::replace_with;
use crate::hash::set::SparseSet;

/// Writes a set to a file, gzipped if its name ends with `.gz`. Values are written with as many digits as tell them apart, so that the set
/// reads back bit for bit (one that has samples without features with [`super::ReadOptions::keep_empty`]). The file is there whole or not
/// at all.
///
/// # Errors
/// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] for a set that breaks its promises.
pub fn write(path: &Path, set: &SparseSet) -> Result<()> {
    set.check()?;
    let gzip = path.extension().is_some_and(|extension| extension == "gz");
    replace_with(path, |file| {
        if !gzip {
            return lines(file, set);
        }
        let mut packer = flate2::write::GzEncoder::new(file, flate2::Compression::default());
        lines(&mut packer, set)?;
        packer.finish().map(drop)
    })
    .map_err(|e| Error::io(path, e))
}

/// Writes a set to a stream, not gzipped.
///
/// # Errors
/// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] for a set that breaks its promises.
pub fn write_to(mut writer: impl Write, set: &SparseSet) -> Result<()> {
    set.check()?;
    lines(&mut writer, set).map_err(source::failed)
}

fn lines(writer: &mut dyn Write, set: &SparseSet) -> io::Result<()> {
    let mut line = Vec::new();
    writeln!(line, "{} {} {}", set.len(), set.feature_count, set.label_count)?;
    writer.write_all(&line)?;
    for i in 0..set.len() {
        line.clear();
        for (place, label) in set.labels.row(i).iter().enumerate() {
            write!(line, "{}{label}", if place == 0 { "" } else { "," })?;
        }
        for (feature, value) in set.features.row(i).iter().zip(&set.values[set.features.range(i)]) {
            write!(line, " {feature}:{value}")?;
        }
        line.push(b'\n');
        writer.write_all(&line)?;
    }
    writer.flush()
}
