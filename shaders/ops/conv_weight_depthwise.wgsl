// dw[s, i, j, 0, c] = sum over samples and windows (v, u) of x[s, b, v s_y - p_y + i d_y, u s_x - p_x + j d_x, c] g[s, b, v,
// u, c]: the gradient of the weight of a convolution in which every channel is a group of its own, slot by slot
// (lib/conv_weight.wgsl).
//
// Buffers (f32, channels last, pixels and weight rows start at multiples of 4):  x [slots, batch, in_h, in_w, n];
//   g [slots, batch, out_h, out_w, n];  dw [slots, chunks, taps, n]. A slot stride of 0 shares an operand.
// Precision: at most p.chunk roundings of unit 2^-23 on any one term of a plane, in ascending order of windows;
//   conv_weight_sum.wgsl adds the planes. Chunks are a constant: no value depends on the slots or the grid.
// Undefined: contents of padding channels of x and g (padding of dw is written as 0); NaN and infinity in the operands of a slot.
// Geometry: workgroup (64,1,1), an invocation takes one item, four channels of one tap of a plane: channels fastest, then
//   taps, then chunks; z covers slots. Bounds: the last item; stores are guarded.
// Races: an invocation writes its own vector of its own plane.
// Tried: nothing else; g is read once a tap, which caches serve.

#import "lib/conv_weight"
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> g: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let number = p.first + at.x * 64u + lane.x;
    if (number >= p.items) {
        return;
    }
    let item = item_of(number);
    let row = row_of(item.row);
    let x_base = at.z * p.slot_x + item.column * 4u;
    let g_base = at.z * p.slot_g + item.column * 4u;
    let first = item.chunk * p.chunk;
    let end = min(first + p.chunk, p.pixels);
    let step = place_of(1u);
    var place = place_of(first);
    var s = vec4<f32>(0.0);
    for (var pixel = first; pixel < end; pixel++) {
        let used = inside(i32(place.y * p.stride_y) + row.y, i32(place.z * p.stride_x) + row.x);
        let from_pixel = select(0u, (x_base + corner_of(place) + row.start) / 4u, used);
        let value = select(vec4<f32>(0.0), x[from_pixel], used);
        s = fma(value, g[(g_base + pixel_of(place)) / 4u], s);
        place = advance(place, step);
    }
    store(at.z * p.slot_w + item.chunk * p.plane, item.row, item.column * 4u, s);
}
