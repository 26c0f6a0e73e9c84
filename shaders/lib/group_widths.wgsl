// Widths of groups, packed in words (pack/codec/layout.rs): WIDTHS of WIDTH_BITS bits a word, nibbles or bytes, the first in the low bits.
//
// A block has WIDTH_WORDS words of them; 8 invocations take PIECE words each. After `scan_widths`, starts[k] is the sum of the widths
// before word k of the block, and the result is the sum of all. Barriers: to be called by all invocations of a workgroup.

var<workgroup> starts: array<u32, ${WIDTH_WORDS}>;
var<workgroup> pieces: array<u32, 8>;

fn width_at(word: u32, i: u32) -> u32 {
    return (word >> (i * ${WIDTH_BITS}u)) & ((1u << ${WIDTH_BITS}u) - 1u);
}

// Sum of the widths of a word: at most 8 times 8, or 4 times 16.
fn width_sum(word: u32) -> u32 {
#ifdef HALVES
    return (word * 0x01010101u) >> 24u;
#else
    return (((word & 0x0f0f0f0fu) + ((word >> 4u) & 0x0f0f0f0fu)) * 0x01010101u) >> 24u;
#endif
}

// Sum of the widths before width i of a word.
fn width_sum_before(word: u32, i: u32) -> u32 {
    return width_sum(word & ((1u << (i * ${WIDTH_BITS}u)) - 1u));
}

// `first`: where the block's words begin in `widths`; those from `end` on count as zeros.
fn scan_widths(lane: u32, first: u32, end: u32) -> u32 {
    var sums: array<u32, ${PIECE}>;
    if (lane < 8u) {
        var own = 0u;
#unroll i 0 ${PIECE}
        let at_${i} = first + lane * ${PIECE}u + ${i}u;
        sums[${i}] = width_sum(select(0u, widths[min(at_${i}, end - 1u)], at_${i} < end));
        own += sums[${i}];
#endunroll
        pieces[lane] = own;
    }
    workgroupBarrier();
    var total = 0u;
    var before = 0u;
#unroll t 0 8
    before += select(0u, pieces[${t}], ${t}u < lane);
    total += pieces[${t}];
#endunroll
    if (lane < 8u) {
#unroll i 0 ${PIECE}
        starts[lane * ${PIECE}u + ${i}u] = before;
        before += sums[${i}];
#endunroll
    }
    workgroupBarrier();
    return total;
}
