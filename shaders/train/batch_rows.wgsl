// out[b, n, ...] = table[ids[b, n], ...], or zeros where ids[b, n] is no sample: 32-bit words of any kind.
//
// Buffers: table [p.rows, ...] and out [slots, samples, ...] by vectors of four words, p.quads of them a sample with its
//   padding; ids [slots or 1, samples] (u32), slots p.stride_ids apart; slots of out p.stride_out vectors apart.
// Precision: exact (words are moved as bits). Undefined: padding of rows is copied along.
// Geometry: workgroup (64,1,1) as p.across lanes along a sample times 64 / p.across samples; x covers samples with stride
//   p.sample_step, y slots with stride p.slot_step.
// Races: an invocation writes its own vectors. Bounds: ids are compared with p.rows. Tried: nothing else.

struct Params {
    grid: vec4<u32>,
    samples: u32, quads: u32, across: u32, sample_step: u32,
    slots: u32, slot_step: u32, stride_ids: u32, stride_out: u32,
    rows: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> table: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let first = (group.x + p.grid.x) * (64u / p.across) + lane.x / p.across;
    for (var b = group.y + p.grid.y; b < p.slots; b += p.slot_step) {
        for (var n = first; n < p.samples; n += p.sample_step) {
            let id = ids[b * p.stride_ids + n];
            let source = min(id, p.rows - 1u) * p.quads;
            for (var q = lane.x % p.across; q < p.quads; q += p.across) {
                out[b * p.stride_out + n * p.quads + q] = select(vec4<u32>(0u), table[source + q], id < p.rows);
            }
        }
    }
}
