// dx[r, j] = y[r, j] (g[r, j] - sum over i of g[r, i] y[r, i]): the gradient g through y = softmax(x), row by row.
//
// Buffers (f32, by vectors along the row): y, g, dx [rows, n] with row strides.
// Precision: the sum has depth ceil(n / 64) + 6 over products; then 2 roundings.
// Undefined: NaN and infinity, which stay in their own row; padding columns of dx.
// Geometry: workgroup (64,1,1): 4 rows of 16 invocations each, or 64 rows with ROWWISE (lib/rows); x covers rows with a
//   stride of p.groups workgroups. Rows behind the last repeat it and are not stored.
// Races: barriers in lib/rows; an invocation writes its own vectors. The loop's bounds are the same for a whole workgroup.

struct Params {
    grid: vec4<u32>,
    rows: u32, n: u32, row_y: u32, row_g: u32,
    row_dx: u32, groups: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> g: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

struct Row {
    of_y: u32,
    of_g: u32,
}

fn elements(row: Row) -> u32 {
    return p.n;
}

fn term(what: u32, row: Row, q: u32) -> vec4<f32> {
    return y[row.of_y + q] * g[row.of_g + q];
}

#import "lib/rows"

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let quads = (p.n + 3u) / 4u;
    for (var first = (group.x + p.grid.x) * ROWS; first < p.rows; first += p.groups * ROWS) {
        let wanted = first + lane.x / SHARE;
        let r = min(wanted, p.rows - 1u);
        let row = Row(r * p.row_y, r * p.row_g);
        let sum = row_sum(0u, row, lane.x);
        if (wanted < p.rows) {
            for (var q = lane.x % SHARE; q < quads; q += SHARE) {
                dx[r * p.row_dx + q] = y[row.of_y + q] * (g[row.of_g + q] - sum);
            }
        }
    }
}
