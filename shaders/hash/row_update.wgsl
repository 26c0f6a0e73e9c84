// For every listed row: g = sum over its entries e, ascending, of c(e) X[source(e), :], and one step of an optimiser with it; or (SUM)
//   the sums alone, out[i, :] = g. What an entry is:
//   PAIRS    pair = order[e]: c = coefficient[pair], source = pair / p.per_sample
//   SAMPLES  entry[e] = (source, bits of c)
//   PANEL    row i of the list has the one entry X[i, :] with c = 1
// No gradient table, no atomics, one write a row: notes 0.5 and 4.3. The formulas stand in lib/row_step.
//
// Buffers: list (lib/row_list: touched rows, or IDS with PANEL); order [pairs] and coefficient [pairs], or entry [entries, 2]; x
//   [sources, columns] f32 by vectors, p.stride_x vectors a row; then either the window's rows of the tables w [rows, columns] f32 or bf16
//   (BF16), m, v [rows, columns] f32 as the formula needs them, and book [rows, 4] (stamp, last touched, times touched, -); or out
//   [capacity, columns] f32, p.stride_out vectors a row.
// Precision: n entries are n fma in a chain, error at most gamma_n sum |c| |x| (u = 2^-23); the step adds a few roundings, the quotient
//   2.5 ulp, sqrt as 1 / inverseSqrt. The order is that of the entries: the same sums for any window, list capacity or device mode.
// Undefined: rows listed twice; entries that name sources which x does not have (the caller's lists never do).
// Geometry: workgroup (64,1,1), an invocation has the vectors q, q + p.share, .. of a row, VECTORS of them; the p.share invocations of a row are
//   neighbours, so x is read in whole lines and the entries by broadcast. Grid by the list's capacity; what lies behind its
//   count returns at once, as do rows of other windows.
// Races: an invocation owns its columns of its row; the one of column 0 writes the row's line of the book.
// Bounds: rows by p.rows, columns by construction. A row has at most 200,000 entries (the host refuses more sources): loops stay below 65,535.
// Tried (lavapipe, 2 cores, columns 132, one vector an invocation): one entry at a time instead of four loads ahead, 120 against 110 ms of
//   processor for 25,918 rows from 256,000 pairs: no difference there; kept for devices that wait for loads. A row with an entry of every sample (the bias) is one chain
//   of B fma, the longest of the dispatch: 2,400 rows of 2 entries with one of 256 among them take what they take without it. It is not
//   cut: its sum would need memory of its own or barriers.

#import "lib/row_list"

struct Params {
    grid: vec4<u32>,
    first: u32, rows: u32, quads: u32, stride_w: u32,
    capacity: u32, across: u32, stride_x: u32, stride_out: u32,
    per_sample: u32, step: u32, table: u32, pad: u32,
    key_low: u32, key_high: u32, rate: f32, root: f32,
    keep1: f32, add1: f32, keep2: f32, add2: f32,
    epsilon: f32, share: u32, pad1: u32, pad2: u32,
}
@group(1) @binding(0) var<uniform> p: Params;

#ifdef PAIRS
@group(0) @binding(1) var<storage, read_write> order: array<u32>;
@group(0) @binding(2) var<storage, read_write> coefficient: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<vec4<f32>>;

struct Entry {
    c: f32,
    source: u32,
}

fn entry_at(e: u32) -> Entry {
    let pair = order[e];
    return Entry(coefficient[pair], quotient(pair, p.per_sample));
}
#endif
#ifdef SAMPLES
@group(0) @binding(1) var<storage, read_write> entry: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>;

struct Entry {
    c: f32,
    source: u32,
}

fn entry_at(e: u32) -> Entry {
    let both = entry[e];
    return Entry(bitcast<f32>(both.y), both.x);
}
#endif

#ifdef PANEL
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;
#endif

#ifdef SUM
@group(0) @binding(${OUT}) var<storage, read_write> out: array<vec4<f32>>;
#else
#import "lib/row_step"
@group(0) @binding(${BOOK}) var<storage, read_write> book: array<vec4<u32>>;
#endif

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let place = divided(place_of(group, lane.x), p.share);
    let i = place.x;
    let row = listed(i);
    // Also true for NO_ROW and for rows before the window.
    if (row - p.first >= p.rows) {
        return;
    }
#unroll v 0 ${VECTORS}
    // Behind the row's end, the invocation's first vector once more, which is not written.
    let q_${v} = place.y + ${v}u * p.share;
    let c_${v} = select(place.y, q_${v}, q_${v} < p.quads);
#ifdef PANEL
    let sum_${v} = x[i * p.stride_x + c_${v}];
#else
    var sum_${v} = vec4<f32>(0.0);
#endif
#endunroll
#ifndef PANEL
    let end = list[i + 2u].y;
    var e = list[i + 1u].y;
    for (; e + 4u <= end; e += 4u) {
#unroll k 0 4
        let entry${k} = entry_at(e + ${k}u);
#unroll v 0 ${VECTORS}
        let x${k}_${v} = x[entry${k}.source * p.stride_x + c_${v}];
#endunroll
#endunroll
#unroll k 0 4
#unroll v 0 ${VECTORS}
        sum_${v} = fma(vec4<f32>(entry${k}.c), x${k}_${v}, sum_${v});
#endunroll
#endunroll
    }
    for (; e < end; e++) {
        let one = entry_at(e);
#unroll v 0 ${VECTORS}
        sum_${v} = fma(vec4<f32>(one.c), x[one.source * p.stride_x + c_${v}], sum_${v});
#endunroll
    }
#endif
#unroll v 0 ${VECTORS}
    if (q_${v} < p.quads) {
#ifdef SUM
        out[i * p.stride_out + q_${v}] = sum_${v};
#else
        row_store(row - p.first, q_${v}, row_step(row_load(row - p.first, q_${v}), sum_${v}, p.rate, p.root));
#endif
    }
#endunroll
#ifndef SUM
    if (place.y == 0u) {
        let line = book[row - p.first];
        book[row - p.first] = vec4<u32>(p.step, p.step, line.z + 1u, line.w);
    }
#endif
}
