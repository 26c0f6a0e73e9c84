// out[b, n] = labels[ids[b, n]], or u32::MAX (ignored by losses) where ids[b, n] is no sample.
//
// Buffers (u32): labels [p.rows]; ids [slots or 1, samples], slots p.stride_ids apart; out [slots, samples], slots
//   p.stride_out apart.
// Precision: exact. Undefined: nothing. Bounds: ids are compared with p.rows.
// Geometry: workgroup (64,1,1), grid-stride over samples; y covers slots with stride p.slot_step.
// Races: an invocation writes its own words. Tried: nothing else.

struct Params {
    grid: vec4<u32>,
    samples: u32, threads: u32, slots: u32, slot_step: u32,
    stride_ids: u32, stride_out: u32, rows: u32, pad: u32,
}
@group(0) @binding(0) var<storage, read_write> labels: array<u32>;
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var b = group.y + p.grid.y; b < p.slots; b += p.slot_step) {
        for (var n = (group.x + p.grid.x) * 64u + lane.x; n < p.samples; n += p.threads) {
            let id = ids[b * p.stride_ids + n];
            out[b * p.stride_out + n] = select(0xffffffffu, labels[min(id, p.rows - 1u)], id < p.rows);
        }
    }
}
