// out[b, i] = x[b, i] * scale where the random word of element i is at or above the threshold, else 0;
//   threshold = rate 2^24, scale = 1 / (1 - rate). Srivastava et al. (JMLR 2014) in the inverted form. The same call with a
//   gradient for x is its gradient.
//
// Buffers: x, out [slots, ...] (f32, moved by vectors of four, padding of rows included); streams [slots, 4] (u32: key low,
//   key high, step, live); with PER_SLOT table [slots, ...] (f32) whose columns p.column and p.column + 1 hold rate and
//   scale of a slot. Strides between slots: p.stride_x and p.stride_out in vectors, p.stride_streams and p.stride_table in
//   elements.
// Element i counts the slot's memory from its start, so the mask depends on key, step and layer (p.layer) alone:
//   Philox4x32-10 at counter (i / 4, layer, step, purpose), the upper 24 bits of word i % 4. With CHANNELS all pixels of a
//   sample share the word of their channel: i counts sample * channels + channel.
// Precision: one rounding of the product. A threshold of 0 moves bits: rate 0 is the identity.
// Undefined: infinity and NaN in x stay where they are kept and are 0 where they are dropped.
// Geometry: workgroup (64,1,1), grid-stride over the vectors of a slot; y covers slots with stride p.slot_step.
// Races: an invocation writes its own vectors; IN_PLACE binds out only. Bounds: guarded by p.quads and p.slots.
// Tried: nothing else. The ten rounds of the generator are most of it; a stored mask would cost a read and memory instead.

#import "lib/philox"

struct Params {
    grid: vec4<u32>,
    quads: u32, threads: u32, slots: u32, slot_step: u32,
    stride_x: u32, stride_out: u32, stride_streams: u32, stride_table: u32,
    sample_quads: u32, channel_quads: u32, layer: u32, purpose: u32,
    column: u32, threshold: u32, scale: f32, pad: u32,
}
@group(0) @binding(0) var<storage, read_write> streams: array<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<u32>>;
#ifndef IN_PLACE
@group(0) @binding(2) var<storage, read_write> xs: array<vec4<u32>>;
#endif
#ifdef PER_SLOT
@group(0) @binding(${PER_SLOT}) var<storage, read_write> table: array<f32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var b = group.y + p.grid.y; b < p.slots; b += p.slot_step) {
        let stream = b * p.stride_streams;
        let key = vec2<u32>(streams[stream], streams[stream + 1u]);
        let step = streams[stream + 2u];
#ifdef PER_SLOT
        // The product with a power of two is exact.
        let threshold = u32(ceil(table[b * p.stride_table + p.column] * 16777216.0));
        let scale = table[b * p.stride_table + p.column + 1u];
#else
        let threshold = p.threshold;
        let scale = p.scale;
#endif
        for (var q = (group.x + p.grid.x) * 64u + lane.x; q < p.quads; q += p.threads) {
            let to = b * p.stride_out + q;
#ifdef IN_PLACE
            let bits = out[to];
#else
            let bits = xs[b * p.stride_x + q];
#endif
#ifdef CHANNELS
            let draw = (q / p.sample_quads) * p.channel_quads + q % p.channel_quads;
#else
            let draw = q;
#endif
            let kept = (philox(vec4<u32>(draw, p.layer, step, p.purpose), key) >> vec4<u32>(8u)) >= vec4<u32>(threshold);
            let scaled = bitcast<vec4<u32>>(bitcast<vec4<f32>>(bits) * scale);
            out[to] = select(select(vec4<u32>(0u), scaled, kept), bits, threshold == 0u);
        }
    }
}
