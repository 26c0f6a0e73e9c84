// c = M a, or c += M a, for a matrix M and the columns of a: c[i, r] = sum over k of M[k, i] a[k, r].
//
// A column is a box, a candidate of an attack or a row of a walk; M is stored with its terms k as rows, [k, p.ldw] (rows start at
// multiples of 4). A walk goes through z = W y backwards with M = W, a forward pass through it with M = W transposed.
//
// Buffers (f32): m [terms, p.ldw], a [terms, p.lda], c [n, p.ldc]; columns are contiguous, pitches multiples of the tile.
// WALK: the number of columns is row_count[0], and column r belongs to the box rows[r].x.
// MOVED: column r of a stands at rows[r].z, from before the last compaction.
// LIST: the k-th term of a column uses row list[box][k] of m, k < count[box]; all columns of a tile have the box of its first.
// ABS: |M| instead of M.
// p.flags: ACCUMULATE adds to what c holds. Terms first <= k < end only: a long sum is cut into several dispatches of about 128
//   terms, each of which adds to c, and no compiler can carry a reassociation across what is stored in between.
//
// Precision: a term passes through at most (terms of its dispatch) + (dispatches that write to c) roundings, each of unit 2^-23.
//   One accumulator an output, ascending k, explicit fma: no value depends on the tile, the grid or the neighbours of a column.
// Undefined: padding columns. Geometry: workgroup (LANES,1,1): LANES / SIDE lanes along the columns, SIDE along i; an invocation
//   owns TM values of i times TN columns; x covers columns, y covers i. Races: own elements.

struct Params {
    grid: vec4<u32>,
    n: u32, columns: u32, first: u32, end: u32,
    ldw: u32, lda: u32, ldc: u32, ld_list: u32,
    flags: u32, pad0: u32, pad1: u32, pad2: u32,
}
const ACCUMULATE = 1u;
@group(0) @binding(0) var<storage, read_write> m: array<vec4<f32>>;
#ifdef MOVED
@group(0) @binding(1) var<storage, read_write> a: array<f32>;
#else
@group(0) @binding(1) var<storage, read_write> a: array<vec4<f32>>;
#endif
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
#ifdef WALK
@group(0) @binding(3) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> row_count: array<u32>;
#ifdef LIST
@group(0) @binding(5) var<storage, read_write> list: array<u32>;
@group(0) @binding(6) var<storage, read_write> count: array<u32>;
#endif
#endif
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let column = (at.x * (${LANES}u / ${SIDE}u) + lane.x / ${SIDE}u) * ${TN}u;
    let i = (at.y * ${SIDE}u + lane.x % ${SIDE}u) * ${TM}u;
#ifdef WALK
    let columns = row_count[0];
#else
    let columns = p.columns;
#endif
    if (column >= columns || i >= p.n) {
        return;
    }
#ifdef LIST
    let box = rows[column].x;
    let end = min(p.end, count[box]);
#else
    let end = p.end;
#endif
#ifdef MOVED
#unroll j 0 ${TN4}
    let x_${j} = rows[column + ${j}u * 4u].z;
    let y_${j} = rows[column + ${j}u * 4u + 1u].z;
    let z_${j} = rows[column + ${j}u * 4u + 2u].z;
    let w_${j} = rows[column + ${j}u * 4u + 3u].z;
#endunroll
#endif
    let last = (p.n + 3u) / 4u - 1u;
#unroll q 0 ${TM4}
    let i_${q} = min(i / 4u + ${q}u, last);
#unroll j 0 ${TN4}
    var s_${q}_0_${j} = vec4<f32>(0.0);
    var s_${q}_1_${j} = vec4<f32>(0.0);
    var s_${q}_2_${j} = vec4<f32>(0.0);
    var s_${q}_3_${j} = vec4<f32>(0.0);
#endunroll
#endunroll
    for (var k = p.first; k < end; k++) {
#ifdef LIST
        let base = list[box * p.ld_list + k] * (p.ldw / 4u);
#else
        let base = k * (p.ldw / 4u);
#endif
#unroll j 0 ${TN4}
#ifdef MOVED
        let a_${j} = vec4<f32>(a[k * p.lda + x_${j}], a[k * p.lda + y_${j}], a[k * p.lda + z_${j}], a[k * p.lda + w_${j}]);
#else
        let a_${j} = a[(k * p.lda + column) / 4u + ${j}u];
#endif
#endunroll
#unroll q 0 ${TM4}
#ifdef ABS
        let m_${q} = abs(m[base + i_${q}]);
#else
        let m_${q} = m[base + i_${q}];
#endif
#unroll j 0 ${TN4}
        s_${q}_0_${j} = fma(vec4<f32>(m_${q}.x), a_${j}, s_${q}_0_${j});
        s_${q}_1_${j} = fma(vec4<f32>(m_${q}.y), a_${j}, s_${q}_1_${j});
        s_${q}_2_${j} = fma(vec4<f32>(m_${q}.z), a_${j}, s_${q}_2_${j});
        s_${q}_3_${j} = fma(vec4<f32>(m_${q}.w), a_${j}, s_${q}_3_${j});
#endunroll
#endunroll
    }
    let more = (p.flags & ACCUMULATE) != 0u;
#unroll q 0 ${TM4}
#unroll e 0 4
    if (i + ${q}u * 4u + ${e}u < p.n) {
        let to = ((i + ${q}u * 4u + ${e}u) * p.ldc + column) / 4u;
#unroll j 0 ${TN4}
        if (more) {
            s_${q}_${e}_${j} += c[to + ${j}u];
        }
        c[to + ${j}u] = s_${q}_${e}_${j};
#endunroll
    }
#endunroll
#endunroll
}
