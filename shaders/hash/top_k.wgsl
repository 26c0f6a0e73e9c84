// best[b] = the p.k best of what it holds and of p.n more logits of sample b, the best first.
//
// A logit z of label i ranks before one w of label j if z > w, or z = w (0 = -0) and i < j: a total order, so the result depends neither on
//   how labels are cut into chunks nor on who appends first. The order is that of integers, key(z) = the bits of z with
//   their sign turned, all bits turned where z is negative; 0 is a key that no finite number has and marks an empty place.
// Buffers: logits [samples, ..] (f32, row stride p.ld), of which columns p.start .. p.start + p.n are looked at; best [samples, k, 2]
//   (u32, row stride p.ld_best): key and label, zeros at first; faults [samples, 2] (u32, row stride 4), zeros at first: how many logits were
//   infinite or NaN (they are not ranked) and the complement of the lowest such label. Column c is label p.first + c - p.start; with
//   LISTED it is list[b, c] (u32, row stride p.ld_list), 0xffffffff for none, in any order, each once. With COUNTED columns from
//   counts[b] on (u32) are not looked at.
// A span of SPAN columns is compared with the worst of the best; what ranks before it is appended behind them in workgroup memory (by an
//   integer atomic: the order of appending is no part of the result). While a place is empty, when p.k + 32 have been appended, and at the end, the places are sorted
//   (bitonic, Batcher 1968), and the first p.k go on.
// Precision: exact. Undefined: columns behind p.start + p.n, or from counts[b] on, may hold anything.
// Geometry: workgroup (LANES,1,1), a sample each; x covers samples. 1 <= p.k <= 128. LANES is 128 on GPUs; on software devices it is 8,
//   one vector of the processor, where a barrier costs nothing. Eight lanes may take 4096 columns a dispatch, 2048 if
//   VECTORS is 1: such devices leave all loops of an invocation after 65,535 iterations together (the worst is a sort of 256 places a span, 40,000).
// Bounds: columns by p.start + p.n and counts; at most 2 * 128 + 32 places are filled before a span, which adds at most SPAN <= 512.
// Races: barriers between the phases; a workgroup owns its sample's rows of best and faults; dispatches follow each other.
// Tried: sorting only when the next span might not fit, with spans of 256 on software devices (1,000 columns: 0.48 s for 256 samples);
//   not written: a heap a lane and one merge at the end (128 places a lane do not fit); a histogram of exponents first (a second read).

struct Params {
    grid: vec4<u32>,
    k: u32, n: u32, first: u32, start: u32,
    ld: u32, ld_list: u32, ld_best: u32, pad0: u32,
}
@group(0) @binding(0) var<storage, read_write> logits: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> best: array<u32>;
@group(0) @binding(2) var<storage, read_write> faults: array<u32>;
#ifdef LISTED
@group(0) @binding(3) var<storage, read_write> list: array<u32>;
#endif
#ifdef COUNTED
@group(0) @binding(4) var<storage, read_write> counts: array<u32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;
const SPAN = ${LANES}u * 4u * ${VECTORS}u;
const EXPONENT = 0x7f800000u;
const NOTHING = 0xffffffffu;

var<workgroup> keys: array<u32, 1024>;
var<workgroup> labels: array<u32, 1024>;
var<workgroup> filled: atomic<u32>;
var<workgroup> pending: u32;
var<workgroup> faulty: atomic<u32>;
var<workgroup> fault: atomic<u32>;

fn key_of(bits: u32) -> u32 {
    let key = bits ^ select(0x80000000u, NOTHING, (bits >> 31u) != 0u);
    return key + select(0u, 1u, key == 0x7fffffffu);
}

// Whether place i ranks before place j.
fn ranks(i: u32, j: u32) -> bool {
    return keys[i] > keys[j] || (keys[i] == keys[j] && labels[i] < labels[j]);
}

// Sorts the first `count` places, two at least.
fn merge(count: u32, lane: u32) {
    let n = 1u << (32u - countLeadingZeros(count - 1u));
    for (var i = count + lane; i < n; i += LANES) {
        keys[i] = 0u;
        labels[i] = NOTHING;
    }
    if (lane == 0u) {
        atomicStore(&filled, p.k);
    }
    workgroupBarrier();
    for (var size = 2u; size <= n; size <<= 1u) {
        for (var stride = size >> 1u; stride > 0u; stride >>= 1u) {
            for (var t = lane; t < n / 2u; t += LANES) {
                let i = 2u * t - (t & (stride - 1u));
                let j = i + stride;
                if (select(ranks(i, j), ranks(j, i), (i & size) == 0u)) {
                    let key = keys[i];
                    let label = labels[i];
                    keys[i] = keys[j];
                    labels[i] = labels[j];
                    keys[j] = key;
                    labels[j] = label;
                }
            }
            workgroupBarrier();
        }
    }
}

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let lane = local.x;
    let sample = group.x + p.grid.x;
    let row = (sample * p.ld + p.start) / 4u;
    for (var i = lane; i < p.k; i += LANES) {
        keys[i] = best[sample * p.ld_best + 2u * i];
        labels[i] = best[sample * p.ld_best + 2u * i + 1u];
    }
    if (lane == 0u) {
        atomicStore(&filled, p.k);
        atomicStore(&faulty, 0u);
        atomicStore(&fault, 0u);
#ifdef COUNTED
        pending = min(p.n, max(counts[sample], p.start) - p.start);
#else
        pending = p.n;
#endif
    }
    let n = workgroupUniformLoad(&pending);
    var worst = keys[p.k - 1u];
    var worst_label = labels[p.k - 1u];
    let spans = (n + SPAN - 1u) / SPAN;
    for (var s = 0u; s < spans; s++) {
        // A bit for each of this lane's columns that may enter.
        var found = 0u;
#unroll v 0 ${VECTORS}
        let column_${v} = s * SPAN + (${v}u * LANES + lane) * 4u;
        let bits_${v} = bitcast<vec4<u32>>(logits[row + min(column_${v}, n - 1u) / 4u]);
        let turned_${v} = select(vec4<u32>(0x80000000u), vec4<u32>(NOTHING), (bits_${v} >> vec4<u32>(31u)) != vec4<u32>(0u));
        let odd_${v} = (bits_${v} & vec4<u32>(EXPONENT)) == vec4<u32>(EXPONENT);
#ifdef LISTED
        let good_${v} = (bits_${v} ^ turned_${v}) + vec4<u32>(1u) >= vec4<u32>(worst);
#else
        let good_${v} = (bits_${v} ^ turned_${v}) > vec4<u32>(worst);
#endif
        let inside_${v} = vec4<u32>(column_${v}) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(n);
        let on_${v} = select(vec4<u32>(0u), vec4<u32>(1u, 2u, 4u, 8u), (good_${v} | odd_${v}) & inside_${v});
        found |= (on_${v}.x | on_${v}.y | on_${v}.z | on_${v}.w) << (4u * ${v}u);
#endunroll
        while (found != 0u) {
            let bit = firstTrailingBit(found);
            found &= found - 1u;
            let column = s * SPAN + ((bit / 4u) * LANES + lane) * 4u + bit % 4u;
#ifdef LISTED
            let label = list[sample * p.ld_list + p.start + column];
            if (label == NOTHING) {
                continue;
            }
#else
            let label = p.first + column;
#endif
            let bits = bitcast<u32>(logits[row + column / 4u][column % 4u]);
            if ((bits & EXPONENT) == EXPONENT) {
                atomicAdd(&faulty, 1u);
                atomicMax(&fault, ~label);
                continue;
            }
            let key = key_of(bits);
            if (key > worst || (key == worst && label < worst_label)) {
                let place = atomicAdd(&filled, 1u);
                keys[place] = key;
                labels[place] = label;
            }
        }
        workgroupBarrier();
        if (lane == 0u) {
            // The upper half says whether a place is empty: every lane must decide alike.
            pending = atomicLoad(&filled) | select(0u, 0x10000u, worst == 0u);
        }
        let state = workgroupUniformLoad(&pending);
        let count = state & 0xffffu;
        if (count > p.k && (state > 0xffffu || count > 2u * p.k + 32u || s + 1u == spans)) {
            merge(count, lane);
            worst = keys[p.k - 1u];
            worst_label = labels[p.k - 1u];
        }
    }
    for (var i = lane; i < p.k; i += LANES) {
        best[sample * p.ld_best + 2u * i] = keys[i];
        best[sample * p.ld_best + 2u * i + 1u] = labels[i];
    }
    if (lane == 0u) {
        faults[sample * 4u] += atomicLoad(&faulty);
        faults[sample * 4u + 1u] = max(faults[sample * 4u + 1u], atomicLoad(&fault));
    }
}
