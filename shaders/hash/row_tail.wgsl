// dw[s, j] = sum over the samples b, ascending, of dz[b, s] * h[b, j] for the columns j from 4 p.first4 on: what a product with tiles of 16 columns
//   leaves of rows of hidden + 1 columns (the bias, usually).
//
// Buffers: dz [B, S] (f32, rows p.pitch apart); h [B, width] and dw [S, width] (f32, vectors of four, rows of p.width4).
// Precision: one fused multiply-add a term into one accumulator, in the order of `matmul`, whose bits it has.
// Undefined: NaN and infinity stay in their row.
// Geometry: workgroup (64,1,1), an invocation has a vector of dw; x covers the rows, y the vectors from p.first4 on: neighbours read
//   neighbours of dz, and one vector of h is for all of them.
// Races: an invocation writes its own vector. Bounds: guarded by p.rows; the loop does the same for all lanes, of which those behind the
//   last row repeat it.
// Tried on a 2-core software device, 2,400 rows of 132 columns, 256 samples: one product 80 ms (tiles of 16 x 4), this and 128 columns 14.

struct Params {
    grid: vec4<u32>,
    rows: u32, samples: u32, pitch: u32, width4: u32,
    first4: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> dz: array<f32>;
@group(0) @binding(1) var<storage, read_write> h: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dw: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let row = (group.x + p.grid.x) * 64u + lane.x;
    let q = p.first4 + group.y + p.grid.y;
    let from_row = min(row, p.rows - 1u);
    var s = vec4<f32>(0.0);
    for (var b = 0u; b < p.samples; b++) {
        s = fma(vec4<f32>(dz[b * p.pitch + from_row]), h[b * p.width4 + q], s);
    }
    if (row < p.rows) {
        dw[row * p.width4 + q] = s;
    }
}
