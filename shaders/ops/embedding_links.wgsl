// For every row of an embedding table the positions that name it, as a chain in ascending order: links[id] = 1 + the first position of id (0:
// none), links[v + i] = 1 + the position after i with the same id (0: none). The host clears links first.
//
// Buffers: ids [slots, samples, length] (f32, whole numbers, rows of p.ld_ids elements); links [slots, v + positions] (u32), cleared.
//   Slots that share their ids share their links: the host passes one slot.
// Precision: exact. An id that is no row of the table, and the padding row p.padding, are in no chain.
// Geometry: workgroup (64,1,1), an invocation a position; x covers positions, y slots, both with a stride. Bounds: guarded by positions.
// Races: a position writes its own link; links[id] is written by the first position of id alone, which is one.
// Tried: an invocation for each row and vector that looks through all ids reads v n / 4 times as much; positions that look for their
//   successors stop after about v steps if ids are spread evenly, and never need more than all positions.

#import "lib/ids"

struct Params {
    grid: vec4<u32>,
    positions: u32, length: u32, ld_ids: u32, slot_ids: u32,
    v: u32, padding: u32, slots: u32, slot_links: u32,
    position_step: u32, step: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> ids: array<f32>;
@group(0) @binding(1) var<storage, read_write> links: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;


@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var s = group.y + p.grid.y; s < p.slots; s += p.step) {
        let base = s * p.slot_ids;
        for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.positions; i += p.position_step) {
            let id = row_of(ids[base + i / p.length * p.ld_ids + i % p.length], p.v);
            if (id < p.v && id != p.padding) {
                // Rows of ids and places in them, by counting: divisions are slow.
                var row = i / p.length;
                var place = i - row * p.length;
                var after = 0u;
                for (var j = i + 1u; j < p.positions; j++) {
                    place++;
                    if (place == p.length) {
                        place = 0u;
                        row++;
                    }
                    if (row_of(ids[base + row * p.ld_ids + place], p.v) == id) {
                        after = j + 1u;
                        break;
                    }
                }
                links[s * p.slot_links + p.v + i] = after;
                row = i / p.length;
                place = i - row * p.length;
                var earlier = false;
                for (var j = i; j > 0u; j--) {
                    if (place == 0u) {
                        place = p.length;
                        row--;
                    }
                    place--;
                    if (row_of(ids[base + row * p.ld_ids + place], p.v) == id) {
                        earlier = true;
                        break;
                    }
                }
                if (!earlier) {
                    links[s * p.slot_links + id] = i + 1u;
                }
            }
        }
    }
}
