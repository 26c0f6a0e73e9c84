// dw[s, i, j, c, m] = sum over samples and windows (v, u) of x[s, b, v s_y - p_y + i d_y, u s_x - p_x + j d_x, c] g[s, b, v,
// u, m]: the gradient of a convolution's weight, slot by slot (lib/conv_weight.wgsl has the geometry); what lies outside of
// x counts as 0.
//
// Implicit GEMM, direct variant: no workgroup memory, no barrier. Rows are (i, j, c), columns m, terms the windows of one
// chunk. Each invocation owns a tile of TM rows x TN columns of one plane in registers (TN a multiple of 4) and walks the
// windows in ascending order with one accumulator an output and one fma a term: bit-identical to conv_weight_tiled.wgsl
// wherever the device rounds alike.
//
// Buffers (f32, channels last, pixels and weight rows start at multiples of 4):  x [slots, batch, in_h, in_w, parts c];
//   g [slots, batch, out_h, out_w, parts n];  dw [slots, chunks, taps, c, parts n] or, with TURNED, [.., n, parts c].
//   More than one group needs c and n to be multiples of 4. A slot stride of 0 shares an operand.
// Precision: at most p.chunk roundings of unit 2^-23 on any one term of a plane; conv_weight_sum.wgsl adds the planes.
//   Chunks are a constant: no value depends on the slots, the grid or TM, TN.
// Undefined: contents of padding channels of x and g (padding of dw is written as 0); NaN and infinity in the operands of a slot.
// Geometry: workgroup (LANES,1,1), an invocation takes one item, a tile of a plane: column tiles fastest, then row tiles,
//   then chunks, so that small weights fill the lanes with chunks; z covers slots and groups.
// Bounds: rows are clamped to the last one and columns to the last vector of the group when loading; stores are guarded.
// Races: an invocation writes its own tile of its own plane only.
// QUADS, where rows of a tap come in fours, reads x by vectors and looks four rows up at once. Positions move by comparison,
// not division.
// Tried on a 2-core software device (Mesa 22.3, 16 images 32x32x64 and 3x3x64x64, GFLOP/s): x by
//   scalars 27, QUADS 35 (16x8: 20 and 26; 16x4: 13 and 16); the forward convolution 35.

#import "lib/conv_weight"
#ifdef QUADS
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
#else
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
#endif
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
#unroll q 0 ${TM4}
#ifdef QUADS
    let row_${q} = row_of(min(row + ${q}u * 4u, p.rows - 4u));
#else
#unroll e 0 4
    let row_${q}_${e} = row_of(min(row + ${q}u * 4u + ${e}u, p.rows - 1u));
#endunroll
#endif
#unroll e 0 4
#unroll j 0 ${TN4}
    var s_${q}_${e}_${j} = vec4<f32>(0.0);
#endunroll
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
#unroll q 0 ${TM4}
#ifdef QUADS
        let in_${q} = inside(y + row_${q}.y, x_ + row_${q}.x);
        let v_${q} = select(vec4<f32>(0.0), x[select(0u, (corner + row_${q}.start) / 4u, in_${q})], in_${q});
#endif
#unroll e 0 4
#ifdef QUADS
        let v_${q}_${e} = vec4<f32>(v_${q}[${e}]);
#else
        let in_${q}_${e} = inside(y + row_${q}_${e}.y, x_ + row_${q}_${e}.x);
        let v_${q}_${e} = vec4<f32>(select(0.0, x[select(0u, corner + row_${q}_${e}.start, in_${q}_${e})], in_${q}_${e}));
#endif
#unroll j 0 ${TN4}
        s_${q}_${e}_${j} = fma(v_${q}_${e}, g_${j}, s_${q}_${e}_${j});
#endunroll
#endunroll
#endunroll
        place = advance(place, step);
    }
#ifdef TURNED
    let base = slot * p.slot_w + item.chunk * p.plane + part * p.c;
#else
    let base = slot * p.slot_w + item.chunk * p.plane + part * p.n;
#endif
#unroll q 0 ${TM4}
#unroll e 0 4
#unroll j 0 ${TN4}
    store(base, row + ${q}u * 4u + ${e}u, column + ${j}u * 4u, s_${q}_${e}_${j});
#endunroll
#endunroll
#endunroll
}
