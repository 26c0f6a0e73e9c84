// Mean and variance of every column from the chunks of column_chunks (MOMENTS: s = sum d, q = sum (d - s / n)^2 of n rows,
// d = x - row 0):
//   m = (sum s) / R,  mean = row 0 + m,  var = (sum over chunks of q + n (s / n - m)^2) / R  (biased).
//   INVERSE  stores inv_std = 1 / sqrt(var + eps) in place of var;
//   RUNNING  updates running = (1 - momentum) running + momentum (mean, var R / (R - 1)) of the slots that are live
//            (torch's rule).
//
// Buffers (f32, by vectors): parts [slots, chunks + 1, 2, n], behind the chunks row 0; saved [slots, 2, n];
//   RUNNING: running [slots, 2, n], streams [slots, 4] (u32; word 3 is 1 for a live slot). Slot strides are free.
// Source: Chan, Golub, LeVeque, Algorithms for computing the sample variance (1983), in its two-pass form over chunks.
// Precision: all sums are of differences from row 0, so their errors are relative to the spread of a column and not to its
//   mean. Depth: CHUNK + ceil(chunks / 16) + 15 additions; inverseSqrt 2 ulp.
// Undefined: NaN and infinity, which stay in their own slot and column; R = 1 counts R / (R - 1) as 1. Padding of running
//   stays as it is, that of saved is undefined.
// Geometry: workgroup (64,1,1): 4 vectors times 16 strands; x covers vectors, y slots with a stride. Bounds: guarded by n.
// Races: barriers in lib/strands; strand 0 alone stores, and alone reads and writes running.

#import "lib/strands"

struct Params {
    grid: vec4<u32>,
    n: u32, chunks: u32, count: u32, step: u32,
    slot_parts: u32, slot_saved: u32, slot_running: u32, slot_streams: u32,
    // 1 / R, 1 / rows of the last chunk; eps, momentum.
    inv_rows: f32, inv_tail: f32, eps: f32, momentum: f32,
    // R / (R - 1); rows of the last chunk.
    unbiased: f32, tail: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> parts: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> saved: array<vec4<f32>>;
#ifdef RUNNING
@group(0) @binding(2) var<storage, read_write> running: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> streams: array<u32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

const CHUNK = ${CHUNK}u;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let quads = (p.n + 3u) / 4u;
    let column = (group.x + p.grid.x) * 4u + lane.x % 4u;
    let q = min(column, quads - 1u);
    let strand = lane.x / 4u;
    for (var s = group.y + p.grid.y; s < p.count; s += p.step) {
        let base = s * p.slot_parts + q;
        var sum = vec4<f32>(0.0);
        for (var chunk = strand; chunk < p.chunks; chunk += STRANDS) {
            sum += parts[base + chunk * 2u * quads];
        }
        let mean = strands_sum(sum, lane.x, p.chunks) * p.inv_rows;
        var square = vec4<f32>(0.0);
        for (var chunk = strand; chunk < p.chunks; chunk += STRANDS) {
            let last = chunk + 1u == p.chunks;
            let inverse = select(1.0 / f32(CHUNK), p.inv_tail, last);
            let d = parts[base + chunk * 2u * quads] * inverse - mean;
            square += fma(d * d, vec4<f32>(f32(select(CHUNK, p.tail, last))), parts[base + (chunk * 2u + 1u) * quads]);
        }
        let variance = strands_sum(square, lane.x, p.chunks) * p.inv_rows;
        if (strand == 0u && column < quads) {
            let centre = parts[base + p.chunks * 2u * quads] + mean;
            let to = s * p.slot_saved + q;
            saved[to] = centre;
#ifdef INVERSE
            saved[to + quads] = inverseSqrt(variance + p.eps);
#else
            saved[to + quads] = variance;
#endif
#ifdef RUNNING
            if (streams[s * p.slot_streams + 3u] != 0u) {
                let inside = vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.n);
                let at = s * p.slot_running + q;
                let keep = 1.0 - p.momentum;
                let old = running[at];
                running[at] = select(old, keep * old + p.momentum * centre, inside);
                let spread = running[at + quads];
                running[at + quads] = select(spread, keep * spread + p.momentum * (variance * p.unbiased), inside);
            }
#endif
        }
    }
}
