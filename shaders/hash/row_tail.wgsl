// dw[s, j] = sum over the samples b, ascending, of dz[b, s] * h[b, j] for the columns j from 4 p.first4 on: what a product with tiles of 16 columns
//   leaves of rows of hidden + 1 columns (the bias, usually).
//
// Buffers (f32, vectors of four): dz [B, S], rows of p.pitch4; h [B, width] and dw [S, width], rows of p.width4.
// Precision: one fused multiply-add a term into one accumulator, in the order of `matmul`, whose bits it has.
// Undefined: NaN and infinity stay in their row; padding of dz is not used.
// Geometry: workgroup (64,1,1), an invocation has a vector of four rows of dw; x covers the rows, y the vectors from p.first4 on:
//   neighbours read neighbours of dz, and one vector of h is for all of them.
// Races: an invocation writes its own vectors. Bounds: guarded by p.rows.
// Tried on a 2-core software device (processor time), 2,400 rows of 132 columns, 256 samples: one product with 132 columns 44 ms (its tiles
//   become 16 x 4), with 128 columns 13; this 4, and 8 with one row an invocation.

struct Params {
    grid: vec4<u32>,
    rows: u32, samples: u32, pitch4: u32, width4: u32,
    first4: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> dz: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> h: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dw: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let four = (group.x + p.grid.x) * 64u + lane.x;
    let q = p.first4 + group.y + p.grid.y;
    if (four * 4u >= p.rows) {
        return;
    }
#unroll i 0 4
    var s_${i} = vec4<f32>(0.0);
#endunroll
    for (var b = 0u; b < p.samples; b++) {
        let g = dz[b * p.pitch4 + four];
        let x = h[b * p.width4 + q];
#unroll i 0 4
        s_${i} = fma(vec4<f32>(g[${i}]), x, s_${i});
#endunroll
    }
#unroll i 0 4
    if (four * 4u + ${i}u < p.rows) {
        dw[(four * 4u + ${i}u) * p.width4 + q] = s_${i};
    }
#endunroll
}
