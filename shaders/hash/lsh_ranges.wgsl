// ranges[q, 2 s], ranges[q, 2 s + 1] = where the labels of query q's key begin among those of table t(s) = (p.factor s + p.summand) mod
//   p.all, and how many there are, for the tables of this group; others are not written.
//
// Buffers (u32): queries (keys: table t's at (t - p.query_table) p.stride_q + p.first_query + q); keys and ids [p.tables, p.labels], both
//   p.stride_keys apart, ids by ascending keys[id]; directory [p.tables, ..], p.stride_directory apart, as lsh_directory makes it;
//   ranges [p.queries, p.stride_out].
// The directory has the run of the labels that share a key's upper bits. Where p.rest, the number of other bits, is 0, that is the answer;
// else two binary searches in the run, by the keys of the labels where they are: no sorted copy is kept.
// Precision: exact. Undefined: nothing.
// Geometry: workgroup (64,1,1), an invocation a query and place s; x covers queries, y places.
// Bounds: guarded by p.queries; a probe is inside of the run, and ids are labels; keys have no other upper bits than the directory. A search has at
//   most 25 turns. Races: an invocation writes its own two words.
// Tried: searches in all labels instead of a run, for 557,000 labels in 50 tables of theirs: 14 s instead of 0.8 on lavapipe.

struct Params {
    grid: vec4<u32>,
    queries: u32, first_query: u32, stride_q: u32, query_table: u32,
    all: u32, factor: u32, summand: u32, first_table: u32,
    tables: u32, rest: u32, stride_directory: u32, stride_keys: u32,
    stride_out: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> queries: array<u32>;
@group(0) @binding(1) var<storage, read_write> keys: array<u32>;
@group(0) @binding(2) var<storage, read_write> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> directory: array<u32>;
@group(0) @binding(4) var<storage, read_write> ranges: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let q = (group.x + p.grid.x) * 64u + lane.x;
    let s = group.y + p.grid.y;
    let table = (p.factor * s + p.summand) % p.all;
    let own = table - p.first_table;
    if (q >= p.queries || own >= p.tables) {
        return;
    }
    let key = queries[(table - p.query_table) * p.stride_q + p.first_query + q];
    let base = own * p.stride_keys;
    let run = own * p.stride_directory + (key >> p.rest);
    let begin = directory[run];
    let end = directory[run + 1u];
    // The first place whose key is not below `key`, and the first whose key is above.
    var low = vec2<u32>(begin, select(begin, end, p.rest == 0u));
    var high = vec2<u32>(select(end, begin, p.rest == 0u), end);
    while (any(low < high)) {
        let middle = (low + high) / vec2<u32>(2u);
        // A search that has ended may stand behind the last label.
        let probe = min(middle, vec2<u32>(end - 1u));
        let found = vec2<u32>(keys[base + ids[base + probe.x]], keys[base + ids[base + probe.y]]);
        let open = low < high;
        let right = vec2<bool>(found.x < key, found.y <= key);
        low = select(low, middle + vec2<u32>(1u), open & right);
        high = select(high, middle, open & !right);
    }
    ranges[q * p.stride_out + 2u * s] = low.x;
    ranges[q * p.stride_out + 2u * s + 1u] = low.y - low.x;
}
