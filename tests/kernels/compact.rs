//! `row_compact`.

use wavehull::gpu::Recording;
use wavehull::ops::row_compact;
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
