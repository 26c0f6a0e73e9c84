// For every chunk of CHUNK rows and every column: one or two sums over the chunk's rows, added in ascending order.
//   (no flag)  sum x                                PRODUCT  sum x y
//   MOMENTS    sum d and sum (d - m)^2, where d = x - (row 0 of the sample), m = the chunk's mean of d; row 0 itself
//              stands behind the last chunk
//   BY_COLUMN  sum y h and sum y, where h = (x - mean) inv_std with a mean and inv_std a column (batch and group norm)
//   BY_ROW     the same with a mean and inv_std a row (layer norm)
//
// Buffers (f32, by vectors of four along the columns): x, and y but for (no flag) and MOMENTS, [slots, samples, rows, n]
//   with any strides; k = mean and inv_std, [slots samples, 2, n] BY_COLUMN, [slots samples, rows, 2] BY_ROW; out
//   [slots samples, chunks, 1 or 2, n], MOMENTS one chunk more.
//   What a sample is the host decides: batch norm has one a slot. A shared operand has stride 0 along the slots.
// Precision: a sum has depth CHUNK + 1 (CHUNK + 4 with h). MOMENTS differ from one row of their own sample, so that a mean
//   far from 0 costs no digits of the variance.
// Undefined: NaN and infinity, which stay in their own slot and column. Padding of out becomes 0 and that of operands is not
//   used.
// Geometry: workgroup (64,1,1) as 2^p.shift lanes along the columns times chunks; x covers columns, y chunks, z samples, the
//   last two with a stride. Bounds: guarded by n, chunks and rows.
// Races: an invocation writes its own vectors. The chunk is a constant: the order of summation depends on rows alone.
// Tried: nothing else yet. One flat loop over rows with vector loads is what a software device likes; not timed on a GPU.

struct Params {
    grid: vec4<u32>,
    rows: u32, n: u32, chunks: u32, count: u32,
    // Vectors from one row, sample and slot to the next.
    row_x: u32, sample_x: u32, slot_x: u32, row_y: u32,
    sample_y: u32, slot_y: u32, slot_k: u32, slot_out: u32,
    samples: u32, shift: u32, chunk_step: u32, step: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
#ifdef TWO
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
#ifdef NORMAL
@group(0) @binding(2) var<storage, read_write> k: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
#endif
#else
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

const CHUNK = ${CHUNK}u;

fn kept(v: vec4<f32>, q: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), v, vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.n));
}

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
        let base_x = slot * p.slot_x + (s - slot * p.samples) * p.sample_x + q;
#ifdef TWO
        let base_y = slot * p.slot_y + (s - slot * p.samples) * p.sample_y + q;
#endif
        for (var chunk = first; chunk < p.chunks; chunk += p.chunk_step) {
            let low = chunk * CHUNK;
            let high = min(low + CHUNK, p.rows);
            var sum = vec4<f32>(0.0);
#ifdef PAIR
            var second = vec4<f32>(0.0);
#endif
#ifdef MOMENTS
            let origin = x[base_x];
            for (var r = low; r < high; r++) {
                sum += x[base_x + r * p.row_x] - origin;
            }
            let mean = sum / f32(high - low);
            for (var r = low; r < high; r++) {
                let d = (x[base_x + r * p.row_x] - origin) - mean;
                second = fma(d, d, second);
            }
#else
#ifdef BY_COLUMN
            let mean = k[s * p.slot_k + q];
            let inv = k[s * p.slot_k + quads + q];
#endif
            for (var r = low; r < high; r++) {
                let v = x[base_x + r * p.row_x];
#ifdef TWO
                let w = y[base_y + r * p.row_y];
#ifdef PAIR
#ifdef BY_ROW
                let of_row = k[s * p.slot_k + r];
                let h = (v - of_row.x) * of_row.y;
#else
                let h = (v - mean) * inv;
#endif
                sum = fma(w, h, sum);
                second += w;
#else
                sum = fma(v, w, sum);
#endif
#else
                sum += v;
#endif
            }
#endif
#ifdef PAIR
            let to = s * p.slot_out + chunk * 2u * quads + q;
            out[to] = kept(sum, q);
            out[to + quads] = kept(second, q);
#ifdef MOMENTS
            if (chunk == 0u) {
                out[s * p.slot_out + p.chunks * 2u * quads + q] = kept(origin, q);
            }
#endif
#else
            out[s * p.slot_out + chunk * quads + q] = kept(sum, q);
#endif
        }
    }
}
