// c[z][i,j] = act(sum over part of planes[z][part][i,j] + bias[z][j]), parts in ascending order: the end of a split-K product.
//
// Buffers (f32): planes [batch, chunks, m, n], bias [batch, n] if p.flags & BIAS, c [batch, m, n]; rows with pitch p.ld.
// Precision: depth `chunks` (+ 1 for the bias); the planes were stored by another dispatch.
// Geometry: workgroup (64,1,1), grid-stride over batch * m * n. Races: an invocation writes its own elements.
// Undefined: padding columns, NaN and infinity.

struct Params {
    grid: vec4<u32>,
    n: u32, ld: u32, plane: u32, chunks: u32,
    len: u32, threads: u32, stride_bias: u32, flags: u32,
    m: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> planes: array<f32>;
@group(0) @binding(1) var<storage, read_write> bias: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.len; i += p.threads) {
        let column = i % p.n;
        let row = i / p.n;
        let batch = row / p.m;
        let first = batch * p.chunks * p.plane + (row % p.m) * p.ld + column;
        var s = planes[first];
        for (var part = 1u; part < p.chunks; part++) {
            s += planes[first + part * p.plane];
        }
        if ((p.flags & 1u) != 0u) {
            s += bias[batch * p.stride_bias + column];
        }
        if ((p.flags & 2u) != 0u) {
            s = max(s, 0.0);
        }
        c[batch * p.plane + (row % p.m) * p.ld + column] = s;
    }
}
