// A function of one int8 code as a table: destination = table[source + 128] for every code.
//
// Buffers: source and destination, words of 4 codes, low bits first; table [64], the codes for -128, -127, .. 127, 4 a word.
// Precision: exact. Undefined: codes behind the channels.
// Geometry: workgroup (64,1,1), grid-stride over words.
// Races: every word has one invocation. Bounds: guarded by p.words; an index is 0 to 255 by construction.

struct Params {
    grid: vec4<u32>,
    words: u32, threads: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> table: array<u32>;
@group(0) @binding(2) var<storage, read_write> destination: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var n = (group.x + p.grid.x) * 64u + lane.x; n < p.words; n += p.threads) {
        // Codes as numbers from 0 on.
        let word = source[n] ^ 0x80808080u;
        var found = 0u;
#unroll i 0 4
        let index${i} = (word >> (8u * ${i}u)) & 255u;
        found |= ((table[index${i} / 4u] >> (8u * (index${i} & 3u))) & 255u) << (8u * ${i}u);
#endunroll
        destination[n] = found;
    }
}
