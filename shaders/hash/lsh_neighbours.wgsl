// out[p.first + i, r] = the label that stands r-th among those which share buckets with label p.first + i in at least p.least tables, by
//   descending number of tables (counts from 127 on are equal) and then ascending label; without the label itself; the largest word
//   behind the last.
//
// Buffers (u32): sorted [p.rows, p.quads] vectors: what the buckets of each label gave, in ascending order, the largest words last;
//   out [labels, p.count], rows p.stride_out apart.
// A lane has a row: it counts how many labels occur how often, turns that into where those of each count begin, and places them.
// Precision: exact. Undefined: padding of out is not written.
// Geometry: workgroup (LANES,1,1), a lane a row; x covers rows.
// Bounds: guarded by p.rows and p.count; counts are clamped to the counters. An invocation takes 2 p.quads + 258 + p.count turns, under the 65,535
//   after which loops of a software device end: the host sees to it.
// Races: a lane has its own counters and rows.
// Tried: nothing else; it runs once between rebuilds.

struct Params {
    grid: vec4<u32>,
    rows: u32, first: u32, quads: u32, count: u32,
    stride_out: u32, least: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> sorted: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;
const NONE = 0xffffffffu;
// Counter c of lane t at c LANES + t.
var<workgroup> counters: array<u32, ${COUNTERS}>;

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let row = (group.x + p.grid.x) * LANES + lane.x;
    if (row >= p.rows) {
        return;
    }
    let base = row * p.quads;
    let label = p.first + row;
    let to = label * p.stride_out;
    for (var c = 0u; c < 128u; c++) {
        counters[c * LANES + lane.x] = 0u;
    }
    // In the first pass counters count; then they say where the labels of a count begin; in the second pass they give places away.
    var total = 0u;
    for (var turn = 0u; turn < 2u; turn++) {
        var run = 0u;
        var next = sorted[base];
        for (var q = 1u; q <= p.quads; q++) {
            let v = next;
            next = select(vec4<u32>(NONE), sorted[base + min(q, p.quads - 1u)], q < p.quads);
            let after = vec4<u32>(v.y, v.z, v.w, next.x);
#unroll j 0 4
            run++;
            if (v[${j}] != after[${j}]) {
                if (v[${j}] != label && run >= p.least) {
                    let counter = min(run, 127u) * LANES + lane.x;
                    let place = counters[counter];
                    counters[counter] = place + 1u;
                    if (turn == 1u && place < p.count) {
                        out[to + place] = v[${j}];
                    }
                }
                run = 0u;
            }
#endunroll
        }
        if (turn == 0u) {
            for (var c = 0u; c < 128u; c++) {
                let at = (127u - c) * LANES + lane.x;
                let own = counters[at];
                counters[at] = total;
                total += own;
            }
        }
    }
    for (var r = total; r < p.count; r++) {
        out[to + r] = NONE;
    }
}
