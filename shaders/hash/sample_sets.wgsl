// The active set of each sample: its labels, then candidates, then labels in a random order of its own, until it has p.size.
//   CANDIDATES  in the order of the visit: groups (tables) in a random order of the sample, entries of a group in a random order too
//   LEAST       ... of those that were returned p.least times or more
//   MOST        those returned most often (more than 254 times count alike); of the last count that finds room, in the order of the visit
//
// Buffers (u32): offsets [samples + 1] into labels; marks [rows, p.words]: bits, zeros before, of samples from p.first on; statistics [4]:
//   labels, candidates and fill are added; candidates [samples, groups * width], p.ld words a row; table [rows, mask + 1] pairs (id + 1,
//   times returned) as sample_count makes it.
// A round takes LANES ids together; of equal ones it does not matter which is taken. Only in the round in which room ends does order
//   matter: it is undone and done again one by one.
// Precision: exact. Undefined: nothing; ids from p.all on are left out.
// Geometry: workgroup (LANES,1,1), one sample each; x covers samples. LANES is 8 on software devices, 128 on GPUs: the set is the same.
// Races: rounds are separated by barriers, memory shared in them is atomic or written by lane 0 alone; samples have words of their own.
// Bounds: guarded by sizes; at most p.size places of the random order are needed, so every loop ends.
// Tried: a hash set a sample: its ids would have to be sorted afterwards, bits are read in order.

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
const NONE = 0xffffffffu;
const OPEN = 0u;
const FULL = 1u;
const OVER = 2u;
const BINS = 256u;

var<workgroup> held: atomic<u32>;
var<workgroup> status: u32;
var<workgroup> together: array<u32, ${LANES}>;
#ifdef MOST
var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> settled: u32;
#endif
// What the set holds after the last round; lane 0 knows.
var<private> before: u32;

// Puts one id a lane into the set at word base on, in the order of lanes as long as there is room.
fn add(base: u32, id: u32, lane: u32) {
    let bit = 1u << (id % 32u);
    let word = base + min(id, p.all - 1u) / 32u;
    var fresh = false;
    if (id < p.all) {
        fresh = (atomicOr(&marks[word], bit) & bit) == 0u;
    }
    if (fresh) {
        atomicAdd(&held, 1u);
    }
    together[lane] = id;
    workgroupBarrier();
    if (lane == 0u) {
        let now = atomicLoad(&held);
        status = select(select(OPEN, FULL, now == p.size), OVER, now > p.size);
        before = select(now, before, now > p.size);
    }
    if (workgroupUniformLoad(&status) == OVER) {
        if (fresh) {
            atomicAnd(&marks[word], ~bit);
        }
        storageBarrier();
        workgroupBarrier();
        if (lane == 0u) {
            for (var t = 0u; t < LANES && before < p.size; t++) {
                let other = together[t];
                if (other < p.all) {
                    let own = 1u << (other % 32u);
                    before += select(0u, 1u, (atomicOr(&marks[base + other / 32u], own) & own) == 0u);
                }
            }
            status = FULL;
        }
        workgroupBarrier();
    }
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
    let base = row * p.words;
    let salt = stir(sample ^ 0x9e3779b9u);
    before = 0u;
    if (lane.x == 0u) {
        atomicStore(&held, 0u);
        status = OPEN;
    }
    let end = offsets[sample + 1u];
    let start = min(offsets[sample], end);
    let own_rounds = (end - start + LANES - 1u) / LANES;
    workgroupBarrier();
    // As many rounds as a set can use; a sample with fewer labels has empty ones.
    for (var r = 0u; r < (p.size + LANES - 1u) / LANES; r++) {
        if (lane.x == 0u && r >= own_rounds) {
            status = FULL;
        }
        if (workgroupUniformLoad(&status) != OPEN) {
            break;
        }
        let i = start + r * LANES + lane.x;
        var id = NONE;
        if (i < end) {
            id = labels[i];
        }
        add(base, id, lane.x);
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
        if (entry.x != 0u && min(entry.y, BINS - 1u) > last) {
            let bit = 1u << ((entry.x - 1u) % 32u);
            if ((atomicOr(&marks[base + (entry.x - 1u) / 32u], bit) & bit) == 0u) {
                atomicAdd(&held, 1u);
            }
        }
    }
    workgroupBarrier();
    if (lane.x == 0u) {
        before = atomicLoad(&held);
        status = select(OPEN, FULL, before == p.size);
    }
#endif
#ifdef CANDIDATES
    for (var e = 0u; e < p.groups * p.width; e += LANES) {
        if (workgroupUniformLoad(&status) != OPEN) {
            break;
        }
        var id = visited(sample, salt, e + lane.x);
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
        add(base, id, lane.x);
    }
#endif
    let of_candidates = before;
    for (var q = 0u; q < p.size; q += LANES) {
        if (workgroupUniformLoad(&status) != OPEN) {
            break;
        }
        var id = NONE;
        if (q + lane.x < p.size) {
            id = shuffled(q + lane.x, p.all, p.bits, p.fill_k ^ vec4<u32>(salt), p.fill_l ^ vec4<u32>(salt));
        }
        add(base, id, lane.x);
    }
    if (lane.x == 0u) {
        atomicAdd(&statistics[0], of_labels);
        atomicAdd(&statistics[1], of_candidates - of_labels);
        atomicAdd(&statistics[2], before - of_candidates);
    }
}
