// counts[c, s] = how many values of chunk c have symbol s: a byte, or (HALVES) the high byte of a value of 16 bits (lib/halves).
//
// Buffers: values [chunks, quads] of u32 (four bytes each), with HALVES of vec2<u32> (four values each), p.ld_values quads from chunk
//   to chunk; counts [chunks, 256], u32, zeros before.
// Precision: exact; p.len values are counted, what lies behind them in the last quad is not.
// Geometry: workgroup (LANES,1,1) with 8 histograms in workgroup memory, each shared by an eighth of the lanes; x covers quads with
//   stride p.threads, y chunks. With PRIVATE, LANES is 8 and every lane has a histogram of its own.
// Races: integer atomics, whose order cannot matter; barriers between zeroing, counting and adding up. PRIVATE: a lane's own words.
// Bounds: guarded by p.quads; a symbol is below 256.
// Tried: PRIVATE is for software devices, where an atomic is a locked instruction of one lane at a time: 92 instead of 159 ms for 16 MiB on a
//   core of llvmpipe. Copies of a bin are neighbours, so that lanes with the same symbol hit different banks.

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
@group(0) @binding(1) var<storage, read_write> counts: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;
const COPIES = 8u;

#ifdef PRIVATE
var<workgroup> bins: array<u32, 2048>;
fn put(at: u32, count: u32) { bins[at] = count; }
fn add(at: u32) { bins[at] += 1u; }
fn bin(at: u32) -> u32 { return bins[at]; }
#else
var<workgroup> bins: array<atomic<u32>, 2048>;
fn put(at: u32, count: u32) { atomicStore(&bins[at], count); }
fn add(at: u32) { atomicAdd(&bins[at], 1u); }
fn bin(at: u32) -> u32 { return atomicLoad(&bins[at]); }
#endif

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let chunk = group.y + p.grid.y;
    for (var i = lane.x; i < 256u * COPIES; i += LANES) {
        put(i, 0u);
    }
    workgroupBarrier();
    let copy = lane.x % COPIES;
    for (var q = (group.x + p.grid.x) * LANES + lane.x; q < p.quads; q += p.threads) {
#ifdef HALVES
        let four = high_bytes(values[chunk * p.ld_values + q]);
#else
        let four = values[chunk * p.ld_values + q];
#endif
        let inside = p.len - 4u * q;
#unroll b 0 4
        if (${b}u < inside) {
            add(((four >> (8u * ${b}u)) & 255u) * COPIES + copy);
        }
#endunroll
    }
    workgroupBarrier();
    for (var s = lane.x; s < 256u; s += LANES) {
        var sum = 0u;
        for (var c = 0u; c < COPIES; c++) {
            sum += bin(s * COPIES + c);
        }
        if (sum > 0u) {
            atomicAdd(&counts[chunk * 256u + s], sum);
        }
    }
}
