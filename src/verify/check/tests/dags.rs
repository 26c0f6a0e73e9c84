//! Random networks in which paths part and meet: no value of the network is outside a proven bound.

use super::nets::{Net, Random, conv, property, row, sparse};
use super::*;
use crate::graph::{Activation, Extent, Layer, Map, Source};
use crate::verify::proof::{Claim, LayerProof, QueryProof};

/// What evaluation in f64 may lose, of values of a few hundred. Without sigmoids everything is a multiple of 2^-40 or so, and exact.
const NOISE: f64 = 1e-11;

/// A random network of two channels of pictures, with residual blocks, max-pools and concatenations.
fn random_net(random: &mut Random, curved: bool) -> Net {
    let input = Extent { channels: 1 + random.below(2), height: 3 + random.below(3), width: 3 + random.below(3) };
    let mut net = Net::new(input);
    for _ in 0..2 + random.below(3) {
        match random.below(5) {
            0 => max_pool(&mut net),
            1 => concat(&mut net, random),
            2 | 3 => residual(&mut net, random, curved),
            _ => convolution(&mut net, random, curved),
        }
    }
    let inputs = net.0.extent(net.last()).len();
    let rows: Vec<Vec<f32>> = (0..3).map(|_| numbers(random, inputs)).collect();
    net.dense(&rows, &[0.25, -0.5, 0.0], Activation::None);
    net
}

fn numbers(random: &mut Random, count: usize) -> Vec<f32> {
    (0..count).map(|_| (random.below(17) as f32 - 8.0) / 16.0).collect()
}

fn activation(random: &mut Random, curved: bool) -> Activation {
    let all = [Activation::Relu, Activation::None, Activation::Relu, Activation::Sigmoid, Activation::Tanh];
    all[random.below(if curved { 5 } else { 3 })]
}

fn convolution(net: &mut Net, random: &mut Random, curved: bool) {
    let from = net.last();
    let channels = 1 + random.below(3);
    let (map, extent) = conv(random, net.0.extent(from), channels);
    let bias = numbers(random, extent.len());
    net.layer(extent, vec![(from, map)], &bias, activation(random, curved));
}

/// `activation(conv(x) + d x)`, twice the same source; or one more layer between.
fn residual(net: &mut Net, random: &mut Random, curved: bool) {
    let from = net.last();
    convolution(net, random, curved);
    let (middle, extent) = (net.last(), net.0.extent(net.last()));
    let back = |net: &Net, source: Source, random: &mut Random| {
        let inputs = net.0.extent(source).len();
        let mut row = || {
            let term = |random: &mut Random| (random.below(inputs) as u32, 0.25 * random.below(5) as f32 - 0.5);
            let mut terms: Vec<(u32, f32)> = (0..2 + random.below(3)).map(|_| term(random)).collect();
            terms.sort_by_key(|term| term.0);
            terms.dedup_by_key(|term| term.0);
            terms
        };
        sparse(&(0..extent.len()).map(|_| row()).collect::<Vec<_>>())
    };
    let edges = vec![
        (middle, Map::Diagonal(numbers(random, extent.len()))),
        (from, back(net, from, random)),
        (middle, back(net, middle, random)),
        (from, back(net, from, random)),
    ];
    let bias = numbers(random, extent.len());
    net.layer(extent, edges, &bias, activation(random, curved));
}

/// Neighbours along the rows: `max(a, b) = b + relu(a - b)`.
fn max_pool(net: &mut Net) {
    let from = net.last();
    let old = net.0.extent(from);
    let extent = Extent { width: old.width.div_ceil(2), ..old };
    let at = |j: usize, side: usize| {
        let (line, x) = (j / extent.width, 2 * (j % extent.width) + side);
        (x < old.width).then_some((line * old.width + x) as u32)
    };
    let pair = |j: usize| match (at(j, 0), at(j, 1)) {
        (Some(a), Some(b)) => vec![(a, 1.0), (b, -1.0)],
        _ => vec![],
    };
    let rest = |j: usize| at(j, 1).or(at(j, 0)).map(|place| (place, 1.0)).into_iter().collect();
    let rows = |terms: &dyn Fn(usize) -> Vec<(u32, f32)>| sparse(&(0..extent.len()).map(terms).collect::<Vec<_>>());
    let zeros = vec![0.0; extent.len()];
    let larger = net.layer(extent, vec![(from, rows(&pair))], &zeros, Activation::Relu);
    let edges = vec![(from, rows(&rest)), (larger, Map::Diagonal(vec![1.0; extent.len()]))];
    net.layer(extent, edges, &zeros, Activation::None);
}

/// The last layer's values behind those of the input.
fn concat(net: &mut Net, random: &mut Random) {
    let from = net.last();
    let (first, second) = (net.0.input.len(), net.0.extent(from).len());
    let place = |from: usize, len: usize| {
        let term = |j: usize| if (from..from + len).contains(&j) { vec![((j - from) as u32, 1.0)] } else { vec![] };
        sparse(&(0..first + second).map(term).collect::<Vec<_>>())
    };
    let edges = vec![(Source::Input, place(0, first)), (from, place(first, second))];
    let bias = numbers(random, first + second);
    let extent = Extent { channels: 1, height: 1, width: first + second };
    net.layer(extent, edges, &bias, Activation::None);
}

/// Any slopes, all neurons refined, claims of a row of each output.
fn random_proof(net: &Net, random: &mut Random, refine: bool) -> Proof {
    let layer = |layer: &Layer, random: &mut Random| {
        let width = layer.extent.len();
        let curved = layer.activation != Activation::Relu;
        let mut slopes = |most: f64| (0..width).map(|_| random.between(0.0, most)).collect::<Vec<f64>>();
        LayerProof {
            slopes: if curved { slopes(0.25) } else { slopes(1.0) },
            upper: if curved { slopes(0.25) } else { vec![] },
            refined: (0..if refine { width } else { 0 }).map(|j| (j, f64::MIN, f64::MAX)).collect(),
        }
    };
    let layers = net.0.layers.iter().filter(|l| l.activation != Activation::None).map(|l| layer(l, random)).collect();
    let claims = vec![Claim { conjunction: 0, row: 0, bound: 0.5 }];
    Proof::new("0".repeat(64), "1".repeat(64), "strict", vec![QueryProof { layers, claims }])
}

/// The corners of a box in random order, its centre, and points inside.
fn samples(lo: &[f64], hi: &[f64], random: &mut Random) -> Vec<Vec<f64>> {
    let mut point =
        |step: fn(&mut Random) -> f64| lo.iter().zip(hi).map(|(l, h)| l + (h - l) * step(random)).collect::<Vec<f64>>();
    let mut points = vec![point(|_| 0.5)];
    (0..24).for_each(|_| points.push(point(|random| random.below(2) as f64)));
    (0..12).for_each(|_| points.push(point(|random| random.below(65) as f64 / 64.0)));
    points
}

#[test]
fn no_value_lies_outside_a_proven_bound() {
    let mut random = Random(61);
    let (mut by_walk, mut tight, mut rounds) = (0, 0, 0);
    for round in 0..120 {
        let net = random_net(&mut random, round % 2 == 1);
        let center: Vec<f64> = (0..net.0.input_len()).map(|_| random.below(17) as f64 / 8.0 - 1.0).collect();
        let lo: Vec<f64> = center.iter().map(|c| c - 0.125).collect();
        let hi: Vec<f64> = center.iter().map(|c| c + 0.125).collect();
        let property = property(&lo, &hi, 3, vec![vec![row(&[1.0, -1.0, 0.5], 1e6, false)]]);
        let network = Network::new(&net.0).unwrap();
        let values: Vec<_> = samples(&lo, &hi, &mut random).iter().map(|x| net.evaluate(x)).collect();
        let mut worst = [0.0; 2];
        for (refine, worst) in [false, true].into_iter().zip(&mut worst) {
            let proof = random_proof(&net, &mut random, refine);
            *worst = derive_ieee(&proof, &net.0, &property).expect("a million is far enough").worst;
            region_of(&proof, &network, &property, |region| {
                for value in &values {
                    for (layer, [z, y]) in region.layers.iter().zip(value) {
                        for (span, values) in [(&layer.z, z), (&layer.y, y)] {
                            let inside = |(v, (l, h)): (&f64, (&f64, &f64))| l - NOISE <= *v && *v <= h + NOISE;
                            assert!(values.iter().zip(span.lo.iter().zip(&span.hi)).all(inside), "round {round}");
                        }
                    }
                }
            });
        }
        let value = |y: &[f64]| y[0] - y[1] + 0.5 * y[2] + 1e6;
        let least = values.iter().map(|v| value(&v.last().unwrap()[1])).fold(f64::INFINITY, f64::min);
        assert!(worst.iter().all(|worst| *worst <= least + 1e-9), "round {round}: {worst:?} for {least}");
        rounds += 1;
        by_walk += usize::from(worst[1] > worst[0]);
        tight += usize::from(least - worst[1] < 8.0);
    }
    assert!(by_walk > 40 && tight > rounds / 2, "{by_walk} refined better, {tight} tight of {rounds}: says little");
}

/// Convolutions, sparse and diagonal maps give the bounds of the same maps as matrices.
#[test]
fn bounds_do_not_depend_on_how_maps_are_stored() {
    let mut random = Random(67);
    for round in 0..40 {
        let net = random_net(&mut random, round % 2 == 1);
        let (lo, hi) = (vec![-0.25; net.0.input_len()], vec![0.25; net.0.input_len()]);
        let property = property(&lo, &hi, 3, vec![vec![row(&[1.0, -1.0, 0.5], 1e6, false)]]);
        let proof = random_proof(&net, &mut random, true);
        let [stored, unfolded] =
            [&net.0, &net.unfolded().0].map(|layers| derive_ieee(&proof, layers, &property).expect("it holds").worst);
        assert!((stored - unfolded).abs() < 1e-7, "round {round}: {stored}, {unfolded}");
    }
}

/// `x - x` behind layers of its own is 0 if paths are added up where they meet, and nothing like it if not.
#[test]
fn paths_cancel_where_they_meet() {
    let mut net = Net::flat(2);
    let a = net.dense(&[vec![1.0, 2.0], vec![-1.0, 1.0]], &[3.0, 3.0], Activation::Relu);
    let b = net.layer(Extent::flat(2), vec![(a, Map::Diagonal(vec![2.0, 2.0]))], &[0.0; 2], Activation::None);
    let edges = vec![(a, Map::Diagonal(vec![-2.0, -2.0])), (b, Map::Diagonal(vec![1.0, 1.0]))];
    net.layer(Extent::flat(2), edges, &[1.0, 2.0], Activation::None);
    let property = property(&[-1.0; 2], &[1.0; 2], 2, vec![vec![row(&[1.0, 0.0], 0.0, false)]]);
    let report = derive_ieee(&random_proof(&net, &mut Random(1), false), &net.0, &property).expect("it is 1");
    assert!(report.worst <= 1.0 && report.worst > 1.0 - 1e-12, "{report:?}");
}

/// A row is evaluated behind a layer that it stands on alone: there ReLU's bound 0 is better than any line.
#[test]
fn rows_are_evaluated_at_every_cut() {
    let mut net = Net::flat(1);
    let a = net.dense(&[vec![1.0], vec![-1.0]], &[0.0, 0.0], Activation::Relu);
    let b = net.dense(&[vec![1.0, 1.0]], &[0.25], Activation::None);
    // Two paths that stand on `a` alone again.
    net.layer(
        Extent::flat(1),
        vec![(b, Map::Diagonal(vec![2.0])), (a, sparse(&[vec![(0, -1.0)]]))],
        &[0.0],
        Activation::None,
    );
    let property = property(&[-1.0], &[1.0], 1, vec![vec![row(&[1.0], 0.0, false)]]);
    let mut proof = random_proof(&net, &mut Random(1), false);
    proof.queries[0].layers[0].slopes = vec![1.0, 1.0];
    proof.queries[0].claims[0].bound = 0.4;
    let report = derive_ieee(&proof, &net.0, &property).expect("0.5 by the bounds of the ReLUs");
    assert!(report.worst <= 0.5 && report.worst > 0.5 - 1e-12, "{report:?}");
}
