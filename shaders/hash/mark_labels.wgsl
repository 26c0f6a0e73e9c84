// The batch's labels into the active set: bit id % 32 of marks[id / 32] for every id of the list; statistics[0] counts different ones.
//
// Buffers (u32): ids [count]; marks [ceil(labels / 32)], zeros or bits before; statistics [4].
// Precision: exact. Undefined: nothing; ids from p.labels on are left out.
// Geometry: workgroup (64,1,1), grid-stride over the list. Bounds: guarded by count and labels.
// Races: atomic or and add of integers; whoever comes first finds the bit unset, and the sum does not say who.
// Tried: nothing else.

struct Params {
    grid: vec4<u32>,
    count: u32, threads: u32, labels: u32, pad0: u32,
}
@group(0) @binding(0) var<storage, read_write> ids: array<u32>;
@group(0) @binding(1) var<storage, read_write> marks: array<atomic<u32>>;
@group(0) @binding(2) var<storage, read_write> statistics: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.count; i += p.threads) {
        let id = ids[i];
        if (id < p.labels) {
            let bit = 1u << (id % 32u);
            if ((atomicOr(&marks[id / 32u], bit) & bit) == 0u) {
                atomicAdd(&statistics[0], 1u);
            }
        }
    }
}
