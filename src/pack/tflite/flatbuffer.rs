//! Flatbuffers, just enough: tables, scalars, vectors. Every offset is checked before it is followed; nothing is copied.

use std::fmt;

use crate::error::{Error, Result};

/// What a table is, for messages: `tensor 12`.
#[derive(Debug, Clone, Copy)]
pub(super) struct What(pub(super) &'static str, pub(super) Option<usize>);

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(index) => write!(f, "{} {index}", self.0),
            None => f.write_str(self.0),
        }
    }
}

impl What {
    pub(super) fn malformed(self, what: impl fmt::Display) -> Error {
        Error::bad_input(format!("{self}: {what}"))
            .with_help("the file is damaged, or no TFLite network: download or convert it again")
    }
}

/// A table of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    pub(super) what: What,
    bytes: &'a [u8],
    at: usize,
    fields: &'a [u8],
}

/// Numbers of a file, of which each is read when it is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers<'a, T> {
    bytes: &'a [u8],
    read: fn(&[u8]) -> T,
    size: usize,
}

impl<T: Default> Numbers<'_, T> {
    pub(super) fn none() -> Self {
        Self { bytes: &[], read: |_| T::default(), size: 1 }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() / self.size
    }

    pub(super) fn get(&self, i: usize) -> Option<T> {
        self.bytes.get(i.checked_mul(self.size)?..)?.get(..self.size).map(self.read)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = T> {
        self.bytes.chunks_exact(self.size).map(self.read)
    }
}

/// Tables of a file, of which each is looked up when it is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tables<'a> {
    what: &'static str,
    bytes: &'a [u8],
    at: usize,
    len: usize,
}

impl<'a> Tables<'a> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, i: usize) -> Result<Table<'a>> {
        let what = What(self.what, Some(i));
        if i >= self.len {
            return Err(what.malformed(format!("there are only {}", self.len)));
        }
        Table::at(self.bytes, self.at + 4 * i, what)
    }
}

fn four(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok()
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    std::array::from_fn(|i| bytes.get(i).copied().unwrap_or(0))
}

impl<'a> Table<'a> {
    /// The table that the offset at a place leads to.
    pub(super) fn at(bytes: &'a [u8], place: usize, what: What) -> Result<Self> {
        let found = || {
            let at = place.checked_add(u32::from_le_bytes(four(bytes, place)?) as usize)?;
            let back = i32::from_le_bytes(four(bytes, at)?);
            let fields = usize::try_from(i64::try_from(at).ok()? - i64::from(back)).ok()?;
            let len = usize::from(u16::from_le_bytes(array(bytes.get(fields..fields.checked_add(2)?)?)));
            let fields = bytes.get(fields..fields.checked_add(len)?).filter(|_| len >= 4)?;
            Some(Self { what, bytes, at, fields })
        };
        found().ok_or_else(|| what.malformed(format!("the offset at byte {place} leads to no table")))
    }

    /// Where field `i` stands, if the table has it.
    fn place(&self, i: usize) -> Option<usize> {
        let offset = u16::from_le_bytes(array(self.fields.get(4 + 2 * i..6 + 2 * i)?));
        (offset != 0).then(|| self.at + usize::from(offset))
    }

    fn scalar<const N: usize>(&self, i: usize) -> Result<Option<[u8; N]>> {
        let Some(place) = self.place(i) else { return Ok(None) };
        let bytes = place.checked_add(N).and_then(|end| self.bytes.get(place..end));
        bytes.map(|bytes| Some(array(bytes))).ok_or_else(|| self.outside(i))
    }

    fn outside(&self, i: usize) -> Error {
        self.what.malformed(format!("field {i} lies outside of the file"))
    }

    pub(super) fn byte(&self, i: usize) -> Result<i8> {
        Ok(self.scalar(i)?.map_or(0, i8::from_le_bytes))
    }

    pub(super) fn integer(&self, i: usize, default: i32) -> Result<i32> {
        Ok(self.scalar(i)?.map_or(default, i32::from_le_bytes))
    }

    pub(super) fn long(&self, i: usize) -> Result<u64> {
        Ok(self.scalar(i)?.map_or(0, u64::from_le_bytes))
    }

    pub(super) fn number(&self, i: usize) -> Result<f32> {
        Ok(self.scalar(i)?.map_or(0.0, f32::from_le_bytes))
    }

    /// The first byte of a vector and its length.
    fn vector(&self, i: usize, size: usize) -> Result<Option<(usize, usize)>> {
        let Some(place) = self.place(i) else { return Ok(None) };
        let found = || {
            let start = place.checked_add(u32::from_le_bytes(four(self.bytes, place)?) as usize)?;
            let len = u32::from_le_bytes(four(self.bytes, start)?) as usize;
            let end = len.checked_mul(size)?.checked_add(start + 4)?;
            (end <= self.bytes.len()).then_some((start + 4, len))
        };
        found().map(Some).ok_or_else(|| self.outside(i))
    }

    fn numbers<T>(&self, i: usize, size: usize, read: fn(&[u8]) -> T) -> Result<Numbers<'a, T>> {
        let range = self.vector(i, size)?.map_or(0..0, |(start, len)| start..start + len * size);
        Ok(Numbers { bytes: self.bytes.get(range).unwrap_or_default(), read, size })
    }

    pub(super) fn integers(&self, i: usize) -> Result<Numbers<'a, i32>> {
        self.numbers(i, 4, |bytes| i32::from_le_bytes(array(bytes)))
    }

    pub(super) fn longs(&self, i: usize) -> Result<Numbers<'a, i64>> {
        self.numbers(i, 8, |bytes| i64::from_le_bytes(array(bytes)))
    }

    pub(super) fn floats(&self, i: usize) -> Result<Numbers<'a, f32>> {
        self.numbers(i, 4, |bytes| f32::from_le_bytes(array(bytes)))
    }

    pub(super) fn bytes(&self, i: usize) -> Result<&'a [u8]> {
        let range = self.vector(i, 1)?.map_or(0..0, |(start, len)| start..start + len);
        Ok(self.bytes.get(range).unwrap_or_default())
    }

    pub(super) fn table(&self, i: usize, what: What) -> Result<Option<Self>> {
        self.place(i).map(|place| Self::at(self.bytes, place, what)).transpose()
    }

    pub(super) fn tables(&self, i: usize, what: &'static str) -> Result<Tables<'a>> {
        let (at, len) = self.vector(i, 4)?.unwrap_or((0, 0));
        Ok(Tables { what, bytes: self.bytes, at, len })
    }
}
