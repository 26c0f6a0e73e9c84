// The loss of every candidate of a batched attack, and its gradient on the network's outputs.
//
// A candidate aims at one conjunction of its query: rows r with value_r = coefficients_r . Y + constant_r, all of which must be
// <= 0. Loss = the largest value_r; its (sub)gradient is the coefficients of that row. Where the loss is below the best seen
// for this candidate, loss and input are kept.
// Buffers (f32): y [outputs, p.ld], x [inputs, p.ld], one column a candidate; spec [rows, outputs], constant [rows];
//   u32 aim [candidates, 2] = first row and number of rows; gradient as y; best [candidates], best_x as x.
// Precision: none claimed: whatever an attack finds is replayed in f64 before anyone sees it.
// Geometry: workgroup (64,1,1), one candidate each. Races: own elements.

struct Params {
    grid: vec4<u32>,
    candidates: u32, outputs: u32, inputs: u32, pad0: u32,
    ld: u32, ld_spec: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> spec: array<f32>;
@group(0) @binding(3) var<storage, read_write> constant: array<f32>;
@group(0) @binding(4) var<storage, read_write> aim: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(6) var<storage, read_write> best: array<f32>;
@group(0) @binding(7) var<storage, read_write> best_x: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let candidate = (group.x + p.grid.x) * 64u + lane.x;
    if (candidate >= p.candidates) {
        return;
    }
    let target_rows = aim[candidate];
    var worst = target_rows.x;
    var loss = -3.0e38;
    for (var r = target_rows.x; r < target_rows.x + target_rows.y; r++) {
        var value = constant[r];
        for (var j = 0u; j < p.outputs; j++) {
            value = fma(spec[r * p.ld_spec + j], y[j * p.ld + candidate], value);
        }
        if (value > loss) {
            loss = value;
            worst = r;
        }
    }
    for (var j = 0u; j < p.outputs; j++) {
        gradient[j * p.ld + candidate] = spec[worst * p.ld_spec + j];
    }
    if (loss < best[candidate]) {
        best[candidate] = loss;
        for (var j = 0u; j < p.inputs; j++) {
            best_x[j * p.ld + candidate] = x[j * p.ld + candidate];
        }
    }
}
