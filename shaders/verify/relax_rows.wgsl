// One step of back-substitution through the lines of a layer, for every row of a batch: coefficients on the layer's
// outputs become coefficients on its inputs z, and 32 partial sums a row say what that did to the constant.
//
// A row is a sound lower bound: target >= sum_j a_j y_j + c - err for every input of its box. With y = relu(z), a_j >= 0 takes
// the lower line, a_j < 0 the upper one: a'_j = fl(a_j * line). Partial sums over j (lines: relax_neurons.wgsl):
//   x: sum over a_j < 0 of a_j t_j       y: sum a'_j bias_j       z: rounding cost, sum |a'_j| e_j + (a_j < 0) |a_j| f_j
//   w: lower bound of sum a_j y_j over y's own bounds (with p.relu: [l, h] clipped at 0), less its rounding g_c |a_j| max(|l_j|, |h_j|);
//      never looser than the same over z with the lines, and without their cost
// Given rows (p.has_rel) have behind their coefficients a bound on the relative error of those: rel, which costs rel |a_j| max(|l_j|, |h_j|) more, in z and in w, whatever the line.
// Terms with neither line (inactive neurons) are left out: only the active list is walked.
// FIRST: the row comes from `a` as a weight matrix: row (slot / sides) % p.rows_of_a, negated for odd slots (upper bounds).
// else:  a_j is the sum over the rows[r].w split-K planes of a that have terms.
// INPUT: the layer is the input box (box_lower, box_upper): no lines, no list, only w is meaningful.
// FORM (with INPUT): form[slot] = the a_j, the row's linear form on the inputs: where it is least, and what halving an input brings.
// Buffers (f32): a [planes, rows, p.lda]; out [rows, p.ld_out], compact: column k belongs to active neuron list[owner][k];
//   partial [rows, 32]; rows as row_table.wgsl; lines [batch, n, 2], list, count: the active neurons of each input, compact.
// Precision: at most 2 ceil(n / 32) + 2 roundings on a partial sum; partials are summed by another dispatch (row_finish.wgsl);
//   the planes of a by this one: their depth is part of the product's.
// Overflow: |a_j| >= 2^40, infinity or NaN marks the input in `bad`; a_j counts as 0.
// Geometry: workgroup (32,2,1): 32 lanes a row, two rows; x covers rows. Races: own elements; `bad` by atomicOr.
#import "lib/float"

struct Params {
    grid: vec4<u32>,
    n: u32, lda: u32, ld_out: u32, relu: u32,
    plane: u32, rows_of_a: u32, sides: u32, ld_list: u32,
    g_c: f32, has_rel: u32, pad1: u32, pad2: u32,
}
const NONE = 0xffffffffu;
@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> bad: array<atomic<u32>>;
#ifdef INPUT
@group(0) @binding(4) var<storage, read_write> box_lower: array<f32>;
@group(0) @binding(5) var<storage, read_write> box_upper: array<f32>;
#ifdef FORM
@group(0) @binding(6) var<storage, read_write> form: array<f32>;
#endif
#else
@group(0) @binding(4) var<storage, read_write> lines: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> list: array<u32>;
@group(0) @binding(6) var<storage, read_write> count: array<u32>;
@group(0) @binding(7) var<storage, read_write> out: array<f32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(32, 2, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let row = (group.x + p.grid.x) * 2u + lane.y;
    let owner = rows[row].x;
    let slot = rows[row].y;
    if (slot == NONE) {
        return;
    }
#ifdef FIRST
    let base = (slot / p.sides) % p.rows_of_a * p.lda;
    let sign = select(1.0, -1.0, slot % p.sides == 1u);
#else
    let base = row * p.lda;
#endif
#ifdef INPUT
    let terms = p.n;
#else
    let terms = count[owner];
#endif
#ifndef FIRST
    let planes = rows[row].w;
#endif
    var rel = 0.0;
#ifdef FIRST
    if (p.has_rel != 0u) {
        rel = a[base + p.n];
    }
#endif
    var sums = vec4<f32>(0.0);
    for (var k = lane.x; k < terms; k += 32u) {
#ifdef INPUT
        let j = k;
#else
        let j = list[owner * p.ld_list + k];
#endif
        var value = a[base + j];
#ifdef FIRST
        value *= sign;
#else
        for (var part = 1u; part < planes; part++) {
            value += a[base + j + part * p.plane];
        }
#endif
        if (is_huge(value)) {
            atomicOr(&bad[owner], 1u);
            value = 0.0;
        }
#ifdef INPUT
        let l = box_lower[owner * p.ld_list + j];
        let h = box_upper[owner * p.ld_list + j];
#ifdef FORM
        form[slot * p.ld_list + j] = value;
#endif
#else
        let line = lines[(owner * p.n + k) * 2u];
        let facts = lines[(owner * p.n + k) * 2u + 1u];
        let l = select(facts.x, max(facts.x, 0.0), p.relu != 0u);
        let h = facts.y;
        let negative = value < 0.0;
        let next = value * select(line.x, line.y, negative);
        out[row * p.ld_out + k] = next;
        sums.x += select(0.0, value * line.z, negative);
        sums.y += next * facts.w;
        sums.z += abs(next) * facts.z + rel * abs(value) * max(abs(l), abs(h)) + select(0.0, -value * line.w, negative);
#endif
        sums.w += value * select(l, h, value < 0.0) - (p.g_c + rel) * abs(value) * max(abs(l), abs(h));
    }
    partial[row * 32u + lane.x] = sums;
}
