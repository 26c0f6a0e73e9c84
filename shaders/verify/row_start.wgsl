// The constant and error that the two rows of every neuron of an affine layer start with: its lower bound is that of
// W_j y + b_j, its upper bound the negated lower bound of -(W_j y + b_j).
//
// state[slot] = (b_j or -b_j, bias_abs_j + weight_rel * weight_sum_j), slot = (input * n + j) * 2 + side. p.weight_rel is the
// relative error of the weights and gamma of the sums at sources that several edges of the layer, or later products, add to.
// Buffers: bias (value, error) [n], weight_sum [batch, n] with row stride p.ld, state [batch * n * 2].
// Precision: the sum's own rounding is covered by 1 + 4u. Geometry: workgroup (64,1,1), grid-stride. Races: own elements.

struct Params {
    grid: vec4<u32>,
    n: u32, ld: u32, len: u32, threads: u32,
    weight_rel: f32, u: f32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> bias: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> weight_sum: array<f32>;
@group(0) @binding(2) var<storage, read_write> state: array<vec2<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.len; i += p.threads) {
        let b = bias[i % p.n];
        let cost = (b.y + p.weight_rel * weight_sum[i / p.n * p.ld + i % p.n]) * (1.0 + 4.0 * p.u);
        state[i * 2u] = vec2<f32>(b.x, cost);
        state[i * 2u + 1u] = vec2<f32>(-b.x, cost);
    }
}
