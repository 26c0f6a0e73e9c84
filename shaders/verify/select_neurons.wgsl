// Flags of neurons, for compaction.
//
// active: flags = 1 where the ReLU is not fixed at 0 (h > 0), or everywhere with p.relu = 0.
// unstable: flags = 1 where l < 0 < h (p.all: everywhere); with KEEP only where the flag was 1 before.
// undecided (QUERY): flags = 1 where the best lower bound of a row is not above 0.
// Buffers: lower, upper [batch, n] f32, flags [batch, n] u32, all with row stride p.ld.
// Exact (comparisons). Geometry: workgroup (64,1,1), grid-stride. Races: own elements.

struct Params {
    grid: vec4<u32>,
    n: u32, ld: u32, len: u32, threads: u32,
    all: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> lower: array<f32>;
@group(0) @binding(1) var<storage, read_write> upper: array<f32>;
@group(0) @binding(2) var<storage, read_write> flags: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.len; i += p.threads) {
        let at = i / p.n * p.ld + i % p.n;
#ifdef ACTIVE
        var on = upper[at] > 0.0;
#else
#ifdef QUERY
        var on = !(lower[at] > 0.0);
#else
        var on = lower[at] < 0.0 && upper[at] > 0.0;
#endif
#endif
        on = on || p.all != 0u;
#ifdef KEEP
        on = on && flags[at] != 0u;
#endif
        flags[at] = select(0u, 1u, on);
    }
}
