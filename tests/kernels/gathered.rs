//! The product over gathered rows and terms that bound propagation uses.

use wavehull::gpu::{Binding, Recording};
use wavehull::ops::matmul::{self, CHUNK, Gather, Variant};
use wavehull::{Gpu, Tensor};

use crate::common::{self, POISON, Random, U, broken};
use crate::on_both;

const VARIANTS: [Variant; 4] = [
    Variant::Direct { rows: 16, columns: 16, lanes: 8 },
    Variant::Direct { rows: 16, columns: 8, lanes: 8 },
    Variant::Direct { rows: 16, columns: 4, lanes: 8 },
    Variant::Tiled,
];

/// Rows of the left operand, of which each gathered row is one.
const SOURCES: usize = 50;

struct Product {
    recording: Recording,
    planes: Tensor,
    rows: usize,
    /// Of every row, plane by plane: its terms' value and tolerance.
    oracle: Vec<Option<(f64, f64)>>,
}

/// `owners` segments of rows, each padded to the tile; of the `k` rows of b, an owner uses about half, one none at all.
fn product(gpu: &Gpu, variant: Variant, owners: usize, k: usize, n: usize) -> Product {
    let mut random = Random::new((owners * 1000 + k * 10 + n) as u64);
    let tile = variant.tile().0 as usize;
    let lists: Vec<Vec<u32>> = (0..owners)
        .map(|owner| (0..k as u32).filter(|_| random.coin() && (owner != 1 || owners < 3)).collect())
        .collect();
    let mut rows = Vec::new();
    for (owner, list) in lists.iter().enumerate() {
        let used = random.below(2 * tile);
        for i in 0..used.next_multiple_of(tile) {
            let (slot, source) = if i < used { (i as u32, random.below(SOURCES) as u32) } else { (u32::MAX, 0) };
            rows.push([owner as u32, slot, source, list.len().div_ceil(CHUNK) as u32]);
        }
    }
    let capacity = rows.len() + tile;
    let (width, chunks) = (n + 5, k.div_ceil(CHUNK));
    let a_data = random.floats(SOURCES * k);
    let b_data = random.floats(k * n);
    let mut list_data = vec![POISON; owners * k];
    for (owner, list) in lists.iter().enumerate() {
        list_data[owner * k..][..list.len()].copy_from_slice(list);
    }
    let mut row_data: Vec<u32> = rows.concat();
    row_data.resize(capacity * 4, POISON);
    let counts: Vec<u32> = lists.iter().map(|l| l.len() as u32).collect();
    let (a, b) = (common::tensor(gpu, &[SOURCES, k], &a_data), common::tensor(gpu, &[k, n], &b_data));
    let planes = common::poisoned(gpu, &[chunks, capacity, width]);
    let table = common::tensor(gpu, &[capacity, 4], &row_data);
    let k_list = common::tensor(gpu, &[owners, k], &list_data);
    let k_count = common::tensor(gpu, &[owners], &counts);
    let row_count = common::tensor(gpu, &[1], &[rows.len() as u32]);
    let arguments = gpu.allocate_arguments(3).unwrap();
    let grid = [0, 0, 0, 0, (rows.len() / tile) as u32, (n as u32).div_ceil(variant.tile().1), chunks as u32];
    gpu.upload(&arguments, bytemuck::cast_slice(&grid)).unwrap();
    let gather = Gather {
        rows: &table,
        k_list: &k_list,
        k_count: &k_count,
        row_count: &row_count,
        grid: Binding { buffer: arguments, offset: 16, size: 12 },
        expected: rows.len(),
    };
    let mut recording = Recording::new();
    matmul::record_gathered(&mut recording, variant, &a, &b, &planes, gather).unwrap();
    let mut oracle = vec![None; chunks * capacity * width];
    for part in 0..chunks {
        // A row has as many planes as its owner's terms fill.
        for (r, row) in rows.iter().enumerate().filter(|(_, row)| part < row[3] as usize) {
            let list = &lists[row[0] as usize];
            for j in 0..n {
                let (mut sum, mut size) = (0.0, 0.0);
                for t in (part * CHUNK..(part + 1) * CHUNK).take_while(|&t| t < list.len()) {
                    let x = f64::from(a_data[row[2] as usize * k + t]);
                    let term = x * f64::from(b_data[list[t] as usize * n + j]);
                    sum += term;
                    size += f64::abs(term);
                }
                // At most CHUNK fused steps a plane.
                oracle[(part * capacity + r) * width + j] = Some((sum, 1.001 * CHUNK as f64 * U * size));
            }
        }
    }
    Product { recording, planes, rows: rows.len(), oracle }
}

impl Product {
    fn check(&self, gpu: &Gpu, recording: &Recording) -> Result<(), String> {
        let raw = common::run_raw(gpu, recording, &self.planes);
        let got: Vec<u32> = common::places(&self.planes).into_iter().map(|i| raw[i]).collect();
        let (capacity, width) = (self.planes.shape()[1], self.planes.columns());
        for (i, (&word, oracle)) in got.iter().zip(&self.oracle).enumerate() {
            let value = f32::from_bits(word);
            match oracle {
                Some(expected) => common::compare(&[value], &[*expected])
                    .map_err(|why| format!("row {} column {}: {why}", i / width, i % width))?,
                // Columns up to the next multiple of 4 may be written, and so may planes without terms, which nobody reads;
                // rows behind the last tile may not.
                None if word == POISON
                    || i / width % capacity < self.rows && i % width < (width - 5).next_multiple_of(4) => {}
                None => return Err(format!("row {} column {} was written", i / width, i % width)),
            }
        }
        Ok(())
    }
}

#[test]
fn gathered_products_agree_with_f64() {
    on_both("gathered_products_agree_with_f64", |gpu| {
        for variant in VARIANTS {
            for (owners, k, n) in [(1, 1, 1), (3, 5, 17), (4, 129, 65), (2, 300, 130), (5, 256, 3)] {
                let p = product(gpu, variant, owners, k, n);
                let verdict = p.check(gpu, &p.recording);
                verdict.unwrap_or_else(|why| panic!("{variant:?}, {owners} owners, k {k}, n {n}: {why}"));
            }
        }
    });
}

#[test]
fn broken_gathers_are_noticed() {
    let Some(gpu) = common::device("broken_gathers_are_noticed", false) else { return };
    let lists = [("k_list[list + k]", "k"), ("k_list[list + k4.x]", "k4.x")];
    for (variant, name, list) in [(VARIANTS[2], "matmul", lists[0]), (VARIANTS[3], "matmul_tiled", lists[1])] {
        let whole = product(gpu, variant, 3, 300, 17);
        whole.check(gpu, &whole.recording).unwrap();
        for (from, to) in
            [list, (".z * p.lda", ".x * p.lda"), ("first_k + p.chunk, k_count", "first_k + p.chunk - 1u, k_count")]
        {
            let p = product(gpu, variant, 3, 300, 17);
            assert!(p.check(gpu, &broken(&p.recording, name, from, to)).is_err(), "'{to}' in '{name}' went unseen");
        }
    }
}
