// draws[i]: a label by a given distribution, by the table of Walker's alias method (Walker 1977; Vose 1991): two words a draw, the first picks
// a column, the second decides between the column's own label and its alias.
//
// Buffers (u32): table [labels, 2]: the own label's share of the column in units of 2^-32, and the alias; draws [count], written in pairs.
// Draws 2 i and 2 i + 1 take the words of Philox4x32-10 at counter (i, p.what, p.step, p.purpose).
// Precision: exact: the chance of a label is a fraction whose denominator is 2^64, the same on host and devices.
// Undefined: nothing.
// Geometry: workgroup (64,1,1), grid-stride over pairs of draws. Bounds: guarded by count; a column is below labels.
// Races: an invocation writes its own pair. Not tried: a cumulative table, 20 dependent loads
//   against one.

#import "lib/philox"

struct Params {
    grid: vec4<u32>,
    count: u32, threads: u32, labels: u32, what: u32,
    step: u32, purpose: u32, key0: u32, key1: u32,
}
@group(0) @binding(0) var<storage, read_write> table: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> draws: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

fn label(pick: u32, decide: u32) -> u32 {
    let column = mul_high(pick, p.labels);
    let entry = table[column];
    return select(entry.y, column, decide < entry.x);
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i * 2u < p.count; i += p.threads) {
        let words = philox(vec4<u32>(i, p.what, p.step, p.purpose), vec2<u32>(p.key0, p.key1));
        draws[i * 2u] = label(words.x, words.y);
        if (i * 2u + 1u < p.count) {
            draws[i * 2u + 1u] = label(words.z, words.w);
        }
    }
}
