// One step of projected gradient descent on every candidate: x = clamp(x - step * width * sign(gradient), lower, upper).
//
// The sign makes the step independent of the gradient's scale (Madry et al., ICLR 2018, eq. 4); width = upper - lower of the
// candidate's own box, so that one step size serves boxes of any shape.
// Buffers (f32): x, gradient [n, p.ldc], one column a candidate; lower, upper [queries, n] with row stride p.ld; query [candidates] u32.
// Precision: none claimed. Geometry: workgroup (64,1,1), grid-stride over candidates * n. Races: own elements.

struct Params {
    grid: vec4<u32>,
    n: u32, ld: u32, len: u32, threads: u32,
    step: f32, ldc: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(2) var<storage, read_write> lower: array<f32>;
@group(0) @binding(3) var<storage, read_write> upper: array<f32>;
@group(0) @binding(4) var<storage, read_write> query: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.len; i += p.threads) {
        let candidate = i / p.n;
        let at = i % p.n * p.ldc + candidate;
        let bound = query[candidate] * p.ld + i % p.n;
        let l = lower[bound];
        let h = upper[bound];
        x[at] = clamp(x[at] - p.step * (h - l) * sign(gradient[at]), l, h);
    }
}
