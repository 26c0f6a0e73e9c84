// sums[r, d * p.blocks + k] = how many keys of block k of row r have digit d = (key >> p.shift) & (p.digits - 1): the first step of a
// pass of a stable radix sort (ops/sort.rs). Blocks are LANES * RUN keys.
//
// Buffers (u32): keys [rows, n] by vectors of four, p.ld_keys vectors a row; sums [rows, digits * blocks], p.ld_counts words a row.
// Precision: exact. Undefined: nothing; padding behind a row is not counted.
// Geometry: workgroup (LANES,1,1), one block each; x covers blocks, y rows. 8 lanes with runs of 512 keys and up to 256 digits on
//   software devices, where they are one vector of the processor; 128 lanes with runs of 16 and up to 16 digits on GPUs.
// Races: a lane counts in its own column, then a barrier, then a lane adds up rows of its own. Bounds: guarded by n and digits.
// Not tried: counters of the block by atomics in workgroup memory.

struct Params {
    grid: vec4<u32>,
    n: u32, blocks: u32, shift: u32, digits: u32,
    ld_keys: u32, ld_payload: u32, ld_out_keys: u32, ld_out_payload: u32,
    ld_counts: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> keys: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> sums: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/digits"

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let block = group.x + p.grid.x;
    let row = group.y + p.grid.y;
    count_run(row, block, lane.x);
    workgroupBarrier();
    for (var d = lane.x; d < p.digits; d += LANES) {
        var sum = 0u;
        // Each lane starts elsewhere, so that they do not ask one bank of the memory.
        for (var t = 0u; t < LANES; t++) {
            sum += counts[d * LANES + (t + d) % LANES];
        }
        sums[row * p.ld_counts + d * p.blocks + block] = sum;
    }
}
