// One step of an optimiser on every row, with a dense table of gradients: what lazy steps leave out and caught-up steps must equal.
//
// Buffers: gradient [rows, columns] f32 by vectors, p.stride_x vectors a row; w [rows, columns] f32 or bf16 (BF16); m, v [rows, columns] f32
//   as the formula needs them; book [rows, 4] u32 (stamp, last touched, times touched, -). All are the rows of one window.
// The formulas, their precision and what is undefined: lib/row_step. Every row counts as touched.
// Geometry: workgroup (64,1,1), one invocation a vector of a row, groups in a plane p.across wide.
// Races: an invocation owns its four columns of its row; the one of column 0 writes the row's line of the book.
// Bounds: rows by p.rows, columns by construction. Tried: nothing else; one pass over five tables is what memory allows.

#import "lib/row_list"

struct Params {
    grid: vec4<u32>,
    first: u32, rows: u32, quads: u32, stride_w: u32,
    capacity: u32, across: u32, stride_x: u32, stride_out: u32,
    per_sample: u32, step: u32, table: u32, pad: u32,
    key_low: u32, key_high: u32, rate: f32, root: f32,
    keep1: f32, add1: f32, keep2: f32, add2: f32,
    epsilon: f32, share: u32, pad1: u32, pad2: u32,
}
@group(1) @binding(0) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> gradient: array<vec4<f32>>;

#import "lib/row_step"
@group(0) @binding(${BOOK}) var<storage, read_write> book: array<vec4<u32>>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let place = divided(place_of(group, lane.x), p.quads);
    let row = listed(place.x);
    if (row == NO_ROW) {
        return;
    }
    let q = place.y;
    let own = place.x;
    row_store(own, q, row_step(row_load(own, q), gradient[own * p.stride_x + q], p.rate, p.root));
    if (q == 0u) {
        let line = book[own];
        book[own] = vec4<u32>(p.step, p.step, line.z + 1u, line.w);
    }
}
