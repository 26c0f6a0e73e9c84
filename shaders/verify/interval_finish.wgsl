// Interval bounds of an affine layer z = W y + b from its products, rounded outward.
//
// With s = W centre, r = |W| radius, v = |W| magnitude, as computed:
//   z in s + b -+ R,  R = (r (1 + 2g) + (g + weight_rel) v (1 + 2g) + g |b| + bias_abs + tiny) (1 + 16u + 2g).
// Source: centre-radius interval arithmetic with the a-priori error g = gamma_D of a D-deep sum in any order (Higham,
//   Accuracy and Stability, ch. 3). D is the depth of the product and of all that is added here, since a compiler may add
//   bias and R in any order: so b and R are charged g as well. |W centre| <= v (1 + 2u) is inside the factor. l and h
//   then step outward by one representable number, which covers the last rounding.
// Buffers (f32): centre [n, p.ldc], spread [n, 2 p.ldc] (interval_prepare.wgsl), bias (value, error) [n]; out: lower, upper, weight_sum
//   (= v rounded up) [batch, n], rows with pitch p.ld.
// Overflow: a result of 2^40 or more marks the input in `bad`. Precision: as derived.
// Geometry: workgroup (64,1,1), grid-stride over n * batch. Races: own elements; `bad` by atomicOr.
#import "lib/float"

struct Params {
    grid: vec4<u32>,
    n: u32, ld: u32, len: u32, threads: u32,
    batch: u32, ldc: u32, u: f32, g: f32,
    weight_rel: f32, tiny: f32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> centre: array<f32>;
@group(0) @binding(1) var<storage, read_write> spread: array<f32>;
@group(0) @binding(2) var<storage, read_write> bias: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> lower: array<f32>;
@group(0) @binding(4) var<storage, read_write> upper: array<f32>;
@group(0) @binding(5) var<storage, read_write> weight_sum: array<f32>;
@group(0) @binding(6) var<storage, read_write> bad: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.len; i += p.threads) {
        let box = i / p.n;
        let j = i % p.n;
        let at = box * p.ld + j;
        let s = centre[j * p.ldc + box];
        let r = spread[j * 2u * p.ldc + box];
        let v = spread[(j * 2u + 1u) * p.ldc + box];
        let b = bias[j];
        let up = 1.0 + 2.0 * p.g;
        let total = (r * up + (p.g + p.weight_rel) * (v * up) + p.g * abs(b.x) + b.y + p.tiny)
            * (1.0 + 16.0 * p.u + 2.0 * p.g);
        let middle = s + b.x;
        var l = step_down(middle - total);
        var h = step_up(middle + total);
        let sum = v * up * (1.0 + 4.0 * p.u);
        if (is_huge(l) || is_huge(h) || is_huge(sum)) {
            atomicOr(&bad[box], 1u);
            l = -1.0;
            h = 1.0;
        }
        lower[at] = l;
        upper[at] = h;
        weight_sum[at] = sum;
    }
}
