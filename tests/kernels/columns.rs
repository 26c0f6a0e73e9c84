//! `column_chunks`, `column_sums`: sums over rows, slot by slot.

use wavehull::gpu::Recording;
use wavehull::ops::columns::{self, CHUNK};
use wavehull::{ErrorKind, Gpu, Tensor};

use crate::common::{self, Random, U};
use crate::members::{self, Expected, Member, Mutation};

/// Rows and columns: below, at and across a chunk, more chunks than strands, columns across a vector and a workgroup.
const SIZES: [(&[usize], usize); 6] =
    [(&[3], 5), (&[CHUNK], 4), (&[13, 5], 7), (&[1], 1), (&[2, 9, 8], 270), (&[20 * CHUNK + 3], 6)];

fn members(rows: usize, n: usize, count: usize) -> Vec<Member> {
    let mut random = Random::new((rows * 7 + n) as u64);
    (0..count).map(|_| (0..2).map(|_| random.floats(rows * n)).collect()).collect()
}

fn run(gpu: &Gpu, members: &[Member], middle: &[usize], n: usize, mutation: Mutation) -> Vec<Member> {
    let shape = [middle, &[n]].concat();
    let (x, y) = (members::stacked(gpu, members, 0, &shape), members::stacked(gpu, members, 1, &shape));
    let scratch = common::poisoned(gpu, &columns::scratch(x.shape()));
    let outs = [0; 2].map(|_| members::poisoned_field(gpu, members.len(), &[n]));
    let mut recording = Recording::new();
    columns::sums(&mut recording, gpu.caps(), &x, &scratch, &outs[0]).unwrap();
    columns::products(&mut recording, gpu.caps(), &x, &y, &scratch, &outs[1]).unwrap();
    members::results(gpu, &recording, &[&outs[0], &outs[1]], mutation)
}

fn oracle(member: &Member, n: usize) -> Vec<Expected> {
    let rows = member[0].len() / n;
    // Each term passes through the additions of its chunk, of its strand and of the strands, and one rounding of the product.
    let depth = (CHUNK.min(rows) + rows.div_ceil(CHUNK).div_ceil(16) + 16) as f64;
    let (x, y) = (members::doubles(&member[0]), members::doubles(&member[1]));
    let sum = |term: &dyn Fn(usize) -> f64| -> Expected {
        let column = |j: usize| (0..rows).map(move |r| r * n + j);
        let of = |j| (column(j).map(term).sum(), depth * U * column(j).map(|i| term(i).abs()).sum::<f64>());
        (0..n).map(of).collect()
    };
    vec![sum(&|i| x[i]), sum(&|i| x[i] * y[i])]
}

#[test]
fn column_sums_agree_with_f64_and_stand_alone() {
    for (middle, n) in SIZES {
        let members = members(middle.iter().product(), n, 3);
        let run = |gpu: &Gpu, members: &[Member], mutation: Mutation| run(gpu, members, middle, n, mutation);
        let what = format!("{middle:?} x {n}");
        members::check("column_sums", &what, &members, &run, &|member| oracle(member, n));
    }
}

#[test]
fn a_shared_operand_is_summed_for_every_slot() {
    let Some(gpu) = common::device("a_shared_operand_is_summed_for_every_slot", false) else { return };
    let xs = members(70, 5, 1).remove(0);
    let x = common::tensor(gpu, &[70, 5], &xs[0]).shared(3);
    let scratch = common::poisoned(gpu, &columns::scratch(x.shape()));
    let out = common::poisoned(gpu, &[3, 5]);
    let mut recording = Recording::new();
    columns::sums(&mut recording, gpu.caps(), &x, &scratch, &out).unwrap();
    for member in members::results(gpu, &recording, &[&out], None) {
        common::compare(&member[0], &oracle(&xs, 5)[0]).unwrap();
    }
}

#[test]
fn padding_of_gradients_is_zero() {
    let Some(gpu) = common::device("padding_of_gradients_is_zero", false) else { return };
    for rows in [5, 200] {
        let x = members::stacked(gpu, &members(rows, 6, 2), 0, &[rows, 6]);
        let scratch = common::poisoned(gpu, &columns::scratch(x.shape()));
        let out = common::poisoned(gpu, &[2, 6]);
        let mut recording = Recording::new();
        columns::sums(&mut recording, gpu.caps(), &x, &scratch, &out).unwrap();
        let raw = common::run_raw(gpu, &recording, &out);
        assert_eq!([raw[6], raw[7], raw[14], raw[15]], [0; 4], "norms of whole tables read padding");
    }
}

#[test]
fn broken_column_sums_are_noticed() {
    let (rows, n) = (20 * CHUNK + 3, 6);
    let members = members(rows, n, 2);
    let run = |gpu: &Gpu, members: &[Member], mutation: Mutation| run(gpu, members, &[rows], n, mutation);
    members::noticed(
        "broken_column_sums_are_noticed",
        &members,
        &run,
        &|member| oracle(member, n),
        &[
            ("column_chunks", "sum += v", "sum += v * 1.001"),
            ("column_chunks", "sum = fma(v, w, sum)", "sum = fma(v, v, sum)"),
            ("column_chunks", "min(low + CHUNK, p.rows)", "low + CHUNK"),
            ("column_chunks", "slot * p.slot_x", "0u * p.slot_x"),
            ("column_sums", "chunk += STRANDS", "chunk += STRANDS * 2u"),
            ("column_sums", "s * p.slot_out", "s"),
        ],
    );
}

#[test]
fn column_sums_that_do_not_fit_are_refused() {
    let Some(gpu) = common::device("column_sums_that_do_not_fit_are_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::uninit(gpu, shape).unwrap();
    let try_it = |x: &[usize], scratch: &[usize], out: &[usize]| {
        columns::sums(&mut Recording::new(), gpu.caps(), &t(x), &t(scratch), &t(out)).map_err(|e| e.kind())
    };
    assert_eq!(try_it(&[2, 70, 3], &[2, 2, 3], &[2, 3]), Ok(()));
    for (x, scratch, out) in [
        (&[2, 70, 3][..], &[2, 1, 3][..], &[2, 3][..]),
        (&[2, 70, 3], &[2, 2, 3], &[1, 3]),
        (&[2, 3], &[2, 1, 3], &[2, 3]),
    ] {
        assert_eq!(try_it(x, scratch, out), Err(ErrorKind::Internal), "{x:?}");
    }
}
