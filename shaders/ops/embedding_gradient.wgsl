// out[b, id, :] = sum of g[b, i, :] over the positions i that name row id, in ascending order; rows that nothing names, and
// the padding row, become zeros.
//
// Buffers: links [slots, v + positions] (u32) from embedding_links, slot stride 0 if all slots share their ids; g [slots,
//   positions, n] (f32); out [slots, v, n] (f32), a field with any slot stride. Rows are read and written by vectors.
// Precision: one rounding a term. Undefined: NaN and infinity, which stay in their own slot and row. Padding columns of out
//   become 0.
// Geometry: workgroup (64,1,1) as 2^p.shift lanes along a row times rows; x covers vectors, y rows, z slots, the last two
//   with a stride. Bounds: guarded by n and v; links name positions only.
// Races: an invocation writes its own vectors.

struct Params {
    grid: vec4<u32>,
    n: u32, v: u32, slots: u32, slot_links: u32,
    slot_g: u32, slot_out: u32, shift: u32, row_step: u32,
    step: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> links: array<u32>;
@group(0) @binding(1) var<storage, read_write> g: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let quads = (p.n + 3u) / 4u;
    let across = 1u << p.shift;
    let q = (group.x + p.grid.x) * across + (lane.x & (across - 1u));
    if (q >= quads) {
        return;
    }
    let first = ((group.y + p.grid.y) << (6u - p.shift)) + (lane.x >> p.shift);
    let inside = vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.n);
    for (var s = group.z + p.grid.z; s < p.slots; s += p.step) {
        let base = s * p.slot_links;
        for (var row = first; row < p.v; row += p.row_step) {
            var sum = vec4<f32>(0.0);
            // 1 + the position, from 2^32 - 1 - the position.
            var next = 0u - links[base + row];
            while (next != 0u) {
                sum += g[s * p.slot_g + (next - 1u) * quads + q];
                next = links[base + p.v + next - 1u];
            }
            out[s * p.slot_out + row * quads + q] = select(vec4<f32>(0.0), sum, inside);
        }
    }
}
