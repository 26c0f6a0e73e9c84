// The ids of each sample's active set, ascending, from its bits.
//
// Buffers (u32): marks [rows, p.words] of samples from p.first on; ids [samples, size], p.ld words a row.
// Lane t of LANES owns a contiguous piece of the words: it counts, the counts are added up before it, and it writes. The same for any LANES.
// Precision: exact. Undefined: nothing; padding is not touched.
// Geometry: workgroup (LANES,1,1), one sample each; x covers samples.
// Races: a barrier between write and read of the counts; an id has a place of its own. Bounds: guarded by words and size.
// Tried: nothing else.

struct Params {
    grid: vec4<u32>,
    first: u32, words: u32, size: u32, ld: u32,
}
@group(0) @binding(0) var<storage, read_write> marks: array<u32>;
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;
var<workgroup> counts: array<u32, ${LANES}>;

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let row = group.x + p.grid.x;
    let piece = (p.words + LANES - 1u) / LANES;
    let first = min(lane.x * piece, p.words);
    let end = min(first + piece, p.words);
    var own = 0u;
    for (var w = first; w < end; w++) {
        own += countOneBits(marks[row * p.words + w]);
    }
    counts[lane.x] = own;
    workgroupBarrier();
    var place = 0u;
    for (var t = 0u; t < lane.x; t++) {
        place += counts[t];
    }
    for (var w = first; w < end; w++) {
        var rest = marks[row * p.words + w];
        while (rest != 0u && place < p.size) {
            ids[(p.first + row) * p.ld + place] = w * 32u + countTrailingZeros(rest);
            rest &= rest - 1u;
            place++;
        }
    }
}
