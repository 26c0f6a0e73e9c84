// Rows that are behind replay the steps of Adam that they missed, with gradients of +0: stamp + 1 ..= p.through, by the function that steps
//   them otherwise (lib/row_step), so that they are what row_dense would have made of them, bit for bit. With STAMP, a dispatch behind the
//   other: the rows are then marked as having seen step p.through.
// No closed form exists: m and v are products that were rounded at each step, and epsilon stands in the quotient's denominator. But the
//   steps become cheap: once no later step of the gap can change w, only m and v are multiplied (row_state), and once those stay, nothing.
//
// When w is settled. Let this be after step k, with R steps to go. |m| never grows, for keep1 < 1 and rounding is monotone. v loses at most a
//   factor of keep2 and a rounding a step, so it stays above low = v reach.decay, where decay <= (keep2 (1 - 2^-23))^R, as long as low is a
//   normal number; where it is below 2^-120, low counts as 0 (flushed or coarse subnormals). root falls with t, so the last one is the
//   least. Hence every later quotient is at most bound = |m| / (root_last sqrt(low) + epsilon) (1 + 2^-10) + 2^-120: the quotient's 2.5 ulp, sqrt
//   (4.5 ulp) and two roundings, on either side of the comparison, are together below 2^-19, and what a subnormal quotient may be off
//   is below 2^-140. Rates are at most peak, the largest of the R steps to come, so schedules may rise. The test is then the step itself:
//   fma(-peak, bound, w) and fma(peak, bound, w) both have the bits of w. As rounding is monotone, so has fma(-rate, u, w) for every
//   |rate u| <= peak bound, in whatever direction this device rounds: a move is lost exactly when it is under half an ulp (of the smaller
//   side, where w is a power of two). w = +-0 or subnormal is settled by no bound above 0, as fma then has other bits; it is if
//   m is +0 (by bits), which gives quotients of +0 for good. All elements of an invocation settle together.
// m and v stay for good once a step, or several, leave all their bits: they only ever shrink. Zeros do so at once; other numbers end as
//   zeros or as small subnormals that round to themselves.
//
// Buffers: list (lib/row_list); ring [2 * HORIZON, 4] f32: rate and root of step t, and of t + 1, at t mod 2 HORIZON (not with STAMP);
//   w, m, v [rows, columns] f32, the rows of a window; book [rows, 4] u32, of which the stamp is read, or written with STAMP.
// Precision: that of the steps themselves. Undefined: NaN and infinity stay in their row; rows listed twice; rows that are more than
//   HORIZON steps behind replay HORIZON of them only (the host keeps count and refuses).
// Geometry: workgroup (64,1,1), an invocation has the vectors q, q + p.share, .. of a row, VECTORS of them; with STAMP one a row.
//   Groups in a plane p.across wide.
// Races: an invocation owns its columns; nobody writes the book that others read: stamps have a dispatch of their own.
// Bounds: rows by p.rows, ring by its mask. Loops: HORIZON / 8 iterations and a few, far below 65,535.
// Tried (lavapipe, where a load is made lane by lane and costs more than a step): several vectors share the loads of their row's steps, two
//   steps one load, and the last eight none. Inner loops of up to eight steps instead of eight in a row: 2 to 5 times the time. The test has a root and a quotient, as a
//   step has, so it is made every eighth.

#import "lib/row_list"

struct Params {
    grid: vec4<u32>,
    first: u32, rows: u32, quads: u32, stride_w: u32,
    capacity: u32, across: u32, through: u32, zero: f32,
    keep1: f32, add1: f32, keep2: f32, add2: f32,
    epsilon: f32, root_last: f32, share: u32, pad1: u32,
    reach: array<vec4<f32>, 7>,
    recent: array<vec4<f32>, 4>,
}
@group(1) @binding(0) var<uniform> p: Params;
@group(0) @binding(${BOOK}) var<storage, read_write> book: array<vec4<u32>>;

#ifdef STAMP
@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let row = listed(place_of(group, lane.x));
    if (row - p.first < p.rows) {
        let own = row - p.first;
        book[own].x = max(book[own].x, p.through);
    }
}
#else
@group(0) @binding(${RING}) var<storage, read_write> ring: array<vec4<f32>>;

#import "lib/row_step"

const HORIZON = ${HORIZON}u;

// The largest rate of the last `left` steps through p.through, and by what factor v may fall in as many: for the next power of two.
fn reach(left: u32) -> vec2<f32> {
    let j = firstLeadingBit(left - 1u) + 1u;
    let two = p.reach[j / 2u];
    return select(two.xy, two.zw, (j & 1u) == 1u);
}

// Whether none of the `left` steps to come can change w.
fn settled(cells: Cells, left: u32) -> bool {
    let ahead = reach(left);
    let faded = ahead.y * cells.v;
    let low = select(vec4<f32>(0.0), faded, faded >= vec4<f32>(7.52316385e-37));
    let quotient_now = abs(cells.m) / fma(vec4<f32>(p.root_last), sqrt(low), vec4<f32>(p.epsilon));
    let most = fma(quotient_now, vec4<f32>(1.0009765625), vec4<f32>(7.52316385e-37));
    let bound = select(most, vec4<f32>(p.zero), bitcast<vec4<u32>>(cells.m) == vec4<u32>(0u));
    let bits = bitcast<vec4<u32>>(cells.w);
    let down = bitcast<vec4<u32>>(fma(vec4<f32>(-ahead.x), bound, cells.w));
    let up = bitcast<vec4<u32>>(fma(vec4<f32>(ahead.x), bound, cells.w));
    return all((down == bits) & (up == bits));
}

fn same_state(a: Cells, b: Cells) -> bool {
    let m = bitcast<vec4<u32>>(a.m) == bitcast<vec4<u32>>(b.m);
    let v = bitcast<vec4<u32>>(a.v) == bitcast<vec4<u32>>(b.v);
    return all(m & v);
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let place = divided(place_of(group, lane.x), p.share);
    let row = listed(place.x);
    if (row - p.first >= p.rows) {
        return;
    }
    let own = row - p.first;
    var t = book[own].x;
    if (t >= p.through) {
        return;
    }
    var left = min(p.through - t, HORIZON);
    let nothing = vec4<f32>(p.zero);
#unroll v 0 ${VECTORS}
    // Behind the row's end, the invocation's first vector once more, which is not written.
    let q_${v} = place.y + ${v}u * p.share;
    var cells_${v} = row_load(own, select(place.y, q_${v}, q_${v} < p.quads));
#endunroll
    var moving = true;
    while (left >= 16u && moving) {
#unroll j 0 4
        let c${j} = ring[(t + 1u + 2u * ${j}u) & (2u * HORIZON - 1u)];
#unroll v 0 ${VECTORS}
        cells_${v} = row_step(cells_${v}, nothing, c${j}.x, c${j}.y);
        cells_${v} = row_step(cells_${v}, nothing, c${j}.z, c${j}.w);
#endunroll
#endunroll
        t += 8u;
        left -= 8u;
        moving = false;
#unroll v 0 ${VECTORS}
        moving = moving || !settled(cells_${v}, left);
#endunroll
    }
    while (left > 8u && moving) {
        let c = ring[(t + 1u) & (2u * HORIZON - 1u)];
#unroll v 0 ${VECTORS}
        cells_${v} = row_step(cells_${v}, nothing, c.x, c.y);
        if (left > 9u) {
            cells_${v} = row_step(cells_${v}, nothing, c.z, c.w);
        }
#endunroll
        t += 2u;
        left = max(left - 2u, 8u);
    }
    // The last eight are the same for all rows, and parameters. Loops of one round: nobody goes through what nobody needs.
    while (left > 4u && moving) {
#unroll j 0 2
        if (left >= 8u - 2u * ${j}u) {
#unroll v 0 ${VECTORS}
            cells_${v} = row_step(cells_${v}, nothing, p.recent[${j}].x, p.recent[${j}].y);
#endunroll
        }
        if (left >= 7u - 2u * ${j}u) {
#unroll v 0 ${VECTORS}
            cells_${v} = row_step(cells_${v}, nothing, p.recent[${j}].z, p.recent[${j}].w);
#endunroll
        }
#endunroll
        left = 4u;
    }
    while (left > 0u && moving) {
#unroll j 2 4
        if (left >= 8u - 2u * ${j}u) {
#unroll v 0 ${VECTORS}
            cells_${v} = row_step(cells_${v}, nothing, p.recent[${j}].x, p.recent[${j}].y);
#endunroll
        }
        if (left >= 7u - 2u * ${j}u) {
#unroll v 0 ${VECTORS}
            cells_${v} = row_step(cells_${v}, nothing, p.recent[${j}].z, p.recent[${j}].w);
#endunroll
        }
#endunroll
        left = 0u;
    }
    // Where w is settled, the others.
    var changing = true;
    while (left >= 8u && changing) {
        changing = false;
#unroll v 0 ${VECTORS}
        let before_${v} = cells_${v};
#unroll j 0 8
        cells_${v} = row_state(cells_${v}, nothing);
#endunroll
        changing = changing || !same_state(before_${v}, cells_${v});
#endunroll
        left -= 8u;
    }
    while (left > 0u && changing) {
#unroll v 0 ${VECTORS}
        cells_${v} = row_state(cells_${v}, nothing);
#endunroll
        left--;
    }
#unroll v 0 ${VECTORS}
    if (q_${v} < p.quads) {
        row_store(own, q_${v}, cells_${v});
    }
#endunroll
}
#endif
