//! What tests of kernels with slots share: members with their own numbers, fields of tables, one run that reads several results, and the checks
//! that every such kernel has to pass.

use wavehull::gpu::Recording;
use wavehull::tensor::{ALIGNED, Element, pitch};
use wavehull::{Control, Gpu, Tensor};

use crate::common::{self, POISON};

/// The arrays of one member, in the operator's own order.
pub type Member = Vec<Vec<f32>>;

/// A mutation: kernel, text, and what stands in its place.
pub type Mutation = Option<(&'static str, &'static str, &'static str)>;

/// An operator under test: the results of all members, each as its arrays.
pub type Run<'a> = &'a dyn Fn(&Gpu, &[Member], Mutation) -> Vec<Member>;

/// Values with tolerances.
pub type Expected = Vec<(f64, f64)>;

/// `members[..][which]` as one tensor `[slots, shape..]` with poison in its padding.
pub fn stacked(gpu: &Gpu, members: &[Member], which: usize, shape: &[usize]) -> Tensor {
    let all: Vec<f32> = members.iter().flat_map(|m| m[which].clone()).collect();
    common::tensor(gpu, &[&[members.len()], shape].concat(), &all)
}

/// A field of a table of poison, with neighbours in front and behind.
pub fn poisoned_field<T: Element>(gpu: &Gpu, slots: usize, shape: &[usize]) -> Tensor<T> {
    let rows: usize = shape[..shape.len() - 1].iter().product();
    let width = (rows * pitch(shape[shape.len() - 1])).next_multiple_of(ALIGNED) + 3 * ALIGNED;
    common::poisoned::<T>(gpu, &[slots, width]).field(2 * ALIGNED, shape).expect("the table has room")
}

/// `members[..][which]` as a field of a table of poison.
pub fn field(gpu: &Gpu, members: &[Member], which: usize, shape: &[usize]) -> Tensor {
    let width = (shape[..shape.len() - 1].iter().product::<usize>() * pitch(shape[shape.len() - 1]))
        .next_multiple_of(ALIGNED)
        + 3 * ALIGNED;
    let table: Tensor = common::poisoned(gpu, &[members.len(), width]);
    let field = table.field(2 * ALIGNED, shape).expect("the table has room");
    let mut memory = vec![POISON; common::words(&table)];
    let values = members.iter().flat_map(|m| &m[which]);
    for (place, value) in common::places(&field).into_iter().zip(values) {
        memory[2 * ALIGNED + place] = value.to_bits();
    }
    gpu.upload(table.buffer(), bytemuck::cast_slice(&memory)).unwrap();
    field
}

/// Places that an operator may write: the elements and the padding behind rows.
fn writable(t: &Tensor) -> Vec<bool> {
    let mut places = vec![0];
    let last = t.shape().len() - 1;
    for (axis, (&length, &stride)) in t.shape().iter().zip(t.strides()).enumerate() {
        let length = if axis == last { pitch(length) } else { length };
        places = places.iter().flat_map(|&base| (0..length).map(move |i| base + i * stride)).collect();
    }
    let mut may = vec![false; places.iter().max().map_or(0, |m| m + 1)];
    places.into_iter().for_each(|place| may[place] = true);
    may
}

/// Runs a recording (with a kernel broken) and brings back several tensors, slot by slot. Words between rows of a table must still be poison.
pub fn results(gpu: &Gpu, recording: &Recording, outs: &[&Tensor], mutation: Mutation) -> Vec<Member> {
    let mut recording = match mutation {
        Some((name, from, to)) => common::broken(recording, name, from, to),
        None => recording.clone(),
    };
    let tickets: Vec<_> = outs.iter().map(|t| recording.read(t.binding())).collect();
    let mut output = gpu.run(&recording, &Control::default()).unwrap();
    let mut members = vec![Vec::new(); outs[0].shape()[0]];
    for (t, ticket) in outs.iter().zip(tickets) {
        let memory: Vec<u32> = output.take(ticket);
        let may = writable(t);
        let touched = (0..memory.len()).find(|&i| !may.get(i).unwrap_or(&false) && memory[i] != POISON);
        assert!(mutation.is_some() || touched.is_none(), "word {touched:?} outside of {:?} was written", t.shape());
        let elements: Vec<f32> = common::places(t).into_iter().map(|i| f32::from_bits(memory[i])).collect();
        let each = elements.len() / members.len();
        members.iter_mut().zip(elements.chunks(each)).for_each(|(m, part)| m.push(part.to_vec()));
    }
    members
}

/// The results agree with the oracle.
pub fn agree(got: &[Member], members: &[Member], oracle: &dyn Fn(&Member) -> Vec<Expected>) -> Result<(), String> {
    for (slot, (got, member)) in got.iter().zip(members).enumerate() {
        for (which, (got, expected)) in got.iter().zip(oracle(member)).enumerate() {
            common::compare(got, &expected).map_err(|why| format!("slot {slot}, result {which}: {why}"))?;
        }
    }
    Ok(())
}

fn bits(member: &Member) -> Vec<Vec<u32>> {
    member.iter().map(|array| array.iter().map(|v| v.to_bits()).collect()).collect()
}

/// Every member has the same bits alone, at every place of an array, and beside members full of NaN.
pub fn alone(gpu: &Gpu, what: &str, members: &[Member], run: Run<'_>) {
    let together = run(gpu, members, None);
    for (slot, member) in members.iter().enumerate() {
        let single = run(gpu, std::slice::from_ref(member), None);
        assert!(bits(&single[0]) == bits(&together[slot]), "{what}: slot {slot} differs from the member alone");
        let nan: Member = member.iter().map(|array| vec![f32::NAN; array.len()]).collect();
        let beside = run(gpu, &[nan.clone(), member.clone(), nan], None);
        assert!(bits(&single[0]) == bits(&beside[1]), "{what}: a neighbour full of NaN reaches slot {slot}");
    }
}

/// The oracle holds on both devices, and alone as well as in the array.
pub fn check(test: &str, what: &str, members: &[Member], run: Run<'_>, oracle: &dyn Fn(&Member) -> Vec<Expected>) {
    crate::on_both(test, |gpu| {
        agree(&run(gpu, members, None), members, oracle).unwrap_or_else(|why| panic!("{what}: {why}"));
    });
    if let Some(gpu) = common::device(test, false) {
        alone(gpu, what, members, run);
    }
}

/// Each mutation is seen by the oracle.
pub fn noticed(
    test: &str,
    members: &[Member],
    run: Run<'_>,
    oracle: &dyn Fn(&Member) -> Vec<Expected>,
    mutations: &[(&'static str, &'static str, &'static str)],
) {
    let Some(gpu) = common::device(test, false) else { return };
    agree(&run(gpu, members, None), members, oracle).unwrap();
    for &mutation in mutations {
        let verdict = agree(&run(gpu, members, Some(mutation)), members, oracle);
        assert!(verdict.is_err(), "'{}' in {} went unseen", mutation.2, mutation.0);
    }
}

/// Central differences of f along every coordinate, in f64.
pub fn differences(x: &[f64], f: &dyn Fn(&[f64]) -> f64) -> Vec<f64> {
    let step = 1e-5;
    let at = |i: usize, by: f64| {
        let mut moved = x.to_vec();
        moved[i] += by;
        f(&moved)
    };
    (0..x.len()).map(|i| (at(i, step) - at(i, -step)) / (2.0 * step)).collect()
}

/// Values within 1e-6 of differences, relative to the largest.
pub fn is_gradient(what: &str, values: &[f64], differences: &[f64]) {
    let scale = differences.iter().fold(1.0_f64, |m, d| m.max(d.abs()));
    for (i, (v, d)) in values.iter().zip(differences).enumerate() {
        assert!((v - d).abs() <= 1e-6 * scale, "{what}: element {i} is {v}, by differences {d}");
    }
}

pub fn doubles(array: &[f32]) -> Vec<f64> {
    array.iter().map(|&v| f64::from(v)).collect()
}
