//! Not a benchmark (`wavehull bench pack` is): the shapes of the kernels side by side, to choose among them. The least of many short
//! times, so that it can be read on a machine that does other things too.

use wavehull::gpu::Recording;
use wavehull::ops::elementwise::{self, Unary};
use wavehull::pack::Element;
use wavehull::pack::codec::{matmul, width};
use wavehull::tensor::Tensor;
use wavehull::{Control, Gpu};

use crate::common::{self, Random};
use crate::{bytes, stride, words};

const BYTES: usize = 4 << 20;
const TURNS: usize = 40;

type Record<'a> = Box<dyn Fn(&mut Recording) + 'a>;

/// The least seconds of each, taken in turns.
fn least(gpu: &Gpu, all: &[(String, Record<'_>)]) -> Vec<f64> {
    let mut least = vec![f64::MAX; all.len()];
    for _ in 0..TURNS {
        for (seconds, (_, record)) in least.iter_mut().zip(all) {
            let mut recording = Recording::new();
            record(&mut recording);
            *seconds = seconds.min(gpu.run(&recording, &Control::default()).unwrap().seconds);
        }
    }
    least
}

#[test]
#[ignore = "prints times; takes a minute"]
fn codecs_side_by_side() {
    let Some(gpu) = common::device("codecs_side_by_side", false) else { return };
    let caps = gpu.caps();
    let mut random = Random::new(5);
    for (element, kind) in [(Element::I8, 2), (Element::I8, 1), (Element::I16, 2)] {
        let part = bytes(&mut random, element, BYTES / stride(element), kind);
        let values = words(&part);
        let len = part.len() / stride(element);
        let from = Tensor::from_slice(gpu, &[1, values.len()], &values).unwrap();
        let to = Tensor::<u32>::uninit(gpu, &[1, values.len()]).unwrap();
        let packed = width::room(gpu, element, len).unwrap();
        let r = width::reference::encode(element, &values, len).len() as f64 / values.len() as f64;
        let (a, b) = (from.words::<f32>(), to.words::<f32>());
        let mut all: Vec<(String, Record<'_>)> = vec![(
            "a copy (relu)".to_owned(),
            Box::new(|recording| elementwise::unary(recording, caps, Unary::Relu, &a, &b).unwrap()),
        )];
        for tile in width::Tile::ALL {
            let (from, to, packed) = (&from, &to, &packed);
            let encode = move |r: &mut Recording| width::encode(r, caps, tile, from, packed).unwrap();
            let decode = move |r: &mut Recording| width::decode(r, caps, tile, packed, to).unwrap();
            all.push((format!("encode, {tile:?}"), Box::new(encode)));
            all.push((format!("decode, {tile:?}"), Box::new(decode)));
        }
        let seconds = least(gpu, &all);
        let copy = 2.0 * BYTES as f64 / seconds[0];
        common::say(&format!("{element:?}, distribution {kind}, r {r:.3}, copy {:.2} GB/s", 1e-9 * copy));
        for ((what, _), seconds) in all.iter().zip(seconds).skip(1) {
            let traffic = r + if what.starts_with("encode") { 2.0 } else { 1.0 };
            let rate = BYTES as f64 / seconds;
            common::say(&format!("  {what}: {:.2} GB/s, {:.0} %", 1e-9 * rate, 100.0 * rate * traffic / copy));
        }
    }
}

#[test]
#[ignore = "prints times; takes a minute"]
fn products_side_by_side() {
    let Some(gpu) = common::device("products_side_by_side", false) else { return };
    let caps = gpu.caps();
    let mut random = Random::new(6);
    let side = 2048;
    let w = words(&bytes(&mut random, Element::I8, side * side, 2));
    let matrices = [matmul::Matrix::plain, matmul::Matrix::packed].map(|make| make(gpu, side, side, &w).unwrap());
    let scale = Tensor::from_slice(gpu, &[side], &random.floats(side)).unwrap();
    for m in [1, 4, 16] {
        let x = Tensor::from_slice(gpu, &[m, side], &random.floats(m * side)).unwrap();
        let planes = matmul::planes(gpu, m, &matrices[0]).unwrap();
        let y = Tensor::uninit(gpu, &[1, m, side]).unwrap();
        let mut all: Vec<(String, Record<'_>)> = Vec::new();
        for (what, matrix) in ["plain", "packed"].into_iter().zip(&matrices) {
            for tile in matmul::Tile::ALL.into_iter().filter(|tile| tile.samples as usize <= m) {
                let operands = (&x, matrix, &scale);
                let (planes, y) = (&planes, &y);
                let record = move |r: &mut Recording| {
                    matmul::record(r, caps, tile, operands, planes, y).unwrap();
                };
                all.push((format!("{what}, {tile:?}"), Box::new(record)));
            }
        }
        let seconds = least(gpu, &all);
        common::say(&format!("{m} rows, {side} x {side}"));
        for ((what, _), seconds) in all.iter().zip(seconds) {
            common::say(&format!("  {what}: {:.3} GB of weights/s", 1e-9 * (side * side) as f64 / seconds));
        }
    }
}
