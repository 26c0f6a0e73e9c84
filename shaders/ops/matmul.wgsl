// C = act(A B + bias), batched: for each z, C[z] is m x n, the sum over k of A[z][i,k] B[z][k,j].
//
// Direct variant: no workgroup memory, no barrier. Each invocation owns a tile of TM x TN outputs in registers
// (TN a multiple of 4) and walks k in ascending order with one accumulator an output.
//
// Buffers (f32, element strides in `p`):  a [batch, m, k] or, with TRANS_A, [batch, k, m];  b [batch, k, n] or, with
//   TRANS_B, [batch, n, k];  c [batch, m, n];  bias [batch, n] if p.flags & BIAS, or with GATE an array [batch, m, n] in its place:
//   outputs where that is not above 0 become 0 (the gradient through a ReLU).  Rows start at multiples of 4.
//   A batch stride of 0 shares an operand.
// Split-K: z = batch * chunks + part; part covers k in [part * chunk, (part + 1) * chunk) and writes a plane of c of its
//   own. Whoever adds the planes is another dispatch, so no compiler may reassociate across chunks (ops/matmul/mod.rs, `depth`).
// With ACCUMULATE, sums go on from what c holds: a product over windows of k has the bits of one dispatch.
//
// Precision: every output is a sum of at most `depth(K)` roundings of unit 2^-23 on any one term; contraction of fma
//   only removes some. No value depends on the batch size, the grid or TM, TN: bit-identical along the batch.
// Undefined: contents of padding columns; NaN and infinity in the operands.
// Geometry: workgroup (LANES,1,1), p.lanes of them side by side along the columns and the others below; x covers the rows, y the columns,
//   z batch and chunks. Rows are the fast axis, so that workgroups in flight share a panel of b in the cache.
// Bounds: rows are clamped to m-1 and columns to the last vector of the row when loading; stores are guarded.
// Races: an invocation writes its own tile only.
// A software device loads lane by lane: loads are most of the time. Four rows of a transposed a at once: 9 to 11 ms of processor in place of 11 to 12 for
//   [2304, 256] x [256, 128]. Two or four terms at once where terms are neighbours: no faster, or slower.
// Tried on a 2-core software device (Mesa 22.3, 512^3, GFLOP/s): naive 2.3; 4x4 12; 8x8 22; 16x16 38; 32x32 27. With all lanes along the columns,
//   products of 32 columns had room for 16x4 a lane only. Flags in place of GATE and ACCUMULATE cost a fifth: both sides of a branch run there.

struct Params {
    grid: vec4<u32>,
    m: u32, n: u32, k: u32, chunk: u32,
    lda: u32, ldb: u32, ldc: u32, chunks: u32,
    stride_a: u32, stride_b: u32, stride_c: u32, stride_bias: u32,
    flags: u32, lanes: u32, ld_gate: u32, pad0: u32,
}
const BIAS = 1u;
const RELU = 2u;

#ifdef TRANS_A
@group(0) @binding(0) var<storage, read_write> a: array<vec4<f32>>;
#else
@group(0) @binding(0) var<storage, read_write> a: array<f32>;
#endif
#ifdef TRANS_B
@group(0) @binding(1) var<storage, read_write> b: array<f32>;
#else
@group(0) @binding(1) var<storage, read_write> b: array<vec4<f32>>;
#endif
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> bias: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let column = (at.y * p.lanes + lane.x % p.lanes) * ${TN}u;
    let row = (at.x * (${LANES}u / p.lanes) + lane.x / p.lanes) * ${TM}u;
    let m = p.m;
    if (column >= p.n || row >= m) {
        return;
    }
    let batch = at.z / p.chunks;
    let first_k = (at.z % p.chunks) * p.chunk;
    let last4 = (p.n + 3u) / 4u - 1u;
    let c_base = (at.z * p.stride_c) / 4u;
    let ldc4 = p.ldc / 4u;
    // Where terms lie, in what is loaded at once: four rows (or columns) of a term where these are neighbours, else one.
#unroll j 0 ${TN4}
    let column_${j} = min(column / 4u + ${j}u, last4);
#ifdef TRANS_B
#unroll l 0 4
    let b_${j}_${l} = batch * p.stride_b + min(column + ${j}u * 4u + ${l}u, p.n - 1u) * p.ldb;
#endunroll
#else
    let b_${j} = batch * p.stride_b / 4u + column_${j};
#endif
#endunroll
#unroll q 0 ${TM4}
#ifdef TRANS_A
    let a_${q} = batch * p.stride_a / 4u + min(row / 4u + ${q}u, (m - 1u) / 4u);
#endif
#unroll r 0 4
#ifndef TRANS_A
    let a_${q}_${r} = batch * p.stride_a + min(row + ${q}u * 4u + ${r}u, m - 1u) * p.lda;
#endif
#unroll j 0 ${TN4}
    var s_${q}_${r}_${j} = vec4<f32>(0.0);
#ifdef ACCUMULATE
    s_${q}_${r}_${j} = c[c_base + min(row + ${q}u * 4u + ${r}u, m - 1u) * ldc4 + column_${j}];
#endif
#endunroll
#endunroll
#endunroll
    let k_end = min(first_k + p.chunk, p.k);
    for (var k = first_k; k < k_end; k++) {
#unroll j 0 ${TN4}
#ifdef TRANS_B
        let y_${j} = vec4<f32>(b[b_${j}_0 + k], b[b_${j}_1 + k], b[b_${j}_2 + k], b[b_${j}_3 + k]);
#else
        let y_${j} = b[b_${j} + k * p.ldb / 4u];
#endif
#endunroll
#unroll q 0 ${TM4}
#ifdef TRANS_A
        let x_${q} = a[a_${q} + k * p.lda / 4u];
#endif
#unroll r 0 4
#ifdef TRANS_A
        let v_${q}_${r} = vec4<f32>(x_${q}[${r}]);
#else
        let v_${q}_${r} = vec4<f32>(a[a_${q}_${r} + k]);
#endif
#unroll j 0 ${TN4}
        s_${q}_${r}_${j} = fma(v_${q}_${r}, y_${j}, s_${q}_${r}_${j});
#endunroll
#endunroll
#endunroll
    }
    if ((p.flags & BIAS) != 0u) {
#unroll j 0 ${TN4}
        let at_${j} = batch * p.stride_bias + min(vec4<u32>(column + ${j}u * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.n - 1u));
        let bias_${j} = vec4<f32>(bias[at_${j}.x], bias[at_${j}.y], bias[at_${j}.z], bias[at_${j}.w]);
#unroll q 0 ${TM4}
#unroll r 0 4
        s_${q}_${r}_${j} += bias_${j};
#endunroll
#endunroll
#endunroll
    }
#ifdef GATE
#unroll j 0 ${TN4}
    let gate_${j} = batch * p.stride_bias + min(vec4<u32>(column + ${j}u * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.n - 1u));
#unroll q 0 ${TM4}
#unroll r 0 4
    let open_${q}_${r}_${j} = gate_${j} + min(row + ${q}u * 4u + ${r}u, m - 1u) * p.ld_gate;
    let of_${q}_${r}_${j} = vec4<f32>(bias[open_${q}_${r}_${j}.x], bias[open_${q}_${r}_${j}.y], bias[open_${q}_${r}_${j}.z], bias[open_${q}_${r}_${j}.w]);
    s_${q}_${r}_${j} = select(vec4<f32>(0.0), s_${q}_${r}_${j}, of_${q}_${r}_${j} > vec4<f32>(0.0));
#endunroll
#endunroll
#endunroll
#endif
    if ((p.flags & RELU) != 0u) {
#unroll q 0 ${TM4}
#unroll r 0 4
#unroll j 0 ${TN4}
        s_${q}_${r}_${j} = max(s_${q}_${r}_${j}, vec4<f32>(0.0));
#endunroll
#endunroll
#endunroll
    }
#unroll q 0 ${TM4}
#unroll r 0 4
    if (row + ${q}u * 4u + ${r}u < m) {
        let to_${q}_${r} = c_base + (row + ${q}u * 4u + ${r}u) * ldc4;
#unroll j 0 ${TN4}
        if (column / 4u + ${j}u <= last4) {
            c[to_${q}_${r} + column_${j}] = s_${q}_${r}_${j};
        }
#endunroll
    }
#endunroll
#endunroll
}
