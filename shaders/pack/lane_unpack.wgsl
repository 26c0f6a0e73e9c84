// values = groups of 16 values in fixed lanes: the opposite of `lane_pack`, exactly. A lane never looks outside of itself, so a vector of
// values is two loads, two shifts by the group's common bit pointer, a mask and the signs.
//
// Buffers (u32): index [blocks]; widths [p.width_words]; data, by vectors of four, p.last the last of them, which may be read and never matters;
//   values by vectors of four: p.quads are written.
// Precision: exact (integers). Two's complement is extended if p.is_signed.
// Geometry: workgroup (LANES,1,1), one block of 512 vectors each, p.across along x, rows of those along y.
// Races: every vector has one writer; barriers between write and read of the sums. Bounds: stores are guarded by p.quads, loads of data
//   clamped to p.last.
// Tried: nothing else.

struct Params {
    grid: vec4<u32>,
    quads: u32, is_signed: u32, width_words: u32, across: u32,
    last: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> index: array<u32>;
@group(0) @binding(1) var<storage, read_write> widths: array<u32>;
@group(0) @binding(2) var<storage, read_write> data: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> values: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/group_widths"
#ifdef HALVES
const BITS = 16u;
const EACH = 0x00010001u;
#else
const BITS = 8u;
const EACH = 0x01010101u;
#endif
const ONES = (1u << BITS) - 1u;

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let block = (group.y + p.grid.y) * p.across + group.x + p.grid.x;
    let first = block * ${WIDTH_WORDS}u;
    scan_widths(lane.x, min(first, p.width_words), p.width_words);
    let begin = index[min(block, (p.quads - 1u) / 512u)] / 4u;
    for (var v = lane.x; v < 512u; v += ${LANES}u) {
        let q = block * 512u + v;
        if (q < p.quads) {
            let g = v / ${GROUP_QUADS}u;
            let words = widths[first + g / ${WIDTHS}u];
            let width = width_at(words, g % ${WIDTHS}u);
            let bit = starts[g / ${WIDTHS}u] + width_sum_before(words, g % ${WIDTHS}u);
            let low = bit % BITS;
            let place = begin + bit / BITS * ${GROUP_QUADS}u + v % ${GROUP_QUADS}u;
            let a = data[min(place, p.last)];
            let b = data[min(place + select(0u, ${GROUP_QUADS}u, low + width > BITS), p.last)];
            let right = (a >> vec4<u32>(low)) & vec4<u32>((ONES >> low) * EACH);
            let left = (b << vec4<u32>(BITS - low)) & vec4<u32>(((ONES << (BITS - low)) & ONES) * EACH);
            let x = (right | left) & vec4<u32>(((1u << width) - 1u) * EACH);
            let signs = (x >> vec4<u32>((width + 31u) & 31u)) & vec4<u32>(EACH);
            values[q] = x | signs * ((((ONES + 1u) - (1u << width)) & ONES) * p.is_signed);
        }
    }
}
