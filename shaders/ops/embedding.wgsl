// out[b, i, :] = table[b, id, :] with id = ids[b, i], or zeros where ids[b, i] is no row of the table.
//
// Buffers (f32): ids [slots, samples, length], whole numbers, rows of p.ld_ids elements, slot stride 0 if shared;
//   table [slots, v, n], a field with any slot stride; out [slots, samples length, n]. Rows of table and out are read and
//   written by vectors.
// Precision: exact. Undefined: nothing else: fractions, NaN and infinity are no rows; padding columns of out take those of
//   the table.
// Geometry: workgroup (64,1,1) as 2^p.shift lanes along a row times positions; x covers vectors, y positions, z slots, the
//   last two with a stride. Bounds: ids are compared with v by bits (NaN and negative numbers are no rows); guarded by n and
//   positions.
// Races: an invocation writes its own vectors.

#import "lib/ids"

struct Params {
    grid: vec4<u32>,
    positions: u32, length: u32, ld_ids: u32, slot_ids: u32,
    // Vectors of a row; rows; vectors from one slot to the next.
    width4: u32, v: u32, slot_table: u32, slot_out: u32,
    slots: u32, shift: u32, position_step: u32, step: u32,
}
@group(0) @binding(0) var<storage, read_write> ids: array<f32>;
@group(0) @binding(1) var<storage, read_write> table: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let across = 1u << p.shift;
    let q = (group.x + p.grid.x) * across + (lane.x & (across - 1u));
    if (q >= p.width4) {
        return;
    }
    let first = ((group.y + p.grid.y) << (6u - p.shift)) + (lane.x >> p.shift);
    for (var s = group.z + p.grid.z; s < p.slots; s += p.step) {
        for (var i = first; i < p.positions; i += p.position_step) {
            let id = row_of(ids[s * p.slot_ids + i / p.length * p.ld_ids + i % p.length], p.v);
            let value = table[s * p.slot_table + min(id, p.v - 1u) * p.width4 + q];
            out[s * p.slot_out + i * p.width4 + q] = select(vec4<f32>(0.0), value, id < p.v);
        }
    }
}
