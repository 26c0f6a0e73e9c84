//! The buffer of results: filled in lines of the width of the write port, drained half a buffer at a time.

use super::reads::Traffic;
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Writes {
    bandwidth: u64,
    /// Values that a drain is meant to bring out.
    drain: u64,
    /// A drain begins when there is less room than this.
    room: i64,
    free: i64,
    in_line: u64,
    /// Lines closed so far, and lines drained.
    closed: u64,
    drained: u64,
    /// Lines that were closed before they were full, and their values.
    partial: VecDeque<(u64, u64)>,
    drain_end: i64,
    traffic: Option<Traffic>,
}

impl Writes {
    pub fn new(kib: u64, bandwidth: u64) -> Self {
        let size = kib * 1024;
        Self {
            bandwidth,
            drain: size / 2,
            room: (size - size / 2) as i64,
            free: size as i64,
            in_line: 0,
            closed: 0,
            drained: 0,
            partial: VecDeque::new(),
            drain_end: 0,
            traffic: None,
        }
    }

    /// Takes results in a cycle; the cycle in which the last one is in.
    pub fn serve(&mut self, mut cycle: i64, mut count: u64) -> i64 {
        while count > 0 {
            let draining = cycle < self.drain_end;
            // The value after which something happens: there is no room while a drain runs, or a drain begins.
            let until = (if draining { self.free } else { self.free - self.room + 1 }).max(1).cast_unsigned();
            self.add(count.min(until));
            if count < until {
                break;
            }
            count -= until;
            if draining {
                cycle = self.drain_end;
            } else {
                self.close();
                self.drain_end = self.drain_from(cycle);
            }
        }
        cycle
    }

    fn add(&mut self, count: u64) {
        self.free -= count as i64;
        let values = self.in_line + count;
        self.closed += values / self.bandwidth;
        self.in_line = values % self.bandwidth;
    }

    /// Closes the line in hand.
    fn close(&mut self) {
        if self.in_line > 0 {
            self.partial.push_back((self.closed, self.in_line));
            self.closed += 1;
            self.in_line = 0;
        }
    }

    /// Drains a line a cycle; the cycle of the last one. Quirk: lines that were closed early count as full, unless they are the last.
    fn drain_from(&mut self, cycle: i64) -> i64 {
        let end = self.closed.min(self.drained + self.drain.div_ceil(self.bandwidth));
        let lines = end - self.drained;
        let mut values = lines * self.bandwidth;
        while let Some(&(line, filled)) = self.partial.front().filter(|(line, _)| *line < end) {
            self.partial.pop_front();
            if line + 1 == end {
                values -= self.bandwidth - filled;
            }
        }
        self.drained = end;
        self.free += values as i64;
        let last = cycle + lines as i64 - 1;
        let traffic = self.traffic.get_or_insert(Traffic { start: cycle, stop: last, values: 0 });
        (traffic.start, traffic.stop) = (traffic.start.min(cycle), traffic.stop.max(last));
        traffic.values += values;
        last
    }

    /// Drains what is left.
    pub fn finish(&mut self, mut cycle: i64) {
        self.close();
        while self.drained < self.closed {
            cycle = self.drain_from(cycle) + 1;
        }
    }

    pub fn traffic(&self) -> Traffic {
        self.traffic.unwrap_or(Traffic { start: 0, stop: 0, values: 0 })
    }
}
