//! No code: values as they are, 4-bit ones two a byte. What a chunk falls back to where coding does not pay.

use super::bytes;
use crate::error::{Error, Result};
use crate::pack::values::Element;

/// Words of a payload.
pub(super) fn words(element: Element, len: usize) -> usize {
    (len * element.bits() as usize).div_ceil(32)
}

pub(super) fn encode(element: Element, values: &[u32], len: usize) -> Vec<u32> {
    let packed = if element == Element::I4 { bytes::to_nibbles(values) } else { values.to_vec() };
    packed[..words(element, len)].to_vec()
}

pub(super) fn decode(element: Element, payload: &[u32], len: usize) -> Result<Vec<u32>> {
    let needed = words(element, len);
    if payload.len() != needed {
        let (has, name) = (payload.len(), element.name());
        return Err(Error::bad_input(format!("{len} {name} values take {needed} words, the payload has {has}")));
    }
    let used = len * element.bits() as usize % 32;
    if used != 0 && payload[needed - 1] >> used != 0 {
        return Err(Error::bad_input("bits behind the last value are set"));
    }
    let stride = bytes::stride(element);
    Ok(if element == Element::I4 {
        // The nibbles behind the end become bytes behind the end, zeros both.
        bytes::of_nibbles(payload, (len * stride).div_ceil(4))
    } else {
        payload.to_vec()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_of_a_wrong_length_or_tail_are_refused() {
        for element in [Element::I4, Element::U8, Element::Bf16] {
            for len in [1, 3, 7, 8, 9, 64] {
                let bytes: Vec<u8> = (0..len * bytes::stride(element)).map(|i| i as u8 % 8).collect();
                let values = bytes::to_words(&bytes);
                let payload = encode(element, &values, len);
                assert_eq!(decode(element, &payload, len).unwrap(), values, "{element:?} {len}");
                assert!(decode(element, &payload[1..], len).is_err());
                let mut longer = payload.clone();
                longer.push(0);
                assert!(decode(element, &longer, len).is_err());
                let mut odd = payload;
                *odd.last_mut().unwrap() |= 1 << 31;
                let whole = (len * element.bits() as usize).is_multiple_of(32);
                assert_eq!(decode(element, &odd, len).is_ok(), whole, "{element:?} {len}");
            }
        }
    }
}
