// out[z][j, i] = x[z][i, j].
//
// Buffers (32-bit words, by vectors of four along rows): x [batch, m, n], out [batch, n, m], element strides in `p`, multiples of 4.
// Precision: exact (words are moved as bits). Padding columns of out keep what they hold.
// Geometry: workgroup (8,8,1), each invocation moves a 4 x 4 tile through registers, so that both sides are read and written by
//   whole vectors; x covers n / 32, y covers m / 32, z the batch. Races: an invocation writes its own tile.
// Bounds: rows of x are clamped to the last one, rows of out are guarded, a last vector is mixed with what stands behind its row.
// Tried: the same tile word by word. On a software device stores are the limit in both. Not timed on a quiet machine, nor on a GPU yet.

struct Params {
    grid: vec4<u32>,
    m: u32, n: u32, ld_x: u32, ld_out: u32,
    stride_x: u32, stride_out: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let i0 = (at.y * 8u + lane.y) * 4u;
    let j0 = (at.x * 8u + lane.x) * 4u;
    if (i0 >= p.m || j0 >= p.n) {
        return;
    }
#unroll i 0 4
    let r_${i} = x[(at.z * p.stride_x + min(i0 + ${i}u, p.m - 1u) * p.ld_x + j0) / 4u];
#endunroll
    let whole = i0 + 4u <= p.m;
    let inside = vec4<u32>(i0) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.m);
#unroll j 0 4
    if (j0 + ${j}u < p.n) {
        let to = (at.z * p.stride_out + (j0 + ${j}u) * p.ld_out + i0) / 4u;
        let turned = vec4<u32>(r_0[${j}], r_1[${j}], r_2[${j}], r_3[${j}]);
        if (whole) {
            out[to] = turned;
        } else {
            out[to] = select(out[to], turned, inside);
        }
    }
#endunroll
}
