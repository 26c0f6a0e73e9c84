// From numbers of channels to numbers of groups of channels; every channel of a group gets the same.
//   (no flag)  x = (mean, variance) of each channel over R pixels: mean = average of the means, out = (mean, 1 /
//              sqrt(average of variance + (channel's mean - mean)^2 + eps));
//   GRADIENT   x = (sum g h, sum g) of each channel: out = (k1, k0), the averages of scale g h and scale g over the
//              group's elements.
//
// Buffers (f32): x, out [slots samples, 2, n]; GRADIENT: affine [slots, 2, n] (row 0 scale). Rows have p.pitch elements.
// Precision: depth p.size + 2 of each average, in ascending order of channels; inverseSqrt 2 ulp.
// Undefined: NaN and infinity, which stay in their own sample and group; padding columns of out stay as they are.
// Geometry: workgroup (64,1,1), an invocation a channel; x covers channels, y samples with a stride. Bounds: guarded by n.
// Races: an invocation writes its own two elements.

struct Params {
    grid: vec4<u32>,
    n: u32, size: u32, count: u32, samples: u32,
    pitch: u32, slot_x: u32, slot_out: u32, slot_affine: u32,
    // 1 / channels of a group or, for the gradient, 1 / elements of a group.
    inverse: f32, eps: f32, step: u32, pad0: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
#ifdef GRADIENT
@group(0) @binding(1) var<storage, read_write> affine: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
#else
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let channel = (group.x + p.grid.x) * 64u + lane.x;
    if (channel >= p.n) {
        return;
    }
    let first = channel / p.size * p.size;
    for (var s = group.y + p.grid.y; s < p.count; s += p.step) {
        let base = s * p.slot_x + first;
        var one = 0.0;
        var two = 0.0;
#ifdef GRADIENT
        let scales = s / p.samples * p.slot_affine + first;
        for (var i = 0u; i < p.size; i++) {
            one = fma(affine[scales + i], x[base + i], one);
            two = fma(affine[scales + i], x[base + p.pitch + i], two);
        }
        one *= p.inverse;
        two *= p.inverse;
#else
        // Differences from the first channel: a mean far from 0 costs no digits.
        let origin = x[base];
        for (var i = 1u; i < p.size; i++) {
            one += x[base + i] - origin;
        }
        one *= p.inverse;
        for (var i = 0u; i < p.size; i++) {
            let d = (x[base + i] - origin) - one;
            two += fma(d, d, x[base + p.pitch + i]);
        }
        one += origin;
        two = inverseSqrt(fma(two, p.inverse, p.eps));
#endif
        out[s * p.slot_out + channel] = one;
        out[s * p.slot_out + p.pitch + channel] = two;
    }
}
