//! Layouts in lanes: a memory row has a container's width in every lane, all lanes go on together.

use super::super::reference::{group_width, groups, stream_items, units};
use super::super::width::{Widths, least_width, prefix_bits};
use super::super::{FixedLane, lane_prefix};
use super::{Reader, Writer, container, number_width, packed, raw, read_table, unpacked, width_number, write_table};
use crate::pack::values::{Element, Values};

/// Lanes that grow together.
struct Memory {
    lanes: Vec<Vec<bool>>,
    container: usize,
}

impl Memory {
    fn new(lanes: usize, element: Element) -> Self {
        Self { lanes: vec![Vec::new(); lanes], container: element.bits() as usize }
    }

    fn push(&mut self, members: &[u64], width: u32) {
        for (lane, bits) in self.lanes.iter_mut().enumerate() {
            let value = members.get(lane).copied().unwrap_or(0);
            bits.extend((0..width).map(|bit| value >> bit & 1 == 1));
        }
    }

    fn bits(&self) -> usize {
        self.lanes[0].len()
    }

    fn close_row(&mut self) {
        for lane in &mut self.lanes {
            lane.resize(lane.len().next_multiple_of(self.container), false);
        }
    }

    /// Row after row, lane after lane.
    fn append(&self, out: &mut Writer) {
        for row in (0..self.bits()).step_by(self.container) {
            self.lanes.iter().for_each(|lane| out.0.extend_from_slice(&lane[row..row + self.container]));
        }
    }

    fn read(bits: &[bool], lanes: usize, element: Element) -> Self {
        let mut memory = Self::new(lanes, element);
        for row in bits.chunks(lanes * memory.container) {
            row.chunks(memory.container).zip(&mut memory.lanes).for_each(|(part, lane)| lane.extend_from_slice(part));
        }
        memory
    }

    fn value(&self, lane: usize, at: usize, width: u32) -> u64 {
        Reader { bits: &self.lanes[lane], at }.take(width)
    }
}

/// The number of a width that may be 0.
fn number(element: Element, width: u32, zero_width: bool) -> u64 {
    if width == 0 { 0 } else { width_number(element, width) + u64::from(zero_width) }
}

fn from_number(element: Element, number: u64, zero_width: bool) -> u32 {
    match (number, zero_width) {
        (0, true) => 0,
        (_, true) => number_width(element, number - 1),
        (_, false) => number_width(element, number),
    }
}

/// Largest exponent, pointers, widths, and memory rows.
pub(super) fn encode(values: &Values, options: &FixedLane) -> Vec<bool> {
    let (widths, element) = (Widths::of(values), values.element());
    let prefix = u32::try_from(lane_prefix(element, options)).unwrap();
    let (unit, segment) = units(values, options.restart);
    let row = values.len() / values.rows();
    let (mut prefixes, mut pointers) = (Writer::default(), Writer::default());
    let (mut memory, mut previous) = (Memory::new(options.group, element), None);
    for members in groups(values.len(), unit, options.group) {
        if members.start.is_multiple_of(segment) {
            memory.close_row();
        }
        if members.start.is_multiple_of(row) {
            pointers.push(memory.bits() as u64, options.pointer);
        }
        let width = group_width(values, &widths, members.clone()).max(least_width(element, options.zero_width));
        if options.same_as_previous {
            prefixes.push(u64::from(previous == Some(width)), 1);
        }
        if !options.same_as_previous || previous != Some(width) {
            prefixes.push(number(element, width, options.zero_width), prefix);
        }
        previous = Some(width);
        let bits: Vec<u64> = members.map(|i| packed(&widths, element, values.code(i), width)).collect();
        memory.push(&bits, width);
    }
    memory.close_row();
    let mut out = Writer::default();
    write_table(&mut out, &widths, element);
    out.0.extend([pointers.0, prefixes.0].concat());
    memory.append(&mut out);
    out.0
}

pub(super) fn decode(values: &Values, options: &FixedLane, bits: &mut Reader<'_>) -> Vec<u16> {
    let (widths, element) = (read_table(bits, values), values.element());
    let prefix = u32::try_from(lane_prefix(element, options)).unwrap();
    let (unit, _) = units(values, options.restart);
    let row = values.len() / values.rows();
    let pointers: Vec<u64> = (0..values.rows()).map(|_| bits.take(options.pointer)).collect();
    let mut previous = 0;
    let mut group_widths = Vec::new();
    for _ in groups(values.len(), unit, options.group) {
        if !options.same_as_previous || bits.take(1) == 0 {
            previous = from_number(element, bits.take(prefix), options.zero_width);
        }
        group_widths.push(previous);
    }
    let memory = Memory::read(&bits.bits[bits.at..], options.group, element);
    let (mut at, mut codes) = (0, vec![0; values.len()]);
    for (members, width) in groups(values.len(), unit, options.group).zip(group_widths) {
        if members.start.is_multiple_of(row) {
            // Where rows end before the next restart inside, the pointer alone says where a row begins.
            at = usize::try_from(pointers[members.start / row]).unwrap();
        } else if members.start.is_multiple_of(units(values, options.restart).1) {
            at = at.next_multiple_of(element.bits() as usize);
        }
        for (lane, i) in members.enumerate() {
            codes[i] = unpacked(&widths, element, memory.value(lane, at, width), width);
        }
        at += width as usize;
    }
    codes
}

/// Largest exponent; for each stream the number of its items, 16 bits; all counts of zeros; all widths; memory rows.
pub(super) fn encode_streams(values: &Values, group: usize, run_bits: u32, with_widths: bool) -> Vec<bool> {
    let (widths, element) = (Widths::of(values), values.element());
    let [mut pointers, mut counts, mut prefixes] = [(); 3].map(|()| Writer::default());
    let mut memory = Memory::new(group, element);
    for channel in 0..values.channels() {
        let items = stream_items(values, channel, run_bits);
        pointers.push(items.len() as u64, 16);
        items.iter().for_each(|&(_, zeros)| counts.push(zeros as u64, run_bits));
        for members in items.chunks(group) {
            let codes: Vec<u16> = members.iter().map(|(place, _)| place.map_or(0, |i| values.code(i))).collect();
            let largest = codes.iter().map(|&code| widths.non_zero_width(code)).max().unwrap();
            let width = largest.max(least_width(element, false));
            if with_widths {
                prefixes.push(width_number(element, width), prefix_bits(element, false));
                memory.push(&codes.iter().map(|&c| packed(&widths, element, c, width)).collect::<Vec<_>>(), width);
            } else {
                memory.push(&codes.iter().map(|&c| container(element, c)).collect::<Vec<_>>(), element.bits());
            }
        }
        memory.close_row();
    }
    let mut out = Writer::default();
    if with_widths {
        write_table(&mut out, &widths, element);
    }
    out.0.extend([pointers.0, counts.0, prefixes.0].concat());
    memory.append(&mut out);
    out.0
}

pub(super) fn decode_streams(
    values: &Values,
    bits: &mut Reader<'_>,
    group: usize,
    run_bits: u32,
    with_widths: bool,
) -> Vec<u16> {
    let element = values.element();
    let widths = if with_widths { read_table(bits, values) } else { Widths::of(values) };
    let lengths: Vec<u64> = (0..values.channels()).map(|_| bits.take(16)).collect();
    let counts: Vec<Vec<u64>> = lengths.iter().map(|&n| (0..n).map(|_| bits.take(run_bits)).collect()).collect();
    let read_width = |bits: &mut Reader<'_>| match with_widths {
        true => number_width(element, bits.take(prefix_bits(element, false))),
        false => element.bits(),
    };
    let group_widths: Vec<Vec<u32>> =
        counts.iter().map(|items| items.chunks(group).map(|_| read_width(bits)).collect()).collect();
    let memory = Memory::read(&bits.bits[bits.at..], group, element);
    let (mut codes, mut at) = (vec![0; values.len()], 0);
    for (channel, (items, group_widths)) in counts.iter().zip(&group_widths).enumerate() {
        let mut position = 0;
        for (members, &width) in items.chunks(group).zip(group_widths) {
            for (lane, &zeros) in members.iter().enumerate() {
                position += usize::try_from(zeros).unwrap();
                let stored = memory.value(lane, at, width);
                let code = match with_widths {
                    true => unpacked(&widths, element, stored, width),
                    false => raw(&mut Reader { bits: &memory.lanes[lane], at }, element),
                };
                codes[position * values.channels() + channel] = code;
                position += 1;
            }
            at += width as usize;
        }
        at = at.next_multiple_of(element.bits() as usize);
    }
    codes
}
