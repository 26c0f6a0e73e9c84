// out[b, i] = x[b, index[i]]; where index[i] is no word of a sample of x, out[b, i] = fill or, with p.flags & KEEP, stays as it is.
//
// Buffers: x [batch, ...] and out [batch, ...] (32-bit words, samples p.stride_x and p.stride_out words apart); index [p.n] (u32):
//   for every word of a sample of out the word of x's sample that it takes. Transpose, Pad, Concat, Select and changes of
//   layout are such lists; they are shared by the batch.
// Precision: exact (words are moved as bits). Undefined: nothing; words of out behind the first p.n of a sample are not touched.
// Geometry: workgroup (64,1,1), grid-stride over p.n; y covers samples with stride p.samples.
// Bounds: indices are compared with p.words. Races: an invocation writes its own words.
// Tried: nothing else; reads are as scattered as the list is.

struct Params {
    grid: vec4<u32>,
    n: u32, threads: u32, batch: u32, samples: u32,
    stride_x: u32, stride_out: u32, words: u32, fill: u32,
    flags: u32, pad0: u32, pad1: u32, pad2: u32,
}
const KEEP = 1u;
@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> index: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.n; i += p.threads) {
        let place = index[i];
        let real = place < p.words;
        if (!real && (p.flags & KEEP) != 0u) {
            continue;
        }
        for (var b = group.y + p.grid.y; b < p.batch; b += p.samples) {
            let value = x[b * p.stride_x + select(0u, place, real)];
            out[b * p.stride_out + i] = select(p.fill, value, real);
        }
    }
}
