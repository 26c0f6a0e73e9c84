//! Labels that meet in many tables.

use wavehull::Gpu;
use wavehull::gpu::Recording;
use wavehull::hash::lsh::{Family, LshOptions, Neighbours, Query};

use crate::common::{self, broken};
use crate::{Built, on_both, options, rows};

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
