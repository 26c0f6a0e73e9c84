//! `pool` and `max_pool_gradient`.

use wavehull::gpu::Recording;
use wavehull::ops::pool::{Pool, Pooling};
use wavehull::{ErrorKind, Gpu, Tensor};

use crate::common::{self, Random, U, broken};
use crate::on_both;

/// Images and windows; `out` is as large as whole windows in the padded image allow.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub batch: usize,
    pub size: [usize; 2],
    pub channels: usize,
    pub pool: Pool,
    /// Rows and columns of padding behind the image.
    pub end: [usize; 2],
}

pub const PLAIN: Case = Case {
    batch: 2,
    size: [7, 9],
    channels: 5,
    pool: Pool { kernel: [3, 2], stride: [2, 1], pad: [1, 1], dilation: [1, 1] },
    end: [1, 0],
};

pub fn cases() -> Vec<Case> {
    let pool = |kernel, stride, pad, dilation| Pool { kernel, stride, pad, dilation };
    vec![
        PLAIN,
        Case { channels: 64, batch: 3, ..PLAIN },
        Case { batch: 1, size: [1, 1], channels: 1, pool: pool([1, 1], [1, 1], [0, 0], [1, 1]), end: [0, 0] },
        Case { pool: pool([2, 2], [2, 2], [0, 0], [1, 1]), end: [0, 0], channels: 33, ..PLAIN },
        Case { pool: pool([2, 3], [1, 3], [1, 2], [3, 2]), end: [2, 1], ..PLAIN },
        Case { pool: pool([7, 9], [1, 1], [0, 0], [1, 1]), end: [0, 0], ..PLAIN },
        // Windows with gaps between them.
        Case { pool: pool([1, 2], [3, 4], [0, 1], [1, 1]), ..PLAIN },
    ]
}

impl Case {
    fn out_size(&self) -> [usize; 2] {
        let Pool { kernel, stride, pad, dilation } = self.pool;
        std::array::from_fn(|k| {
            (self.size[k] + pad[k] + self.end[k] - dilation[k] * (kernel[k] - 1) - 1) / stride[k] + 1
        })
    }

    pub fn shapes(&self) -> [[usize; 4]; 2] {
        let out = self.out_size();
        [[self.batch, self.size[0], self.size[1], self.channels], [self.batch, out[0], out[1], self.channels]]
    }

    /// Positions in x of the elements of a window, in row-major order of taps.
    fn window(&self, [sample, row, column, channel]: [usize; 4]) -> Vec<usize> {
        let Pool { kernel, stride, pad, dilation } = self.pool;
        let at = |axis: usize, window: usize, tap: usize| {
            let place = (window * stride[axis] + tap * dilation[axis]).checked_sub(pad[axis]);
            place.filter(|&place| place < self.size[axis])
        };
        let taps = (0..kernel[0]).flat_map(|i| (0..kernel[1]).map(move |j| (i, j)));
        taps.filter_map(|(i, j)| {
            let (y, x) = (at(0, row, i)?, at(1, column, j)?);
            Some(((sample * self.size[0] + y) * self.size[1] + x) * self.channels + channel)
        })
        .collect()
    }

    /// The windows of the result, in its row-major order.
    fn windows(&self) -> Vec<Vec<usize>> {
        let [_, [_, out_h, out_w, channels]] = self.shapes();
        let count = self.batch * out_h * out_w * channels;
        let place = |i: usize| {
            let (channel, pixel) = (i % channels, i / channels);
            [pixel / out_w / out_h, pixel / out_w % out_h, pixel % out_w, channel]
        };
        (0..count).map(|i| self.window(place(i))).collect()
    }

    fn oracle(&self, pooling: Pooling, x: &[f32]) -> Vec<(f64, f64)> {
        let taps = self.pool.kernel[0] * self.pool.kernel[1];
        let of_window = |window: &Vec<usize>| {
            let values = || window.iter().map(|&i| f64::from(x[i]));
            let count = if pooling == Pooling::Mean { window.len() } else { taps } as f64;
            let size: f64 = values().map(f64::abs).sum::<f64>() / count;
            // A rounding a tap and 2.5 ulp of the division (header of pool.wgsl).
            let tolerance = 1.001 * (taps as f64 + 2.5) * U * size;
            match pooling {
                Pooling::Max => (values().fold(f64::MIN, f64::max), 0.0),
                Pooling::Mean | Pooling::MeanOfWindow => (values().sum::<f64>() / count, tolerance),
            }
        };
        self.windows().iter().map(of_window).collect()
    }

    fn numbers(&self, random: &mut Random) -> Vec<f32> {
        // Few different values, so that windows have several largest elements.
        (0..self.shapes()[0].iter().product()).map(|_| random.below(9) as f32 * 0.37 - 1.5).collect()
    }

    fn record(&self, gpu: &Gpu, pooling: Pooling, x: &[f32]) -> (Recording, Tensor) {
        let [from, to] = self.shapes();
        let (x, out) = (common::tensor(gpu, &from, x), common::poisoned(gpu, &to));
        let mut recording = Recording::new();
        self.pool.record(&mut recording, gpu.caps(), pooling, &x, &out).unwrap();
        (recording, out)
    }

    /// The gradient's recording, its result and what it must be.
    fn gradient(&self, gpu: &Gpu) -> (Recording, Tensor, Vec<(f64, f64)>) {
        let mut random = Random::new(5);
        let [from, to] = self.shapes();
        let xs = self.numbers(&mut random);
        let gs = random.floats(to.iter().product());
        let mut oracle = vec![(0.0, 0.0); xs.len()];
        let taps = (self.pool.kernel[0] * self.pool.kernel[1]) as f64;
        for (window, &g) in self.windows().iter().zip(&gs) {
            let largest = window.iter().map(|&i| xs[i]).fold(f32::MIN, f32::max);
            let first = window.iter().find(|&&i| xs[i] == largest).expect("a window with an element");
            oracle[*first].0 += f64::from(g);
            oracle[*first].1 += 1.001 * taps * U * f64::from(g).abs();
        }
        let (x, g) = (common::tensor(gpu, &from, &xs), common::tensor(gpu, &to, &gs));
        let dx = common::poisoned(gpu, &from);
        let mut recording = Recording::new();
        self.pool.max_gradient(&mut recording, gpu.caps(), [&x, &g], &dx).unwrap();
        (recording, dx, oracle)
    }
}

const ALL: [Pooling; 3] = [Pooling::Max, Pooling::Mean, Pooling::MeanOfWindow];

#[test]
fn pools_agree_with_f64() {
    on_both("pools_agree_with_f64", |gpu| {
        for case in cases() {
            for pooling in ALL {
                let x = case.numbers(&mut Random::new(3));
                let (recording, out) = case.record(gpu, pooling, &x);
                let got = common::run(gpu, &recording, &out, true);
                common::compare(&got, &case.oracle(pooling, &x))
                    .unwrap_or_else(|why| panic!("{pooling:?} {case:?}: {why}"));
            }
        }
    });
}

#[test]
fn a_gradient_goes_to_the_first_of_the_largest() {
    on_both("a_gradient_goes_to_the_first_of_the_largest", |gpu| {
        for case in cases() {
            let (recording, dx, oracle) = case.gradient(gpu);
            let got = common::run(gpu, &recording, &dx, true);
            common::compare(&got, &oracle).unwrap_or_else(|why| panic!("{case:?}: {why}"));
        }
    });
}

fn elements(raw: &[u32], tensor: &Tensor) -> Vec<f32> {
    common::places(tensor).into_iter().map(|i| f32::from_bits(raw[i])).collect()
}

#[test]
fn broken_pools_are_noticed() {
    let Some(gpu) = common::device("broken_pools_are_noticed", false) else { return };
    for (pooling, from, to) in [
        (Pooling::Max, "y < p.in_h && x < p.in_w", "y < p.in_h"),
        (Pooling::Max, "i * i32(p.dilation_y)", "i"),
        (Pooling::Mean, "max(count, 1u)", "(p.kernel_h * p.kernel_w)"),
        (Pooling::MeanOfWindow, "count = u32(rows.y * columns.y);", ""),
    ] {
        let case = Case { pool: Pool { dilation: [2, 1], ..PLAIN.pool }, ..PLAIN };
        let x = case.numbers(&mut Random::new(3));
        let (recording, out) = case.record(gpu, pooling, &x);
        let raw = common::run_raw(gpu, &broken(&recording, "pool", from, to), &out);
        assert!(common::compare(&elements(&raw, &out), &case.oracle(pooling, &x)).is_err(), "'{to}' went unseen");
    }
    for (from, to) in [
        ("select(other <= own, other < own, vec4<bool>(before))", "(other <= own)"),
        ("l < j", "l <= j + 1u"),
        ("y % i32(p.stride_y) == 0", "true"),
    ] {
        let (recording, dx, oracle) = PLAIN.gradient(gpu);
        let raw = common::run_raw(gpu, &broken(&recording, "max_pool_gradient", from, to), &dx);
        assert!(common::compare(&elements(&raw, &dx), &oracle).is_err(), "'{to}' went unseen");
    }
}

#[test]
fn pools_that_do_not_fit_are_refused() {
    let Some(gpu) = common::device("pools_that_do_not_fit_are_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::uninit(gpu, shape).unwrap();
    let try_it = |pool: Pool, x: &[usize], out: &[usize]| {
        pool.record(&mut Recording::new(), gpu.caps(), Pooling::Max, &t(x), &t(out)).map_err(|e| e.kind())
    };
    assert_eq!(try_it(PLAIN.pool, &[1, 4, 4, 3], &[1, 2, 4, 3]), Ok(()));
    assert_eq!(try_it(PLAIN.pool, &[1, 4, 4, 3], &[2, 2, 4, 3]), Err(ErrorKind::Internal));
    assert_eq!(try_it(PLAIN.pool, &[1, 4, 4, 3], &[1, 2, 4, 4]), Err(ErrorKind::Internal));
    assert_eq!(try_it(Pool { stride: [0, 1], ..PLAIN.pool }, &[1, 4, 4, 3], &[1, 2, 4, 3]), Err(ErrorKind::Internal));
    assert_eq!(try_it(Pool { pad: [1 << 24, 0], ..PLAIN.pool }, &[1, 4, 4, 3], &[1, 2, 4, 3]), Err(ErrorKind::TooBig));
}
