//! Active sets on the host, written to be read: what the kernels choose, bit for bit.

use std::collections::{BTreeMap, BTreeSet};

use super::shuffle::{Order, mix, what};
use super::{Choice, SampleChoice};
use crate::ops::random::Stream;

/// Counts of candidates from here on are alike in a shared set, and in the set of a sample.
const CAPS: [u32; 2] = [2047, 255];

/// The set shared by a batch: its ids, ascending, and how many are labels, candidates and fill. `candidates` has rows of
/// the same length and how to choose of them.
pub fn shared(
    labels: usize,
    size: usize,
    seed: u64,
    step: u32,
    batch: &[u32],
    candidates: Option<(&[Vec<u32>], Choice)>,
) -> (Vec<u32>, [u32; 4]) {
    let stream = Stream::new(seed);
    let mut set: BTreeSet<u32> = batch.iter().copied().collect();
    let of_labels = set.len();
    if let Some((rows, choice)) = candidates {
        let ties = Order::new(labels, stream, what::TIES, step);
        // Of each candidate how often it is returned and where first, going through all rows' first entries, then their second.
        let mut found = BTreeMap::new();
        let columns = rows.first().map_or(0, Vec::len);
        for c in 0..columns {
            for (r, row) in rows.iter().enumerate() {
                if (row[c] as usize) < labels && !set.contains(&row[c]) {
                    let (times, _) = found.entry(row[c]).or_insert((0_u32, c * rows.len() + r));
                    *times += 1;
                }
            }
        }
        let mut best: Vec<u32> = found.keys().copied().collect();
        best.sort_by_key(|id| {
            let (times, first) = found[id];
            match choice {
                Choice::First => (0, first),
                Choice::Most => (CAPS[0] - times.min(CAPS[0]), ties.scramble(*id) as usize),
                Choice::Seeded => (0, ties.scramble(*id) as usize),
            }
        });
        set.extend(best.into_iter().take(size - of_labels));
    }
    let chosen = set.len();
    fill(&mut set, size, &Order::new(labels, stream, what::FILL, step));
    let counts = [of_labels, chosen - of_labels, set.len() - chosen, set.len()];
    (set.into_iter().collect(), counts.map(|n| u32::try_from(n).unwrap_or(u32::MAX)))
}

/// Labels in an order until the set has its size.
fn fill(set: &mut BTreeSet<u32>, size: usize, order: &Order) {
    for q in 0.. {
        if set.len() == size {
            return;
        }
        set.insert(order.at(q));
    }
}

/// The set of one sample: its ids, ascending, and how many are labels, candidates and fill. `candidates` are in groups of
/// the same length.
pub fn sample(
    labels: usize,
    size: usize,
    (seed, step, number): (u64, u32, u32),
    own: &[u32],
    candidates: Option<(&[u32], usize, SampleChoice)>,
) -> (Vec<u32>, [u32; 3]) {
    let stream = Stream::new(seed);
    let salt = mix(number ^ 0x9e37_79b9);
    let mut set: BTreeSet<u32> = own.iter().copied().collect();
    let of_labels = set.len();
    if let Some((entries, groups, choice)) = candidates {
        let visit: Vec<u32> = visit(entries, groups, stream, step, salt);
        let mut times = BTreeMap::new();
        for &id in visit.iter().filter(|&&id| (id as usize) < labels) {
            *times.entry(id).or_insert(0_u32) += 1;
        }
        // Where counts are alike, the order of the visit decides.
        let mut best: Vec<u32> = Vec::new();
        for &id in visit.iter().filter(|id| times.contains_key(id)) {
            if !set.contains(&id) && !best.contains(&id) {
                best.push(id);
            }
        }
        match choice {
            SampleChoice::First => {}
            SampleChoice::AtLeast(least) => best.retain(|id| times[id] >= least),
            SampleChoice::Most => best.sort_by_key(|id| CAPS[1] - times[id].min(CAPS[1])),
        }
        set.extend(best.into_iter().take(size - of_labels));
    }
    let chosen = set.len();
    fill(&mut set, size, &Order::new(labels, stream, what::FILL, step).salted(salt));
    let counts = [of_labels, chosen - of_labels, set.len() - chosen].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    (set.into_iter().collect(), counts)
}

/// Candidates in the order in which a sample visits them: groups in a random order, and the entries of each too.
fn visit(entries: &[u32], groups: usize, stream: Stream, step: u32, salt: u32) -> Vec<u32> {
    let width = entries.len() / groups;
    let of_groups = Order::new(groups, stream, what::GROUPS, step).salted(salt);
    let of_entries = Order::new(width, stream, what::ENTRIES, step);
    let mut visit = Vec::new();
    for place in 0..groups {
        let group = of_groups.at(u32::try_from(place).unwrap_or(u32::MAX));
        let order = of_entries.salted(mix(salt ^ group));
        for place in 0..width {
            let entry = order.at(u32::try_from(place).unwrap_or(u32::MAX));
            visit.push(entries[group as usize * width + entry as usize]);
        }
    }
    visit
}
