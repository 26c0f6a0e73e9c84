// out[r] = reduction over j of x[r, j]: SUM, ABS_SUM, MAX or MIN.
//
// Buffers (f32): x [rows, n] with row stride p.stride, a multiple of 4, read by vectors; out [rows].
// 64 partial results take j = t, t + 64, ... in ascending order and are combined in a tree (t with t + 32, + 16, ... + 1). The order
// depends on n alone: bit-identical for any number of rows and in both forms:
//   by default 16 invocations share a row, four partial results each, and four levels of the tree pass through workgroup memory;
//   ROWWISE one invocation has all 64 in registers: for short rows, and where a barrier costs more than scattered reads.
// Precision: a sum has depth ceil(n / 64) + 6; max and min are exact.
// Undefined: n = 0 gives 0 for sums and is refused by the host for max and min; NaN and infinity. Padding is not used.
// Geometry: workgroup (64,1,1), 4 rows each, or 64 with ROWWISE; x covers rows. Rows behind the last repeat it and are not stored.
// Tried: 64 invocations a row with six barriers; ROWWISE is many times faster than that on a software device (a barrier is a change
//   of context there). Not timed on a quiet machine, nor on a GPU yet.
// Races: a barrier between write and read of each tree level; one invocation stores a row.

struct Params {
    grid: vec4<u32>,
    n: u32, stride: u32, rows: u32, pad: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

#ifndef ROWWISE
var<workgroup> partial: array<vec4<f32>, 64>;
#endif

fn combine(s: vec4<f32>, v: vec4<f32>) -> vec4<f32> {
#ifdef MAX
    return max(s, v);
#else
#ifdef MIN
    return min(s, v);
#else
    return s + v;
#endif
#endif
}

fn value(v: vec4<f32>) -> vec4<f32> {
#ifdef ABS_SUM
    return abs(v);
#else
    return v;
#endif
}

// The last two levels of the tree.
fn last(s: vec4<f32>) -> f32 {
    let two = combine(s, s.zwzw);
    return combine(two, two.yyyy).x;
}

// A vector of which only elements before n count.
fn clipped(s: vec4<f32>, base: u32, q: u32) -> vec4<f32> {
    let inside = vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.n);
    return select(s, combine(s, value(x[base + q])), inside);
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let whole = p.n / 4u;
    let quads = (p.n + 3u) / 4u;
#ifdef ROWWISE
    let row = min((group.x + p.grid.x) * 64u + lane.x, p.rows - 1u);
#else
    let mine = lane.x % 16u;
    let row = min((group.x + p.grid.x) * 4u + lane.x / 16u, p.rows - 1u);
#endif
    let base = row * p.stride / 4u;
#ifdef EXTREME
    // What has no elements of its own repeats the first: harmless for max and min.
    let start = vec4<f32>(x[base].x);
#else
    let start = vec4<f32>(0.0);
#endif
#ifdef ROWWISE
#unroll t 0 16
    var s_${t} = start;
#endunroll
    let full = whole / 16u * 16u;
    for (var q = 0u; q < full; q += 16u) {
#unroll t 0 16
        s_${t} = combine(s_${t}, value(x[base + q + ${t}u]));
#endunroll
    }
#unroll t 0 16
    if (full + ${t}u < quads) {
        s_${t} = clipped(s_${t}, base, full + ${t}u);
    }
#endunroll
    s_0 = combine(s_0, s_8);
    s_1 = combine(s_1, s_9);
    s_2 = combine(s_2, s_10);
    s_3 = combine(s_3, s_11);
    s_4 = combine(s_4, s_12);
    s_5 = combine(s_5, s_13);
    s_6 = combine(s_6, s_14);
    s_7 = combine(s_7, s_15);
    s_0 = combine(s_0, s_4);
    s_1 = combine(s_1, s_5);
    s_2 = combine(s_2, s_6);
    s_3 = combine(s_3, s_7);
    s_0 = combine(s_0, s_2);
    s_1 = combine(s_1, s_3);
    s_0 = combine(s_0, s_1);
    if ((group.x + p.grid.x) * 64u + lane.x < p.rows) {
        out[row] = last(s_0);
    }
#else
    var s = start;
    for (var q = mine; q < whole; q += 16u) {
        s = combine(s, value(x[base + q]));
    }
    if (quads > whole && whole % 16u == mine) {
        s = clipped(s, base, whole);
    }
    partial[lane.x] = s;
#unroll level 0 4
    workgroupBarrier();
    if (mine < (8u >> ${level}u)) {
        partial[lane.x] = combine(partial[lane.x], partial[lane.x + (8u >> ${level}u)]);
    }
#endunroll
    if (mine == 0u && (group.x + p.grid.x) * 4u + lane.x / 16u < p.rows) {
        out[row] = last(partial[lane.x]);
    }
#endif
}
