// c = D a, or c += D a, for a diagonal D and the columns of a (map_dense.wgsl says what a column is).
//
// a holds windows [p.a_h, p.a_w, p.channels] of a layer's values, c windows [p.c_h, p.c_w, p.channels] of another's of the same shape
//   [p.image_h, p.image_w, p.channels]: c[y, x, q] = d[Y, X, q] a[y - off, x - off, q], zero outside of a and of the image, with
//   (Y, X) = (y + p.c_y + p.c_sy t_y, ...) the position in the image and off = p.off + p.slope * t as in map_conv.wgsl, t the position
//   of the element that the row bounds.
// Buffers (f32): d [image_h, image_w, channels], a [window, p.lda], c [window, p.ldc]; WALK, MOVED, ABS, ACCUMULATE as in map_dense.wgsl.
// Precision: a product, and a sum with what c held. Geometry: workgroup (32,2,1): x covers columns by 32, y and z elements of c by 2
//   (element = ((z 2^15) + y) 2 + lane.y). Races: own elements.

struct Params {
    grid: vec4<u32>,
    a_h: u32, a_w: u32, c_h: u32, c_w: u32,
    channels: u32, image_h: u32, image_w: u32, flags: u32,
    off_y: i32, off_x: i32, slope_y: i32, slope_x: i32,
    c_y: i32, c_x: i32, c_sy: i32, c_sx: i32,
    t_w: u32, t_c: u32, lda: u32, ldc: u32,
    columns: u32, pad0: u32, pad1: u32, pad2: u32,
}
const ACCUMULATE = 1u;
@group(0) @binding(0) var<storage, read_write> d: array<f32>;
@group(0) @binding(1) var<storage, read_write> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
#ifdef WALK
@group(0) @binding(3) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> row_count: array<u32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(32, 2, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let column = at.x * 32u + lane.x;
    let element = (at.z * 32768u + at.y) * 2u + lane.y;
#ifdef WALK
    let columns = row_count[0];
#else
    let columns = p.columns;
#endif
    if (column >= columns || element >= p.c_h * p.c_w * p.channels) {
        return;
    }
    let q = element % p.channels;
    let x = i32(element / p.channels % p.c_w);
    let y = i32(element / p.channels / p.c_w);
    var t = vec2<i32>(0);
    var source = column;
#ifdef WALK
    let row = rows[column];
    t = vec2<i32>(i32(row.w / p.t_c / p.t_w), i32(row.w / p.t_c % p.t_w));
#ifdef MOVED
    source = row.z;
#endif
#endif
    let image_y = y + p.c_y + p.c_sy * t.x;
    let image_x = x + p.c_x + p.c_sx * t.y;
    let a_y = y - p.off_y - p.slope_y * t.x;
    let a_x = x - p.off_x - p.slope_x * t.y;
    var sum = 0.0;
    if (a_y >= 0 && a_y < i32(p.a_h) && a_x >= 0 && a_x < i32(p.a_w)
        && image_y >= 0 && image_y < i32(p.image_h) && image_x >= 0 && image_x < i32(p.image_w)) {
        var weight = d[(u32(image_y) * p.image_w + u32(image_x)) * p.channels + q];
#ifdef ABS
        weight = abs(weight);
#endif
        sum = weight * a[((u32(a_y) * p.a_w + u32(a_x)) * p.channels + q) * p.lda + source];
    }
    if ((p.flags & ACCUMULATE) != 0u) {
        sum += c[element * p.ldc + column];
    }
    c[element * p.ldc + column] = sum;
}
