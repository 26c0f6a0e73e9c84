// EBPC's blocks (Cavigelli et al., 2019): eight consecutive non-zero values of a stream in channel-major order; zeros fill up the last.
//   d_i = x_i+1 - x_i modulo 2^(B+1), and e_i = d_i ^ (d_i >> 1): bit p of e is plane p combined with the one above. A block takes B bits for
//   x_0, for a plane with a one 5 bits if all of e's bits are ones or all of d's are zeros, else 8, and for a run of planes of zeros 2 bits if it
//   is one plane, else 3 + log2 B:
//     results[slot] += sum of these bits
//
// Buffers (u32): data [filters, positions, channels], 4 bytes or (HALVES) 2 halves a word; chunk [chunks] of four (run_chunks); carry
//   [chunks] of two: the non-zero values before a chunk first; results.
// Precision: exact; a part of 2^26 values has less than 2^32 bits. Undefined: nothing.
// Geometry: workgroup (64,1,1), grid-stride over chunks. An invocation has the blocks that begin in its chunk, and reads on until the last of
//   them is full, past chunks of zeros without looking into them; a value is read at most twice.
// Races: atomics, whose order cannot matter. Bounds: guarded by p.chunks, at both ends.

struct Params {
    grid: vec4<u32>,
    threads: u32, chunks: u32, values: u32, positions: u32,
    channels: u32, length: u32, per_channel: u32, container_log2: u32,
    slot: u32, sign: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> data: array<u32>;
@group(0) @binding(1) var<storage, read_write> chunk: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> carry: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> results: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/tally"
#import "lib/stored"
#import "lib/chunks"

// What a block's differences have in common, plane by plane.
struct Block {
    any_e: u32,
    all_e: u32,
    any_d: u32,
    previous: u32,
}

fn begun(v: u32) -> Block {
    return Block(0u, 0xffffffffu, 0u, v);
}

fn joined(b: Block, v: u32) -> Block {
    let d = (v - b.previous) & ((2u << (1u << p.container_log2)) - 1u);
    let e = d ^ (d >> 1u);
    return Block(b.any_e | e, b.all_e & e, b.any_d | d, v);
}

fn bits(b: Block) -> u32 {
    let container = 1u << p.container_log2;
    let planes = (2u << container) - 1u;
    let short = countOneBits(b.any_e & (b.all_e | ~b.any_d));
    let zero = ~b.any_e & planes;
    // Runs by their highest plane; those of one plane have no neighbour below either.
    let tops = zero & ~(zero >> 1u);
    let single = countOneBits(tops & ~(zero << 1u));
    let long = countOneBits(tops) - single;
    return container + 8u * countOneBits(b.any_e) - 3u * short + 2u * single + (3u + p.container_log2) * long;
}

fn of_chunk(o: u32) -> u32 {
    var sum = 0u;
    var index = carry[o].x;
    var is_open = false;
    var block = begun(0u);
    for (var q = o; q < p.chunks; q++) {
        if (q > o && !is_open) {
            break;
        }
        if (chunk[q].z == 0u) {
            continue;
        }
        var s = chunk_start(q);
        let length = chunk_length(q, s);
        for (var i = 0u; i < length; i++) {
            let v = stored(s.at);
            s = next(s);
            if (v == 0u) {
                continue;
            }
            let x = v | ((0u - ((v >> SIGN_PLACE) & p.sign)) & ~CONTAINER_MASK);
            let place = index & 7u;
            index++;
            if (place == 0u) {
                if (q > o) {
                    break;
                }
                is_open = true;
                block = begun(x);
            } else if (is_open) {
                block = joined(block, x);
                if (place == 7u) {
                    sum += bits(block);
                    is_open = false;
                }
            }
        }
    }
    if (is_open) {
        // The stream ended: zeros, of which only the first makes a difference.
        block = joined(block, 0u);
        block.all_e &= select(0u, 0xffffffffu, (index & 7u) == 7u);
        sum += bits(block);
    }
    return sum;
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    tally_open(lane.x);
    var sum = 0u;
    for (var t = (group.x + p.grid.x) * 64u + lane.x; t < p.chunks; t += p.threads) {
        sum += of_chunk(chunk_of(t));
    }
    atomicAdd(&tally[0], sum);
    tally_close(lane.x, p.slot);
}
