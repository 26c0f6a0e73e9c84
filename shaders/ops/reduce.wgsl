// out[r] = reduction over j of x[r, j]: SUM, ABS_SUM, MAX or MIN.
//
// Buffers (f32): x [rows, n] with row stride p.stride; out [rows].
// Lane t of 64 takes j = t, t + 64, ... in ascending order; the 64 partial results are combined in a tree through
// workgroup memory. The order depends on n alone: bit-identical for any number of rows.
// Precision: a sum has depth ceil(n / 64) + 6 (partials pass between invocations behind barriers); max and min are exact.
// Undefined: n = 0 gives 0 for sums and is refused by the host for max and min; NaN and infinity.
// Geometry: workgroup (64,1,1), one row each; x covers rows. Races: a barrier between write and read of each tree level.

struct Params {
    grid: vec4<u32>,
    n: u32, stride: u32, rows: u32, pad: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> partial: array<f32, 64>;

fn combine(s: f32, v: f32) -> f32 {
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

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let row = group.x + p.grid.x;
    let base = row * p.stride;
#ifdef EXTREME
    // A lane without elements of its own repeats the first: harmless for max and min.
    var s = x[base + min(lane.x, p.n - 1u)];
#else
    var s = 0.0;
#endif
    for (var j = lane.x; j < p.n; j += 64u) {
#ifdef ABS_SUM
        s = combine(s, abs(x[base + j]));
#else
        s = combine(s, x[base + j]);
#endif
    }
    partial[lane.x] = s;
#unroll level 0 6
    workgroupBarrier();
    if (lane.x < (32u >> ${level}u)) {
        partial[lane.x] = combine(partial[lane.x], partial[lane.x + (32u >> ${level}u)]);
    }
#endunroll
    if (lane.x == 0u) {
        out[row] = partial[0];
    }
}
