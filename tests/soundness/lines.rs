//! The lines of smooth functions, as the device makes them, against the functions in f64.

use wavehull::gpu::{Grid, Kernel, Params, Recording};
use wavehull::{Control, Gpu};

use crate::common::{self, Random, Words, say};
use crate::smooth;

const SIGMOID: u32 = 2;
const TANH: u32 = 3;

/// `relax_neurons` for a smooth function, one neuron an interval, without weights: (slope, offset, cost, bound) of both lines.
fn relaxed(gpu: &Gpu, activation: u32, intervals: &[(f32, f32)]) -> Vec<[[f32; 4]; 2]> {
    let all = wavehull::verify::kernels::catalogue();
    let kernel = all.into_iter().find(|kernel| kernel.name == "relax_neurons" && kernel.bindings.len() == 8).unwrap();
    let kernel = Kernel { params: Words::LAYOUT, ..kernel };
    let n = intervals.len();
    let (lower, upper): (Vec<f32>, Vec<f32>) = intervals.iter().copied().unzip();
    let (lower, upper) = (common::tensor(gpu, &[1, n], &lower), common::tensor(gpu, &[1, n], &upper));
    let weight_sum = common::tensor(gpu, &[1, n], &vec![0.0_f32; n]);
    let bias = common::tensor(gpu, &[2 * n], &vec![0.0_f32; 2 * n]);
    let (count, list) = (common::tensor(gpu, &[1], &[0_u32]), common::tensor(gpu, &[1], &[0_u32]));
    let lines = common::poisoned::<f32>(gpu, &[8 * n]);
    let table = common::tensor(gpu, &[smooth::table().len()], smooth::table());
    let mut params = [0_u32; 64];
    // The grid's offset, n, ld, len, threads, activation, compact, terms, writes, u, g_c, weight_rel, tiny.
    let (u, tiny) = (2.0_f32.powi(-23), 2.0_f32.powi(-100));
    let numbers =
        [n as u32, lower.row_stride() as u32, n as u32, 64, activation, 0, 1, 1, u.to_bits(), 0, 0, tiny.to_bits()];
    params[4..16].copy_from_slice(&numbers);
    let mut recording = Recording::new();
    let bindings = vec![
        lower.binding(),
        upper.binding(),
        weight_sum.binding(),
        bias.binding(),
        count.binding(),
        list.binding(),
        lines.binding(),
        table.binding(),
    ];
    recording.dispatch(&kernel, bindings, &Words(params), Grid::Direct([1, 1, 1]), n as f64).unwrap();
    let ticket = lines.record_read(&mut recording);
    let mut output = gpu.run(&recording, &Control::default()).unwrap();
    let flat = lines.take(&mut output, ticket);
    flat.chunks_exact(8).map(|c| [[c[0], c[1], c[2], c[3]], [c[4], c[5], c[6], c[7]]]).collect()
}

/// From tiny to huge, near 0 and far from it, on both sides, and around 0.
fn intervals(random: &mut Random) -> Vec<(f32, f32)> {
    let mut all = vec![
        (0.0, 0.0),
        (-0.0, 1.0),
        (-1.0, 0.0),
        (-20.0, 20.0),
        (-1e6, 0.1),
        (-0.1, 1e6),
        (-3e11, 3e11),
        (15.9, 16.1),
    ];
    for _ in 0..2000 {
        let size =
            |random: &mut Random, low: f64, high: f64| 10.0_f64.powf(low + (high - low) * (0.5 + 0.5 * random.unit()));
        let width = size(random, -6.0, 3.5);
        let centre = match random.below(4) {
            0 => 0.3 * width * random.unit(),
            1 => size(random, -4.0, 4.0),
            2 => -size(random, -4.0, 4.0),
            _ => 12.0 * random.unit(),
        };
        let (l, h) = ((centre - 0.5 * width) as f32, (centre + 0.5 * width) as f32);
        all.push((l, h));
    }
    all
}

fn points(l: f32, h: f32) -> impl Iterator<Item = f64> {
    let (l, h) = (f64::from(l), f64::from(h));
    let even = (0..=1000).map(move |i| (l + (h - l) * f64::from(i) / 1000.0).clamp(l, h));
    // Where the functions bend, however wide the interval is.
    let bend = (-400..=400).map(move |i| (0.05 * f64::from(i)).clamp(l, h));
    even.chain(bend)
}

#[test]
fn lines_of_smooth_functions_are_below_and_above_them_and_touch_them() {
    const NAME: &str = "lines_of_smooth_functions_are_below_and_above_them_and_touch_them";
    for checked in [false, true] {
        let Some(gpu) = common::device(NAME, checked) else { return };
        let all = intervals(&mut Random::new(41));
        for (activation, f) in [(SIGMOID, smooth::logistic as fn(f64) -> f64), (TANH, f64::tanh)] {
            let mut loosest = 0.0_f64;
            for (&(l, h), lines) in all.iter().zip(relaxed(gpu, activation, &all)) {
                for ([slope, offset, _, bound], sign) in lines.into_iter().zip([1.0, -1.0]) {
                    let what = format!("{activation} on [{l}, {h}]: {slope} z + {offset}, bound {bound}");
                    let gap = |z: f64| sign * (f(z) - f64::from(slope) * z - f64::from(offset));
                    let nearest = points(l, h).min_by(|a, b| gap(*a).total_cmp(&gap(*b))).unwrap();
                    assert!(gap(nearest) >= 0.0, "{what}: {:e} at {nearest}", gap(nearest));
                    let around = (-500..=500).map(|i| (nearest + 1e-4 * f64::from(i)).clamp(l.into(), h.into()));
                    let least = around.map(gap).fold(f64::INFINITY, f64::min);
                    assert!(least >= 0.0, "{what}: {least:e} near {nearest}");
                    // How far the line is from the function where it is nearest, beyond what its own rounding may cost.
                    let rounding = 16.0 * common::U * f64::from(slope) * f64::from(l.abs().max(h.abs()));
                    loosest = loosest.max(least - rounding);
                    let end = if sign > 0.0 { f(f64::from(l)) } else { f(f64::from(h)) };
                    let off = sign * (end - f64::from(bound));
                    assert!((0.0..1e-5).contains(&off), "{what}: the bound is {off:e} from {end}");
                }
            }
            say(&format!(
                "{NAME}: function {activation}, {} intervals: nearest points within {loosest:.1e}",
                all.len()
            ));
            // Chords of the table of least offsets cost most in its first cell, 1 / (16384 e).
            assert!(loosest < 6e-5, "function {activation}: a line stays {loosest:e} away");
        }
    }
}

/// The area between the two lines, against that of the rectangle of the bounds.
#[test]
fn lines_of_smooth_functions_are_narrower_than_their_bounds() {
    const NAME: &str = "lines_of_smooth_functions_are_narrower_than_their_bounds";
    let Some(gpu) = common::device(NAME, false) else { return };
    let widths = [0.01_f32, 0.1, 1.0, 4.0, 10.0];
    let centres = [-6.0_f32, -2.0, -0.3, 0.0, 0.3, 2.0, 6.0];
    let all: Vec<(f32, f32)> = widths.iter().flat_map(|w| centres.map(|c| (c - 0.5 * w, c + 0.5 * w))).collect();
    for activation in [SIGMOID, TANH] {
        let f = if activation == SIGMOID { smooth::logistic } else { f64::tanh };
        let mut report = String::new();
        for (group, width) in relaxed(gpu, activation, &all).chunks(centres.len()).zip(widths) {
            let mut worst = 0.0_f64;
            for (lines, centre) in group.iter().zip(centres) {
                let (l, h) = (f64::from(centre - 0.5 * width), f64::from(centre + 0.5 * width));
                let [below, above] = lines.map(|[slope, offset, ..]| [slope, offset].map(f64::from));
                let mean = |line: [f64; 2]| line[0] * 0.5 * (l + h) + line[1];
                // Mean height of the strip between the lines, and of the rectangle of the bounds.
                worst = worst.max((mean(above) - mean(below) - 6e-5) / (f(h) - f(l)));
            }
            report += &format!(" {width}: {worst:.3}");
            assert!(worst < 0.75, "width {width}: the strip is {worst} of the rectangle");
        }
        say(&format!("{NAME}: function {activation}, strip against rectangle by width:{report}"));
    }
}
