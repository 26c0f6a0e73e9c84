// Sums over the groups of a tensor, from its quads (quad_widths): a group is p.group / 4 quads of one unit, the last of a unit may have
//   fewer values. With w = max(width of the group, p.least), z its non-zero values and m its members:
//     results[slot + 0] += ceil(sum of w over a segment / container)   memory rows, of segments that one invocation has as a whole
//     + 1: sum w   + 2: sum w m   + 3: groups whose w is that of the group before   + 4: sum width z   + 6: sum z
//     + 5: the largest width   + 7: nothing   + 8, + 9: w of the first and of the last group, to join parts of a tensor
//
// Buffers (u32): quads, 4 a word; segments [number of segments]: sum w of each, zero before, used if p.blocks > 1 (segment_sums then counts
//   rows); results [slot .. slot + 16], zero before.
// Precision: exact; a part of a tensor has at most 2^26 values, so no sum reaches 2^32. Undefined: nothing.
// Geometry: workgroup (64,1,1), grid-stride over blocks of up to p.block groups of one segment, p.blocks blocks a segment. WORDS: groups are
//   so many whole words of quads; QUADS: so many quads; else a loop.
// Races: atomics, whose order cannot matter. Bounds: guarded by p.items and by the segment's end.
// Tried: a loop over words instead of WORDS: slower on a software device. A workgroup for every 64 blocks: there, sums of workgroups cost
//   more than what they sum up, so a few workgroups stride.

struct Params {
    grid: vec4<u32>,
    items: u32, threads: u32, slot: u32, unit: u32,
    quads_per_unit: u32, groups_per_unit: u32, quads_per_group: u32, groups: u32,
    segment: u32, blocks: u32, block: u32, least: u32,
    container_log2: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> quads: array<u32>;
@group(0) @binding(1) var<storage, read_write> segments: array<atomic<u32>>;
@group(0) @binding(2) var<storage, read_write> results: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/tally"

// Width and non-zero values of a unit's group j.
fn of_group(unit: u32, j: u32) -> vec2<u32> {
    let first = j * p.quads_per_group;
    let start = unit * p.quads_per_unit + first;
    let count = min(p.quads_per_group, p.quads_per_unit - first);
#ifdef WORDS
    // Behind the end of a unit the last word is read again, and does not count.
    let words = count / 4u;
    var widths = vec4<u32>(0u);
    var on = 0u;
#unroll i 0 ${WORDS}
    let four_${i} = select(0u, quads[start / 4u + min(${i}u, words - 1u)], ${i}u < words);
    widths = max(widths, (vec4<u32>(four_${i}) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(31u));
    on += (four_${i} >> 5u) & 0x07070707u;
#endunroll
    // Four sums of up to 64 in the bytes; that of all may take nine bits.
    let pairs = (on & 0x00ff00ffu) + ((on >> 8u) & 0x00ff00ffu);
    return vec2<u32>(max(max(widths.x, widths.y), max(widths.z, widths.w)), (pairs & 0xffffu) + (pairs >> 16u));
#else
    var both = vec2<u32>(0u);
#ifdef QUADS
#unroll i 0 ${QUADS}
    let at_${i} = start + min(${i}u, count - 1u);
    let quad_${i} = select(0u, (quads[at_${i} >> 2u] >> ((at_${i} & 3u) * 8u)) & 0xffu, ${i}u < count);
    both = vec2<u32>(max(both.x, quad_${i} & 31u), both.y + (quad_${i} >> 5u));
#endunroll
#else
    for (var i = start; i < start + count; i++) {
        let quad = (quads[i >> 2u] >> ((i & 3u) * 8u)) & 0xffu;
        both = vec2<u32>(max(both.x, quad & 31u), both.y + (quad >> 5u));
    }
#endif
    return both;
#endif
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    tally_open(lane.x);
    let members_of_last = p.unit - (p.groups_per_unit - 1u) * p.quads_per_group * 4u;
    var rows = 0u;
    var sum = 0u;
    var sum_members = 0u;
    var same = 0u;
    var sum_on = 0u;
    var on = 0u;
    var largest = 0u;
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.items; i += p.threads) {
        let segment = i / p.blocks;
        let within = (i - segment * p.blocks) * p.block;
        let first = segment * p.segment + within;
        let end = min(first + p.block, min((segment + 1u) * p.segment, p.groups));
        // The group before the block, for the comparison with its first one; the tensor's first group equals none.
        var before = 0xffffffffu;
        if (first > 0u) {
            let unit = (first - 1u) / p.groups_per_unit;
            before = max(of_group(unit, first - 1u - unit * p.groups_per_unit).x, p.least);
        }
        var unit = first / p.groups_per_unit;
        var j = first - unit * p.groups_per_unit;
        var of_block = 0u;
        for (var g = first; g < end; g++) {
            let both = of_group(unit, j);
            let w = max(both.x, p.least);
            let last = j + 1u == p.groups_per_unit;
            of_block += w;
            sum_members += w * select(p.quads_per_group * 4u, members_of_last, last);
            same += u32(w == before);
            sum_on += both.x * both.y;
            on += both.y;
            largest = max(largest, both.x);
            before = w;
            unit += u32(last);
            j = select(j + 1u, 0u, last);
            if (g == 0u) {
                atomicStore(&results[p.slot + 8u], w);
            }
        }
        if (end == p.groups) {
            atomicStore(&results[p.slot + 9u], before);
        }
        sum += of_block;
        if (p.blocks > 1u) {
            atomicAdd(&segments[segment], of_block);
        } else {
            rows += (of_block + (1u << p.container_log2) - 1u) >> p.container_log2;
        }
    }
    atomicAdd(&tally[0], rows);
    atomicAdd(&tally[1], sum);
    atomicAdd(&tally[2], sum_members);
    atomicAdd(&tally[3], same);
    atomicAdd(&tally[4], sum_on);
    atomicAdd(&tally[6], on);
    // The eighth word is none of the sums: what tally_close adds to results from it means nothing.
    atomicMax(&tally[7], largest);
    tally_close(lane.x, p.slot);
    if (lane.x == 0u) {
        atomicMax(&results[p.slot + 5u], atomicLoad(&tally[7]));
    }
}
