//! The layouts written to bits and read back: what makes the counts more than formulae. For tests alone; bits are counted one by one.

mod coded;
mod lanes;
mod tests;

use super::reference::{channel_major, group_width, groups};
use super::width::{Widths, exponent, least_dense_width, mantissa_bits, raw_bits};
use super::{Scheme, shape_prefix};
use crate::pack::values::{Element, Values};

/// Bits in the order of writing.
#[derive(Debug, Default)]
struct Writer(Vec<bool>);

impl Writer {
    fn push(&mut self, value: u64, bits: u32) {
        assert!(bits >= 64 || value >> bits == 0, "{value} in {bits} bits");
        self.0.extend((0..bits).map(|bit| value >> bit & 1 == 1));
    }
}

#[derive(Debug, Clone, Copy)]
struct Reader<'a> {
    bits: &'a [bool],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, bits: u32) -> u64 {
        let from = self.at;
        self.at += bits as usize;
        self.bits[from..self.at].iter().rev().fold(0, |value, &bit| value << 1 | u64::from(bit))
    }
}

/// What a reader knows without the bits: element, kind and shape; and the values' places in channel-major order.
struct Frame<'a> {
    values: &'a Values,
    order: Vec<usize>,
}

/// The bits of a value of this width.
fn packed(widths: &Widths, element: Element, code: u16, width: u32) -> u64 {
    if !element.is_float() {
        return u64::from(code) & (1_u64 << width).wrapping_sub(1);
    }
    if width == 0 {
        return 0;
    }
    let mantissa = u64::from(code) & ((1 << mantissa_bits(element)) - 1);
    let sign = u64::from(code >> 15);
    (u64::from(widths.swapped(exponent(element, code))) << 1 | sign) << mantissa_bits(element) | mantissa
}

/// The value of so many bits, as [`Values::code`] gives it.
fn unpacked(widths: &Widths, element: Element, bits: u64, width: u32) -> u16 {
    if width == 0 {
        return 0;
    }
    if element.is_float() {
        let fraction = mantissa_bits(element);
        let field = u64::from(widths.swapped(u32::try_from(bits >> raw_bits(element)).unwrap()));
        let sign = bits >> fraction & 1;
        return u16::try_from(sign << 15 | field << fraction | bits & ((1 << fraction) - 1)).unwrap();
    }
    let negative = element.is_signed() && bits >> (width - 1) & 1 == 1;
    let extended = if negative { bits | u64::MAX << width } else { bits };
    let container = if element.bits() > 8 { 0xffff } else { 0xff };
    u16::try_from(extended & container).unwrap()
}

/// The number that a prefix holds for a width that is not 0.
fn width_number(element: Element, width: u32) -> u64 {
    u64::from(width - raw_bits(element).max(1))
}

fn number_width(element: Element, number: u64) -> u32 {
    u32::try_from(number).unwrap() + raw_bits(element).max(1)
}

/// The largest exponent field, where the element has any.
fn write_table(out: &mut Writer, widths: &Widths, element: Element) {
    if element.is_float() {
        out.push(u64::from(widths.top), 8);
    }
}

fn read_table(bits: &mut Reader<'_>, values: &Values) -> Widths {
    let mut widths = Widths::of(values);
    if values.element().is_float() {
        widths.top = u32::try_from(bits.take(8)).unwrap();
    }
    widths
}

/// The tensor as bits.
fn encode(values: &Values, scheme: &Scheme) -> Vec<bool> {
    let frame = Frame { values, order: channel_major(values) };
    match *scheme {
        Scheme::ZeroValue => zero_values(values),
        Scheme::ZeroRuns { run_bits } => frame.zero_runs(run_bits),
        Scheme::ShapeShifter { group, prefix, zero_vector } => {
            shape_shifter(values, group, u32::try_from(shape_prefix(values.element(), prefix)).unwrap(), zero_vector)
        }
        Scheme::FixedLane(options) => lanes::encode(values, &options),
        Scheme::Scnn { group, run_bits, widths } => lanes::encode_streams(values, group, run_bits, widths),
        Scheme::Huffman => coded::encode(values),
        _ => unreachable!("no layout of '{scheme}'"),
    }
}

/// The codes of a tensor of the same element, kind and shape as `values`, whose codes are not looked at.
fn decode(values: &Values, scheme: &Scheme, bits: &[bool]) -> Vec<u16> {
    let frame = Frame { values, order: channel_major(values) };
    let mut bits = Reader { bits, at: 0 };
    match *scheme {
        Scheme::ZeroValue => {
            let mask: Vec<bool> = (0..values.len()).map(|_| bits.take(1) == 1).collect();
            mask.into_iter().map(|stored| if stored { raw(&mut bits, values.element()) } else { 0 }).collect()
        }
        Scheme::ZeroRuns { run_bits } => frame.read_zero_runs(&mut bits, run_bits),
        Scheme::ShapeShifter { group, prefix, zero_vector } => {
            let prefix = u32::try_from(shape_prefix(values.element(), prefix)).unwrap();
            read_shape_shifter(values, &mut bits, group, prefix, zero_vector)
        }
        Scheme::FixedLane(options) => lanes::decode(values, &options, &mut bits),
        Scheme::Scnn { group, run_bits, widths } => lanes::decode_streams(values, &mut bits, group, run_bits, widths),
        Scheme::Huffman => coded::decode(values, &mut bits),
        _ => unreachable!("no layout of '{scheme}'"),
    }
}

fn container(element: Element, code: u16) -> u64 {
    u64::from(code & (u16::MAX >> (16 - element.bits())))
}

fn raw(bits: &mut Reader<'_>, element: Element) -> u16 {
    let code = bits.take(element.bits());
    let code = if element == Element::I4 && code > 7 { code | 0xf0 } else { code };
    u16::try_from(code).unwrap()
}

fn zero_values(values: &Values) -> Vec<bool> {
    let mut out = Writer::default();
    let codes = || (0..values.len()).map(|i| values.code(i));
    codes().for_each(|code| out.push(u64::from(code != 0), 1));
    codes()
        .filter(|&code| code != 0)
        .for_each(|code| out.push(container(values.element(), code), values.element().bits()));
    out.0
}

impl Frame<'_> {
    fn zero_runs(&self, run_bits: u32) -> Vec<bool> {
        let (mut out, mut zeros, element) = (Writer::default(), 0_u64, self.values.element());
        for &place in &self.order {
            let code = self.values.code(place);
            // A count that is full stands with a zero.
            if code != 0 || zeros + 1 == 1 << run_bits {
                out.push(container(element, code), element.bits());
                out.push(zeros, run_bits);
                zeros = 0;
            } else {
                zeros += 1;
            }
        }
        out.0
    }

    fn read_zero_runs(&self, bits: &mut Reader<'_>, run_bits: u32) -> Vec<u16> {
        let (mut codes, mut at) = (vec![0; self.values.len()], 0);
        while bits.at < bits.bits.len() {
            let code = raw(bits, self.values.element());
            at += usize::try_from(bits.take(run_bits)).unwrap();
            codes[self.order[at]] = code;
            at += 1;
        }
        codes
    }
}

fn shape_shifter(values: &Values, group: usize, prefix: u32, zero_vector: bool) -> Vec<bool> {
    let (mut out, widths, element) = (Writer::default(), Widths::of(values), values.element());
    write_table(&mut out, &widths, element);
    for members in groups(values.len(), values.channels(), group) {
        let width = group_width(values, &widths, members.clone()).max(least_dense_width(element));
        out.push(width_number(element, width), prefix);
        let codes: Vec<u16> = members.map(|i| values.code(i)).collect();
        let member = |lane: usize| codes.get(lane).copied().unwrap_or(0);
        if zero_vector {
            (0..group).for_each(|lane| out.push(u64::from(member(lane) != 0), 1));
        }
        for lane in (0..group).filter(|&lane| !zero_vector || member(lane) != 0) {
            out.push(packed(&widths, element, member(lane), width), width);
        }
    }
    out.0
}

fn read_shape_shifter(
    values: &Values,
    bits: &mut Reader<'_>,
    group: usize,
    prefix: u32,
    zero_vector: bool,
) -> Vec<u16> {
    let (widths, element) = (read_table(bits, values), values.element());
    let mut codes = Vec::new();
    for members in groups(values.len(), values.channels(), group) {
        let width = number_width(element, bits.take(prefix));
        let stored: Vec<bool> = (0..group).map(|_| !zero_vector || bits.take(1) == 1).collect();
        let lanes: Vec<u16> = stored
            .into_iter()
            .map(|stored| if stored { unpacked(&widths, element, bits.take(width), width) } else { 0 })
            .collect();
        codes.extend_from_slice(&lanes[..members.len()]);
    }
    codes
}
