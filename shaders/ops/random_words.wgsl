// out[b, i] = word i % 4 of Philox4x32-10 at counter (p.first + i / 4, p.layer, step of slot b, p.purpose) with the key of
//   slot b.
//
// Buffers (u32): streams [slots, 4] (key low, key high, step, live), slots p.stride_streams words apart; out [slots, n] by
//   vectors of four, slots p.stride_out vectors apart. The draw of a slot knows nothing of its place or of other slots.
// Precision: exact. Undefined: nothing; padding behind a slot's row gets words too.
// Geometry: workgroup (64,1,1), grid-stride over a slot's vectors; y covers slots with stride p.slot_step.
// Bounds: guarded by p.quads and p.slots. Races: an invocation writes its own vectors.
// Tried: nothing else; ten rounds are 80 products of 16 bits for four words.

#import "lib/philox"

struct Params {
    grid: vec4<u32>,
    quads: u32, threads: u32, slots: u32, slot_step: u32,
    stride_streams: u32, stride_out: u32, layer: u32, purpose: u32,
    first: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> streams: array<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var b = group.y + p.grid.y; b < p.slots; b += p.slot_step) {
        let stream = b * p.stride_streams;
        let key = vec2<u32>(streams[stream], streams[stream + 1u]);
        let step = streams[stream + 2u];
        for (var q = (group.x + p.grid.x) * 64u + lane.x; q < p.quads; q += p.threads) {
            out[b * p.stride_out + q] = philox(vec4<u32>(p.first + q, p.layer, step, p.purpose), key);
        }
    }
}
