//! `packed_matmul`.

use wavehull::gpu::Recording;
use wavehull::pack::Element;
use wavehull::pack::codec::matmul::{self, Matrix, Tile};
use wavehull::tensor::Tensor;
use wavehull::{ErrorKind, Gpu};

use crate::common::{self, Random, U, broken, compare};
use crate::{bytes, on_both, words};

struct Product {
    oracle: Vec<(f64, f64)>,
    y: Tensor,
    recording: Recording,
}

/// x `[m, k]` in unit range times W `[n, k]` of a distribution.
fn product(gpu: &Gpu, [m, n, k]: [usize; 3], kind: usize, tile: Tile, packed: bool) -> Product {
    let mut random = Random::new((m * 7919 + n * 31 + k) as u64);
    let x = random.floats(m * k);
    let scale = random.floats(n);
    let w = bytes(&mut random, Element::I8, n * k, kind);
    let make = if packed { Matrix::packed } else { Matrix::plain };
    let matrix = make(gpu, n, k, &words(&w)).unwrap();
    let x_device = common::tensor(gpu, &[m, k], &x);
    let scale_device = common::tensor(gpu, &[n], &scale);
    let planes = matmul::planes(gpu, m, &matrix).unwrap();
    gpu.upload(planes.buffer(), bytemuck::cast_slice(&vec![common::POISON; common::words(&planes)])).unwrap();
    let y = common::poisoned(gpu, &[1, m, n]);
    let mut recording = Recording::new();
    let operands = (&x_device, &matrix, &scale_device);
    matmul::record(&mut recording, gpu.caps(), tile, operands, &planes, &y).unwrap();
    let depth = matmul::depth(k) as f64;
    let element = |at: usize| {
        let (i, j) = (at / n, at % n);
        let term = |t: usize| f64::from(x[i * k + t]) * f64::from(w[j * k + t].cast_signed());
        let magnitude: f64 = (0..k).map(|t| term(t).abs()).sum();
        let s = f64::from(scale[j]);
        let small = f64::from(f32::MIN_POSITIVE) * k as f64;
        (s * (0..k).map(term).sum::<f64>(), depth * U / (1.0 - depth * U) * s.abs() * magnitude + small)
    };
    Product { oracle: (0..m * n).map(element).collect(), y, recording }
}

impl Product {
    fn run(&self, gpu: &Gpu) -> Vec<f32> {
        common::run(gpu, &self.recording, &self.y, false)
    }
}

const SHAPES: [[usize; 3]; 9] = [
    [1, 1, 32],
    [1, 33, 64],
    [2, 65, 256],
    [3, 31, 288],
    [4, 70, 512],
    [5, 9, 800],
    [8, 130, 96],
    [16, 257, 544],
    [9, 40, 1056],
];

#[test]
fn products_are_near_f64_and_do_not_depend_on_code_or_tile() {
    on_both("products_are_near_f64_and_do_not_depend_on_code_or_tile", |gpu| {
        for (at, shape) in SHAPES.into_iter().enumerate() {
            for kind in [2, [0, 1, 4, 6][at % 4]] {
                let mut first: Option<Vec<u32>> = None;
                for tile in Tile::ALL {
                    for packed in [false, true] {
                        let p = product(gpu, shape, kind, tile, packed);
                        let y = p.run(gpu);
                        compare(&y, &p.oracle)
                            .unwrap_or_else(|why| panic!("{shape:?} {kind} {tile:?} {packed}: {why}"));
                        let bits: Vec<u32> = y.iter().map(|v| v.to_bits()).collect();
                        let same = first.get_or_insert_with(|| bits.clone()) == &bits;
                        assert!(same, "{shape:?} {kind} {tile:?} {packed}: other bits");
                    }
                }
            }
        }
    });
}

#[test]
fn a_row_of_x_in_company_has_the_bits_of_the_row_alone() {
    let Some(gpu) = common::device("a_row_of_x_in_company", false) else { return };
    let (n, k) = (70, 544);
    let mut random = Random::new(5);
    let x = random.floats(16 * k);
    let matrix = Matrix::packed(gpu, n, k, &words(&bytes(&mut random, Element::I8, n * k, 2))).unwrap();
    let scale = common::tensor(gpu, &[n], &random.floats(n));
    let run = |rows: std::ops::Range<usize>| {
        let m = rows.len();
        let x = common::tensor(gpu, &[m, k], &x[rows.start * k..rows.end * k]);
        let (planes, y) = (matmul::planes(gpu, m, &matrix).unwrap(), common::poisoned(gpu, &[1, m, n]));
        let mut recording = Recording::new();
        let tile = Tile::of(gpu.caps(), m);
        matmul::record(&mut recording, gpu.caps(), tile, (&x, &matrix, &scale), &planes, &y).unwrap();
        common::run::<f32>(gpu, &recording, &y, false)
    };
    let all = run(0..16);
    for i in [0, 7, 15] {
        assert!(run(i..i + 1).iter().zip(&all[i * n..]).all(|(a, b)| a.to_bits() == b.to_bits()), "row {i}");
    }
}

#[test]
fn broken_products_are_noticed() {
    let Some(gpu) = common::device("broken_products_are_noticed", false) else { return };
    for (from, to) in [
        ("& some_${r}", ""),
        ("from_${r} += width_${r}", "from_${r} += 1u"),
        ("low_${r} = high_${h}_${j}_${r}", "low_${r} = low_${r}"),
        ("chunk * 8u + 8u, groups", "chunk * 8u + 7u, groups"),
        ("scale[row_${r}] *", "1.0 *"),
    ] {
        let p = product(gpu, [3, 40, 544], 6, Tile::ALL[1], true);
        compare(&p.run(gpu), &p.oracle).unwrap();
        let broken = broken(&p.recording, "packed_matmul", from, to);
        let y = common::run::<f32>(gpu, &broken, &p.y, false);
        assert!(compare(&y, &p.oracle).is_err(), "'{to}' went unseen");
    }
}

#[test]
fn matrices_that_do_not_fit_are_refused() {
    let Some(gpu) = common::device("matrices_that_do_not_fit_are_refused", false) else { return };
    for (n, k, words) in [(1, 31, 8), (0, 32, 0), (2, 32, 8), (1, 0, 0), (usize::MAX, 32, 8)] {
        for make in [Matrix::plain, Matrix::packed] {
            assert_eq!(make(gpu, n, k, &vec![0; words]).unwrap_err().kind(), ErrorKind::BadInput, "{n} {k}");
        }
    }
}
