//! Stored values: what an accelerator keeps in memory, bit for bit.

use crate::error::{Error, Result};

/// The container of an uncompressed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub enum Element {
    /// Two's complement, -8 to 7.
    I4,
    /// Two's complement, 8 bits.
    I8,
    /// Unsigned, 8 bits.
    U8,
    /// Two's complement, 16 bits.
    I16,
    /// IEEE binary16.
    F16,
    /// The upper half of an IEEE binary32.
    Bf16,
}

impl Element {
    /// Bits of a container.
    pub const fn bits(self) -> u32 {
        match self {
            Self::I4 => 4,
            Self::I8 | Self::U8 => 8,
            Self::I16 | Self::F16 | Self::Bf16 => 16,
        }
    }

    /// Whether a value may be negative.
    pub const fn is_signed(self) -> bool {
        !matches!(self, Self::U8)
    }

    /// Whether values have exponents.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::Bf16)
    }

    /// As users write it: `i8`, `bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::I4 => "i4",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I16 => "i16",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

/// What a tensor is to its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub enum Kind {
    /// `[filter, ky, kx, channel]`; depthwise weights are one filter of all channels.
    Weights,
    /// `[y, x, channel]`, of one sample.
    Activations,
}

/// How finely a tensor was quantised: it decides what is left to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Granularity {
    /// Not known, or not quantised.
    Unknown,
    /// One scale.
    Tensor,
    /// A scale for each filter.
    Channel,
    /// A scale for so many consecutive values of a filter.
    Group(usize),
}

/// A tensor of stored values, channels innermost.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    name: String,
    kind: Kind,
    element: Element,
    granularity: Granularity,
    shape: Vec<usize>,
    codes: Codes,
}

/// Bit patterns; those of 4 bits stand sign-extended in a byte each.
#[derive(Debug, Clone, PartialEq)]
enum Codes {
    Bytes(Vec<u8>),
    Halves(Vec<u16>),
}

impl Values {
    /// Values of at most 8 bits; [`Element::I4`] sign-extended, one a byte.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for an element of 16 bits, a shape of other than 3 (activations) or 4 (weights) axes, a length that
    /// contradicts the shape, and 4-bit values outside -8 to 7.
    pub fn from_bytes(
        name: impl Into<String>,
        kind: Kind,
        element: Element,
        shape: &[usize],
        bytes: Vec<u8>,
    ) -> Result<Self> {
        let name = name.into();
        if element.bits() > 8 {
            return Err(Error::bad_input(format!("tensor '{name}': {} values are no bytes", element.name())));
        }
        if element == Element::I4 && bytes.iter().any(|&byte| !(-8..8).contains(&byte.cast_signed())) {
            return Err(Error::bad_input(format!("tensor '{name}': a value is outside -8 to 7")));
        }
        Self::new(name, kind, element, shape, bytes.len(), Codes::Bytes(bytes))
    }

    /// Bit patterns of values of 16 bits.
    ///
    /// # Errors
    /// As [`Values::from_bytes`].
    pub fn from_halves(
        name: impl Into<String>,
        kind: Kind,
        element: Element,
        shape: &[usize],
        halves: Vec<u16>,
    ) -> Result<Self> {
        let name = name.into();
        if element.bits() != 16 {
            return Err(Error::bad_input(format!("tensor '{name}': {} values have no 16 bits", element.name())));
        }
        Self::new(name, kind, element, shape, halves.len(), Codes::Halves(halves))
    }

    fn new(name: String, kind: Kind, element: Element, shape: &[usize], len: usize, codes: Codes) -> Result<Self> {
        let axes = if kind == Kind::Weights { 4 } else { 3 };
        if shape.len() != axes {
            return Err(Error::bad_input(format!("tensor '{name}' of shape {shape:?} should have {axes} axes")));
        }
        if shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n)) != Some(len) {
            return Err(Error::bad_input(format!("tensor '{name}' of shape {shape:?} has {len} values")));
        }
        Ok(Self { name, kind, element, granularity: Granularity::Unknown, shape: shape.to_vec(), codes })
    }

    /// The same, known to be quantised so finely.
    #[must_use]
    pub fn quantised(self, granularity: Granularity) -> Self {
        Self { granularity, ..self }
    }

    /// The name in its file, or of its layer.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Weights or activations.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The container.
    pub fn element(&self) -> Element {
        self.element
    }

    /// How finely it was quantised.
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// `[filter, ky, kx, channel]` or `[y, x, channel]`.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match &self.codes {
            Codes::Bytes(bytes) => bytes.len(),
            Codes::Halves(halves) => halves.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Filters, or rows of a map: the first axis.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// The last axis.
    pub fn channels(&self) -> usize {
        self.shape[self.shape.len() - 1]
    }

    /// Places that have all channels: values over channels.
    pub fn positions(&self) -> usize {
        self.shape[..self.shape.len() - 1].iter().product()
    }

    /// How many values are zero; a negative zero is none.
    pub fn zeros(&self) -> u64 {
        match &self.codes {
            Codes::Bytes(bytes) => bytes.iter().filter(|&&byte| byte == 0).count() as u64,
            Codes::Halves(halves) => halves.iter().filter(|&&half| half == 0).count() as u64,
        }
    }

    /// Size uncompressed, in bits.
    pub fn bits(&self) -> u64 {
        self.len() as u64 * u64::from(self.element.bits())
    }

    /// Bit pattern of value `i`, in row-major order; 4-bit values sign-extended to 8 bits.
    pub fn code(&self, i: usize) -> u16 {
        match &self.codes {
            Codes::Bytes(bytes) => bytes[i].into(),
            Codes::Halves(halves) => halves[i],
        }
    }

    /// Value `i` as a whole number; bit patterns of floating-point elements count as unsigned.
    pub fn integer(&self, i: usize) -> i32 {
        match self.element {
            Element::I4 | Element::I8 => i32::from(self.code(i).to_le_bytes()[0].cast_signed()),
            Element::I16 => i32::from(self.code(i).cast_signed()),
            Element::U8 | Element::F16 | Element::Bf16 => i32::from(self.code(i)),
        }
    }

    /// The bytes, for containers of at most 8 bits.
    pub fn bytes(&self) -> Option<&[u8]> {
        if let Codes::Bytes(bytes) = &self.codes { Some(bytes) } else { None }
    }

    /// The bit patterns, for containers of 16 bits.
    pub fn halves(&self) -> Option<&[u16]> {
        if let Codes::Halves(halves) = &self.codes { Some(halves) } else { None }
    }

    /// What a device gets: 4 bytes or 2 bit patterns a word, the first in the low bits; zeros behind the end.
    pub fn words(&self) -> Vec<u32> {
        match &self.codes {
            Codes::Bytes(bytes) => bytes
                .chunks(4)
                .map(|four| four.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte)))
                .collect(),
            Codes::Halves(halves) => halves
                .chunks(2)
                .map(|two| two.iter().rev().fold(0, |word, &half| word << 16 | u32::from(half)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_values_from_the_low_bits_up() {
        let bytes =
            Values::from_bytes("a", Kind::Activations, Element::I8, &[1, 1, 5], vec![1, 2, 3, 4, 0xff]).unwrap();
        assert_eq!(bytes.words(), [0x0403_0201, 0xff]);
        assert_eq!(bytes.integer(4), -1);
        let halves = Values::from_halves("b", Kind::Weights, Element::I16, &[3, 1, 1, 1], vec![1, 0x8000, 3]).unwrap();
        assert_eq!(halves.words(), [0x8000_0001, 3]);
        assert_eq!(halves.integer(1), -32768);
    }

    #[test]
    fn shapes_and_ranges_are_checked() {
        let of = |shape: &[usize], bytes| Values::from_bytes("t", Kind::Weights, Element::I4, shape, bytes);
        assert!(of(&[1, 1, 1, 2], vec![7, 0xf8]).is_ok());
        for refused in [of(&[2], vec![0, 0]), of(&[1, 1, 1, 3], vec![0, 0]), of(&[1, 1, 1, 1], vec![8])] {
            assert_eq!(refused.unwrap_err().kind(), crate::ErrorKind::BadInput);
        }
    }
}
