// Sums over the elements of rows, in two forms of one order. 64 partial results take j = t, t + 64, ... in ascending order
// and are combined in a tree (t with t + 32, + 16, ... + 1): the order depends on the row's length alone.
//   ROWWISE  an invocation has a row and all 64 partial results; else 16 invocations share a row, four partial results each.
//
// The importing kernel defines `struct Row` with whatever says where a row lies, `fn elements(row: Row) -> u32`, how many
// elements it has, and `fn term(what: u32, row: Row, q: u32) -> vec4<f32>`, the terms of elements 4 q .. 4 q + 3.

#ifdef ROWWISE
const ROWS = 64u;
const SHARE = 1u;
#else
const ROWS = 4u;
const SHARE = 16u;

var<workgroup> partial: array<vec4<f32>, 64>;
#endif

// Terms of a vector, those behind the row's end as 0; a vector behind the last is not read.
fn clipped(what: u32, row: Row, q: u32) -> vec4<f32> {
    let n = elements(row);
    let inside = vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(n);
    return select(vec4<f32>(0.0), term(what, row, min(q, (n - 1u) / 4u)), inside);
}

// The last two levels of the tree.
fn last_levels(s: vec4<f32>) -> f32 {
    let two = s + s.zwzw;
    return two.x + two.y;
}

// The sum over a row of `term(what, row, ..)`. Without ROWWISE a whole workgroup calls it together.
fn row_sum(what: u32, row: Row, lane: u32) -> f32 {
    let whole = elements(row) / 4u;
    let quads = (elements(row) + 3u) / 4u;
#ifdef ROWWISE
#unroll t 0 16
    var s_${t} = vec4<f32>(0.0);
#endunroll
    let full = whole / 16u * 16u;
    for (var q = 0u; q < full; q += 16u) {
#unroll t 0 16
        s_${t} += term(what, row, q + ${t}u);
#endunroll
    }
#unroll t 0 16
    if (full + ${t}u < quads) {
        s_${t} += clipped(what, row, full + ${t}u);
    }
#endunroll
    let a0 = (s_0 + s_8) + (s_4 + s_12);
    let a1 = (s_1 + s_9) + (s_5 + s_13);
    let a2 = (s_2 + s_10) + (s_6 + s_14);
    let a3 = (s_3 + s_11) + (s_7 + s_15);
    return last_levels((a0 + a2) + (a1 + a3));
#else
    let mine = lane % 16u;
    var s = vec4<f32>(0.0);
    for (var q = mine; q < whole; q += 16u) {
        s += term(what, row, q);
    }
    if (quads > whole && whole % 16u == mine) {
        s += clipped(what, row, whole);
    }
    partial[lane] = s;
#unroll level 0 4
    workgroupBarrier();
    if (mine < (8u >> ${level}u)) {
        partial[lane] += partial[lane + (8u >> ${level}u)];
    }
#endunroll
    workgroupBarrier();
    let total = last_levels(partial[lane - mine]);
    workgroupBarrier();
    return total;
#endif
}
