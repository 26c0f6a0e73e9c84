// The active set of each sample: its labels, then candidates, then labels in a random order of its own, until it has p.size.
//   CANDIDATES  in the order of the visit: groups (tables) in a random order of the sample, entries of a group in a random order too
//   LEAST       ... of those that were returned p.least times or more
//   MOST        those returned most often (more than 254 times count alike); of the last count that finds room, in the order of the visit
//
// Buffers (u32): offsets [samples + 1] into labels; marks [rows, p.stride]: of samples from p.first on, zeros before: p.words words with a bit
//   a label, and behind them a bit for each of those words that is not 0; statistics [4]: labels, candidates and fill are added;
//   candidates [samples, groups * width], p.ld words a row; table [rows, mask + 1] pairs (id + 1, times returned) as sample_count makes it.
// A round takes LANES * SHARE ids together; of equal ones it does not matter which is taken. Only in the round in which room ends does
//   order matter: it is undone and done again one by one.
// Precision: exact. Undefined: nothing; ids from p.all on are left out.
// Geometry: workgroup (LANES,1,1), one sample each; x covers samples. LANES x SHARE is 8 x 8 on software devices, 128 x 2 on GPUs.
//   The set is the same.
// Races: rounds are separated by barriers, memory shared in them is atomic or written by lane 0 alone; samples have words of their own.
// Bounds: guarded by sizes; at most p.size places of the random order are needed, so every loop ends.
// Tried: rounds of one id a lane: 94 to 104 ms in place of 45 to 75 for 256 sets of 1,000 (software device, two loaded cores).
//   Not tried: a hash set a sample, whose ids would have to be sorted.

#import "lib/permute"

struct Params {
    grid: vec4<u32>,
    first: u32, size: u32, all: u32, bits: u32,
    words: u32, ld: u32, groups: u32, width: u32,
    group_bits: u32, width_bits: u32, mask: u32, least: u32,
    fill_k: vec4<u32>, fill_l: vec4<u32>,
    group_k: vec4<u32>, group_l: vec4<u32>,
    width_k: vec4<u32>, width_l: vec4<u32>,
}
@group(0) @binding(0) var<storage, read_write> offsets: array<u32>;
@group(0) @binding(1) var<storage, read_write> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> marks: array<atomic<u32>>;
@group(0) @binding(3) var<storage, read_write> statistics: array<atomic<u32>>;
#ifdef CANDIDATES
@group(0) @binding(4) var<storage, read_write> candidates: array<u32>;
#endif
#ifdef COUNTED
@group(0) @binding(5) var<storage, read_write> table: array<vec2<u32>>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;
const SHARE = ${SHARE}u;
const ROUND = LANES * SHARE;
const NONE = 0xffffffffu;
const OPEN = 0u;
const FULL = 1u;
const OVER = 2u;
const BINS = 256u;

var<workgroup> held: atomic<u32>;
var<workgroup> status: u32;
// Ids of a round: entry t * LANES + lane is the lane's own until a barrier.
var<workgroup> together: array<u32, ${ROUND}>;
#ifdef MOST
var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> settled: u32;
#endif
// What the set holds after the last round; lane 0 knows.
var<private> before: u32;

// Marks a label; whether it was not.
fn mark(base: u32, id: u32) -> bool {
    let word = id / 32u;
    let bit = 1u << (id % 32u);
    if ((atomicOr(&marks[base + word], bit) & bit) != 0u) {
        return false;
    }
    atomicOr(&marks[base + p.words + word / 32u], 1u << (word % 32u));
    return true;
}

// Puts the ids of a round into the set at word base on, in their order as long as there is room. Whether there is still.
fn add(base: u32, lane: u32) -> bool {
    var fresh = 0u;
    for (var t = 0u; t < SHARE; t++) {
        let id = together[t * LANES + lane];
        if (id < p.all && mark(base, id)) {
            fresh |= 1u << t;
        }
    }
    if (fresh != 0u) {
        atomicAdd(&held, countOneBits(fresh));
    }
    workgroupBarrier();
    if (lane == 0u) {
        let now = atomicLoad(&held);
        status = select(select(OPEN, FULL, now == p.size), OVER, now > p.size);
        before = select(now, before, now > p.size);
    }
    let after = workgroupUniformLoad(&status);
    if (after == OVER) {
        for (var t = 0u; t < SHARE; t++) {
            if ((fresh & (1u << t)) != 0u) {
                let id = together[t * LANES + lane];
                atomicAnd(&marks[base + id / 32u], ~(1u << (id % 32u)));
            }
        }
        storageBarrier();
        workgroupBarrier();
        if (lane == 0u) {
            for (var t = 0u; t < ROUND && before < p.size; t++) {
                if (together[t] < p.all && mark(base, together[t])) {
                    before++;
                }
            }
            status = FULL;
        }
        workgroupBarrier();
    }
    return after == OPEN;
}

#ifdef CANDIDATES
// The candidate at place e of the sample's visit.
fn visited(sample: u32, salt: u32, e: u32) -> u32 {
    if (e >= p.groups * p.width) {
        return NONE;
    }
    let g = shuffled(e / p.width, p.groups, p.group_bits, p.group_k ^ vec4<u32>(salt), p.group_l ^ vec4<u32>(salt));
    let own = vec4<u32>(stir(salt ^ g));
    let c = shuffled(e % p.width, p.width, p.width_bits, p.width_k ^ own, p.width_l ^ own);
    return candidates[sample * p.ld + g * p.width + c];
}
#endif
#ifdef COUNTED
// How often a label was returned.
fn returned(base: u32, id: u32) -> u32 {
    var slot = stir(id) & p.mask;
    while (table[base + slot].x != 0u && table[base + slot].x != id + 1u) {
        slot = (slot + 1u) & p.mask;
    }
    return table[base + slot].y;
}
#endif

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let row = group.x + p.grid.x;
    let sample = p.first + row;
    let base = row * (p.words + (p.words + 31u) / 32u);
    let salt = stir(sample ^ 0x9e3779b9u);
    before = 0u;
    if (lane.x == 0u) {
        atomicStore(&held, 0u);
        status = OPEN;
    }
    let end = offsets[sample + 1u];
    let start = min(offsets[sample], end);
    workgroupBarrier();
    var open = true;
    // As many as a set can use; where a sample has fewer, its rounds are empty.
    let own_rounds = (end - start + ROUND - 1u) / ROUND;
    for (var r = 0u; open && r < (p.size + ROUND - 1u) / ROUND; r++) {
        if (lane.x == 0u) {
            status = select(OPEN, FULL, r >= own_rounds);
        }
        if (workgroupUniformLoad(&status) != OPEN) {
            break;
        }
        for (var t = 0u; t < SHARE; t++) {
            let i = start + r * ROUND + t * LANES + lane.x;
            var id = NONE;
            if (i < end) {
                id = labels[i];
            }
            together[t * LANES + lane.x] = id;
        }
        open = add(base, lane.x);
    }
    let of_labels = before;
    if (lane.x == 0u) {
        status = select(OPEN, FULL, before == p.size);
    }
#ifdef MOST
    for (var b = lane.x; b < BINS; b += LANES) {
        atomicStore(&bins[b], 0u);
    }
    storageBarrier();
    workgroupBarrier();
    let slots = row * (p.mask + 1u);
    for (var j = lane.x; j <= p.mask; j += LANES) {
        let entry = table[slots + j];
        let id = max(entry.x, 1u) - 1u;
        if (entry.x != 0u && (atomicLoad(&marks[base + id / 32u]) & (1u << (id % 32u))) == 0u) {
            atomicAdd(&bins[min(entry.y, BINS - 1u)], 1u);
        }
    }
    workgroupBarrier();
    if (lane.x == 0u) {
        var room = p.size - before;
        var count = BINS;
        // All that were returned `count` times or more have room.
        while (count > 1u && atomicLoad(&bins[count - 1u]) <= room) {
            count--;
            room -= atomicLoad(&bins[count]);
        }
        settled = count - 1u;
    }
    let last = workgroupUniformLoad(&settled);
    for (var j = lane.x; j <= p.mask; j += LANES) {
        let entry = table[slots + j];
        if (entry.x != 0u && min(entry.y, BINS - 1u) > last && mark(base, entry.x - 1u)) {
            atomicAdd(&held, 1u);
        }
    }
    workgroupBarrier();
    if (lane.x == 0u) {
        before = atomicLoad(&held);
        status = select(OPEN, FULL, before == p.size);
    }
#endif
    open = workgroupUniformLoad(&status) == OPEN;
#ifdef CANDIDATES
    for (var e = 0u; open && e < p.groups * p.width; e += ROUND) {
        for (var t = 0u; t < SHARE; t++) {
            var id = visited(sample, salt, e + t * LANES + lane.x);
#ifdef MOST
            if (id < p.all && min(returned(slots, id), BINS - 1u) != last) {
                id = NONE;
            }
#endif
#ifdef LEAST
            if (id < p.all && returned(row * (p.mask + 1u), id) < p.least) {
                id = NONE;
            }
#endif
            together[t * LANES + lane.x] = id;
        }
        open = add(base, lane.x);
    }
#endif
    let of_candidates = before;
    for (var q = 0u; open && q < p.size; q += ROUND) {
        for (var t = 0u; t < SHARE; t++) {
            let place = q + t * LANES + lane.x;
            var id = NONE;
            if (place < p.size) {
                id = shuffled(place, p.all, p.bits, p.fill_k ^ vec4<u32>(salt), p.fill_l ^ vec4<u32>(salt));
            }
            together[t * LANES + lane.x] = id;
        }
        open = add(base, lane.x);
    }
    if (lane.x == 0u) {
        atomicAdd(&statistics[0], of_labels);
        atomicAdd(&statistics[1], of_candidates - of_labels);
        atomicAdd(&statistics[2], before - of_candidates);
    }
}
