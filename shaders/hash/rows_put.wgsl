// out[ids[r] - p.first, :] = x[r, :] for the rows r whose id lies in this window of the table; with TAKE the other way:
// out[r, :] = x[ids[r] - p.first, :]. Rows are moved as bits.
//
// Buffers (u32, rows by vectors of four): x [count, columns]; ids [count], distinct, rows of the whole table; out [rows, columns]: rows
//   p.first .. p.first + p.rows of it. With TAKE x is the window and out [count, columns].
// Precision: exact. Undefined: rows that no id names stay as they are.
// Geometry: workgroup (64,1,1), an invocation moves four columns, grid-stride over p.len = count * p.width4.
// Bounds: ids by p.first and p.rows. Races: ids are distinct, an invocation writes its own vectors.
// Tried: an upload a run of rows (a driver call for 528 bytes each).

struct Params {
    grid: vec4<u32>,
    len: u32, threads: u32, width4: u32, first: u32,
    rows: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var item = (group.x + p.grid.x) * 64u + lane.x; item < p.len; item += p.threads) {
        // Wraps around for ids below p.first.
        let row = ids[item / p.width4] - p.first;
        if (row < p.rows) {
#ifdef TAKE
            out[item] = x[row * p.width4 + item % p.width4];
#else
            out[row * p.width4 + item % p.width4] = x[item];
#endif
        }
    }
}
