// The table of rows that a compaction describes: for segment s and its i-th element j, `sides` consecutive rows from
// offset[s] + i * sides; behind them, padding up to a multiple of the tile.
//
// rows[r] = (owner, slot, source, element): owner = s; slot = (s * n + j) * sides + side, or NONE for padding; source = where the row
//   of this slot stood before (row_of[slot]; 0 with FIRST and for padding); element = j (for padding the last one's, so that
//   a tile's rows are alike where they can be); then row_of[slot] = r for next time.
// Buffers (u32): list [segments, n] with row stride p.ld, count, offset [segments]; the rest one word a row or slot.
// Rows from p.capacity on are left out, as in row_offsets.wgsl.
// Exact (integers). Geometry: workgroup (64,1,1), one segment each. Races: a slot and a row belong to one invocation; row_of is read and
//   written by the invocation that owns the slot.

struct Params {
    grid: vec4<u32>,
    n: u32, ld: u32, sides: u32, tile: u32,
    capacity: u32, pad0: u32, pad1: u32, pad2: u32,
}
const NONE = 0xffffffffu;
@group(0) @binding(0) var<storage, read_write> list: array<u32>;
@group(0) @binding(1) var<storage, read_write> count: array<u32>;
@group(0) @binding(2) var<storage, read_write> offset: array<u32>;
@group(0) @binding(3) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> row_of: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let segment = group.x + p.grid.x;
    let used = count[segment] * p.sides;
    let padded = (used + p.tile - 1u) / p.tile * p.tile;
    for (var i = lane.x; i < padded; i += 64u) {
        let row = offset[segment] + i;
        if (row >= p.capacity) {
            break;
        }
        var slot = NONE;
        var source = 0u;
        let element = list[segment * p.ld + min(i, used - 1u) / p.sides];
        if (i < used) {
            slot = (segment * p.n + element) * p.sides + i % p.sides;
#ifndef FIRST
            source = row_of[slot];
#endif
            row_of[slot] = row;
        }
        rows[row] = vec4<u32>(segment, slot, source, element);
    }
}
