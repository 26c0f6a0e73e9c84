// Decodes the symbols of every lane (rans_encode): slot = x mod 4096 names the symbol; x = f (x / 4096) + slot - start(symbol); where x falls
//   below 2^16, the next 16 bits come in from below, from the last put out to the first.
//
// Buffers: symbols [chunks, 256], start | frequency << 16; states [chunks, lanes], u32, p.ld_lanes apart; records [chunks, lanes] of vec4
//   (rans_offsets); units [chunks, p.ld_units], u32; out: as values in rans_histogram, p.ld_values quads from chunk to chunk; bad [chunks],
//   u32, zeros before: 0, or p.lanes - (first lane that does not end in state 2^16 with all its words used). HALVES: raw [chunks, quads],
//   u32, p.ld_raw apart: low bytes, joined with the coded high ones.
// Precision: exact. What lies behind p.len in the last quad becomes zeros.
// Table: 4096 words in workgroup memory (all of the portable 16 KiB), symbol | f - 1 << 8 | slot - start << 20. A lane finds the symbol of
//   its 16 slots by bisection, and walks.
// Geometry: workgroup (256,1,1); x covers lanes, y chunks.
// Races: a barrier between write and read of the table; a lane writes its own quads; bad by an atomic maximum.
// Bounds: loops depend on p.rows, never on what is decoded; slots are below 4096; a lane reads its own units alone, and none where it wants
//   more words than it has; places are inside for records of rans_offsets and for those that the host has made of a checked payload, whose
//   frequencies have sum 4096.
// Tried: reading a unit for each of its two words: 158 instead of 126 ms for 16 MiB on a core of llvmpipe, where a load is a loop over
//   lanes. See rans_encode for the order of words. One table of 4096 words, for two steps (slot to symbol in a byte, symbol to f and start)
//   are two gathers that wait for each other.

#ifdef HALVES
#import "lib/halves"
#endif

struct Params {
    grid: vec4<u32>,
    len: u32, quads: u32, rows: u32, lanes: u32,
    width: u32, width_log: u32, cap: u32, blocks: u32,
    ld_values: u32, ld_raw: u32, ld_lanes: u32, ld_units: u32,
    ld_scratch: u32, threads: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> symbols: array<u32>;
@group(0) @binding(1) var<storage, read_write> states: array<u32>;
@group(0) @binding(2) var<storage, read_write> records: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> units: array<u32>;
@group(0) @binding(4) var<storage, read_write> bad: array<atomic<u32>>;
#ifdef HALVES
@group(0) @binding(5) var<storage, read_write> out: array<vec2<u32>>;
@group(0) @binding(6) var<storage, read_write> raw: array<u32>;
#else
@group(0) @binding(5) var<storage, read_write> out: array<u32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> table: array<u32, 4096>;

// Where unit u of a lane is: among those of all lanes of its block, or in its own rest.
fn place(record: vec4<u32>, u: u32) -> u32 {
    return select(record.w + u, record.z + (u << p.width_log), u < record.y);
}

fn fill(chunk: u32, lane: u32) {
    let row = chunk * 256u;
    var symbol = 0u;
#unroll level 0 8
    {
        let middle = symbol + (128u >> ${level}u);
        symbol = select(symbol, middle, (symbols[row + middle] & 0xffffu) <= lane * 16u);
    }
#endunroll
    var entry = symbols[row + symbol];
    for (var slot = lane * 16u; slot < lane * 16u + 16u; slot++) {
        while (symbol < 255u && slot >= (entry & 0xffffu) + (entry >> 16u)) {
            symbol++;
            entry = symbols[row + symbol];
        }
        table[slot] = symbol | ((((entry >> 16u) - 1u) & 0xfffu) << 8u) | ((slot - (entry & 0xffffu)) << 20u);
    }
}

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) invocation: vec3<u32>) {
    let chunk = group.y + p.grid.y;
    fill(chunk, invocation.x);
    workgroupBarrier();
    let g = (group.x + p.grid.x) * 256u + invocation.x;
    if (g >= p.lanes) {
        return;
    }
    let block = g >> p.width_log;
    let t = g & (p.width - 1u);
    let first = ((block * p.rows) << p.width_log) + t;
    let end = min(p.quads, ((block + 1u) * p.rows) << p.width_log);
    let record = records[chunk * p.ld_lanes + g];
    let base = chunk * p.ld_values;
    let stream = chunk * p.ld_units;
    let inside = p.len - 4u * (p.quads - 1u);
    let mask = select((1u << (8u * (inside & 3u))) - 1u, 0xffffffffu, inside == 4u);
    var x = states[chunk * p.ld_lanes + g];
    var left = record.x;
    var fits = true;
    var held = 0u;
    if ((left & 1u) == 1u) {
        held = units[stream + place(record, left >> 1u)];
    }
    for (var q = first; q < end; q += p.width) {
        var four = 0u;
#unroll b 0 4
        {
            let entry = table[x & 4095u];
            x = (((entry >> 8u) & 4095u) + 1u) * (x >> 12u) + (entry >> 20u);
            four |= (entry & 255u) << (8u * ${b}u);
            if (x < 0x10000u) {
                fits = fits && left > 0u;
                left = max(left, 1u) - 1u;
                // The upper half of a unit comes first, the lower waits.
                if ((left & 1u) == 1u) {
                    held = units[stream + place(record, left >> 1u)];
                    x = (x << 16u) | (held >> 16u);
                } else {
                    x = (x << 16u) | (held & 0xffffu);
                }
            }
        }
#endunroll
        if (q == p.quads - 1u) {
            four &= mask;
        }
#ifdef HALVES
        out[base + q] = joined(four, raw[chunk * p.ld_raw + q]);
#else
        out[base + q] = four;
#endif
    }
    if (!fits || left != 0u || x != 0x10000u) {
        atomicMax(&bad[chunk], p.lanes - g);
    }
}
