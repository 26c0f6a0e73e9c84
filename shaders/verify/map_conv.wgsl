// c = M a, or c += M a, for a convolution M (or its transpose) and the columns of a; map_dense.wgsl says what a column is.
//
// a holds windows [p.a_h, p.a_w, p.a_c] of one layer's values, c windows [p.c_h, p.c_w, p.c_c] of another's, channels last:
//   forward:    c[y, x, o] = sum over taps (i, j) and channels q of m[i, j, q, o] a[y s - off + i d, x s - off + j d, q]
//   TRANSPOSED: c[y, x, o] = sum of m[i, j, q, o] a[y', x', q] over taps and (y', x') with y' s + off + i d = y and the like for x,
//   with zero outside of a; s, d, off each for y and x. off is the padding, or what it becomes between the windows of a row (dependence sets)
//   in a walk. map_conv_mixed.wgsl is for offsets that differ from row to row.
//
// Buffers (f32): m [taps, a_c, p.ldw] (p.ldw a multiple of 4); a [window, p.lda], c [window, p.ldc].
// WALK, MOVED, ABS, ACCUMULATE, precision and geometry as in map_dense.wgsl; first and end are channels of a, of which every tap is
//   taken: a long sum is cut along the channels.
// p.step: the taps that read something are this far apart (1 forward, s / gcd(s, d) backward), p.index: and read values this far apart.
//   y covers the channels of c, z its positions.
// Races: own elements.
// Tried on a 2-core software device (resnet_2b, 8 inputs): a loop a tap row, tap and channel, divisions in it 850 ms, without them 726 ms, one
//   loop 710 ms. Lanes along positions instead of columns make taps diverge where the stride is 2.

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
@group(0) @binding(1) var<storage, read_write> a: array<vec4<f32>>;
#endif
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>;
#ifdef WALK
@group(0) @binding(3) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> row_count: array<u32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/taps"

// The taps that read something: the first of them, what it reads, and how many there are.
struct Taps {
    tap: i32,
    index: i32,
    count: i32,
}

fn range_of_taps(start: vec2<i32>, part: vec2<i32>, stride: u32, dilation: u32, taps: u32, size: u32) -> Taps {
    var cursor = start;
    var range = Taps(0, 0, 0);
    for (var tap = 0u; tap < taps; tap++) {
        let hit = reads(cursor, size);
        let first = hit && range.count == 0;
        range = Taps(select(range.tap, i32(tap), first), select(range.index, cursor.x, first), range.count + select(0, 1, hit));
        cursor = next_tap(cursor, part, stride, dilation);
    }
    return range;
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
    // Taps that read something form a range of every t_step-th; one loop over all their terms, since every loop costs a round more than it
    // has on devices that run lanes in lockstep.
    let part_y = vec2<i32>(i32(p.dilation_y / p.stride_y), i32(p.dilation_y % p.stride_y));
    let part_x = vec2<i32>(i32(p.dilation_x / p.stride_x), i32(p.dilation_x % p.stride_x));
    let ys = range_of_taps(first_tap(y, p.stride_y, p.off_y), part_y, p.stride_y, p.dilation_y, p.taps_h, p.a_h);
    let xs = range_of_taps(first_tap(x, p.stride_x, p.off_x), part_x, p.stride_x, p.dilation_x, p.taps_w, p.a_w);
    let channels = i32(p.end - p.first);
    let a_c = i32(p.a_c);
    var at_a = (ys.index * i32(p.a_w) + xs.index) * a_c + i32(p.first);
    var at_m = (ys.tap * i32(p.taps_w) + xs.tap) * a_c + i32(p.first);
    // From the last channel of a tap to the first of the next one; and of the next row of taps, on top of that.
    let next_a = p.index_x * a_c - channels;
    let next_m = p.step_x * a_c - channels;
    let down_a = (p.index_y * i32(p.a_w) - xs.count * p.index_x) * a_c;
    let down_m = (p.step_y * i32(p.taps_w) - xs.count * p.step_x) * a_c;
    let terms = ys.count * xs.count * channels;
    var channel = 0;
    var across = 0;
    for (var term = 0; term < terms; term++) {
            let base = u32(at_m) * (p.ldw / 4u);
            let row_a = u32(at_a) * p.lda;
#unroll j 0 ${TN4}
#ifdef MOVED
            let a_${j} = vec4<f32>(a[row_a + x_${j}], a[row_a + y_${j}], a[row_a + z_${j}], a[row_a + w_${j}]);
#else
            let a_${j} = a[(row_a + column) / 4u + ${j}u];
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
        channel += 1;
        let wrap = channel == channels;
        channel = select(channel, 0, wrap);
        across += select(0, 1, wrap);
        let down = across == xs.count;
        across = select(across, 0, down);
        at_a += 1 + select(0, next_a, wrap) + select(0, down_a, down);
        at_m += 1 + select(0, next_m, wrap) + select(0, down_m, down);
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
