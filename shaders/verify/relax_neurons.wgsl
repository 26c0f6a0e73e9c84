// The two lines of every neuron of a layer, and what one unit of coefficient on it costs in rounding.
//
// ReLU on [l, h]:  lo * z <= relu(z) <= up * z + t.  l >= 0: lo = up = 1, t = 0.  h <= 0: all 0.  Else lo = 1 if h > -l
//   else 0 (area heuristic of DeepPoly / GPUPoly), up ~ h / (h - l), t >= max(-l up, h (1 - up)).
//   Any up is sound with that t (the line lies above both end points of a convex function): the division may be off,
//   the products are rounded up by 1 + 8u. This closes GPUPoly's slope gap, where only the offset is rounded up.
// Costs, for a coefficient a' after the slope and a before it:
//   e: |a'| (g_k + weight_rel) weight_sum + |a'| (bias_abs + g_c |bias|): the product with W, its weights, the bias sum;
//   f: |a| (g_c t + u up max(|l|,|h|)) for a < 0: the sum of offsets, the rounding of a * up.
//   g_k = D u (1 + 2^-7), D = min(active, chunk) + chunks + 2: the depth of the product that follows, which sums the
//   active neurons only; valid while D u < 2^-8.
// Buffers: lower, upper, weight_sum [batch, n] with row stride p.ld; bias (value, error) [n]; count [batch] active neurons;
//   list [batch, n] those neurons, with row stride p.ld; out: lines [batch, n, 2], compact as the list: (lo, up, t, f), then
//   (l, h, e, bias).
// p.relu = 0: the identity (lo = up = 1, t = f = 0).
// Geometry: workgroup (64,1,1), grid-stride. Races: own elements.

struct Params {
    grid: vec4<u32>,
    n: u32, ld: u32, len: u32, threads: u32,
    relu: u32, chunk: u32, chunks: u32, pad0: u32,
    u: f32, g_c: f32, weight_rel: f32, tiny: f32,
}
@group(0) @binding(0) var<storage, read_write> lower: array<f32>;
@group(0) @binding(1) var<storage, read_write> upper: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight_sum: array<f32>;
@group(0) @binding(3) var<storage, read_write> bias: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> count: array<u32>;
@group(0) @binding(5) var<storage, read_write> list: array<u32>;
@group(0) @binding(6) var<storage, read_write> lines: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.len; i += p.threads) {
        let input = i / p.n;
        if (i % p.n >= count[input]) {
            continue;
        }
        let j = list[input * p.ld + i % p.n];
        let at = input * p.ld + j;
        let l = lower[at];
        let h = upper[at];
        let b = bias[j];
        var line = vec4<f32>(1.0, 1.0, 0.0, 0.0);
        if (p.relu != 0u && l < 0.0) {
            if (h <= 0.0) {
                line = vec4<f32>(0.0);
            } else {
                let slope = clamp(h / (h - l), 0.0, 1.0);
                let t = max(-l * slope, h * (1.0 - slope)) * (1.0 + 8.0 * p.u) + p.tiny;
                let f = (p.g_c * t + p.u * slope * max(-l, h)) * (1.0 + 8.0 * p.u) + p.tiny;
                line = vec4<f32>(select(0.0, 1.0, h > -l), slope, t, f);
            }
        }
        let depth = f32(min(count[input], p.chunk) + p.chunks + 2u);
        let g_k = depth * p.u * (1.0 + 0.0078125);
        let e = ((g_k + p.weight_rel) * weight_sum[at] + b.y + p.g_c * abs(b.x)) * (1.0 + 16.0 * p.u) + p.tiny;
        lines[i * 2u] = line;
        lines[i * 2u + 1u] = vec4<f32>(l, h, e, b.x);
    }
}
