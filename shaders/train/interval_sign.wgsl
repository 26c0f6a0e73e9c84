// gradient += sign(w) share: what the gradient for |w| adds to that for w; 0 where w is 0.
//
// Buffers (f32, vectors of four): weights, shares, gradients [slots, words], a field of a table each. Strides between slots in
//   vectors.
// Precision: one rounding. Undefined: NaN and infinity stay in their element. Padding is treated like everything else.
// Geometry: workgroup (64,1,1), grid-stride over a slot's vectors; y covers slots with stride p.slot_step.
// Races: an invocation reads and writes its own vectors. Bounds: guarded by p.quads and p.slots.
// Tried: nothing else; it is bound by memory.

struct Params {
    grid: vec4<u32>,
    quads: u32, threads: u32, slots: u32, slot_step: u32,
    stride_x: u32, stride_r: u32, stride_out_x: u32, stride_out_r: u32,
    stride_g: u32, stride_gr: u32, stride_c: u32, column: u32,
}
@group(0) @binding(0) var<storage, read_write> weights: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> shares: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> gradients: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var b = group.y + p.grid.y; b < p.slots; b += p.slot_step) {
        for (var q = (group.x + p.grid.x) * 64u + lane.x; q < p.quads; q += p.threads) {
            let to = b * p.stride_out_x + q;
            gradients[to] += sign(weights[b * p.stride_x + q]) * shares[b * p.stride_r + q];
        }
    }
}
