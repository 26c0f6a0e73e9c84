// h[b, :] = act(sum over the entries e of sample b, ascending, of values[e] * table[features[e], :]), act ReLU if p.flags & RELU; then
//   h[b, p.hidden] = 1 and zeros behind it: the input layer of SLIDE (Chen et al., MLSys 2020), rows of the table stored by feature.
//
// Buffers: offsets [B + 1], features [E] (u32, ascending in each sample), values [E] (f32); table: rows p.first .. p.first + p.rows
//   of [features, width] (f32, or bf16 with BF16, rows of p.stride4 vectors of four); h [B, width] (f32, vectors of four).
// One dispatch does the entries whose feature is a row of the window (p.flags & SEARCH: of all windows there are several), and of these
//   the p.most entries behind the first p.skip. Without FIRST sums go on from what h holds; with LAST they are brought to an end.
// Precision: one rounding a term, f32 sums in ascending order of the entries: the same bits for any windows and parts.
// Undefined: NaN and infinity stay in their sample. Features that are no rows.
// Geometry: workgroup (64,1,1), an invocation has the vectors q, q + p.share, .. of a row of h, VECTORS of them; x covers p.len invocations,
//   p.share a row, so neighbours read a row together.
//   The host gives at most 32,768 entries to a dispatch: software devices end loops at 65,535.
// Races: an invocation writes its own vectors. Bounds: guarded by p.len and p.rows.
// Tried on a software device, which loads lane by lane: a vector an invocation, 3 ms of processor time for 256 samples of 22 entries and 128 elements,
//   17 ms for 75. Several share the loads of their entry.

struct Params {
    grid: vec4<u32>,
    len: u32, width4: u32, hidden: u32, flags: u32,
    first: u32, rows: u32, skip: u32, most: u32,
    stride4: u32, share: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> offsets: array<u32>;
@group(0) @binding(1) var<storage, read_write> features: array<u32>;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;
#ifdef BF16
#import "lib/bf16"
@group(0) @binding(3) var<storage, read_write> table: array<vec2<u32>>;
fn weights(i: u32) -> vec4<f32> {
    return bf16_unpack(table[i]);
}
#else
@group(0) @binding(3) var<storage, read_write> table: array<vec4<f32>>;
fn weights(i: u32) -> vec4<f32> {
    return table[i];
}
#endif
@group(0) @binding(4) var<storage, read_write> h: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

const FIRST = 1u;
const LAST = 2u;
const RELU = 4u;
const SEARCH = 8u;

// The first of entries start .. end whose feature is not below this one, or end.
fn reaches(feature: u32, start: u32, end: u32) -> u32 {
    var low = start;
    var high = end;
    while (low < high) {
        let middle = (low + high) / 2u;
        let below = features[middle] < feature;
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
    let sample = item / p.share;
    let first = item - sample * p.share;
#unroll v 0 ${VECTORS}
    // Behind the row's end, the invocation's first vector once more, which is not written.
    let q_${v} = first + ${v}u * p.share;
    let c_${v} = select(first, q_${v}, q_${v} < p.width4);
#endunroll
    var at = offsets[sample];
    var end = offsets[sample + 1u];
    if ((p.flags & SEARCH) != 0u) {
        at = reaches(p.first, at, end);
        end = reaches(p.first + p.rows, at, end);
    }
    at = min(at + p.skip, end);
    end = min(at + p.most, end);
#unroll v 0 ${VECTORS}
    var s_${v} = vec4<f32>(0.0);
    if ((p.flags & FIRST) == 0u) {
        s_${v} = h[sample * p.width4 + c_${v}];
    }
#endunroll
    for (; at < end; at++) {
        let row = min(features[at] - p.first, p.rows - 1u) * p.stride4;
        let value = vec4<f32>(values[at]);
#unroll v 0 ${VECTORS}
        s_${v} = fma(value, weights(row + c_${v}), s_${v});
#endunroll
    }
#unroll v 0 ${VECTORS}
    if ((p.flags & LAST) != 0u) {
        if ((p.flags & RELU) != 0u) {
            s_${v} = max(s_${v}, vec4<f32>(0.0));
        }
        let column = vec4<u32>(q_${v} * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
        let behind = select(vec4<f32>(0.0), vec4<f32>(1.0), column == vec4<u32>(p.hidden));
        s_${v} = select(behind, s_${v}, column < vec4<u32>(p.hidden));
    }
    if (q_${v} < p.width4) {
        h[sample * p.width4 + q_${v}] = s_${v};
    }
#endunroll
}
