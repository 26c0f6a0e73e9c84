// For every row of an embedding table the positions that name it, as a chain in ascending order: links[id] = 2^32 - 1 - the
// first position of id (0: none), links[v + i] = 1 + the position after i with the same id (0: none). The host clears links
// first.
//
// Buffers: ids [slots, samples, length] (f32, whole numbers, by vectors, rows of p.ld_ids vectors); links [slots, v +
//   positions] (u32), cleared. Slots that share their ids share their links: the host passes one slot.
// Precision: exact. An id that is no row of the table, and the padding row p.padding, are in no chain. Padding of ids is
//   read and not used.
// Geometry: workgroup (64,1,1), an invocation a position; x covers positions, y slots, both with a stride. Bounds: guarded
//   by positions.
// Races: a position writes its own link; the first position of an id is the largest of what its positions offer, an integer
//   that no order of atomics changes.
// Tried: an invocation for each row and vector that looks through all ids reads v n / 4 times as much; positions that look
//   for their successors stop after about v steps if ids are spread evenly, and never need more than all positions.

#import "lib/ids"

struct Params {
    grid: vec4<u32>,
    // Vectors from one row of ids and slot to the next.
    positions: u32, length: u32, ld_ids: u32, slot_ids: u32,
    v: u32, padding: u32, slots: u32, slot_links: u32,
    position_step: u32, step: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> ids: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> links: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

// 1 + the first position behind i that holds this row, 0 if none does; i is at `place` of its row, in vector `first`.
fn next_of(row: u32, i: u32, place: u32, first: u32) -> u32 {
    let wanted = vec4<u32>(bitcast<u32>(f32(row)));
    let each = vec4<u32>(0u, 1u, 2u, 3u);
    let skipped = p.ld_ids - (p.length + 3u) / 4u;
    var start = i - place;
    var at = first;
    var column = place / 4u * 4u;
    var low = place % 4u + 1u;
    while (start < p.positions) {
        let bits = bitcast<vec4<u32>>(ids[at]);
        let same = select(bits, vec4<u32>(0u), bits == vec4<u32>(0x80000000u)) == wanted;
        let here = same & (each >= vec4<u32>(low)) & (vec4<u32>(column) + each < vec4<u32>(p.length));
        if (any(here)) {
            return start + column + 1u + select(select(select(3u, 2u, here.z), 1u, here.y), 0u, here.x);
        }
        low = 0u;
        column += 4u;
        at++;
        if (column >= p.length) {
            column = 0u;
            start += p.length;
            at += skipped;
        }
    }
    return 0u;
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var s = group.y + p.grid.y; s < p.slots; s += p.step) {
        for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.positions; i += p.position_step) {
            let sample = i / p.length;
            let place = i - sample * p.length;
            let at = s * p.slot_ids + sample * p.ld_ids + place / 4u;
            let id = row_of(ids[at][place % 4u], p.v);
            if (id < p.v && id != p.padding) {
                atomicStore(&links[s * p.slot_links + p.v + i], next_of(id, i, place, at));
                atomicMax(&links[s * p.slot_links + id], NO_ROW - i);
            }
        }
    }
}
