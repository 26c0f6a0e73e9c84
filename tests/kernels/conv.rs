//! `conv`, `conv_tiled` and `conv_depthwise`: forward and transposed.

use ndarray::{Array4, ArrayView4};
use wavehull::gpu::Recording;
use wavehull::ops::conv::{Conv, Variant, Weight, depth};
use wavehull::{ErrorKind, Gpu, Tensor};

use crate::common::{self, Random, U, broken};
use crate::on_both;

pub const VARIANTS: [Variant; 4] =
    [Variant::Direct { columns: 4 }, Variant::Direct { columns: 8 }, Variant::Direct { columns: 16 }, Variant::Tiled];

/// One convolution; `read` and `written` are channels a group.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub batch: usize,
    pub size: [usize; 2],
    pub read: usize,
    pub written: usize,
    pub groups: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub pad: [usize; 2],
    /// Rows and columns of output more than symmetric padding makes.
    pub more: [usize; 2],
    pub dilation: [usize; 2],
    pub transposed: bool,
    pub bias: bool,
    pub relu: bool,
    pub variant: Option<Variant>,
}

pub const PLAIN: Case = Case {
    batch: 2,
    size: [7, 9],
    read: 5,
    written: 6,
    groups: 1,
    kernel: [3, 3],
    stride: [1, 1],
    pad: [1, 1],
    more: [0, 0],
    dilation: [1, 1],
    transposed: false,
    bias: true,
    relu: false,
    variant: None,
};

/// Corners of the geometry, on both sides of a tile, a workgroup (64 pixels, 64 channels, 16 terms) and a vector.
pub fn cases() -> Vec<Case> {
    vec![
        PLAIN,
        Case { relu: true, ..PLAIN },
        Case { batch: 1, size: [1, 1], read: 1, written: 1, kernel: [1, 1], pad: [0, 0], bias: false, ..PLAIN },
        Case { batch: 3, size: [5, 13], read: 3, written: 17, stride: [2, 3], pad: [2, 0], ..PLAIN },
        Case { batch: 5, read: 16, written: 65, kernel: [2, 3], pad: [0, 2], more: [1, 2], ..PLAIN },
        Case { batch: 1, size: [11, 8], read: 33, written: 64, dilation: [2, 3], pad: [3, 2], ..PLAIN },
        Case { batch: 1, size: [10, 10], read: 4, written: 130, stride: [3, 2], dilation: [2, 2], ..PLAIN },
        Case { size: [1, 40], kernel: [1, 5], pad: [0, 4], read: 2, written: 9, ..PLAIN },
        // More stride than kernel: some source pixels are never read.
        Case { kernel: [1, 2], stride: [3, 3], pad: [0, 0], ..PLAIN },
        // Groups: native, filled up with zeros, depthwise.
        Case { read: 4, written: 8, groups: 3, ..PLAIN },
        Case { read: 8, written: 20, groups: 2, stride: [2, 2], relu: true, ..PLAIN },
        Case { read: 3, written: 2, groups: 3, ..PLAIN },
        Case { read: 1, written: 1, groups: 11, stride: [2, 1], ..PLAIN },
        Case { read: 1, written: 1, groups: 20, dilation: [2, 1], pad: [2, 0], relu: true, ..PLAIN },
    ]
}

pub struct Operands {
    pub x: Vec<f32>,
    pub weight: Array4<f32>,
    pub bias: Vec<f32>,
}

impl Case {
    pub fn out_size(&self) -> [usize; 2] {
        std::array::from_fn(|k| {
            let reach = self.dilation[k] * (self.kernel[k] - 1) + 1;
            let symmetric = if self.transposed {
                (self.size[k] - 1) * self.stride[k] + reach - 2 * self.pad[k]
            } else {
                (self.size[k] + 2 * self.pad[k] - reach) / self.stride[k] + 1
            };
            symmetric + self.more[k]
        })
    }

    pub fn channels(&self) -> [usize; 2] {
        [self.read * self.groups, self.written * self.groups]
    }

    /// Numbers, the weight in ONNX's order.
    pub fn operands(&self, seed: u64) -> Operands {
        let mut random = Random::new(seed);
        let [read, written] = self.channels();
        let [kh, kw] = self.kernel;
        let shape = if self.transposed { (read, self.written, kh, kw) } else { (written, self.read, kh, kw) };
        Operands {
            x: random.floats(self.batch * self.size[0] * self.size[1] * read),
            weight: Array4::from_shape_simple_fn(shape, || random.unit() as f32),
            bias: random.floats(written),
        }
    }

    /// Source coordinate that output coordinate `y` reads at tap `i`, straight from the definitions.
    pub fn source(&self, axis: usize, y: usize, i: usize) -> Option<usize> {
        let (y, tap) = (y as isize, (i * self.dilation[axis]) as isize);
        let (stride, pad) = (self.stride[axis] as isize, self.pad[axis] as isize);
        let at = if self.transposed {
            let distance = y + pad - tap;
            if distance % stride != 0 { return None } else { distance / stride }
        } else {
            y * stride - pad + tap
        };
        usize::try_from(at).ok().filter(|&at| at < self.size[axis])
    }

    pub fn oracle(&self, operands: &Operands) -> Vec<(f64, f64)> {
        let [read, written] = self.channels();
        let x = ArrayView4::from_shape((self.batch, self.size[0], self.size[1], read), &operands.x).unwrap();
        let [out_h, out_w] = self.out_size();
        let depth = self.kernel[0] * self.kernel[1] * self.read + 1;
        let mut oracle = Vec::new();
        for at in 0..self.batch * out_h * out_w * written {
            let (m, pixel) = (at % written, at / written);
            let (column, row, sample) = (pixel % out_w, pixel / out_w % out_h, pixel / out_w / out_h);
            let group = m / self.written;
            let (mut sum, mut size) = (0.0, 0.0);
            for (i, j) in (0..self.kernel[0]).flat_map(|i| (0..self.kernel[1]).map(move |j| (i, j))) {
                let (Some(y), Some(x_)) = (self.source(0, row, i), self.source(1, column, j)) else { continue };
                for c in 0..self.read {
                    let channel = group * self.read + c;
                    let place = if self.transposed { [channel, m % self.written, i, j] } else { [m, c, i, j] };
                    let term = f64::from(x[[sample, y, x_, channel]]) * f64::from(operands.weight[place]);
                    sum += term;
                    size += term.abs();
                }
            }
            if self.bias {
                sum += f64::from(operands.bias[m]);
                size += f64::from(operands.bias[m]).abs();
            }
            // Every term takes one rounding a step of the chain and the bias one more (ops/conv.rs, `depth`).
            oracle.push((if self.relu { sum.max(0.0) } else { sum }, 1.001 * depth as f64 * U * size));
        }
        oracle
    }

    pub fn packed(&self, weight: &Array4<f32>) -> Weight {
        let pack = if self.transposed { Weight::transposed } else { Weight::forward };
        pack(&weight.view(), self.groups).unwrap()
    }

    pub fn record(&self, gpu: &Gpu, operands: &Operands) -> (Recording, Tensor) {
        let [read, written] = self.channels();
        let x = common::tensor(gpu, &[self.batch, self.size[0], self.size[1], read], &operands.x);
        let packed = self.packed(&operands.weight);
        let elements: Vec<f32> = packed.elements.iter().copied().collect();
        let weight = common::tensor(gpu, packed.elements.shape(), &elements);
        let bias = common::tensor(gpu, &[written], &operands.bias);
        let [out_h, out_w] = self.out_size();
        let out = common::poisoned(gpu, &[self.batch, out_h, out_w, written]);
        let conv = Conv {
            stride: self.stride,
            pad: self.pad,
            dilation: self.dilation,
            groups: packed.groups,
            transposed: self.transposed,
            trans_weight: false,
            bias: self.bias.then_some(&bias),
            relu: self.relu,
            variant: self.variant,
        };
        let mut recording = Recording::new();
        conv.record(&mut recording, gpu.caps(), &x, &weight, &out).unwrap();
        (recording, out)
    }

    fn run(&self, gpu: &Gpu, seed: u64) -> Vec<f32> {
        let (recording, out) = self.record(gpu, &self.operands(seed));
        common::run(gpu, &recording, &out, true)
    }

    fn check(&self, gpu: &Gpu, seed: u64) {
        let oracle = self.oracle(&self.operands(seed));
        common::compare(&self.run(gpu, seed), &oracle).unwrap_or_else(|why| panic!("{self:?}: {why}"));
    }

    /// The same comparison with a broken kernel must fail.
    fn check_red(&self, gpu: &Gpu, name: &str, from: &str, to: &str) {
        let operands = self.operands(1);
        let (recording, out) = self.record(gpu, &operands);
        let oracle = self.oracle(&operands);
        common::compare(&common::run(gpu, &recording, &out, true), &oracle).unwrap();
        let raw = common::run_raw(gpu, &broken(&recording, name, from, to), &out);
        let got: Vec<f32> = common::places(&out).into_iter().map(|i| f32::from_bits(raw[i])).collect();
        assert!(common::compare(&got, &oracle).is_err(), "'{to}' in '{name}' went unseen");
    }
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn forward_convolutions_agree_with_f64() {
    on_both("forward_convolutions_agree_with_f64", |gpu| {
        for (seed, case) in (1..).zip(cases()) {
            for variant in VARIANTS {
                Case { variant: Some(variant), ..case }.check(gpu, seed);
            }
            case.check(gpu, seed);
        }
    });
}

#[test]
fn transposed_convolutions_agree_with_f64() {
    on_both("transposed_convolutions_agree_with_f64", |gpu| {
        for (seed, case) in (50..).zip(cases()) {
            for variant in VARIANTS {
                Case { transposed: true, variant: Some(variant), ..case }.check(gpu, seed);
            }
        }
    });
}

#[test]
fn every_variant_gives_the_same_bits_for_a_sample_alone_and_in_a_batch() {
    let name = "every_variant_gives_the_same_bits_for_a_sample_alone_and_in_a_batch";
    let Some(gpu) = common::device(name, false) else { return };
    for transposed in [false, true] {
        for base in [
            Case { batch: 3, read: 17, written: 70, transposed, stride: [2, 1], ..PLAIN },
            Case { batch: 3, read: 1, written: 1, groups: 9, transposed, ..PLAIN },
        ] {
            let first = bits(&base.run(gpu, 3));
            for variant in VARIANTS {
                assert!(bits(&Case { variant: Some(variant), ..base }.run(gpu, 3)) == first, "{variant:?} of {base:?}");
            }
            // The generator fills the samples one after another: the first of three is the first of one, but the weight
            // behind it would differ, so it is taken from the batch of three.
            let mut operands = base.operands(3);
            operands.x.truncate(operands.x.len() / 3);
            let (recording, out) = Case { batch: 1, ..base }.record(gpu, &operands);
            let alone = bits(&common::run(gpu, &recording, &out, true));
            assert!(first[..alone.len()] == alone, "{base:?} alone");
        }
    }
}

/// `<conv(x), g> = <x, transposed conv(g)>`, the definition of a transpose, by numbers that f32 holds exactly.
#[test]
fn the_transposed_form_is_the_transpose() {
    let Some(gpu) = common::device("the_transposed_form_is_the_transpose", false) else { return };
    for case in cases() {
        let case = Case { bias: false, relu: false, ..case };
        let [read, written] = case.channels();
        let out = case.out_size();
        let mut random = Random::new(8);
        let small =
            |n: usize, random: &mut Random| -> Vec<f32> { (0..n).map(|_| random.below(5) as f32 - 2.0).collect() };
        let x = small(case.batch * case.size[0] * case.size[1] * read, &mut random);
        let g = small(case.batch * out[0] * out[1] * written, &mut random);
        let [kh, kw] = case.kernel;
        let weight = Array4::from_shape_simple_fn((written, case.read, kh, kw), || random.below(5) as f32 - 2.0);
        let run = |transposed: bool, input: &[f32], [from, to]: [[usize; 3]; 2]| {
            let pack = if transposed { Weight::transposed } else { Weight::forward };
            let packed = pack(&weight.view(), case.groups).unwrap();
            let image = |[h, w, c]: [usize; 3]| [case.batch, h, w, c];
            let (input, output) = (common::tensor(gpu, &image(from), input), common::poisoned(gpu, &image(to)));
            let Case { stride, pad, dilation, .. } = case;
            let conv = Conv { stride, pad, dilation, groups: packed.groups, transposed, ..Conv::default() };
            let mut recording = Recording::new();
            let weight = packed.upload(gpu).unwrap();
            conv.record(&mut recording, gpu.caps(), &input, &weight, &output).unwrap();
            common::run(gpu, &recording, &output, true)
        };
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let ends = [[case.size[0], case.size[1], read], [out[0], out[1], written]];
        let forward = dot(&run(false, &x, ends), &g);
        let backward = dot(&x, &run(true, &g, [ends[1], ends[0]]));
        assert_eq!(forward, backward, "{case:?}");
    }
}

#[test]
fn broken_convolutions_are_noticed() {
    let Some(gpu) = common::device("broken_convolutions_are_noticed", false) else { return };
    let direct = Case { written: 40, variant: Some(Variant::Direct { columns: 16 }), stride: [2, 1], ..PLAIN };
    direct.check_red(gpu, "conv", "c < p.c;", "c + 1u < p.c;");
    direct.check_red(gpu, "conv", "inside(y_${r} + dy, x_${r} + dx)", "true");
    direct.check_red(gpu, "conv", "s_${r}_${j} += bias_${j};", "s_${r}_${j} += bias_${j} * 1.0005;");
    Case { transposed: true, ..direct }.check_red(gpu, "conv", "+ ti * p.step_y", "+ ti");
    Case { read: 4, written: 4, groups: 3, ..direct }.check_red(gpu, "conv", "+ part * p.c;", ";");
    let tiled = Case { variant: Some(Variant::Tiled), ..direct };
    tiled.check_red(gpu, "conv_tiled", "v < vectors && inside(y, x_)", "v < vectors");
    tiled.check_red(gpu, "conv_tiled", "select(vec4<f32>(0.0), value, real & vec4<bool>(used))", "value");
    Case { transposed: true, ..tiled }.check_red(gpu, "conv_tiled", "* p.step_y;", "* 1u;");
    let depthwise = Case { read: 1, written: 1, groups: 9, stride: [2, 1], ..PLAIN };
    depthwise.check_red(gpu, "conv_depthwise", "if (inside(y, x_))", "if (inside(y, x_ + 1))");
    Case { relu: true, ..depthwise }.check_red(gpu, "conv_depthwise", "max(s, vec4<f32>(0.0))", "s");
}

#[test]
fn convolutions_that_do_not_fit_are_refused() {
    let Some(gpu) = common::device("convolutions_that_do_not_fit_are_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::uninit(gpu, shape).unwrap();
    let refuse = |conv: Conv<'_>, x: [usize; 4], w: [usize; 4], out: [usize; 4], kind: ErrorKind| {
        let error = conv.record(&mut Recording::new(), gpu.caps(), &t(&x), &t(&w), &t(&out)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    };
    let plain = Conv::default();
    let (x, w, out) = ([1, 4, 4, 8], [3, 3, 8, 8], [1, 2, 2, 8]);
    assert!(plain.record(&mut Recording::new(), gpu.caps(), &t(&x), &t(&w), &t(&out)).is_ok(), "this one fits");
    refuse(plain, x, [3, 3, 7, 8], out, ErrorKind::Internal);
    refuse(plain, x, w, [2, 2, 2, 8], ErrorKind::Internal);
    refuse(plain, x, w, [1, 2, 2, 9], ErrorKind::Internal);
    refuse(Conv { stride: [0, 1], ..plain }, x, w, out, ErrorKind::Internal);
    refuse(Conv { bias: Some(&t(&[9])), ..plain }, x, w, out, ErrorKind::Internal);
    // Two channels a group are no whole vector.
    refuse(Conv { groups: 4, ..plain }, x, [3, 3, 2, 8], out, ErrorKind::Internal);
    refuse(Conv { dilation: [1 << 24, 1], ..plain }, x, w, out, ErrorKind::TooBig);
    let weight = Array4::<f32>::zeros((6, 2, 3, 3));
    assert_eq!(Weight::forward(&weight.view(), 4).unwrap_err().kind(), ErrorKind::BadInput);
    assert_eq!(Weight::forward(&weight.view(), 0).unwrap_err().kind(), ErrorKind::BadInput);
    let packed = Weight::forward(&weight.view(), 3).unwrap();
    assert_eq!((packed.groups, packed.elements.shape()), (1, &[3, 3, 6, 6][..]), "filled up with zeros");
    assert_eq!(depth(packed.elements.shape()), 54);
}
