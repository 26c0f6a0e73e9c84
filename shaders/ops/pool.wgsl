// out[b, y, x, c] = maximum or mean over taps (i, j) of src[b, y s_y - p_y + i d_y, x s_x - p_x + j d_x, c]; ADAPTIVE has
// windows of its own (lib/pool.wgsl). WINNERS also writes the number of the tap that a maximum was taken from: the first of
// the largest.
//
// Taps outside of the image do not count; with p.flags & WHOLE a mean still divides by the whole window (ONNX's
// count_include_pad). A window without any tap inside gives -3.4e38 (MAX) or 0, and 2^32 - 1 as winner.
// Buffers (f32, channels last, pixels start at multiples of 4):  src [batch, in_h, in_w, n];  out [batch, out_h, out_w, n];
//   with WINNERS winners (u32) in the shape of out.
// Precision: a maximum is exact; a mean has a rounding a tap, in ascending order, and 2.5 ulp of the division.
// Undefined: contents of padding channels; NaN and infinity.
// Geometry: workgroup (64,1,1), an invocation computes four channels of one pixel, grid-stride over p.len.
// Bounds: taps are tested against the image; the loop ends at p.len. Races: an invocation writes its own vectors.
// Tried: nothing else; bound by memory.

#import "lib/pool"
@group(0) @binding(0) var<storage, read_write> src: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;
#ifdef WINNERS
@group(0) @binding(2) var<storage, read_write> winners: array<vec4<u32>>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var item = (group.x + p.grid.x) * 64u + lane.x; item < p.len; item += p.threads) {
        let place = place_of(item, p.out_h, p.out_w);
        let column = place.x;
        let columns = span_x(place.y);
        let rows = span_y(place.z);
        let sample = place.w;
#ifdef MAX
        var s = vec4<f32>(-3.4e38);
#else
        var s = vec4<f32>(0.0);
#endif
#ifdef WINNERS
        var winner = vec4<u32>(NONE);
#endif
        var count = 0u;
        for (var i = 0; i < rows.y; i++) {
            for (var j = 0; j < columns.y; j++) {
                let y = bitcast<u32>(rows.x + i * i32(p.dilation_y));
                let x = bitcast<u32>(columns.x + j * i32(p.dilation_x));
                if (y < p.in_h && x < p.in_w) {
                    let value = src[((sample * p.in_h + y) * p.in_w + x) * p.width4 + column];
#ifdef WINNERS
                    let better = (value > s) | (winner == vec4<u32>(NONE));
                    s = select(s, value, better);
                    winner = select(winner, vec4<u32>(u32(i * columns.y + j)), better);
#else
#ifdef MAX
                    s = max(s, value);
#else
                    s += value;
                    count++;
#endif
#endif
                }
            }
        }
#ifndef MAX
        if ((p.flags & WHOLE) != 0u) {
            count = u32(rows.y * columns.y);
        }
        s = s / f32(max(count, 1u));
#endif
        out[item] = s;
#ifdef WINNERS
        winners[item] = winner;
#endif
    }
}
