//! `embedding`, `embedding_links`, `embedding_gradient`: rows by number, and the gradient of the table.

use wavehull::gpu::Recording;
use wavehull::ops::embedding;
use wavehull::{ErrorKind, Gpu, Tensor};

use crate::common::{self, Random, U};
use crate::members::{self, Expected, Member, Mutation};

/// Samples and their length, rows of the table, width, padding row.
type Case = ([usize; 2], usize, usize, Option<usize>);

const CASES: [Case; 5] = [
    ([1, 1], 1, 1, None),
    ([3, 7], 5, 6, Some(2)),
    ([2, 40], 9, 4, Some(0)),
    ([5, 13], 100, 70, None),
    ([9, 31], 3, 5, Some(1)),
];

/// Ids (some of which are no rows), a table, the gradient of the output.
fn members((ids, v, n, _): Case, count: usize) -> Vec<Member> {
    let mut random = Random::new((ids[0] * 100 + v) as u64);
    let positions = ids[0] * ids[1];
    let one = |random: &mut Random| {
        let odd = [-1.0, v as f32, 3e9, f32::NAN, -0.0, f32::NEG_INFINITY, 0.5];
        let mut id = || if random.below(9) == 0 { odd[random.below(7)] } else { random.below(v) as f32 };
        let ids = (0..positions).map(|_| id()).collect();
        vec![ids, random.floats(v * n), random.floats(positions * n)]
    };
    (0..count).map(|_| one(&mut random)).collect()
}

/// Ids whose padding holds numbers of rows: poison there would be no row.
fn numbered(gpu: &Gpu, members: &[Member], ids: &[usize]) -> Tensor {
    let id: Tensor = common::poisoned(gpu, &[members.len(), ids[0], ids[1]]);
    let mut memory = vec![1.0_f32; common::words(&id)];
    for (place, value) in common::places(&id).into_iter().zip(members.iter().flat_map(|m| &m[0])) {
        memory[place] = *value;
    }
    gpu.upload(id.buffer(), bytemuck::cast_slice(&memory)).unwrap();
    id
}

fn run(gpu: &Gpu, members: &[Member], (ids, v, n, padding): Case, mutation: Mutation) -> Vec<Member> {
    let slots = members.len();
    let id = numbered(gpu, members, &ids);
    let table = members::field(gpu, members, 1, &[v, n]);
    let g = members::stacked(gpu, members, 2, &[ids[0], ids[1], n]);
    let out = common::poisoned(gpu, &[slots, ids[0], ids[1], n]);
    let d_table = members::poisoned_field(gpu, slots, &[v, n]);
    let links = common::poisoned(gpu, &embedding::links_shape(&id, v));
    let mut recording = Recording::new();
    embedding::forward(&mut recording, gpu.caps(), &id, &table, &out).unwrap();
    embedding::links(&mut recording, gpu.caps(), &id, v, padding, &links).unwrap();
    embedding::gradient(&mut recording, gpu.caps(), &links, &g, &d_table).unwrap();
    members::results(gpu, &recording, &[&out, &d_table], mutation)
}

fn row(id: f32, v: usize) -> Option<usize> {
    (id >= 0.0 && id < v as f32 && id.fract() == 0.0).then_some(id as usize)
}

fn oracle(member: &Member, (_, v, n, padding): Case) -> Vec<Expected> {
    let mut out = Vec::new();
    let mut d_table = vec![(0.0, 0.0); v * n];
    let counts = |r: usize| member[0].iter().filter(|&&id| row(id, v) == Some(r)).count() as f64;
    for (i, &id) in member[0].iter().enumerate() {
        let found = row(id, v);
        out.extend((0..n).map(|j| (found.map_or(0.0, |r| f64::from(member[1][r * n + j])), 0.0)));
        if let Some(r) = found.filter(|&r| Some(r) != padding) {
            for j in 0..n {
                let g = f64::from(member[2][i * n + j]);
                d_table[r * n + j].0 += g;
                d_table[r * n + j].1 += counts(r) * U * g.abs();
            }
        }
    }
    vec![out, d_table]
}

#[test]
fn rows_and_their_gradients_agree_with_f64_and_stand_alone() {
    for case in CASES {
        let members = members(case, 3);
        let run = |gpu: &Gpu, members: &[Member], mutation: Mutation| run(gpu, members, case, mutation);
        members::check("embedding", &format!("{case:?}"), &members, &run, &|member| oracle(member, case));
    }
}

#[test]
fn the_padding_row_of_every_slot_has_no_gradient() {
    let Some(gpu) = common::device("the_padding_row_of_every_slot_has_no_gradient", false) else { return };
    let case = ([9, 31], 3, 5, Some(1));
    for (slot, member) in run(gpu, &members(case, 4), case, None).iter().enumerate() {
        assert!(member[1][5..10].iter().all(|v| v.to_bits() == 0), "slot {slot}: {:?}", &member[1][5..10]);
        assert!(member[1][..5].iter().any(|&v| v != 0.0), "slot {slot} has no gradient at all");
    }
}

#[test]
fn shared_ids_give_every_slot_its_own_gradient() {
    let Some(gpu) = common::device("shared_ids_give_every_slot_its_own_gradient", false) else { return };
    let case = ([3, 7], 5, 6, Some(2));
    let mut members = members(case, 3);
    let ids = members[0][0].clone();
    members.iter_mut().for_each(|m| m[0].clone_from(&ids));
    let expected = run(gpu, &members, case, None);
    let id = common::tensor(gpu, &[3, 7], &ids).shared(3);
    let (table, g) = (members::field(gpu, &members, 1, &[5, 6]), members::stacked(gpu, &members, 2, &[3, 7, 6]));
    let (out, d_table) = (common::poisoned(gpu, &[3, 3, 7, 6]), members::poisoned_field(gpu, 3, &[5, 6]));
    let links = common::poisoned(gpu, &embedding::links_shape(&id, 5));
    assert_eq!(links.shape(), [1, 26]);
    let mut recording = Recording::new();
    embedding::forward(&mut recording, gpu.caps(), &id, &table, &out).unwrap();
    embedding::links(&mut recording, gpu.caps(), &id, 5, Some(2), &links).unwrap();
    embedding::gradient(&mut recording, gpu.caps(), &links, &g, &d_table).unwrap();
    assert_eq!(members::results(gpu, &recording, &[&out, &d_table], None), expected);
}

#[test]
fn broken_embeddings_are_noticed() {
    let case = ([3, 7], 5, 6, Some(2));
    let members = members(case, 3);
    let run = |gpu: &Gpu, members: &[Member], mutation: Mutation| run(gpu, members, case, mutation);
    members::noticed(
        "broken_embeddings_are_noticed",
        &members,
        &run,
        &|member| oracle(member, case),
        &[
            ("embedding", "select(vec4<f32>(0.0), value, id < p.v)", "value"),
            ("embedding", "s * p.slot_table", "s"),
            ("embedding", "i / p.length * p.ld_ids + i % p.length", "i"),
            ("embedding_links", " && id != p.padding", ""),
            (
                "embedding_links",
                "atomicMax(&links[s * p.slot_links + id], NO_ROW - i)",
                "atomicMax(&links[s * p.slot_links + id], i)",
            ),
            ("embedding_links", "(each >= vec4<u32>(low))", "(each > vec4<u32>(low))"),
            ("embedding_links", " & (vec4<u32>(column) + each < vec4<u32>(p.length))", ""),
            ("embedding_links", "2u, here.z", "1u, here.z"),
            ("embedding_gradient", "s * p.slot_links", "0u * p.slot_links"),
            ("embedding_gradient", "s * p.slot_g", "0u * p.slot_g"),
        ],
    );
}

#[test]
fn embeddings_that_do_not_fit_are_refused() {
    let Some(gpu) = common::device("embeddings_that_do_not_fit_are_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::uninit(gpu, shape).unwrap();
    let try_it = |ids: &[usize], table: &[usize], out: &[usize]| {
        embedding::forward(&mut Recording::new(), gpu.caps(), &t(ids), &t(table), &t(out)).map_err(|e| e.kind())
    };
    assert_eq!(try_it(&[2, 3, 4], &[2, 5, 6], &[2, 3, 4, 6]), Ok(()));
    assert_eq!(try_it(&[2, 3, 4], &[2, 5, 6], &[2, 3, 4, 5]), Err(ErrorKind::Internal));
    assert_eq!(try_it(&[1, 3, 4], &[2, 5, 6], &[1, 3, 4, 6]), Err(ErrorKind::Internal));
    assert_eq!(try_it(&[1, 2], &[1, (1 << 24) + 1, 1], &[1, 2, 1]), Err(ErrorKind::TooBig));
}
