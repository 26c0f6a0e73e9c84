// For each segment s: list[s] = the indices j with flags[s, j] != 0, ascending, at the front; count[s] = how many.
//
// Buffers (u32): flags [segments, n] and list [segments, n], both with row stride p.stride; count [segments].
// Lane t of 64 owns the contiguous piece [t * ceil(n/64), ...): it counts, the counts are scanned through workgroup
//   memory, and it writes its indices behind those of the lanes before it. Deterministic, no atomics.
// Undefined: list behind count[s].
// Geometry: workgroup (64,1,1), one segment each; x covers segments.
// Races: a barrier between write and read of the counts; every index has one place, no two lanes share one.

struct Params {
    grid: vec4<u32>,
    n: u32, stride: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> flags: array<u32>;
@group(0) @binding(1) var<storage, read_write> list: array<u32>;
@group(0) @binding(2) var<storage, read_write> count: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> counts: array<u32, 64>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let segment = group.x + p.grid.x;
    let base = segment * p.stride;
    let piece = (p.n + 63u) / 64u;
    let first = min(lane.x * piece, p.n);
    let end = min(first + piece, p.n);
    var mine = 0u;
    for (var j = first; j < end; j++) {
        mine += select(0u, 1u, flags[base + j] != 0u);
    }
    counts[lane.x] = mine;
    workgroupBarrier();
    var before = 0u;
    var total = 0u;
    for (var t = 0u; t < 64u; t++) {
        before += select(0u, counts[t], t < lane.x);
        total += counts[t];
    }
    for (var j = first; j < end; j++) {
        if (flags[base + j] != 0u) {
            list[base + before] = j;
            before++;
        }
    }
    if (lane.x == 0u) {
        count[segment] = total;
    }
}
