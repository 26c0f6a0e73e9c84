// Moves every lane's units from where coding left them to their places in the stream (rans_offsets).
//
// Buffers (u32): scratch as in rans_encode; records [chunks, lanes] of vec4 (rans_offsets); units [chunks, p.ld_units].
// Precision: exact.
// Geometry: workgroup (256,1,1); x covers lanes, y chunks, z takes every PARTS-th unit.
// Races: a unit has one place, no two share one.
// Bounds: lanes below p.lanes; records are those of rans_offsets, whose places fill 0 to the total, at most p.ld_units.
// Tried: nothing else; it moves 2 r of 1 + 3 r of the bytes of encoding.

struct Params {
    grid: vec4<u32>,
    len: u32, quads: u32, rows: u32, lanes: u32,
    width: u32, width_log: u32, cap: u32, blocks: u32,
    ld_values: u32, ld_raw: u32, ld_lanes: u32, ld_units: u32,
    ld_scratch: u32, threads: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> scratch: array<u32>;
@group(0) @binding(1) var<storage, read_write> records: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> units: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

const PARTS = ${PARTS}u;

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) invocation: vec3<u32>) {
    let chunk = group.y + p.grid.y;
    let g = (group.x + p.grid.x) * 256u + invocation.x;
    if (g >= p.lanes) {
        return;
    }
    let block = g >> p.width_log;
    let source = chunk * p.ld_scratch + ((block * p.cap) << p.width_log) + (g & (p.width - 1u));
    let target_at = chunk * p.ld_units;
    let record = records[chunk * p.ld_lanes + g];
    let count = (record.x + 1u) >> 1u;
    for (var u = group.z + p.grid.z; u < count; u += PARTS) {
        let place = select(record.w + u, record.z + (u << p.width_log), u < record.y);
        units[target_at + place] = scratch[source + (u << p.width_log)];
    }
}
