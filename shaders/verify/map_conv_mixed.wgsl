// map_conv.wgsl for a walk in which the offset differs from row to row, as it does where a window grows into the whole image: it is
// p.off + p.slope * t, t the position of the element that the row bounds, (w / (p.t_w t_c), w / t_c % p.t_w) with w = rows[r].w, t_c = p.t_c.
//
// TRANSPOSED only, TN = 4: an invocation has four columns, each of which reads a at a place of its own, or nothing.
// Buffers (f32): m [taps, a_c, p.ldw], a [window, p.lda], c [window, p.ldc], rows, row_count; MOVED, ACCUMULATE, precision (the same terms in
//   the same order), geometry as in map_conv.wgsl. Races: own elements.

struct Params {
    grid: vec4<u32>,
    a_h: u32, a_w: u32, a_c: u32, columns: u32,
    c_h: u32, c_w: u32, c_c: u32, flags: u32,
    taps_h: u32, taps_w: u32, stride_y: u32, stride_x: u32,
    dilation_y: u32, dilation_x: u32, first: u32, end: u32,
    off_y: i32, off_x: i32, slope_y: i32, slope_x: i32,
    t_w: u32, t_c: u32, ldw: u32, lda: u32,
    ldc: u32, pad0: u32, pad1: u32, pad2: u32,
    step_y: i32, step_x: i32, index_y: i32, index_x: i32,
}
const ACCUMULATE = 1u;
@group(0) @binding(0) var<storage, read_write> m: array<vec4<f32>>;
#ifdef MOVED
@group(0) @binding(1) var<storage, read_write> a: array<f32>;
#else
@group(0) @binding(1) var<storage, read_write> a: array<f32>;
#endif
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
#ifdef WALK
@group(0) @binding(3) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> row_count: array<u32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/taps"


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
    // Offsets of the four columns.
    let e4 = vec4<u32>(rows[column].w, rows[column + 1u].w, rows[column + 2u].w, rows[column + 3u].w) / p.t_c;
    let oy = vec4<i32>(p.off_y) + p.slope_y * vec4<i32>(e4 / p.t_w);
    let ox = vec4<i32>(p.off_x) + p.slope_x * vec4<i32>(e4 % p.t_w);
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
    let part_y = vec2<i32>(i32(p.dilation_y / p.stride_y), i32(p.dilation_y % p.stride_y));
    let part_x = vec2<i32>(i32(p.dilation_x / p.stride_x), i32(p.dilation_x % p.stride_x));
#unroll e 0 4
    var row_${e} = first_tap(y, p.stride_y, oy[${e}]);
    let left_${e} = first_tap(x, p.stride_x, ox[${e}]);
#endunroll
    for (var i = 0u; i < p.taps_h; i++) {
#unroll e 0 4
        var column_${e} = left_${e};
#endunroll
        for (var j = 0u; j < p.taps_w; j++) {
            let there = vec4<bool>(
                reads(row_0, p.a_h) && reads(column_0, p.a_w),
                reads(row_1, p.a_h) && reads(column_1, p.a_w),
                reads(row_2, p.a_h) && reads(column_2, p.a_w),
                reads(row_3, p.a_h) && reads(column_3, p.a_w),
            );
            let ys = vec4<i32>(row_0.x, row_1.x, row_2.x, row_3.x);
            let xs = vec4<i32>(column_0.x, column_1.x, column_2.x, column_3.x);
            let from4 = vec4<u32>(select(vec4<i32>(0), (ys * i32(p.a_w) + xs) * i32(p.a_c), there)) * p.lda + vec4<u32>(x_0, y_0, z_0, w_0);
#unroll e 0 4
            column_${e} = next_tap(column_${e}, part_x, p.stride_x, p.dilation_x);
#endunroll
            if (!any(there)) {
                continue;
            }
            for (var k = p.first; k < p.end; k++) {
                let base = ((i * p.taps_w + j) * p.a_c + k) * (p.ldw / 4u);
                let at_0 = from4 + k * p.lda;
                let a_0 = select(vec4<f32>(0.0), vec4<f32>(a[at_0.x], a[at_0.y], a[at_0.z], a[at_0.w]), there);
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
#unroll e 0 4
        row_${e} = next_tap(row_${e}, part_y, p.stride_y, p.dilation_y);
#endunroll
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
