// The ids of a shared active set, ascending, and its list of touched rows: row i has the one entry i.
//
// Buffers (u32): marks: bits of the active set; places [words]: the exclusive scan of their number; ids [size];
//   touched [size + 2] pairs: (size, size), (id, i) for each, (2^32 - 1, size); statistics [4], of which the last becomes size.
// Precision: exact. Undefined: ids behind the set's own if it holds fewer than size.
// Geometry: workgroup (64,1,1), grid-stride over words. Bounds: guarded by words and size.
// Races: an id has a place of its own; the first invocation writes the ends. Tried: nothing else.

struct Params {
    grid: vec4<u32>,
    words: u32, threads: u32, size: u32, pad0: u32,
}
@group(0) @binding(0) var<storage, read_write> marks: array<u32>;
@group(0) @binding(1) var<storage, read_write> places: array<u32>;
@group(0) @binding(2) var<storage, read_write> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> touched: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read_write> statistics: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let start = (group.x + p.grid.x) * 64u + lane.x;
    if (start == 0u) {
        touched[0] = vec2<u32>(p.size);
        touched[p.size + 1u] = vec2<u32>(0xffffffffu, p.size);
        statistics[3] = p.size;
    }
    for (var w = start; w < p.words; w += p.threads) {
        var rest = marks[w];
        if (rest == 0u) {
            continue;
        }
        var place = places[w];
        while (rest != 0u && place < p.size) {
            let id = w * 32u + countTrailingZeros(rest);
            rest &= rest - 1u;
            ids[place] = id;
            touched[place + 1u] = vec2<u32>(id, place);
            place++;
        }
    }
}
