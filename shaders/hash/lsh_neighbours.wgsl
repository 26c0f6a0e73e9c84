// out[p.first + i, r] = the label that stands r-th among those which share buckets with label p.first + i in at least p.least tables, by
//   descending number of tables and then ascending label 0x9e3779b1 mod 2^24 (so that no labels are preferred among equals); without the
//   label itself; the largest word behind the last.
//
// Buffers (u32): candidates [p.rows, p.n], p.n <= MOST: what the buckets of each label gave, at most 127 times the same; out [labels, p.count],
//   rows p.stride_out apart.
// A workgroup counts the candidates of a label in a table with open addressing; counts its entries by their number of tables, to see down to which
//   number they are taken, and those of that number by their upper bits in the order of ranks, to see up to which they may be; and ranks what
//   is left by comparing each with all.
// Precision: exact. Undefined: padding of out is not written.
// Geometry: workgroup (LANES,1,1), a label each; x covers the rows of a piece. LANES is 64 on GPUs and 8, one vector, on software devices.
// Bounds: there are fewer candidates than SLOTS, so a free slot is found, and at most MOST are chosen. An invocation takes up to (MOST / 8)^2 = 41,616
//   and some thousand turns, under the 65,535 after which loops of a software device end.
// Races: barriers between the steps. Which slot an entry gets depends on who comes first, but nothing that is written does: counts, and
//   ranks, are those of a set. Each rank has one writer.
// Tried, on lavapipe: sorting the candidates of each label by ops::sort and counting runs, 4 to 5 times as long; 64 lanes and always 2,048
//   slots, 1.6 times.

struct Params {
    grid: vec4<u32>,
    rows: u32, first: u32, n: u32, count: u32,
    stride_out: u32, least: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> candidates: array<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

const NONE = 0xffffffffu;
const LANES = ${LANES}u;
const SLOTS = ${SLOTS}u;
const SPREAD = 0x9e3779b1u;
// SPREAD BACK = 1 mod 2^24.
const BACK = 0x8b2f51u;
// A label times 128 and in how many tables it was met.
var<workgroup> slots: array<atomic<u32>, ${SLOTS}>;
var<workgroup> counts: array<atomic<u32>, 128>;
var<workgroup> bins: array<atomic<u32>, 128>;
// 127 less the number of tables, and the label times SPREAD behind it: in the order of ranks.
var<workgroup> chosen: array<u32, ${MOST}>;
var<workgroup> filled: atomic<u32>;

// Where the label of a slot stands among those of one number of tables.
fn order(met: u32) -> u32 {
    return ((met / 128u) * SPREAD) & 0xffffffu;
}

fn meet(id: u32) {
    var at = (id * SPREAD) >> ${SHIFT}u;
    var open = true;
    while (open) {
        let old = atomicCompareExchangeWeak(&slots[at], NONE, id * 128u + 1u);
        if (old.exchanged) {
            open = false;
        } else if (old.old_value / 128u == id) {
            atomicAdd(&slots[at], 1u);
            open = false;
        } else if (old.old_value != NONE) {
            at = (at + 1u) % SLOTS;
        }
    }
}

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let lane = local.x;
    let row = group.x + p.grid.x;
    let label = p.first + row;
    for (var i = lane; i < SLOTS; i += LANES) {
        atomicStore(&slots[i], NONE);
    }
    for (var c = lane; c < 128u; c += LANES) {
        atomicStore(&counts[c], 0u);
        atomicStore(&bins[c], 0u);
    }
    if (lane == 0u) {
        atomicStore(&filled, 0u);
    }
    workgroupBarrier();
    for (var i = lane; i < p.n; i += LANES) {
        let id = candidates[row * p.n + i];
        if (id != NONE && id != label) {
            meet(id);
        }
    }
    workgroupBarrier();
    for (var i = lane; i < SLOTS; i += LANES) {
        let met = atomicLoad(&slots[i]);
        if (met != NONE && met % 128u >= p.least) {
            atomicAdd(&counts[met % 128u], 1u);
        }
    }
    workgroupBarrier();
    // Labels that were met in more than `lowest` tables are fewer than wanted.
    var lowest = 128u;
    var above = 0u;
    var taken = 0u;
    for (var c = 127u; c > 0u; c--) {
        if (taken < p.count) {
            lowest = c;
            above = taken;
            taken += atomicLoad(&counts[c]);
        }
    }
    for (var i = lane; i < SLOTS; i += LANES) {
        let met = atomicLoad(&slots[i]);
        if (met != NONE && met % 128u == lowest) {
            atomicAdd(&bins[order(met) >> 17u], 1u);
        }
    }
    workgroupBarrier();
    var last = 0u;
    var within = 0u;
    for (var b = 0u; b < 128u; b++) {
        if (above + within < p.count) {
            last = b;
            within += atomicLoad(&bins[b]);
        }
    }
    for (var i = lane; i < SLOTS; i += LANES) {
        let met = atomicLoad(&slots[i]);
        let c = met % 128u;
        let wanted = c > lowest || (c == lowest && (order(met) >> 17u) <= last);
        if (met != NONE && c >= p.least && wanted) {
            chosen[atomicAdd(&filled, 1u)] = ((127u - c) << 24u) | order(met);
        }
    }
    workgroupBarrier();
    let found = atomicLoad(&filled);
    for (var e = lane; e < found; e += LANES) {
        let own = chosen[e];
        var rank = 0u;
        for (var i = 0u; i < found; i += 8u) {
#unroll j 0 8
            rank += select(0u, 1u, chosen[i + ${j}u] < own && i + ${j}u < found);
#endunroll
        }
        if (rank < p.count) {
            out[label * p.stride_out + rank] = ((own & 0xffffffu) * BACK) & 0xffffffu;
        }
    }
    for (var r = found + lane; r < p.count; r += LANES) {
        out[label * p.stride_out + r] = NONE;
    }
}
