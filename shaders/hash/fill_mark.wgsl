// The first flagged draws into the active set, as many as it lacks; statistics[2] counts them.
//
// Buffers (u32): draws, flags, ranks [size], ranks the exclusive scan of flags; marks: bits of the active set; statistics [4], of which
//   the first two say how many it holds.
// Precision: exact. Undefined: nothing.
// Geometry: workgroup (64,1,1), grid-stride over draws. Bounds: guarded by size; draws are below labels.
// Races: atomic or and add of integers; draws differ. Tried: nothing else.

struct Params {
    grid: vec4<u32>,
    size: u32, threads: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> draws: array<u32>;
@group(0) @binding(1) var<storage, read_write> flags: array<u32>;
@group(0) @binding(2) var<storage, read_write> ranks: array<u32>;
@group(0) @binding(3) var<storage, read_write> marks: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> statistics: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let room = p.size - min(p.size, atomicLoad(&statistics[0]) + atomicLoad(&statistics[1]));
    for (var q = (group.x + p.grid.x) * 64u + lane.x; q < p.size; q += p.threads) {
        if (flags[q] != 0u && ranks[q] < room) {
            let id = draws[q];
            atomicOr(&marks[id / 32u], 1u << (id % 32u));
            atomicAdd(&statistics[2], 1u);
        }
    }
}
