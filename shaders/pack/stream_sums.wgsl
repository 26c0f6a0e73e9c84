// Over SCNN's streams, with n items each (non-zero values and cuts): results[slot + 2] += n, results[slot + 3] += ceil(n / group).
//
// Buffers (u32): total [streams] of four: non-zero values and cuts first (run_carry); results [slot .. slot + 8], zero before.
// Precision: exact. Undefined: nothing. Bounds: guarded by p.items.
// Geometry: workgroup (64,1,1), grid-stride over streams. Races: atomics, whose order cannot matter.

struct Params {
    grid: vec4<u32>,
    items: u32, threads: u32, slot: u32, group_log2: u32,
}
@group(0) @binding(0) var<storage, read_write> total: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> results: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/tally"

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    tally_open(lane.x);
    var items = 0u;
    var groups = 0u;
    for (var s = (group.x + p.grid.x) * 64u + lane.x; s < p.items; s += p.threads) {
        let n = total[s].x + total[s].y;
        items += n;
        groups += (n + (1u << p.group_log2) - 1u) >> p.group_log2;
    }
    atomicAdd(&tally[2], items);
    atomicAdd(&tally[3], groups);
    tally_close(lane.x, p.slot);
}
