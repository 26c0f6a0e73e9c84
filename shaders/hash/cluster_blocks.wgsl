// blocks[b, j, i] = vector j of row 32 b + i of a panel: the rows of 32 labels side by side, so that neighbouring lanes read neighbouring vectors.
//
// Buffers: panel [32 * blocks, p.width4] and blocks [blocks, p.width4, 32] (vectors of four f32, moved as bits).
// Precision: exact. Undefined: nothing.
// Geometry: workgroup (64,1,1), an invocation a vector, grid-stride over p.len. Bounds: guarded by p.len. Races: own vectors.
// Tried: nothing else; it runs once for a table.

struct Params {
    grid: vec4<u32>,
    len: u32, threads: u32, width4: u32, pad0: u32,
}
@group(0) @binding(0) var<storage, read_write> panel: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> blocks: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var item = (group.x + p.grid.x) * 64u + lane.x; item < p.len; item += p.threads) {
        let column = item / 32u;
        let block = column / p.width4;
        let row = block * 32u + item % 32u;
        blocks[item] = panel[row * p.width4 + column - block * p.width4];
    }
}
