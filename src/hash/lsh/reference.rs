//! What the kernels compute, as plainly as it can be said, on the host; and how good candidates are.

use std::collections::BTreeMap;

use super::functions::{Functions, PROBES};
use super::options::{Family, LshOptions, Policy};
use super::query::Query;
use crate::ops::random::{Stream, below, purpose};

/// What is so small that it counts as a zero.
const TINY: f32 = f32::MIN_POSITIVE;

impl Functions {
    /// The keys of a row, one a table.
    pub fn keys(&self, row: &[f32]) -> Vec<u32> {
        let codes: Vec<u32> = match self.options.family {
            Family::Dwta => (0..self.codes.len()).map(|bin| self.dense_code(row, bin)).collect(),
            Family::SimHash => self.codes.iter().map(|code| sign(row, self.hidden, code)).collect(),
        };
        let bits = self.options.family.bits();
        codes.chunks(self.options.codes).map(|codes| codes.iter().fold(0, |key, code| key << bits | code)).collect()
    }

    /// The place of the largest of a bin's elements that are no zeros, the lowest among equals.
    fn winner(&self, row: &[f32], bin: usize) -> Option<u32> {
        let mut best: Option<(f32, u32)> = None;
        for (place, &element) in (0..).zip(&self.codes[bin]) {
            let value = row[usize::from(element)];
            if value.abs() >= TINY && best.is_none_or(|(largest, _)| value > largest) {
                best = Some((value, place));
            }
        }
        best.map(|(_, place)| place)
    }

    fn dense_code(&self, row: &[f32], bin: usize) -> u32 {
        let number = u32::try_from(bin).unwrap_or(0);
        let others = (1..=PROBES).map(|probe| self.other(number, probe));
        std::iter::once(bin).chain(others).find_map(|bin| self.winner(row, bin)).unwrap_or(0)
    }
}

/// The sign of a projection of a row whose elements are cut to 21 bits under its largest exponent.
fn sign(row: &[f32], hidden: usize, code: &[u16]) -> u32 {
    let exponent = |v: f32| i32::try_from(v.to_bits() >> 23 & 255).unwrap_or(0);
    let top = row[..hidden].iter().map(|&v| exponent(v)).max().unwrap_or(0);
    let cut = |v: f32| if v.abs() < TINY { 0.0 } else { (f64::from(v) * 2.0_f64.powi(147 - top)).trunc() };
    let term = |&entry: &u16| {
        let value = cut(row[usize::from(entry / 2)]);
        if entry % 2 == 1 { -value } else { value }
    };
    u32::from(code.iter().map(term).sum::<f64>() > 0.0)
}

/// Hash tables on the host.
#[derive(Debug, Clone)]
pub struct HostTables {
    options: LshOptions,
    /// For each table, the labels of each key with where their bucket begins among all labels, which are ordered by key and then label.
    tables: Vec<BTreeMap<u32, (usize, Vec<u32>)>>,
    keys: Vec<Vec<u32>>,
}

impl HostTables {
    /// Tables of rows of `width` elements.
    pub fn new(functions: &Functions, rows: &[f32], width: usize) -> Self {
        let keys: Vec<Vec<u32>> = rows.chunks_exact(width).map(|row| functions.keys(row)).collect();
        let mut tables = vec![BTreeMap::<u32, (usize, Vec<u32>)>::new(); functions.options.tables];
        for (label, keys) in (0..).zip(&keys) {
            for (table, &key) in tables.iter_mut().zip(keys) {
                table.entry(key).or_default().1.push(label);
            }
        }
        for table in &mut tables {
            let mut first = 0;
            for (begin, bucket) in table.values_mut() {
                *begin = first;
                first += bucket.len();
            }
        }
        Self { options: functions.options.clone(), tables, keys }
    }

    /// The keys of a label, one a table.
    pub fn keys(&self, label: usize) -> &[u32] {
        &self.keys[label]
    }

    /// Labels of a table by ascending key.
    pub fn ids(&self, table: usize) -> Vec<u32> {
        self.tables[table].values().flat_map(|(_, bucket)| bucket.iter().copied()).collect()
    }

    /// The labels of a key's bucket.
    pub fn bucket(&self, table: usize, key: u32) -> &[u32] {
        self.tables[table].get(&key).map_or(&[], |(_, bucket)| bucket)
    }

    /// What a look-up of a vector with these keys gives.
    pub fn query(&self, keys: &[u32], query: &Query) -> Vec<u32> {
        let [factor, summand] = query.order(&self.options).map(|n| n as usize);
        let order = (0..query.tables).map(|s| (factor * s + summand) % self.options.tables);
        order.flat_map(|table| self.given(table, keys[table], query)).collect()
    }

    /// The ids that a bucket gives, filled up.
    fn given(&self, table: usize, key: u32, query: &Query) -> Vec<u32> {
        let most = query.bucket;
        let mut ids = match self.tables[table].get(&key) {
            None => Vec::new(),
            Some((_, bucket)) if bucket.len() <= most => bucket.clone(),
            Some((first, bucket)) => {
                self.drawn(table, *first, query, bucket.len()).iter().map(|&i| bucket[i]).collect()
            }
        };
        ids.resize(most, u32::MAX);
        ids
    }

    /// The places that a bucket of more labels than it gives is asked for.
    fn drawn(&self, table: usize, first: usize, query: &Query, length: usize) -> Vec<usize> {
        let most = query.bucket;
        let stream = Stream::new(self.options.seed);
        let number = |n: usize| u32::try_from(n).unwrap_or(0);
        let block =
            |block: usize| stream.block([number(first), number((table << 16) + block), query.step, purpose::BUCKET]);
        let rotation = below(block(0)[0], length);
        match self.options.policy {
            Policy::Fifo => (length - most..length).collect(),
            Policy::Window => (0..most).map(|j| (rotation + j) % length).collect(),
            Policy::Reservoir => {
                let share = |j: usize| {
                    let (low, high) = (j * length / most, (j + 1) * length / most);
                    low + below(block(1 + j / 4)[j % 4], high - low)
                };
                (0..most).map(|j| (rotation + share(j)) % length).collect()
            }
        }
    }

    /// The `n` labels that meet a label in most of the tables that are read and in at least `least`, filled up; among equals
    /// in an order that prefers none.
    pub fn neighbours(&self, label: usize, n: usize, least: usize, query: &Query) -> Vec<u32> {
        let mut met = BTreeMap::<u32, usize>::new();
        for id in self.query(&self.keys[label], query) {
            if id != u32::MAX && id as usize != label {
                *met.entry(id).or_default() += 1;
            }
        }
        let mut found: Vec<(usize, u32)> = met.into_iter().map(|(id, count)| (count, id)).collect();
        found.retain(|&(count, _)| count >= least);
        found.sort_by_key(|&(count, id)| (usize::MAX - count, id.wrapping_mul(0x9e37_79b1) & 0xff_ffff));
        found.iter().map(|&(_, id)| id).chain(std::iter::repeat(u32::MAX)).take(n).collect()
    }
}

/// The share of `wanted` ids, `k` a vector, that are among the candidates of the same vector, `c` of them.
pub fn recall(wanted: &[u32], k: usize, candidates: &[u32], c: usize) -> f64 {
    let mut found = 0;
    for (wanted, candidates) in wanted.chunks_exact(k.max(1)).zip(candidates.chunks_exact(c.max(1))) {
        found += wanted.iter().filter(|id| candidates.contains(id)).count();
    }
    found as f64 / wanted.len().max(1) as f64
}

/// Distinct ids among the candidates of a vector.
pub fn distinct(candidates: &[u32]) -> usize {
    let mut ids: Vec<u32> = candidates.iter().copied().filter(|&id| id != u32::MAX).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.len()
}
