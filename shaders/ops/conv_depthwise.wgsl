// out[b, y, x, c] = act(bias[c] + sum over taps (i, j) of x[b, source(y, i), source(x, j), c] w[i, j, c]): a convolution in
// which every channel is a group of its own, forward and transposed (lib/conv.wgsl).
//
// Buffers (f32, channels last, pixels and weight rows start at multiples of 4):  x [slots, batch, in_h, in_w, n];
//   w [slots, kernel_h, kernel_w, 1, n], the same for both directions;  out [slots, batch, out_h, out_w, n];  bias [slots, n] if
//   p.flags & BIAS. A slot stride of 0 shares an operand.
// Precision: at most kernel_h kernel_w roundings of unit 2^-23 on any one term, and one of the bias; taps in ascending order.
// Undefined: contents of padding channels; NaN and infinity in the operands.
// Geometry: workgroup (64,1,1), an invocation computes four channels of one pixel; x covers pixels of a phase and their
//   vectors, grid-stride by p.lanes; z covers slots and phases. Bounds: the loop ends at the last vector; stores are guarded
//   by out_h, out_w.
// Races: an invocation writes its own vectors.
// Tried: nothing else; bound by memory, not by arithmetic.

#import "lib/conv"
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> w: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> bias: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let phases = p.spacing_y * p.spacing_x;
    let slot = at.z / phases;
    let phase_y = at.z % phases / p.spacing_x;
    let phase_x = at.z % phases % p.spacing_x;
    let taps_y = rows_of(phase_y);
    let taps_x = columns_of(phase_x);
    let width4 = (p.n + 3u) / 4u;
    for (var item = at.x * 64u + lane.x; item < p.rows * width4; item += p.lanes) {
        let vector = divided(item, width4);
        let column = vector.y;
        let place = place_of(vector.x);
        let out_y = place.y * p.spacing_y + phase_y;
        let out_x = place.z * p.spacing_x + phase_x;
        if (out_y >= p.out_h || out_x >= p.out_w) {
            continue;
        }
        let y0 = i32(place.y * p.read_y) + taps_y.start;
        let x0 = i32(place.z * p.read_x) + taps_x.start;
        var s = vec4<f32>(0.0);
        for (var ti = 0u; ti < taps_y.count; ti++) {
            for (var tj = 0u; tj < taps_x.count; tj++) {
                let y = y0 + i32(ti) * p.move_y;
                let x_ = x0 + i32(tj) * p.move_x;
                if (inside(y, x_)) {
                    let from_pixel = slot * p.slot_x + place.x * p.stride_x + bitcast<u32>(y * i32(p.in_w) + x_) * p.ld_x;
                    let tap = (taps_y.first + ti * p.step_y) * p.kernel_w + taps_x.first + tj * p.step_x;
                    s = fma(x[from_pixel / 4u + column], w[slot * p.slot_w / 4u + tap * (p.ld_w / 4u) + column], s);
                }
            }
        }
        if ((p.flags & BIAS) != 0u) {
            let b = slot * p.slot_bias + min(vec4<u32>(column * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.n - 1u));
            s += vec4<f32>(bias[b.x], bias[b.y], bias[b.z], bias[b.w]);
        }
        if ((p.flags & RELU) != 0u) {
            s = max(s, vec4<f32>(0.0));
        }
        out[(slot * p.slot_out + place.x * p.stride_out + (out_y * p.out_w + out_x) * p.ld_out) / 4u + column] = s;
    }
}
