//! Tables and what they give for a vector.

use wavehull::gpu::Recording;
use wavehull::hash::lsh::reference::{self, HostTables};
use wavehull::hash::lsh::{Family, Functions, Hasher, LshOptions, LshTables, Neighbours, Policy, Query};
use wavehull::hash::width;
use wavehull::{Control, Tensor};

use crate::{Built, common, on_both, options, rows};

#[test]
fn tables_hold_every_label_and_queries_are_naive_scans() {
    on_both("tables_hold_every_label_and_queries_are_naive_scans", |gpu| {
        // Small keys make long buckets, all of whose bits the directory knows; groups of one, two and all tables.
        for (family, codes, n, group_bytes) in [
            (Family::Dwta, 1, 700, 6000),
            (Family::Dwta, 3, 65, 1),
            (Family::SimHash, 4, 1000, 32 << 20),
            (Family::Dwta, 4, 1, 4),
            (Family::Dwta, 2, 3, 4),
            (Family::Dwta, 10, 7, 64),
            (Family::SimHash, 16, 8, 64),
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
        (Policy::Fifo, "lsh_ranges", "any(low < high)", "low.y < high.y"),
        (Policy::Fifo, "lsh_candidates", "j + vec4<u32>(length -", "j + vec4<u32>(length - 1u -"),
        (Policy::Window, "lsh_candidates", "place - vec4<u32>(length), place >=", "place - vec4<u32>(length), place >"),
        (Policy::Reservoir, "lsh_candidates", "+ 1u + j.x / 4u", "+ j.x / 4u"),
        (Policy::Reservoir, "lsh_candidates", "length > (1u << p.shift)", "length >= (1u << p.shift)"),
        (Policy::Reservoir, "lsh_candidates", "place < vec4<u32>(length)", "place <= vec4<u32>(length)"),
    ] {
        // Buckets that give a part of what they have; and keys of more bits than their directory knows.
        let codes = if kernel == "lsh_ranges" { 3 } else { 1 };
        let options = LshOptions { policy, bucket: 16, ..options(Family::Dwta, codes, 5) };
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
    built.twin = twin;
    let query = Query::all(built.tables.options(), 2);
    assert!(built.query(gpu, &rows, &query, None) == built.query_of_twin(&rows, &query), "a directory of other keys");
}

/// Keys of 18 bits, of which a directory knows 16.
#[test]
fn many_labels_are_found_through_a_part_of_their_keys() {
    let Some(gpu) = common::device("many_labels_are_found_through_a_part_of_their_keys", false) else { return };
    let labels = rows(270_000, 20, 3);
    let options = LshOptions { policy: Policy::Fifo, bucket: 16, ..options(Family::Dwta, 6, 1) };
    let built = Built::new(gpu, &options, 20, &labels, 32 << 20);
    let h = &labels[..width(20) * 500];
    let query = Query::all(&options, 0);
    assert!(built.query(gpu, h, &query, None) == built.query_of_twin(h, &query));
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

#[test]
fn misuse_is_refused() {
    let Some(gpu) = common::device("misuse_is_refused", false) else { return };
    let good = options(Family::Dwta, 2, 3);
    assert!(Hasher::new(gpu, &good, 5, 0).is_err() && LshTables::new(gpu, 0, &good).is_err());
    let many = LshTables::new(gpu, 1 << 24, &good).unwrap_err();
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
