// Adds the partial sums of every row (relax_rows.wgsl), moves the row's constant and error to the next layer, and improves the
// bound that the row is for.
//
// With X, Z, W the sums of the components x, z, w, (c, err) the row's state and d = (slices + 8) u:
//   err' = (err + Z + d (|c| + |X|) + tiny) grow     (a sum of non-negative numbers of depth D, grow >= 1 + 2 D u)
//   bound = step_down(c + W - (err + d (|c| + |W|) + tiny) (1 + 2d))
//   c' = c + X
// The partial sums were stored by another dispatch. Here c' and the bound are sums of at most slices + 3 terms, in any order a compiler
//   likes: d covers c and err, which may stand in every one of them. The roundings of the partial sums are charged with the terms
//   they are sums of (relax_neurons.wgsl, g_c).
// Buffers: partial [slices, p.ld] (vec4), rows, row_count as row_table.wgsl, state [slots] = (c, err), lower, upper [batch, n] with row
//   stride p.ld_target, bad [batch].
// Element of a slot: slot / sides; side 0 raises lower[element], side 1 lowers upper[element] to -bound.
// p.keep = 0: the bound is overwritten instead of improved; p.store = 0: not touched.
// INPUT: the level is the box: only W is meaningful, the state is not written.
// Geometry: workgroup (64,1,1), one row each; x covers rows / 64; guarded by row_count.
// Races: a slot belongs to one row.
#import "lib/float"

struct Params {
    grid: vec4<u32>,
    n: u32, ld_target: u32, sides: u32, keep: u32,
    store: u32, slices: u32, ld: u32, pad0: u32,
    d: f32, tiny: f32, grow: f32, pad1: f32,
}
const NONE = 0xffffffffu;
@group(0) @binding(0) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> row_count: array<u32>;
@group(0) @binding(3) var<storage, read_write> state: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> lower: array<f32>;
@group(0) @binding(5) var<storage, read_write> upper: array<f32>;
@group(0) @binding(6) var<storage, read_write> bad: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let row = (group.x + p.grid.x) * 64u + lane.x;
    if (row >= row_count[0]) {
        return;
    }
    let slot = rows[row].y;
    if (slot == NONE) {
        return;
    }
    var sums = vec4<f32>(0.0);
    for (var i = 0u; i < p.slices; i++) {
        sums += partial[i * p.ld + row];
    }
    let old = state[slot];
    let cost = (old.y + sums.z + p.d * (abs(old.x) + abs(sums.x)) + p.tiny) * p.grow;
    let slack = (old.y + p.d * (abs(old.x) + abs(sums.w)) + p.tiny) * (1.0 + 2.0 * p.d);
    let bound = step_down(old.x + sums.w - slack);
#ifndef INPUT
    let next = old.x + sums.x;
    state[slot] = vec2<f32>(next, cost);
    if (is_huge(next) || is_huge(cost)) {
        atomicOr(&bad[rows[row].x], 1u);
    }
#endif
    if (is_huge(bound)) {
        // A bound this low says nothing; one this high is an overflow.
        if (bound > 0.0 || !(bound <= 0.0)) {
            atomicOr(&bad[rows[row].x], 1u);
        }
        return;
    }
    if (p.store == 0u) {
        return;
    }
    let element = slot / p.sides;
    let at = element / p.n * p.ld_target + element % p.n;
    if (slot % p.sides == 0u) {
        lower[at] = select(bound, max(bound, lower[at]), p.keep != 0u);
    } else {
        upper[at] = select(-bound, min(-bound, upper[at]), p.keep != 0u);
    }
}
