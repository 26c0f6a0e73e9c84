// out[r, j] = exp(x[r, j] - m) / s,  m = max over j of x[r, j],  s = sum over j of exp(x[r, j] - m);  lse[r] = m + log(s).
// CAUSAL: rows come in square blocks of n, row r sees elements j <= r mod n alone, the others of out are 0. Bit for bit what
//   large negative numbers in their place give.
//
// Buffers (f32): x, out [rows, n] by vectors of four with row strides p.ld_x, p.ld_out in elements; lse [rows] with LSE.
//   With LOG_ONLY out is not bound.
// The sum is that of lib/rows: its order depends on n alone, bit-identical for any number of rows and in both forms.
// Precision: exp of d = x - m has an error of 3 + 2 |d| ulp (WGSL) and one rounding of d moves it by |d| u; the sum has
//   depth ceil(n / 64) + 6; the division 2.5 ulp. No exponent is positive, so nothing overflows, and s >= 1 up to rounding.
// Undefined: n = 0 (refused by the host); NaN and infinity, which stay in their own row; padding columns are not touched.
// Geometry: workgroup (64,1,1): 4 rows of 16 invocations each, or 64 rows with ROWWISE (lib/rows); x covers rows with a
//   stride of p.groups workgroups. Rows behind the last repeat it and are not stored.
// Races: a barrier between write and read of each tree level and before workgroup memory is written again; the loop's bounds
//   depend on the workgroup alone. An invocation writes its own vectors.
// Tried: 64 invocations a row with fourteen barriers; ROWWISE is 7 (rows of 256 elements) to 18 times (16 to 64)
//   faster than that on a software device, where a barrier is a change of context. Not timed on a GPU yet.

struct Params {
    grid: vec4<u32>,
    rows: u32, n: u32, ld_x: u32, ld_out: u32,
    groups: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
#ifdef LOG_ONLY
@group(0) @binding(1) var<storage, read_write> lse: array<f32>;
#else
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;
#ifdef LSE
@group(0) @binding(2) var<storage, read_write> lse: array<f32>;
#endif
#endif
@group(1) @binding(0) var<uniform> p: Params;

struct Row {
    base: u32,
    // Elements that count.
    n: u32,
    largest: f32,
}

fn elements(row: Row) -> u32 {
    return row.n;
}

fn term(what: u32, row: Row, q: u32) -> vec4<f32> {
    // What lies behind a causal mask may be larger; it is not used.
    return exp(min(x[row.base + q] - row.largest, vec4<f32>(0.0)));
}

#import "lib/rows"

fn before(q: u32, n: u32) -> vec4<bool> {
    return vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(n);
}

// The largest element of a row; without ROWWISE a whole workgroup calls it together.
fn row_max(row: Row, lane: u32) -> f32 {
    // What has no elements of its own repeats the first.
    let first = vec4<f32>(x[row.base].x);
    var m = first;
    for (var q = lane % SHARE; q * 4u < row.n; q += SHARE) {
        m = max(m, select(first, x[row.base + q], before(q, row.n)));
    }
#ifndef ROWWISE
    partial[lane] = m;
#unroll level 0 4
    workgroupBarrier();
    if (lane % 16u < (8u >> ${level}u)) {
        partial[lane] = max(partial[lane], partial[lane + (8u >> ${level}u)]);
    }
#endunroll
    workgroupBarrier();
    m = partial[lane - lane % 16u];
    workgroupBarrier();
#endif
    return max(max(m.x, m.y), max(m.z, m.w));
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var start = (group.x + p.grid.x) * ROWS; start < p.rows; start += p.groups * ROWS) {
        let wanted = start + lane.x / SHARE;
        let r = min(wanted, p.rows - 1u);
        var row = Row(r * (p.ld_x / 4u), p.n, 0.0);
#ifdef CAUSAL
        row.n = r % p.n + 1u;
#endif
        row.largest = row_max(row, lane.x);
        let sum = row_sum(0u, row, lane.x);
        if (wanted < p.rows) {
#ifndef LOG_ONLY
            for (var q = lane.x % SHARE; q * 4u < p.n; q += SHARE) {
                let to = r * (p.ld_out / 4u) + q;
                let value = select(vec4<f32>(0.0), term(0u, row, q) / sum, before(q, row.n));
                if (q * 4u + 4u <= p.n) {
                    out[to] = value;
                } else {
                    out[to] = select(out[to], value, before(q, p.n));
                }
            }
#endif
#ifdef LSE
            if (lane.x % SHARE == 0u) {
                lse[r] = row.largest + log(sum);
            }
#endif
        }
    }
}
