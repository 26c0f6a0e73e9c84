// ReLU of numbers and of intervals (Gowal et al., 2018): x to max(x, 0); centre c and radius r to those of
//   [max(c - r, 0), max(c + r, 0)]. GRADIENT: what comes from above for all three, taken back:
//   gx [x > 0];  gl = (gc - gr) / 2 [c - r > 0], gu = (gc + gr) / 2 [c + r > 0];  gl + gu for c, gu - gl for r.
//
// Buffers (f32, vectors of four): both [slots, 2 words], numbers and then centres, radii [slots, words], from in front of the
//   ReLU; out_both, out_radii alike; with GRADIENT g_both, g_radii from above and out_both, out_radii the gradients below.
//   Strides between slots in vectors.
// Precision: two roundings an output. A slope at exactly 0 is 0.
// Undefined: NaN and infinity stay in their element and its partners. Padding is treated like everything else.
// Geometry: workgroup (64,1,1), grid-stride over a slot's vectors; y covers slots with stride p.slot_step.
// Races: an invocation writes its own vectors. Bounds: guarded by p.quads and p.slots.
// Tried: nothing else; it is bound by memory.

struct Params {
    grid: vec4<u32>,
    quads: u32, threads: u32, slots: u32, slot_step: u32,
    stride_x: u32, stride_r: u32, stride_out_x: u32, stride_out_r: u32,
    stride_g: u32, stride_gr: u32, stride_c: u32, column: u32,
}
@group(0) @binding(0) var<storage, read_write> both: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> radii: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out_both: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> out_radii: array<vec4<f32>>;
#ifdef GRADIENT
@group(0) @binding(4) var<storage, read_write> g_both: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> g_radii: array<vec4<f32>>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let zero = vec4<f32>(0.0);
    for (var b = group.y + p.grid.y; b < p.slots; b += p.slot_step) {
        for (var q = (group.x + p.grid.x) * 64u + lane.x; q < p.quads; q += p.threads) {
            let x = both[b * p.stride_x + q];
            let c = both[b * p.stride_x + p.quads + q];
            let r = radii[b * p.stride_r + q];
            let to = b * p.stride_out_x + q;
#ifdef GRADIENT
            let gx = g_both[b * p.stride_g + q];
            let gc = g_both[b * p.stride_g + p.quads + q];
            let gr = g_radii[b * p.stride_gr + q];
            let low = select(zero, 0.5 * (gc - gr), c - r > zero);
            let high = select(zero, 0.5 * (gc + gr), c + r > zero);
            out_both[to] = select(zero, gx, x > zero);
            out_both[to + p.quads] = low + high;
            out_radii[b * p.stride_out_r + q] = high - low;
#else
            let low = max(c - r, zero);
            let high = max(c + r, zero);
            out_both[to] = max(x, zero);
            out_both[to + p.quads] = 0.5 * (high + low);
            out_radii[b * p.stride_out_r + q] = 0.5 * (high - low);
#endif
        }
    }
}
