//! `gather_rows`, `scatter_rows` and `gather_elements`.

use wavehull::gpu::Recording;
use wavehull::ops::gather::{self, NOTHING, Otherwise, Segments};
use wavehull::{ErrorKind, Gpu, Tensor};

use crate::common::{self, POISON, Random, U, broken};
use crate::on_both;

/// Rows, columns and how many are gathered or where they are scattered to.
const SIZES: [[usize; 3]; 5] = [[1, 1, 1], [5, 3, 9], [70, 4, 33], [33, 65, 70], [9, 130, 3]];

fn words(random: &mut Random, count: usize) -> Vec<u32> {
    (0..count).map(|_| (random.bits() >> 20) as u32).collect()
}

fn gathered(gpu: &Gpu, [rows, n, count]: [usize; 3]) -> (Recording, Tensor<u32>, Vec<u32>) {
    let mut random = Random::new((rows + n) as u64);
    let xs = words(&mut random, rows * n);
    // One id in five names no row.
    let ids: Vec<u32> =
        (0..count).map(|i| if i % 5 == 4 { NOTHING - i as u32 } else { random.below(rows) as u32 }).collect();
    let row = |&id: &u32| {
        let id = id as usize;
        if id < rows { xs[id * n..(id + 1) * n].to_vec() } else { vec![0; n] }
    };
    let (x, ids_on_device) = (common::tensor(gpu, &[rows, n], &xs), common::tensor(gpu, &[count], &ids));
    let out = common::poisoned(gpu, &[count, n]);
    let mut recording = Recording::new();
    gather::rows(&mut recording, gpu.caps(), &x, &ids_on_device, &out).unwrap();
    (recording, out, ids.iter().flat_map(row).collect())
}

#[test]
fn gathered_rows_keep_their_bits() {
    on_both("gathered_rows_keep_their_bits", |gpu| {
        for size in SIZES {
            let (recording, out, expected) = gathered(gpu, size);
            assert!(common::run(gpu, &recording, &out, true) == expected, "{size:?}");
        }
    });
}

fn scattered(gpu: &Gpu, [rows, n, destinations]: [usize; 3], add: bool) -> (Recording, Tensor, Vec<(f64, f64)>) {
    let mut random = Random::new((rows * n) as u64);
    let (xs, before) = (random.floats(rows * n), random.floats(destinations * n));
    // Some rows go nowhere.
    let ids: Vec<u32> = (0..rows).map(|_| random.below(destinations + 1) as u32).collect();
    let mut oracle: Vec<(f64, f64)> = if add {
        before.iter().map(|&b| (f64::from(b), f64::from(b).abs())).collect()
    } else {
        vec![(0.0, 0.0); destinations * n]
    };
    for (row, &id) in ids.iter().enumerate().filter(|(_, id)| (**id as usize) < destinations) {
        for j in 0..n {
            let (sum, size) = &mut oracle[id as usize * n + j];
            let x = f64::from(xs[row * n + j]);
            *sum += x;
            *size += x.abs();
        }
    }
    // A rounding an entry, of at most all rows.
    for (_, size) in &mut oracle {
        *size *= 1.001 * rows as f64 * U;
    }
    let segments = Segments::new(&ids, destinations).unwrap().upload(gpu).unwrap();
    let x = common::tensor(gpu, &[rows, n], &xs);
    let out =
        if add { common::tensor(gpu, &[destinations, n], &before) } else { common::poisoned(gpu, &[destinations, n]) };
    let mut recording = Recording::new();
    gather::scatter_rows(&mut recording, gpu.caps(), &x, &segments, add, &out).unwrap();
    (recording, out, oracle)
}

#[test]
fn scattered_rows_are_summed() {
    on_both("scattered_rows_are_summed", |gpu| {
        for size in SIZES {
            for add in [false, true] {
                let (recording, out, oracle) = scattered(gpu, size, add);
                let got = common::run(gpu, &recording, &out, true);
                common::compare(&got, &oracle).unwrap_or_else(|why| panic!("{size:?}, add {add}: {why}"));
            }
        }
    });
}

#[test]
fn segments_list_the_rows_of_every_destination_in_order() {
    let segments = Segments::new(&[2, 0, 7, 2, NOTHING, 0, 2], 4).unwrap();
    assert_eq!((segments.starts, segments.list), (vec![0, 2, 2, 5, 5], vec![1, 5, 0, 3, 6]));
    let nothing = Segments::new(&[], 2).unwrap();
    assert_eq!((nothing.starts, nothing.list), (vec![0; 3], vec![]));
}

/// Words of x and out a sample, and the list between them.
fn reordered(gpu: &Gpu, batch: usize, shared: bool, otherwise: Otherwise<u32>) -> (Recording, Tensor<u32>, Vec<u32>) {
    let (from, to) = (37, 1030);
    let mut random = Random::new(11);
    let xs = words(&mut random, if shared { from } else { batch * from });
    let index: Vec<u32> =
        (0..to).map(|i| if i % 7 == 3 { from as u32 + i } else { random.below(from) as u32 }).collect();
    let x =
        if shared { common::tensor(gpu, &[from], &xs).shared(batch) } else { common::tensor(gpu, &[batch, from], &xs) };
    let out = common::poisoned(gpu, &[batch, to as usize]);
    let list = common::tensor(gpu, &[index.len()], &index);
    let mut recording = Recording::new();
    gather::elements(&mut recording, gpu.caps(), &x, &list, otherwise, &out).unwrap();
    let element = |b: usize, i: u32| match (i as usize) < from {
        true => xs[if shared { 0 } else { b * from } + i as usize],
        false => {
            if let Otherwise::Fill(value) = otherwise {
                value
            } else {
                POISON
            }
        }
    };
    let expected = (0..batch).flat_map(|b| index.iter().map(move |&i| (b, i))).map(|(b, i)| element(b, i)).collect();
    (recording, out, expected)
}

#[test]
fn elements_move_as_the_list_says() {
    on_both("elements_move_as_the_list_says", |gpu| {
        for batch in [1, 3, 300] {
            for shared in [false, true] {
                for otherwise in [Otherwise::Fill(77), Otherwise::Keep] {
                    let (recording, out, expected) = reordered(gpu, batch, shared, otherwise);
                    assert!(common::run(gpu, &recording, &out, false) == expected, "{batch} {shared} {otherwise:?}");
                }
            }
        }
    });
}

#[test]
fn broken_moves_by_index_are_noticed() {
    let Some(gpu) = common::device("broken_moves_by_index_are_noticed", false) else { return };
    let read = |recording: &Recording, tensor: &Tensor<u32>| {
        let raw = common::run_raw(gpu, recording, tensor);
        common::places(tensor).into_iter().map(|i| raw[i]).collect::<Vec<u32>>()
    };
    for (from, to) in [("item % p.width4]", "0u]"), ("select(vec4<u32>(0u), value, real)", "value")] {
        let (recording, out, expected) = gathered(gpu, [33, 65, 70]);
        assert!(read(&broken(&recording, "gather_rows", from, to), &out) != expected, "'{to}' went unseen");
    }
    for (from, to) in [("e = starts[segment];", "e = starts[segment] + 1u;"), ("s = out[item];", "")] {
        let (recording, out, oracle) = scattered(gpu, [70, 4, 33], true);
        let raw = common::run_raw(gpu, &broken(&recording, "scatter_rows", from, to), &out);
        let got: Vec<f32> = common::places(&out).into_iter().map(|i| f32::from_bits(raw[i])).collect();
        assert!(common::compare(&got, &oracle).is_err(), "'{to}' went unseen");
    }
    for (from, to) in
        [("b * p.stride_x", "0u"), ("select(p.fill, value, real)", "value"), ("b < p.batch", "b + 1u < p.batch")]
    {
        let (recording, out, expected) = reordered(gpu, 300, false, Otherwise::Fill(7));
        assert!(read(&broken(&recording, "gather_elements", from, to), &out) != expected, "'{to}' went unseen");
    }
}

#[test]
fn moves_that_do_not_fit_are_refused() {
    let Some(gpu) = common::device("moves_that_do_not_fit_are_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::<f32>::uninit(gpu, shape).unwrap();
    let ids = |n: usize| Tensor::<u32>::uninit(gpu, &[n]).unwrap();
    let kind = |result: wavehull::Result<()>| result.map_err(|e| e.kind());
    let rows = |x: &[usize], count: usize, out: &[usize]| {
        kind(gather::rows(&mut Recording::new(), gpu.caps(), &t(x), &ids(count), &t(out)))
    };
    assert_eq!(rows(&[4, 3], 2, &[2, 3]), Ok(()));
    assert_eq!(rows(&[4, 3], 2, &[2, 4]), Err(ErrorKind::Internal));
    assert_eq!(rows(&[4, 3], 3, &[2, 3]), Err(ErrorKind::Internal));
    let segments = Segments::new(&[0, 1], 2).unwrap().upload(gpu).unwrap();
    let scatter = |x: &[usize], out: &[usize]| {
        kind(gather::scatter_rows(&mut Recording::new(), gpu.caps(), &t(x), &segments, false, &t(out)))
    };
    assert_eq!(scatter(&[2, 3], &[2, 3]), Ok(()));
    assert_eq!(scatter(&[2, 3], &[3, 3]), Err(ErrorKind::Internal));
    let elements = |x: &[usize], count: usize, out: &[usize]| {
        kind(gather::elements(&mut Recording::new(), gpu.caps(), &t(x), &ids(count), Otherwise::Keep, &t(out)))
    };
    assert_eq!(elements(&[2, 3], 5, &[2, 5]), Ok(()));
    assert_eq!(elements(&[2, 3], 5, &[3, 5]), Err(ErrorKind::Internal));
    assert_eq!(elements(&[2, 3], 9, &[2, 5]), Err(ErrorKind::Internal));
}
