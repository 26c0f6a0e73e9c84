// out[r, i] = sums[r, k] + sum of x[r, j] over the j < i of block k of 1024 elements, in which i lies: the last of the three
// dispatches of an exclusive scan (ops/scan.rs).
//
// Buffers (T is f32 or u32): x, out [rows, n] with row strides p.ld_x, p.ld_out; sums [rows, blocks] with row stride p.ld_sums, the
//   exclusive scan of the blocks' sums.
// Lane t of 64 adds 16 neighbours in ascending order; the lanes' sums are scanned in six steps (Hillis and Steele, CACM 1986).
// Precision: depth 16 + 6 + 16 + 1 for f32 on top of that of sums; u32 wraps at 2^32. Undefined: NaN and infinity; padding
//   columns are not touched.
// Geometry: workgroup (64,1,1); x covers blocks with stride p.groups, y rows.
// Races: each step reads, waits, writes, waits; the loop's bounds depend on the workgroup alone; a lane writes its own elements.
// Bounds: guarded by n.

struct Params {
    grid: vec4<u32>,
    n: u32, blocks: u32, groups: u32, ld_x: u32,
    ld_out: u32, ld_sums: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<${T}>;
@group(0) @binding(1) var<storage, read_write> sums: array<${T}>;
@group(0) @binding(2) var<storage, read_write> out: array<${T}>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> partial: array<${T}, 64>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let row = group.y + p.grid.y;
    for (var block = group.x + p.grid.x; block < p.blocks; block += p.groups) {
        let first = block * 1024u + lane.x * 16u;
        let end = min(first + 16u, p.n);
        var s = ${T}(0);
        for (var i = first; i < end; i++) {
            s += x[row * p.ld_x + i];
        }
        partial[lane.x] = s;
        workgroupBarrier();
#unroll level 0 6
        {
            var below = ${T}(0);
            if (lane.x >= (1u << ${level}u)) {
                below = partial[lane.x - (1u << ${level}u)];
            }
            workgroupBarrier();
            partial[lane.x] += below;
            workgroupBarrier();
        }
#endunroll
        var before = sums[row * p.ld_sums + block];
        if (lane.x > 0u) {
            before += partial[lane.x - 1u];
        }
        for (var i = first; i < end; i++) {
            out[row * p.ld_out + i] = before;
            before += x[row * p.ld_x + i];
        }
        workgroupBarrier();
    }
}
