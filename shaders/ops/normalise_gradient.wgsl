// dx = inv_std (scale g - k0 - h k1), h = (x - mean) inv_std: the gradient of y = h scale + shift through its own
// statistics.
//   Batch norm: k1 = scale sums[0] / R, k0 = scale sums[1] / R with sums = (sum g h, sum g) of the column;
//   GROUPED: k1, k0 as given.
//
// Buffers (f32, by vectors along the columns): x, g, dx [slots, samples, rows, n] with any strides;
//   statistics (mean, inv_std) and sums (GROUPED: k1, k0) [slots samples, 2, n]; affine [slots, 2, n] (row 0 scale).
// Source: Ioffe, Szegedy, Batch Normalization (2015), section 3; Wu, He, Group Normalization (2018).
// Precision: about 8 u of inv_std (|scale g| + |k0| + |h k1|), and what sums and statistics carry.
// Undefined: NaN and infinity, which stay in their own slot and column; padding columns of dx.
// Geometry and bounds: as normalise. Races: an invocation writes its own vectors.

struct Params {
    grid: vec4<u32>,
    rows: u32, n: u32, count: u32, samples: u32,
    // Vectors from one row, sample and slot to the next.
    row_x: u32, sample_x: u32, slot_x: u32, row_g: u32,
    sample_g: u32, slot_g: u32, row_dx: u32, sample_dx: u32,
    slot_dx: u32, slot_k: u32, slot_sums: u32, slot_affine: u32,
    shift: u32, row_step: u32, step: u32, inv_rows: f32,
}
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> g: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> statistics: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> affine: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> sums: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dx: array<vec4<f32>>;
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
        let inv = statistics[s * p.slot_k + quads + q];
        let scale = affine[slot * p.slot_affine + q];
#ifdef GROUPED
        let k1 = sums[s * p.slot_sums + q];
        let k0 = sums[s * p.slot_sums + quads + q];
#else
        let k1 = sums[s * p.slot_sums + q] * p.inv_rows * scale;
        let k0 = sums[s * p.slot_sums + quads + q] * p.inv_rows * scale;
#endif
        let of_x = slot * p.slot_x + sample * p.sample_x + q;
        let of_g = slot * p.slot_g + sample * p.sample_g + q;
        let to = slot * p.slot_dx + sample * p.sample_dx + q;
        for (var r = first; r < p.rows; r += p.row_step) {
            let h = (x[of_x + r * p.row_x] - mean) * inv;
            dx[to + r * p.row_dx] = inv * (fma(scale, g[of_g + r * p.row_g], -k0) - h * k1);
        }
    }
}
