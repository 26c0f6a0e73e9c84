//! `matmul`, `matmul_tiled` and `split_sum`.

use wavehull::gpu::Recording;
use wavehull::ops::matmul::{self, Matmul, Variant};
use wavehull::{Gpu, Tensor};

use crate::common::{self, Random, U, broken};
use crate::on_both;

const WIDE: Variant = Variant::Direct { rows: 16, columns: 16, lanes: 8 };
const NARROW: Variant = Variant::Direct { rows: 16, columns: 4, lanes: 8 };
/// Sizes on both sides of a tile, a workgroup, a band of tiles and (with K) a block and a split-K chunk of 128.
const SHAPES: [[usize; 3]; 8] =
    [[1, 1, 1], [3, 16, 5], [16, 3, 128], [17, 65, 129], [65, 130, 17], [130, 33, 300], [64, 128, 256], [300, 70, 20]];

/// One product, its operands in full precision of f32.
#[derive(Debug, Clone, Copy)]
struct Case {
    batch: usize,
    shape: [usize; 3],
    trans: [bool; 2],
    /// Which operands are shared along the batch.
    shared: [bool; 2],
    /// 0: none, 1: `[n]`, 2: `[batch, n]`.
    bias: usize,
    relu: bool,
    /// Terms of a split-K chunk, if it is split.
    chunk: Option<usize>,
    variant: Option<Variant>,
}

const PLAIN: Case = Case {
    batch: 1,
    shape: [17, 65, 129],
    trans: [false, false],
    shared: [false, false],
    bias: 0,
    relu: false,
    chunk: None,
    variant: None,
};

struct Operands {
    a: Vec<f32>,
    b: Vec<f32>,
    bias: Vec<f32>,
}

impl Case {
    fn operands(&self, seed: u64) -> Operands {
        let mut random = Random::new(seed);
        let [m, n, k] = self.shape;
        let count = |shared: bool| if shared { 1 } else { self.batch };
        Operands {
            a: random.floats(count(self.shared[0]) * m * k),
            b: random.floats(count(self.shared[1]) * k * n),
            bias: random.floats(self.batch * n),
        }
    }

    /// Expected value and tolerance of every output.
    fn oracle(&self, operands: &Operands) -> Vec<(f64, f64)> {
        let [m, n, k] = self.shape;
        let at = |i: usize, j: usize, rows: usize, columns: usize, trans: bool| {
            if trans { j * rows + i } else { i * columns + j }
        };
        let mut oracle = Vec::new();
        for z in 0..self.batch {
            let a = if self.shared[0] { &operands.a } else { &operands.a[z * m * k..(z + 1) * m * k] };
            let b = if self.shared[1] { &operands.b } else { &operands.b[z * k * n..(z + 1) * k * n] };
            for i in 0..m {
                for j in 0..n {
                    let (mut sum, mut size) = (0.0, 0.0);
                    for t in 0..k {
                        let x = f64::from(a[at(i, t, m, k, self.trans[0])]);
                        let y = f64::from(b[at(t, j, k, n, self.trans[1])]);
                        sum += x * y;
                        size += (x * y).abs();
                    }
                    if self.bias > 0 {
                        let bias = f64::from(operands.bias[if self.bias == 2 { z * n + j } else { j }]);
                        sum += bias;
                        size += bias.abs();
                    }
                    // Depth of a plain product: k roundings and the bias; of a split one: ops/matmul/mod.rs, `depth`.
                    let depth = self.chunk.map_or(k, |chunk| matmul::depth(k, chunk)) + 1;
                    let value = if self.relu { f64::max(sum, 0.0) } else { sum };
                    oracle.push((value, 1.001 * depth as f64 * U * size));
                }
            }
        }
        oracle
    }

    fn upload(&self, gpu: &Gpu, [rows, columns]: [usize; 2], operand: usize, data: &[f32]) -> Tensor {
        let shape = if self.trans[operand] { [columns, rows] } else { [rows, columns] };
        if self.shared[operand] {
            common::tensor(gpu, &shape, data).shared(self.batch)
        } else {
            common::tensor(gpu, &[self.batch, shape[0], shape[1]], data)
        }
    }

    fn record(&self, gpu: &Gpu, operands: &Operands) -> (Recording, Tensor) {
        let [m, n, k] = self.shape;
        let a = self.upload(gpu, [m, k], 0, &operands.a);
        let b = self.upload(gpu, [k, n], 1, &operands.b);
        let bias = match self.bias {
            0 => None,
            1 => Some(common::tensor(gpu, &[n], &operands.bias[..n])),
            _ => Some(common::tensor(gpu, &[self.batch, n], &operands.bias)),
        };
        let c = common::poisoned(gpu, &[self.batch, m, n]);
        let product = Matmul {
            trans_a: self.trans[0],
            trans_b: self.trans[1],
            bias: bias.as_ref(),
            gate: None,
            relu: self.relu,
            variant: self.variant,
        };
        let mut recording = Recording::new();
        if let Some(chunk) = self.chunk {
            let planes = common::poisoned(gpu, &[self.batch, k.div_ceil(chunk), m, n]);
            product.record_split(&mut recording, gpu.caps(), &a, &b, &planes, chunk).unwrap();
            matmul::split_sum(&mut recording, gpu.caps(), &planes, bias.as_ref(), self.relu, &c).unwrap();
        } else {
            product.record(&mut recording, gpu.caps(), &a, &b, &c).unwrap();
        }
        (recording, c)
    }

    fn run(&self, gpu: &Gpu, seed: u64) -> Vec<f32> {
        let (recording, c) = self.record(gpu, &self.operands(seed));
        // The last vector of a row may reach into its padding; split_sum's does not.
        common::run(gpu, &recording, &c, self.chunk.is_none())
    }

    fn check(&self, gpu: &Gpu, seed: u64) {
        let oracle = self.oracle(&self.operands(seed));
        common::compare(&self.run(gpu, seed), &oracle).unwrap_or_else(|why| panic!("{self:?}: {why}"));
    }

    /// The same comparison with a broken kernel must fail.
    fn check_red(&self, gpu: &Gpu, name: &str, from: &str, to: &str) {
        let operands = self.operands(1);
        let (recording, c) = self.record(gpu, &operands);
        let oracle = self.oracle(&operands);
        common::compare(&common::run(gpu, &recording, &c, true), &oracle).unwrap();
        let recording = broken(&recording, name, from, to);
        let raw = common::run_raw(gpu, &recording, &c);
        let got: Vec<f32> = common::places(&c).into_iter().map(|i| f32::from_bits(raw[i])).collect();
        assert!(common::compare(&got, &oracle).is_err(), "'{to}' in '{name}' went unseen");
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn products_of_every_variant_and_shape_agree_with_f64() {
    on_both("products_of_every_variant_and_shape_agree_with_f64", |gpu| {
        for variant in Variant::ALL {
            for (seed, shape) in (10..).zip(SHAPES) {
                Case { shape, variant: Some(variant), ..PLAIN }.check(gpu, seed);
                Case { shape, variant: Some(variant), batch: 2, bias: 2, relu: true, ..PLAIN }.check(gpu, seed);
                Case { shape, variant: Some(variant), bias: 1, chunk: Some(128), ..PLAIN }.check(gpu, seed);
            }
        }
    });
}

#[test]
fn transposed_and_absolute_operands_agree_with_f64() {
    on_both("transposed_and_absolute_operands_agree_with_f64", |gpu| {
        for variant in [WIDE, NARROW, Variant::Tiled, Variant::TiledLarge, Variant::TiledSmall] {
            for shape in [[1, 1, 1], [17, 65, 129], [65, 18, 5]] {
                let base = Case { shape, batch: 2, variant: Some(variant), ..PLAIN };
                Case { trans: [true, false], bias: 1, ..base }.check(gpu, 2);
                Case { trans: [false, true], relu: true, ..base }.check(gpu, 3);
                Case { trans: [true, true], shared: [false, true], ..base }.check(gpu, 4);
                Case { trans: [false, true], chunk: Some(128), bias: 2, ..base }.check(gpu, 5);
            }
        }
    });
}

#[test]
fn shared_operands_and_chosen_variants_agree_with_f64() {
    on_both("shared_operands_and_chosen_variants_agree_with_f64", |gpu| {
        for (seed, n) in (20..).zip([1, 4, 5, 8, 9, 40]) {
            let base = Case { shape: [19, n, 131], batch: 3, ..PLAIN };
            Case { shared: [true, false], bias: 1, ..base }.check(gpu, seed);
            Case { shared: [false, true], bias: 2, chunk: Some(128), relu: true, ..base }.check(gpu, seed);
            Case { shared: [true, true], chunk: Some(50), ..base }.check(gpu, seed);
        }
    });
}

#[test]
fn bits_do_not_depend_on_batch_or_tile() {
    let Some(gpu) = common::device("bits_do_not_depend_on_batch_or_tile", false) else { return };
    for chunk in [None, Some(128)] {
        let case = Case { batch: 3, shape: [33, 70, 300], bias: 2, chunk, variant: Some(WIDE), ..PLAIN };
        let all = bits(&case.run(gpu, 7));
        for variant in Variant::ALL {
            let other = Case { variant: Some(variant), ..case };
            assert!(all == bits(&other.run(gpu, 7)), "{variant:?} differs from {WIDE:?}, chunk {chunk:?}");
        }
        let operands = case.operands(7);
        let [m, n, k] = case.shape;
        for z in 0..case.batch {
            let alone = Case { batch: 1, ..case };
            let part = Operands {
                a: operands.a[z * m * k..][..m * k].to_vec(),
                b: operands.b[z * k * n..][..k * n].to_vec(),
                bias: operands.bias[z * n..][..n].to_vec(),
            };
            let (recording, c) = alone.record(gpu, &part);
            let alone = bits(&common::run(gpu, &recording, &c, true));
            assert!(all[z * m * n..(z + 1) * m * n] == alone, "element {z} of the batch differs from it alone");
        }
    }
}

#[test]
fn a_product_of_nothing_is_its_bias() {
    let Some(gpu) = common::device("a_product_of_nothing_is_its_bias", false) else { return };
    Case { shape: [5, 6, 0], bias: 1, ..PLAIN }.check(gpu, 1);
}

#[test]
fn broken_products_are_noticed() {
    let Some(gpu) = common::device("broken_products_are_noticed", false) else { return };
    let base = Case { shape: [17, 19, 129], batch: 2, bias: 2, relu: true, variant: Some(NARROW), ..PLAIN };
    let last_term = ("min(first_k + p.chunk, p.k)", "min(first_k + p.chunk, p.k) - 1u");
    base.check_red(gpu, "matmul", last_term.0, last_term.1);
    base.check_red(gpu, "matmul", "batch * p.stride_bias", "0u");
    for (from, to) in [
        last_term,
        ("t < k_end - full_end", "t + 1u < k_end - full_end"),
        (
            "return transpose(mat4x4<f32>(a[at.x], a[at.y], a[at.z], a[at.w]));",
            "return mat4x4<f32>(a[at.x], a[at.y], a[at.z], a[at.w]);",
        ),
        ("min(first_column / 4u + part_b.x, last4)", "min(part_b.x, last4)"),
        ("(down + ${q}u * DOWN) * 4u", "(down * ${QR}u + ${q}u) * 4u"),
    ] {
        let tiled = Case { shape: [170, 150, 129], variant: Some(Variant::Tiled), ..base };
        tiled.check_red(gpu, "matmul_tiled", from, to);
    }
    let split = Case { chunk: Some(128), ..base };
    split.check_red(gpu, "split_sum", "part < p.chunks", "part + 1u < p.chunks");
    split.check_red(gpu, "matmul", "(at.z % p.chunks) * p.chunk", "0u");
    // One rounding to 12 bits too many in a single place.
    Case { relu: false, ..base }.check_red(
        gpu,
        "matmul",
        "s_${q}_${r}_${j} += bias_${j};",
        "s_${q}_${r}_${j} += bias_${j} * 1.0005;",
    );
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let Some(gpu) = common::device("shapes_that_do_not_fit_are_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::uninit(gpu, shape).unwrap();
    let refuse = |product: Matmul<'_>, a: &Tensor, b: &Tensor, c: &Tensor| {
        let error = product.record(&mut Recording::new(), gpu.caps(), a, b, c).unwrap_err();
        assert_eq!(error.kind(), wavehull::ErrorKind::Internal);
    };
    refuse(Matmul::default(), &t(&[2, 3]), &t(&[4, 5]), &t(&[2, 5]));
    refuse(Matmul::default(), &t(&[2, 3]), &t(&[3, 5]), &t(&[2, 6]));
    refuse(Matmul::default(), &t(&[2, 2, 3]), &t(&[3, 5]), &t(&[2, 2, 5]));
    refuse(Matmul { trans_a: true, ..Matmul::default() }, &t(&[2, 3]), &t(&[3, 5]), &t(&[2, 5]));
    refuse(Matmul { bias: Some(&t(&[4])), ..Matmul::default() }, &t(&[2, 3]), &t(&[3, 5]), &t(&[2, 5]));
    let planes = t(&[1, 2, 2, 5]);
    let split =
        Matmul::default().record_split(&mut Recording::new(), gpu.caps(), &t(&[2, 300]), &t(&[300, 5]), &planes, 128);
    assert!(split.is_err(), "300 terms make three chunks of 128");
}

#[test]
fn a_gate_lets_through_what_a_relu_let_through() {
    on_both("a_gate_lets_through_what_a_relu_let_through", |gpu| {
        for variant in [WIDE, NARROW, Variant::Tiled, Variant::TiledLarge] {
            for [m, n, k] in [[1, 1, 1], [17, 65, 9], [70, 18, 5]] {
                let case = Case { shape: [m, n, k], batch: 2, variant: Some(variant), ..PLAIN };
                let operands = case.operands(6);
                let plain = case.run(gpu, 6);
                let gate: Vec<f32> = Random::new(7).floats(2 * m * n).iter().map(|v| v.max(0.0)).collect();
                let (a, b) = (case.upload(gpu, [m, k], 0, &operands.a), case.upload(gpu, [k, n], 1, &operands.b));
                let (open, c) = (common::tensor(gpu, &[2, m, n], &gate), common::poisoned(gpu, &[2, m, n]));
                let mut recording = Recording::new();
                let product = Matmul { gate: Some(&open), variant: Some(variant), ..Matmul::default() };
                product.record(&mut recording, gpu.caps(), &a, &b, &c).unwrap();
                let wanted: Vec<f32> = plain.iter().zip(&gate).map(|(&v, &g)| if g > 0.0 { v } else { 0.0 }).collect();
                assert_eq!(bits(&common::run(gpu, &recording, &c, true)), bits(&wanted), "{variant} {m} {n} {k}");
            }
        }
    });
}

#[test]
fn a_result_may_be_a_field_of_a_table() {
    on_both("a_result_may_be_a_field_of_a_table", |gpu| {
        for variant in [WIDE, NARROW, Variant::Tiled] {
            let case = Case { shape: [9, 7, 20], batch: 3, variant: Some(variant), trans: [true, false], ..PLAIN };
            let operands = case.operands(8);
            let table = common::poisoned(gpu, &[3, 320]);
            let field = table.field(128, &[9, 7]).expect("a field");
            let (a, b) = (case.upload(gpu, [9, 20], 0, &operands.a), case.upload(gpu, [20, 7], 1, &operands.b));
            let mut recording = Recording::new();
            let product = Matmul { trans_a: true, variant: Some(variant), ..Matmul::default() };
            product.record(&mut recording, gpu.caps(), &a, &b, &field).unwrap();
            let raw = common::run_raw(gpu, &recording, &table);
            let found: Vec<f32> = common::places(&field).into_iter().map(|i| f32::from_bits(raw[128 + i])).collect();
            assert_eq!(bits(&found), bits(&case.run(gpu, 8)), "{variant}");
            for row in raw[..960].chunks(320) {
                assert!(
                    row[..128].iter().chain(&row[128 + 72..]).all(|&w| w == common::POISON),
                    "{variant}: the surroundings"
                );
            }
        }
    });
}
