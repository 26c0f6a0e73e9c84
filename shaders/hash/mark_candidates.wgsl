// Candidates of a shared active set, gathered from lists: a bit in found for each that is no label of the batch, and in values
//   MOST   how often it was returned
//   FIRST  p.total - i, where i = column * rows + row is where it stands first: all lists' first entries, then their second
// NEIGHBOURS: row r of the lists is row ids[r] of a table that has one for every label.
//
// Buffers (u32): list [rows, columns], p.ld words a row, or [labels, columns]; marks (the batch's labels), found: bits of labels;
//   values [labels], zeros before; ids [rows].
// Precision: exact. Undefined: nothing; ids from p.labels on (NONE = 2^32 - 1) are left out.
// Geometry: workgroup (64,1,1), grid-stride over columns; y covers rows with stride p.row_step.
// Races: atomic or, add and maximum of integers, whose results do not depend on the order. Bounds: guarded by rows, columns, labels.
// Not tried: sorting the lists, which moves every entry three times.

struct Params {
    grid: vec4<u32>,
    rows: u32, row_step: u32, columns: u32, threads: u32,
    ld: u32, labels: u32, total: u32, pad0: u32,
}
@group(0) @binding(0) var<storage, read_write> list: array<u32>;
@group(0) @binding(1) var<storage, read_write> marks: array<u32>;
@group(0) @binding(2) var<storage, read_write> found: array<atomic<u32>>;
@group(0) @binding(3) var<storage, read_write> values: array<atomic<u32>>;
#ifdef NEIGHBOURS
@group(0) @binding(4) var<storage, read_write> ids: array<u32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var r = group.y + p.grid.y; r < p.rows; r += p.row_step) {
#ifdef NEIGHBOURS
        let row = ids[r];
        if (row >= p.labels) {
            continue;
        }
#else
        let row = r;
#endif
        for (var c = (group.x + p.grid.x) * 64u + lane.x; c < p.columns; c += p.threads) {
            let id = list[row * p.ld + c];
            if (id >= p.labels) {
                continue;
            }
            let bit = 1u << (id % 32u);
            if ((marks[id / 32u] & bit) == 0u) {
                atomicOr(&found[id / 32u], bit);
#ifdef MOST
                atomicAdd(&values[id], 1u);
#endif
#ifdef FIRST
                atomicMax(&values[id], p.total - (c * p.rows + r));
#endif
            }
        }
    }
}
