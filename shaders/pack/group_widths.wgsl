// widths[g] = bits of the largest value of group g, sums[b] = what block b takes; the first pass of coding with a width a group.
//
// A value v needs 0 bits if it is 0; unsigned, those of v; in two's complement, one more than those of v, or of ~v if it is negative.
// sums[b] = ceil(sum of the widths of the block's groups / ROUND) * ROUND_WORDS.
//
// Buffers (u32): values [p.words], by vectors of four, 4 bytes a word or, with HALVES, 2 halves, the first in the low bits; widths
//   [p.width_words], WIDTHS of WIDTH_BITS bits a word; sums [p.blocks]. A block is GROUPS groups, 2048 words of values; a group is
//   GROUP_QUADS vectors. Values behind p.words count as zeros; in the last word they have to be zeros.
// Precision: exact (integers).
// Geometry: workgroup (LANES,1,1), one block each, p.across of them along x, rows of those along y. LANES is 64 on GPUs, where neighbours
//   take neighbouring groups, and 8 on software devices, where a barrier is then free.
// Races: an invocation writes the words of widths that it packs; their sum is one atomic number, and integers add up in any order; barriers
//   between write and read of workgroup memory. Bounds: loads are clamped to p.words, stores guarded by p.width_words and p.blocks.
// Magnitudes of a group are combined by OR, four values a word at a time. Tried: nothing else.

struct Params {
    grid: vec4<u32>,
    words: u32, groups: u32, blocks: u32, across: u32,
    width_words: u32, is_signed: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> values: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> widths: array<u32>;
@group(0) @binding(2) var<storage, read_write> sums: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> found: array<u32, ${GROUPS}>;
var<workgroup> total: atomic<u32>;

fn load(at: u32) -> vec4<u32> {
    let inside = vec4<u32>(at * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.words);
    return select(vec4<u32>(0u), values[min(at, (p.words - 1u) / 4u)], inside);
}

fn width_of(group: u32) -> u32 {
    var any = vec4<u32>(0u);
    var magnitude = vec4<u32>(0u);
#unroll q 0 ${GROUP_QUADS}
    let v_${q} = load(group * ${GROUP_QUADS}u + ${q}u);
#ifdef HALVES
    let sign_${q} = ((v_${q} >> vec4<u32>(15u)) & vec4<u32>(0x00010001u)) * p.is_signed * 0xffffu;
#else
    let sign_${q} = ((v_${q} >> vec4<u32>(7u)) & vec4<u32>(0x01010101u)) * p.is_signed * 0xffu;
#endif
    any |= v_${q};
    magnitude |= v_${q} ^ sign_${q};
#endunroll
    var bits = magnitude.x | magnitude.y | magnitude.z | magnitude.w;
    bits |= bits >> 16u;
#ifdef HALVES
    bits &= 0xffffu;
#else
    bits = (bits | (bits >> 8u)) & 0xffu;
#endif
    let more = select(0u, p.is_signed, (any.x | any.y | any.z | any.w) != 0u);
    return 32u - countLeadingZeros(bits) + more;
}

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let block = (group.y + p.grid.y) * p.across + group.x + p.grid.x;
    if (lane.x == 0u) {
        atomicStore(&total, 0u);
    }
    for (var g = lane.x; g < ${GROUPS}u; g += ${LANES}u) {
        let at = block * ${GROUPS}u + g;
        var width = 0u;
        if (at < p.groups) {
            width = width_of(at);
        }
        found[g] = width;
    }
    workgroupBarrier();
    for (var k = lane.x; k < ${WIDTH_WORDS}u; k += ${LANES}u) {
        var word = 0u;
        var sum = 0u;
#unroll i 0 ${WIDTHS}
        let width_${i} = found[k * ${WIDTHS}u + ${i}u];
        word |= width_${i} << (${i}u * ${WIDTH_BITS}u);
        sum += width_${i};
#endunroll
        let to = block * ${WIDTH_WORDS}u + k;
        if (to < p.width_words) {
            widths[to] = word;
        }
        atomicAdd(&total, sum);
    }
    workgroupBarrier();
    if (lane.x == 0u && block < p.blocks) {
        sums[block] = (atomicLoad(&total) + ${ROUND}u - 1u) / ${ROUND}u * ${ROUND_WORDS}u;
    }
}
