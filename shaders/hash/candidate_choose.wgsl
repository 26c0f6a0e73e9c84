// The candidates whose key is below that in state, or all of them, into the active set; statistics[1] counts them.
//
// Buffers (u32): found: bits of labels that are candidates; state [4]: room, all, major, minor; marks: bits of the active set;
//   statistics [4]; values [labels] for MOST and FIRST.
// Precision: exact. Undefined: nothing.
// Geometry: workgroup (64,1,1), grid-stride over words. Bounds: guarded by words.
// Races: an invocation has its own words of set; atomic add of integers. Tried: nothing else.

#import "lib/candidates"

@group(0) @binding(0) var<storage, read_write> found: array<u32>;
@group(0) @binding(1) var<storage, read_write> state: array<u32>;
@group(0) @binding(2) var<storage, read_write> marks: array<u32>;
@group(0) @binding(3) var<storage, read_write> statistics: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> values: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let all = state[1] != 0u;
    for (var w = (group.x + p.grid.x) * 64u + lane.x; w < p.words; w += p.threads) {
        var rest = found[w];
        var chosen = 0u;
        while (rest != 0u) {
            let at = countTrailingZeros(rest);
            rest &= rest - 1u;
            let value = values[w * 32u + at];
            let major = major_key(value);
            let minor = minor_key(w * 32u + at, value);
            let better = major < state[2] || (major == state[2] && minor < state[3]);
            chosen |= select(0u, 1u << at, all || better);
        }
        if (chosen != 0u) {
            marks[w] |= chosen;
            atomicAdd(&statistics[1], countOneBits(chosen));
        }
    }
}
