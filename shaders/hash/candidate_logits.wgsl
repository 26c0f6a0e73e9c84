// logits[b, c] = hidden[b] . weights[ids[b, c]] for the ids that lie in this window of rows; other elements stay as they are.
//
// Buffers: hidden [samples, columns] and weights [rows, columns] (f32, by vectors of four; row r of the window is row p.first + r of the
//   table); ids [samples, candidates] (u32) and logits [samples, candidates] (f32), both with row stride p.ld. An id below p.first or from
//   p.first + p.rows on is of another window, or none.
// Precision: one fma a term in ascending order from 0, as ops/matmul does it, so that a logit has the same bits as in an exact ranking
//   where the device rounds alike. Depth p.width4 * 4. Undefined: NaN and infinity pass through.
// Geometry: workgroup (64,1,1), an invocation a pair, grid-stride over p.len = samples * candidates.
// Bounds: ids by p.first and p.rows. Races: own elements. The loop of a pair that is not of this window has no turns.
// Tried: nothing else; rows are read 16 bytes at a time by each lane, and the cache lines serve the next turns.

struct Params {
    grid: vec4<u32>,
    len: u32, threads: u32, candidates: u32, ld: u32,
    first: u32, rows: u32, width4: u32, pad0: u32,
}
@group(0) @binding(0) var<storage, read_write> hidden: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> weights: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var item = (group.x + p.grid.x) * 64u + lane.x; item < p.len; item += p.threads) {
        let sample = item / p.candidates;
        let place = sample * p.ld + item % p.candidates;
        // Wraps around for ids below p.first.
        let row = ids[place] - p.first;
        if (row >= p.rows) {
            continue;
        }
        var sum = 0.0;
        for (var j = 0u; j < p.width4; j++) {
            let h = hidden[sample * p.width4 + j];
            let w = weights[row * p.width4 + j];
            sum = fma(h.x, w.x, sum);
            sum = fma(h.y, w.y, sum);
            sum = fma(h.z, w.z, sum);
            sum = fma(h.w, w.w, sum);
        }
        logits[place] = sum;
    }
}
