// Lines of the network's input, as relax_neurons.wgsl makes them for a layer: slope 0, offset 0, cost 0, and the box moved outward by
// the rounding of a sum of coefficient * bound, g_c max(|l|, |h|) and that of moving it.
//
// Buffers (f32): lower, upper [batch, n] with row stride p.ld; lines [batch, n, 2] vec4.
// Precision: outward by construction. Geometry: workgroup (64,1,1), grid-stride. Races: own elements.

struct Params {
    grid: vec4<u32>,
    n: u32, ld: u32, len: u32, threads: u32,
    u: f32, g_c: f32, pad0: f32, pad1: f32,
}
@group(0) @binding(0) var<storage, read_write> lower: array<f32>;
@group(0) @binding(1) var<storage, read_write> upper: array<f32>;
@group(0) @binding(2) var<storage, read_write> lines: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.len; i += p.threads) {
        let at = i / p.n * p.ld + i % p.n;
        let l = lower[at];
        let h = upper[at];
        let wide = p.g_c * max(abs(l), abs(h)) * (1.0 + 4.0 * p.u);
        lines[i * 2u] = vec4<f32>(0.0, 0.0, 0.0, l - wide - 2.0 * p.u * abs(l));
        lines[i * 2u + 1u] = vec4<f32>(0.0, 0.0, 0.0, h + wide + 2.0 * p.u * abs(h));
    }
}
