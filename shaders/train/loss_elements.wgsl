// Losses of elements, and their gradient: MSE (x - t)^2 and 2 (x - t) / n; BCE on logits max(x, 0) - x t + log(1 + exp(-|x|))
//   and (sigmoid(x) - t) / n, with n the elements of a slot.
//
// Buffers (f32): x, gradient [slots, rows, F], targets [slots or 1, rows, F], rows with pitch p.pitch, by vectors of four;
//   scratch [slots, 3, pieces]: of each piece of 64 elements of a row the sum of losses, how many are correct (BCE: x > 0
//   and t > 1/2 agree; MSE: 0), and how many there are, in planes of p.plane elements. Strides between slots in elements.
// An invocation has a piece: four partial sums in ascending order, so the order depends on F alone.
// Precision: MSE two roundings and the sum's depth 16 + 2; BCE: exp 3 + 2 |x| ulp, below exp = 1/64 the series of log(1 + e)
//   to e^4 (what is left out is below 2e-8 of it), else WGSL's log (2^-21); the quotient 2.5 ulp. No exponent is positive:
//   nothing overflows.
// Undefined: NaN and infinity stay in their piece. Padding is not used; that of the gradient becomes 0.
// Geometry: workgroup (64,1,1), grid-stride over pieces; y covers slots with stride p.slot_step.
// Races: an invocation writes its own vectors and pieces. Bounds: guarded by pieces, F and slots.
// Tried: nothing else.

#import "lib/smooth"

struct Params {
    grid: vec4<u32>,
    pieces: u32, of_row: u32, columns: u32, pitch: u32,
    threads: u32, slots: u32, slot_step: u32, stride_x: u32,
    stride_targets: u32, stride_gradient: u32, stride_scratch: u32, plane: u32,
    elements: f32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> targets: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> scratch: array<f32>;
#ifdef GRADIENT
@group(0) @binding(3) var<storage, read_write> gradient: array<vec4<f32>>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

// log(1 + e) for e in [0, 1].
fn log_one_plus(e: vec4<f32>) -> vec4<f32> {
    let series = e * (1.0 - e * (0.5 - e * (1.0 / 3.0 - e * 0.25)));
    return select(log(1.0 + e), series, e < vec4<f32>(0.015625));
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let quads = (p.columns + 3u) / 4u;
    for (var b = group.y + p.grid.y; b < p.slots; b += p.slot_step) {
        for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.pieces; i += p.threads) {
            let row = i / p.of_row * p.pitch;
            let first = i % p.of_row * 16u;
            let end = min(first + 16u, quads);
            var sum = vec4<f32>(0.0);
            var correct = vec4<f32>(0.0);
            for (var q = first; q < end; q++) {
                let x = xs[(b * p.stride_x + row) / 4u + q];
                let t = targets[(b * p.stride_targets + row) / 4u + q];
                let inside = vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.columns);
#ifdef LOGITS
                let loss = (max(x, vec4<f32>(0.0)) - x * t) + log_one_plus(exp(-abs(x)));
                let agree = (x > vec4<f32>(0.0)) == (t > vec4<f32>(0.5));
                correct += select(vec4<f32>(0.0), vec4<f32>(1.0), agree & inside);
#else
                let loss = (x - t) * (x - t);
#endif
                sum += select(vec4<f32>(0.0), loss, inside);
#ifdef GRADIENT
#ifdef LOGITS
                let g = (sigmoid_of(x) - t) / p.elements;
#else
                let g = 2.0 * (x - t) / p.elements;
#endif
                gradient[(b * p.stride_gradient + row) / 4u + q] = select(vec4<f32>(0.0), g, inside);
#endif
            }
            let to = b * p.stride_scratch + i;
            scratch[to] = (sum.x + sum.y) + (sum.z + sum.w);
            scratch[to + p.plane] = (correct.x + correct.y) + (correct.z + correct.w);
            scratch[to + 2u * p.plane] = f32(min(end * 4u, p.columns) - first * 4u);
        }
    }
}
