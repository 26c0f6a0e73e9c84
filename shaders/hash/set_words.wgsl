// counts[w] = the number of bits of marks[w]: what a scan makes the places of an active set's ids of.
//
// Buffers (u32): marks, counts [words]. Precision: exact. Undefined: nothing.
// Geometry: workgroup (64,1,1), grid-stride over words. Bounds: guarded by words. Races: an invocation writes its own words.
// Not tried: flags of a word a label: 32 times the bytes.

struct Params {
    grid: vec4<u32>,
    words: u32, threads: u32, size: u32, pad0: u32,
}
@group(0) @binding(0) var<storage, read_write> marks: array<u32>;
@group(0) @binding(1) var<storage, read_write> counts: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var w = (group.x + p.grid.x) * 64u + lane.x; w < p.words; w += p.threads) {
        counts[w] = countOneBits(marks[w]);
    }
}
