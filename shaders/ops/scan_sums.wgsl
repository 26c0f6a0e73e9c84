// sums[r, k] = sum of x[r, i] over block k of 1024 elements: the first of the three dispatches of an exclusive scan (ops/scan.rs).
//
// Buffers (T is f32 or u32): x [rows, n] with row stride p.ld_x; sums [rows, blocks] with row stride p.ld_sums.
// Lane t of 64 adds 16 neighbours in ascending order, a tree through workgroup memory the lanes: the order depends on n alone.
// Precision: depth 16 + 6 for f32; u32 wraps at 2^32. Undefined: NaN and infinity.
// Geometry: workgroup (64,1,1); x covers blocks with stride p.groups, y rows.
// Races: a barrier between write and read of each tree level and before workgroup memory is written again; the loop's bounds
//   depend on the workgroup alone. Bounds: guarded by n.

struct Params {
    grid: vec4<u32>,
    n: u32, blocks: u32, groups: u32, ld_x: u32,
    ld_out: u32, ld_sums: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<${T}>;
@group(0) @binding(1) var<storage, read_write> sums: array<${T}>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> partial: array<${T}, 64>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let row = group.y + p.grid.y;
    for (var block = group.x + p.grid.x; block < p.blocks; block += p.groups) {
        let first = block * 1024u + lane.x * 16u;
        var s = ${T}(0);
        for (var i = first; i < min(first + 16u, p.n); i++) {
            s += x[row * p.ld_x + i];
        }
        partial[lane.x] = s;
#unroll level 0 6
        workgroupBarrier();
        if (lane.x < (32u >> ${level}u)) {
            partial[lane.x] += partial[lane.x + (32u >> ${level}u)];
        }
#endunroll
        if (lane.x == 0u) {
            sums[row * p.ld_sums + block] = partial[0];
        }
        workgroupBarrier();
    }
}
