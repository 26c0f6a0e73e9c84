// sums[r, k] becomes the sum of sums[r, j] over j < k: the second of the three dispatches of an exclusive scan (ops/scan.rs).
//
// Buffers (T is f32 or u32): sums [rows, blocks] with row stride p.ld_sums, in place; total [rows]: the sum of the whole row.
// Lane t of 256 takes the contiguous piece [t * ceil(blocks / 256), ...): it adds up, adds the lanes before it in ascending order,
//   and writes its piece. The order depends on n alone.
// Precision: depth 2 ceil(blocks / 256) + 256 for f32; u32 wraps at 2^32. Undefined: NaN and infinity.
// Geometry: workgroup (256,1,1), one row each; y covers rows. Bounds: pieces end at p.blocks.
// Races: a barrier between write and read of the lanes' sums; a lane reads and writes its own piece.

struct Params {
    grid: vec4<u32>,
    n: u32, blocks: u32, groups: u32, ld_x: u32,
    ld_out: u32, ld_sums: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> sums: array<${T}>;
@group(0) @binding(1) var<storage, read_write> total: array<${T}>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> partial: array<${T}, 256>;

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let row = group.y + p.grid.y;
    let base = row * p.ld_sums;
    let piece = (p.blocks + 255u) / 256u;
    let first = min(lane.x * piece, p.blocks);
    let end = min(first + piece, p.blocks);
    var s = ${T}(0);
    for (var k = first; k < end; k++) {
        s += sums[base + k];
    }
    partial[lane.x] = s;
    workgroupBarrier();
    var before = ${T}(0);
    for (var t = 0u; t < lane.x; t++) {
        before += partial[t];
    }
    for (var k = first; k < end; k++) {
        let own = sums[base + k];
        sums[base + k] = before;
        before += own;
    }
    if (lane.x == 255u) {
        total[row] = before;
    }
}
