// One step of an optimiser on four cells of a row: the only place where its formulas stand, for every kernel that steps rows.
//   ADAM     m = keep1 m + add1 g;  v = keep2 v + add2 g^2;  w = w - rate m / (root sqrt(v) + epsilon)
//   ADAGRAD  v = v + g^2;                                    w = w - rate g / (sqrt(v) + epsilon)
//   SGD                                                      w = w - rate g
// with rate = lr / (1 - beta1^t) and root = 1 / sqrt(1 - beta2^t) for ADAM; torch's forms.
//
// Every sum of a product is an explicit fma, so there is nothing left for a compiler to fuse in one kernel and not in another; a kernel
// that steps with a zero gradient takes the zero from memory, so that no addition of it is folded away (it turns -0 into +0).
// The importing kernel has the parameters keep1, add1, keep2, add2, epsilon, quads, stride_w and, where weights are BF16, step, table,
// key_low and key_high; it defines the bindings W and, as the formula needs them, M and V. Its rows are those of one window of the table.

#ifdef BF16
#import "lib/bf16"
#import "lib/philox"
@group(0) @binding(${W}) var<storage, read_write> table_w: array<vec2<u32>>;
#else
@group(0) @binding(${W}) var<storage, read_write> table_w: array<vec4<f32>>;
#endif
#ifdef M
@group(0) @binding(${M}) var<storage, read_write> table_m: array<vec4<f32>>;
#endif
#ifdef V
@group(0) @binding(${V}) var<storage, read_write> table_v: array<vec4<f32>>;
#endif

struct Cells {
    w: vec4<f32>,
    m: vec4<f32>,
    v: vec4<f32>,
}

// The part of a step that does not move w.
fn row_state(old: Cells, g: vec4<f32>) -> Cells {
    var next = old;
#ifdef ADAM
    next.m = fma(vec4<f32>(p.keep1), old.m, p.add1 * g);
    next.v = fma(vec4<f32>(p.keep2), old.v, p.add2 * (g * g));
#endif
#ifdef ADAGRAD
    next.v = fma(g, g, old.v);
#endif
    return next;
}

fn row_step(old: Cells, g: vec4<f32>, rate: f32, root: f32) -> Cells {
    var next = row_state(old, g);
#ifdef ADAM
    let direction = next.m / fma(vec4<f32>(root), sqrt(next.v), vec4<f32>(p.epsilon));
#endif
#ifdef ADAGRAD
    let direction = g / (sqrt(next.v) + vec4<f32>(p.epsilon));
#endif
#ifdef SGD
    let direction = g;
#endif
    next.w = fma(vec4<f32>(-rate), direction, old.w);
    return next;
}

// Cells 4 q .. 4 q + 3 of a row of the window.
fn row_load(row: u32, q: u32) -> Cells {
    var cells: Cells;
#ifdef BF16
    cells.w = bf16_unpack(table_w[row * p.stride_w + q]);
#else
    cells.w = table_w[row * p.stride_w + q];
#endif
#ifdef M
    cells.m = table_m[row * p.quads + q];
#endif
#ifdef V
    cells.v = table_v[row * p.quads + q];
#endif
    return cells;
}

fn row_store(row: u32, q: u32, cells: Cells) {
#ifdef BF16
    // Keyed by the row's number in the whole table and by the step, so windows and lists do not matter.
    let random = philox(vec4<u32>((p.table << 24u) | q, p.first + row, p.step, ${ROUNDING}u), vec2<u32>(p.key_low, p.key_high));
    table_w[row * p.stride_w + q] = bf16_round(cells.w, random.xy);
#else
    table_w[row * p.stride_w + q] = cells.w;
#endif
#ifdef M
    table_m[row * p.quads + q] = cells.m;
#endif
#ifdef V
    table_v[row * p.quads + q] = cells.v;
#endif
}
