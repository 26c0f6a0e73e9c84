// Over the elements of each unit u of a machine of SCNN's kind (see scnn_steps): totals[u] = (cycles of the slowest element, sum of
//   cycles, sum of products, 0).
//
// Buffers (u32): counts [units, elements, 2]: cycles, products; totals [units] of vec4.
// Precision: whole numbers, exact; the host refuses what could pass 2^32. Undefined: nothing.
// Geometry: workgroup (64,1,1), one invocation a unit, grid-stride of p.threads. Elements are at most 2^14 (see scnn_steps for why).
// Races: an invocation writes its own four words. Bounds: guarded by p.units.
// Tried: nothing else; it reads each word once.

struct Params {
    grid: vec4<u32>,
    elements: u32, units: u32, threads: u32, pad0: u32,
}
@group(0) @binding(0) var<storage, read_write> counts: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> totals: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var u = (group.x + p.grid.x) * 64u + lane.x; u < p.units; u += p.threads) {
        var total = vec4<u32>(0u);
        for (var e = 0u; e < p.elements; e++) {
            let count = counts[u * p.elements + e];
            total.x = max(total.x, count.x);
            total.y += count.x;
            total.z += count.y;
        }
        totals[u] = total;
    }
}
