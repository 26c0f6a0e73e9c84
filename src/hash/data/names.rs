//! Names of labels or features.

use std::io::Write;
use std::path::Path;

use super::source;
use crate::error::{Error, Result};
use crate::files::replace_with;

/// Names by id; ids by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    names: Vec<String>,
    /// Ids in the order of their names, and of themselves where names are equal.
    order: Vec<u32>,
}

impl Names {
    /// The names of ids 0, 1, 2 and so on; at most 2^32 - 1.
    pub fn new(names: Vec<String>) -> Self {
        let mut order: Vec<u32> = (0..u32::MAX).take(names.len()).collect();
        order.sort_by(|&a, &b| names[a as usize].cmp(&names[b as usize]));
        Self { names, order }
    }

    /// Reads a file, plain or gzipped, with a name a line, and as many as `count`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] with the line for text that is not UTF-8, empty names, too few or too many.
    pub fn read(path: &Path, count: usize) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
        let mut blocks = source::Blocks::new(file, 1 << 20).map_err(|e| e.in_file(path))?;
        let mut names = Vec::new();
        while let Some(block) = blocks.next().map_err(|e| e.in_file(path))? {
            let lines = block.bytes.strip_suffix(b"\n").unwrap_or(&block.bytes).split(|&b| b == b'\n');
            for (line, text) in (block.line..).zip(lines) {
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                names.push(name(text, names.len() < count).map_err(|e| e.in_file(path).at(line, 1))?);
            }
        }
        // Empty lines at the end are no names.
        while names.len() > count && names.last().is_some_and(String::is_empty) {
            names.pop();
        }
        if names.len() != count {
            let what = format!("{} names for {count} ids", names.len());
            let place = (names.len() + 1).min(count + 1);
            return Err(Error::bad_input(what)
                .in_file(path)
                .at(place, 1)
                .with_help("the file must have a line for every id, in the order of ids from 0"));
        }
        Ok(Self::new(names))
    }

    /// Writes a file that [`Names::read`] reads.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let lines = |file: &mut dyn Write| self.names.iter().try_for_each(|name| writeln!(file, "{name}"));
        replace_with(path, lines).map_err(|e| Error::io(path, e))
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name of an id.
    pub fn get(&self, id: u32) -> Option<&str> {
        self.names.get(id as usize).map(String::as_str)
    }

    /// The id of a name; the lowest, if several have it.
    pub fn find(&self, name: &str) -> Option<u32> {
        let at = self.order.partition_point(|&id| self.names[id as usize].as_str() < name);
        self.order.get(at).copied().filter(|&id| self.names[id as usize] == name)
    }

    /// Ids of the first names that begin with `begin`, in alphabetical order, for a message about a name that is not there.
    pub fn starting(&self, begin: &str, most: usize) -> Vec<u32> {
        let at = self.order.partition_point(|&id| self.names[id as usize].as_str() < begin);
        let rest = self.order[at..].iter().copied();
        rest.take_while(|&id| self.names[id as usize].starts_with(begin)).take(most).collect()
    }
}

/// A line's name; one that is needed is not empty.
fn name(text: &[u8], needed: bool) -> Result<String> {
    match std::str::from_utf8(text) {
        Err(_) => Err(Error::bad_input("the name is not UTF-8").with_help("save the file as UTF-8")),
        Ok("") if needed => Err(Error::bad_input("an empty line where a name should stand")
            .with_help("every id needs a name: a line left out would move all names behind it")),
        Ok(name) => Ok(name.to_owned()),
    }
}
