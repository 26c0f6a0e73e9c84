// results[slot] += ceil(segments[s] / container) over all segments s: the memory rows of lanes that are closed behind each segment.
//
// Buffers (u32): segments [items]: bits of a lane (group_sums, scnn_groups); results [slot], zero before.
// Precision: exact. Undefined: nothing. Bounds: guarded by p.items.
// Geometry: workgroup (64,1,1), grid-stride over segments. Races: atomics, whose order cannot matter.

struct Params {
    grid: vec4<u32>,
    items: u32, threads: u32, slot: u32, container_log2: u32,
}
@group(0) @binding(0) var<storage, read_write> segments: array<u32>;
@group(0) @binding(1) var<storage, read_write> results: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/tally"

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    tally_open(lane.x);
    var rows = 0u;
    for (var s = (group.x + p.grid.x) * 64u + lane.x; s < p.items; s += p.threads) {
        rows += (segments[s] + (1u << p.container_log2) - 1u) >> p.container_log2;
    }
    atomicAdd(&tally[0], rows);
    tally_close(lane.x, p.slot);
}
