// out[q, s 2^p.shift + j] = the j-th id that the bucket ranges[q, 2 s ..] of table t(s) gives (lsh_ranges says what t is), or the largest
//   word: all ids of a bucket of at most 2^p.shift, in ascending order, and of a larger one that many, which depends on p.policy:
//   0  the last ones, ascending: what stays in a ring into which labels are inserted in ascending order;
//   1  distinct ones, each with the same chance: one of each of 2^p.shift shares of the bucket, all places rotated by one draw;
//   2  consecutive ones from a place that is drawn, the first following the last.
// Draws are words of Philox for the counter (where the bucket begins, table 2^16 + block, step, BUCKET): those of all queries of a
//   bucket agree. Block 0 has the rotation or place, block 1 + j / 4 the words of shares j.
//
// Buffers (u32): ranges [p.queries, p.stride_ranges]; ids [p.tables, p.labels], p.stride_ids apart; out [p.queries, p.quads] vectors.
// Precision: exact. Undefined: nothing.
// Geometry: workgroup (64,1,1), an invocation four ids; x covers the vectors of a query, y queries.
// Bounds: guarded by p.quads and by the grid's y; places are inside of their bucket. (j + 1) times a bucket's length is below 2^32, as
//   j is below 256 and there are less than 2^24 labels. Races: an invocation writes its own vector; another group of tables writes other vectors.
// Tried: nothing else.

struct Params {
    grid: vec4<u32>,
    quads: u32, stride_ranges: u32, stride_ids: u32, shift: u32,
    all: u32, factor: u32, summand: u32, first_table: u32,
    tables: u32, policy: u32, step: u32, pad: u32,
    key_low: u32, key_high: u32, purpose: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> ranges: array<u32>;
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/philox"

fn mul_high_each(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(mul_high(a.x, b.x), mul_high(a.y, b.y), mul_high(a.z, b.z), mul_high(a.w, b.w));
}

// Places of ids j in a bucket of more than it gives.
fn drawn(j: vec4<u32>, first: u32, length: u32, table: u32) -> vec4<u32> {
    if (p.policy == 0u) {
        return j + vec4<u32>(length - (1u << p.shift));
    }
    let key = vec2<u32>(p.key_low, p.key_high);
    let rotation = mul_high(philox(vec4<u32>(first, table << 16u, p.step, p.purpose), key).x, length);
    var place = j;
    if (p.policy == 1u) {
        let low = (j * length) >> vec4<u32>(p.shift);
        let high = ((j + vec4<u32>(1u)) * length) >> vec4<u32>(p.shift);
        let words = philox(vec4<u32>(first, (table << 16u) + 1u + j.x / 4u, p.step, p.purpose), key);
        place = low + mul_high_each(words, high - low);
    }
    place += vec4<u32>(rotation);
    return select(place, place - vec4<u32>(length), place >= vec4<u32>(length));
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let quad = (group.x + p.grid.x) * 64u + lane.x;
    let q = group.y + p.grid.y;
    let s = (quad * 4u) >> p.shift;
    let table = (p.factor * s + p.summand) % p.all;
    let own = table - p.first_table;
    if (quad >= p.quads || own >= p.tables) {
        return;
    }
    let first = ranges[q * p.stride_ranges + 2u * s];
    let length = ranges[q * p.stride_ranges + 2u * s + 1u];
    let j = vec4<u32>((quad * 4u) & ((1u << p.shift) - 1u)) + vec4<u32>(0u, 1u, 2u, 3u);
    var place = j;
    if (length > (1u << p.shift)) {
        place = drawn(j, first, length, table);
    }
    let base = own * p.stride_ids + first;
    let last = max(length, 1u) - 1u;
    // An empty bucket may begin behind the last label.
    let inside = select(own * p.stride_ids, base, length > 0u);
    let found = vec4<u32>(
        ids[inside + min(place.x, last)], ids[inside + min(place.y, last)],
        ids[inside + min(place.z, last)], ids[inside + min(place.w, last)],
    );
    out[q * p.quads + quad] = select(vec4<u32>(0xffffffffu), found, place < vec4<u32>(length));
}
