// planes[t, b, :] = sum over the active labels a of part t of sample b, ascending, of dz[b, a] * table[ids[b, a], :]; `hidden_gradient`
//   adds the planes. Part t has the labels t * p.part .. (t + 1) * p.part; the length of a part depends on A alone.
//
// Buffers: table: rows p.first .. p.first + p.rows of [N, width] (f32, or bf16 with BF16, rows of p.stride4 vectors of
//   four); ids (u32, ascending in each sample) and dz (f32): samples p.sample .. of [B, A], rows p.pitch apart; planes [parts, B, hidden] (f32, rows of p.plane4 vectors).
// One dispatch does the pairs whose id is a row of the window (p.flags & SEARCH: of all windows there are several). Without FIRST sums
//   go on from what the planes hold, so windows change no bit.
// Precision: one fused multiply-add a term into one accumulator, in the order of a split `matmul`, whose bits it has.
// Undefined: NaN and infinity stay in their sample; columns of planes behind the hidden elements.
// Geometry: workgroup (64,1,1), an invocation has the vectors q, q + p.share, .. of a row of a plane, VECTORS of them; x covers p.len invocations,
//   p.share a row, samples within parts: neighbours read a row together. A part has at most 32,768 labels: software devices end loops at 65,535.
// Races: an invocation writes its own vectors. Bounds: guarded by p.len and p.rows.
// Tried on a software device, which loads lane by lane: a vector an invocation, about 90 ms of processor time for 256 x 1,000 pairs of 128 columns.
//   Several share the loads of their pair.

struct Params {
    grid: vec4<u32>,
    len: u32, count: u32, samples: u32, sample: u32,
    places: u32, pitch: u32, part: u32, stride4: u32,
    plane4: u32, first: u32, rows: u32, flags: u32,
    share: u32, pad0: u32, pad1: u32, pad2: u32,
}
#ifdef BF16
#import "lib/bf16"
@group(0) @binding(0) var<storage, read_write> table: array<vec2<u32>>;
fn weights(i: u32) -> vec4<f32> {
    return bf16_unpack(table[i]);
}
#else
@group(0) @binding(0) var<storage, read_write> table: array<vec4<f32>>;
fn weights(i: u32) -> vec4<f32> {
    return table[i];
}
#endif
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> dz: array<f32>;
@group(0) @binding(3) var<storage, read_write> planes: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

const FIRST = 1u;
const SEARCH = 8u;

// The first of places start .. end whose id is not below this one, or end.
fn reaches(id: u32, start: u32, end: u32) -> u32 {
    var low = start;
    var high = end;
    while (low < high) {
        let middle = (low + high) / 2u;
        let below = ids[middle] < id;
        low = select(low, middle + 1u, below);
        high = select(middle, high, below);
    }
    return low;
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let item = (group.x + p.grid.x) * 64u + lane.x;
    if (item >= p.len) {
        return;
    }
    let line = item / p.share;
    let first = item - line * p.share;
    let t = line / p.count;
    let b = line - t * p.count;
    var at = b * p.pitch + t * p.part;
    var end = b * p.pitch + min((t + 1u) * p.part, p.places);
    if ((p.flags & SEARCH) != 0u) {
        at = reaches(p.first, at, end);
        end = reaches(p.first + p.rows, at, end);
    }
    let to = (t * p.samples + p.sample + b) * p.plane4;
#unroll v 0 ${VECTORS}
    // Behind the row's end, the invocation's first vector once more, which is not written.
    let q_${v} = first + ${v}u * p.share;
    let c_${v} = select(first, q_${v}, q_${v} < p.plane4);
    var s_${v} = vec4<f32>(0.0);
    if ((p.flags & FIRST) == 0u) {
        s_${v} = planes[to + c_${v}];
    }
#endunroll
    for (; at < end; at++) {
        let row = min(ids[at] - p.first, p.rows - 1u) * p.stride4;
        let g = vec4<f32>(dz[at]);
#unroll v 0 ${VECTORS}
        s_${v} = fma(g, weights(row + c_${v}), s_${v});
#endunroll
    }
#unroll v 0 ${VECTORS}
    if (q_${v} < p.plane4) {
        planes[to + q_${v}] = s_${v};
    }
#endunroll
}
