// draws[q] = the label at place q of the step's random order of all labels; flags[q] = 1 if the active set does not hold it yet.
// The first `size` places suffice: those of them that the set holds already are room that it does not need.
//
// Buffers (u32): marks: bits of the active set; draws, flags [size].
// Precision: exact. Undefined: nothing.
// Geometry: workgroup (64,1,1), grid-stride over places. Bounds: guarded by size <= labels; a draw is below labels.
// Races: an invocation writes its own places. Not tried: random labels until enough are new: the number of draws is unknown, and two may agree.

#import "lib/permute"

struct Params {
    grid: vec4<u32>,
    size: u32, threads: u32, labels: u32, bits: u32,
    k: vec4<u32>,
    l: vec4<u32>,
}
@group(0) @binding(0) var<storage, read_write> marks: array<u32>;
@group(0) @binding(1) var<storage, read_write> draws: array<u32>;
@group(0) @binding(2) var<storage, read_write> flags: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var q = (group.x + p.grid.x) * 64u + lane.x; q < p.size; q += p.threads) {
        let id = shuffled(q, p.labels, p.bits, p.k, p.l);
        draws[q] = id;
        flags[q] = 1u - ((marks[id / 32u] >> (id % 32u)) & 1u);
    }
}
