//! `pool_gradient`, the winners of `pool`, and adaptive windows.

use wavehull::gpu::Recording;
use wavehull::ops::pool::{Pool, Pooling};
use wavehull::{ErrorKind, Gpu, Tensor};

use crate::common::{self, Random, U, broken};
use crate::on_both;
use crate::pool::{Case, PLAIN, cases};

/// A pool of any kind, described by the elements that its windows hold.
#[derive(Debug, Clone, Copy)]
struct Any {
    from: [usize; 4],
    to: [usize; 4],
    pool: Pool,
}

impl Any {
    fn given(case: &Case) -> Self {
        let [from, to] = case.shapes();
        Self { from, to, pool: case.pool }
    }

    /// Places that a window takes from one axis, tap by tap; `None` outside of the image.
    fn taps(&self, axis: usize, window: usize) -> Vec<Option<usize>> {
        let (size, windows) = (self.from[1 + axis], self.to[1 + axis]);
        if self.pool == Pool::ADAPTIVE {
            let end = ((window + 1) * size).div_ceil(windows);
            return (window * size / windows..end).map(Some).collect();
        }
        let Pool { kernel, stride, pad, dilation } = self.pool;
        let at = |tap: usize| (window * stride[axis] + tap * dilation[axis]).checked_sub(pad[axis]);
        (0..kernel[axis]).map(|tap| at(tap).filter(|&place| place < size)).collect()
    }

    /// Elements of x that each window holds, by their taps, in the result's row-major order; and the taps of a window.
    fn windows(&self) -> Vec<(Vec<(u32, usize)>, usize)> {
        let [_, out_h, out_w, channels] = self.to;
        let [_, in_h, in_w, _] = self.from;
        let of = |at: usize| {
            let (channel, pixel) = (at % channels, at / channels);
            let (sample, rows, columns) =
                (pixel / out_w / out_h, self.taps(0, pixel / out_w % out_h), self.taps(1, pixel % out_w));
            let taps = rows.len() * columns.len();
            let all = rows.iter().flat_map(|row| columns.iter().map(move |column| (*row, *column)));
            let place = |(row, column): (Option<usize>, Option<usize>)| {
                Some(((sample * in_h + row?) * in_w + column?) * channels + channel)
            };
            ((0..).zip(all.map(place)).filter_map(|(tap, at)| Some((tap, at?))).collect(), taps)
        };
        (0..self.to.iter().product()).map(of).collect()
    }

    /// Numbers of which windows have several largest, and the gradient of the result.
    fn numbers(&self, seed: u64) -> [Vec<f32>; 2] {
        let mut random = Random::new(seed);
        let x = (0..self.from.iter().product()).map(|_| random.below(9) as f32 * 0.37 - 1.5).collect();
        [x, random.floats(self.to.iter().product())]
    }

    /// Value and winner of each window.
    fn maxima(&self, x: &[f32]) -> Vec<(f32, u32)> {
        let first_largest = |(window, _): &(Vec<(u32, usize)>, usize)| {
            let largest = window.iter().map(|&(_, at)| x[at]).fold(f32::MIN, f32::max);
            let winner = window.iter().find(|&&(_, at)| x[at] == largest);
            winner.map_or((-3.4e38, u32::MAX), |&(tap, at)| (x[at], tap))
        };
        self.windows().iter().map(first_largest).collect()
    }

    fn gradient_oracle(&self, pooling: Pooling, x: &[f32], g: &[f32]) -> Vec<(f64, f64)> {
        let mut oracle = vec![(0.0, 0.0); x.len()];
        let mut held = vec![0.0; x.len()];
        let winners = self.maxima(x);
        for ((i, (window, taps)), winner) in self.windows().iter().enumerate().zip(winners) {
            let count = if pooling == Pooling::Mean { window.len() } else { *taps } as f64;
            for &(tap, at) in window {
                let share = match pooling {
                    Pooling::Max => f64::from(u8::from(tap == winner.1)),
                    Pooling::Mean | Pooling::MeanOfWindow => 1.0 / count,
                };
                oracle[at].0 += f64::from(g[i]) * share;
                oracle[at].1 += f64::from(g[i]).abs() * share;
                held[at] += 1.0;
            }
        }
        // A rounding a window that holds the element and 2.5 ulp of a mean's division (header of pool_gradient.wgsl).
        oracle.iter().zip(held).map(|(&(sum, size), held)| (sum, 1.001 * (held + 2.5) * U * size)).collect()
    }

    fn record_mean(&self, gpu: &Gpu, pooling: Pooling, g: &[f32]) -> (Recording, Tensor) {
        let (g, dx) = (common::tensor(gpu, &self.to, g), common::poisoned(gpu, &self.from));
        let mut recording = Recording::new();
        self.pool.mean_gradient(&mut recording, gpu.caps(), pooling, &g, &dx).unwrap();
        (recording, dx)
    }

    /// The maximum, its winners and its gradient, in one recording.
    fn record_max(&self, gpu: &Gpu, x: &[f32], g: &[f32]) -> (Recording, Tensor, Tensor<u32>, Tensor) {
        let (x, g) = (common::tensor(gpu, &self.from, x), common::tensor(gpu, &self.to, g));
        let (out, winners) = (common::poisoned(gpu, &self.to), common::poisoned(gpu, &self.to));
        let dx = common::poisoned(gpu, &self.from);
        let mut recording = Recording::new();
        self.pool.max_with_winners(&mut recording, gpu.caps(), &x, &out, &winners).unwrap();
        self.pool.winners_gradient(&mut recording, gpu.caps(), &winners, &g, &dx).unwrap();
        (recording, out, winners, dx)
    }
}

fn all() -> Vec<Any> {
    let adaptive = |[batch, channels]: [usize; 2], size: [usize; 2], windows: [usize; 2]| Any {
        from: [batch, size[0], size[1], channels],
        to: [batch, windows[0], windows[1], channels],
        pool: Pool::ADAPTIVE,
    };
    let mut all: Vec<Any> = cases().iter().map(Any::given).collect();
    all.extend([
        adaptive([2, 5], [7, 9], [1, 1]),
        adaptive([1, 33], [7, 9], [3, 4]),
        adaptive([3, 4], [8, 8], [4, 2]),
        // More windows than places.
        adaptive([2, 3], [3, 2], [5, 7]),
        adaptive([2, 7], [1, 1024], [1, 1]),
    ]);
    // Windows that lie in the padding alone.
    let pool = Pool { kernel: [1, 2], stride: [1, 2], pad: [1, 2], dilation: [1, 1] };
    all.push(Any { from: [2, 3, 4, 5], to: [2, 5, 4, 5], pool });
    all
}

fn elements(raw: &[u32], tensor: &Tensor) -> Vec<f32> {
    common::places(tensor).into_iter().map(|i| f32::from_bits(raw[i])).collect()
}

#[test]
fn winners_and_their_gradients_agree_with_f64() {
    on_both("winners_and_their_gradients_agree_with_f64", |gpu| {
        for any in all() {
            let [x, g] = any.numbers(6);
            let (recording, out, winners, dx) = any.record_max(gpu, &x, &g);
            let (values, firsts): (Vec<f32>, Vec<u32>) = any.maxima(&x).into_iter().unzip();
            assert_eq!(common::run(gpu, &recording, &out, true), values, "{any:?}");
            assert_eq!(common::run(gpu, &recording, &winners, true), firsts, "{any:?}");
            common::compare(&common::run(gpu, &recording, &dx, true), &any.gradient_oracle(Pooling::Max, &x, &g))
                .unwrap_or_else(|why| panic!("{any:?}: {why}"));
        }
    });
}

#[test]
fn gradients_of_means_agree_with_f64() {
    on_both("gradients_of_means_agree_with_f64", |gpu| {
        for any in all() {
            for pooling in [Pooling::Mean, Pooling::MeanOfWindow] {
                let [x, g] = any.numbers(7);
                let (recording, dx) = any.record_mean(gpu, pooling, &g);
                common::compare(&common::run(gpu, &recording, &dx, true), &any.gradient_oracle(pooling, &x, &g))
                    .unwrap_or_else(|why| panic!("{pooling:?} {any:?}: {why}"));
            }
        }
    });
}

/// The mean is linear: the loss `sum out g` changes with an element of x by what the gradient says, by the forward kernel's own oracle.
#[test]
fn adaptive_means_agree_with_f64() {
    on_both("adaptive_means_agree_with_f64", |gpu| {
        for any in all().into_iter().filter(|any| any.pool == Pool::ADAPTIVE) {
            let [x, g] = any.numbers(8);
            let (input, out) = (common::tensor(gpu, &any.from, &x), common::poisoned(gpu, &any.to));
            let mut recording = Recording::new();
            any.pool.record(&mut recording, gpu.caps(), Pooling::Mean, &input, &out).unwrap();
            let windows = any.windows();
            let mean = |(window, taps): &(Vec<(u32, usize)>, usize)| {
                let values = || window.iter().map(|&(_, at)| f64::from(x[at]));
                let size: f64 = values().map(f64::abs).sum();
                (values().sum::<f64>() / *taps as f64, 1.001 * (*taps as f64 + 2.5) * U * size / *taps as f64)
            };
            let oracle: Vec<(f64, f64)> = windows.iter().map(mean).collect();
            common::compare(&common::run(gpu, &recording, &out, true), &oracle)
                .unwrap_or_else(|why| panic!("{any:?}: {why}"));
            let by_value: f64 = oracle.iter().zip(&g).map(|(out, &g)| out.0 * f64::from(g)).sum();
            let gradient = any.gradient_oracle(Pooling::Mean, &x, &g);
            let by_gradient: f64 = gradient.iter().zip(&x).map(|(dx, &x)| dx.0 * f64::from(x)).sum();
            assert!((by_value - by_gradient).abs() <= 1e-9 * (1.0 + by_value.abs()), "{any:?}");
        }
    });
}

/// Slots are samples here: what a sample gets may not depend on how many there are or what they hold.
#[test]
fn a_slots_pools_have_the_bits_that_they_have_alone() {
    let Some(gpu) = common::device("a_slots_pools_have_the_bits_that_they_have_alone", false) else { return };
    for any in all() {
        let one =
            Any { from: [1, any.from[1], any.from[2], any.from[3]], to: [1, any.to[1], any.to[2], any.to[3]], ..any };
        let three =
            Any { from: [3, any.from[1], any.from[2], any.from[3]], to: [3, any.to[1], any.to[2], any.to[3]], ..any };
        let [mut x, mut g] = three.numbers(9);
        let (in_x, in_g) = (x.len() / 3, g.len() / 3);
        x[in_x..2 * in_x].fill(f32::NAN);
        g[in_g..2 * in_g].fill(f32::NAN);
        let run = |any: &Any, x: &[f32], g: &[f32]| {
            let (max, _, _, dx) = any.record_max(gpu, x, g);
            let (mean, dm) = any.record_mean(gpu, Pooling::Mean, g);
            [common::run(gpu, &max, &dx, true), common::run(gpu, &mean, &dm, true)].map(|all| crate::conv::bits(&all))
        };
        let all = run(&three, &x, &g);
        for slot in [0, 2] {
            let alone = run(&one, &x[slot * in_x..][..in_x], &g[slot * in_g..][..in_g]);
            for (all, alone) in all.iter().zip(&alone) {
                assert!(all[slot * in_x..][..in_x] == *alone, "slot {slot} of {any:?}");
            }
        }
    }
}

#[test]
fn broken_gradients_of_pools_are_noticed() {
    let Some(gpu) = common::device("broken_gradients_of_pools_are_noticed", false) else { return };
    let plain = Any::given(&Case { pool: Pool { dilation: [2, 1], ..PLAIN.pool }, ..PLAIN });
    let adaptive = all().into_iter().find(|any| any.pool == Pool::ADAPTIVE && any.to[1] > 1).unwrap();
    for (any, pooling, name, from, to) in [
        (plain, Pooling::Max, "pool", "(value > s)", "(value >= s)"),
        (plain, Pooling::Max, "pool_gradient", "i * of_u.y + j", "i * of_u.y"),
        (
            plain,
            Pooling::Max,
            "pool_gradient",
            "min(quotient(at, axis.y) + 1u, sizes.y)",
            "min(quotient(at, axis.y), sizes.y)",
        ),
        (plain, Pooling::Mean, "pool_gradient", "tap.y == 0u", "true"),
        (plain, Pooling::Mean, "pool_gradient", "quotient(u32(max(-span.x, 0)) + dilation - 1u, dilation)", "0u"),
        (
            plain,
            Pooling::Mean,
            "pool_gradient",
            "min(quotient(u32(i32(size) - 1 - span.x), dilation), u32(span.y - 1))",
            "u32(span.y - 1)",
        ),
        (plain, Pooling::MeanOfWindow, "pool_gradient", "(p.flags & WHOLE) != 0u", "false"),
        (adaptive, Pooling::Mean, "pool_gradient", "sizes.y + sizes.x - 1u", "sizes.y"),
        (
            adaptive,
            Pooling::Max,
            "pool_gradient",
            "vec2<u32>(quotient(place * sizes.y, sizes.x),",
            "vec2<u32>(quotient(place * sizes.y, sizes.x) + 1u,",
        ),
    ] {
        let [x, g] = any.numbers(3);
        let (recording, dx) = if pooling == Pooling::Max {
            let (recording, _, _, dx) = any.record_max(gpu, &x, &g);
            (recording, dx)
        } else {
            any.record_mean(gpu, pooling, &g)
        };
        let oracle = any.gradient_oracle(pooling, &x, &g);
        let raw = common::run_raw(gpu, &broken(&recording, name, from, to), &dx);
        assert!(common::compare(&elements(&raw, &dx), &oracle).is_err(), "'{to}' in '{name}' went unseen");
    }
}

#[test]
fn gradients_of_pools_that_do_not_fit_are_refused() {
    let Some(gpu) = common::device("gradients_of_pools_that_do_not_fit_are_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::uninit(gpu, shape).unwrap();
    let [from, to] = PLAIN.shapes();
    let mean = |pooling: Pooling, g: &[usize], dx: &[usize]| {
        PLAIN.pool.mean_gradient(&mut Recording::new(), gpu.caps(), pooling, &t(g), &t(dx)).map_err(|e| e.kind())
    };
    assert_eq!(mean(Pooling::Mean, &to, &from), Ok(()));
    assert_eq!(mean(Pooling::Max, &to, &from), Err(ErrorKind::Internal));
    assert_eq!(mean(Pooling::Mean, &[to[0] + 1, to[1], to[2], to[3]], &from), Err(ErrorKind::Internal));
    let winners = Tensor::<u32>::uninit(gpu, &[to[0], to[1], to[2], to[3] + 1]).unwrap();
    let refused = PLAIN.pool.winners_gradient(&mut Recording::new(), gpu.caps(), &winners, &t(&to), &t(&from));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Internal);
    let huge = Pool::ADAPTIVE.record(
        &mut Recording::new(),
        gpu.caps(),
        Pooling::Max,
        &t(&[1, 1, 1 << 20, 1]),
        &t(&[1, 1, 1 << 12, 1]),
    );
    assert_eq!(huge.unwrap_err().kind(), ErrorKind::TooBig);
}

/// lib/divide.wgsl in numbers whose every rounding goes wrong by what WGSL allows.
#[test]
fn quotients_are_exact_however_floats_round() {
    let mut random = Random::new(11);
    let mut off = |value: f64, units: f64| (value * (1.0 + random.unit() * units * U)) as f32;
    let mut quotient = |a: i64, b: i64| {
        let divisor = f64::from(off(b as f64, 1.0));
        let inverse = f64::from(off(1.0 / divisor, 2.5));
        let product = f64::from(off(a as f64, 1.0)) * inverse;
        let q = off(product, 1.0).trunc() as i64;
        let r = a - q * b;
        assert!(q < 1 << 31 && r.abs() < 1 << 31, "{a} / {b}");
        let product = f64::from(off(r as f64, 1.0)) * inverse;
        let c = off(product, 1.0).floor() as i64;
        let rest = r - c * b;
        q + c + i64::from(rest >= b) - i64::from(rest < 0)
    };
    let mut numbers = Random::new(12);
    for _ in 0..300_000 {
        let b = 1 + (numbers.below(1 << 30) >> numbers.below(30)) as i64;
        let near = (numbers.below(1 << 31) as i64 >> numbers.below(31)) / b * b + numbers.below(3) as i64 - 1;
        for a in [near, numbers.below(1 << 31) as i64] {
            let a = a.clamp(0, (1 << 31) - 1);
            assert_eq!(quotient(a, b), a / b, "{a} / {b}");
        }
    }
}
