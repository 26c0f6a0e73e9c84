// directory[t, u] = how many keys of table t are below u 2^p.rest: where the labels whose keys have the upper bits u begin, and those of
//   u - 1 end. The last entry, behind all upper bits that there are, is the number of labels.
//
// Buffers (u32): sorted [tables, p.labels], the keys of each table in ascending order, p.stride_keys apart; directory [tables, p.entries],
//   p.stride_out apart.
// A binary search for each entry; there are few (LshTables: a quarter as many as labels, and one).
// Precision: exact. Undefined: padding of directory is not written.
// Geometry: workgroup (64,1,1), an invocation an entry; x covers entries, y tables.
// Bounds: guarded by p.entries; a probe is below p.labels. The search has at most 25 turns. Races: an invocation writes its own word.
// Tried: nothing else.

struct Params {
    grid: vec4<u32>,
    labels: u32, entries: u32, rest: u32, stride_keys: u32,
    stride_out: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> sorted: array<u32>;
@group(0) @binding(1) var<storage, read_write> directory: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let u = (group.x + p.grid.x) * 64u + lane.x;
    let table = group.y + p.grid.y;
    if (u >= p.entries) {
        return;
    }
    let key = u << p.rest;
    var low = 0u;
    var high = p.labels;
    while (low < high) {
        let middle = (low + high) / 2u;
        if (sorted[table * p.stride_keys + middle] < key) {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    directory[table * p.stride_out + u] = low;
}
