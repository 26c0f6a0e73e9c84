//! The cycles of a cut: first fill, turns, last drain.

use super::{Order, Schedule};
use crate::pack::machine::Stored;

use super::cuts::Case;

/// A set of the operand outside.
#[derive(Debug, Clone, Copy)]
pub(super) struct Set {
    /// Its bits.
    pub bits: u64,
    /// The first of its units of work (places or filters) and the end; all sets together are all units.
    pub units: (u64, u64),
}

/// A cut of a layer.
#[derive(Debug)]
pub(super) struct Cut<'a> {
    pub order: Order,
    pub sets: &'a [Set],
    /// Bits of all that streams past.
    pub inner: u64,
    /// Pieces of it, of which the first is brought before the first turn.
    pub pieces: u64,
    /// Bits of the first piece.
    pub first: u64,
    /// It stays, so only the first turn brings it.
    pub stays: bool,
    /// Maps never leave the chip.
    pub kept: bool,
}

/// The part of a whole number that belongs to some units: parts of all units add up to it.
pub(super) fn share(whole: u64, (first, end): (u64, u64), units: u64) -> u64 {
    let units = units.max(1);
    let before = |n: u64| match whole.checked_mul(n) {
        Some(product) => product / units,
        None => (u128::from(whole) * u128::from(n) / u128::from(units)) as u64,
    };
    before(end) - before(first)
}

impl Cut<'_> {
    /// Traffic and cycles.
    pub fn schedule(&self, case: &Case<'_>) -> Schedule {
        let units = self.sets.last().map_or(1, |set| set.units.1);
        let (maps_outside, bandwidth) = (self.order == Order::WindowsOutside, case.memory.bandwidth);
        // What of both operands goes over the interface at all.
        let (mut sets_move, mut inner, mut first) = (true, self.inner, self.first);
        if self.kept {
            sets_move = !maps_outside;
            (inner, first) = if maps_outside { (inner, first) } else { (0, 0) };
        }
        let set_bits = |t: usize| if sets_move { self.sets.get(t).map_or(0, |set| set.bits) } else { 0 };
        let results = if self.kept { 0 } else { case.stored.outputs };
        let last = self.sets.last().map_or(0, |set| share(results, set.units, units));
        let drained = last.div_ceil(self.pieces.max(1));

        let fill_bits = set_bits(0) + first;
        let (mut cycles, mut brought, mut streamed) = (0_u64, set_bits(0), 0_u64);
        for (t, set) in self.sets.iter().enumerate() {
            let past = if t == 0 || !self.stays { inner } else { 0 };
            streamed += past;
            brought += set_bits(t + 1);
            let mut moved = past + set_bits(t + 1) + share(results, set.units, units);
            moved -= if t == 0 { first } else { 0 };
            moved -= if t + 1 == self.sets.len() { drained } else { 0 };
            let compute = share(case.compute, set.units, units);
            let memory = bandwidth.cycles(moved);
            cycles += if case.memory.double_buffered { compute.max(memory) } else { compute + memory };
        }
        let (fill, drain) = (bandwidth.cycles(fill_bits), bandwidth.cycles(drained));
        let (weights, inputs) = if maps_outside { (streamed, brought) } else { (brought, streamed) };
        let traffic = Stored { weights, inputs, outputs: results };
        Schedule {
            order: self.order,
            sets: self.sets.len() as u64,
            traffic,
            cycles: cycles + fill + drain,
            fill,
            drain,
        }
    }
}
