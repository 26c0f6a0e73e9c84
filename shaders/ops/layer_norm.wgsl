// y = (x - mean) inv_std scale + shift over the elements of each row; mean and inv_std = 1 / sqrt(variance + eps) of the row
//   are saved.
//
// Buffers (f32, by vectors along the row): x, y [slots, rows, n]; affine [slots, 2, n] (row 0 scale, row 1 shift); saved
//   [slots, rows, 2] (mean, inv_std, and two words of padding, written as 0). Slot and row strides are free; a shared operand
//   has stride 0.
// Source: Ba, Kiros, Hinton, Layer Normalization (2016).
// Precision: mean = x[0] + average of x - x[0], so that its error is relative to the row's spread; the variance is the
//   average of squared differences from it (two passes). Sums have depth ceil(n / 64) + 6; inverseSqrt 2 ulp; 4 u of |x -
//   mean| inv_std |scale| and u |y|.
// Undefined: NaN and infinity, which stay in their own row; padding columns of y.
// Geometry: workgroup (64,1,1): 4 rows of 16 invocations each, or 64 rows with ROWWISE (lib/rows); x covers rows with stride
//   p.row_step workgroups, y slots with p.step. Rows behind the last repeat it and are not stored.
// Races: barriers in lib/rows; an invocation writes its own vectors. Loops have the same bounds for a whole workgroup.

struct Params {
    grid: vec4<u32>,
    rows: u32, n: u32, slots: u32, row_step: u32,
    step: u32, row_x: u32, slot_x: u32, row_y: u32,
    slot_y: u32, slot_affine: u32, slot_saved: u32, pad0: u32,
    inv_n: f32, eps: f32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> affine: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> saved: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

struct Row {
    base: u32,
    origin: f32,
    mean: f32,
}

fn elements(row: Row) -> u32 {
    return p.n;
}

fn term(what: u32, row: Row, q: u32) -> vec4<f32> {
    let d = (x[row.base + q] - row.origin) - row.mean;
    return select(d * d, d, what == 0u);
}

#import "lib/rows"

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let quads = (p.n + 3u) / 4u;
    for (var s = group.y + p.grid.y; s < p.slots; s += p.step) {
        for (var first = (group.x + p.grid.x) * ROWS; first < p.rows; first += p.row_step * ROWS) {
            let wanted = first + lane.x / SHARE;
            let r = min(wanted, p.rows - 1u);
            let base = s * p.slot_x + r * p.row_x;
            var row = Row(base, x[base].x, 0.0);
            row.mean = row_sum(0u, row, lane.x) * p.inv_n;
            let inv = inverseSqrt(fma(row_sum(1u, row, lane.x), p.inv_n, p.eps));
            let mine = lane.x % SHARE;
            if (wanted < p.rows) {
                let to = s * p.slot_y + r * p.row_y;
                let of_affine = s * p.slot_affine;
                for (var q = mine; q < quads; q += SHARE) {
                    let h = ((x[base + q] - row.origin) - row.mean) * inv;
                    y[to + q] = fma(h, affine[of_affine + q], affine[of_affine + quads + q]);
                }
                if (mine == 0u) {
                    saved[s * p.slot_saved + r] = vec4<f32>(row.origin + row.mean, inv, 0.0, 0.0);
                }
            }
        }
    }
}
