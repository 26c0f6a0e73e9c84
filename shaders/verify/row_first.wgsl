// The coefficients that rows start with: row r bounds element j = rows[r].w of z = M y + b, so its coefficients on y are row j of M,
// negated for odd slots (upper bounds are lower bounds of the negated element).
//
// dense:  c[i, r] = m[source, i], m [rows, p.ldm], source = rows[r].y / p.sides % p.rows_of_m: the weights of a layer, or rows that were given.
// CONV:   c[y, x, q, r] = m[tap, channel, q], the tap at (y, x) - off - p.slope * t, t and channel being j's position and channel; 0 beside
//         the kernel. m [taps, p.t_c, p.ldm], c a window [p.c_h, p.c_w, p.c_c], off and slope as in map_conv.wgsl.
// Buffers (f32): m, c [n, p.ldc], rows and row_count as row_table.wgsl. p.flags: ACCUMULATE adds to c.
// Exact, but for the sum with what c held. Geometry: workgroup (32,1,1): x covers rows by 32, y and z the places of c (z 2^15 + y), of p.c_c
//   elements each. Races: own elements.

struct Params {
    grid: vec4<u32>,
    n: u32, ldm: u32, ldc: u32, flags: u32,
    rows_of_m: u32, sides: u32, c_w: u32, c_c: u32,
    taps_h: u32, taps_w: u32, dilation_y: u32, dilation_x: u32,
    off_y: i32, off_x: i32, slope_y: i32, slope_x: i32,
    t_w: u32, t_c: u32, pad0: u32, pad1: u32,
}
const ACCUMULATE = 1u;
const NONE = 0xffffffffu;
@group(0) @binding(0) var<storage, read_write> m: array<f32>;
@group(0) @binding(1) var<storage, read_write> c: array<f32>;
@group(0) @binding(2) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> row_count: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(32, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let r = at.x * 32u + lane.x;
    let place = at.z * 32768u + at.y;
    if (r >= row_count[0] || place * p.c_c >= p.n) {
        return;
    }
    let row = rows[r];
    let sign = select(1.0, -1.0, row.y % p.sides == 1u);
    var there = row.y != NONE;
#ifdef CONV
    let t = row.w / p.t_c;
    let i = i32(place / p.c_w) - p.off_y - p.slope_y * i32(t / p.t_w);
    let j = i32(place % p.c_w) - p.off_x - p.slope_x * i32(t % p.t_w);
    let d = vec2<i32>(i32(p.dilation_y), i32(p.dilation_x));
    there = there && i >= 0 && j >= 0 && i % d.x == 0 && j % d.y == 0 && i / d.x < i32(p.taps_h) && j / d.y < i32(p.taps_w);
    let tap = u32(max(i, 0) / d.x) * p.taps_w + u32(max(j, 0) / d.y);
    let source = (tap * p.t_c + row.w % p.t_c) * p.ldm;
#else
    let source = row.y / p.sides % p.rows_of_m * p.ldm + place * p.c_c;
#endif
    let more = (p.flags & ACCUMULATE) != 0u;
    for (var q = 0u; q < min(p.c_c, p.n - place * p.c_c); q++) {
        let to = (place * p.c_c + q) * p.ldc + r;
        var value = 0.0;
        if (there) {
            value = sign * m[source + q];
        }
        if (more) {
            value += c[to];
        }
        c[to] = value;
    }
}
