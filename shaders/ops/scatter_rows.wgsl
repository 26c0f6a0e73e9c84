// out[s, :] = [out[s, :] +] sum over e in starts[s] .. starts[s + 1] of x[list[e], :]: rows that go to one destination are summed.
//
// Buffers: x [rows, n] and out [segments, n] (f32, rows start at multiples of 4); starts [segments + 1] and list [entries]
//   (u32): segment s of the list names the rows that go to destination s. With p.flags & ADD what is in out counts first.
// One writer a destination, terms in the list's order: deterministic, without atomics. src/ops/gather.rs, `Segments`, makes the lists.
// Precision: a rounding an entry of the segment. Undefined: padding columns; NaN and infinity.
// Geometry: workgroup (64,1,1), an invocation sums four columns of one destination, grid-stride over p.len.
// Bounds: entries past p.entries and rows past p.rows are left out. Races: an invocation reads and writes its own vectors of out.

struct Params {
    grid: vec4<u32>,
    len: u32, threads: u32, width4: u32, rows: u32,
    entries: u32, flags: u32, pad0: u32, pad1: u32,
}
const ADD = 1u;
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> starts: array<u32>;
@group(0) @binding(2) var<storage, read_write> list: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var item = (group.x + p.grid.x) * 64u + lane.x; item < p.len; item += p.threads) {
        let segment = item / p.width4;
        var s = vec4<f32>(0.0);
        if ((p.flags & ADD) != 0u) {
            s = out[item];
        }
        let end = min(starts[segment + 1u], p.entries);
        for (var e = starts[segment]; e < end; e++) {
            let row = list[e];
            if (row < p.rows) {
                s += x[row * p.width4 + item % p.width4];
            }
        }
        out[item] = s;
    }
}
