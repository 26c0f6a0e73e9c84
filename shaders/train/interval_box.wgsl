// The box around inputs, as centre and radius (Gowal et al., 2018): v = clamp(x, 0, 1), l = max(v - eps, 0),
//   u = min(v + eps, 1), both = [x | (u + l) / 2], radii = (u - l) / 2, with eps the slot's own.
//
// Buffers (f32, vectors of four): inputs [slots, words]; both [slots, 2 words], inputs and then centres; radii [slots, words];
//   coefficients [slots, ...] (f32 elements, p.stride_c apart), eps in column p.column. Strides between slots in vectors.
// Precision: two roundings, one more for each half. With eps = 0 the centre is v and the radius 0, both exactly.
// Undefined: NaN and infinity stay in their element. Padding is treated like everything else.
// Geometry: workgroup (64,1,1), grid-stride over a slot's vectors; y covers slots with stride p.slot_step.
// Races: an invocation writes its own vectors. Bounds: guarded by p.quads and p.slots.
// Tried: nothing else; it is bound by memory.

struct Params {
    grid: vec4<u32>,
    quads: u32, threads: u32, slots: u32, slot_step: u32,
    stride_x: u32, stride_r: u32, stride_out_x: u32, stride_out_r: u32,
    stride_g: u32, stride_gr: u32, stride_c: u32, column: u32,
}
@group(0) @binding(0) var<storage, read_write> inputs: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> coefficients: array<f32>;
@group(0) @binding(2) var<storage, read_write> both: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> radii: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var b = group.y + p.grid.y; b < p.slots; b += p.slot_step) {
        let eps = coefficients[b * p.stride_c + p.column];
        for (var q = (group.x + p.grid.x) * 64u + lane.x; q < p.quads; q += p.threads) {
            let x = inputs[b * p.stride_x + q];
            let v = clamp(x, vec4<f32>(0.0), vec4<f32>(1.0));
            let low = max(v - eps, vec4<f32>(0.0));
            let high = min(v + eps, vec4<f32>(1.0));
            both[b * p.stride_out_x + q] = x;
            both[b * p.stride_out_x + p.quads + q] = 0.5 * (high + low);
            radii[b * p.stride_out_r + q] = 0.5 * (high - low);
        }
    }
}
