// out[b, y, x, c] = maximum or mean over taps (i, j) of src[b, y s_y - p_y + i d_y, x s_x - p_x + j d_x, c].
//
// Taps outside of the image do not count; with p.flags & WHOLE a mean still divides by the whole window (ONNX's
// count_include_pad). A window without any tap inside gives -3.4e38 (MAX) or 0.
// Buffers (f32, channels last, pixels start at multiples of 4):  src [batch, in_h, in_w, n];  out [batch, out_h, out_w, n].
// Precision: a maximum is exact; a mean has a rounding a tap, in ascending order, and 2.5 ulp of the division.
// Undefined: contents of padding channels; NaN and infinity.
// Geometry: workgroup (64,1,1), an invocation computes four channels of one pixel, grid-stride over p.len.
// Bounds: taps are tested against the image; the loop ends at p.len. Races: an invocation writes its own vectors.
// Tried: nothing else; bound by memory.

struct Params {
    grid: vec4<u32>,
    len: u32, threads: u32, width4: u32, flags: u32,
    in_h: u32, in_w: u32, out_h: u32, out_w: u32,
    kernel_h: u32, kernel_w: u32, stride_y: u32, stride_x: u32,
    pad_y: u32, pad_x: u32, dilation_y: u32, dilation_x: u32,
}
const WHOLE = 1u;
@group(0) @binding(0) var<storage, read_write> src: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var item = (group.x + p.grid.x) * 64u + lane.x; item < p.len; item += p.threads) {
        let column = item % p.width4;
        let pixel = item / p.width4;
        let x0 = i32(pixel % p.out_w * p.stride_x) - i32(p.pad_x);
        let y0 = i32(pixel / p.out_w % p.out_h * p.stride_y) - i32(p.pad_y);
        let sample = pixel / p.out_w / p.out_h;
#ifdef MAX
        var s = vec4<f32>(-3.4e38);
#else
        var s = vec4<f32>(0.0);
#endif
        var count = 0u;
        for (var i = 0u; i < p.kernel_h; i++) {
            for (var j = 0u; j < p.kernel_w; j++) {
                let y = bitcast<u32>(y0 + i32(i * p.dilation_y));
                let x = bitcast<u32>(x0 + i32(j * p.dilation_x));
                if (y < p.in_h && x < p.in_w) {
                    let value = src[((sample * p.in_h + y) * p.in_w + x) * p.width4 + column];
#ifdef MAX
                    s = max(s, value);
#else
                    s += value;
                    count++;
#endif
                }
            }
        }
#ifndef MAX
        if ((p.flags & WHOLE) != 0u) {
            count = p.kernel_h * p.kernel_w;
        }
        s = s / f32(max(count, 1u));
#endif
        out[item] = s;
    }
}
