//! The kernel families beside products: convolutions against the rate of multiply-adds, everything else against the copy
//! bandwidth; sizes of real networks, favourable ones beside unfavourable ones.

use super::oracle::{Random, gamma, near, poisoned, poisoned_words, wrong};
use super::roofs::{COPY_ROOF, FMA_ROOF, big};
use super::{Context, Done, SEED, Spec};
use crate::error::Result;
use crate::gpu::{Gpu, Recording};
use crate::ops::conv::{Conv, Variant, Weight, depth};
use crate::ops::gather::{self, Otherwise, Segments};
use crate::ops::pool::{Pool, Pooling};
use crate::ops::scan::{self, Workspace};
use crate::ops::softmax;
use crate::tensor::Tensor;

const GROUP: &str = "kernels";
const COLUMNS: usize = 4096;
/// Elements or rows compared with f64.
const SAMPLES: usize = 256;

pub(super) fn specs(context: &Context<'_>) -> Vec<Spec> {
    let mut specs = convolutions(context);
    let elements = big(context) / 4;
    let rows = (elements / COLUMNS).max(1);
    let spec = |name: &str, run: fn(&Context<'_>, usize) -> Result<Done>, size: usize| {
        Spec::new(GROUP, name, Some(COPY_ROOF), move |context| run(context, size))
    };
    specs.extend([
        spec("max_pool_2x2", max_pool, elements),
        spec("softmax", |context, rows| softmax_rows(context, rows, COLUMNS), rows),
        spec("softmax_short_rows", |context, rows| softmax_rows(context, rows, 10), (elements / 16).min(1 << 18)),
        spec("gather_rows", gathered_rows, elements / 64),
        spec("scatter_rows", scattered_rows, elements / 64),
        spec("gather_elements", gathered_elements, elements),
        spec("scan_u32", scanned, elements),
        spec(
            "scan_u32_short_rows",
            |context, elements| scanned_rows(context, (elements / 256).min(65_535), 256),
            elements,
        ),
    ]);
    specs
}

/// A convolution of square images, all sizes of it.
#[derive(Debug, Clone, Copy)]
struct Image {
    batch: usize,
    /// Rows and columns that are read.
    side: usize,
    /// Rows and columns that are written.
    out: usize,
    read: usize,
    written: usize,
    groups: usize,
    kernel: usize,
    stride: usize,
    pad: usize,
    transposed: bool,
    variant: Option<Variant>,
}

fn convolutions(context: &Context<'_>) -> Vec<Spec> {
    let batch = if context.quick() { 1 } else { 8 };
    let base = Image {
        batch,
        side: 32,
        out: 32,
        read: 64,
        written: 64,
        groups: 1,
        kernel: 3,
        stride: 1,
        pad: 1,
        transposed: false,
        variant: None,
    };
    let chosen = Variant::choose(context.gpu.caps(), base.written);
    let mut cases = vec![("conv_3x3_64_to_64".to_owned(), base)];
    for (name, variant) in [
        ("direct_16x16", Variant::Direct { columns: 16 }),
        ("direct_16x8", Variant::Direct { columns: 8 }),
        ("tiled", Variant::Tiled),
    ] {
        if variant != chosen {
            cases.push((format!("conv_3x3_64_to_64_{name}"), Image { variant: Some(variant), ..base }));
        }
    }
    let down = Image { stride: 2, out: 16, ..base };
    let depthwise = Image { read: 128, written: 128, groups: 128, ..base };
    for (name, case) in [
        ("conv_3x3_3_to_32", Image { read: 3, written: 32, ..base }),
        ("conv_1x1_256_to_64", Image { read: 256, kernel: 1, pad: 0, ..base }),
        ("conv_3x3_stride_2", down),
        ("conv_transposed_3x3", Image { transposed: true, ..base }),
        ("conv_transposed_3x3_stride_2", Image { side: 16, out: 32, transposed: true, ..down }),
        ("conv_depthwise_3x3", depthwise),
    ] {
        cases.push((name.to_owned(), case));
    }
    let spec = |(name, case): (String, Image)| {
        // A depthwise convolution has nine multiply-adds for two words: memory bounds it.
        let roof = if case.groups > 1 { COPY_ROOF } else { FMA_ROOF };
        Spec::new(GROUP, name, Some(roof), move |context| convolve(context, case))
    };
    cases.into_iter().map(spec).collect()
}

fn convolve(context: &Context<'_>, case: Image) -> Result<Done> {
    let (gpu, caps) = (context.gpu, context.gpu.caps());
    if case.variant == Some(Variant::Tiled) && caps.max_invocations < 256 {
        return Ok(Done::Skipped(format!("needs workgroups of 256, the device allows {}", caps.max_invocations)));
    }
    let operands = Convolved::new(gpu, case)?;
    let conv = Conv {
        stride: [case.stride; 2],
        pad: [case.pad; 2],
        groups: case.groups,
        transposed: case.transposed,
        variant: case.variant,
        ..Conv::default()
    };
    let record = |recording: &mut Recording| conv.record(recording, caps, &operands.x, &operands.weight, &operands.out);
    let words = |t: &Tensor| t.len() as f64 * 4.0;
    let (work, unit) = if case.groups > 1 {
        (words(&operands.x) + words(&operands.out) + words(&operands.weight), "B")
    } else {
        (2.0 * operands.terms(), "FLOP")
    };
    let variant = match case.variant.unwrap_or_else(|| Variant::choose(caps, case.written / case.groups)) {
        _ if case.groups > 1 => "depthwise".to_owned(),
        Variant::Direct { columns } => format!("direct 16x{columns}"),
        Variant::Tiled => "tiled".to_owned(),
    };
    let size = format!("{} x {}x{} x {}", case.batch, case.side, case.side, case.read);
    context.measure(work, unit, &record, || operands.check(gpu))?.note(format!("{variant}, {size}")).done()
}

struct Convolved {
    case: Image,
    host_x: Vec<f32>,
    packed: Weight,
    x: Tensor,
    weight: Tensor,
    out: Tensor,
}

impl Convolved {
    fn new(gpu: &Gpu, case: Image) -> Result<Self> {
        let Image { batch, side, out, read, written, groups, kernel, .. } = case;
        let mut random = Random::new(SEED);
        let host_x = random.values(batch * side * side * read);
        // The order of the file does not matter here: the numbers are random.
        let elements = random.values(kernel * kernel * (read / groups) * written);
        let elements = ndarray::Array4::from_shape_vec((kernel, kernel, read / groups, written), elements)
            .map_err(|e| wrong(e.to_string()))?;
        let packed = Weight { elements, groups };
        Ok(Self {
            case,
            x: Tensor::from_slice(gpu, &[batch, side, side, read], &host_x)?,
            weight: packed.upload(gpu)?,
            out: poisoned(gpu, &[batch, out, out, written])?,
            host_x,
            packed,
        })
    }

    /// Source pixel that output pixel `y` reads at tap `i`.
    fn source(&self, y: usize, i: usize) -> Option<usize> {
        let Image { side, stride, pad, transposed, .. } = self.case;
        let at = if transposed {
            let distance = (y + pad).checked_sub(i)?;
            if distance % stride == 0 { distance / stride } else { return None }
        } else {
            (y * stride + i).checked_sub(pad)?
        };
        (at < side).then_some(at)
    }

    /// Pairs of tap and source pixel of an output pixel along one axis.
    fn taps(&self, y: usize) -> Vec<(usize, usize)> {
        (0..self.case.kernel).filter_map(|i| Some((i, self.source(y, i)?))).collect()
    }

    /// Multiply-adds that the result needs; those with padding do not count.
    fn terms(&self) -> f64 {
        let Image { batch, out, read, written, groups, .. } = self.case;
        let along: usize = (0..out).map(|y| self.taps(y).len()).sum();
        batch as f64 * (along * along) as f64 * (read / groups * written) as f64
    }

    /// Sampled elements against f64, within the operator's own error depth.
    fn check(&self, gpu: &Gpu) -> Result<()> {
        let Image { batch, side, out, read, written, groups, .. } = self.case;
        let result = self.out.to_array(gpu)?;
        let mut random = Random::new(SEED + 1);
        let bound = gamma(depth(self.weight.shape()));
        for _ in 0..SAMPLES {
            let (b, y, x, m) = (random.below(batch), random.below(out), random.below(out), random.below(written));
            let first = m / (written / groups) * (read / groups);
            let (mut sum, mut size) = (0.0, 0.0);
            for (i, from_y) in self.taps(y) {
                for (j, from_x) in self.taps(x) {
                    for c in 0..read / groups {
                        let value = self.host_x[((b * side + from_y) * side + from_x) * read + first + c];
                        let term = f64::from(value) * f64::from(self.packed.elements[[i, j, c, m]]);
                        sum += term;
                        size += term.abs();
                    }
                }
            }
            let what = format!("element ({b}, {y}, {x}, {m})");
            near(&what, f64::from(result[[b, y, x, m]]), sum, bound * size)?;
        }
        Ok(())
    }
}

/// Maximum of windows that do not overlap, 64 channels.
fn max_pool(context: &Context<'_>, elements: usize) -> Result<Done> {
    const SIDE: usize = 32;
    const CHANNELS: usize = 64;
    let gpu = context.gpu;
    let batch = (elements / (SIDE * SIDE * CHANNELS)).max(1);
    let host = Random::new(SEED).values(batch * SIDE * SIDE * CHANNELS);
    let x = Tensor::from_slice(gpu, &[batch, SIDE, SIDE, CHANNELS], &host)?;
    let out = poisoned(gpu, &[batch, SIDE / 2, SIDE / 2, CHANNELS])?;
    let pool = Pool { kernel: [2; 2], stride: [2; 2], pad: [0; 2], dilation: [1; 2] };
    let record = |recording: &mut Recording| pool.record(recording, gpu.caps(), Pooling::Max, &x, &out);
    let check = || {
        let at = |b: usize, y: usize, x: usize, c: usize| host[((b * SIDE + y) * SIDE + x) * CHANNELS + c];
        for ((b, y, x, c), &value) in
            out.to_array(gpu)?.into_dimensionality::<ndarray::Ix4>().iter().flat_map(|a| a.indexed_iter())
        {
            let window = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(i, j)| at(b, 2 * y + i, 2 * x + j, c));
            if window.into_iter().fold(f32::MIN, f32::max) != value {
                return Err(wrong(format!("element ({b}, {y}, {x}, {c}) is not the largest of its window")));
            }
        }
        Ok(())
    };
    let bytes = 4.0 * (x.len() + out.len()) as f64;
    context.measure(bytes, "B", &record, check)?.note(format!("{batch} x {SIDE}x{SIDE} x {CHANNELS}")).done()
}

/// Short rows leave most of a workgroup idle.
fn softmax_rows(context: &Context<'_>, rows: usize, n: usize) -> Result<Done> {
    let gpu = context.gpu;
    let host = Random::new(SEED).values(rows * n);
    let (x, out) = (Tensor::from_slice(gpu, &[rows, n], &host)?, poisoned(gpu, &[rows, n])?);
    let record = |recording: &mut Recording| softmax::record(recording, gpu.caps(), &x, Some(&out), None);
    let check = || {
        let out = out.to_array(gpu)?;
        let mut random = Random::new(SEED + 1);
        for _ in 0..SAMPLES {
            let (r, j) = (random.below(rows), random.below(n));
            let row = &host[r * n..(r + 1) * n];
            let sum: f64 = row.iter().map(|&v| f64::from(v).exp()).sum();
            let expected = f64::from(row[j]).exp() / sum;
            // Numbers lie in -1..1, so exponents are below 2: 9 ulp each (shaders/ops/softmax.wgsl), the sum's depth, the division.
            let depth = 2 * 9 + n.div_ceil(64) + 6 + 3;
            near(&format!("element ({r}, {j})"), f64::from(out[[r, j]]), expected, gamma(depth) * expected)?;
        }
        Ok(())
    };
    let bytes = 8.0 * (rows * n) as f64;
    context.measure(bytes, "B", &record, check)?.note(format!("{rows} x {n}")).done()
}

/// Rows of 64 in a random order.
fn gathered_rows(context: &Context<'_>, rows: usize) -> Result<Done> {
    let gpu = context.gpu;
    let mut random = Random::new(SEED);
    let host: Vec<u32> = (0..(rows * 64) as u32).map(|i| i.wrapping_mul(0x9E37_79B9)).collect();
    let ids: Vec<u32> = (0..rows).map(|_| random.below(rows) as u32).collect();
    let x = Tensor::from_slice(gpu, &[rows, 64], &host)?;
    let (list, out) = (Tensor::from_slice(gpu, &[rows], &ids)?, poisoned_words(gpu, &[rows, 64])?);
    let record = |recording: &mut Recording| gather::rows(recording, gpu.caps(), &x, &list, &out);
    let check = || {
        let out = out.to_array(gpu)?;
        let bad = out.indexed_iter().find(|(at, word)| **word != host[ids[at[0]] as usize * 64 + at[1]]);
        bad.map_or(Ok(()), |(at, _)| Err(wrong(format!("element ({}, {}) is another's", at[0], at[1]))))
    };
    let bytes = 4.0 * (2 * rows * 64 + rows) as f64;
    context.measure(bytes, "B", &record, check)?.note(format!("{rows} x 64, random rows")).done()
}

/// Rows of 64 to a quarter as many destinations, in a random order.
fn scattered_rows(context: &Context<'_>, rows: usize) -> Result<Done> {
    let gpu = context.gpu;
    let destinations = rows.div_ceil(4);
    let mut random = Random::new(SEED);
    let host = random.values(rows * 64);
    let ids: Vec<u32> = (0..rows).map(|_| random.below(destinations) as u32).collect();
    let segments = Segments::new(&ids, destinations)?;
    let on_device = segments.upload(gpu)?;
    let (x, out) = (Tensor::from_slice(gpu, &[rows, 64], &host)?, poisoned(gpu, &[destinations, 64])?);
    let record = |recording: &mut Recording| gather::scatter_rows(recording, gpu.caps(), &x, &on_device, false, &out);
    let check = || {
        let out = out.to_array(gpu)?;
        for _ in 0..SAMPLES {
            let (s, j) = (random.below(destinations), random.below(64));
            let list = &segments.list[segments.starts[s] as usize..segments.starts[s + 1] as usize];
            let terms = || list.iter().map(|&row| f64::from(host[row as usize * 64 + j]));
            let size: f64 = terms().map(f64::abs).sum();
            near(&format!("element ({s}, {j})"), f64::from(out[[s, j]]), terms().sum(), gamma(list.len()) * size)?;
        }
        Ok(())
    };
    let bytes = 4.0 * ((rows + destinations) * 65) as f64;
    context.measure(bytes, "B", &record, check)?.note(format!("{rows} x 64 to {destinations}")).done()
}

/// 64 channels from first to last, 16 samples and one list.
fn gathered_elements(context: &Context<'_>, elements: usize) -> Result<Done> {
    const CHANNELS: usize = 64;
    const BATCH: usize = 16;
    let gpu = context.gpu;
    let pixels = (elements / (CHANNELS * BATCH)).max(1);
    let n = pixels * CHANNELS;
    let host: Vec<u32> = (0..(BATCH * n) as u32).map(|i| i.wrapping_mul(0x9E37_79B9)).collect();
    let index: Vec<u32> = (0..n).map(|i| (i % CHANNELS * pixels + i / CHANNELS) as u32).collect();
    let x = Tensor::from_slice(gpu, &[BATCH, n], &host)?;
    let (list, out) = (Tensor::from_slice(gpu, &[n], &index)?, poisoned_words(gpu, &[BATCH, n])?);
    let record =
        |recording: &mut Recording| gather::elements(recording, gpu.caps(), &x, &list, Otherwise::Fill(0), &out);
    let check = || {
        let out = out.to_array(gpu)?;
        let bad = out.indexed_iter().find(|(at, word)| **word != host[at[0] * n + index[at[1]] as usize]);
        bad.map_or(Ok(()), |(at, _)| Err(wrong(format!("element ({}, {}) is another's", at[0], at[1]))))
    };
    let bytes = 4.0 * (2 * BATCH * n + n) as f64;
    let note = format!("{BATCH} x {CHANNELS} x {pixels}, channels last");
    context.measure(bytes, "B", &record, check)?.note(note).done()
}

fn scanned(context: &Context<'_>, elements: usize) -> Result<Done> {
    scanned_rows(context, 1, elements)
}

fn scanned_rows(context: &Context<'_>, rows: usize, n: usize) -> Result<Done> {
    let gpu = context.gpu;
    let host: Vec<u32> = (0..(rows * n) as u32).map(|i| i.wrapping_mul(0x9E37_79B9)).collect();
    let (x, out) = (Tensor::from_slice(gpu, &[rows, n], &host)?, poisoned_words(gpu, &[rows, n])?);
    let workspace = Workspace::new(gpu, rows, n)?;
    let record = |recording: &mut Recording| scan::exclusive(recording, gpu.caps(), &x, &workspace, &out);
    let check = || {
        let out = out.to_array(gpu)?;
        let mut found = out.iter();
        for (r, row) in host.chunks(n).enumerate() {
            let mut sum = 0_u32;
            for &word in row {
                if found.next() != Some(&sum) {
                    return Err(wrong(format!("a sum of row {r} is wrong")));
                }
                sum = sum.wrapping_add(word);
            }
        }
        Ok(())
    };
    // The data is read twice and written once.
    let bytes = 12.0 * (rows * n) as f64;
    context.measure(bytes, "B", &record, check)?.note(format!("{rows} x {n}")).done()
}
