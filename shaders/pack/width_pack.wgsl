// Groups of 32 values at the width of each: group g takes width(g) words, value i of it the bits from i * width(g) on, the lowest first.
// The last pass of coding (pack/codec/width.rs); `group_widths` and a scan ran before.
//
// Buffers (u32): values [p.words], by vectors of four, 4 bytes or (HALVES) 2 halves a word; widths [p.width_words]; index [blocks], the word of
//   data where each block begins; data [sum of widths]. Values behind p.words count as zeros.
// Precision: exact (integers). A value wider than its group is cut off: widths have to be those of `group_widths`.
// Geometry: workgroup (LANES,1,1), one block of 2048 words of values each, p.across along x, rows of those along y; an invocation takes a
//   group at a time. With DIRECT it stores its words where they belong; without, the workgroup puts the block together in its own memory, so
//   that neighbours store neighbouring words.
// Races: groups do not share words; barriers between write and read of workgroup memory. Bounds: loads are clamped, groups guarded by
//   p.groups; where data ends follows from the widths.
// Tried (2 cores, Mesa 22.3): see pack/codec/width.rs.

struct Params {
    grid: vec4<u32>,
    words: u32, groups: u32, width_words: u32, across: u32,
}
@group(0) @binding(0) var<storage, read_write> values: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> widths: array<u32>;
@group(0) @binding(2) var<storage, read_write> index: array<u32>;
@group(0) @binding(3) var<storage, read_write> data: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/group_widths"
#ifndef DIRECT
var<workgroup> packed: array<u32, 2048>;
#endif

fn load(at: u32) -> vec4<u32> {
    let inside = vec4<u32>(at * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.words);
    return select(vec4<u32>(0u), values[min(at, (p.words - 1u) / 4u)], inside);
}

// The fields of four words of values side by side in the low bits of each: 4 or 2 times `width` bits.
fn squeeze(v: vec4<u32>, width: u32) -> vec4<u32> {
    let ones = (1u << width) - 1u;
#ifdef HALVES
    return (v & vec4<u32>(ones)) | (((v >> vec4<u32>(16u)) & vec4<u32>(ones)) << vec4<u32>(width & 31u));
#else
    let two = vec4<u32>(ones * 0x00010001u);
    let pairs = (v & two) | (((v >> vec4<u32>(8u)) & two) << vec4<u32>(width));
    return (pairs & vec4<u32>(0xffffu)) | ((pairs >> vec4<u32>(16u)) << vec4<u32>(2u * width));
#endif
}

fn store(at: u32, word: u32) {
#ifdef DIRECT
    data[at] = word;
#else
    packed[at] = word;
#endif
}

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let block = (group.y + p.grid.y) * p.across + group.x + p.grid.x;
    let first = block * ${WIDTH_WORDS}u;
    let total = scan_widths(lane.x, min(first, p.width_words), p.width_words);
    let begin = index[min(block, (p.groups - 1u) / ${GROUPS}u)];
    for (var g = lane.x; g < ${GROUPS}u; g += ${LANES}u) {
        let at = block * ${GROUPS}u + g;
        let words = widths[min(first + g / ${WIDTHS}u, p.width_words - 1u)];
        let width = width_at(words, g % ${WIDTHS}u);
        if (at < p.groups && width != 0u) {
            var to = starts[g / ${WIDTHS}u] + width_sum_before(words, g % ${WIDTHS}u);
#ifdef DIRECT
            to += begin;
#endif
            // Bits of the fields of one word of values; a word of data is stored whenever something came to it, at last when it is full.
            let field = width * ${FIELDS}u;
            var bit = 0u;
            var word = 0u;
#unroll q 0 ${GROUP_QUADS}
            let x_${q} = squeeze(load(at * ${GROUP_QUADS}u + ${q}u), width);
#unroll i 0 4
            word |= x_${q}[${i}] << bit;
            store(to, word);
            let over_${q}_${i} = (x_${q}[${i}] >> 1u) >> (31u - bit);
            bit += field;
            word = select(word, over_${q}_${i}, bit >= 32u);
            to += bit / 32u;
            bit %= 32u;
#endunroll
#endunroll
        }
    }
#ifndef DIRECT
    workgroupBarrier();
    if (block * ${GROUPS}u < p.groups) {
        for (var i = lane.x; i < total; i += ${LANES}u) {
            data[begin + i] = packed[i];
        }
    }
#endif
}
