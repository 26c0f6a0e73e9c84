// partial[b, k] = sum of squares of chunk k of slot b's gradients: the first of two dispatches of gradient clipping by norm.
//
// Buffers: table [slots, P] (f32 by vectors of four, slots p.stride_table vectors apart); chunks [count] of vec4<u32>: first
//   element, rows, columns and pitch of a piece of a field, elements behind the columns of a row (padding) not counted;
//   partial [slots, count] (f32), slots p.stride_partial elements apart.
// Lane t of 64 takes vectors t, t + 64, ... of the chunk in ascending order, then adds its four partial sums, then a tree
//   adds the lanes. Chunks have at most 4,096 elements (train/optimiser/tables.rs), so the order depends on the shapes of the
//   fields alone.
// Precision: depth 16 + 8. Squares above 3e38 overflow to infinity: such a norm clips to 0. Undefined: NaN makes its slot's NaN.
// Geometry: workgroup (64,1,1), one chunk of one slot; x covers chunks with stride p.groups, y slots with p.slot_step.
// Races: a barrier between write and read of each tree level and before workgroup memory is written again; the loops depend
//   on the workgroup alone; lane 0 stores. Bounds: the host checks that chunks stay inside a slot's row of the table.
// Tried: integer division for the row of a vector, slow on software devices; (i + 0.5) / quads is exact for the 1,024 of a
//   chunk.

struct Params {
    grid: vec4<u32>,
    count: u32, groups: u32, slots: u32, slot_step: u32,
    stride_table: u32, stride_partial: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> table: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> chunks: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> partial: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var b = group.y + p.grid.y; b < p.slots; b += p.slot_step) {
        for (var k = group.x + p.grid.x; k < p.count; k += p.groups) {
            let chunk = chunks[k];
            let quads = (chunk.z + 3u) / 4u;
            let base = b * p.stride_table + chunk.x / 4u;
            let per_row = 1.0 / f32(quads);
            var s = vec4<f32>(0.0);
            for (var i = lane.x; i < chunk.y * quads; i += 64u) {
                let row = u32((f32(i) + 0.5) * per_row);
                let q = i - row * quads;
                let v = table[base + row * (chunk.w / 4u) + q];
                let inside = vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(chunk.z);
                s = select(s, fma(v, v, s), inside);
            }
            sums[lane.x] = (s.x + s.y) + (s.z + s.w);
#unroll level 0 6
            workgroupBarrier();
            if (lane.x < (32u >> ${level}u)) {
                sums[lane.x] += sums[lane.x + (32u >> ${level}u)];
            }
#endunroll
            if (lane.x == 0u) {
                partial[b * p.stride_partial + k] = sums[0];
            }
            workgroupBarrier();
        }
    }
}
