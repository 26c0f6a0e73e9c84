// y = (x - mean) inv_std scale + shift, with statistics a column and sample and an affine part a column and slot.
//   RUNNING  the statistics are mean and variance: inv_std = 1 / sqrt(variance + eps) is worked out here.
//
// Buffers (f32, by vectors along the columns): x, y [slots, samples, rows, n] with any strides; statistics [slots samples,
//   2, n]; affine [slots, 2, n] (row 0 scale, row 1 shift). Batch norm has one sample a slot, group norm a sample an image.
// Precision: the product inv_std scale is rounded once, the difference, its product and the sum once each: 4 u of |x - mean|
//   inv_std |scale| and u |y|; inverseSqrt 2 ulp.
// Undefined: NaN and infinity, which stay in their own slot and column; padding columns of y.
// Geometry: workgroup (64,1,1) as 2^p.shift lanes along the columns times rows; x covers columns, y rows, z samples, the
//   last two with a stride, so that statistics are read once for several rows. Bounds: guarded by n and rows.
// Races: an invocation writes its own vectors.

struct Params {
    grid: vec4<u32>,
    rows: u32, n: u32, count: u32, samples: u32,
    // Vectors from one row, sample and slot to the next.
    row_x: u32, sample_x: u32, slot_x: u32, row_y: u32,
    sample_y: u32, slot_y: u32, slot_k: u32, slot_affine: u32,
    shift: u32, row_step: u32, step: u32, eps: f32,
}
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> statistics: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> affine: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let quads = (p.n + 3u) / 4u;
    let across = 1u << p.shift;
    let q = (group.x + p.grid.x) * across + (lane.x & (across - 1u));
    if (q >= quads) {
        return;
    }
    let first = ((group.y + p.grid.y) << (6u - p.shift)) + (lane.x >> p.shift);
    for (var s = group.z + p.grid.z; s < p.count; s += p.step) {
        let slot = s / p.samples;
        let sample = s - slot * p.samples;
        let mean = statistics[s * p.slot_k + q];
#ifdef RUNNING
        let inv = inverseSqrt(statistics[s * p.slot_k + quads + q] + p.eps);
#else
        let inv = statistics[s * p.slot_k + quads + q];
#endif
        let factor = inv * affine[slot * p.slot_affine + q];
        let offset = affine[slot * p.slot_affine + quads + q];
        let of_x = slot * p.slot_x + sample * p.sample_x + q;
        let to = slot * p.slot_y + sample * p.sample_y + q;
        for (var r = first; r < p.rows; r += p.row_step) {
            y[to + r * p.row_y] = fma(x[of_x + r * p.row_x] - mean, factor, offset);
        }
    }
}
