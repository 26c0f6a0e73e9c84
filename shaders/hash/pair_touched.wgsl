// The list of touched rows of sorted keys: (rows, n), then (key, i) where a run of equal keys begins at i, then (2^32 - 1, n).
//
// Buffers (u32): keys, flags, ranks [n]: sorted keys, where runs begin, and the exclusive scan of that; touched [rows + 2] pairs;
//   statistics [4], of which the last becomes the number of rows. Precision: exact. Undefined: nothing.
// Geometry: workgroup (64,1,1), grid-stride. Bounds: guarded by n; no more rows than there are keys or labels.
// Races: a run has a place of its own; the invocation of the last key writes the ends. Tried: nothing else.

struct Params {
    grid: vec4<u32>,
    n: u32, threads: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> keys: array<u32>;
@group(0) @binding(1) var<storage, read_write> flags: array<u32>;
@group(0) @binding(2) var<storage, read_write> ranks: array<u32>;
@group(0) @binding(3) var<storage, read_write> touched: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> statistics: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.n; i += p.threads) {
        let rank = ranks[i];
        if (flags[i] != 0u) {
            touched[rank + 1u] = vec2<u32>(keys[i], i);
        }
        if (i == p.n - 1u) {
            let rows = rank + flags[i];
            touched[0] = vec2<u32>(rows, p.n);
            touched[rows + 1u] = vec2<u32>(0xffffffffu, p.n);
            statistics[3] = rows;
        }
    }
}
