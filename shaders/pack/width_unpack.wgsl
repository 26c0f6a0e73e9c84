// values = groups of 32 values, each group stored at a width of its own: the opposite of `width_pack`, exactly.
//
// Buffers (u32): index [blocks], the word of data where each block begins; widths [p.width_words]; data [sum of widths + 1], of which the
//   last word may be read and never matters; values by vectors of four, 4 bytes or (HALVES) 2 halves a word: p.quads vectors are written. What a group
//   has behind the last value is written with it where that shares its vector: zeros, if they were coded.
// Precision: exact (integers). Two's complement is extended if p.is_signed.
// Geometry: workgroup (LANES,1,1), one block of 512 vectors each, p.across along x, rows of those along y; an invocation takes PART vectors
//   at a time. The widths of a block are summed up once, in workgroup memory; within a word of them they are summed in registers.
// Races: every vector has one writer; barriers between write and read of the sums. Bounds: stores are guarded by p.quads; loads follow from index
//   and widths, which the host has checked (pack/codec/layout.rs).
// A word of values is 4 (2) fields side by side: they are moved apart in two steps (one), and signs are spread by one multiplication, so
//   no value is handled by itself. A field of a word of values crosses at most one word of data: one load a word, and one more at first.
// Tried (2 cores, Mesa 22.3): see pack/codec/width.rs.

struct Params {
    grid: vec4<u32>,
    quads: u32, is_signed: u32, width_words: u32, across: u32,
}
@group(0) @binding(0) var<storage, read_write> index: array<u32>;
@group(0) @binding(1) var<storage, read_write> widths: array<u32>;
@group(0) @binding(2) var<storage, read_write> data: array<u32>;
@group(0) @binding(3) var<storage, read_write> values: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/group_widths"

// Fields in the low bits of four words, moved apart to bytes or halves, signs extended.
fn spread(x: vec4<u32>, width: u32) -> vec4<u32> {
    let ones = (1u << width) - 1u;
#ifdef HALVES
    let v = (x & vec4<u32>(ones)) | (((x >> vec4<u32>(width & 31u)) & vec4<u32>(ones)) << vec4<u32>(16u));
    let signs = (v >> vec4<u32>((width + 31u) & 31u)) & vec4<u32>(0x00010001u);
    return v | signs * (((0x10000u - (1u << width)) & 0xffffu) * p.is_signed);
#else
    let two = vec4<u32>((1u << (2u * width)) - 1u);
    let pairs = (x & two) | (((x >> vec4<u32>(2u * width)) & two) << vec4<u32>(16u));
    let one = vec4<u32>(ones * 0x00010001u);
    let v = (pairs & one) | (((pairs >> vec4<u32>(width)) & one) << vec4<u32>(8u));
    let signs = (v >> vec4<u32>((width + 31u) & 31u)) & vec4<u32>(0x01010101u);
    return v | signs * (((0x100u - (1u << width)) & 0xffu) * p.is_signed);
#endif
}

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let block = (group.y + p.grid.y) * p.across + group.x + p.grid.x;
    let first = block * ${WIDTH_WORDS}u;
    scan_widths(lane.x, min(first, p.width_words), p.width_words);
    let begin = index[min(block, (p.quads - 1u) / 512u)];
    for (var v = lane.x * ${PART}u; v < 512u; v += ${LANES}u * ${PART}u) {
        let q = block * 512u + v;
        if (q < p.quads) {
            let g = v / ${GROUP_QUADS}u;
            let words = widths[first + g / ${WIDTHS}u];
            let width = width_at(words, g % ${WIDTHS}u);
            let place = begin + starts[g / ${WIDTHS}u] + width_sum_before(words, g % ${WIDTHS}u);
            let field = width * ${FIELDS}u;
            var bit = (v % ${GROUP_QUADS}u) * 4u * field;
            var low = data[place + bit / 32u];
#unroll j 0 ${PART}
#unroll i 0 4
            let high_${j}_${i} = data[place + (bit + field) / 32u];
            let x_${j}_${i} = (low >> (bit % 32u)) | ((high_${j}_${i} << 1u) << (31u - bit % 32u));
            low = high_${j}_${i};
            bit += field;
#endunroll
            let x_${j} = vec4<u32>(x_${j}_0, x_${j}_1, x_${j}_2, x_${j}_3);
            if (q + ${j}u < p.quads) {
                values[q + ${j}u] = spread(x_${j}, width);
            }
#endunroll
        }
    }
}
