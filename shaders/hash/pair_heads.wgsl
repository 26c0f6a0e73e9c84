// flags[i] = 1 where a run of equal keys begins, else 0.
//
// Buffers (u32): keys, sorted, and flags [n]. Precision: exact. Undefined: nothing.
// Geometry: workgroup (64,1,1), grid-stride. Bounds: guarded by n. Races: an invocation writes its own flags. Tried: nothing else.

struct Params {
    grid: vec4<u32>,
    n: u32, threads: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> keys: array<u32>;
@group(0) @binding(1) var<storage, read_write> flags: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.n; i += p.threads) {
        flags[i] = select(0u, 1u, i == 0u || keys[i] != keys[max(i, 1u) - 1u]);
    }
}
