// C = act(A B + bias), the contract of matmul.wgsl, for devices whose workgroup memory is a memory.
// A workgroup owns SIDE x SIDE outputs, an invocation 4 QR x 4 QC of them in registers; blocks of DEPTH terms of k pass through
// workgroup memory, the next block is on its way in registers while one is multiplied. Every accumulator walks k in ascending
// order, one fma a term: bit-identical to the direct variant wherever the device rounds alike.
// Each block is brought in 4 x 4 groups, one an invocation (the first half of the workgroup brings a, the second b): four
// vectors along the contiguous axis, turned in registers where that axis is k, so that both tiles have k as the slow axis
// and are read by vectors. What an invocation owns is spread (rows down, down + DOWN, ...), so that neighbours read neighbours.
// DOUBLE keeps two stages of both tiles: one barrier a block instead of two.
// Workgroups are numbered in bands of 8 tiles of rows, so that those in flight share rows of a and columns of b in the cache.
//
// Buffers, split-K, precision, what is undefined: as matmul.wgsl; rows of a start at multiples of 4, and p.chunk is a
//   multiple of 4 where there are several chunks.
// Geometry: workgroup (INVOCATIONS,1,1), INVOCATIONS = SIDE^2 / (16 QR QC) = SIDE DEPTH / 8; x covers m / SIDE, y n / SIDE, z batch
//   and chunks. Workgroup memory: 8 SIDE DEPTH bytes a stage, at most 16 KiB.
// Bounds: loads are clamped to the last row, column and term (a clamp a vector, none in the inner loop); what lies behind the last
//   term is not multiplied; stores are guarded.
// Races: a stage is written before and read after a barrier that all invocations reach (loop bounds are uniform in the
//   workgroup), and rewritten after another; an invocation writes its own outputs only.
// Tried: ops/matmul/variant.rs. Not measured on a GPU yet.

struct Params {
    grid: vec4<u32>,
    m: u32, n: u32, k: u32, chunk: u32,
    lda: u32, ldb: u32, ldc: u32, chunks: u32,
    stride_a: u32, stride_b: u32, stride_c: u32, stride_bias: u32,
    flags: u32, lanes: u32, ld_gate: u32, pad0: u32,
}
const BIAS = 1u;
const RELU = 2u;
const SIDE = ${SIDE}u;
const SIDE4 = ${SIDE}u / 4u;
const DEPTH = ${DEPTH}u;
const DEPTH4 = ${DEPTH}u / 4u;
const STAGE = SIDE4 * DEPTH;
const HALF = ${INVOCATIONS}u / 2u;
const DOWN = SIDE4 / ${QR}u;
const ACROSS = SIDE4 / ${QC}u;
const BAND = 8u;
const FOUR = vec4<u32>(0u, 1u, 2u, 3u);

@group(0) @binding(0) var<storage, read_write> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> bias: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

// [stage][k][row / 4] and [stage][k][column / 4].
var<workgroup> tile_a: array<vec4<f32>, ${VECTORS}>;
var<workgroup> tile_b: array<vec4<f32>, ${VECTORS}>;

/// The group of an invocation for terms k to k + 3: vector j holds four rows (or columns) of term k + j.
fn bring(brings_a: bool, base: vec4<u32>, k: u32, last: u32) -> mat4x4<f32> {
    if (brings_a) {
#ifdef TRANS_A
        let at = base + min(vec4<u32>(k) + FOUR, vec4<u32>(last)) * (p.lda / 4u);
        return mat4x4<f32>(a[at.x], a[at.y], a[at.z], a[at.w]);
#else
        let at = base + vec4<u32>(min(k, last) / 4u);
        return transpose(mat4x4<f32>(a[at.x], a[at.y], a[at.z], a[at.w]));
#endif
    }
    let k4 = min(vec4<u32>(k) + FOUR, vec4<u32>(last));
#ifdef TRANS_B
    let at = base + vec4<u32>(k4.x / 4u);
    return transpose(mat4x4<f32>(b[at.x], b[at.y], b[at.z], b[at.w]));
#else
    let at = base + k4 * (p.ldb / 4u);
    return mat4x4<f32>(b[at.x], b[at.y], b[at.z], b[at.w]);
#endif
}

fn put(brings_a: bool, slot: u32, group: mat4x4<f32>) {
    if (brings_a) {
#unroll j 0 4
        tile_a[slot + ${j}u * SIDE4] = group[${j}];
#endunroll
    } else {
#unroll j 0 4
        tile_b[slot + ${j}u * SIDE4] = group[${j}];
#endunroll
    }
}

@compute @workgroup_size(${INVOCATIONS}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) id: u32) {
    let at = group + p.grid.xyz;
    let batch = at.z / p.chunks;
    let first_k = (at.z % p.chunks) * p.chunk;
    let m = p.m;
    // From the place in the grid to a tile: a permutation of all of them, whatever part of the grid this dispatch is.
    let tiles = vec2<u32>((m + SIDE - 1u) / SIDE, (p.n + SIDE - 1u) / SIDE);
    let number = at.y * tiles.x + at.x;
    let band = number / (BAND * tiles.y) * BAND;
    let height = min(tiles.x - band, BAND);
    let inside = number - band * tiles.y;
    let first_row = (band + inside % height) * SIDE;
    let first_column = inside / height * SIDE;
    let k_end = min(first_k + p.chunk, p.k);
    let down = id / ACROSS;
    let across = id % ACROSS;
    let last4 = (p.n + 3u) / 4u - 1u;
#unroll j 0 ${QC}
    let column_${j} = first_column / 4u + across + ${j}u * ACROSS;
#endunroll
#unroll q 0 ${QR}
#unroll r 0 4
    let row_${q}_${r} = first_row + (down + ${q}u * DOWN) * 4u + ${r}u;
    let to_${q}_${r} = (at.z * p.stride_c + min(row_${q}_${r}, m - 1u) * p.ldc) / 4u;
#unroll j 0 ${QC}
    var s_${q}_${r}_${j} = vec4<f32>(0.0);
#ifdef ACCUMULATE
    s_${q}_${r}_${j} = c[to_${q}_${r} + min(column_${j}, last4)];
#endif
#endunroll
#endunroll
#endunroll
    if (first_k < k_end) {
        let brings_a = id < HALF;
        let mine = id % HALF;
        // Along the contiguous axis first: k if the group is turned, else rows (or columns).
        let turned = vec2<u32>(mine / DEPTH4, mine % DEPTH4);
        let plain = vec2<u32>(mine % SIDE4, mine / SIDE4);
#ifdef TRANS_A
        let part_a = plain;
        let base_a = vec4<u32>(batch * p.stride_a / 4u + min(first_row / 4u + part_a.x, (m - 1u) / 4u));
#else
        let part_a = turned;
        let r4 = min(vec4<u32>(first_row + part_a.x * 4u) + FOUR, vec4<u32>(m - 1u));
        let base_a = (vec4<u32>(batch * p.stride_a) + r4 * p.lda) / 4u;
#endif
#ifdef TRANS_B
        let part_b = turned;
        let n4 = min(vec4<u32>(first_column + part_b.x * 4u) + FOUR, vec4<u32>(p.n - 1u));
        let base_b = (vec4<u32>(batch * p.stride_b) + n4 * p.ldb) / 4u;
#else
        let part_b = plain;
        let base_b = vec4<u32>(batch * p.stride_b / 4u + min(first_column / 4u + part_b.x, last4));
#endif
        let part = select(part_b, part_a, brings_a);
        let base = select(base_b, base_a, brings_a);
        let k_mine = part.y * 4u;
        let slot = k_mine * SIDE4 + part.x;
        let last = k_end - 1u;
        let full_end = first_k + (k_end - first_k) / DEPTH * DEPTH;
        var stage = 0u;
        put(brings_a, slot, bring(brings_a, base, first_k + k_mine, last));
        workgroupBarrier();
        for (var k0 = first_k; k0 < full_end; k0 += DEPTH) {
            let next = bring(brings_a, base, k0 + DEPTH + k_mine, last);
#unroll t 0 ${DEPTH}
            {
#unroll j 0 ${QC}
                let b_${j} = tile_b[stage + ${t}u * SIDE4 + across + ${j}u * ACROSS];
#endunroll
#unroll q 0 ${QR}
                let a_${q} = tile_a[stage + ${t}u * SIDE4 + down + ${q}u * DOWN];
#unroll r 0 4
#unroll j 0 ${QC}
                s_${q}_${r}_${j} = fma(vec4<f32>(a_${q}[${r}]), b_${j}, s_${q}_${r}_${j});
#endunroll
#endunroll
#endunroll
            }
#endunroll
#ifdef DOUBLE
            stage = STAGE - stage;
#else
            workgroupBarrier();
#endif
            put(brings_a, stage + slot, next);
            workgroupBarrier();
        }
        // Fewer than DEPTH terms are left, and they are in the tiles.
        for (var t = 0u; t < k_end - full_end; t++) {
            let k_at = stage + t * SIDE4;
#unroll j 0 ${QC}
            let b_${j} = tile_b[k_at + across + ${j}u * ACROSS];
#endunroll
#unroll q 0 ${QR}
            let a_${q} = tile_a[k_at + down + ${q}u * DOWN];
#unroll r 0 4
#unroll j 0 ${QC}
            s_${q}_${r}_${j} = fma(vec4<f32>(a_${q}[${r}]), b_${j}, s_${q}_${r}_${j});
#endunroll
#endunroll
#endunroll
        }
    }
#unroll j 0 ${QC}
    if (column_${j} <= last4) {
        var add_${j} = vec4<f32>(0.0);
        if ((p.flags & BIAS) != 0u) {
            let n4 = vec4<u32>(batch * p.stride_bias) + min(vec4<u32>(column_${j} * 4u) + FOUR, vec4<u32>(p.n - 1u));
            add_${j} = vec4<f32>(bias[n4.x], bias[n4.y], bias[n4.z], bias[n4.w]);
        }
#unroll q 0 ${QR}
#unroll r 0 4
        if (row_${q}_${r} < m) {
            var value = s_${q}_${r}_${j};
            if ((p.flags & BIAS) != 0u) { value += add_${j}; }
#ifdef GATE
            let g4 = vec4<u32>(batch * p.stride_bias + row_${q}_${r} * p.ld_gate) + min(vec4<u32>(column_${j} * 4u) + FOUR, vec4<u32>(p.n - 1u));
            value = select(vec4<f32>(0.0), value, vec4<f32>(bias[g4.x], bias[g4.y], bias[g4.z], bias[g4.w]) > vec4<f32>(0.0));
#endif
            if ((p.flags & RELU) != 0u) { value = max(value, vec4<f32>(0.0)); }
            c[to_${q}_${r} + column_${j}] = value;
        }
#endunroll
#endunroll
    }
#endunroll
}
