// dx[b, y, x, c] = sum of g[b, v, u, c] over the windows (v, u) of a maximum pool (pool.wgsl) that take their value from (y, x):
// the first of the largest elements, in row-major order of taps. The winner is found again, so no index is stored.
//
// Buffers (f32, channels last, pixels start at multiples of 4):  src [batch, in_h, in_w, n] what was pooled;
//   g [batch, out_h, out_w, n] the gradient of the pool's result;  dx [batch, in_h, in_w, n].
// Precision: a rounding a window that holds (y, x), in ascending order of taps. Every element of g is added exactly once.
// Undefined: contents of padding channels; NaN and infinity.
// Geometry: workgroup (64,1,1), an invocation computes four channels of one source pixel, grid-stride over p.len.
// Bounds: windows and taps are tested against both images. Races: an invocation writes its own vectors.
// Cost: (kernel_h kernel_w)^2 comparisons an element, fit for small windows; pool_gradient.wgsl reads winners instead.

#import "lib/pool"
@group(0) @binding(0) var<storage, read_write> src: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> g: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dx: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

// Channels for which tap (i, j) of the window at (v, u), whose value is `own`, comes first among the largest.
fn wins(own: vec4<f32>, sample: u32, column: u32, v: i32, u: i32, i: u32, j: u32) -> vec4<bool> {
    var best = vec4<bool>(true);
    for (var k = 0u; k < p.kernel_h; k++) {
        for (var l = 0u; l < p.kernel_w; l++) {
            let y = bitcast<u32>(v * i32(p.stride_y) - i32(p.pad_y) + i32(k * p.dilation_y));
            let x = bitcast<u32>(u * i32(p.stride_x) - i32(p.pad_x) + i32(l * p.dilation_x));
            if (y < p.in_h && x < p.in_w) {
                let other = src[((sample * p.in_h + y) * p.in_w + x) * p.width4 + column];
                let before = k < i || (k == i && l < j);
                best &= select(other <= own, other < own, vec4<bool>(before));
            }
        }
    }
    return best;
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var item = (group.x + p.grid.x) * 64u + lane.x; item < p.len; item += p.threads) {
        let column = item % p.width4;
        let pixel = item / p.width4;
        let sample = pixel / p.in_w / p.in_h;
        let own = src[item];
        var s = vec4<f32>(0.0);
        for (var i = 0u; i < p.kernel_h; i++) {
            for (var j = 0u; j < p.kernel_w; j++) {
                // The window in which this pixel is tap (i, j), if there is one.
                let y = i32(pixel / p.in_w % p.in_h + p.pad_y) - i32(i * p.dilation_y);
                let x = i32(pixel % p.in_w + p.pad_x) - i32(j * p.dilation_x);
                let v = y / i32(p.stride_y);
                let u = x / i32(p.stride_x);
                let fits = y >= 0 && x >= 0 && y % i32(p.stride_y) == 0 && x % i32(p.stride_x) == 0;
                if (fits && v < i32(p.out_h) && u < i32(p.out_w)) {
                    let from_pixel = (sample * p.out_h + u32(v)) * p.out_w + u32(u);
                    let value = g[from_pixel * p.width4 + column];
                    s += select(vec4<f32>(0.0), value, wins(own, sample, column, v, u, i, j));
                }
            }
        }
        dx[item] = s;
    }
}
