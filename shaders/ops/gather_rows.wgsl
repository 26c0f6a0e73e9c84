// out[r, :] = x[ids[r], :], or zeros where ids[r] is no row of x.
//
// Buffers: x [rows, n] and out [count, n] (f32 or any 32-bit words, rows start at multiples of 4); ids [count] (u32).
// Precision: exact (words are moved as bits). Undefined: padding columns take those of x.
// Geometry: workgroup (64,1,1), an invocation moves four columns, grid-stride over p.len.
// Bounds: ids are compared with p.rows. Races: an invocation writes its own vectors.

struct Params {
    grid: vec4<u32>,
    len: u32, threads: u32, width4: u32, rows: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var item = (group.x + p.grid.x) * 64u + lane.x; item < p.len; item += p.threads) {
        let id = ids[item / p.width4];
        let real = id < p.rows;
        let value = x[select(0u, id * p.width4, real) + item % p.width4];
        out[item] = select(vec4<u32>(0u), value, real);
    }
}
