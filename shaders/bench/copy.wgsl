// out[i] = x[i]: how fast this device moves memory from kernels, the roof of every kernel that does little else.
//
// Buffers: x and out, `p.len` elements of 16 bytes, or of 4 bytes with WORDS (some devices prefer the one, some the other).
// Traffic: every element is read once and written once; a rate counts both.
// Precision: exact (words are moved as bits). With len = 0 nothing happens: what a dispatch costs by itself.
// Geometry: workgroup (64,1,1), grid-stride over p.len elements. Races: an invocation writes its own elements.
// Bounds: guarded by p.len, which the host takes from the buffers.

struct Params {
    grid: vec4<u32>,
    len: u32, threads: u32, pad0: u32, pad1: u32,
}
#ifdef WORDS
@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
#else
@group(0) @binding(0) var<storage, read_write> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<u32>>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.len; i += p.threads) {
        out[i] = x[i];
    }
}
