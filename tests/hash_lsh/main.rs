//! Hashing, hash tables, look-ups and neighbours: the device against the host twin, bit for bit.
#![cfg(feature = "hash")]

#[path = "../common/mod.rs"]
mod common;
mod keys;
mod neighbours;
mod quality;
mod tables;

use common::{Random, broken};
use wavehull::gpu::Recording;
use wavehull::hash::lsh::reference::HostTables;
use wavehull::hash::lsh::{Family, Hasher, LshOptions, LshTables, Policy, Query, QueryWorkspace};
use wavehull::hash::{Touched, width};
use wavehull::{Control, Gpu, Tensor};

fn on_both(test: &str, check: impl Fn(&Gpu)) {
    for checked in [false, true] {
        if let Some(gpu) = common::device(test, checked) {
            check(gpu);
        }
    }
}

fn options(family: Family, codes: usize, tables: usize) -> LshOptions {
    LshOptions { family, codes, tables, bucket: 4, policy: Policy::Reservoir, seed: 0x0123_4567_89ab_cdef }
}

/// Floats that break comparisons, sums and scales.
const HOSTILE: [f32; 14] = [
    0.0,
    -0.0,
    1e-45,
    -1e-45,
    1.1e-38,
    -1.1e-38,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    f32::MAX,
    f32::MIN,
    1.0,
    1.0,
    -1.0,
    3e38,
];

/// Rows of which every n-th is hostile, all zeros, all equal, sparse or negative; what lies behind `hidden` is large.
fn rows(n: usize, hidden: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let mut all = Vec::new();
    for i in 0..n {
        let mut row = random.floats(hidden);
        match i % 9 {
            1 => row.iter_mut().for_each(|v| *v = HOSTILE[random.below(HOSTILE.len())]),
            2 => row.fill(if random.coin() { 0.0 } else { -0.0 }),
            3 => row.fill(-0.5),
            4 => row.iter_mut().for_each(|v| *v = v.max(0.0)),
            5 => row.iter_mut().for_each(|v| *v = if random.below(12) == 0 { *v } else { 0.0 }),
            6 => row.iter_mut().for_each(|v| *v = (*v * 3.0).round()),
            7 => row.iter_mut().for_each(|v| *v = -v.abs() * 1e-30),
            _ => {}
        }
        row.resize(width(hidden), 1e30);
        all.extend(row);
    }
    all
}

/// Tables on the device and their twin.
struct Built {
    options: LshOptions,
    hidden: usize,
    rows: Vec<f32>,
    on: Tensor,
    hasher: Hasher,
    tables: LshTables,
    twin: HostTables,
}

impl Built {
    fn new(gpu: &Gpu, options: &LshOptions, hidden: usize, rows: &[f32], group_bytes: u64) -> Self {
        let n = rows.len() / width(hidden);
        let on = common::tensor(gpu, &[n, width(hidden)], rows);
        let hasher = Hasher::new(gpu, options, hidden, 3).unwrap();
        let tables = LshTables::with(gpu, n, options, group_bytes).unwrap();
        let mut recording = Recording::new();
        tables.record_build(&mut recording, gpu.caps(), &hasher, &on).unwrap();
        gpu.run(&recording, &Control::default()).unwrap();
        let twin = HostTables::new(hasher.functions(), rows, width(hidden));
        Self { options: options.clone(), hidden, rows: rows.to_vec(), on, hasher, tables, twin }
    }

    /// Keys and ids of all tables.
    fn contents(&self, gpu: &Gpu) -> [Vec<u32>; 2] {
        let host = |t: &Tensor<u32>| t.to_array(gpu).unwrap().into_iter();
        let keys = self.tables.parts().flat_map(|(keys, _)| host(keys)).collect();
        [keys, self.tables.parts().flat_map(|(_, ids)| host(ids)).collect()]
    }

    fn contents_of(&self, twin: &HostTables) -> [Vec<u32>; 2] {
        let labels = self.tables.labels();
        let keys = (0..self.options.tables).flat_map(|t| (0..labels).map(move |i| twin.keys(i)[t])).collect();
        [keys, (0..self.options.tables).flat_map(|t| twin.ids(t)).collect()]
    }

    /// Changes some rows, of which the listed ones are hashed again.
    fn check_rehash(&self, gpu: &Gpu, changed: &[u32]) {
        let mut rows = self.rows.clone();
        let columns = width(self.hidden);
        for &row in changed {
            let fresh = Random::new(u64::from(row) + 99).floats(self.hidden);
            rows[row as usize * columns..][..self.hidden].copy_from_slice(&fresh);
        }
        self.on.write(gpu, &rows).unwrap();
        let touched = pollster::block_on(Touched::uninit_async(gpu, changed.len() + 5)).unwrap();
        touched.write_ids(gpu, changed).unwrap();
        let mut recording = Recording::new();
        self.tables.record_rehash(&mut recording, gpu.caps(), &self.hasher, &self.on, &touched).unwrap();
        self.tables.record_sort(&mut recording, gpu.caps()).unwrap();
        gpu.run(&recording, &Control::default()).unwrap();
        let twin = HostTables::new(self.hasher.functions(), &rows, columns);
        assert!(self.contents(gpu) == self.contents_of(&twin), "{} rows hashed again", changed.len());
        // Back to what the twin has.
        self.on.write(gpu, &self.rows).unwrap();
        let mut recording = Recording::new();
        self.tables.record_build(&mut recording, gpu.caps(), &self.hasher, &self.on).unwrap();
        gpu.run(&recording, &Control::default()).unwrap();
    }

    /// Changes each third row a little and counts.
    fn check_drift(&self, gpu: &Gpu, every: usize) {
        let mut rows = self.rows.clone();
        let columns = width(self.hidden);
        let mut random = Random::new(77);
        for row in rows.chunks_exact_mut(columns).step_by(3) {
            row[random.below(self.hidden)] = 0.7;
        }
        self.on.write(gpu, &rows).unwrap();
        let mut recording = Recording::new();
        let tables = 3;
        let drift =
            self.tables.record_drift(&mut recording, gpu.caps(), &self.hasher, &self.on, tables, every).unwrap();
        let counters: Vec<u32> = gpu.run(&recording, &Control::default()).unwrap().take(drift.ticket);
        self.on.write(gpu, &self.rows).unwrap();
        let after = HostTables::new(self.hasher.functions(), &rows, columns);
        let (mut codes, mut keys, mut compared) = (0, 0, 0);
        // Windows of the small device hold 64 rows, and each counts its fours from its own first row.
        let window = if gpu.caps().max_binding == 64 << 10 { 64 } else { usize::MAX };
        let looked = |i: &usize| (i % window / 4).is_multiple_of(every);
        for i in (0..self.tables.labels()).filter(looked) {
            for t in 0..tables {
                let (a, b) = (self.twin.keys(i)[t], after.keys(i)[t]);
                let bits = self.options.family.bits();
                codes += (0..self.options.codes).filter(|k| (a ^ b) >> (k * bits) & ((1 << bits) - 1) != 0).count();
                keys += usize::from(a != b);
                compared += 1;
            }
        }
        assert_eq!((drift.keys, drift.codes), (compared, compared * self.options.codes as u64));
        assert_eq!((counters[0] as usize, counters[1] as usize), (codes, keys), "each {every}-th four rows");
        assert!((drift.share(&counters) - codes as f64 / drift.codes as f64).abs() < 1e-12 && codes > 0);
    }

    /// Candidates of hidden vectors.
    fn query(&self, gpu: &Gpu, h: &[f32], query: &Query, breakage: Option<[&str; 3]>) -> Vec<u32> {
        let vectors = h.len() / width(self.hidden);
        let on = common::tensor(gpu, &[vectors, width(self.hidden)], h);
        let workspace = QueryWorkspace::new(gpu, &self.options, vectors + 3).unwrap();
        let out = common::poisoned(gpu, &[vectors, query.candidates()]);
        let mut recording = Recording::new();
        self.tables.record_query(&mut recording, gpu.caps(), &self.hasher, &on, &workspace, query, &out).unwrap();
        if let Some([kernel, from, to]) = breakage {
            recording = broken(&recording, kernel, from, to);
        }
        common::run(gpu, &recording, &out, false)
    }

    fn query_of_twin(&self, h: &[f32], query: &Query) -> Vec<u32> {
        let functions = self.hasher.functions();
        h.chunks_exact(width(self.hidden)).flat_map(|row| self.twin.query(&functions.keys(row), query)).collect()
    }
}
