//! Tables start, are read and written by ranges of rows, and tell which rows were touched.

use wavehull::gpu::Recording;
use wavehull::hash::optimiser::{Mode, Optimiser, Rule, Which};
use wavehull::hash::rows::{Rows, RowsPart, Storage, touched_after};
use wavehull::{Options, Tensor};

use crate::common::{self, POISON, Random};
use crate::{bits, panel_step, random_part, run, table};

#[test]
fn a_table_starts_normal_with_zeros_behind() {
    let Some(gpu) = common::device("a_table_starts_normal_with_zeros_behind", false) else { return };
    let start = |table: u32, count: usize, storage: Storage, seed: u64| {
        let rows = Rows::stored(gpu, count, 12, 2, storage, table).unwrap();
        // Released code takes Adam's state as it finds it in memory.
        let found = [vec![rows.book.clone(), rows.weights.words()], rows.state.iter().map(Tensor::words).collect()];
        for memory in found.concat() {
            gpu.upload(memory.buffer(), bytemuck::cast_slice(&vec![POISON; common::words(&memory)])).unwrap();
        }
        rows.start(gpu, seed, 0.1, 9).unwrap();
        rows.read(gpu, 0..count).unwrap()
    };
    let part = start(0, 3000, Storage::F32, 1);
    let drawn: Vec<f64> = part.weights.chunks(12).flat_map(|row| row[..9].iter().map(|&v| f64::from(v))).collect();
    let n = drawn.len() as f64;
    let (mean, square) = (drawn.iter().sum::<f64>() / n, drawn.iter().map(|v| v * v).sum::<f64>() / n);
    // Five standard errors: 0.1 / sqrt n and 0.01 sqrt(2 / n).
    assert!(mean.abs() < 0.5 / n.sqrt() && (square - 0.01).abs() < 0.05 * (2.0 / n).sqrt(), "{mean} {square}");
    assert!(part.weights.chunks(12).all(|row| row[9..] == [0.0; 3]));
    assert!(part.state.iter().flatten().all(|v| v.to_bits() == 0) && part.book == [[0; 4]; 3000]);
    // A row is the same in a table of any size; other tables, seeds and rows differ.
    assert_eq!(start(0, 10, Storage::F32, 1).weights, part.weights[..120]);
    assert_ne!(start(1, 10, Storage::F32, 1).weights, part.weights[..120]);
    assert_ne!(start(0, 10, Storage::F32, 2).weights, part.weights[..120]);
    assert_ne!(part.weights[..12], part.weights[12..24]);
    let halves = start(0, 3000, Storage::Bf16, 1).weights;
    assert!(halves.iter().zip(&part.weights).all(|(h, w)| (h - w).abs() <= w.abs() / 256.0 && h.to_bits() << 16 == 0));
}

#[test]
fn ranges_of_rows_travel_to_the_host_and_back() {
    let Some(gpu) = common::device("ranges_of_rows_travel_to_the_host_and_back", false) else { return };
    for storage in [Storage::F32, Storage::Bf16] {
        for columns in [4, 12, 132] {
            let mut part = random_part(&mut Random::new(2), 50, columns, 2);
            part.weights.iter_mut().for_each(|w| *w = f32::from_bits(w.to_bits() & 0xffff_0000));
            part.book.iter_mut().enumerate().for_each(|(i, line)| *line = [i as u32, 2, 3, 4]);
            let rows = table(gpu, columns, storage, &part);
            assert!(rows.read(gpu, 0..50).unwrap() == part);
            let own = 7 * columns..18 * columns;
            let some = RowsPart {
                first: 7,
                weights: part.weights[own.clone()].to_vec(),
                state: part.state.iter().map(|s| s[own.clone()].to_vec()).collect(),
                book: part.book[7..18].to_vec(),
            };
            assert!(rows.read(gpu, 7..18).unwrap() == some);
            let mut changed = some.clone();
            changed.weights.iter_mut().for_each(|w| *w *= -2.0);
            changed.book[0] = [9; 4];
            rows.write(gpu, &changed).unwrap();
            assert!(rows.read(gpu, 7..18).unwrap() == changed);
            rows.write(gpu, &some).unwrap();
            assert!(rows.read(gpu, 0..50).unwrap() == part);
            assert!(rows.read(gpu, 40..51).is_err() && rows.read(gpu, 4..4).is_err());
            assert!(rows.write(gpu, &RowsPart { first: 45, ..some }).is_err());
        }
    }
    assert!(Rows::uninit(gpu, 5, 6, 0).is_err());
}

#[test]
fn the_book_counts_touches_and_names_what_changed() {
    let Some(gpu) = common::device("the_book_counts_touches_and_names_what_changed", false) else { return };
    let rows = table(gpu, 4, Storage::F32, &random_part(&mut Random::new(2), 9, 4, 2));
    let mut optimiser = Optimiser::new(gpu, Rule::adam(), Mode::CatchUp, 0).unwrap();
    for ids in [&[1, 5][..], &[0, 5, 8], &[5]] {
        panel_step(gpu, &mut optimiser, 1e-3, &rows, ids, &vec![0.5; 4 * ids.len()]);
    }
    let book = rows.book(gpu).unwrap();
    assert_eq!((book[1], book[5], book[3]), ([1, 1, 1, 0], [3, 3, 3, 0], [0; 4]));
    assert_eq!(touched_after(&book, 0), [0, 1, 5, 8]);
    assert_eq!(touched_after(&book, 1), [0, 5, 8]);
    assert_eq!((touched_after(&book, 2), touched_after(&book, 3)), (vec![5], vec![]));
}

#[test]
fn listed_rows_travel_to_the_host_and_back() {
    let Some(whole) = common::device("listed_rows_travel_to_the_host_and_back", false) else { return };
    let mut options = Options::default();
    options.max_binding = Some(64 << 10);
    let small = wavehull::Gpu::open(&options).unwrap();
    for gpu in [whole, &small] {
        for storage in [Storage::F32, Storage::Bf16] {
            let columns = 132;
            let mut part = random_part(&mut Random::new(2), 300, columns, 2);
            part.weights.iter_mut().for_each(|w| *w = f32::from_bits(w.to_bits() & 0xffff_0000));
            part.book.iter_mut().enumerate().for_each(|(i, line)| *line = [i as u32, 2, 3, 4]);
            let rows = table(gpu, columns, storage, &part);
            for ids in [vec![], vec![299], vec![0, 1, 2, 77, 150, 151, 298], (0..300).collect::<Vec<u32>>()] {
                let of = |values: &Vec<f32>| -> Vec<f32> {
                    ids.iter().flat_map(|&i| values[i as usize * columns..][..columns].to_vec()).collect()
                };
                let mut some = rows.read_listed(gpu, &ids).unwrap();
                assert!(
                    some.weights == of(&part.weights) && some.state == part.state.iter().map(of).collect::<Vec<_>>()
                );
                assert!(some.book.iter().map(|line| line[0]).eq(ids.iter().copied()));
                some.weights.iter_mut().for_each(|w| *w *= -2.0);
                some.book.iter_mut().for_each(|line| line[3] = 9);
                rows.write_listed(gpu, &ids, &some).unwrap();
                let all = rows.read(gpu, 0..300).unwrap();
                for row in 0..300 {
                    let listed = ids.binary_search(&(row as u32)).is_ok();
                    let factor = if listed { -2.0 } else { 1.0 };
                    let own = row * columns..(row + 1) * columns;
                    let same = all.weights[own.clone()].iter().zip(&part.weights[own]).all(|(a, b)| *a == factor * b);
                    assert!(same && all.book[row][3] == if listed { 9 } else { 4 }, "row {row}");
                }
                assert!(all.state == part.state);
                rows.write(gpu, &part).unwrap();
            }
            assert!(rows.read_listed(gpu, &[3, 3]).is_err() && rows.read_listed(gpu, &[300]).is_err());
        }
    }
}

/// A row that a later step touched owes nothing: catching up with an earlier one leaves its bits and its stamp.
#[test]
fn rows_that_are_ahead_stay_where_they_are() {
    let Some(gpu) = common::device("rows_that_are_ahead_stay_where_they_are", false) else { return };
    let rows = table(gpu, 4, Storage::F32, &random_part(&mut Random::new(2), 9, 4, 2));
    let mut optimiser = Optimiser::new(gpu, Rule::adam(), Mode::CatchUp, 0).unwrap();
    for ids in [&[1, 5][..], &[1], &[5]] {
        panel_step(gpu, &mut optimiser, 1e-3, &rows, ids, &vec![0.5; 4 * ids.len()]);
    }
    let before = bits(gpu, &rows);
    let mut recording = Recording::new();
    optimiser.record_catch_up(&mut recording, gpu.caps(), &rows, Which::All, 2).unwrap();
    run(gpu, &recording);
    let stamps: Vec<u32> = rows.book(gpu).unwrap().iter().map(|line| line[0]).collect();
    assert_eq!(stamps, [2, 2, 2, 2, 2, 3, 2, 2, 2]);
    let after = bits(gpu, &rows);
    assert!(before.iter().zip(&after).all(|(b, a)| b[20..24] == a[20..24]), "row 5 moved");
    assert!(before[1] != after[1], "nothing caught up");
}
