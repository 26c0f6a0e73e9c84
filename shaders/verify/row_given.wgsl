// The constant and error that given rows start with: the error of their constants, and that of their coefficients, which is relative.
//
// state[slot] = (c, (err + rel sum_j |a_j| m_j) grow), (c, err) = given[slot], rel = spec[slot, p.outputs], m_j = the larger magnitude of
// output j's two bounds, which stand with its lines (relax_neurons.wgsl; entry e belongs to neuron list[box, e] with COMPACT).
// Buffers (f32): spec [boxes * rows, p.ld_spec] = coefficients, rel; given, state [boxes * rows] (c, err); lines [boxes, p.outputs, 2].
// Precision: a sum of non-negative numbers of depth outputs + 4, grow >= 1 + 2 D u. Geometry: workgroup (64,1,1), one slot each.
// Races: own elements.

struct Params {
    grid: vec4<u32>,
    slots: u32, rows: u32, outputs: u32, ld_spec: u32,
    grow: f32, ld_list: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> spec: array<f32>;
@group(0) @binding(1) var<storage, read_write> given: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> lines: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> state: array<vec2<f32>>;
#ifdef COMPACT
@group(0) @binding(4) var<storage, read_write> list: array<u32>;
@group(0) @binding(5) var<storage, read_write> count: array<u32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let slot = (group.x + p.grid.x) * 64u + lane.x;
    if (slot >= p.slots) {
        return;
    }
    let box = slot / p.rows;
    let base = slot * p.ld_spec;
    let rel = spec[base + p.outputs];
    var cost = given[slot].y;
#ifdef COMPACT
    let terms = count[box];
#else
    let terms = p.outputs;
#endif
    for (var e = 0u; e < terms; e++) {
#ifdef COMPACT
        let j = list[box * p.ld_list + e];
#else
        let j = e;
#endif
        let at = (box * p.outputs + e) * 2u;
        cost += rel * abs(spec[base + j]) * max(abs(lines[at].w), abs(lines[at + 1u].w));
    }
    state[slot] = vec2<f32>(given[slot].x, cost * p.grow);
}
