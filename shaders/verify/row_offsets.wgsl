// Where the rows of every box stand, and the grids of the dispatches over them.
//
// offset[s] = sum over s' < s of pad(count[s'] * p.sides), pad rounding up to a multiple of p.tile; row_count[0] = the total, cut off at
// p.capacity (a multiple of the tile), so that no grid exceeds the buffers behind it. Grid g < p.grids, words 4 g to 4 g + 2 of args:
// (ceil(total / shape.x), shape.y, shape.z) with shape = shapes[p.first_shape + g].
//
// Buffers (u32): count, offset [segments], row_count [1], args [4 * grids], shapes [.., 4].
// Geometry: one workgroup of 64; segments in 64 pieces. Exact (integers). Races: own elements; sums are shared behind a barrier.

struct Params {
    grid: vec4<u32>,
    segments: u32, sides: u32, tile: u32, capacity: u32,
    first_shape: u32, grids: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> count: array<u32>;
@group(0) @binding(1) var<storage, read_write> offset: array<u32>;
@group(0) @binding(2) var<storage, read_write> row_count: array<u32>;
@group(0) @binding(3) var<storage, read_write> args: array<u32>;
@group(0) @binding(4) var<storage, read_write> shapes: array<vec4<u32>>;
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
    total = min(total, p.capacity);
    if (lane.x == 0u) {
        row_count[0] = total;
    }
    for (var g = lane.x; g < p.grids; g += 64u) {
        let shape = shapes[p.first_shape + g];
        args[4u * g] = (total + shape.x - 1u) / shape.x;
        args[4u * g + 1u] = shape.y;
        args[4u * g + 2u] = shape.z;
    }
}
