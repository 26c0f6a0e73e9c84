//! Matrix products: the variant that this device gets and the others, favourable shapes beside unfavourable ones.

use super::host::sgemm_name;
use super::oracle::{Random, gamma, near, poisoned};
use super::roofs::FMA_ROOF;
use super::{Context, Done, SEED, Spec};
use crate::error::Result;
use crate::gpu::{Gpu, Recording};
use crate::ops::matmul::{Class, Matmul, Variant, depth, split_sum};
use crate::tensor::Tensor;

pub(super) const GROUP: &str = "matmul";
/// Elements compared with f64.
const SAMPLES: usize = 256;
/// Terms of a chunk of the split products.
const CHUNK: usize = 128;
/// For products of few columns.
const NARROW: Variant = Variant::Direct { rows: 16, columns: 4, lanes: 8 };

/// A product `[batch, m, k] x [batch, k, n]`.
#[derive(Debug, Clone, Copy, Default)]
struct Case {
    batch: usize,
    m: usize,
    n: usize,
    k: usize,
    trans_a: bool,
    trans_b: bool,
    split: bool,
    variant: Option<Variant>,
}

pub(super) fn specs(context: &Context<'_>) -> Vec<Spec> {
    let quick = context.quick();
    let side = if quick { 256 } else { 512 };
    let case = |m, n, k| Case { batch: 1, m, n, k, ..Case::default() };
    let cube = |side| case(side, side, side);
    let caps = context.gpu.caps();
    let chosen = Variant::tuned(caps, Class::of(side * side, side));
    let mut specs = vec![spec(format!("matmul_{side}"), cube(side), true)];
    for variant in compared(caps.is_software()).into_iter().filter(|&v| v != chosen && v.fits(caps)) {
        let name = format!("matmul_{side}_{}", variant.to_string().replace(' ', "_"));
        specs.push(spec(name, Case { variant: Some(variant), ..cube(side) }, false));
    }
    for (suffix, trans_a, trans_b) in [("ta", true, false), ("tb", false, true), ("ta_tb", true, true)] {
        specs.push(spec(format!("matmul_{side}_{suffix}"), Case { trans_a, trans_b, ..cube(side) }, false));
    }
    specs.push(spec(format!("matmul_{side}_split_k"), Case { split: true, ..cube(side) }, false));
    if !quick {
        for side in [1024, 2048, 4096] {
            specs.push(spec(format!("matmul_{side}"), cube(side), false));
        }
        if !caps.is_software() {
            // The variants at the size where a GPU's arithmetic is the limit.
            for variant in compared(false).into_iter().filter(|v| v.fits(caps)) {
                let name = format!("matmul_4096_{}", variant.to_string().replace(' ', "_"));
                specs.push(spec(name, Case { variant: Some(variant), ..cube(4096) }, false));
            }
        }
    }
    for (m, n, k) in [(64, 16, 32), (1000, 10, 784), (15, 256, 784)] {
        specs.push(spec(format!("matmul_{m}x{n}x{k}"), case(m, n, k), false));
    }
    let narrow = Case { variant: Some(NARROW), ..case(1000, 10, 784) };
    specs.push(spec("matmul_1000x10x784_direct_16x4".to_owned(), narrow, false));
    specs.push(spec("matmul_15x256x784_split_k".to_owned(), Case { split: true, ..case(15, 256, 784) }, false));
    specs.push(spec("matmul_32_of_64x16x32".to_owned(), Case { batch: 32, ..case(64, 16, 32) }, false));
    specs
}

/// The variants that are timed beside the chosen one.
fn compared(software: bool) -> Vec<Variant> {
    let direct = |rows, columns| Variant::Direct { rows, columns, lanes: 8 };
    if software {
        return vec![direct(16, 16), direct(16, 8), direct(8, 8), Variant::Tiled, Variant::TiledLarge];
    }
    let tiled = [Variant::TiledLarge, Variant::Tiled, Variant::TiledDouble, Variant::TiledWave, Variant::TiledSmall];
    [&[direct(8, 8)][..], &tiled].concat()
}

fn spec(name: String, case: Case, beside_host: bool) -> Spec {
    Spec::new(GROUP, name, Some(FMA_ROOF), move |context| measure(context, case, beside_host))
}

fn measure(context: &Context<'_>, case: Case, beside_host: bool) -> Result<Done> {
    let (gpu, caps) = (context.gpu, context.gpu.caps());
    if case.m >= 2048 && case.n >= 2048 && caps.is_software() {
        return Ok(Done::Skipped("several seconds a run on a software device".to_owned()));
    }
    let operands = Operands::new(gpu, case)?;
    let record = |recording: &mut Recording| operands.record(recording, gpu);
    let work = 2.0 * case.batch as f64 * case.m as f64 * case.n as f64 * case.k as f64;
    let measured = context.measure(work, "FLOP", &record, || operands.check(gpu))?;
    let outputs = case.batch * case.m * case.n * if case.split { case.k.div_ceil(CHUNK) } else { 1 };
    let chosen = || Variant::tuned(caps, Class::of(outputs, case.n));
    let variant = case.variant.unwrap_or_else(chosen).to_string();
    let note = match context.rates.borrow().get(sgemm_name(context.quick())) {
        Some(host) if beside_host => {
            format!("{variant}; {:.2} times the host's sgemm", measured.work / measured.timing.seconds / host)
        }
        _ => variant,
    };
    measured.note(note).done()
}

struct Operands {
    case: Case,
    host_a: Vec<f32>,
    host_b: Vec<f32>,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    planes: Option<Tensor>,
}

impl Operands {
    fn new(gpu: &Gpu, case: Case) -> Result<Self> {
        let Case { batch, m, n, k, .. } = case;
        let mut random = Random::new(SEED);
        let (host_a, host_b) = (random.values(batch * m * k), random.values(batch * k * n));
        let shape = |rows: usize, columns: usize, swapped: bool| {
            if swapped { [batch, columns, rows] } else { [batch, rows, columns] }
        };
        let planes = if case.split { Some(poisoned(gpu, &[batch, k.div_ceil(CHUNK), m, n])?) } else { None };
        Ok(Self {
            case,
            a: Tensor::from_slice(gpu, &shape(m, k, case.trans_a), &host_a)?,
            b: Tensor::from_slice(gpu, &shape(k, n, case.trans_b), &host_b)?,
            c: poisoned(gpu, &[batch, m, n])?,
            host_a,
            host_b,
            planes,
        })
    }

    fn record(&self, recording: &mut Recording, gpu: &Gpu) -> Result<()> {
        let Case { trans_a, trans_b, variant, .. } = self.case;
        let product = Matmul { trans_a, trans_b, variant, ..Matmul::default() };
        match &self.planes {
            None => product.record(recording, gpu.caps(), &self.a, &self.b, &self.c),
            Some(planes) => {
                product.record_split(recording, gpu.caps(), &self.a, &self.b, planes, CHUNK)?;
                split_sum(recording, gpu.caps(), planes, None, false, &self.c)
            }
        }
    }

    /// Sampled elements against f64, within the operator's own error depth.
    fn check(&self, gpu: &Gpu) -> Result<()> {
        let Case { batch, m, n, k, trans_a, trans_b, split, .. } = self.case;
        let c = self.c.to_array(gpu)?;
        let mut random = Random::new(SEED + 1);
        let depth = depth(k, if split { CHUNK } else { k });
        for _ in 0..SAMPLES {
            let (z, i, j) = (random.below(batch), random.below(m), random.below(n));
            let a = |t: usize| self.host_a[z * m * k + if trans_a { t * m + i } else { i * k + t }];
            let b = |t: usize| self.host_b[z * k * n + if trans_b { j * k + t } else { t * n + j }];
            let terms = || (0..k).map(|t| f64::from(a(t)) * f64::from(b(t)));
            let magnitude: f64 = terms().map(f64::abs).sum();
            let value = f64::from(c[[z, i, j]]);
            near(&format!("element ({z}, {i}, {j})"), value, terms().sum(), gamma(depth) * magnitude)?;
        }
        Ok(())
    }
}
