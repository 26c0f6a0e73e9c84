// Codes the symbols of every lane with rANS (Duda, arXiv 1311.2540): a state of 32 bits, frequencies f in 4096ths, 16 bits put out at a time.
//   From the lane's last symbol to its first: while x >= 2^20 f, its low 16 bits are put out and shifted away (once is enough, for x < 2^32
//   and 2^16 <= 2^20 f); then x = (x / f) 4096 + x mod f + start(symbol). The first state is 2^16, the last is what decoding starts with.
// Lane t of a block of `width` lanes codes quads t, t + width, ... of the block's `rows * width`: neighbours read neighbouring words.
//
// Buffers: values as in rans_histogram; symbols [chunks, 256] (rans_table); states, halves [chunks, lanes], u32, p.ld_lanes apart: last
//   states, and numbers of 16-bit words put out; WRITE: scratch [chunks, p.ld_scratch], u32 units of two such words, unit u of lane t of a block at
//   (block cap + u) width + t; an odd last word has zeros above it. RAW: raw [chunks, quads], u32, p.ld_raw apart: the low bytes.
// Precision: exact. Division: f <= 2^12 and x < 2^20 f, so x / f < 2^20. WGSL rounds f32(x) by at most 2^-23 of it, 1 / f by 2.5 units, the
//   product by one: together below 4.6 * 2^-23 * 2^20 < 0.6, so what is cut off below the point is the quotient or one beside it, and one
//   correction each way by the remainder (of less than 2 f, in i32 that wraps) makes it exact. x may round to 2^32: the quotient 2^20 is
//   one beside the right one.
// What is coded behind p.len in the last quad is the chunk's first symbol, which always has a frequency.
// Geometry: workgroup (256,1,1); x covers lanes, y chunks. Without WRITE nothing but states and numbers comes out: the exact size.
// Races: a barrier between write and read of the table; everything else is a lane's own.
// Bounds: quads below p.quads; a symbol puts out at most one word, and 13 bits on average, so units stay below p.cap.
// Tried: not words of all lanes in the order in which decoding wants them (Giesen, arXiv 1402.3392; DietGPU): that is a scan over lanes for
//   every symbol, which WGSL without subgroups can only do through workgroup memory and two barriers. Not a stream of its own for
//   every lane: its words would be strewn. Words of lanes that stand beside each other at the same number of a lane cost no scan and no
//   padding; lanes of a block have nearly the same length, and drift by its variance. Not counting first and writing in place
//   after (2 + r of the bytes; scratch and packing move 1 + 3 r), since it codes twice, and coding is what takes the time: on a core of llvmpipe
//   115 ms for 16 MiB of 5.6 bits; packing takes 17, the histogram 100. On no GPU yet.

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
#ifdef HALVES
@group(0) @binding(0) var<storage, read_write> values: array<vec2<u32>>;
#else
@group(0) @binding(0) var<storage, read_write> values: array<u32>;
#endif
@group(0) @binding(1) var<storage, read_write> symbols: array<u32>;
@group(0) @binding(2) var<storage, read_write> states: array<u32>;
@group(0) @binding(3) var<storage, read_write> halves: array<u32>;
#ifdef WRITE
@group(0) @binding(4) var<storage, read_write> scratch: array<u32>;
#ifdef HALVES
@group(0) @binding(5) var<storage, read_write> raw: array<u32>;
#endif
#endif
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> table: array<u32, 256>;

fn coded(at: u32) -> u32 {
#ifdef HALVES
    return high_bytes(values[at]);
#else
    return values[at];
#endif
}

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) invocation: vec3<u32>) {
    let chunk = group.y + p.grid.y;
    table[invocation.x] = symbols[chunk * 256u + invocation.x];
    workgroupBarrier();
    let g = (group.x + p.grid.x) * 256u + invocation.x;
    if (g >= p.lanes) {
        return;
    }
    let block = g >> p.width_log;
    let t = g & (p.width - 1u);
    let first = ((block * p.rows) << p.width_log) + t;
    let end = min(p.quads, ((block + 1u) * p.rows) << p.width_log);
    let count = (max(end, first) - first + p.width - 1u) >> p.width_log;
    let base = chunk * p.ld_values;
    let filling = (coded(base) & 255u) * 0x01010101u;
    let inside = p.len - 4u * (p.quads - 1u);
    let mask = select((1u << (8u * (inside & 3u))) - 1u, 0xffffffffu, inside == 4u);
#ifdef WRITE
    var at = chunk * p.ld_scratch + ((block * p.cap) << p.width_log) + t;
#endif
    var x = 0x10000u;
    var n = 0u;
    var pair = 0u;
    for (var i = count; i > 0u; i--) {
        let q = first + ((i - 1u) << p.width_log);
        var four = coded(base + q);
        if (q == p.quads - 1u) {
            four = (four & mask) | (filling & ~mask);
        }
#ifdef WRITE
#ifdef HALVES
        let low = low_bytes(values[base + q]);
        raw[chunk * p.ld_raw + q] = select(low, low & mask, q == p.quads - 1u);
#endif
#endif
#unroll b 0 4
        {
            let entry = table[(four >> (24u - 8u * ${b}u)) & 255u];
            let f = entry >> 16u;
            if ((x >> 20u) >= f) {
                pair = (pair >> 16u) | (x << 16u);
                x = x >> 16u;
                n++;
#ifdef WRITE
                if ((n & 1u) == 0u) {
                    scratch[at] = pair;
                    at += p.width;
                }
#endif
            }
            var quotient = i32(f32(x) * (1.0 / f32(f)));
            var rest = bitcast<i32>(x) - quotient * i32(f);
            let fewer = rest < 0;
            quotient -= select(0, 1, fewer);
            rest += select(0, i32(f), fewer);
            let more = rest >= i32(f);
            quotient += select(0, 1, more);
            rest -= select(0, i32(f), more);
            x = (bitcast<u32>(quotient) << 12u) + bitcast<u32>(rest) + (entry & 0xffffu);
        }
#endunroll
    }
#ifdef WRITE
    if ((n & 1u) == 1u) {
        scratch[at] = pair >> 16u;
    }
#endif
    states[chunk * p.ld_lanes + g] = x;
    halves[chunk * p.ld_lanes + g] = n;
}
