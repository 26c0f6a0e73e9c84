// Centre, radius and magnitude of the values that feed an affine layer, from their bounds.
//
// For y in [l, h] (after a ReLU: both clipped at 0):  centre ~ (l + h) / 2,  radius >= max(h - centre, centre - l),
//   magnitude = max(|l|, |h|).
// Buffers (f32): lower, upper [batch, n] with row stride p.ld; centre [batch, n]; spread [2, batch, n]: radius, then magnitude.
// Sound: any centre will do, since the radius is measured from it; its two roundings (u = 2^-23 each, either direction)
//   are covered by the factor 1 + 4u, flushing by 2^-126. Magnitude is exact.
// Overflow: a bound of 2^40 or more, an infinity or a NaN marks the input in `bad` and is replaced by 0.
// Geometry: workgroup (64,1,1), grid-stride over batch * n. Races: own elements only; `bad` by atomicOr.
#import "lib/float"

struct Params {
    grid: vec4<u32>,
    n: u32, ld: u32, len: u32, threads: u32,
    batch: u32, relu: u32, u: f32, tiny: f32,
}
@group(0) @binding(0) var<storage, read_write> lower: array<f32>;
@group(0) @binding(1) var<storage, read_write> upper: array<f32>;
@group(0) @binding(2) var<storage, read_write> centre: array<f32>;
@group(0) @binding(3) var<storage, read_write> spread: array<f32>;
@group(0) @binding(4) var<storage, read_write> bad: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.len; i += p.threads) {
        let at = i / p.n * p.ld + i % p.n;
        var l = lower[at];
        var h = upper[at];
        if (is_huge(l) || is_huge(h)) {
            atomicOr(&bad[i / p.n], 1u);
            l = 0.0;
            h = 0.0;
        }
        if (p.relu != 0u) {
            l = max(l, 0.0);
            h = max(h, 0.0);
        }
        let middle = 0.5 * (l + h);
        centre[at] = middle;
        let radius = max(h - middle, middle - l);
        spread[at] = select(radius * (1.0 + 4.0 * p.u) + p.tiny, 0.0, l == h && l == 0.0);
        spread[p.batch * p.ld + at] = max(abs(l), abs(h));
    }
}
