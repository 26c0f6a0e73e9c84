// z[b, a] = h[b, :] . table[ids[b, a], :] for the pairs whose id is a row of this window of the table; other logits stay what they are.
//
// Buffers: h [B, width] (f32, vectors of four); table: rows p.first .. p.first + p.rows of [N, width] (f32, or bf16 with BF16, rows of
//   p.stride4 vectors of four); ids (u32) and z (f32): samples p.sample .. of [B, A], rows p.pitch apart.
// Precision: one fused multiply-add a term in ascending order of the columns, one accumulator: the order of `matmul`, whose bits it has.
// Undefined: NaN and infinity stay in their pair; an id that is a row of no window leaves its logit unwritten.
// Geometry: workgroup (64,1,1), an invocation has the pairs a, a + 64, .. of a sample, PAIRS of them; x covers the pairs of a sample, y samples.
// Races: an invocation writes its own logits. Bounds: guarded by p.places; ids are compared with p.rows, and lanes without a row of the
//   window read its first.
// Tried on a software device (256 x 1,000 pairs of 132 columns, 50 to 100 ms of processor time, nearly all for loads lane by lane): loads of h
//   that all lanes share cost as much as others, so several pairs have one. A lane walks its own row, so that a line of memory is
//   read once and then used from the cache.

struct Params {
    grid: vec4<u32>,
    places: u32, pitch: u32, width4: u32, sample: u32,
    first: u32, rows: u32, stride4: u32, pad0: u32,
}
@group(0) @binding(0) var<storage, read_write> h: array<vec4<f32>>;
#ifdef BF16
#import "lib/bf16"
@group(0) @binding(1) var<storage, read_write> table: array<vec2<u32>>;
fn weights(i: u32) -> vec4<f32> {
    return bf16_unpack(table[i]);
}
#else
@group(0) @binding(1) var<storage, read_write> table: array<vec4<f32>>;
fn weights(i: u32) -> vec4<f32> {
    return table[i];
}
#endif
@group(0) @binding(2) var<storage, read_write> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> z: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let b = group.y + p.grid.y;
    let first = (group.x + p.grid.x) * ${PAIRS}u * 64u + lane.x;
#unroll v 0 ${PAIRS}
    let a_${v} = first + ${v}u * 64u;
    let at_${v} = b * p.pitch + min(a_${v}, p.places - 1u);
    let row_${v} = ids[at_${v}] - p.first;
    let own_${v} = row_${v} < p.rows;
    let of_row_${v} = select(0u, row_${v}, own_${v}) * p.stride4;
    var s_${v} = 0.0;
#endunroll
    let of_h = (p.sample + b) * p.width4;
    for (var q = 0u; q < p.width4; q++) {
        let x = h[of_h + q];
#unroll v 0 ${PAIRS}
        let w_${v} = weights(of_row_${v} + q);
        s_${v} = fma(x.x, w_${v}.x, s_${v});
        s_${v} = fma(x.y, w_${v}.y, s_${v});
        s_${v} = fma(x.z, w_${v}.z, s_${v});
        s_${v} = fma(x.w, w_${v}.w, s_${v});
#endunroll
    }
#unroll v 0 ${PAIRS}
    if (own_${v} && a_${v} < p.places) {
        z[at_${v}] = s_${v};
    }
#endunroll
}
