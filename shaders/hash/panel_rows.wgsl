// panel[s, :] = table[ids[s], :] for the ids that are rows of this window of the table; other rows of the panel stay what they are.
//
// Buffers: table: rows p.first .. p.first + p.rows of [N, width] (f32, or bf16 with BF16, rows of p.stride4 vectors of four);
//   ids [S] (u32, any order); panel [S, width] (f32, vectors of four).
// Precision: exact, numbers are moved as bits; those of bf16 become the f32 that they are. Undefined: nothing; a row of the panel whose id is a row of no window is not written.
// Geometry: workgroup (64,1,1), an invocation moves a vector, grid-stride over p.len: neighbours move a row together.
// Races: an invocation writes its own vectors. Bounds: guarded by p.len; ids are compared with p.rows.
// Tried: nothing else; a copy at the memory's pace.

struct Params {
    grid: vec4<u32>,
    len: u32, threads: u32, width4: u32, first: u32,
    rows: u32, stride4: u32, pad0: u32, pad1: u32,
}
#ifdef BF16
#import "lib/bf16"
@group(0) @binding(0) var<storage, read_write> table: array<vec2<u32>>;
fn weights(i: u32) -> vec4<u32> {
    return bitcast<vec4<u32>>(bf16_unpack(table[i]));
}
#else
@group(0) @binding(0) var<storage, read_write> table: array<vec4<u32>>;
fn weights(i: u32) -> vec4<u32> {
    return table[i];
}
#endif
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> panel: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var item = (group.x + p.grid.x) * 64u + lane.x; item < p.len; item += p.threads) {
        let place = item / p.width4;
        // Rows before the window wrap around to large numbers.
        let row = ids[place] - p.first;
        if (row < p.rows) {
            panel[item] = weights(row * p.stride4 + item - place * p.width4);
        }
    }
}
