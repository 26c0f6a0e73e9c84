// out[i] = f(x[i], y[i]) over up to four axes, each operand with its own strides (0 shares an axis: broadcasting).
//
// Buffers (f32, by vectors of four along the last axis): x, y, out, by element strides in `p`; the stride along the last
//   axis is 1 or 0, the others are multiples of 4. A unary f binds x twice. In place: bind out only (IN_PLACE), f of x.
// f is the define EXPR over the vectors x and y and the constant p.alpha. Precision: that of the WGSL operators in EXPR (u =
//   2^-23 for + - *, 2.5 ulp for /; lib/smooth.wgsl).
// Undefined: NaN and infinity in operands. Padding columns keep what they hold: the last vector of a row is mixed with it.
// Geometry: workgroup (64,1,1) as p.across lanes along a row times 64 / p.across rows; x covers rows, y pieces of a row,
//   both with a stride, so that a place in the four axes is worked out once a row and not once an element. The host makes
//   one long row of operands that lie alike without gaps.
// Races: an invocation writes its own vectors. Bounds: the host checks that shape and strides stay inside the buffers.
// Tried: a place worked out for every element (six integer divisions, which a software device does one by one) is several
//   times slower there. One vector an invocation halves the rate there (2.9 against 5.6 GB/s for x + y on 2 shared cores,
//   Mesa 22.3). Not timed on a GPU.

#import "lib/smooth"

struct Params {
    grid: vec4<u32>,
    shape: vec4<u32>,
    stride_x: vec4<u32>,
    stride_y: vec4<u32>,
    stride_out: vec4<u32>,
    rows: u32, across: u32, row_step: u32, column_step: u32,
    alpha: f32, pad0: u32, pad1: u32, pad2: u32,
}
#ifdef IN_PLACE
@group(0) @binding(0) var<storage, read_write> out: array<vec4<f32>>;
#else
@group(0) @binding(0) var<storage, read_write> xs: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> ys: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

// A vector as it is, or its first element four times where the last axis is shared.
fn spread(v: vec4<f32>, stride: u32) -> vec4<f32> {
    return select(vec4<f32>(v.x), v, stride != 0u);
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let quads = (p.shape.w + 3u) / 4u;
    let first_row = (group.x + p.grid.x) * (64u / p.across) + lane.x / p.across;
    let first = (group.y + p.grid.y) * p.across + lane.x % p.across;
    for (var row = first_row; row < p.rows; row += p.row_step) {
        let r1 = row / p.shape.z;
        let at = vec3<u32>(r1 / p.shape.y, r1 % p.shape.y, row % p.shape.z);
        let base_out = at.x * p.stride_out.x + at.y * p.stride_out.y + at.z * p.stride_out.z;
#ifndef IN_PLACE
        let base_x = at.x * p.stride_x.x + at.y * p.stride_x.y + at.z * p.stride_x.z;
        let base_y = at.x * p.stride_y.x + at.y * p.stride_y.y + at.z * p.stride_y.z;
#endif
        for (var q = first; q < quads; q += p.column_step) {
            let to = base_out / 4u + q;
#ifdef IN_PLACE
            let x = out[to];
#else
            let x = spread(xs[base_x / 4u + q * p.stride_x.w], p.stride_x.w);
            let y = spread(ys[base_y / 4u + q * p.stride_y.w], p.stride_y.w);
#endif
            let value = ${EXPR};
            if (q * 4u + 4u <= p.shape.w) {
                out[to] = value;
            } else {
                out[to] = select(out[to], value, vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.shape.w));
            }
        }
    }
}
