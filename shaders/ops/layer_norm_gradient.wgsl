// dx = inv_std (t - average of t - h (average of t h)), t = scale g, h = (x - mean) inv_std, over the elements of each row:
// the gradient of layer_norm with regard to x.
//
// Buffers (f32, by vectors along the row): x, g, dx [slots, rows, n]; affine [slots, 2, n] (row 0 scale); saved [slots,
//   rows, 2] (mean, inv_std). Slot and row strides are free; a shared operand has stride 0.
// Source: Ba, Kiros, Hinton, Layer Normalization (2016).
// Precision: sums have depth ceil(n / 64) + 6 over terms of 4 roundings; then about 8 u of inv_std (|t| + |average| + |h
//   average|).
// Undefined: NaN and infinity, which stay in their own row; padding columns of dx.
// Geometry and races: as layer_norm.

struct Params {
    grid: vec4<u32>,
    rows: u32, n: u32, slots: u32, row_step: u32,
    step: u32, row_x: u32, slot_x: u32, row_g: u32,
    slot_g: u32, row_dx: u32, slot_dx: u32, slot_affine: u32,
    slot_saved: u32, inv_n: f32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> g: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> affine: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> saved: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

struct Row {
    of_x: u32,
    of_g: u32,
    of_affine: u32,
    mean: f32,
    inv: f32,
}

fn elements(row: Row) -> u32 {
    return p.n;
}

fn term(what: u32, row: Row, q: u32) -> vec4<f32> {
    let t = g[row.of_g + q] * affine[row.of_affine + q];
    if (what == 0u) {
        return t;
    }
    return t * ((x[row.of_x + q] - row.mean) * row.inv);
}

#import "lib/rows"

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let quads = (p.n + 3u) / 4u;
    for (var s = group.y + p.grid.y; s < p.slots; s += p.step) {
        for (var first = (group.x + p.grid.x) * ROWS; first < p.rows; first += p.row_step * ROWS) {
            let wanted = first + lane.x / SHARE;
            let r = min(wanted, p.rows - 1u);
            let k = saved[s * p.slot_saved + r];
            let row = Row(s * p.slot_x + r * p.row_x, s * p.slot_g + r * p.row_g, s * p.slot_affine, k.x, k.y);
            let k0 = row_sum(0u, row, lane.x) * p.inv_n;
            let k1 = row_sum(1u, row, lane.x) * p.inv_n;
            if (wanted < p.rows) {
                let to = s * p.slot_dx + r * p.row_dx;
                for (var q = lane.x % SHARE; q < quads; q += SHARE) {
                    let t = g[row.of_g + q] * affine[row.of_affine + q];
                    let h = (x[row.of_x + q] - row.mean) * row.inv;
                    dx[to + q] = row.inv * ((t - k0) - h * k1);
                }
            }
        }
    }
}
