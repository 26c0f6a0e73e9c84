// Where every lane's units go in its chunk's stream. With m the fewest units of a lane of a block, the first m of all its lanes stand
// interleaved, unit u of lane t at offset + u width + t; behind them the rest of each lane, one lane after the other; then the next block.
//
// Buffers (u32): halves [chunks, lanes], p.ld_lanes apart (rans_encode); records [chunks, lanes] of vec4, p.ld_lanes apart: (halves, m,
//   offset + t, place of unit 0 if the lane's rest went on to the front, modulo 2^32); totals [chunks]: units of the whole stream.
// Precision: exact.
// Geometry: workgroup (64,1,1), one chunk each, lane b for block b, of which there are at most 64; x covers chunks.
// Races: a barrier between write and read of the blocks' sums; a lane writes its own block's records.
// Bounds: blocks below p.blocks, lanes below p.lanes = blocks * width.
// Tried: nothing else; it reads 4 bytes a lane of 2048 values.

struct Params {
    grid: vec4<u32>,
    len: u32, quads: u32, rows: u32, lanes: u32,
    width: u32, width_log: u32, cap: u32, blocks: u32,
    ld_values: u32, ld_raw: u32, ld_lanes: u32, ld_units: u32,
    ld_scratch: u32, threads: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> halves: array<u32>;
@group(0) @binding(1) var<storage, read_write> records: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> totals: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> sums: array<u32, 64>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) invocation: vec3<u32>) {
    let chunk = group.x + p.grid.x;
    let block = invocation.x;
    let base = chunk * p.ld_lanes + block * p.width;
    let width = select(0u, p.width, block < p.blocks);
    var fewest = 0xffffffffu;
    var sum = 0u;
    for (var t = 0u; t < width; t++) {
        let units = (halves[base + t] + 1u) >> 1u;
        fewest = min(fewest, units);
        sum += units;
    }
    sums[block] = sum;
    workgroupBarrier();
    var offset = 0u;
    var total = 0u;
    for (var b = 0u; b < 64u; b++) {
        offset += select(0u, sums[b], b < block);
        total += sums[b];
    }
    var rest = offset + width * fewest;
    for (var t = 0u; t < width; t++) {
        let n = halves[base + t];
        records[base + t] = vec4<u32>(n, fewest, offset + t, rest - fewest);
        rest += ((n + 1u) >> 1u) - fewest;
    }
    if (block == 0u) {
        totals[chunk] = total;
    }
}
