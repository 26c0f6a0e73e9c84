// One step of back-substitution through the lines of a layer, for every row of a walk: coefficients on the layer's outputs y become
// coefficients on its z = W x (the bias goes into the constant), and partial sums say what that did to the constant.
//
// A row is a sound lower bound: quantity >= sum_j a_j y_j + c - err for every input of its box. For a_j >= 0 the lower line of y_j
// serves, for a_j < 0 the upper one (relax_neurons.wgsl): slope s, offset t, cost k, bound b of that side, and a'_j = fl(a_j s).
// Partial sums over j:
//   x: sum of a_j t_j (offsets)      z: sum of |a_j| k_j (what the step costs in rounding)      w: sum of a_j b_j: a lower bound of sum a_j y_j
// The windows [p.c_h, p.c_w, p.channels] of a row's coefficients stand at (p.c_y + p.c_sy t_y, p.c_x + p.c_sx t_x) of the image
//   [p.image_h, p.image_w, p.channels], t = the place of the element that the row bounds (rows[r].w) in [.., p.t_w, p.t_c]. What lies
//   beyond the image becomes 0.
// WHOLE: the window is the image, so that element e is neuron e (p.terms of them); COMPACT (with WHOLE): e runs over the active neurons of
//   the row's box only, out[e] belongs to neuron list[box][e], lines are compact too.
// INPUT: only w is wanted, and nothing is written but FORM: form[slot, neuron] = a_j, the row's linear form on the input.
// Buffers (f32): a [window, p.ld]; COMPACT: out [active, p.ld], otherwise a' replaces a; partial [p.slices, p.ld]; rows as row_table.wgsl;
//   lines [boxes, p.n, 2]: (slope, offset, cost, bound) for a >= 0, then for a < 0; list [boxes, p.ld_list], count [boxes].
// Precision: ceil(terms / slices) + 1 roundings on a partial sum; another dispatch adds them (row_finish.wgsl).
// Overflow: |a_j| >= 2^40, infinity or NaN marks the box in `bad`; a_j counts as 0.
// Geometry: workgroup (ROWS,1,1), one row each, all of one box (rows are padded to ROWS a box); x covers rows, y slices of the window.
// Races: own elements; `bad` by atomicOr.
#import "lib/float"

struct Params {
    grid: vec4<u32>,
    n: u32, ld: u32, slices: u32, terms: u32,
    c_h: u32, c_w: u32, channels: u32, ld_list: u32,
    image_h: u32, image_w: u32, t_w: u32, t_c: u32,
    c_y: i32, c_x: i32, c_sy: i32, c_sx: i32,
    ld_form: u32, pad0: u32, pad1: u32, pad2: u32,
}
const NONE = 0xffffffffu;
@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> bad: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> lines: array<vec4<f32>>;
#ifdef COMPACT
@group(0) @binding(5) var<storage, read_write> list: array<u32>;
@group(0) @binding(6) var<storage, read_write> count: array<u32>;
@group(0) @binding(7) var<storage, read_write> out: array<f32>;
#endif
#ifdef FORM
@group(0) @binding(5) var<storage, read_write> form: array<f32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

var<private> sums: vec4<f32>;

// The coefficient at `at` against neuron `line` of the row's box; its next value.
fn relax(at: u32, box: u32, line: u32) -> f32 {
    var value = a[at];
    if (is_huge(value)) {
        atomicOr(&bad[box], 1u);
        value = 0.0;
    }
    let side = lines[(box * p.n + line) * 2u + select(0u, 1u, value < 0.0)];
    sums.x = fma(value, side.y, sums.x);
    sums.z = fma(abs(value), side.z, sums.z);
    sums.w = fma(value, side.w, sums.w);
    return value * side.x;
}

@compute @workgroup_size(${ROWS}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let first = (group.x + p.grid.x) * ${ROWS}u;
    let slice = group.y + p.grid.y;
    let box = rows[first].x;
    let r = first + lane.x;
    let row = rows[r];
    if (row.y == NONE) {
        return;
    }
    sums = vec4<f32>(0.0);
#ifdef WHOLE
#ifdef COMPACT
    let terms = count[box];
#else
    let terms = p.terms;
#endif
    let share = (terms + p.slices - 1u) / p.slices;
    for (var e = slice * share; e < min(terms, (slice + 1u) * share); e++) {
#ifdef COMPACT
        out[e * p.ld + r] = relax(list[box * p.ld_list + e] * p.ld + r, box, e);
#else
#ifdef FORM
        form[row.y * p.ld_form + e] = a[e * p.ld + r];
#endif
        let next = relax(e * p.ld + r, box, e);
#ifndef INPUT
        a[e * p.ld + r] = next;
#endif
#endif
    }
#else
    let places = p.c_h * p.c_w;
    let share = (places + p.slices - 1u) / p.slices;
    let top = p.c_y + p.c_sy * i32(row.w / p.t_c / p.t_w);
    let left = p.c_x + p.c_sx * i32(row.w / p.t_c % p.t_w);
    for (var place = slice * share; place < min(places, (slice + 1u) * share); place++) {
        let y = top + i32(place / p.c_w);
        let x = left + i32(place % p.c_w);
        let inside = y >= 0 && y < i32(p.image_h) && x >= 0 && x < i32(p.image_w);
        let neuron = (u32(max(y, 0)) * p.image_w + u32(max(x, 0))) * p.channels;
        for (var q = 0u; q < p.channels; q++) {
            let at = (place * p.channels + q) * p.ld + r;
            var next = 0.0;
            if (inside) {
                next = relax(at, box, neuron + q);
            }
#ifndef INPUT
            a[at] = next;
#endif
        }
    }
#endif
    partial[slice * p.ld + r] = sums;
}
