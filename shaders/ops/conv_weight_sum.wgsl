// dw[s, i] = sum over chunks of planes[s, chunk, i], chunks in ascending order: the end of the gradient of a convolution's
// weight.
//
// Buffers (f32, whole vectors of four): planes [slots, chunks, plane]; dw [slots, plane], slots p.slot_w vectors apart.
// Precision: at most p.chunks - 1 roundings of unit 2^-23 on any one term; the planes were stored by another dispatch.
// Undefined: NaN and infinity in the planes of a slot. Padding of planes is 0, and so is that of dw.
// Geometry: workgroup (64,1,1), x covers the vectors of a plane, grid-stride by p.threads; y covers slots.
// Bounds: the loop ends at the last vector. Races: an invocation writes its own vectors.
// Tried: nothing else; bound by memory.

struct Params {
    grid: vec4<u32>,
    plane: u32, chunks: u32, slot_w: u32, threads: u32,
}
@group(0) @binding(0) var<storage, read_write> planes: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> dw: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    for (var i = at.x * 64u + lane.x; i < p.plane; i += p.threads) {
        let first = at.y * p.chunks * p.plane + i;
        var s = planes[first];
        for (var chunk = 1u; chunk < p.chunks; chunk++) {
            s += planes[first + chunk * p.plane];
        }
        dw[at.y * p.slot_w + i] = s;
    }
}
