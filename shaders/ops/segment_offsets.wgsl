// Rows from p.capacity (a multiple of the tile) on are cut off, so that no grid exceeds the buffers behind it.
// offset[s] = sum over s' < s of pad(count[s'] * p.sides), pad rounding up to a multiple of p.tile; row_count[0] = the
// total; and the workgroups of three indirect dispatches over that many rows.
//
// Buffers (u32): count [segments], offset [segments], row_count [1],
//   args [12]: words 0..2 = (rows / p.rows_a, 1, 1), words 4..6 = (rows / p.tile, p.columns, p.chunks), words 8..10 = (rows / p.rows_c, 1, 1).
// Geometry: one workgroup of 64; segments in pieces as in row_compact. Races: as there.

struct Params {
    grid: vec4<u32>,
    segments: u32, sides: u32, tile: u32, columns: u32,
    rows_a: u32, rows_c: u32, chunks: u32, capacity: u32,
}
@group(0) @binding(0) var<storage, read_write> count: array<u32>;
@group(0) @binding(1) var<storage, read_write> offset: array<u32>;
@group(0) @binding(2) var<storage, read_write> row_count: array<u32>;
@group(0) @binding(3) var<storage, read_write> args: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> sums: array<u32, 64>;

fn rows_of(segment: u32) -> u32 {
    return (count[segment] * p.sides + p.tile - 1u) / p.tile * p.tile;
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(local_invocation_id) lane: vec3<u32>) {
    let piece = (p.segments + 63u) / 64u;
    let first = min(lane.x * piece, p.segments);
    let end = min(first + piece, p.segments);
    var mine = 0u;
    for (var s = first; s < end; s++) {
        mine += rows_of(s);
    }
    sums[lane.x] = mine;
    workgroupBarrier();
    var before = 0u;
    var total = 0u;
    for (var t = 0u; t < 64u; t++) {
        before += select(0u, sums[t], t < lane.x);
        total += sums[t];
    }
    for (var s = first; s < end; s++) {
        offset[s] = before;
        before += rows_of(s);
    }
    if (lane.x == 0u) {
        total = min(total, p.capacity);
        row_count[0] = total;
        args[0] = (total + p.rows_a - 1u) / p.rows_a;
        args[1] = 1u;
        args[2] = 1u;
        args[4] = total / p.tile;
        args[5] = p.columns;
        args[6] = p.chunks;
        args[8] = (total + p.rows_c - 1u) / p.rows_c;
        args[9] = 1u;
        args[10] = 1u;
    }
}
