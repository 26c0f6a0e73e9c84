// out[s, :] = sum over the chunks of x[s, chunk, :]: what column_chunks left, brought together.
//
// Buffers (f32, by vectors of four): x [slots, chunks, width], vectors next to each other; out [slots, width] with slot
//   stride p.slot_out, so that it may be a field of a table.
// 16 strands take chunks t, t + 16, ... in ascending order; then the strands are added in ascending order. The order depends
//   on the number of chunks alone.
// Precision: depth ceil(chunks / 16) + 15.
// Undefined: NaN and infinity, which stay in their own slot and column. Padding columns are summed like others
//   (column_chunks leaves zeros).
// Geometry: workgroup (64,1,1): 4 vectors times 16 strands; x covers vectors, y slots with a stride. Bounds: guarded by
//   width.
// Races: a barrier between the strands' writes and their reads, and before workgroup memory is written again; strand 0
//   stores. The loop over slots has the same bounds for a whole workgroup.
// Tried: one invocation a column without strands is a chain of 784 loads for 50,176 rows, which at one slot nothing hides.

struct Params {
    grid: vec4<u32>,
    width4: u32, chunks: u32, slots: u32, step: u32,
    slot_x: u32, slot_out: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/strands"

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let q = (group.x + p.grid.x) * 4u + lane.x % 4u;
    for (var s = group.y + p.grid.y; s < p.slots; s += p.step) {
        var sum = vec4<f32>(0.0);
        if (q < p.width4) {
            for (var chunk = lane.x / 4u; chunk < p.chunks; chunk += STRANDS) {
                sum += x[s * p.slot_x + chunk * p.width4 + q];
            }
        }
        let total = strands_sum(sum, lane.x, p.chunks);
        if (lane.x < 4u && q < p.width4) {
            out[s * p.slot_out + q] = total;
        }
    }
}
