// C = act(A B + bias), the contract of matmul.wgsl, for devices whose workgroup memory is a memory.
//
// A workgroup of 16 x 16 invocations owns a tile of 64 x 64 outputs, 4 x 4 an invocation; blocks of 16 terms of k pass
// through workgroup memory (8 KiB). Every accumulator still walks k in ascending order, one fma a term: bit-identical
// to the direct variant wherever the device rounds alike.
// GATHER needs rows padded so that a tile of 64 rows has one owner.
// Undefined, buffers, split-K, precision: as matmul.wgsl.
// Geometry: workgroup (16,16,1); x covers m / 64, y covers n / 64, z batch and chunks.
// Bounds: loads are clamped to the last row, column and term, terms past k_end are zero; stores are guarded.
// Races: tiles of workgroup memory are written before and read after a barrier that all invocations reach (the loop's
//   bounds are uniform in the workgroup); an invocation writes its own outputs only.

struct Params {
    grid: vec4<u32>,
    m: u32, n: u32, k: u32, chunk: u32,
    lda: u32, ldb: u32, ldc: u32, chunks: u32,
    stride_a: u32, stride_b: u32, stride_c: u32, stride_bias: u32,
    flags: u32, pad0: u32, pad1: u32, pad2: u32,
}
const BIAS = 1u;
const RELU = 2u;

@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
#ifdef GATHER
@group(0) @binding(3) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> k_list: array<u32>;
@group(0) @binding(5) var<storage, read_write> k_count: array<u32>;
@group(0) @binding(6) var<storage, read_write> row_count: array<u32>;
#else
@group(0) @binding(3) var<storage, read_write> bias: array<f32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

// a is kept with k as the slow axis; rows of 64 + 4 keep the four lanes of a column on different banks.
var<workgroup> tile_a: array<f32, 1088>;
var<workgroup> tile_b: array<vec4<f32>, 256>;
#ifdef GATHER
var<workgroup> shared_end: u32;
#endif

fn load_b(z: u32, k_row: u32, column: u32) -> f32 {
    let n = min(column, p.n - 1u);
#ifdef TRANS_B
    let value = b[z * p.stride_b + n * p.ldb + k_row];
#else
    let value = b[z * p.stride_b + k_row * p.ldb + n];
#endif
#ifdef ABS_B
    return abs(value);
#else
    return value;
#endif
}

@compute @workgroup_size(16, 16, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let batch = at.z / p.chunks;
    let first_k = (at.z % p.chunks) * p.chunk;
    let first_row = at.x * 64u;
    let first_column = at.y * 64u;
#ifdef GATHER
    // The grid is exact (it comes from row_count), so every workgroup has rows.
    let m = row_count[0];
    // One owner a tile; the broadcast makes its count uniform, as barriers in the loop demand.
    let list = rows[first_row].x * p.stride_a;
    if (lane.x + lane.y == 0u) {
        shared_end = min(first_k + p.chunk, k_count[rows[first_row].x]);
    }
    let k_end = workgroupUniformLoad(&shared_end);
#else
    let m = p.m;
    let k_end = min(first_k + p.chunk, p.k);
#endif
    let row = first_row + lane.y * 4u;
    let column = first_column + lane.x * 4u;
    let id = lane.y * 16u + lane.x;
#unroll i 0 4
    var s_${i} = vec4<f32>(0.0);
    let row_${i} = row + ${i}u;
#endunroll
    for (var k0 = first_k; k0 < k_end; k0 += 16u) {
        // Each invocation brings four elements of each tile; terms past the end are zero in a.
#unroll i 0 4
        {
#ifdef TRANS_A
            let k_local = id / 16u;
            let r_local = (id % 16u) * 4u + ${i}u;
#else
            let k_local = id % 16u;
            let r_local = id / 16u + ${i}u * 16u;
#endif
            let k = min(k0 + k_local, k_end - 1u);
            let r = min(first_row + r_local, m - 1u);
#ifdef GATHER
            let value = a[rows[r].z * p.lda + k];
#else
#ifdef TRANS_A
            let value = a[batch * p.stride_a + k * p.lda + r];
#else
            let value = a[batch * p.stride_a + r * p.lda + k];
#endif
#endif
            tile_a[k_local * 68u + r_local] = select(value, 0.0, k0 + k_local >= k_end);
        }
#endunroll
        {
            let k_local = id / 16u;
            let k = min(k0 + k_local, k_end - 1u);
#ifdef GATHER
            let k_row = k_list[list + k];
#else
            let k_row = k;
#endif
            let first = first_column + (id % 16u) * 4u;
            tile_b[k_local * 16u + id % 16u] = vec4<f32>(load_b(batch, k_row, first), load_b(batch, k_row, first + 1u),
                load_b(batch, k_row, first + 2u), load_b(batch, k_row, first + 3u));
        }
        workgroupBarrier();
#unroll t 0 16
        {
            let right = tile_b[${t}u * 16u + lane.x];
            let left = ${t}u * 68u + lane.y * 4u;
#unroll i 0 4
            s_${i} = fma(vec4<f32>(tile_a[left + ${i}u]), right, s_${i});
#endunroll
        }
#endunroll
        workgroupBarrier();
    }
#unroll i 0 4
    if (row_${i} < m) {
        let to_${i} = at.z * p.stride_c + row_${i} * p.ldc + column;
#unroll j 0 4
        if (column + ${j}u < p.n) {
            var value = s_${i}[${j}];
#ifndef GATHER
            if ((p.flags & BIAS) != 0u) {
                value += bias[batch * p.stride_bias + column + ${j}u];
            }
            if ((p.flags & RELU) != 0u) {
                value = max(value, 0.0);
            }
#endif
            c[to_${i} + ${j}u] = value;
        }
#endunroll
    }
#endunroll
}
