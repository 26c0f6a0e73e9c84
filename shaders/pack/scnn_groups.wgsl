// Widths of groups in SCNN's streams: channel c of [positions, channels] with zeros dropped; a gap of zeros >= 2^p.run_bits is cut by stored
//   zeros, so a value at gap g is item number (items before) + (g >> run_bits). A group is p.group consecutive items; with w the width of
//   its largest value, at least p.least (also that of a group of cuts alone), and m its members:
//     segments[c] += sum w     results[slot + 1] += sum w m
//
// Buffers (u32): data [positions, channels], 4 bytes or (HALVES, FLOATS) 2 halves a word; carry [channels, per_channel] of two: items before
//   a chunk and the zeros since; total [channels] of four: non-zero values and cuts first; segments [channels], zero before; results.
// Precision: exact. Undefined: nothing.
// Geometry: workgroup (64,1,1), grid-stride over chunks. An invocation counts the groups whose first item comes to light in its chunk, and
//   reads on, behind its end, until the last of them is full: at most group 2^run_bits values.
// Races: atomics, whose order cannot matter. Bounds: guarded by p.chunks and p.positions.
// Tried: widths of groups in memory by atomicMax, summed up by another dispatch: as much memory as the tensor has.

struct Params {
    grid: vec4<u32>,
    threads: u32, chunks: u32, values: u32, positions: u32,
    channels: u32, length: u32, per_channel: u32, run_bits: u32,
    sign: u32, mantissa: u32, raw: u32, top: u32,
    slot: u32, group_log2: u32, least: u32, pad0: u32,
}
@group(0) @binding(0) var<storage, read_write> data: array<u32>;
@group(0) @binding(1) var<storage, read_write> carry: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> total: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> segments: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> results: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/tally"
#import "lib/stored"
#import "lib/chunks"

// Bits that a value needs which is not 0.
fn stored_width(v: u32) -> u32 {
#ifdef FLOATS
    let field = (v & 0x7fffu) >> p.mantissa;
    return p.raw + 32u - countLeadingZeros(select(p.top + 1u - field, 0u, field == 0u));
#else
    let flip = (0u - ((v >> SIGN_PLACE) & p.sign)) & CONTAINER_MASK;
    return 32u - countLeadingZeros(v ^ flip) + p.sign;
#endif
}

struct Sums {
    widths: u32,
    stored: u32,
}

fn closed(s: Sums, group: u32, width: u32, items: u32) -> Sums {
    let w = max(width, p.least);
    return Sums(s.widths + w, s.stored + w * min(1u << p.group_log2, items - (group << p.group_log2)));
}

fn of_chunk(o: u32) -> Sums {
    let start = chunk_start(o);
    let end = start.k + chunk_length(o, start);
    let before = carry[o];
    let items = total[start.c].x + total[start.c].y;
    let full = 1u << p.group_log2;
    var sums = Sums(0u, 0u);
    var index = before.x;
    var zeros = before.y;
    var is_open = false;
    var group = 0u;
    var width = 0u;
    for (var k = start.k; k < p.positions; k++) {
        let behind = k >= end;
        if (behind && (!is_open || ((index + (zeros >> p.run_bits)) >> p.group_log2) > group)) {
            break;
        }
        let v = stored(k * p.channels + start.c);
        if (v == 0u) {
            zeros++;
            continue;
        }
        let item = index + (zeros >> p.run_bits);
        let own = item >> p.group_log2;
        if (is_open && own == group) {
            width = max(width, stored_width(v));
        } else {
            if (is_open) {
                sums = closed(sums, group, width, items);
                is_open = false;
            }
            if (behind) {
                break;
            }
            // Groups that start with one of the items index ..= item; all but the value's own hold cuts alone.
            let first = (index + full - 1u) >> p.group_log2;
            if (first <= own) {
                sums.widths += (own - first) * p.least;
                sums.stored += (own - first) * p.least * full;
                is_open = true;
                group = own;
                width = stored_width(v);
            }
        }
        index = item + 1u;
        zeros = 0u;
    }
    if (is_open) {
        sums = closed(sums, group, width, items);
    }
    return sums;
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    tally_open(lane.x);
    for (var t = (group.x + p.grid.x) * 64u + lane.x; t < p.chunks; t += p.threads) {
        let o = chunk_of(t);
        let sums = of_chunk(o);
        if (sums.widths > 0u) {
            atomicAdd(&segments[o / p.per_channel], sums.widths);
            atomicAdd(&tally[1], sums.stored);
        }
    }
    tally_close(lane.x, p.slot);
}
