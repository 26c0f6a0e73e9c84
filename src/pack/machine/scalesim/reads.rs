//! The buffers of both operands.
//!
//! The original keeps sets of addresses and looks a wanted one up in each of them. Here every address knows in which sets it lies, so that a
//! look-up is one comparison (`CALC`) or a search in a few numbers (`USER`).

use super::demand::Operand;

/// Filled from DRAM: first and last cycle, and values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traffic {
    pub start: i64,
    pub stop: i64,
    pub values: u64,
}

/// A buffer that serves what a cycle wants.
pub(super) trait Lookup {
    /// How many cycles later than a hit the addresses are served, and whether there is one that is no hole.
    fn serve(&mut self, cycle: i64, addresses: impl Iterator<Item = u32>) -> (i64, bool);
    /// Whether nothing will ever miss again, and holes play no part: then there is no need to ask.
    fn is_settled(&self) -> bool;
    /// Fetches what the original fetches when a layer ends.
    fn finish(&mut self);
    fn traffic(&self) -> Traffic;
    /// Why the original would have ended with an exception.
    fn failure(&self) -> Option<&'static str>;
}

/// A buffer has a hundred sets, half of them active.
const SETS: u32 = 50;
/// Values a cycle of the first fill in `CALC` mode.
const FILL: i64 = 10;
/// Cycles from a request to DRAM to its answer.
const LATENCY: i64 = 1;
const HOLE: u32 = u32::MAX;

/// `CALC` mode: reads never stall; bandwidth is what would have been needed. New addresses are collected in sets; when the window of 50 sets
/// is full, all 50 have been fetched by that cycle, beginning when the ones before them were complete.
#[derive(Debug)]
pub(super) struct Filling {
    /// 1 + the set that an address came into last, 0 if it never did.
    set_of: Vec<u32>,
    per_set: u64,
    /// Addresses that have not come yet, if their number is known.
    unseen: Option<usize>,
    set: u32,
    in_set: u64,
    /// First set of the window.
    window: u32,
    /// First set that is not fetched.
    unfetched: u32,
    first_request: Option<i64>,
    /// Cycles in which the next 50 sets are fetched.
    span: [i64; 2],
    traffic: Option<Traffic>,
    failure: Option<&'static str>,
}

impl Filling {
    pub fn new(operand: &Operand, kib: u64) -> Self {
        let mut set_of = vec![0; operand.size];
        for (set, _) in set_of.iter_mut().zip(&operand.holes).filter(|(_, hole)| **hole) {
            *set = HOLE;
        }
        Self {
            set_of,
            per_set: kib * 1024 / 100,
            unseen: operand.wanted,
            set: 0,
            in_set: 0,
            window: 0,
            unfetched: 0,
            first_request: None,
            span: [-2, -1],
            traffic: None,
            failure: None,
        }
    }

    /// A set is full: at the end of the window, its newest half is fetched and the oldest forgotten.
    fn close_set(&mut self, cycle: i64) {
        self.set += 1;
        self.in_set = 0;
        if self.set < self.window + SETS {
            return;
        }
        let values = u64::from(SETS) * self.per_set;
        if self.traffic.is_none() {
            let end = self.first_request.unwrap_or(0) - 1 - LATENCY;
            self.span = [end - (values as i64 + FILL - 1) / FILL + 1, end];
        }
        self.fetch(values);
        self.unfetched = self.set;
        self.window += SETS;
        self.span = [self.span[1] + 1, cycle];
    }

    fn fetch(&mut self, values: u64) {
        let [start, end] = self.span;
        if end < start {
            self.failure = Some("a cycle wants more than half a buffer, so that a fetch has no time");
        }
        let traffic = self.traffic.get_or_insert(Traffic { start: start + LATENCY, stop: 0, values: 0 });
        traffic.stop = end + LATENCY;
        traffic.values += values;
    }
}

impl Lookup for Filling {
    fn serve(&mut self, cycle: i64, addresses: impl Iterator<Item = u32>) -> (i64, bool) {
        let mut asked = false;
        for address in addresses {
            let set = self.set_of[address as usize];
            if set == HOLE {
                continue;
            }
            asked = true;
            if set > self.window {
                continue;
            }
            self.first_request.get_or_insert(cycle);
            if set == 0 {
                self.unseen = self.unseen.map(|unseen| unseen - 1);
            }
            self.set_of[address as usize] = self.set + 1;
            self.in_set += 1;
            if self.in_set == self.per_set {
                self.close_set(cycle);
            }
        }
        (0, asked)
    }

    fn is_settled(&self) -> bool {
        self.unseen == Some(0) && self.window == 0
    }

    fn finish(&mut self) {
        if self.traffic.is_none() {
            let sets = i64::from(self.set) + i64::from(self.in_set > 0);
            let end = -1 - LATENCY;
            self.span = [end - (sets * self.per_set as i64 + FILL - 1) / FILL + 1, end];
        }
        self.fetch(u64::from(self.set - self.unfetched) * self.per_set + self.in_set);
    }

    fn traffic(&self) -> Traffic {
        self.traffic.unwrap_or(Traffic { start: 0, stop: 0, values: 0 })
    }

    fn failure(&self) -> Option<&'static str> {
        self.failure
    }
}

/// `USER` mode: everything that will be wanted stands in one long order, cut into lines; a window of lines is on chip and goes round. A miss
/// moves it on by half a buffer and waits for that.
#[derive(Debug)]
pub(super) struct Fetching {
    /// Lines of address `a` are `lines[starts[a]..starts[a + 1]]`, ascending; none for holes.
    starts: Vec<u32>,
    lines: Vec<u32>,
    count: u32,
    /// First line on chip, and the one behind the last.
    window: [u32; 2],
    /// Lines on chip, and lines that a fetch brings.
    active: u32,
    fetched: u32,
    /// Requests of a fetch, each of `bandwidth` values.
    requests: i64,
    bandwidth: u64,
    last: i64,
    settled: bool,
    traffic: Traffic,
}

impl Fetching {
    pub fn new(operand: &Operand, kib: u64, bandwidth: u64) -> Self {
        let half = kib * 1024 / 2;
        let per_line = (kib * 1024).div_ceil(100);
        let (starts, lines, count) = lines_of(operand, per_line);
        let most = half.div_ceil(per_line) as u32;
        let active = most.min(count);
        let slots = operand.lanes.len().div_ceil(operand.width) * operand.width * operand.steps.len();
        let requests = half.div_ceil(bandwidth);
        let first = requests.min((slots as u64).div_ceil(bandwidth));
        Self {
            starts,
            lines,
            count,
            window: [0, active],
            active,
            fetched: most.min(count - active),
            requests: requests as i64,
            bandwidth,
            last: -1,
            settled: active == count && operand.wanted.is_some(),
            traffic: Traffic { start: -(first as i64), stop: -1, values: first * bandwidth },
        }
    }

    fn is_active(&self, lines: &[u32]) -> bool {
        let [start, end] = self.window;
        let at = lines.partition_point(|&line| line < start);
        if start < end { lines.get(at).is_some_and(|&line| line < end) } else { at < lines.len() || lines[0] < end }
    }

    /// Quirk: a fetch begins when the one before ended, even if that is long ago.
    fn fetch(&mut self) {
        let start = (self.window[0] + self.fetched) % self.count;
        self.window = [start, (start + self.active) % self.count];
        self.last += self.requests + LATENCY;
        self.traffic.stop = self.last;
        self.traffic.values += self.requests as u64 * self.bandwidth;
    }
}

impl Lookup for Fetching {
    fn serve(&mut self, cycle: i64, addresses: impl Iterator<Item = u32>) -> (i64, bool) {
        let (mut asked, mut late) = (false, 0);
        for address in addresses {
            let at = address as usize;
            let (start, end) = (self.starts[at] as usize, self.starts[at + 1] as usize);
            if start == end {
                continue;
            }
            asked = true;
            while !self.is_active(&self.lines[start..end]) {
                self.fetch();
                // Quirk: time that is left over is taken back, and time that is missing is added twice.
                let wait = self.last - (cycle + 1 + late);
                late += wait + wait.max(0);
            }
        }
        (late, asked)
    }

    fn is_settled(&self) -> bool {
        self.settled
    }

    fn finish(&mut self) {}

    fn traffic(&self) -> Traffic {
        self.traffic
    }

    fn failure(&self) -> Option<&'static str> {
        None
    }
}

/// Lines in which each address stands, and the number of lines (the last may be empty).
fn lines_of(operand: &Operand, per_line: u64) -> (Vec<u32>, Vec<u32>, u32) {
    let mut starts = vec![0_u32; operand.size + 1];
    in_order(operand, |address| starts[address as usize + 1] += 1);
    for i in 1..starts.len() {
        starts[i] += starts[i - 1];
    }
    let mut lines = vec![0; starts[operand.size] as usize];
    let mut next = starts.clone();
    let (mut line, mut in_line) = (0, 0);
    in_order(operand, |address| {
        let slot = &mut next[address as usize];
        lines[*slot as usize] = line;
        *slot += 1;
        in_line += 1;
        if in_line == per_line {
            (line, in_line) = (line + 1, 0);
        }
    });
    (starts, lines, line + 1)
}

/// Calls with every address in the order of fetching, holes left out: folds of lanes one below the other, a row a step; row after row where
/// an operand is loaded, along the diagonals where it moves.
fn in_order(operand: &Operand, mut each: impl FnMut(u32)) {
    let (width, depth) = (operand.width, operand.steps.len());
    let rows = operand.lanes.len().div_ceil(width) * depth;
    let mut visit = |row: usize, column: usize| {
        if let Some(&lane) = operand.lanes.get(row / depth * width + column) {
            let address = lane + operand.steps[row % depth];
            if !operand.is_hole(address) {
                each(address);
            }
        }
    };
    if operand.moves {
        for diagonal in 0..rows + width - 1 {
            for column in (diagonal + 1).saturating_sub(rows)..width.min(diagonal + 1) {
                visit(diagonal - column, column);
            }
        }
    } else {
        for row in 0..rows {
            for column in 0..width {
                visit(row, column);
            }
        }
    }
}
