//! `conv_weight`, `conv_weight_tiled`, `conv_weight_depthwise` and `conv_weight_sum`: the gradient of a convolution's weight.

use ndarray::Array5;
use wavehull::gpu::Recording;
use wavehull::ops::conv::{CHUNK, Conv, Variant, gradient_depth};
use wavehull::{ErrorKind, Gpu, Tensor};

use crate::common::{self, Random, U, broken};
use crate::conv::{Case, Operands, PLAIN, VARIANTS, bits, cases};
use crate::conv_slots::{pack, table};
use crate::on_both;

/// What one slot has.
#[derive(Clone)]
struct Pair {
    x: Vec<f32>,
    g: Vec<f32>,
}

/// A gradient of a case, and how its weight is stored.
#[derive(Debug, Clone, Copy)]
struct Gradient {
    case: Case,
    trans_weight: bool,
}

fn shape_of(case: &Case, size: [usize; 2], channels: usize) -> [usize; 4] {
    [case.batch, size[0], size[1], channels]
}

impl Gradient {
    fn shapes(&self) -> [[usize; 4]; 2] {
        let [read, written] = self.case.channels();
        [shape_of(&self.case, self.case.size, read), shape_of(&self.case, self.case.out_size(), written)]
    }

    /// Shape of the weight and the groups that are left of it.
    fn weight(&self) -> ([usize; 4], usize) {
        let packed = pack(&self.case, self.trans_weight, &self.case.operands(1));
        (packed.elements.shape().try_into().unwrap(), packed.groups)
    }

    fn pair(&self, seed: u64) -> Pair {
        let mut random = Random::new(seed);
        let [x, g] = self.shapes().map(|shape| random.floats(shape.iter().product()));
        Pair { x, g }
    }

    fn pixels(&self) -> usize {
        self.shapes()[usize::from(!self.case.transposed)][..3].iter().product()
    }

    fn oracle(&self, pair: &Pair) -> Vec<(f64, f64)> {
        let Case { batch, size, kernel: [_, kw], .. } = self.case;
        let (shape, groups) = self.weight();
        let [[_, _, _, read], [_, out_h, out_w, written]] = self.shapes();
        let (c, n) = (read / groups, written / groups);
        let depth = gradient_depth(self.pixels()) as f64;
        let mut sums = Array5::<f64>::zeros((2, shape[0], shape[1], shape[2], shape[3]));
        for (tap, pixel) in (0..shape[0] * kw).flat_map(|t| (0..batch * out_h * out_w).map(move |p| (t, p))) {
            let [i, j] = [tap / kw, tap % kw];
            let (column, row, sample) = (pixel % out_w, pixel / out_w % out_h, pixel / out_w / out_h);
            let (Some(y), Some(x)) = (self.case.source(0, row, i), self.case.source(1, column, j)) else { continue };
            let from = ((sample * size[0] + y) * size[1] + x) * read;
            for (group, k, m) in (0..groups).flat_map(|g| (0..c).flat_map(move |k| (0..n).map(move |m| (g, k, m)))) {
                let term = f64::from(pair.x[from + group * c + k]) * f64::from(pair.g[pixel * written + group * n + m]);
                let place = if self.trans_weight { [m, group * c + k] } else { [k, group * n + m] };
                sums[[0, i, j, place[0], place[1]]] += term;
                sums[[1, i, j, place[0], place[1]]] += term.abs();
            }
        }
        let (values, sizes) = sums.as_slice().unwrap().split_at(shape.iter().product());
        values.iter().zip(sizes).map(|(&value, &size)| (value, 1.001 * depth * U * size)).collect()
    }

    fn conv(&self) -> Conv<'static> {
        let Case { stride, pad, dilation, transposed, variant, .. } = self.case;
        let groups = self.weight().1;
        Conv { stride, pad, dilation, groups, transposed, trans_weight: self.trans_weight, variant, ..Conv::default() }
    }

    /// The gradient into a field of a table of poison: the recording, the table and the field.
    fn record(&self, gpu: &Gpu, pairs: &[Pair]) -> (Recording, Tensor, Tensor) {
        let shape = self.weight().0.to_vec();
        let poison = vec![vec![f32::from_bits(common::POISON); shape.iter().product()]; pairs.len()];
        let (table, fields) = table(gpu, &[(shape, poison)]);
        let image =
            |shape: [usize; 4], values: Vec<f32>| common::tensor(gpu, &[&[pairs.len()], &shape[..]].concat(), &values);
        let [of_x, of_g] = self.shapes();
        let x = image(of_x, pairs.iter().flat_map(|p| p.x.clone()).collect());
        let g = image(of_g, pairs.iter().flat_map(|p| p.g.clone()).collect());
        let conv = self.conv();
        let planes = conv.gradient_planes(x.shape(), g.shape(), fields[0].shape());
        assert_eq!(planes.is_some(), self.pixels() > CHUNK);
        let planes = planes.map(|shape| common::poisoned(gpu, &shape));
        let mut recording = Recording::new();
        conv.weight_gradient(&mut recording, gpu.caps(), [&x, &g], planes.as_ref(), &fields[0]).unwrap();
        (recording, table, fields[0].clone())
    }

    /// The elements of each slot; what lies around the field must still be poison and padding in it 0.
    fn run(&self, gpu: &Gpu, pairs: &[Pair]) -> Vec<Vec<f32>> {
        let (recording, table, field) = self.record(gpu, pairs);
        let memory = common::run_raw(gpu, &recording, &table);
        let first = usize::try_from(field.binding().offset / 4).unwrap();
        let places: Vec<usize> = common::places(&field).into_iter().map(|place| first + place).collect();
        let length = places.len() / pairs.len();
        let padded = field.strides()[1] * field.shape()[1];
        for (i, &word) in memory.iter().enumerate() {
            let inside = i >= first && (i - first) % field.strides()[0] < padded;
            if !inside {
                assert_eq!(word, common::POISON, "word {i} outside of the field");
            } else if places.binary_search(&i).is_err() {
                assert_eq!(word, 0, "padding {i}");
            }
        }
        places.chunks(length).map(|slot| slot.iter().map(|&i| f32::from_bits(memory[i])).collect()).collect()
    }
}

/// More than one chunk of terms, rows and columns past a tile of either kind.
fn large() -> Vec<Case> {
    vec![
        Case { batch: 3, size: [27, 28], ..PLAIN },
        Case { batch: 5, size: [16, 15], read: 8, written: 70, pad: [0, 1], more: [1, 0], ..PLAIN },
        Case { batch: 2, size: [50, 47], read: 4, written: 8, groups: 2, stride: [2, 1], ..PLAIN },
        Case { batch: 1, size: [1, 2500], read: 3, written: 3, kernel: [1, 4], pad: [0, 3], ..PLAIN },
        Case { batch: 3, size: [24, 23], read: 1, written: 1, groups: 9, dilation: [1, 2], ..PLAIN },
    ]
}

fn gradients(all: Vec<Case>) -> Vec<Gradient> {
    let modes = [(false, false), (false, true), (true, false), (true, true)];
    let of = |case: Case| {
        modes.map(|(transposed, trans_weight)| Gradient {
            case: Case { transposed, bias: false, relu: false, ..case },
            trans_weight,
        })
    };
    all.into_iter().flat_map(of).collect()
}

#[test]
fn gradients_of_weights_agree_with_f64() {
    on_both("gradients_of_weights_agree_with_f64", |gpu| {
        for (seed, gradient) in (1..).zip(gradients([cases(), large()].concat())) {
            let pair = gradient.pair(seed);
            let oracle = gradient.oracle(&pair);
            for variant in [None, Some(VARIANTS[0]), Some(Variant::Tiled)] {
                let gradient = Gradient { case: Case { variant, ..gradient.case }, ..gradient };
                let got = gradient.run(gpu, std::slice::from_ref(&pair));
                common::compare(&got[0], &oracle).unwrap_or_else(|why| panic!("{gradient:?}: {why}"));
            }
        }
    });
}

#[test]
fn a_slots_gradient_has_the_bits_that_it_has_alone_in_every_variant() {
    let name = "a_slots_gradient_has_the_bits_that_it_has_alone_in_every_variant";
    let Some(gpu) = common::device(name, false) else { return };
    let some = [cases()[4], cases()[9], cases()[12], large()[0], large()[1], large()[4]];
    for gradient in gradients(some.to_vec()) {
        let pairs: Vec<Pair> = (0..3).map(|slot| gradient.pair(30 + slot)).collect();
        let alone = [0, 2].map(|slot| bits(&gradient.run(gpu, &pairs[slot..=slot])[0]));
        let mut neighbours = pairs.clone();
        neighbours[1].x.fill(f32::NAN);
        neighbours[1].g.fill(f32::NAN);
        for variant in VARIANTS {
            let gradient = Gradient { case: Case { variant: Some(variant), ..gradient.case }, ..gradient };
            for pairs in [&pairs, &neighbours] {
                let got = gradient.run(gpu, pairs);
                let same = bits(&got[0]) == alone[0] && bits(&got[2]) == alone[1];
                assert!(same, "{gradient:?}");
            }
        }
    }
}

/// The loss `sum out g` is linear in the weight, so its central difference by a whole unit, all other weights 0, is its derivative.
#[test]
fn gradients_of_weights_are_differences_of_the_forward_oracle() {
    let Some(gpu) = common::device("gradients_of_weights_are_differences_of_the_forward_oracle", false) else { return };
    let small = Case { size: [4, 5], read: 2, written: 3, kernel: [2, 3], stride: [2, 1], bias: false, ..PLAIN };
    for case in [small, Case { transposed: true, ..small }, Case { read: 1, written: 1, groups: 3, ..small }] {
        let gradient = Gradient { case, trans_weight: false };
        let pair = gradient.pair(4);
        let got = gradient.run(gpu, std::slice::from_ref(&pair)).remove(0);
        let oracle = gradient.oracle(&pair);
        let mut operands = Operands { x: pair.x.clone(), ..case.operands(4) };
        for at in 0..operands.weight.len() {
            let mut loss = |value: f32| -> f64 {
                operands.weight.fill(0.0);
                operands.weight.as_slice_mut().unwrap()[at] = value;
                case.oracle(&operands).iter().zip(&pair.g).map(|(out, &g)| out.0 * f64::from(g)).sum()
            };
            let derivative = (loss(1.0) - loss(-1.0)) / 2.0;
            // Where the packed weight holds this element.
            operands.weight.fill(0.0);
            operands.weight.as_slice_mut().unwrap()[at] = 1.0;
            let place = pack(&case, false, &operands).elements.iter().position(|&v| v == 1.0).unwrap();
            let off = (f64::from(got[place]) - derivative).abs();
            assert!(off <= oracle[place].1 + 1e-12, "{case:?}: {} and {derivative}", got[place]);
        }
    }
}

#[test]
fn broken_gradients_are_noticed() {
    let Some(gpu) = common::device("broken_gradients_are_noticed", false) else { return };
    let check = |case: Case, trans_weight: bool, name: &str, from: &str, to: &str| {
        let gradient = Gradient { case: Case { bias: false, ..case }, trans_weight };
        let pairs = [gradient.pair(1), gradient.pair(2)];
        let oracle: Vec<(f64, f64)> = pairs.iter().flat_map(|pair| gradient.oracle(pair)).collect();
        common::compare(&gradient.run(gpu, &pairs).concat(), &oracle).unwrap();
        let (recording, table, field) = gradient.record(gpu, &pairs);
        let raw = common::run_raw(gpu, &broken(&recording, name, from, to), &table);
        let first = usize::try_from(field.binding().offset / 4).unwrap();
        let got: Vec<f32> = common::places(&field).into_iter().map(|i| f32::from_bits(raw[first + i])).collect();
        assert!(common::compare(&got, &oracle).is_err(), "'{to}' in '{name}' went unseen");
    };
    let direct = Case { variant: Some(Variant::Direct { columns: 4 }), ..large()[0] };
    check(direct, false, "conv_weight", "place = advance(place, step);", "");
    check(direct, false, "conv_weight", "inside(y + row_${q}_${e}.y, x_ + row_${q}_${e}.x)", "true");
    let quads = Case { variant: Some(Variant::Direct { columns: 16 }), ..large()[1] };
    check(quads, false, "conv_weight", "inside(y + row_${q}.y, x_ + row_${q}.x)", "true");
    check(quads, true, "conv_weight", "row + ${q}u * 4u, p.rows - 4u", "row, p.rows - 4u");
    check(direct, false, "conv_weight", "slot * p.slot_g", "0u * p.slot_g");
    check(direct, true, "conv_weight", "item.chunk * p.plane", "0u * p.plane");
    check(direct, false, "conv_weight_sum", "chunk = 1u;", "chunk = 2u;");
    check(direct, false, "conv_weight_sum", "at.y * p.slot_w", "0u * p.slot_w");
    check(
        Case { variant: direct.variant, ..large()[2] },
        false,
        "conv_weight",
        "slot * p.slot_x + part * p.c",
        "slot * p.slot_x",
    );
    let tiled = Case { variant: Some(Variant::Tiled), ..large()[1] };
    check(tiled, false, "conv_weight_tiled", "pixel + lane.y < end", "pixel + lane.y + 1u < end");
    check(tiled, true, "conv_weight_tiled", "place_of(first + lane.y)", "place_of(first)");
    check(tiled, false, "conv_weight_tiled", "slot * p.slot_w", "0u * p.slot_w");
    check(large()[4], false, "conv_weight_depthwise", "at.z * p.slot_x", "0u * p.slot_x");
    check(
        large()[4],
        false,
        "conv_weight_depthwise",
        "vec4<f32>(0.0), x[from_pixel], used",
        "vec4<f32>(0.0), x[from_pixel], true",
    );
}

#[test]
fn gradients_that_do_not_fit_are_refused() {
    let Some(gpu) = common::device("gradients_that_do_not_fit_are_refused", false) else { return };
    let t = |shape: &[usize]| Tensor::uninit(gpu, shape).unwrap();
    let conv = Conv { pad: [1, 1], ..Conv::default() };
    let (x, g, w) = ([2, 2, 24, 24, 8], [2, 2, 24, 24, 4], [2, 3, 3, 8, 4]);
    let planes = conv.gradient_planes(&x, &g, &w).unwrap();
    assert_eq!(planes, [2, 2, 72, 4]);
    let try_it = |conv: Conv<'_>, x: &[usize], g: &[usize], planes: Option<&[usize]>, w: &[usize]| {
        let planes = planes.map(t);
        conv.weight_gradient(&mut Recording::new(), gpu.caps(), [&t(x), &t(g)], planes.as_ref(), &t(w))
            .map_err(|e| e.kind())
    };
    assert_eq!(try_it(conv, &x, &g, Some(&planes), &w), Ok(()));
    let refused = Err(ErrorKind::Internal);
    assert_eq!(try_it(conv, &x, &g, None, &w), refused);
    assert_eq!(try_it(conv, &x, &g, Some(&[2, 1, 72, 4]), &w), refused);
    assert_eq!(try_it(conv, &x, &g, Some(&planes), &[2, 3, 3, 4, 8]), refused);
    assert_eq!(try_it(conv, &x, &g, Some(&planes), &[3, 3, 8, 4]), refused, "a weight of one slot");
    assert_eq!(try_it(conv, &x, &[2, 1, 24, 24, 4], Some(&planes), &w), refused);
    assert_eq!(gradient_depth(2 * 24 * 24), 1024 + 2);
}
