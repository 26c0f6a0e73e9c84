// c = M a, or c += M a, for a sparse matrix M and the columns of a: c[i, r] = sum over terms t of row i of weight_t a[column_t, r].
//
// Buffers: starts [n + 1], terms [nnz] = (column, bits of the weight) u32, a [values, p.lda] f32, c [n, p.ldc] f32.
// WALK, MOVED, ABS and ACCUMULATE as in map_dense.wgsl, which also says what a column is.
// Precision: a row's terms in ascending order into one accumulator, then what c held: nnz of the row + 1 roundings of unit 2^-23.
// Geometry: workgroup (32,2,1): x covers columns by 32, y and z rows of M by 2 (row = ((z 2^15) + y) 2 + lane.y). Races: own elements.

struct Params {
    grid: vec4<u32>,
    n: u32, columns: u32, lda: u32, ldc: u32,
    flags: u32, pad0: u32, pad1: u32, pad2: u32,
}
const ACCUMULATE = 1u;
@group(0) @binding(0) var<storage, read_write> starts: array<u32>;
@group(0) @binding(1) var<storage, read_write> terms: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> a: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
#ifdef WALK
@group(0) @binding(4) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> row_count: array<u32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(32, 2, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let column = at.x * 32u + lane.x;
    let i = (at.z * 32768u + at.y) * 2u + lane.y;
#ifdef WALK
    let columns = row_count[0];
#else
    let columns = p.columns;
#endif
    if (column >= columns || i >= p.n) {
        return;
    }
#ifdef MOVED
    let source = rows[column].z;
#else
    let source = column;
#endif
    var sum = 0.0;
    for (var t = starts[i]; t < starts[i + 1u]; t++) {
        let term = terms[t];
#ifdef ABS
        let weight = abs(bitcast<f32>(term.y));
#else
        let weight = bitcast<f32>(term.y);
#endif
        sum = fma(weight, a[term.x * p.lda + source], sum);
    }
    if ((p.flags & ACCUMULATE) != 0u) {
        sum += c[i * p.ldc + column];
    }
    c[i * p.ldc + column] = sum;
}
