// The loss of every sample over its active labels, and its gradient in place of the logits:
//   SOFTMAX  loss_b = log sum_a exp(z_a - top) - sum_{labels l} (z_l - top) / n,   dz_a = (p_a - [a is a label] / n) f,   p softmax, n labels
//            (n = 0: no loss, no gradient); with CORRECTED z_a - correction[id_a] in place of z_a: sampled softmax without accidental hits
//            (Jean et al., ACL 2015; the sets are distinct and hold the labels);
//   BCE      loss_b = sum_a max(z_a, 0) - z_a y_a + log(1 + exp(-|z_a|)),   dz_a = (sigmoid(z_a) - y_a) f,   y_a = 1 for labels;
//   f = p.scale, one over the batch.
//
// Buffers: z: samples p.sample .. of [B, A] (f32, vectors of four, rows of p.quads vectors), becomes dz; starts [B + 1] and labels [L] (u32,
//   ascending in each sample); losses [B] (f32); faults [1] (u32): 1 is added (or) for a logit that is NaN or infinite, 2 for a label that
//   is not active; with IDS ids (u32, ascending): [A], or of the samples p.sample .. with rows of p.ids_pitch, else place a has id a;
//   with CORRECTED correction [N] (f32).
// The maximum starts from a logit of the row, so rows of negative numbers keep their range. Lane t takes vectors t, t + LANES, ... in ascending
//   order; sums over lanes are added in SPAN groups. LANES depends on A alone, so the order of sums does.
// Labels are marked in a set of bits, TILE places at a time: each is found in the ids by bisection.
// Precision: d = z - top one rounding, exp 3 + 2 |d| ulp, sums of depth A / (4 LANES) + SPAN + LANES / SPAN + 4, division 2.5 ulp. No exponent
//   is positive: nothing overflows, and the sum is at least 1 up to rounding.
// Undefined: loss and gradient of a row with NaN or infinity (its fault is kept). Elements behind the row become 0.
// Geometry: workgroup (LANES,1,1), one sample each, x covers samples.
// Races: an invocation reads and writes its own vectors of z; barriers stand between all writes and reads of workgroup memory, in loops that
//   depend on parameters alone; faults are or-ed. Bounds: guarded by p.places; labels by their number.
// Tried: exp stored in place and read back instead of taken twice: slower on software devices elsewhere (loss_classes.wgsl).

#import "lib/smooth"

struct Params {
    grid: vec4<u32>,
    places: u32, quads: u32, sample: u32, ids_pitch: u32,
    scale: f32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> z: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> starts: array<u32>;
@group(0) @binding(2) var<storage, read_write> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;
@group(0) @binding(4) var<storage, read_write> faults: array<atomic<u32>>;
#ifdef IDS
@group(0) @binding(5) var<storage, read_write> ids: array<u32>;
#endif
#ifdef CORRECTED
@group(0) @binding(${CORRECTED}) var<storage, read_write> correction: array<f32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;
const SPAN = ${SPAN}u;
const TILE = 16384u;
const BROKEN = 1u;
const MISSING = 2u;

var<workgroup> partial: array<f32, ${LANES}>;
var<workgroup> stage: array<f32, ${SPAN}>;
var<workgroup> marks: array<atomic<u32>, 512>;

// The id of place a of the row at `base` of the ids.
fn id_at(base: u32, a: u32) -> u32 {
#ifdef IDS
    return ids[base + a];
#else
    return a;
#endif
}

fn within(q: u32) -> vec4<bool> {
    return vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.places);
}

fn odd(x: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(x) & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u);
}

// The sum of all lanes' numbers, in a fixed order.
fn sum_of_all(mine: f32, lane: u32) -> f32 {
    partial[lane] = mine;
    workgroupBarrier();
    if (lane < SPAN) {
        var s = 0.0;
        for (var i = 0u; i < LANES / SPAN; i++) {
            s += partial[lane * (LANES / SPAN) + i];
        }
        stage[lane] = s;
    }
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < SPAN; i++) {
        total += stage[i];
    }
    return total;
}

// The largest of the numbers of the first `live` lanes.
fn top_of_all(mine: f32, lane: u32, live: u32) -> f32 {
    partial[lane] = mine;
    workgroupBarrier();
    if (lane < SPAN) {
        var top = partial[min(lane * (LANES / SPAN), live - 1u)];
        for (var i = 1u; i < LANES / SPAN; i++) {
            top = max(top, partial[min(lane * (LANES / SPAN) + i, live - 1u)]);
        }
        stage[lane] = top;
    }
    workgroupBarrier();
    var top = stage[0];
    for (var i = 1u; i < SPAN; i++) {
        top = max(top, stage[i]);
    }
    return top;
}

// Marks the labels among places first .. first + TILE; says whether one of this lane's is no id of the row.
fn mark(lane: u32, first: u32, base: u32, start: u32, count: u32) -> bool {
    var missing = false;
    for (var w = lane; w < min(TILE, p.places - first + 31u) / 32u; w += LANES) {
        atomicStore(&marks[w], 0u);
    }
    workgroupBarrier();
    for (var j = lane; j < count; j += LANES) {
        let label = labels[start + j];
        var low = 0u;
        var high = p.places;
        while (low < high) {
            let middle = (low + high) / 2u;
            let below = id_at(base, middle) < label;
            low = select(low, middle + 1u, below);
            high = select(middle, high, below);
        }
        if (low >= p.places || id_at(base, min(low, p.places - 1u)) != label) {
            missing = true;
        } else if (low >= first && low - first < TILE) {
            atomicOr(&marks[(low - first) / 32u], 1u << (low % 32u));
        }
    }
    workgroupBarrier();
    return missing;
}

// 1 for the labels among the elements of vector q, which lies in the tile from `first` on.
fn marked(q: u32, first: u32) -> vec4<f32> {
    let at = q * 4u - first;
    let bits = vec4<u32>(atomicLoad(&marks[at / 32u]) >> (at % 32u)) >> vec4<u32>(0u, 1u, 2u, 3u);
    return vec4<f32>(bits & vec4<u32>(1u));
}

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let lane = local.x;
    let row = group.x + p.grid.x;
    let sample = p.sample + row;
    let base = row * p.quads;
    let of_ids = row * p.ids_pitch;
    let start = starts[sample];
    let count = starts[sample + 1u] - start;
    let quads = (p.places + 3u) / 4u;
    var broken = false;
    var missing = false;
    var sum = vec4<f32>(0.0);
#ifdef SOFTMAX
    let share = 1.0 / f32(max(count, 1u));
    let scale = select(p.scale, 0.0, count == 0u);
    var top = 0.0;
    for (var q = lane; q < quads; q += LANES) {
        let real = within(q);
        var x = z[base + q];
#ifdef CORRECTED
        let at = min(vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.places - 1u));
        x -= vec4<f32>(correction[id_at(of_ids, at.x)], correction[id_at(of_ids, at.y)],
            correction[id_at(of_ids, at.z)], correction[id_at(of_ids, at.w)]);
        z[base + q] = x;
#endif
        broken = broken || any(odd(x) & real);
        // Elements behind the row repeat its vector's first.
        let seen = select(vec4<f32>(x.x), x, real);
        let most = max(max(seen.x, seen.y), max(seen.z, seen.w));
        top = select(max(top, most), most, q == lane);
    }
    top = top_of_all(top, lane, min(quads, LANES));
    for (var q = lane; q < quads; q += LANES) {
        let d = select(vec4<f32>(0.0), z[base + q] - top, within(q));
        sum += select(vec4<f32>(0.0), exp(d), within(q));
    }
    let whole = sum_of_all((sum.x + sum.y) + (sum.z + sum.w), lane);
    sum = vec4<f32>(0.0);
#endif
    for (var first = 0u; first < p.places; first += TILE) {
        missing = mark(lane, first, of_ids, start, count) || missing;
        let end = min((first + TILE) / 4u, quads);
        for (var q = first / 4u + lane; q < end; q += LANES) {
            let real = within(q);
            let y = marked(q, first);
            let x = z[base + q];
#ifdef SOFTMAX
            let d = select(vec4<f32>(0.0), x - top, real);
            sum = fma(y, d, sum);
            let g = (exp(d) / whole - y * share) * scale;
#else
            broken = broken || any(odd(x) & real);
            // With t = -z for labels, z for others, the loss is softplus(t), and sigmoid(z) - 1 = -sigmoid(-z).
            let sign = 1.0 - 2.0 * y;
            let t = sign * x;
            sum += select(vec4<f32>(0.0), softplus_of(t), real);
            let g = sign * sigmoid_of(t) * p.scale;
#endif
            z[base + q] = select(vec4<f32>(0.0), g, real);
        }
        workgroupBarrier();
    }
    let total = sum_of_all((sum.x + sum.y) + (sum.z + sum.w), lane);
    if (lane == 0u) {
#ifdef SOFTMAX
        losses[sample] = select(log(whole) - total * share, 0.0, count == 0u);
#else
        losses[sample] = total;
#endif
    }
    let fault = select(0u, BROKEN, broken) | select(0u, MISSING, missing);
    if (fault != 0u) {
        atomicOr(&faults[0], fault);
    }
}
