// out[z][j, i] = x[z][i, j].
//
// Buffers (32-bit words): x [batch, m, n], out [batch, n, m], element strides in `p`.
// Precision: exact (words are moved as bits).
// Geometry: workgroup (8,8,1), each invocation moves a 4 x 4 tile, so that both sides touch whole 16-byte pieces;
//   x covers n / 32, y covers m / 32, z the batch. Races: an invocation writes its own tile.
// Bounds: guarded by m and n.

struct Params {
    grid: vec4<u32>,
    m: u32, n: u32, ld_x: u32, ld_out: u32,
    stride_x: u32, stride_out: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(8, 8, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let i0 = (at.y * 8u + lane.y) * 4u;
    let j0 = (at.x * 8u + lane.x) * 4u;
#unroll j 0 4
    if (j0 + ${j}u < p.n) {
        let to_${j} = at.z * p.stride_out + (j0 + ${j}u) * p.ld_out;
        for (var i = i0; i < min(i0 + 4u, p.m); i++) {
            out[to_${j} + i] = x[at.z * p.stride_x + i * p.ld_x + j0 + ${j}u];
        }
    }
#endunroll
}
