// The coefficients that rows start with (row_first.wgsl) through a sparse or diagonal map; c must be 0 where nothing was written yet.
//
// Row r bounds element j = rows[r].w: c[position of term, r] += weight for every term of row j of the map (DIAGONAL: the one term d[j] at j),
// negated for odd slots. A term reads value `column` of the source; it stands in the row's window of c at (Y - p.c_y - p.c_sy t_y,
// X - p.c_x - p.c_sx t_x), (Y, X) its place in the image [.., p.image_w, p.channels] and t the place of j in [.., p.t_w, p.t_c].
// Buffers: starts [n + 1], terms [nnz] = (column, bits of the weight) u32 (DIAGONAL: d [n] f32 instead of both); c [window, p.ldc] f32, rows, row_count.
// Precision: exact, but for the sum with what c held. Geometry: workgroup (64,1,1), one row each. Races: a column of c belongs to one invocation.

struct Params {
    grid: vec4<u32>,
    ldc: u32, sides: u32, c_w: u32, channels: u32,
    c_y: i32, c_x: i32, c_sy: i32, c_sx: i32,
    image_w: u32, t_w: u32, t_c: u32, pad0: u32,
}
const NONE = 0xffffffffu;
#ifdef DIAGONAL
@group(0) @binding(0) var<storage, read_write> d: array<f32>;
@group(0) @binding(1) var<storage, read_write> c: array<f32>;
@group(0) @binding(2) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> row_count: array<u32>;
#else
@group(0) @binding(0) var<storage, read_write> starts: array<u32>;
@group(0) @binding(1) var<storage, read_write> c: array<f32>;
@group(0) @binding(2) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> row_count: array<u32>;
@group(0) @binding(4) var<storage, read_write> terms: array<vec2<u32>>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

fn add(r: u32, t: vec2<i32>, column: u32, weight: f32) {
    let y = i32(column / p.channels / p.image_w) - p.c_y - p.c_sy * t.x;
    let x = i32(column / p.channels % p.image_w) - p.c_x - p.c_sx * t.y;
    let at = ((u32(y) * p.c_w + u32(x)) * p.channels + column % p.channels) * p.ldc + r;
    c[at] += weight;
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let r = (group.x + p.grid.x) * 64u + lane.x;
    if (r >= row_count[0]) {
        return;
    }
    let row = rows[r];
    if (row.y == NONE) {
        return;
    }
    let t = vec2<i32>(i32(row.w / p.t_c / p.t_w), i32(row.w / p.t_c % p.t_w));
    let sign = select(1.0, -1.0, row.y % p.sides == 1u);
#ifdef DIAGONAL
    add(r, t, row.w, sign * d[row.w]);
#else
    for (var i = starts[row.w]; i < starts[row.w + 1u]; i++) {
        add(r, t, terms[i].x, sign * bitcast<f32>(terms[i].y));
    }
#endif
}
