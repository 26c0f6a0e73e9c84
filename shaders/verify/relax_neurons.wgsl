// The two lines of every neuron of a layer, what one unit of coefficient on it costs in rounding, and its bounds.
//
// slope_lo z + t_lo <= y = f(z) <= slope_up z + t_up on [l, h], with z = W x + b.
//   none:    slopes 1, offsets 0.
//   ReLU:    l >= 0: y = z; h <= 0: y = 0; else slope_lo = 1 if h > -l else 0 (area heuristic of DeepPoly / GPUPoly), t_lo = 0,
//            slope_up ~ h / (h - l), t_up >= max(-l slope_up, h (1 - slope_up)). Any slope_up is sound with that t (the line lies above both end
//            points of a convex function): the division may be off, the products are rounded up by 1 + 8u. This closes GPUPoly's
//            slope gap, where only the offset is rounded up.
//   SMOOTH:  the logistic function and tanh(z) = 2 s(2z) - 1: a slope by choice, its offset from lib/logistic.wgsl; the upper line is
//            the lower one of s(-x) = 1 - s(x).
// A row pays, for a coefficient a with the slope s and the offset t of its sign:
//   offset T = s b + t, rounded outward, goes into the constant, a T;
//   cost = s ((g_k + weight_rel + u) weight_sum + bias_abs) + g_c |T|: the product with W, its weights, the rounding of a s, the bias,
//     and the sum of the offsets. g_k = D u (1 + 2^-7), D = terms + p.writes + 2: the depth of the product that follows (terms:
//     p.terms, at most the number of active neurons where it takes only those, p.compact); valid while D u < 2^-8.
//   bound = y's own bound, moved outward by g_c max(|y_l|, |y_h|): the rounding of a sum of a * bound.
// Buffers: lower, upper, weight_sum [batch, n] with row stride p.ld; bias (value, error) [n]; count [batch] active neurons; list [batch, n] those
//   neurons, with row stride p.ld; out: lines [batch, n, 2]: (slope, T, cost, bound) for a >= 0, then for a < 0; entry i belongs to neuron
//   list[i] with p.compact, to neuron i without. Inactive neurons have slope 0 and offset 0.
// Precision: as derived above. Geometry: workgroup (64,1,1), grid-stride. Races: own elements.

struct Params {
    grid: vec4<u32>,
    n: u32, ld: u32, len: u32, threads: u32,
    activation: u32, compact: u32, terms: u32, writes: u32,
    u: f32, g_c: f32, weight_rel: f32, tiny: f32,
}
const RELU = 1u;
const TANH = 3u;
@group(0) @binding(0) var<storage, read_write> lower: array<f32>;
@group(0) @binding(1) var<storage, read_write> upper: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight_sum: array<f32>;
@group(0) @binding(3) var<storage, read_write> bias: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> count: array<u32>;
@group(0) @binding(5) var<storage, read_write> list: array<u32>;
@group(0) @binding(6) var<storage, read_write> lines: array<vec4<f32>>;
#ifdef SMOOTH
@group(0) @binding(7) var<storage, read_write> logistic: array<f32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;
#ifdef SMOOTH
#import "lib/logistic"

// (slope, offset) of a line below the function, and of one above it.
fn smooth_lines(z_l: f32, z_h: f32) -> vec4<f32> {
    let twice = select(1.0, 2.0, p.activation == TANH);
    let l = twice * z_l;
    let h = twice * z_h;
    let low = clamp(logistic_lower_slope(l, h), 0.0, 0.25);
    let high = clamp(logistic_lower_slope(-h, -l), 0.0, 0.25);
    let below = logistic_lower_offset(low, l, h);
    let above = 1.0 - logistic_lower_offset(high, -h, -l) + ROUND;
    if (p.activation == TANH) {
        return vec4<f32>(4.0 * low, 2.0 * below - 1.0 - ROUND, 4.0 * high, 2.0 * above - 1.0 + ROUND);
    }
    return vec4<f32>(low, below, high, above);
}

fn smooth_bounds(l: f32, h: f32) -> vec2<f32> {
    if (p.activation == TANH) {
        return vec2<f32>(2.0 * logistic_bounds(2.0 * l).x - 1.0 - ROUND, 2.0 * logistic_bounds(2.0 * h).y - 1.0 + ROUND);
    }
    return vec2<f32>(logistic_bounds(l).x, logistic_bounds(h).y);
}
#endif

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.len; i += p.threads) {
        let input = i / p.n;
        var j = i % p.n;
        var terms = p.terms;
        if (p.compact != 0u) {
            if (j >= count[input]) {
                continue;
            }
            j = list[input * p.ld + j];
            terms = min(terms, count[input]);
        }
        let at = input * p.ld + j;
        let l = lower[at];
        let h = upper[at];
        let b = bias[j];
        var slope = vec2<f32>(1.0);
        var offset = vec2<f32>(0.0);
        var y = vec2<f32>(l, h);
        if (p.activation == RELU) {
            y = max(y, vec2<f32>(0.0));
            if (h <= 0.0) {
                slope = vec2<f32>(0.0);
            } else if (l < 0.0) {
                slope = vec2<f32>(select(0.0, 1.0, h > -l), clamp(h / (h - l), 0.0, 1.0));
                offset.y = max(-l * slope.y, h * (1.0 - slope.y)) * (1.0 + 8.0 * p.u) + p.tiny;
            }
        }
#ifdef SMOOTH
        let smooth_line = smooth_lines(l, h);
        slope = smooth_line.xz;
        offset = smooth_line.yw;
        y = smooth_bounds(l, h);
#endif
        let g_k = f32(terms + p.writes + 2u) * p.u * (1.0 + 0.0078125);
        // Outward: down for the lower line, up for the upper one.
        let slack = 4.0 * p.u * (abs(slope * b.x) + abs(offset)) + select(p.tiny, 0.0, all(slope == vec2<f32>(0.0)) && all(offset == vec2<f32>(0.0)));
        let total = slope * b.x + offset + vec2<f32>(-1.0, 1.0) * slack;
        let cost = (slope * ((g_k + p.weight_rel + p.u) * weight_sum[at] + b.y) + p.g_c * abs(total)) * (1.0 + 16.0 * p.u) + p.tiny;
        let wide = p.g_c * max(abs(y.x), abs(y.y)) * (1.0 + 4.0 * p.u);
        lines[i * 2u] = vec4<f32>(slope.x, total.x, cost.x, y.x - wide - abs(y.x) * 2.0 * p.u);
        lines[i * 2u + 1u] = vec4<f32>(slope.y, total.y, cost.y, y.y + wide + abs(y.y) * 2.0 * p.u);
    }
}
