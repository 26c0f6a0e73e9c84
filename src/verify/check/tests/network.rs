//! Maps against their definitions, and layers that contradict themselves.

use super::exact::passed;
use super::nets::{Net, Random, conv, sparse};
use super::*;
use crate::graph::{Activation, Convolution, Extent, Layers, Map, Source, Sparse};
use crate::verify::check::bounds::Span;
use crate::verify::check::maps::Matrix;
use crate::verify::check::parallel::pieces;
use ndarray::{Array2, Array4};

/// Demands that bounds over a point are the network's values there but for rounding, forwards and by the walk back.
fn maps(net: &Net, input: &[f64]) {
    let network = Network::new(&net.0).unwrap_or_else(|e| panic!("{e}"));
    let region = passed(&network, Rounding::IEEE, Span::new(input.to_vec(), input.to_vec()), 0.5);
    let expected = &net.evaluate(input).pop().expect("a layer")[1];
    let y = &region.layers.last().expect("a layer").y;
    assert_eq!(y.lo.len(), expected.len());
    let unit = Array2::<f64>::eye(expected.len());
    let rows = Matrix { cols: expected.len(), data: unit.iter().copied().collect() };
    let zeros = vec![0.0; expected.len()];
    let walked = region.outputs(rows, zeros.clone(), zeros).unwrap();
    for (i, e) in expected.iter().enumerate() {
        assert!(y.lo[i] <= *e && *e <= y.hi[i] && y.hi[i] - y.lo[i] < 1e-11, "{e} in [{}, {}]", y.lo[i], y.hi[i]);
        assert!(walked[i] <= *e && e - walked[i] < 1e-11, "{e}, {}", walked[i]);
    }
}

#[test]
fn convolutions_of_all_kinds_are_what_their_formula_says() {
    let mut random = Random(51);
    for _ in 0..200 {
        let input = Extent { channels: 1 + random.below(3), height: 1 + random.below(6), width: 1 + random.below(6) };
        let channels = 1 + random.below(4);
        let (map, extent) = conv(&mut random, input, channels);
        let mut net = Net::new(input);
        let bias: Vec<f32> = (0..extent.len()).map(|_| random.below(9) as f32).collect();
        net.layer(extent, vec![(Source::Input, map)], &bias, Activation::None);
        let (map, extent) = conv(&mut random, extent, 2);
        net.layer(extent, vec![(Source::Layer(0), map)], &vec![0.0; extent.len()], Activation::None);
        let x: Vec<f64> = (0..input.len()).map(|_| random.below(17) as f64 / 4.0 - 2.0).collect();
        maps(&net, &x);
    }
}

#[test]
fn sparse_and_diagonal_maps_and_several_edges_of_one_source() {
    let mut net = Net::flat(3);
    let select = sparse(&[vec![(2, 1.0)], vec![], vec![(0, -2.0), (1, 0.5), (2, 4.0)], vec![(2, 3.0)]]);
    net.layer(Extent::flat(4), vec![(Source::Input, select)], &[0.0, 1.0, 2.0, 3.0], Activation::None);
    let last = net.last();
    let both = vec![
        (last, Map::Diagonal(vec![1.0, 2.0, -3.0, 0.0])),
        (last, sparse(&[vec![(3, 1.0)], vec![(3, 1.0)], vec![(0, 1.0)], vec![(1, 8.0)]])),
        (Source::Input, Map::Dense(Array2::from_shape_fn((4, 3), |(i, j)| i as f32 - j as f32))),
    ];
    net.layer(Extent::flat(4), both, &[0.5; 4], Activation::None);
    maps(&net, &[1.0, -2.0, 0.5]);
}

/// One layer with one edge from three inputs.
fn one(extent: Extent, map: Map, outputs: usize) -> Layers {
    let mut net = Net::new(extent);
    net.layer(Extent::flat(outputs), vec![(Source::Input, map)], &vec![0.0; outputs], Activation::None);
    net.0
}

#[test]
fn layers_that_contradict_themselves_are_refused() {
    let kind = |layers: &Layers| Network::new(layers).map(|_| ()).map_err(|e| e.kind());
    let dense = |rows, columns| Map::Dense(Array2::ones((rows, columns)));
    let good = one(Extent::flat(3), dense(2, 3), 2);
    assert_eq!(kind(&good), Ok(()));
    let edited = |edit: &dyn Fn(&mut Layers)| {
        let mut layers = good.clone();
        edit(&mut layers);
        kind(&layers)
    };
    let internal = Err(ErrorKind::Internal);
    assert_eq!(edited(&|l| l.layers.clear()), Err(ErrorKind::BadInput));
    assert_eq!(edited(&|l| l.input = Extent::flat(0)), Err(ErrorKind::BadInput));
    assert_eq!(edited(&|l| l.layers[0].bias[1] = f32::NAN), Err(ErrorKind::BadInput));
    assert_eq!(edited(&|l| l.layers[0].bias_abs[1] = -1.0), Err(ErrorKind::BadInput));
    assert_eq!(
        edited(&|l| l.layers[0].edges[0].map = Map::Dense(Array2::from_elem((2, 3), f32::INFINITY))),
        Err(ErrorKind::BadInput)
    );
    assert_eq!(edited(&|l| l.layers[0].edges[0].rel = f32::NAN), internal);
    assert_eq!(edited(&|l| l.layers[0].edges[0].rel = -0.5), internal);
    assert_eq!(edited(&|l| l.layers[0].edges[0].source = Source::Layer(0)), internal);
    assert_eq!(edited(&|l| l.layers[0].edges.clear()), internal);
    assert_eq!(edited(&|l| l.layers[0].extent = Extent::flat(3)), internal);
    assert_eq!(edited(&|l| l.layers[0].bias_abs.truncate(1)), internal);
    assert_eq!(edited(&|l| l.input = Extent::flat(4)), internal);

    let flat = Extent::flat(3);
    assert_eq!(kind(&one(flat, Map::Diagonal(vec![1.0; 3]), 3)), Ok(()));
    assert_eq!(kind(&one(flat, Map::Diagonal(vec![1.0; 3]), 2)), internal);
    let csr = |starts: &[usize], columns: &[u32]| {
        let (starts, columns, weights) = (starts.to_vec(), columns.to_vec(), vec![1.0; columns.len()]);
        kind(&one(flat, Map::Sparse(Sparse { starts, columns, weights }), 2))
    };
    assert_eq!(csr(&[0, 1, 2], &[0, 2]), Ok(()));
    for (starts, columns) in [
        (&[0, 1][..], &[0][..]),
        (&[0, 2, 1], &[0]),
        (&[0, 1, 3], &[0, 1]),
        (&[1, 1, 2], &[0, 1]),
        (&[0, 1, 2], &[0, 3]),
    ] {
        assert_eq!(csr(starts, columns), internal, "{starts:?}, {columns:?}");
    }
    let image = Extent { channels: 1, height: 3, width: 1 };
    let convolution = |stride: usize, dilation: usize, channels: usize| {
        let weight = Array4::ones((2, channels, 1, 1));
        let map = Convolution { weight, stride: [stride, 1], pad: [0, 0], dilation: [dilation, 1] };
        kind(&one(image, Map::Conv(map), 2))
    };
    assert_eq!(convolution(1, 1, 1), Ok(()));
    for (stride, dilation, channels) in [(0, 1, 1), (1, 0, 1), (1, 1, 2), (usize::MAX, 1, 1), (1, usize::MAX, 1)] {
        assert_eq!(convolution(stride, dilation, channels), internal, "{stride}, {dilation}, {channels}");
    }
}

#[test]
fn pieces_come_back_in_order_with_the_first_error() {
    let items: Vec<usize> = (0..1000).collect();
    let sums = |size| pieces(&items, size, Rounding::IEEE, |piece| Ok(piece.to_vec())).unwrap().concat();
    assert_eq!(sums(1), items);
    assert_eq!(sums(64), items);
    assert_eq!(sums(5000), items);
    assert!(pieces(&[0_usize; 0], 3, Rounding::IEEE, |_| Ok(())).unwrap().is_empty());
    let failing = |piece: &[usize]| if piece[0] >= 300 { Err(bad_proof(piece[0].to_string())) } else { Ok(()) };
    assert_eq!(pieces(&items, 10, Rounding::IEEE, failing).unwrap_err().message(), "300");
}
