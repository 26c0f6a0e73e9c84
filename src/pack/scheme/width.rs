//! How many bits a value needs: the rule that all width schemes share.
//!
//! Whole numbers are cut to the low bits of their two's complement, or of their unsigned code. Of floating-point values the exponents
//! are coded (the patent's claim 11), sign and mantissa stay raw. Exponent fields first change places, with `top` the largest field of
//! the tensor: field 0 (zeros and subnormal numbers) stays 0, field e > 0 becomes top + 1 - e. That is its own inverse on 0..=top, gives
//! the largest magnitudes of a tensor the shortest codes, and a zero costs a group nothing. `top` is stored in 8 bits beside the tensor.

use crate::pack::values::{Element, Values};

/// Bits of a number: 0 for 0.
pub(super) fn bit_length(x: u32) -> u32 {
    u32::BITS - x.leading_zeros()
}

/// Bits of a floating-point value that stay as they are: sign and mantissa; 0 for whole numbers.
pub(super) fn raw_bits(element: Element) -> u32 {
    match element {
        Element::F16 => 11,
        Element::Bf16 => 8,
        _ => 0,
    }
}

/// Bits of a mantissa, which lies below the exponent.
pub(super) fn mantissa_bits(element: Element) -> u32 {
    raw_bits(element).saturating_sub(1)
}

/// The smallest width of a group in lanes: room for a sign and a bit.
pub(super) fn least_width(element: Element, zero_width: bool) -> u32 {
    match element {
        _ if zero_width => 0,
        Element::U8 => 1,
        Element::F16 | Element::Bf16 => raw_bits(element),
        Element::I4 | Element::I8 | Element::I16 => 2,
    }
}

/// The smallest width of a group that is a stream of its own, where 0 and -1 fit into a bit.
pub(super) fn least_dense_width(element: Element) -> u32 {
    raw_bits(element).max(1)
}

/// The width of a zero that is stored although it is one.
pub(super) fn zero_width(element: Element) -> u32 {
    if element.is_float() { raw_bits(element) } else { u32::from(element.is_signed()) }
}

/// Bits that name one of the widths a group can have.
pub(super) fn prefix_bits(element: Element, zero_width: bool) -> u32 {
    let widths = if element.is_float() { element.bits() - raw_bits(element) + 1 } else { element.bits() };
    bit_length(widths - 1 + u32::from(zero_width))
}

/// Bits of what a width scheme must know about a whole tensor: the largest exponent field.
pub(super) fn table_bits(element: Element) -> u64 {
    if element.is_float() { 8 } else { 0 }
}

/// The widths of a tensor's values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Widths {
    element: Element,
    /// The largest exponent field; 0 for whole numbers.
    pub(super) top: u32,
}

impl Widths {
    pub(super) fn of(values: &Values) -> Self {
        let element = values.element();
        let fields = values.halves().filter(|_| element.is_float()).unwrap_or_default().iter();
        let top = fields.map(|&half| exponent(element, half)).max().unwrap_or(0);
        Self { element, top }
    }

    /// Bits that a value needs, be it zero or not.
    pub(super) fn width(&self, code: u16) -> u32 {
        if self.element.is_float() {
            return raw_bits(self.element) + bit_length(self.swapped(exponent(self.element, code)));
        }
        let value = match self.element {
            Element::I4 | Element::I8 => i32::from(code.to_le_bytes()[0].cast_signed()),
            Element::I16 => i32::from(code.cast_signed()),
            _ => i32::from(code),
        };
        // Two's complement: -8 needs as many bits as 7.
        bit_length(value.max(!value).cast_unsigned()) + u32::from(self.element.is_signed())
    }

    /// Bits that a value needs where a zero may be told without any.
    pub(super) fn non_zero_width(&self, code: u16) -> u32 {
        if code == 0 { 0 } else { self.width(code) }
    }

    /// An exponent field's code, and a code's exponent field.
    pub(super) fn swapped(&self, field: u32) -> u32 {
        if field == 0 { 0 } else { self.top + 1 - field }
    }
}

/// The exponent field of a bit pattern.
pub(super) fn exponent(element: Element, code: u16) -> u32 {
    u32::from(code & 0x7fff) >> mantissa_bits(element)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::values::Kind;

    fn of(element: Element, halves: &[u16]) -> Vec<u32> {
        let shape = [1, 1, halves.len()];
        let values = if element.bits() > 8 {
            Values::from_halves("t", Kind::Activations, element, &shape, halves.to_vec())
        } else {
            let bytes = halves.iter().map(|half| half.to_le_bytes()[0]).collect();
            Values::from_bytes("t", Kind::Activations, element, &shape, bytes)
        };
        let widths = Widths::of(&values.unwrap());
        halves.iter().map(|&half| widths.width(half)).collect()
    }

    #[test]
    fn widths_are_those_of_twos_complement() {
        assert_eq!(of(Element::U8, &[0, 1, 2, 127, 128, 255]), [0, 1, 2, 7, 8, 8]);
        assert_eq!(of(Element::I8, &[0, 0xff, 1, 0xfe, 2, 127, 128]), [1, 1, 2, 2, 3, 8, 8]);
        assert_eq!(of(Element::I4, &[0, 7, 0xf8, 0xff]), [1, 4, 4, 1]);
        assert_eq!(of(Element::I16, &[0, 0xffff, 0x7fff, 0x8000]), [1, 1, 16, 16]);
    }

    #[test]
    fn exponents_near_the_largest_are_short() {
        // bf16: 0.0, -0.0, 2.0 (field 128), 1.0 (127), 0.5 (126), 0.25 (125)
        assert_eq!(of(Element::Bf16, &[0, 0x8000, 0x4000, 0x3f80, 0x3f00, 0x3e80]), [8, 8, 9, 10, 10, 11]);
        // f16: 1.0 (field 15), infinity (31): whatever is far from the largest is long
        assert_eq!(of(Element::F16, &[0x3c00]), [12]);
        assert_eq!(of(Element::F16, &[0x3c00, 0x7c00, 0x0001]), [16, 12, 11]);
    }

    #[test]
    fn prefixes_name_all_widths() {
        let both = |element| (prefix_bits(element, false), prefix_bits(element, true));
        assert_eq!(both(Element::I4), (2, 3));
        assert_eq!(both(Element::I8), (3, 4));
        assert_eq!(both(Element::I16), (4, 5));
        assert_eq!((both(Element::F16), both(Element::Bf16)), ((3, 3), (4, 4)));
    }
}
