// One step of back-substitution through the lines of a layer, for every row of a walk: coefficients on the layer's outputs y become
// coefficients on its z = W x (the bias goes into the constant), and partial sums say what that did to the constant.
//
// A row is a sound lower bound: quantity >= sum_j a_j y_j + c - err for every input of its box. For a_j >= 0 the lower line of y_j
// serves, for a_j < 0 the upper one (relax_neurons.wgsl): slope s, offset t, cost k, bound b of that side, and a'_j = fl(a_j s).
// Partial sums over j:
//   x: sum of a_j t_j (offsets)      z: sum of |a_j| k_j (what the step costs in rounding)      w: sum of a_j b_j: a lower bound of sum a_j y_j
// Here rows have coefficients on all p.terms values of the layer (relax_windows.wgsl has those with a part of them). COMPACT: e runs over the active
//   neurons of the row's box only, out[e] belongs to neuron list[box][e], lines are compact too.
// INPUT: only w is wanted, and nothing is written but FORM: form[slot, neuron] = a_j, the row's linear form on the input.
// Buffers (f32): a [n, p.ld]; COMPACT: out [active, p.ld], otherwise a' replaces a; partial [p.slices, p.ld]; rows as row_table.wgsl;
//   lines [boxes, p.n, 2]: (slope, offset, cost, bound) for a >= 0, then for a < 0; list [boxes, p.ld_list], count [boxes].
// Precision: the terms of a slice + 1 roundings on a partial sum; another dispatch adds them (row_finish.wgsl).
// Overflow: |a_j| >= 2^40, infinity or NaN marks the box in `bad`, and nothing that was made of it is believed.
// Geometry: workgroup (LANES,1,1); an invocation has 16 rows, all of one box (rows are padded to 16 a box) and so of one line a
//   neuron, and a slice of the neurons; x covers rows by 16, y slices by LANES.
// Races: own elements; `bad` by atomicOr.
// Tried on a 2-core software device (resnet_2b, 8 inputs, all rows, with relax_windows): one row an invocation 604 ms, this 333 ms.

struct Params {
    grid: vec4<u32>,
    n: u32, ld: u32, slices: u32, terms: u32,
    c_h: u32, c_w: u32, channels: u32, ld_list: u32,
    image_h: u32, image_w: u32, t_w: u32, t_c: u32,
    c_y: i32, c_x: i32, c_sy: i32, c_sx: i32,
    ld_form: u32, pad0: u32, pad1: u32, pad2: u32,
}
const NONE = 0xffffffffu;
@group(0) @binding(0) var<storage, read_write> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> bad: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> lines: array<vec4<f32>>;
#ifdef COMPACT
@group(0) @binding(5) var<storage, read_write> list: array<u32>;
@group(0) @binding(6) var<storage, read_write> count: array<u32>;
@group(0) @binding(7) var<storage, read_write> out: array<vec4<f32>>;
#endif
#ifdef FORM
@group(0) @binding(5) var<storage, read_write> form: array<f32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

#unroll g 0 4
var<private> x_${g}: vec4<f32>;
var<private> z_${g}: vec4<f32>;
var<private> w_${g}: vec4<f32>;
#endunroll
var<private> largest: vec4<u32>;

fn note(value: vec4<f32>) {
    largest = max(largest, bitcast<vec4<u32>>(value) & vec4<u32>(0x7f800000u));
}

// Coefficients of four rows against the lines of one neuron; their next values.
#unroll g 0 4
fn relax_${g}(value: vec4<f32>, low: vec4<f32>, high: vec4<f32>) -> vec4<f32> {
    note(value);
    let negative = value < vec4<f32>(0.0);
    x_${g} = fma(value, select(vec4<f32>(low.y), vec4<f32>(high.y), negative), x_${g});
    z_${g} = fma(abs(value), select(vec4<f32>(low.z), vec4<f32>(high.z), negative), z_${g});
    w_${g} = fma(value, select(vec4<f32>(low.w), vec4<f32>(high.w), negative), w_${g});
    return value * select(vec4<f32>(low.x), vec4<f32>(high.x), negative);
}
#endunroll

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let first = (group.x + p.grid.x) * 16u;
    let slice = (group.y + p.grid.y) * ${LANES}u + lane.x;
    if (slice >= p.slices) {
        return;
    }
    let box = rows[first].x;
    let ld4 = p.ld / 4u;
    let lines_of_box = box * p.n * 2u;
#unroll g 0 4
    x_${g} = vec4<f32>(0.0);
    z_${g} = vec4<f32>(0.0);
    w_${g} = vec4<f32>(0.0);
#endunroll
    largest = vec4<u32>(0u);
#ifdef COMPACT
    let terms = count[box];
#else
    let terms = p.terms;
#endif
    let share = (terms + p.slices - 1u) / p.slices;
    let end = min(terms, (slice + 1u) * share);
    for (var e = slice * share; e < end; e++) {
#ifdef COMPACT
        let at = list[box * p.ld_list + e] * ld4 + first / 4u;
#else
        let at = e * ld4 + first / 4u;
#endif
        let low = lines[lines_of_box + e * 2u];
        let high = lines[lines_of_box + e * 2u + 1u];
#unroll g 0 4
        let value_${g} = a[at + ${g}u];
        let next_${g} = relax_${g}(value_${g}, low, high);
#ifdef COMPACT
        out[e * ld4 + first / 4u + ${g}u] = next_${g};
#else
#ifndef INPUT
        a[at + ${g}u] = next_${g};
#endif
#endif
#ifdef FORM
#unroll i 0 4
        if (rows[first + ${g}u * 4u + ${i}u].y != NONE) {
            form[rows[first + ${g}u * 4u + ${i}u].y * p.ld_form + e] = value_${g}[${i}];
        }
#endunroll
#endif
#endunroll
    }
    let worst = max(max(largest.x, largest.y), max(largest.z, largest.w));
    if (worst >= 0x53800000u) {
        atomicOr(&bad[box], 1u);
    }
#unroll g 0 4
#unroll i 0 4
    partial[slice * p.ld + first + ${g}u * 4u + ${i}u] = vec4<f32>(x_${g}[${i}], 0.0, z_${g}[${i}], w_${g}[${i}]);
#endunroll
#endunroll
}
