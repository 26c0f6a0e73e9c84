// c = M a, or c += M a, for a convolution M (or its transpose) and the columns of a; map_dense.wgsl says what a column is.
//
// a holds windows [p.a_h, p.a_w, p.a_c] of one layer's values, c windows [p.c_h, p.c_w, p.c_c] of another's, channels last:
//   forward:    c[y, x, o] = sum over taps (i, j) and channels q of m[i, j, q, o] a[y s - off + i d, x s - off + j d, q]
//   TRANSPOSED: c[y, x, o] = sum of m[i, j, q, o] a[y', x', q] over taps and (y', x') with y' s + off + i d = y and the like for x,
//   with zero outside of a; s, d, off each for y and x. off is the padding; in a walk (windows of a row, dependence sets) it is
//   p.off + p.slope * t, t the position of the element that the row bounds, which is 0 unless MIXED: then the offset
//   differs from column to column, as it does where a window grows into the whole image.
//
// Buffers (f32): m [taps, a_c, p.ldw] (p.ldw a multiple of 4); a [window, p.lda], c [window, p.ldc].
// WALK, MOVED, ABS, ACCUMULATE, precision and geometry as in map_dense.wgsl; first and end count terms as tap * a_c + channel.
//   y covers the channels of c, z its positions. MIXED needs TN = 4; rows[r].w = the element that row r bounds, whose position is
//   (w / (p.t_w t_c), w / t_c % p.t_w), t_c = p.t_c.
// Races: own elements.
// Tried on a 2-core software device: lanes along positions instead of columns make taps diverge where the stride is 2.

struct Params {
    grid: vec4<u32>,
    a_h: u32, a_w: u32, a_c: u32, columns: u32,
    c_h: u32, c_w: u32, c_c: u32, flags: u32,
    taps_h: u32, taps_w: u32, stride_y: u32, stride_x: u32,
    dilation_y: u32, dilation_x: u32, first: u32, end: u32,
    off_y: i32, off_x: i32, slope_y: i32, slope_x: i32,
    t_w: u32, t_c: u32, pad0: u32, pad1: u32,
    ldw: u32, lda: u32, ldc: u32, pad2: u32,
}
const ACCUMULATE = 1u;
@group(0) @binding(0) var<storage, read_write> m: array<vec4<f32>>;
#ifdef MOVED
@group(0) @binding(1) var<storage, read_write> a: array<f32>;
#else
#ifdef MIXED
@group(0) @binding(1) var<storage, read_write> a: array<f32>;
#else
@group(0) @binding(1) var<storage, read_write> a: array<vec4<f32>>;
#endif
#endif
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
#ifdef WALK
@group(0) @binding(3) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> row_count: array<u32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

// The row (or column) of a that a tap reads for row (or column) `at` of c; a number beyond every image if there is none.
fn read_at(at: u32, tap: u32, stride: u32, off: i32) -> u32 {
#ifdef TRANSPOSED
    let moved = i32(at) - i32(tap) - off;
    if (moved < 0 || u32(moved) % stride != 0u) {
        return 0xffffffffu;
    }
    return u32(moved) / stride;
#else
    let moved = i32(at * stride) + i32(tap) - off;
    return select(u32(moved), 0xffffffffu, moved < 0);
#endif
}

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let column = (at.x * (${LANES}u / ${SIDE}u) + lane.x / ${SIDE}u) * ${TN}u;
    let o = (at.y * ${SIDE}u + lane.x % ${SIDE}u) * ${TM}u;
#ifdef WALK
    let columns = row_count[0];
#else
    let columns = p.columns;
#endif
    if (column >= columns || o >= p.c_c || at.z >= p.c_h * p.c_w) {
        return;
    }
    let y = at.z / p.c_w;
    let x = at.z % p.c_w;
#ifdef WALK
#unroll j 0 ${TN4}
#ifdef MOVED
    let x_${j} = rows[column + ${j}u * 4u].z;
    let y_${j} = rows[column + ${j}u * 4u + 1u].z;
    let z_${j} = rows[column + ${j}u * 4u + 2u].z;
    let w_${j} = rows[column + ${j}u * 4u + 3u].z;
#else
    let x_${j} = column + ${j}u * 4u;
    let y_${j} = x_${j} + 1u;
    let z_${j} = x_${j} + 2u;
    let w_${j} = x_${j} + 3u;
#endif
#endunroll
#endif
#ifdef MIXED
    // Offsets of the four columns.
    let e4 = vec4<u32>(rows[column].w, rows[column + 1u].w, rows[column + 2u].w, rows[column + 3u].w) / p.t_c;
    let oy = vec4<i32>(p.off_y) + p.slope_y * vec4<i32>(e4 / p.t_w);
    let ox = vec4<i32>(p.off_x) + p.slope_x * vec4<i32>(e4 % p.t_w);
#endif
    let last = (p.c_c + 3u) / 4u - 1u;
#unroll q 0 ${TM4}
    let o_${q} = min(o / 4u + ${q}u, last);
#unroll j 0 ${TN4}
    var s_${q}_0_${j} = vec4<f32>(0.0);
    var s_${q}_1_${j} = vec4<f32>(0.0);
    var s_${q}_2_${j} = vec4<f32>(0.0);
    var s_${q}_3_${j} = vec4<f32>(0.0);
#endunroll
#endunroll
    let first_tap = p.first / p.a_c;
    let end_tap = (p.end + p.a_c - 1u) / p.a_c;
    for (var tap = first_tap; tap < end_tap; tap++) {
        let i = tap / p.taps_w * p.dilation_y;
        let j = tap % p.taps_w * p.dilation_x;
#ifdef MIXED
        let ys = vec4<u32>(read_at(y, i, p.stride_y, oy.x), read_at(y, i, p.stride_y, oy.y), read_at(y, i, p.stride_y, oy.z), read_at(y, i, p.stride_y, oy.w));
        let xs = vec4<u32>(read_at(x, j, p.stride_x, ox.x), read_at(x, j, p.stride_x, ox.y), read_at(x, j, p.stride_x, ox.z), read_at(x, j, p.stride_x, ox.w));
        let there = (ys < vec4<u32>(p.a_h)) & (xs < vec4<u32>(p.a_w));
        if (!any(there)) {
            continue;
        }
        let from4 = select(vec4<u32>(0u), (ys * p.a_w + xs) * p.a_c, there) * p.lda + vec4<u32>(x_0, y_0, z_0, w_0);
#else
        let from_y = read_at(y, i, p.stride_y, p.off_y);
        let from_x = read_at(x, j, p.stride_x, p.off_x);
        if (from_y >= p.a_h || from_x >= p.a_w) {
            continue;
        }
        let from_a = (from_y * p.a_w + from_x) * p.a_c;
#endif
        let low = max(p.first, tap * p.a_c) - tap * p.a_c;
        let high = min(p.end, (tap + 1u) * p.a_c) - tap * p.a_c;
        for (var k = low; k < high; k++) {
            let base = (tap * p.a_c + k) * (p.ldw / 4u);
#unroll j 0 ${TN4}
#ifdef MIXED
            let at_${j} = from4 + k * p.lda;
            let a_${j} = select(vec4<f32>(0.0), vec4<f32>(a[at_${j}.x], a[at_${j}.y], a[at_${j}.z], a[at_${j}.w]), there);
#else
#ifdef MOVED
            let at_${j} = (from_a + k) * p.lda;
            let a_${j} = vec4<f32>(a[at_${j} + x_${j}], a[at_${j} + y_${j}], a[at_${j} + z_${j}], a[at_${j} + w_${j}]);
#else
            let a_${j} = a[((from_a + k) * p.lda + column) / 4u + ${j}u];
#endif
#endif
#endunroll
#unroll q 0 ${TM4}
#ifdef ABS
            let m_${q} = abs(m[base + o_${q}]);
#else
            let m_${q} = m[base + o_${q}];
#endif
#unroll j 0 ${TN4}
            s_${q}_0_${j} = fma(vec4<f32>(m_${q}.x), a_${j}, s_${q}_0_${j});
            s_${q}_1_${j} = fma(vec4<f32>(m_${q}.y), a_${j}, s_${q}_1_${j});
            s_${q}_2_${j} = fma(vec4<f32>(m_${q}.z), a_${j}, s_${q}_2_${j});
            s_${q}_3_${j} = fma(vec4<f32>(m_${q}.w), a_${j}, s_${q}_3_${j});
#endunroll
#endunroll
        }
    }
    let more = (p.flags & ACCUMULATE) != 0u;
#unroll q 0 ${TM4}
#unroll e 0 4
    if (o + ${q}u * 4u + ${e}u < p.c_c) {
        let to = ((at.z * p.c_c + o + ${q}u * 4u + ${e}u) * p.ldc + column) / 4u;
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
