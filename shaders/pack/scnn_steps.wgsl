// Cycles of the elements of a machine of SCNN's kind (A. Parashar et al., "SCNN: An Accelerator for Compressed-sparse
//   Convolutional Neural Networks", ISCA 2017). Element e of unit u (an input channel and a group of filters): for every phase of the
//   stride, each block of 4 activations of e meets each block of 4 weights of u. The 16 products go to accumulator banks
//     bank = ((oy & 1) << 3 | (ox & 1) << 2 | k & 3 | (((k >> 2) ^ (oy >> 1) ^ (ox >> 1)) & 1) << 4) & p.bank_mask
//   of the output (oy, ox, k); cycles = sum of max(1, most products in one bank), products = those inside the output.
//
// Buffers (u32): activations [blocks] and weights [blocks], four words a vec4; activation_at [channels, phases, elements] + 1 and
//   weight_at [units, phases] + 1: where the blocks of each begin; counts [units, elements, 2]: cycles, products.
//   An activation is y << 16 | x, a weight ky << 16 | kx | (k & 7) << 28, coordinates of the phase (so oy = y - ky); what fills up
//   a block is 0x7fff7fff in activations and 0x8000 in weights: no product with it is inside. y, x < 2^14, ky, kx < 2^12.
// p.limit = (height - 1) << 16 | (width - 1) of the output. Channel of a unit: u / p.chunks.
// How: both differences are one subtraction with a guard bit above each half; banks are bits of a word, and 16 words of one bit each
//   are added as bit planes (carry-save), so that counting costs nothing that depends on where a product goes.
// Precision: whole numbers, exact; the host refuses what could pass 2^32. Undefined: counts that were not 0 before.
// Geometry: workgroup (64,1,1); x covers elements, y + z p.jobs_y jobs: (unit, slice of its weights, slice of the activations). llvmpipe
//   leaves loops after 65,535 iterations of an invocation, all loops counted, and says nothing; so slices keep an invocation below 2^15.
//   The lanes of a vector share a unit, so its weights.
// Races: slices add to two words by atomics; sums of whole numbers have no order. Bounds: guarded by p.elements and p.jobs; blocks by
//   the tables, which the host made.
// Tried: nothing else. 56x56x64 -> 64, 3x3 takes 0.05 s (30 % of weights, 40 % of activations) to 0.4 s (all) on lavapipe, two busy cores.

struct Params {
    grid: vec4<u32>,
    elements: u32, jobs: u32, jobs_y: u32, chunks: u32,
    phases: u32, limit: u32, bank_mask: u32, weight_slices: u32,
    weight_slice: u32, activation_slices: u32, activation_slice: u32, pad0: u32,
}
@group(0) @binding(0) var<storage, read_write> activations: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> activation_at: array<u32>;
@group(0) @binding(2) var<storage, read_write> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> weight_at: array<u32>;
@group(0) @binding(4) var<storage, read_write> counts: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

const GUARD = vec4<u32>(0x80008000u);

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let element = (group.x + p.grid.x) * 64u + lane.x;
    if (element >= p.elements) {
        return;
    }
    let job = (group.z + p.grid.z) * p.jobs_y + group.y + p.grid.y;
    if (job >= p.jobs) {
        return;
    }
    let limit = vec4<u32>(p.limit) | GUARD;
    let slice = job / p.activation_slices;
    let u = slice / p.weight_slices;
    let channel = u / p.chunks;
    // This slice of the unit's weights, and of each list of activations.
    let from_weight = weight_at[u * p.phases] + (slice % p.weight_slices) * p.weight_slice;
    let skipped = (job % p.activation_slices) * p.activation_slice;
    var cycles = 0u;
    var inside = vec4<u32>(0u);
    for (var phase = 0u; phase < p.phases; phase++) {
        let at = (channel * p.phases + phase) * p.elements + element;
        let first = activation_at[at] + skipped;
        let end = min(activation_at[at + 1u], first + p.activation_slice);
        let first_weight = max(weight_at[u * p.phases + phase], from_weight);
        let last_weight = min(weight_at[u * p.phases + phase + 1u], from_weight + p.weight_slice);
        for (var w = first_weight; w < last_weight; w++) {
            let words = weights[w];
            let taps = words & vec4<u32>(0x0fff8fffu);
            let filters = ((words >> vec4<u32>(28u)) & vec4<u32>(3u)) | ((words >> vec4<u32>(26u)) & vec4<u32>(16u));
            for (var a = first; a < end; a++) {
                let block = activations[a];
                // Bit planes of how many products each of the 32 banks gets.
                var ones = 0u;
                var twos = 0u;
                var fours = 0u;
                var eights = 0u;
                var sixteens = 0u;
#unroll i 0 4
                {
                    let d = (vec4<u32>(block[${i}]) | GUARD) - taps;
                    let ok = (d & (limit - (d & vec4<u32>(0x7fff7fffu))) & GUARD) == GUARD;
                    let bank = filters ^ ((d << vec4<u32>(2u)) & vec4<u32>(4u)) ^ ((d << vec4<u32>(3u)) & vec4<u32>(16u))
                        ^ ((d >> vec4<u32>(13u)) & vec4<u32>(24u));
                    let m = select(vec4<u32>(0u), vec4<u32>(1u) << (bank & vec4<u32>(p.bank_mask)), ok);
                    inside += select(vec4<u32>(0u), vec4<u32>(1u), ok);
                    // The sum of four words of one bit: r1 + 2 r2 + 4 r4.
                    let s = m.x ^ m.y;
                    let t = m.z ^ m.w;
                    let c = m.x & m.y;
                    let e = m.z & m.w;
                    let r1 = s ^ t;
                    let r2 = (c ^ e) | (s & t);
                    let r4 = c & e;
                    let carry1 = ones & r1;
                    ones ^= r1;
                    let t2 = twos ^ r2;
                    let carry2 = (twos & r2) | (carry1 & t2);
                    twos = t2 ^ carry1;
                    let t4 = fours ^ r4;
                    let carry4 = (fours & r4) | (carry2 & t4);
                    fours = t4 ^ carry2;
                    sixteens |= eights & carry4;
                    eights ^= carry4;
                }
#endunroll
                // The largest number in the planes, from its highest bit on.
                var most = 0u;
                var banks = 0xffffffffu;
                let b16 = banks & sixteens;
                most += select(0u, 16u, b16 != 0u);
                banks = select(banks, b16, b16 != 0u);
                let b8 = banks & eights;
                most += select(0u, 8u, b8 != 0u);
                banks = select(banks, b8, b8 != 0u);
                let b4 = banks & fours;
                most += select(0u, 4u, b4 != 0u);
                banks = select(banks, b4, b4 != 0u);
                let b2 = banks & twos;
                most += select(0u, 2u, b2 != 0u);
                banks = select(banks, b2, b2 != 0u);
                most += select(0u, 1u, (banks & ones) != 0u);
                cycles += max(most, 1u);
            }
        }
    }
    let out = (u * p.elements + element) * 2u;
    atomicAdd(&counts[out], cycles);
    atomicAdd(&counts[out + 1u], inside.x + inside.y + inside.z + inside.w);
}
