// dw[s, i, j, c, m] = sum over samples and windows (v, u) of x[s, b, v s_y - p_y + i d_y, u s_x - p_x + j d_x, c] g[s, b, v, u, m]: the
// gradient of a convolution's weight, slot by slot (lib/conv_weight.wgsl has the geometry); what lies outside of x counts as 0.
//
// Implicit GEMM, direct variant: no workgroup memory, no barrier. Rows are (i, j, c), columns m, terms the windows of one chunk. Each
// invocation owns a tile of TM rows x TN columns of one plane in registers (TN a multiple of 4) and walks the windows in ascending
// order with one accumulator an output and one fma a term: bit-identical to conv_weight_tiled.wgsl wherever the device rounds alike.
//
// Buffers (f32, channels last, pixels and weight rows start at multiples of 4):  x [slots, batch, in_h, in_w, parts c];
//   g [slots, batch, out_h, out_w, parts n];  dw [slots, chunks, taps, c, parts n] or, with TURNED, [.., n, parts c].
//   More than one group needs c and n to be multiples of 4. A slot stride of 0 shares an operand.
// Precision: at most p.chunk roundings of unit 2^-23 on any one term of a plane; conv_weight_sum.wgsl adds the planes. Chunks are a constant:
//   no value depends on the slots, the grid or TM, TN.
// Undefined: contents of padding channels of x and g (padding of dw is written as 0); NaN and infinity in the operands of a slot.
// Geometry: workgroup (LANES,1,1), an invocation takes one item, a tile of a plane: column tiles fastest, then row tiles, then chunks, so
//   that small weights fill the lanes with chunks; z covers slots and groups.
// Bounds: rows are clamped to the last one and columns to the last vector of the group when loading; stores are guarded.
// Races: an invocation writes its own tile of its own plane only.
// Tried: nothing else. Positions move by comparison, not division; a row's place in the window is added up once.

#import "lib/conv_weight"
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> g: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let number = p.first + at.x * ${LANES}u + lane.x;
    if (number >= p.items) {
        return;
    }
    let item = item_of(number);
    let column = item.column * ${TN}u;
    let row = item.row * ${TM}u;
    let part = at.z % p.parts;
    let slot = at.z / p.parts;
    let last4 = (p.n + 3u) / 4u - 1u;
    let x_base = slot * p.slot_x + part * p.c;
    let g_base = slot * p.slot_g + part * p.n;
#unroll j 0 ${TN4}
    let column_${j} = min(column / 4u + ${j}u, last4);
#endunroll
#unroll r 0 ${TM}
    let row_${r} = row_of(min(row + ${r}u, p.rows - 1u));
#endunroll
#unroll r 0 ${TM}
#unroll j 0 ${TN4}
    var s_${r}_${j} = vec4<f32>(0.0);
#endunroll
#endunroll
    let first = item.chunk * p.chunk;
    let end = min(first + p.chunk, p.pixels);
    let step = place_of(1u);
    var place = place_of(first);
    for (var pixel = first; pixel < end; pixel++) {
        let g_at = (g_base + pixel_of(place)) / 4u;
#unroll j 0 ${TN4}
        let g_${j} = g[g_at + column_${j}];
#endunroll
        let corner = x_base + corner_of(place);
        let y = i32(place.y * p.stride_y);
        let x_ = i32(place.z * p.stride_x);
#unroll r 0 ${TM}
        let in_${r} = inside(y + row_${r}.y, x_ + row_${r}.x);
        let v_${r} = vec4<f32>(select(0.0, x[select(0u, corner + row_${r}.start, in_${r})], in_${r}));
#unroll j 0 ${TN4}
        s_${r}_${j} = fma(v_${r}, g_${j}, s_${r}_${j});
#endunroll
#endunroll
        place = advance(place, step);
    }
#ifdef TURNED
    let base = slot * p.slot_w + item.chunk * p.plane + part * p.c;
#else
    let base = slot * p.slot_w + item.chunk * p.plane + part * p.n;
#endif
#unroll r 0 ${TM}
#unroll j 0 ${TN4}
    store(base, row + ${r}u, column + ${j}u * 4u, s_${r}_${j});
#endunroll
#endunroll
}
