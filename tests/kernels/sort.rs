//! `sort_count` and `sort_scatter`.

use wavehull::gpu::{Options, Recording};
use wavehull::ops::sort::{self, Operands, Variant, Workspace};
use wavehull::{ErrorKind, Gpu, Tensor};

use crate::common::{self, Random, broken};
use crate::on_both;

/// Keys of a few kinds: any, few different ones, all equal, descending.
fn keys(kind: usize, count: usize) -> Vec<u32> {
    let mut random = Random::new((count + kind) as u64);
    let key = |i: usize, random: &mut Random| match kind {
        0 => (random.bits() >> 20) as u32,
        1 => (random.below(5) as u32).wrapping_mul(0x1234_5677),
        2 => 77,
        _ => u32::MAX - 3 * u32::try_from(i).unwrap(),
    };
    (0..count).map(|i| key(i, &mut random)).collect()
}

/// The host's own stable sort.
fn oracle(keys: &[u32], payload: Option<&[u32]>, n: usize, bits: u32) -> (Vec<u32>, Vec<u32>) {
    let mask = u32::MAX >> (32 - bits);
    let (mut out_keys, mut out_payload) = (Vec::new(), Vec::new());
    for (r, row) in keys.chunks(n).enumerate() {
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|&i| row[i] & mask);
        out_keys.extend(order.iter().map(|&i| row[i]));
        out_payload.extend(order.iter().map(|&i| payload.map_or(u32::try_from(i).unwrap(), |p| p[r * n + i])));
    }
    (out_keys, out_payload)
}

struct Sort {
    recording: Recording,
    out: [Tensor<u32>; 2],
    expected: (Vec<u32>, Vec<u32>),
}

fn sort(gpu: &Gpu, [rows, n]: [usize; 2], bits: u32, variant: Variant, kind: usize, given: bool) -> Sort {
    let (keys, carried) = (keys(kind, rows * n), keys(0, rows * n));
    let shape: &[usize] = if rows == 1 && kind == 0 { &[n] } else { &[rows, n] };
    let (on, payload) = (common::tensor(gpu, shape, &keys), common::tensor(gpu, shape, &carried));
    let out = [common::poisoned(gpu, shape), common::poisoned(gpu, shape)];
    let workspace = Workspace::with(gpu, rows, n, bits, variant).unwrap();
    let mut recording = Recording::new();
    let payload = given.then_some(&payload);
    let operands = Operands { keys: &on, payload, out_keys: &out[0], out_payload: &out[1] };
    sort::record(&mut recording, gpu.caps(), &workspace, &operands).unwrap();
    let expected = oracle(&keys, given.then_some(&carried[..]), n, bits);
    Sort { recording, out, expected }
}

impl Sort {
    fn check(&self, gpu: &Gpu, what: &str) {
        let got = common::run(gpu, &self.recording, &self.out[0], false);
        assert!(got == self.expected.0, "{what}: keys");
        let got = common::run(gpu, &self.recording, &self.out[1], false);
        assert!(got == self.expected.1, "{what}: payload");
    }
}

#[test]
fn rows_are_sorted_as_the_host_sorts_them() {
    on_both("rows_are_sorted_as_the_host_sorts_them", |gpu| {
        for variant in [Variant::Wide, Variant::Narrow] {
            // Both sides of a vector, a lane's run, a block of 2,048 or 4,096; the last digit whole and not.
            for ([rows, n], bits) in [
                ([1, 1], 32),
                ([3, 5], 3),
                ([2, 16], 4),
                ([4, 17], 9),
                ([2, 513], 20),
                ([1, 2048], 32),
                ([3, 4097], 18),
                ([2, 10_001], 13),
                ([1, 50_003], 24),
            ] {
                for (kind, given) in [(0, true), (0, false), (1, false), (2, true), (3, false)] {
                    let what = format!("{variant:?}, {rows} x {n}, {bits} bits, kind {kind}, {given}");
                    sort(gpu, [rows, n], bits, variant, kind, given).check(gpu, &what);
                }
            }
        }
    });
}

#[test]
fn a_workspace_serves_many_sorts() {
    let Some(gpu) = common::device("a_workspace_serves_many_sorts", false) else { return };
    let (rows, n) = (2, 5000);
    let workspace = Workspace::new(gpu, rows, n, 17).unwrap();
    let mut recording = Recording::new();
    let mut results = Vec::new();
    for kind in 0..4 {
        let host = keys(kind, rows * n);
        let on = common::tensor(gpu, &[rows, n], &host);
        let out = [common::poisoned(gpu, &[rows, n]), common::poisoned(gpu, &[rows, n])];
        let operands = Operands { keys: &on, payload: None, out_keys: &out[0], out_payload: &out[1] };
        sort::record(&mut recording, gpu.caps(), &workspace, &operands).unwrap();
        results.push((out, oracle(&host, None, n, 17)));
    }
    for (out, expected) in results {
        assert!(common::run(gpu, &recording, &out[0], false) == expected.0);
        assert!(common::run(gpu, &recording, &out[1], false) == expected.1);
    }
}

#[test]
fn rows_beyond_a_binding_are_sorted_in_windows() {
    let Some(_) = common::device("rows_beyond_a_binding_are_sorted_in_windows", false) else { return };
    let mut options = Options::default();
    options.max_binding = Some(64 << 10);
    let small = Gpu::open(&options).unwrap();
    // Keys of 21 rows are 84 KB; counters of 300 short rows are more than their keys.
    for ([rows, n], bits) in [([21, 1001], 20), ([300, 7], 16)] {
        for variant in [Variant::Wide, Variant::Narrow] {
            let sort = sort(&small, [rows, n], bits, variant, 0, true);
            assert!(sort.recording.dispatches() > 10, "{} dispatches", sort.recording.dispatches());
            sort.check(&small, &format!("{variant:?}, {rows} x {n}"));
        }
    }
    let error = Workspace::new(&small, 1, 20_000, 8).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig, "{error}");
}

#[test]
fn broken_sorts_are_noticed() {
    let Some(gpu) = common::device("broken_sorts_are_noticed", false) else { return };
    for (name, from, to) in [
        ("sort_count", "(t + d) % LANES", "t % (LANES - 1u)"),
        ("sort_scatter", "before += pieces[i];", ""),
        ("sort_scatter", "before += own;", ""),
        ("sort_scatter", "counts[counter] = place + 1u;", ""),
        ("sort_scatter", "vec4<u32>(i) + vec4<u32>(0u, 1u, 2u, 3u)", "vec4<u32>(i) + vec4<u32>(0u, 2u, 1u, 3u)"),
    ] {
        let sort = sort(gpu, [2, 5001], 12, Variant::Wide, 0, false);
        let recording = broken(&sort.recording, name, from, to);
        let raw = common::run_raw(gpu, &recording, &sort.out[1]);
        let got: Vec<u32> = common::places(&sort.out[1]).into_iter().map(|i| raw[i]).collect();
        assert!(got != sort.expected.1, "'{to}' in {name} went unseen");
    }
}

#[test]
fn sorts_that_do_not_fit_are_refused() {
    let Some(gpu) = common::device("sorts_that_do_not_fit_are_refused", false) else { return };
    for bits in [0, 33] {
        assert_eq!(Workspace::new(gpu, 1, 10, bits).unwrap_err().kind(), ErrorKind::Internal);
    }
    let workspace = Workspace::new(gpu, 2, 10, 8).unwrap();
    let t = |shape: &[usize]| Tensor::<u32>::uninit(gpu, shape).unwrap();
    let try_it = |keys: &[usize], out: &[usize]| {
        let (keys, out, payload) = (t(keys), t(out), t(&[2, 10]));
        let operands = Operands { keys: &keys, payload: None, out_keys: &out, out_payload: &payload };
        sort::record(&mut Recording::new(), gpu.caps(), &workspace, &operands).map_err(|e| e.kind())
    };
    assert_eq!(try_it(&[2, 10], &[2, 10]), Ok(()));
    for (keys, out) in [(&[2, 10][..], &[2, 9][..]), (&[10], &[2, 10]), (&[2, 1, 10], &[2, 10])] {
        assert_eq!(try_it(keys, out), Err(ErrorKind::Internal));
    }
}
