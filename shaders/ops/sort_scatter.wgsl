// Keys and payload of block k of row r to their places by digit d = (key >> p.shift) & (p.digits - 1): out[offsets[r, d, k] + how many
// keys before it in the block have digit d]: the last step of a pass of a stable radix sort (ops/sort.rs).
// IOTA: the payload of key i is i.
//
// Buffers (u32): keys and payload [rows, n] by vectors of four; out_keys, out_payload [rows, n]; offsets [rows, digits * blocks], the
//   exclusive scan of what sort_count wrote. Strides of rows: p.ld_keys, p.ld_payload in vectors, the others in words.
// Lane t counts its run again; the counters of a digit are scanned over the lanes in PARTS pieces of LANES / PARTS, and then each lane
//   places its run in ascending order: stable, and the same for every geometry.
// Precision: exact. Undefined: padding of the outputs is not written.
// Geometry: workgroup (LANES,1,1), one block each; x covers blocks, y rows; see sort_count.
// Races: barriers between the lanes' counters, the sums of pieces, the scan and its use; the scan gives every key a place of its own.
// Bounds: guarded by n; a place is below n because the offsets count all keys of the row.
// Tried: 128 lanes and digits of four bits on a software device: 1.6 s in place of 0.55 s for 5 rows of 670,091 keys of 24 bits (two
//   loaded cores).
// Not tried: sorting the block in workgroup memory first, so that neighbours write neighbours: twice the barriers.

struct Params {
    grid: vec4<u32>,
    n: u32, blocks: u32, shift: u32, digits: u32,
    ld_keys: u32, ld_payload: u32, ld_out_keys: u32, ld_out_payload: u32,
    ld_counts: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> keys: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> offsets: array<u32>;
@group(0) @binding(2) var<storage, read_write> out_keys: array<u32>;
@group(0) @binding(3) var<storage, read_write> out_payload: array<u32>;
#ifndef IOTA
@group(0) @binding(4) var<storage, read_write> payload: array<vec4<u32>>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/digits"

const PARTS = ${PARTS}u;
const SPAN = LANES / PARTS;

var<workgroup> pieces: array<u32, ${PIECES}>;

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let block = group.x + p.grid.x;
    let row = group.y + p.grid.y;
    count_run(row, block, lane.x);
    workgroupBarrier();
    for (var piece = lane.x; piece < p.digits * PARTS; piece += LANES) {
        var sum = 0u;
        for (var t = piece * SPAN; t < (piece + 1u) * SPAN; t++) {
            sum += counts[t];
        }
        pieces[piece] = sum;
    }
    workgroupBarrier();
    for (var piece = lane.x; piece < p.digits * PARTS; piece += LANES) {
        let d = piece / PARTS;
        var before = offsets[row * p.ld_counts + d * p.blocks + block];
        for (var i = d * PARTS; i < piece; i++) {
            before += pieces[i];
        }
        for (var t = piece * SPAN; t < (piece + 1u) * SPAN; t++) {
            let own = counts[t];
            counts[t] = before;
            before += own;
        }
    }
    workgroupBarrier();
    let first = (block * LANES + lane.x) * RUN;
    let end = min(first + RUN, p.n);
    for (var i = first; i < end; i += 4u) {
        let key = keys[row * p.ld_keys + i / 4u];
#ifdef IOTA
        let carried = vec4<u32>(i) + vec4<u32>(0u, 1u, 2u, 3u);
#else
        let carried = payload[row * p.ld_payload + i / 4u];
#endif
#unroll j 0 4
        if (i + ${j}u < end) {
            let counter = digit(key[${j}]) * LANES + lane.x;
            let place = counts[counter];
            counts[counter] = place + 1u;
            out_keys[row * p.ld_out_keys + place] = key[${j}];
            out_payload[row * p.ld_out_payload + place] = carried[${j}];
        }
#endunroll
    }
}
