// Centre, radius and magnitude of the values that feed a layer, from their bounds, one column a box.
//
// For y in [l, h]:  centre ~ (l + h) / 2,  radius >= max(h - centre, centre - l),  magnitude = max(|l|, |h|). [l, h] are the bounds of a
//   layer's z behind its activation (p.activation; SMOOTH for logistic and tanh), or those of the box.
// Buffers (f32): lower, upper [batch, n] with row stride p.ld; centre [n, p.ldc], spread [n, 2 p.ldc]: radius in column b, magnitude in column
//   p.ldc + b. Columns behind the last box are written too, as 0.
// Sound: any centre will do, since the radius is measured from it; its two roundings (u = 2^-23 each, either direction)
//   are covered by the factor 1 + 4u, flushing by 2^-126. Magnitude is exact.
// Overflow: a bound of 2^40 or more, an infinity or a NaN marks the input in `bad` and is replaced by 0.
// Precision: as said. Geometry: workgroup (64,1,1), grid-stride over n * ldc. Races: own elements only; `bad` by atomicOr.
#import "lib/float"

struct Params {
    grid: vec4<u32>,
    n: u32, ld: u32, len: u32, threads: u32,
    batch: u32, activation: u32, ldc: u32, pad0: u32,
    u: f32, tiny: f32, pad1: f32, pad2: f32,
}
const RELU = 1u;
const TANH = 3u;
@group(0) @binding(0) var<storage, read_write> lower: array<f32>;
@group(0) @binding(1) var<storage, read_write> upper: array<f32>;
@group(0) @binding(2) var<storage, read_write> centre: array<f32>;
@group(0) @binding(3) var<storage, read_write> spread: array<f32>;
@group(0) @binding(4) var<storage, read_write> bad: array<atomic<u32>>;
#ifdef SMOOTH
@group(0) @binding(5) var<storage, read_write> logistic: array<f32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;
#ifdef SMOOTH
#import "lib/logistic"
#endif

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.len; i += p.threads) {
        let j = i / p.ldc;
        let box = i % p.ldc;
        var l = 0.0;
        var h = 0.0;
        if (box < p.batch) {
            l = lower[box * p.ld + j];
            h = upper[box * p.ld + j];
            if (is_huge(l) || is_huge(h)) {
                atomicOr(&bad[box], 1u);
                l = 0.0;
                h = 0.0;
            }
            if (p.activation == RELU) {
                l = max(l, 0.0);
                h = max(h, 0.0);
            }
#ifdef SMOOTH
            if (p.activation == TANH) {
                l = 2.0 * logistic_bounds(2.0 * l).x - 1.0 - ROUND;
                h = 2.0 * logistic_bounds(2.0 * h).y - 1.0 + ROUND;
            } else {
                l = logistic_bounds(l).x;
                h = logistic_bounds(h).y;
            }
#endif
        }
        let middle = 0.5 * (l + h);
        let radius = max(h - middle, middle - l);
        centre[j * p.ldc + box] = middle;
        spread[j * 2u * p.ldc + box] = select(radius * (1.0 + 4.0 * p.u) + p.tiny, 0.0, l == h && l == 0.0);
        spread[(j * 2u + 1u) * p.ldc + box] = max(abs(l), abs(h));
    }
}
