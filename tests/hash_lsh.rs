//! Hashing, hash tables, look-ups and neighbours: the device against the host twin, bit for bit.
#![cfg(feature = "hash")]

#[path = "common/mod.rs"]
mod common;

use common::{Random, broken};
use wavehull::gpu::Recording;
use wavehull::hash::lsh::reference::{self, HostTables};
use wavehull::hash::lsh::{
    Family, Functions, Hasher, LshOptions, LshTables, Neighbours, Policy, Query, QueryWorkspace,
};
use wavehull::hash::{Touched, width};
use wavehull::{Control, Gpu, Options, Tensor};

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

/// Keys `[tables, n]` on the device.
fn keys(gpu: &Gpu, options: &LshOptions, hidden: usize, rows: &[f32], breakage: Option<[&str; 2]>) -> Vec<u32> {
    let n = rows.len() / width(hidden);
    let on = common::tensor(gpu, &[n, width(hidden)], rows);
    let hasher = Hasher::new(gpu, options, hidden, 3).unwrap();
    let keys = common::poisoned(gpu, &[options.tables, n]);
    let mut recording = Recording::new();
    hasher.record_keys(&mut recording, gpu.caps(), &on, &keys).unwrap();
    if let Some([from, to]) = breakage {
        recording = broken(&recording, "lsh_keys", from, to);
    }
    common::run(gpu, &recording, &keys, true)
}

fn keys_of_twin(options: &LshOptions, hidden: usize, rows: &[f32]) -> Vec<u32> {
    let functions = Functions::new(options, hidden, 3).unwrap();
    let each: Vec<Vec<u32>> = rows.chunks_exact(width(hidden)).map(|row| functions.keys(row)).collect();
    (0..options.tables).flat_map(|t| each.iter().map(move |keys| keys[t])).collect()
}

#[test]
fn keys_of_the_device_are_those_of_the_twin() {
    on_both("keys_of_the_device_are_those_of_the_twin", |gpu| {
        for (n, hidden, codes, tables) in [
            (1, 8, 1, 1),
            (3, 9, 2, 3),
            (4, 12, 3, 7),
            (5, 13, 10, 9),
            (63, 20, 4, 50),
            (130, 128, 4, 13),
            (66, 131, 5, 70),
        ] {
            let rows = rows(n, hidden, n as u64);
            for family in [Family::Dwta, Family::SimHash] {
                let options = options(family, codes, tables);
                let got = keys(gpu, &options, hidden, &rows, None);
                assert!(got == keys_of_twin(&options, hidden, &rows), "{n} rows of {hidden}, {options:?}");
            }
        }
    });
}

#[test]
fn broken_hashing_is_noticed() {
    let Some(gpu) = common::device("broken_hashing_is_noticed", false) else { return };
    let rows = rows(100, 20, 5);
    for (family, from, to) in [
        (Family::Dwta, "a_${j} > best", "a_${j} >= best"),
        (Family::Dwta, "const BITS = 3u", "const BITS = 2u"),
        (Family::Dwta, ">= vec4<u32>(0x800000u)", ">= vec4<u32>(0u)"),
        (Family::Dwta, "bin * 64u + probe", "bin * 64u + 1u + probe"),
        (Family::Dwta, "place & vec4<u32>(7u)", "place"),
        (Family::Dwta, "probe > PROBES", "probe > 1u"),
        (Family::Dwta, "(bin * 64u + probe) * p.factor + p.summand", "(bin * 64u + probe) * p.factor"),
        (Family::Dwta, "select(~b, b |", "select(b, b |"),
        (Family::SimHash, "s > vec4<i32>(0)", "s >= vec4<i32>(0)"),
        (Family::SimHash, "(f[${j}] & 0x10000u) != 0u", "false"),
        (Family::SimHash, "exponent > vec4<u32>(0u)", "exponent >= vec4<u32>(0u)"),
        (Family::SimHash, "q * 4u + ${j}u < p.hidden", "true"),
    ] {
        let options = options(family, 4, 20);
        let got = keys(gpu, &options, 20, &rows, Some([from, to]));
        assert!(got != keys_of_twin(&options, 20, &rows), "'{to}' went unseen");
    }
}

#[test]
fn rows_in_windows_have_the_keys_of_one_binding() {
    let Some(_) = common::device("rows_in_windows_have_the_keys_of_one_binding", false) else { return };
    let mut limited = Options::default();
    limited.max_binding = Some(64 << 10);
    let small = Gpu::open(&limited).unwrap();
    let (n, hidden) = (403, 128);
    let rows = rows(n, hidden, 11);
    for family in [Family::Dwta, Family::SimHash] {
        let options = options(family, 4, 9);
        assert!(keys(&small, &options, hidden, &rows, None) == keys_of_twin(&options, hidden, &rows), "{family:?}");
    }
    // Listed rows and drift in windows too.
    let tables = Built::new(&small, &options(Family::Dwta, 3, 5), hidden, &rows, 32 << 20);
    tables.check_rehash(&small, &[0, 1, 63, 64, 65, 127, 128, 200, 402]);
    tables.check_drift(&small, 1);
    tables.check_drift(&small, 3);
}

/// Rows of the pinned keys: `i, d ->` a multiple of 1 / 64, with rows like those behind a ReLU.
fn pinned_row(i: u64, hidden: u64) -> Vec<f32> {
    let element = |d: u64| {
        let x = (i * 2_654_435_761 + d * 40_503 + i * d * 97) & 0xffff;
        let signed = (x as f32 - 32_768.0) / 64.0;
        match i {
            1 => ((x as f32 - 52_000.0) / 64.0).max(0.0),
            2 if d % 16 != 5 => 0.0,
            _ => signed,
        }
    };
    (0..hidden).map(element).collect()
}

/// Worked out by an independent implementation (Python integers and floats, Philox included): seed 0x0123456789abcdef, generation 3,
/// 20 hidden elements, 6 tables of 4 codes of DWTA (18 of the 96 bins are empty) and of 9 of SimHash.
#[test]
fn pinned_keys() {
    let dwta = [
        [2687, 1589, 1127, 1306, 3127, 650],
        [1230, 3191, 20, 1718, 2557, 1532],
        [862, 1265, 2482, 3464, 3182, 3318],
        [1254, 3143, 20, 1974, 2237, 1532],
    ];
    let simhash = [
        [358, 256, 351, 65, 269, 336],
        [292, 56, 472, 276, 90, 175],
        [272, 256, 2, 16, 99, 68],
        [301, 62, 400, 468, 251, 390],
    ];
    for (family, codes, expected) in [(Family::Dwta, 4, dwta), (Family::SimHash, 9, simhash)] {
        let functions = Functions::new(&options(family, codes, 6), 20, 3).unwrap();
        for (i, expected) in (0..).zip(expected) {
            assert_eq!(functions.keys(&pinned_row(i, 20)), expected, "{family:?}, row {i}");
        }
        assert_eq!(functions.keys(&[0.0; 20]), [0; 6], "a row of zeros");
    }
}

#[test]
fn codes_worked_by_hand() {
    let mut functions = Functions::new(&options(Family::Dwta, 2, 1), 8, 0).unwrap();
    functions.codes = vec![vec![7, 6, 5, 4, 3, 2, 1, 0], vec![0, 1, 2, 3, 0, 1, 2, 3]];
    // The largest is element 2, at place 5 and at places 2 and 6, of which the lower counts.
    assert_eq!(functions.keys(&[0.1, 0.2, 0.9, 0.3, 0.0, -5.0, 0.4, 0.5]), [5 << 3 | 2]);
    // Zeros are not looked at: the largest of what is left is -1, element 5.
    assert_eq!(functions.keys(&[0.0, 0.0, -2.0, 0.0, 0.0, -1.0, -0.0, 1e-40])[0] >> 3, 2);
    // Equal elements: the lowest place.
    assert_eq!(functions.keys(&[3.0; 8]), [0]);
    // The second bin is empty and takes the code of the first, place 1.
    assert_eq!(functions.keys(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 1.0]), [1 << 3 | 1]);
    let mut functions = Functions::new(&options(Family::SimHash, 2, 1), 4, 0).unwrap();
    // + x0 - x2, and - x1 + x3.
    functions.codes = vec![vec![0, 5], vec![3, 6]];
    assert_eq!(functions.keys(&[2.0, 1.0, 1.0, 4.0]), [3]);
    assert_eq!(functions.keys(&[1.0, 5.0, 1.0, 4.0]), [0]);
    assert_eq!(functions.keys(&[1.0, 5.0, 1.0, 5.5]), [1]);
}

/// Released code packs three-bit codes by floor(ln 8) = 2 bits and reaches 9,556 of 262,144 buckets.
#[test]
fn all_keys_can_be_reached() {
    let (hidden, options) = (32, options(Family::Dwta, 4, 1));
    let functions = Functions::new(&options, hidden, 3).unwrap();
    let mut rows = Vec::new();
    for key in 0..4096_usize {
        let mut row = vec![0.25; width(hidden)];
        for (k, bin) in functions.codes.iter().enumerate() {
            row[usize::from(bin[key >> (3 * (3 - k)) & 7])] = 1.0;
        }
        rows.extend(row);
    }
    let expected: Vec<u32> = (0..4096).collect();
    assert_eq!(keys_of_twin(&options, hidden, &rows), expected);
    if let Some(gpu) = common::device("all_keys_can_be_reached", false) {
        assert_eq!(keys(gpu, &options, hidden, &rows, None), expected);
    }
}

#[test]
fn functions_depend_on_seed_and_generation_and_every_element_is_looked_at() {
    let base = options(Family::Dwta, 4, 8);
    let functions = Functions::new(&base, 30, 0).unwrap();
    assert_eq!(functions.codes.len(), 32);
    // 256 places of permutations of 30: each element stands in them 8 or 9 times.
    let places: Vec<u16> = functions.codes.concat();
    for element in 0..30 {
        assert!((8..=9).contains(&places.iter().filter(|&&e| e == element).count()), "element {element}");
    }
    for family in [Family::Dwta, Family::SimHash] {
        let base = LshOptions { family, ..base.clone() };
        let make = |seed, generation| Functions::new(&LshOptions { seed, ..base.clone() }, 30, generation).unwrap();
        assert_eq!(make(1, 0).codes, make(1, 0).codes);
        assert_ne!(make(1, 0).codes, make(2, 0).codes);
        assert_ne!(make(1, 0).codes, make(1, 1).codes);
    }
    let sim = Functions::new(&options(Family::SimHash, 5, 3), 30, 0).unwrap();
    assert!(sim.codes.iter().all(|code| code.len() == 10));
    for (bin, probe) in (0..32).flat_map(|bin| (1..33).map(move |probe| (bin, probe))) {
        assert!(functions.other(bin, probe) < 32);
    }
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
        let ends = [[u32::try_from(changed.len()).unwrap(), 0]];
        let list: Vec<[u32; 2]> =
            ends.into_iter().chain(changed.iter().map(|&row| [row, 0])).chain([[u32::MAX, 0]]).collect();
        touched.write(gpu, &list).unwrap();
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

#[test]
fn tables_hold_every_label_and_queries_are_naive_scans() {
    on_both("tables_hold_every_label_and_queries_are_naive_scans", |gpu| {
        // Small keys make long buckets; groups of one, two and all tables.
        for (family, codes, n, group_bytes) in [
            (Family::Dwta, 1, 700, 6000),
            (Family::Dwta, 3, 65, 1),
            (Family::SimHash, 4, 1000, 32 << 20),
            (Family::Dwta, 4, 1, 4),
        ] {
            for policy in [Policy::Fifo, Policy::Reservoir, Policy::Window] {
                let options = LshOptions { policy, bucket: 16, ..options(family, codes, 5) };
                let labels = rows(n, 20, n as u64);
                let built = Built::new(gpu, &options, 20, &labels, group_bytes);
                assert!(built.contents(gpu) == built.contents_of(&built.twin), "{n} labels, {options:?}");
                let mut h = rows(70, 20, 4);
                h.extend(&labels[..width(20) * n.min(30)]);
                for (step, tables, bucket, shuffled) in [(0, 5, 16, false), (9, 5, 32, true), (10, 3, 4, true)] {
                    let query = Query { step, tables, bucket, shuffled };
                    let got = built.query(gpu, &h, &query, None);
                    assert!(got == built.query_of_twin(&h, &query), "{query:?} of {n} labels, {options:?}");
                }
            }
        }
    });
}

#[test]
fn broken_queries_are_noticed() {
    let Some(gpu) = common::device("broken_queries_are_noticed", false) else { return };
    let h = rows(70, 20, 4);
    for (policy, kernel, from, to) in [
        (Policy::Fifo, "lsh_ranges", "found.x < key", "found.x <= key"),
        (Policy::Fifo, "lsh_ranges", "i < p.steps", "i + 2u < p.steps"),
        (Policy::Fifo, "lsh_candidates", "j + vec4<u32>(length -", "j + vec4<u32>(length - 1u -"),
        (Policy::Window, "lsh_candidates", "place - vec4<u32>(length), place >=", "place - vec4<u32>(length), place >"),
        (Policy::Reservoir, "lsh_candidates", "+ 1u + j.x / 4u", "+ j.x / 4u"),
        (Policy::Reservoir, "lsh_candidates", "length > (1u << p.shift)", "length >= (1u << p.shift)"),
        (Policy::Reservoir, "lsh_candidates", "place < vec4<u32>(length)", "place <= vec4<u32>(length)"),
    ] {
        let options = LshOptions { policy, bucket: 16, ..options(Family::Dwta, 1, 5) };
        let built = Built::new(gpu, &options, 20, &rows(150, 20, 8), 32 << 20);
        let query = Query { step: 3, tables: 5, bucket: 16, shuffled: true };
        let got = built.query(gpu, &h, &query, Some([kernel, from, to]));
        assert!(got != built.query_of_twin(&h, &query), "'{to}' went unseen");
    }
}

#[test]
fn rows_hashed_again_equal_a_whole_build_and_changes_are_counted() {
    on_both("rows_hashed_again_equal_a_whole_build_and_changes_are_counted", |gpu| {
        for family in [Family::Dwta, Family::SimHash] {
            let built = Built::new(gpu, &options(family, 3, 6), 20, &rows(301, 20, 2), 4000);
            built.check_rehash(gpu, &[]);
            built.check_rehash(gpu, &[7]);
            built.check_rehash(gpu, &[0, 1, 2, 3, 4, 150, 299, 300]);
            let built = Built::new(gpu, &options(family, 3, 6), 20, &rows(301, 20, 2), 32 << 20);
            built.check_drift(gpu, 1);
            built.check_drift(gpu, 4);
        }
    });
}

#[test]
fn other_generations_have_other_tables() {
    let Some(gpu) = common::device("other_generations_have_other_tables", false) else { return };
    let rows = rows(90, 20, 2);
    let mut built = Built::new(gpu, &options(Family::Dwta, 3, 6), 20, &rows, 32 << 20);
    let before = built.contents(gpu);
    built.hasher.renew(gpu, 4).unwrap();
    let mut recording = Recording::new();
    built.tables.record_build(&mut recording, gpu.caps(), &built.hasher, &built.on).unwrap();
    gpu.run(&recording, &Control::default()).unwrap();
    let twin = HostTables::new(built.hasher.functions(), &rows, width(20));
    let after = built.contents(gpu);
    assert!(after == built.contents_of(&twin) && after != before);
}

/// A reservoir gives each label of a long bucket with the same chance, another set for each step.
#[test]
fn draws_are_fair_and_new_for_each_step() {
    let (labels, bucket, steps) = (100, 16, 2000);
    for policy in [Policy::Reservoir, Policy::Window] {
        let options = LshOptions { policy, bucket, ..options(Family::Dwta, 1, 1) };
        let functions = Functions::new(&options, 8, 0).unwrap();
        let twin = HostTables::new(&functions, &vec![1.0; 8 * labels], 8);
        let mut seen = vec![0_u32; labels];
        for step in 0..steps {
            let given = twin.query(twin.keys(0), &Query::all(&options, step));
            assert_eq!(reference::distinct(&given), bucket);
            given.iter().for_each(|&id| seen[id as usize] += 1);
        }
        // Five standard deviations of the number of steps in which a label is given.
        let (mean, chance) = (f64::from(steps) * 0.16, 0.16);
        let limit = 5.0 * (mean * (1.0_f64 - chance)).sqrt();
        assert!(seen.iter().all(|&n| (f64::from(n) - mean).abs() < limit), "{policy:?}: {seen:?}");
    }
}

#[test]
fn tables_are_read_in_an_order_that_has_each_once() {
    let options = LshOptions { bucket: 4, ..options(Family::Dwta, 1, 12) };
    let functions = Functions::new(&options, 8, 0).unwrap();
    // With one label, table t gives it for the key that it has there alone.
    let twin = HostTables::new(&functions, &[0.1, 0.9, 0.3, 0.2, 0.5, 0.6, 0.7, 0.4], 8);
    let mut firsts = std::collections::BTreeSet::new();
    for step in 0..300 {
        let query = Query { step, tables: 12, bucket: 4, shuffled: true };
        for table in 0..12 {
            let mut keys: Vec<u32> = twin.keys(0).iter().map(|key| key ^ 1).collect();
            keys[table] ^= 1;
            let given = twin.query(&keys, &query);
            assert_eq!(given.iter().filter(|&&id| id == 0).count(), 1, "table {table} in step {step}");
            if given[0] == 0 {
                firsts.insert(table);
            }
        }
    }
    assert_eq!(firsts.len(), 12, "every table is first at times");
}

fn check_neighbours(
    gpu: &Gpu,
    built: &Built,
    query: &Query,
    (n, least, piece_bytes): (usize, usize, usize),
    breakage: Option<[&str; 2]>,
) -> Result<(), String> {
    let labels = built.tables.labels();
    let finder = Neighbours::with(gpu, &built.tables, query, least, piece_bytes).unwrap();
    let out = common::poisoned(gpu, &[labels, n]);
    let mut recording = Recording::new();
    finder.record(&mut recording, gpu.caps(), &built.tables, query.step, &out).unwrap();
    if let Some([from, to]) = breakage {
        recording = broken(&recording, "lsh_neighbours", from, to);
    }
    let got = common::run(gpu, &recording, &out, false);
    for (i, got) in got.chunks(n).enumerate() {
        let expected = built.twin.neighbours(i, n, least, query);
        if got != expected {
            return Err(format!("label {i}: {got:?}, not {expected:?}"));
        }
    }
    Ok(())
}

#[test]
fn neighbours_meet_in_most_tables() {
    on_both("neighbours_meet_in_most_tables", |gpu| {
        for (family, codes, labels, group_bytes, piece_bytes) in [
            (Family::Dwta, 1, 300, 32 << 20, 8 << 20),
            (Family::Dwta, 2, 203, 2500, 50 * 4 * 16 * 9),
            (Family::SimHash, 3, 64, 1, 50 * 4 * 16 * 9),
            (Family::Dwta, 4, 1, 1, 1),
        ] {
            let built = Built::new(
                gpu,
                &LshOptions { bucket: 16, ..options(family, codes, 9) },
                20,
                &rows(labels, 20, 3),
                group_bytes,
            );
            for (n, least, tables, bucket) in [(1, 1, 9, 16), (5, 2, 9, 8), (70, 1, 4, 32), (16, 1, 6, 256)] {
                let query = Query { step: 5, tables, bucket, shuffled: n == 5 };
                check_neighbours(gpu, &built, &query, (n, least, piece_bytes), None)
                    .unwrap_or_else(|why| panic!("{labels} labels, {n} neighbours of {least} tables: {why}"));
            }
        }
    });
}

#[test]
fn broken_neighbours_are_noticed() {
    let Some(gpu) = common::device("broken_neighbours_are_noticed", false) else { return };
    let options = LshOptions { bucket: 16, ..options(Family::Dwta, 2, 9) };
    let built = Built::new(gpu, &options, 20, &rows(100, 20, 3), 32 << 20);
    let query = Query::all(&built.options, 5);
    for (from, to) in [
        ("id != NONE && id != label", "id != NONE"),
        ("* BACK", ""),
        ("c >= p.least", "c > p.least"),
        ("(127u - c) << 24u", "c << 24u"),
        ("atomicAdd(&slots[at], 1u)", "atomicAdd(&slots[at], 0u)"),
        ("(order(met) >> 17u) <= last", "(order(met) >> 17u) < last"),
        ("above = taken;", "above = p.count;"),
        ("found + lane; r < p.count", "found + lane; r + 1u < p.count"),
    ] {
        assert!(
            check_neighbours(gpu, &built, &query, (20, 2, 8 << 20), Some([from, to])).is_err(),
            "'{to}' went unseen"
        );
    }
}

/// A unit vector.
fn direction(random: &mut Random, n: usize) -> Vec<f64> {
    // Sums of twelve uniform numbers are near enough to normal ones.
    let v: Vec<f64> = (0..n).map(|_| (0..12).map(|_| random.unit()).sum()).collect();
    let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
    v.iter().map(|x| x / norm).collect()
}

#[test]
fn near_pairs_collide_more_often() {
    for (family, codes) in [(Family::Dwta, 1), (Family::SimHash, 1)] {
        let functions = Functions::new(&options(family, codes, 64), 64, 0).unwrap();
        let mut random = Random::new(1);
        let mut shares = Vec::new();
        for cosine in [0.0, 0.3, 0.6, 0.8, 0.9, 0.97] {
            let mut same = 0;
            for _ in 0..60 {
                let (a, b) = (direction(&mut random, 64), direction(&mut random, 64));
                let other: Vec<f32> = a
                    .iter()
                    .zip(&b)
                    .map(|(a, b)| (cosine * a + (1.0_f64 - cosine * cosine).sqrt() * b) as f32)
                    .collect();
                let a: Vec<f32> = a.iter().map(|&v| v as f32).collect();
                same += functions.keys(&a).iter().zip(functions.keys(&other)).filter(|(a, b)| *a == b).count();
            }
            shares.push(same as f64 / (60.0 * 64.0));
        }
        assert!(shares.windows(2).all(|w| w[0] + 0.02 < w[1]), "{family:?}: {shares:?}");
        // Directions without relation agree in one of eight places, and in one of two signs; of near ones, a sign agrees with the chance
        // 1 - angle / pi (0.922 at 0.97), a place a little less often.
        let expected = if family == Family::Dwta { 0.125 } else { 0.5 };
        assert!((shares[0] - expected).abs() < 0.04 && shares[5] > 0.6, "{family:?}: {shares:?}");
    }
}

#[test]
fn candidates_of_clusters_hold_what_random_ones_do_not() {
    // 2,000 labels in 100 clusters; a hidden vector is near one label. Who is wanted: the ten largest products.
    let (labels, hidden, queries) = (2000, 64, 40);
    let mut random = Random::new(9);
    let centres: Vec<Vec<f64>> = (0..100).map(|_| direction(&mut random, hidden)).collect();
    let near = |random: &mut Random, v: &[f64], spread: f64| -> Vec<f64> {
        let noise = direction(random, hidden);
        v.iter().zip(&noise).map(|(a, b)| a + spread * b).collect()
    };
    let rows: Vec<Vec<f64>> = (0..labels).map(|i| near(&mut random, &centres[i % 100], 0.6)).collect();
    let flat: Vec<f32> = rows.iter().flatten().map(|&v| v as f32).collect();
    let options = LshOptions { codes: 3, tables: 30, bucket: 32, ..options(Family::Dwta, 3, 30) };
    let functions = Functions::new(&options, hidden, 0).unwrap();
    let twin = HostTables::new(&functions, &flat, hidden);
    let (mut wanted, mut found, mut drawn, mut active) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for q in 0..queries {
        let h = near(&mut random, &rows[q * 17], 0.5);
        let dot = |row: &[f64]| row.iter().zip(&h).map(|(a, b)| a * b).sum::<f64>();
        let mut order: Vec<usize> = (0..labels).collect();
        order.sort_by(|&a, &b| dot(&rows[b]).total_cmp(&dot(&rows[a])));
        wanted.extend(order[..10].iter().map(|&i| u32::try_from(i).unwrap()));
        let h: Vec<f32> = h.iter().map(|&v| v as f32).collect();
        let given = twin.query(&functions.keys(&h), &Query::all(&options, 1));
        let n = reference::distinct(&given);
        active += n;
        let mut ids: Vec<u32> = (0..u32::try_from(labels).unwrap()).collect();
        random.shuffle(&mut ids);
        drawn.extend(ids.into_iter().take(n).chain(std::iter::repeat(u32::MAX)).take(given.len()));
        found.extend(given);
    }
    let c = options.tables * options.bucket;
    let (hashed, chance) = (reference::recall(&wanted, 10, &found, c), reference::recall(&wanted, 10, &drawn, c));
    let share = active as f64 / (queries * labels) as f64;
    println!("recall@10 {hashed:.3}, of as many random ones {chance:.3}, {:.1} % of the labels", 100.0 * share);
    assert!(hashed > 0.5 && hashed > 4.0 * chance, "recall {hashed} against {chance}");
}

/// Sizes of the real set: hashing, building, a look-up, neighbours.
#[test]
#[ignore = "a measurement: run it alone"]
fn rates() {
    let Some(gpu) = common::device("rates", false) else { return };
    let (labels, hidden, vectors) = (25_918, 128, 256);
    let mut random = Random::new(1);
    let plain = |random: &mut Random, n: usize| -> Vec<f32> { random.floats(n * width(hidden)) };
    let rows = plain(&mut random, labels);
    let mut h = plain(&mut random, vectors);
    h.iter_mut().for_each(|v| *v = v.max(0.0));
    for (family, codes) in [(Family::Dwta, 4), (Family::SimHash, 9)] {
        let options = LshOptions { codes, tables: 50, bucket: 32, ..options(family, codes, 50) };
        let built = Built::new(gpu, &options, hidden, &rows, 32 << 20);
        let time = |what: &str, recording: &Recording| {
            let mut best = Vec::new();
            for _ in 0..3 {
                let times = gpu.profile(recording, &Control::default()).unwrap().kernel_times;
                let mut kernels = std::collections::BTreeMap::<&str, f64>::new();
                times.iter().for_each(|(name, seconds)| *kernels.entry(name).or_default() += 1e3 * seconds);
                best.push(kernels);
            }
            best.sort_by(|a, b| a.values().sum::<f64>().total_cmp(&b.values().sum::<f64>()));
            println!("{family:?} {what}: {:.1} ms, {:.1?}", best[0].values().sum::<f64>(), best[0]);
        };
        let (caps, mut build) = (gpu.caps(), Recording::new());
        built.tables.record_build(&mut build, caps, &built.hasher, &built.on).unwrap();
        time("build", &build);
        let mut drift = Recording::new();
        built.tables.record_drift(&mut drift, caps, &built.hasher, &built.on, 2, 4).unwrap();
        time("drift of 2 tables, a quarter of the rows", &drift);
        let on = common::tensor(gpu, &[vectors, width(hidden)], &h);
        let workspace = QueryWorkspace::new(gpu, &options, vectors).unwrap();
        let query = Query { step: 1, tables: 50, bucket: 32, shuffled: true };
        let out = common::poisoned(gpu, &[vectors, query.candidates()]);
        let mut look_up = Recording::new();
        built.tables.record_query(&mut look_up, caps, &built.hasher, &on, &workspace, &query, &out).unwrap();
        time("look-up of 256", &look_up);
        for (tables, bucket) in [(50, 32), (50, 8), (25, 8)] {
            let query = Query { step: 1, tables, bucket, shuffled: false };
            let finder = Neighbours::new(gpu, &built.tables, &query, 1).unwrap();
            let out = common::poisoned(gpu, &[labels, 16]);
            let mut neighbours = Recording::new();
            finder.record(&mut neighbours, caps, &built.tables, 1, &out).unwrap();
            time(&format!("neighbours by {tables} tables, {bucket} ids"), &neighbours);
        }
    }
}

#[test]
fn misuse_is_refused() {
    let Some(gpu) = common::device("misuse_is_refused", false) else { return };
    let good = options(Family::Dwta, 2, 3);
    assert!(Hasher::new(gpu, &good, 5, 0).is_err() && LshTables::new(gpu, 0, &good).is_err());
    let many = LshTables::new(gpu, (1 << 24) + 1, &good).unwrap_err();
    assert_eq!(many.kind(), wavehull::ErrorKind::TooBig);
    let built = Built::new(gpu, &good, 20, &rows(10, 20, 1), 32 << 20);
    let other = Hasher::new(gpu, &options(Family::Dwta, 3, 3), 20, 0).unwrap();
    let (mut recording, caps) = (Recording::new(), gpu.caps());
    assert!(built.tables.record_build(&mut recording, caps, &other, &built.on).is_err());
    let narrow: Tensor = Tensor::uninit(gpu, &[10, 20]).unwrap();
    assert!(built.tables.record_build(&mut recording, caps, &built.hasher, &narrow).is_err());
    let out: Tensor<u32> = Tensor::uninit(gpu, &[9, 4]).unwrap();
    let finder = Neighbours::new(gpu, &built.tables, &Query::all(&good, 0), 1).unwrap();
    assert!(finder.record(&mut recording, caps, &built.tables, 0, &out).is_err());
    let wide = LshOptions { tables: 400, bucket: 256, ..good.clone() };
    let tables = LshTables::new(gpu, 10, &wide).unwrap();
    assert!(Neighbours::new(gpu, &tables, &Query::all(&wide, 0), 1).unwrap_err().help().is_some());
    let deep = LshOptions { tables: 128, ..good.clone() };
    let tables = LshTables::new(gpu, 10, &deep).unwrap();
    assert!(Neighbours::new(gpu, &tables, &Query::all(&deep, 0), 1).unwrap_err().help().is_some());
    for wrong in [
        Query { tables: 4, ..Query::all(&good, 0) },
        Query { tables: 0, ..Query::all(&good, 0) },
        Query { bucket: 3, ..Query::all(&good, 0) },
    ] {
        assert!(Neighbours::new(gpu, &built.tables, &wrong, 1).unwrap_err().help().is_some());
    }
}
