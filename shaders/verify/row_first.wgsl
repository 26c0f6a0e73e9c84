// The coefficients that rows start with: row r bounds element j = rows[r].w of z = M y + b, so its coefficients on y are row j of M,
// negated for odd slots (upper bounds are lower bounds of the negated element).
//
// dense:  c[i, r] = m[source, i], m [rows, p.ldm], source = rows[r].y / p.sides % p.rows_of_m: the weights of a layer, or rows that were given.
// CONV:   c[y, x, q, r] = m[tap, channel, q], the tap at (y, x) - off - p.slope * t, t and channel being j's position and channel; 0 beside
//         the kernel. m [taps, p.t_c, p.ldm], c a window [p.c_h, p.c_w, p.c_c], off and slope as in map_conv.wgsl.
// Buffers (f32): m, c [n, p.ldc], rows and row_count as row_table.wgsl. p.flags: ACCUMULATE adds to c.
// Exact, but for the sum with what c held. Geometry: workgroup (32,2,1): x covers rows by 32, y and z elements of c by 2 (element =
//   ((z 2^15) + y) 2 + lane.y). Races: own elements.

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

@compute @workgroup_size(32, 2, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let r = at.x * 32u + lane.x;
    let element = (at.z * 32768u + at.y) * 2u + lane.y;
    if (r >= row_count[0] || element >= p.n) {
        return;
    }
    let row = rows[r];
    var value = 0.0;
    if (row.y != NONE) {
#ifdef CONV
        let t = vec2<i32>(i32(row.w / p.t_c / p.t_w), i32(row.w / p.t_c % p.t_w));
        let q = element % p.c_c;
        let i = i32(element / p.c_c / p.c_w) - p.off_y - p.slope_y * t.x;
        let j = i32(element / p.c_c % p.c_w) - p.off_x - p.slope_x * t.y;
        let d = vec2<i32>(i32(p.dilation_y), i32(p.dilation_x));
        if (i >= 0 && j >= 0 && i % d.x == 0 && j % d.y == 0 && i / d.x < i32(p.taps_h) && j / d.y < i32(p.taps_w)) {
            let tap = u32(i / d.x) * p.taps_w + u32(j / d.y);
            value = m[(tap * p.t_c + row.w % p.t_c) * p.ldm + q];
        }
#else
        value = m[row.y / p.sides % p.rows_of_m * p.ldm + element];
#endif
        value = select(value, -value, row.y % p.sides == 1u);
    }
    if ((p.flags & ACCUMULATE) != 0u) {
        value += c[element * p.ldc + r];
    }
    c[element * p.ldc + r] = value;
}
