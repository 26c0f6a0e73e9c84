// Settles a digit of the key of the best candidate that finds no room: the bin in which the running count of candidates first exceeds the
// room. Where all have room, says so.
//
// Buffers (u32): bins [2048]: candidates by digit; state [4]: room left among those that agree so far, all, major, minor; statistics [4].
// Level 0 (p.start != 0) takes its room from the set's size and statistics[0], the labels in it.
// Precision: exact. Undefined: nothing.
// Geometry: one workgroup (256,1,1); a lane has eight bins. Bounds: fixed.
// Races: everything is read before the barrier but the lanes' sums; the one lane whose bins hold the digit, or the last if all have room,
//   writes state after it. Tried: nothing else.

struct Params {
    grid: vec4<u32>,
    start: u32, level: u32, shift: u32, size: u32,
}
@group(0) @binding(0) var<storage, read_write> bins: array<u32>;
@group(0) @binding(1) var<storage, read_write> state: array<u32>;
@group(0) @binding(2) var<storage, read_write> statistics: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> sums: array<u32, 256>;

@compute @workgroup_size(256, 1, 1)
fn main(@builtin(local_invocation_id) lane: vec3<u32>) {
    let first = lane.x * 8u;
    var own = 0u;
    for (var i = 0u; i < 8u; i++) {
        own += bins[first + i];
    }
    sums[lane.x] = own;
    var room = state[0];
    let major = state[2];
    let minor = state[3];
    let all = state[1];
    if (p.start != 0u) {
        room = p.size - min(p.size, statistics[0]);
    }
    workgroupBarrier();
    var before = 0u;
    for (var t = 0u; t < lane.x; t++) {
        before += sums[t];
    }
    if (all == 0u && lane.x == 255u && before + own <= room) {
        state[1] = 1u;
    }
    if (all == 0u && before <= room && room < before + own) {
        for (var i = 0u; i < 8u; i++) {
            let count = bins[first + i];
            if (before <= room && room < before + count) {
                state[0] = room - before;
                if (p.level == 0u) {
                    state[2] = first + i;
                } else {
                    state[2] = major;
                    state[3] = minor | ((first + i) << p.shift);
                }
            }
            before += count;
        }
    }
}
