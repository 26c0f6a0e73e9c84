// One level of the choice of the best candidates: bins[d] += how many candidates, of those whose key agrees with the digits that are
// settled, have digit d. lib/candidates says what the key is; level 0 is its major word, later ones are digits of the minor word.
//
// Buffers (u32): found: bits of labels that are candidates; state [4]: room, all, major, minor; bins [2048], zeros before;
//   values [labels] for MOST and FIRST.
// Precision: exact. Undefined: nothing.
// Geometry: workgroup (64,1,1), grid-stride over words of found. Bounds: guarded by words; a digit is below 2^width <= 2048.
// Races: atomic add of integers. Not tried: a sort of all candidates moves each three times.

#import "lib/candidates"

@group(0) @binding(0) var<storage, read_write> found: array<u32>;
@group(0) @binding(1) var<storage, read_write> state: array<u32>;
@group(0) @binding(2) var<storage, read_write> bins: array<atomic<u32>>;
@group(0) @binding(3) var<storage, read_write> values: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    if (state[1] != 0u) {
        return;
    }
    let settled = p.shift + p.width;
    for (var w = (group.x + p.grid.x) * 64u + lane.x; w < p.words; w += p.threads) {
        var rest = found[w];
        while (rest != 0u) {
            let id = w * 32u + countTrailingZeros(rest);
            rest &= rest - 1u;
            let value = values[id];
            let major = major_key(value);
            if (p.level == 0u) {
                atomicAdd(&bins[major], 1u);
            } else if (major == state[2]) {
                let minor = minor_key(id, value);
                if ((minor >> settled) == (state[3] >> settled)) {
                    atomicAdd(&bins[(minor >> p.shift) & ((1u << p.width) - 1u)], 1u);
                }
            }
        }
    }
}
