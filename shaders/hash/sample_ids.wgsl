// The ids of each sample's active set, ascending, from its bits.
//
// Buffers (u32): marks [rows, ...] of samples from p.first on: p.words words with a bit a label, and behind them p.heads words with a bit for
//   each word that may have one; ids [samples, size], p.ld words a row.
// Lane t of LANES owns a contiguous piece of the heads: it counts, the counts are added up before it, and it writes. The same for any LANES.
// Precision: exact. Undefined: nothing; padding is not touched.
// Geometry: workgroup (LANES,1,1), one sample each; x covers samples.
// Races: a barrier between write and read of the counts; an id has a place of its own. Bounds: guarded by words and size.
// Tried: all words in place of those that the heads name: 130 to 160 ms in place of 27 to 60 for 256 sets of 1,000 of 670,091 labels
//   (software device, two loaded cores).

struct Params {
    grid: vec4<u32>,
    first: u32, words: u32, heads: u32, size: u32,
    ld: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> marks: array<u32>;
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;
var<workgroup> counts: array<u32, ${LANES}>;

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let row = group.x + p.grid.x;
    let base = row * (p.words + p.heads);
    let piece = (p.heads + LANES - 1u) / LANES;
    let first = min(lane.x * piece, p.heads);
    let end = min(first + piece, p.heads);
    var own = 0u;
    for (var h = first; h < end; h++) {
        var head = marks[base + p.words + h];
        while (head != 0u) {
            own += countOneBits(marks[base + h * 32u + countTrailingZeros(head)]);
            head &= head - 1u;
        }
    }
    counts[lane.x] = own;
    workgroupBarrier();
    var place = 0u;
    for (var t = 0u; t < lane.x; t++) {
        place += counts[t];
    }
    for (var h = first; h < end; h++) {
        var head = marks[base + p.words + h];
        while (head != 0u) {
            let w = h * 32u + countTrailingZeros(head);
            head &= head - 1u;
            var rest = marks[base + w];
            while (rest != 0u && place < p.size) {
                ids[(p.first + row) * p.ld + place] = w * 32u + countTrailingZeros(rest);
                rest &= rest - 1u;
                place++;
            }
        }
    }
}
