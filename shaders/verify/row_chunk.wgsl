// The chosen elements first <= i < first + most of every segment, as a list, a count and flags of their own: a walk takes as many rows
// at a time as there is room for.
//
// Buffers (u32): all [segments, n] and all_count [segments]: the elements that were chosen; list, flags [segments, n], count [segments]:
// this walk's; rows of n have pitch p.ld.
// Exact (integers). Geometry: workgroup (64,1,1), one segment each. Races: a segment belongs to one workgroup; flags are cleared, then, behind a
// barrier, set, each by one invocation.

struct Params {
    grid: vec4<u32>,
    n: u32, ld: u32, first: u32, most: u32,
}
@group(0) @binding(0) var<storage, read_write> all: array<u32>;
@group(0) @binding(1) var<storage, read_write> all_count: array<u32>;
@group(0) @binding(2) var<storage, read_write> list: array<u32>;
@group(0) @binding(3) var<storage, read_write> flags: array<u32>;
@group(0) @binding(4) var<storage, read_write> count: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let segment = group.x + p.grid.x;
    let base = segment * p.ld;
    for (var j = lane.x; j < p.n; j += 64u) {
        flags[base + j] = 0u;
    }
    storageBarrier();
    workgroupBarrier();
    let chosen = all_count[segment];
    let mine = min(max(chosen, p.first) - p.first, p.most);
    for (var i = lane.x; i < mine; i += 64u) {
        let j = all[base + p.first + i];
        list[base + i] = j;
        flags[base + j] = 1u;
    }
    if (lane.x == 0u) {
        count[segment] = mine;
    }
}
