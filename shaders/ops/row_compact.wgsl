// For each segment s: list[s] = the indices j with flags[s, j] != 0, ascending, at the front; count[s] = how many.
//
// Buffers (u32): flags [segments, n] (by vectors of four) and list [segments, n], both with row stride p.stride, a multiple of 4;
//   count [segments].
// Lane t of LANES owns a contiguous piece of ceil(n / 4 LANES) vectors: it counts, the counts are scanned through workgroup memory,
//   and it writes its indices behind those of the lanes before it. Deterministic, no atomics; the same for any LANES.
// Undefined: list behind count[s].
// Geometry: workgroup (LANES,1,1), one segment each; x covers segments. LANES is 64 on GPUs; 8 on software devices, where they are one
//   vector of the processor and a barrier costs nothing.
// Races: a barrier between write and read of the counts; every index has one place, no two lanes share one.

struct Params {
    grid: vec4<u32>,
    n: u32, stride: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> flags: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> list: array<u32>;
@group(0) @binding(2) var<storage, read_write> count: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;
var<workgroup> counts: array<u32, ${LANES}>;

// 1 where an element of vector q is flagged; what lies behind the row is not.
fn flagged(base: u32, q: u32) -> vec4<u32> {
    let inside = vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.n);
    return select(vec4<u32>(0u), vec4<u32>(1u), (flags[base / 4u + q] != vec4<u32>(0u)) & inside);
}

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let segment = group.x + p.grid.x;
    let base = segment * p.stride;
    let quads = (p.n + 3u) / 4u;
    let piece = (quads + LANES - 1u) / LANES;
    let first = min(lane.x * piece, quads);
    let end = min(first + piece, quads);
    var found = vec4<u32>(0u);
    for (var q = first; q < end; q++) {
        found += flagged(base, q);
    }
    counts[lane.x] = found.x + found.y + found.z + found.w;
    workgroupBarrier();
    var before = 0u;
    var total = 0u;
    for (var t = 0u; t < LANES; t++) {
        before += select(0u, counts[t], t < lane.x);
        total += counts[t];
    }
    for (var q = first; q < end; q++) {
        let on = flagged(base, q);
        if (any(on != vec4<u32>(0u))) {
#unroll i 0 4
            if (on[${i}] != 0u) {
                list[base + before] = q * 4u + ${i}u;
                before++;
            }
#endunroll
        }
    }
    if (lane.x == 0u) {
        count[segment] = total;
    }
}
