// out[r, j] = exp(x[r, j] - m) / s,  m = max over j of x[r, j],  s = sum over j of exp(x[r, j] - m);  lse[r] = m + log(s).
// CAUSAL: rows come in square blocks of n, row r sees elements j <= r mod n alone, the others of out are 0. Bit for bit what large negative
//   numbers in their place give.
//
// Buffers (f32): x, out [rows, n] with row strides p.ld_x, p.ld_out; lse [rows] with LSE. With LOG_ONLY out is not bound.
// Lane t of 64 takes j = t, t + 64, ... in ascending order; partial results are combined in a tree through workgroup
//   memory. The order depends on n alone: bit-identical for any number of rows.
// Precision: exp of d = x - m has an error of 3 + 2 |d| ulp (WGSL) and one rounding of d moves it by |d| u; the sum has depth
//   ceil(n / 64) + 6; the division 2.5 ulp. No exponent is positive, so nothing overflows, and s >= 1 up to rounding.
// Undefined: n = 0 (refused by the host); NaN and infinity; padding columns are not touched.
// Geometry: workgroup (64,1,1), one row at a time, x covers rows with stride p.groups.
// Races: a barrier between write and read of each tree level and before workgroup memory is written again; the loop's bounds
//   depend on the workgroup alone. An invocation writes its own elements. Bounds: guarded by n.

struct Params {
    grid: vec4<u32>,
    rows: u32, n: u32, ld_x: u32, ld_out: u32,
    groups: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
#ifdef LOG_ONLY
@group(0) @binding(1) var<storage, read_write> lse: array<f32>;
#else
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
#ifdef LSE
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
#endif
#endif
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var row = group.x + p.grid.x; row < p.rows; row += p.groups) {
        let base = row * p.ld_x;
#ifdef CAUSAL
        let n = row % p.n + 1u;
#else
        let n = p.n;
#endif
        // A lane without elements of its own repeats the first: harmless for a maximum.
        var largest = x[base + min(lane.x, n - 1u)];
        for (var j = lane.x; j < n; j += 64u) {
            largest = max(largest, x[base + j]);
        }
        partial[lane.x] = largest;
#unroll level 0 6
        workgroupBarrier();
        if (lane.x < (32u >> ${level}u)) {
            partial[lane.x] = max(partial[lane.x], partial[lane.x + (32u >> ${level}u)]);
        }
#endunroll
        workgroupBarrier();
        largest = partial[0];
        workgroupBarrier();
        var sum = 0.0;
        for (var j = lane.x; j < n; j += 64u) {
            sum += exp(x[base + j] - largest);
        }
        partial[lane.x] = sum;
#unroll level 0 6
        workgroupBarrier();
        if (lane.x < (32u >> ${level}u)) {
            partial[lane.x] += partial[lane.x + (32u >> ${level}u)];
        }
#endunroll
        workgroupBarrier();
        sum = partial[0];
        workgroupBarrier();
#ifndef LOG_ONLY
        for (var j = lane.x; j < n; j += 64u) {
            out[row * p.ld_out + j] = exp(x[base + j] - largest) / sum;
        }
#ifdef CAUSAL
        for (var j = n + lane.x; j < p.n; j += 64u) {
            out[row * p.ld_out + j] = 0.0;
        }
#endif
#endif
#ifdef LSE
        if (lane.x == 0u) {
            lse[row] = largest + log(sum);
        }
#endif
    }
}
