// Groups of 16 values in fixed lanes: a row of memory is 16 lanes of 8 bits (HALVES: 16), value i of a group stands in lane i, and a group of
// width w takes the next w bits of every lane; one bit pointer serves all lanes of a block. After Boveda (Edo Vivancos et al., MLSys 2021).
//
// Buffers (u32): values [p.words], by vectors of four, 4 bytes or 2 halves a word; widths [p.width_words]; index [blocks], the word of data where the
//   first row of each block begins; data, by vectors of four: whole rows, of which a block's last is filled up with zeros. Values behind
//   p.words count as zeros.
// Precision: exact (integers).
// Geometry: workgroup (LANES,1,1), one block of 512 vectors of values each, p.across along x, rows of those along y; an invocation takes a
//   vector of values (16 bytes or 8 halves) at a time, puts its bits to one row or two, and the rows are stored together.
// Races: groups share rows, so bits come by atomic OR, which knows no order; barriers between clearing, adding and storing. Bounds: loads are
//   clamped, groups guarded by p.groups; where data ends follows from the widths.
// Tried: nothing else.

struct Params {
    grid: vec4<u32>,
    words: u32, groups: u32, width_words: u32, across: u32,
}
@group(0) @binding(0) var<storage, read_write> values: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> widths: array<u32>;
@group(0) @binding(2) var<storage, read_write> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> data: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/group_widths"
#ifdef HALVES
const BITS = 16u;
const EACH = 0x00010001u;
#else
const BITS = 8u;
const EACH = 0x01010101u;
#endif
var<workgroup> rows: array<atomic<u32>, 2048>;

fn load(at: u32) -> vec4<u32> {
    let inside = vec4<u32>(at * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.words);
    return select(vec4<u32>(0u), values[min(at, (p.words - 1u) / 4u)], inside);
}

fn add(vector: u32, bits: vec4<u32>) {
    atomicOr(&rows[vector * 4u], bits.x);
    atomicOr(&rows[vector * 4u + 1u], bits.y);
    atomicOr(&rows[vector * 4u + 2u], bits.z);
    atomicOr(&rows[vector * 4u + 3u], bits.w);
}

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let block = (group.y + p.grid.y) * p.across + group.x + p.grid.x;
    let first = block * ${WIDTH_WORDS}u;
    for (var i = lane.x; i < 2048u; i += ${LANES}u) {
        atomicStore(&rows[i], 0u);
    }
    // Its barriers also part clearing from adding.
    let total = scan_widths(lane.x, min(first, p.width_words), p.width_words);
    let begin = index[min(block, (p.groups - 1u) / ${GROUPS}u)] / 4u;
    for (var v = lane.x; v < 512u; v += ${LANES}u) {
        let g = v / ${GROUP_QUADS}u;
        let words = widths[min(first + g / ${WIDTHS}u, p.width_words - 1u)];
        let width = width_at(words, g % ${WIDTHS}u);
        if (block * ${GROUPS}u + g < p.groups && width != 0u) {
            let bit = starts[g / ${WIDTHS}u] + width_sum_before(words, g % ${WIDTHS}u);
            let low = bit % BITS;
            let to = bit / BITS * ${GROUP_QUADS}u + v % ${GROUP_QUADS}u;
            let x = load(block * 512u + v) & vec4<u32>(((1u << width) - 1u) * EACH);
            add(to, (x & vec4<u32>((((1u << BITS) - 1u) >> low) * EACH)) << vec4<u32>(low));
            if (low + width > BITS) {
                add(to + ${GROUP_QUADS}u, (x >> vec4<u32>(BITS - low)) & vec4<u32>(((1u << low) - 1u) * EACH));
            }
        }
    }
    workgroupBarrier();
    if (block * ${GROUPS}u < p.groups) {
        let vectors = (total + BITS - 1u) / BITS * ${GROUP_QUADS}u;
        for (var i = lane.x; i < vectors; i += ${LANES}u) {
            data[begin + i] = vec4<u32>(atomicLoad(&rows[i * 4u]), atomicLoad(&rows[i * 4u + 1u]),
                                        atomicLoad(&rows[i * 4u + 2u]), atomicLoad(&rows[i * 4u + 3u]));
        }
    }
}
