// out[i] = f(x[i], y[i]) over up to four axes, each operand with its own strides (0 shares an axis: broadcasting).
//
// Buffers (f32): x, y, out, by element strides in `p`. A unary f binds x twice. In place: bind out only (IN_PLACE), f of x.
// f is the define EXPR over x and y. Precision: that of the WGSL operators in EXPR (u = 2^-23 for + - *, 2.5 ulp for /; lib/smooth.wgsl).
// FLAT: operands and result lie alike and without gaps, one index serves all.
// Undefined: NaN and infinity in operands; padding columns are not touched.
// Geometry: workgroup (64,1,1), grid-stride over p.len elements. Races: an invocation writes its own elements.
// Bounds: the host checks that shape and strides stay inside the buffers.

#import "lib/smooth"

struct Params {
    grid: vec4<u32>,
    shape: vec4<u32>,
    stride_x: vec4<u32>,
    stride_y: vec4<u32>,
    stride_out: vec4<u32>,
    len: u32, threads: u32, pad0: u32, pad1: u32,
}
#ifdef IN_PLACE
@group(0) @binding(0) var<storage, read_write> out: array<f32>;
#else
@group(0) @binding(0) var<storage, read_write> xs: array<f32>;
@group(0) @binding(1) var<storage, read_write> ys: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.len; i += p.threads) {
#ifdef FLAT
        let to = i;
        let x = xs[i];
        let y = ys[i];
#else
        let i3 = i % p.shape.w;
        let r2 = i / p.shape.w;
        let i2 = r2 % p.shape.z;
        let r1 = r2 / p.shape.z;
        let at = vec4<u32>(r1 / p.shape.y, r1 % p.shape.y, i2, i3);
        let to = at.x * p.stride_out.x + at.y * p.stride_out.y + at.z * p.stride_out.z + at.w * p.stride_out.w;
#ifdef IN_PLACE
        let x = out[to];
#else
        let x = xs[at.x * p.stride_x.x + at.y * p.stride_x.y + at.z * p.stride_x.z + at.w * p.stride_x.w];
        let y = ys[at.x * p.stride_y.x + at.y * p.stride_y.y + at.z * p.stride_y.z + at.w * p.stride_y.w];
#endif
#endif
        out[to] = ${EXPR};
    }
}
