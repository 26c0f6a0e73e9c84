//! `row_compact` and `segment_offsets`.

use wavehull::gpu::{Binding, Recording};
use wavehull::ops::row_compact::{self, RowPlan};
use wavehull::{Gpu, Tensor};

use crate::common::{self, POISON, Random, broken};
use crate::on_both;

struct Compaction {
    recording: Recording,
    list: Tensor<u32>,
    count: Tensor<u32>,
    expected: Vec<Vec<u32>>,
}

fn compaction(gpu: &Gpu, segments: usize, n: usize, one_in: usize) -> Compaction {
    let mut random = Random::new((segments * 7919 + n * 31 + one_in) as u64);
    let flag = |random: &mut Random| if random.below(one_in) == 0 { 1 << random.below(32) } else { 0 };
    let flags: Vec<u32> = (0..segments * n).map(|_| flag(&mut random)).collect();
    let on = common::tensor(gpu, &[segments, n], &flags);
    let (list, count) = (common::poisoned(gpu, &[segments, n]), common::poisoned(gpu, &[segments]));
    let mut recording = Recording::new();
    row_compact::record(&mut recording, gpu.caps(), &on, &list, &count).unwrap();
    let of_row = |row: &[u32]| (0..).zip(row).filter(|&(_, &flag)| flag != 0).map(|(j, _)| j).collect();
    Compaction { recording, list, count, expected: flags.chunks(n).map(of_row).collect() }
}

impl Compaction {
    /// Lists, counts, and poison behind the lists.
    fn check(&self, gpu: &Gpu, recording: &Recording) -> Result<(), String> {
        let list = common::run_raw(gpu, recording, &self.list);
        let count = common::run_raw(gpu, recording, &self.count);
        for (s, expected) in self.expected.iter().enumerate() {
            let row = &list[s * self.list.row_stride()..];
            if count[s] as usize != expected.len() || row[..expected.len()] != expected[..] {
                return Err(format!("segment {s}: {} of {}", count[s], expected.len()));
            }
            if row[expected.len()..self.list.row_stride()].iter().any(|&word| word != POISON) {
                return Err(format!("segment {s}: something behind the list was written"));
            }
        }
        Ok(())
    }
}

#[test]
fn flagged_indices_come_out_in_order() {
    on_both("flagged_indices_come_out_in_order", |gpu| {
        for (segments, n) in [(1, 1), (3, 63), (2, 64), (5, 65), (70, 10), (2, 200), (3, 1000)] {
            for one_in in [1, 2, 10, 100_000] {
                let c = compaction(gpu, segments, n, one_in);
                c.check(gpu, &c.recording).unwrap_or_else(|why| panic!("{segments} x {n}, one in {one_in}: {why}"));
            }
        }
    });
}

#[test]
fn broken_compactions_are_noticed() {
    let Some(gpu) = common::device("broken_compactions_are_noticed", false) else { return };
    for (from, to) in [
        ("t < lane.x)", "t <= lane.x)"),
        ("(quads + LANES - 1u) / LANES", "max(quads / LANES, 1u)"),
        ("list[base + before] = q * 4u", "list[base + before] = 1u + q * 4u"),
        ("!= vec4<u32>(0u)) & inside", "!= vec4<u32>(0u))"),
    ] {
        let c = compaction(gpu, 3, 201, 2);
        assert!(c.check(gpu, &broken(&c.recording, "row_compact", from, to)).is_err(), "'{to}' went unseen");
    }
}

const ARGUMENTS: usize = 12;

struct Offsets {
    recording: Recording,
    offset: Tensor<u32>,
    total: Tensor<u32>,
    arguments: Binding,
    expected: (Vec<u32>, u32, [u32; ARGUMENTS]),
}

fn offsets(gpu: &Gpu, plan: RowPlan, segments: usize) -> Offsets {
    let mut random = Random::new((segments as u32 * 100 + plan.tile) as u64);
    let counts: Vec<u32> = (0..segments).map(|_| random.below(50) as u32 * u32::from(random.coin())).collect();
    let count = common::tensor(gpu, &[segments], &counts);
    let (offset, total) = (common::poisoned(gpu, &[segments]), common::poisoned(gpu, &[1]));
    let buffer = gpu.allocate_arguments(3).unwrap();
    gpu.upload(&buffer, bytemuck::cast_slice(&[POISON; ARGUMENTS])).unwrap();
    let arguments = Binding::whole(&buffer);
    let mut recording = Recording::new();
    row_compact::offsets(&mut recording, plan, &count, &offset, &total, &arguments).unwrap();
    let padded = counts.iter().map(|c| (c * plan.sides).next_multiple_of(plan.tile));
    let mut rows = 0;
    let start = |p: u32| {
        rows += p;
        rows - p
    };
    let starts = padded.map(start).collect();
    let grids = [
        [rows.div_ceil(plan.rows_a), 1, 1, POISON],
        [rows / plan.tile, plan.columns, plan.chunks, POISON],
        [rows.div_ceil(plan.rows_c), 1, 1, POISON],
    ];
    let grids = std::array::from_fn(|i| grids[i / 4][i % 4]);
    Offsets { recording, offset, total, arguments, expected: (starts, rows, grids) }
}

impl Offsets {
    fn check(&self, gpu: &Gpu, recording: &Recording) -> Result<(), String> {
        let mut recording = recording.clone();
        let ticket = recording.read(self.arguments.clone());
        let mut output = gpu.run(&recording, &wavehull::Control::default()).unwrap();
        let grids: Vec<u32> = output.take(ticket);
        let total = common::run(gpu, &recording, &self.total, false);
        let starts = common::run(gpu, &recording, &self.offset, false);
        let found = (starts, total[0], std::array::from_fn(|i| grids[i]));
        if found == self.expected { Ok(()) } else { Err(format!("{found:?}, not {:?}", self.expected)) }
    }
}

const PLAN: RowPlan = RowPlan { sides: 2, tile: 16, columns: 3, chunks: 5, rows_a: 2, rows_c: 64, capacity: 1 << 30 };

#[test]
fn row_offsets_and_grids_follow_from_the_counts() {
    on_both("row_offsets_and_grids_follow_from_the_counts", |gpu| {
        for segments in [1, 5, 64, 65, 200] {
            for plan in [PLAN, RowPlan { sides: 1, tile: 64, ..PLAN }] {
                let o = offsets(gpu, plan, segments);
                o.check(gpu, &o.recording).unwrap_or_else(|why| panic!("{segments} segments, {plan:?}: {why}"));
            }
        }
    });
}

#[test]
fn broken_row_offsets_are_noticed() {
    let Some(gpu) = common::device("broken_row_offsets_are_noticed", false) else { return };
    for (from, to) in [
        ("/ p.tile * p.tile", ""),
        ("before += rows_of(s);", "before += count[s];"),
        ("args[8] = (total + p.rows_c - 1u)", "args[8] = total"),
    ] {
        let o = offsets(gpu, PLAN, 65);
        assert!(o.check(gpu, &broken(&o.recording, "segment_offsets", from, to)).is_err(), "'{to}' went unseen");
    }
}
