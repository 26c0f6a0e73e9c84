// kept[b, c] = ids[b, c] where it is a label that no other column of row b keeps, 0xffffffff elsewhere; count[b] = how many are kept.
//
// Buffers (u32): ids and kept [samples, candidates], both with row stride p.ld; seen [samples, words] (row stride p.ld_seen), a bit a label,
//   zeros before; count [samples], zeros before.
// Which of equal columns keeps its label is decided by who comes first (an atomic or), so kept may differ between runs. The *set* that
//   a row keeps and its size do not, and nothing that is computed of them depends on the column.
// Precision: exact. Undefined: padding columns.
// Geometry: workgroup (64,1,1), grid-stride over p.len = samples * candidates.
// Bounds: ids are compared with p.labels. Races: integer atomics on seen and count whose results are order-free; own elements of kept.
// Tried: nothing else. Sorting a row costs more than its bits, which are 84 KB a sample at 670,091 labels.

struct Params {
    grid: vec4<u32>,
    len: u32, threads: u32, candidates: u32, ld: u32,
    ld_seen: u32, labels: u32, pad0: u32, pad1: u32,
}
const NOTHING = 0xffffffffu;
@group(0) @binding(0) var<storage, read_write> ids: array<u32>;
@group(0) @binding(1) var<storage, read_write> seen: array<atomic<u32>>;
@group(0) @binding(2) var<storage, read_write> kept: array<u32>;
@group(0) @binding(3) var<storage, read_write> count: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var item = (group.x + p.grid.x) * 64u + lane.x; item < p.len; item += p.threads) {
        let sample = item / p.candidates;
        let place = sample * p.ld + item % p.candidates;
        let id = ids[place];
        var keeps = NOTHING;
        if (id < p.labels) {
            let bit = 1u << (id % 32u);
            if ((atomicOr(&seen[sample * p.ld_seen + id / 32u], bit) & bit) == 0u) {
                keeps = id;
                atomicAdd(&count[sample], 1u);
            }
        }
        kept[place] = keeps;
    }
}
