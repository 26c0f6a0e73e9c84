// Runs of zeros of a stream in channel-major order, chunk by chunk: with a "gap" the zeros between two neighbouring non-zero values,
//   chunk = (zeros before the first non-zero value, zeros behind the last, non-zero values, sum of (gap + p.add) >> p.run_bits inside);
//   a chunk of zeros alone has its length first and second.
//
// Buffers (u32): data [filters, positions, channels] of 4 bytes or (HALVES) 2 halves a word; chunk [chunks], vectors of four.
// Precision: exact. Undefined: nothing. Bounds: guarded by p.chunks; chunks end where the data does (lib/chunks).
// Geometry: workgroup (64,1,1), grid-stride over chunks. Races: an invocation writes its own vectors.

struct Params {
    grid: vec4<u32>,
    threads: u32, chunks: u32, values: u32, positions: u32,
    channels: u32, length: u32, per_channel: u32, run_bits: u32,
    add: u32, sign: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> data: array<u32>;
@group(0) @binding(1) var<storage, read_write> chunk: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/chunks"
#import "lib/stored"

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var t = (group.x + p.grid.x) * 64u + lane.x; t < p.chunks; t += p.threads) {
        let o = chunk_of(t);
        var s = chunk_start(o);
        let length = chunk_length(o, s);
        var lead = 0u;
        var zeros = 0u;
        var on = 0u;
        var extra = 0u;
        for (var i = 0u; i < length; i++) {
            let is_on = stored(s.at) != 0u;
            lead = select(lead, zeros, is_on && on == 0u);
            extra += select(0u, (zeros + p.add) >> p.run_bits, is_on && on > 0u);
            on += u32(is_on);
            zeros = select(zeros + 1u, 0u, is_on);
            s = next(s);
        }
        chunk[o] = vec4<u32>(select(lead, zeros, on == 0u), zeros, on, extra);
    }
}
