// dx[b, y, x, c] = sum over the windows (v, u) of a pool (pool.wgsl) that hold (y, x) of the share that it has of g[b, v, u,
// c]: g divided by the window's count for a mean; with WINNERS all of it if (y, x) is the tap that the maximum was taken
// from, else nothing.
//
// Only windows that hold the pixel are looked at, so the cost is their number: one for a pool over everything, whatever its size.
// Buffers (f32, channels last, pixels start at multiples of 4):  g [batch, out_h, out_w, n];  dx [batch, in_h, in_w, n];
//   with WINNERS winners (u32) in the shape of g, as pool.wgsl wrote them.
// Precision: 2.5 ulp of a mean's division and a rounding a window that holds (y, x), in ascending order of windows.
// Undefined: contents of padding channels; NaN and infinity.
// Geometry: workgroup (64,1,1), an invocation computes four channels of one source pixel, grid-stride over p.len.
// Bounds: windows end at the last one of either axis. Races: an invocation writes its own vectors.
// Tried: the processor's integer division, 1.2 to 2.8 times slower on a software device; max_pool_gradient.wgsl looks for
// winners again and needs no index, at the square of the window's cost.

#import "lib/pool"
@group(0) @binding(0) var<storage, read_write> g: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> dx: array<vec4<f32>>;
#ifdef WINNERS
@group(0) @binding(2) var<storage, read_write> winners: array<vec4<u32>>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

// Along one axis the first window that may hold a place, and the one behind the last.
fn holders_of(place: u32, sizes: vec2<u32>, axis: vec4<u32>) -> vec2<u32> {
#ifdef ADAPTIVE
    return vec2<u32>(quotient(place * sizes.y, sizes.x), quotient((place + 1u) * sizes.y + sizes.x - 1u, sizes.x));
#else
    let at = place + axis.z;
    let reach = (axis.x - 1u) * axis.w;
    let first = quotient(max(at, reach) - reach + axis.y - 1u, axis.y);
    return vec2<u32>(first, min(quotient(at, axis.y) + 1u, sizes.y));
#endif
}

// The tap of a window at a place from its start on, or a negative number.
fn tap_of(distance: i32, dilation: u32) -> i32 {
    let tap = divided(u32(distance), dilation);
    return select(-1, i32(tap.x), tap.y == 0u);
}

// Taps of a window inside of the image, at least one; all of them with WHOLE.
fn taps_of(span: vec2<i32>, size: u32, dilation: u32) -> i32 {
    if ((p.flags & WHOLE) != 0u) {
        return span.y;
    }
    let first = quotient(u32(max(-span.x, 0)) + dilation - 1u, dilation);
    let last = min(quotient(u32(i32(size) - 1 - span.x), dilation), u32(span.y - 1));
    return i32(last - first + 1u);
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var item = (group.x + p.grid.x) * 64u + lane.x; item < p.len; item += p.threads) {
        let place = place_of(item, p.in_h, p.in_w);
        let column = place.x;
        let x = place.y;
        let y = place.z;
        let sample = place.w;
        let axis_y = vec4<u32>(p.kernel_h, p.stride_y, p.pad_y, p.dilation_y);
        let axis_x = vec4<u32>(p.kernel_w, p.stride_x, p.pad_x, p.dilation_x);
        let rows = holders_of(y, vec2<u32>(p.in_h, p.out_h), axis_y);
        let columns = holders_of(x, vec2<u32>(p.in_w, p.out_w), axis_x);
        var s = vec4<f32>(0.0);
        for (var v = rows.x; v < rows.y; v++) {
            let of_v = span_y(v);
            let i = tap_of(i32(y) - of_v.x, p.dilation_y);
            for (var u = columns.x; u < columns.y; u++) {
                let of_u = span_x(u);
                let j = tap_of(i32(x) - of_u.x, p.dilation_x);
                if (i >= 0 && j >= 0) {
                    let at = ((sample * p.out_h + v) * p.out_w + u) * p.width4 + column;
#ifdef WINNERS
                    s += select(vec4<f32>(0.0), g[at], winners[at] == vec4<u32>(u32(i * of_u.y + j)));
#else
                    s += g[at] / f32(taps_of(of_v, p.in_h, p.dilation_y) * taps_of(of_u, p.in_w, p.dilation_x));
#endif
                }
            }
        }
        dx[item] = s;
    }
}
