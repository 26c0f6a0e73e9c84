//! Keys of rows.

use wavehull::gpu::Recording;
use wavehull::hash::lsh::{Family, Functions, Hasher, LshOptions};
use wavehull::hash::width;
use wavehull::{Gpu, Options};

use crate::common::{self, Random, broken};
use crate::{Built, on_both, options, rows};

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

/// One element that is no zero: most bins are empty, and some find it with their last probe, or not at all.
#[test]
fn empty_bins_ask_as_many_others_as_the_twin() {
    on_both("empty_bins_ask_as_many_others_as_the_twin", |gpu| {
        let (hidden, options) = (128, options(Family::Dwta, 4, 50));
        let mut all = vec![0.0; 64 * width(hidden)];
        for (i, row) in all.chunks_exact_mut(width(hidden)).enumerate() {
            row[2 * i] = if i % 3 == 0 { -1.0 } else { 1.0 };
        }
        assert!(keys(gpu, &options, hidden, &all, None) == keys_of_twin(&options, hidden, &all));
    });
}

/// Elements that are 2^-21 and less of the largest count as zeros, however much less they are.
#[test]
fn elements_far_below_the_largest_count_as_zeros() {
    on_both("elements_far_below_the_largest_count_as_zeros", |gpu| {
        let (hidden, options) = (128, options(Family::SimHash, 4, 50));
        let mut random = Random::new(21);
        let mut all = vec![0.0; 64 * width(hidden)];
        for row in all.chunks_exact_mut(width(hidden)) {
            for x in &mut row[..hidden] {
                *x = (random.unit() * 2_f64.powi(-22 - random.below(60) as i32)) as f32;
            }
            row[random.below(hidden)] = 1.0;
        }
        assert!(keys(gpu, &options, hidden, &all, None) == keys_of_twin(&options, hidden, &all));
    });
}
