// relax_rows.wgsl for rows with coefficients on a window of a layer (their dependence set): formulas and names are the same.
//
// The windows [p.c_h, p.c_w, p.channels] of a row's coefficients stand at (p.c_y + p.c_sy t_y, p.c_x + p.c_sx t_x) of the image
//   [p.image_h, p.image_w, p.channels], t = the place of the element that the row bounds (rows[r].w) in [.., p.t_w, p.t_c]. What lies
//   beyond the image becomes 0. INPUT: only w is wanted, and a stays.
// Buffers (f32): a [window, p.ld]: a' replaces it; partial [p.slices, p.ld]; rows as row_table.wgsl; lines [boxes, p.n, 2].
// Precision and overflow as in relax_rows.wgsl.
// Geometry: workgroup (16,1,1), one row each, all of one box; x covers rows, y slices of the window's places. Rows side by side read
//   lines of their own: after rows were dropped, neighbours seldom bound elements of one place.
// Races: own elements; `bad` by atomicOr.
// Tried on a 2-core software device (resnet_2b, 8 inputs): 16 rows an invocation and two lines for all of them, where they have at most two
//   places, 333 ms if no row is dropped, but 895 ms if rows are; this 604 and 409 ms.

struct Params {
    grid: vec4<u32>,
    n: u32, ld: u32, slices: u32, terms: u32,
    c_h: u32, c_w: u32, channels: u32, ld_list: u32,
    image_h: u32, image_w: u32, t_w: u32, t_c: u32,
    c_y: i32, c_x: i32, c_sy: i32, c_sx: i32,
    ld_form: u32, pad0: u32, pad1: u32, pad2: u32,
}
const NONE = 0xffffffffu;
@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> bad: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> lines: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(16, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let first = (group.x + p.grid.x) * 16u;
    let slice = group.y + p.grid.y;
    let box = rows[first].x;
    let r = first + lane.x;
    let t = rows[r].w / p.t_c;
    let top = p.c_y + p.c_sy * i32(t / p.t_w);
    let left = p.c_x + p.c_sx * i32(t % p.t_w);
    let places = p.c_h * p.c_w;
    let share = (places + p.slices - 1u) / p.slices;
    let end = min(places, (slice + 1u) * share);
    var sums = vec4<f32>(0.0);
    var largest = 0u;
    for (var place = slice * share; place < end; place++) {
        let y = top + i32(place / p.c_w);
        let x = left + i32(place % p.c_w);
        let inside = y >= 0 && y < i32(p.image_h) && x >= 0 && x < i32(p.image_w);
        let base = (box * p.n + select(0u, u32(y) * p.image_w + u32(x), inside) * p.channels) * 2u;
        for (var q = 0u; q < p.channels; q++) {
            let at = (place * p.channels + q) * p.ld + r;
            let value = select(0.0, a[at], inside);
            largest = max(largest, bitcast<u32>(value) & 0x7f800000u);
            let side = lines[base + q * 2u + select(0u, 1u, value < 0.0)];
            sums.x = fma(value, side.y, sums.x);
            sums.z = fma(abs(value), side.z, sums.z);
            sums.w = fma(value, side.w, sums.w);
#ifndef INPUT
            a[at] = value * side.x;
#endif
        }
    }
    if (largest >= 0x53800000u && rows[r].y != NONE) {
        atomicOr(&bad[box], 1u);
    }
    partial[slice * p.ld + r] = sums;
}
