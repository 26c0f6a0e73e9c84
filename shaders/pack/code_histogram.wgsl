// How often each code of a container occurs: results[slot + v] += the number of i < n with data[i] = v.
//
// Buffers (u32): data, vectors of four words, 4 bytes or (HALVES) 2 halves a word, zeros behind the last value up to a whole vector; they
//   are counted as well, and the host takes them off again. results [slot .. slot + 256 or 65,536], zero before.
// Precision: exact; counts wrap at 2^32. Undefined: nothing.
// Bytes: 8 copies of 256 bins in workgroup memory (8 KiB), by lane, since most values of a sparse tensor want the same bin. OWN: a workgroup
//   is 8 lanes, so that each has a copy of its own and needs no atomics, which software devices run one by one. Halves: their bins do not
//   fit, so they go to global memory at once, except zeros, which each invocation counts for itself.
// Geometry: workgroup (64,1,1) for halves, (256,1,1) or (8,1,1) for bytes, grid-stride over vectors.
// Races: atomics, whose order cannot matter, or bins of one lane; barriers between clearing, counting and adding up. Bounds: guarded by
//   p.vectors.
// Tried: atomics on a software device, 542 ms for 64 MiB, three quarters zeros, where bins of each lane take 256 ms (llvmpipe, two cores that
//   others used too).

struct Params {
    grid: vec4<u32>,
    vectors: u32, threads: u32, slot: u32, pad0: u32,
}
@group(0) @binding(0) var<storage, read_write> data: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> results: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

#ifdef HALVES
@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    var zeros = 0u;
    for (var q = (group.x + p.grid.x) * 64u + lane.x; q < p.vectors; q += p.threads) {
        let v = data[q];
#unroll i 0 4
        let low_${i} = v[${i}] & 0xffffu;
        let high_${i} = v[${i}] >> 16u;
        zeros += u32(low_${i} == 0u) + u32(high_${i} == 0u);
        if (low_${i} != 0u) {
            atomicAdd(&results[p.slot + low_${i}], 1u);
        }
        if (high_${i} != 0u) {
            atomicAdd(&results[p.slot + high_${i}], 1u);
        }
#endunroll
    }
    if (zeros != 0u) {
        atomicAdd(&results[p.slot], zeros);
    }
}
#else
const COPIES = 8u;
#ifdef OWN
const LANES = 8u;
var<workgroup> bins: array<u32, 2048>;

fn count(v: u32, copy: u32) {
    bins[v * COPIES + copy] += 1u;
}

fn counted(i: u32) -> u32 {
    return bins[i];
}
#else
const LANES = 256u;
var<workgroup> bins: array<atomic<u32>, 2048>;

fn count(v: u32, copy: u32) {
    atomicAdd(&bins[v * COPIES + copy], 1u);
}

fn counted(i: u32) -> u32 {
    return atomicLoad(&bins[i]);
}
#endif

@compute @workgroup_size(LANES, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = lane.x; i < 256u * COPIES; i += LANES) {
#ifdef OWN
        bins[i] = 0u;
#else
        atomicStore(&bins[i], 0u);
#endif
    }
    workgroupBarrier();
    let copy = lane.x & (COPIES - 1u);
    for (var q = (group.x + p.grid.x) * LANES + lane.x; q < p.vectors; q += p.threads) {
        let v = data[q];
#unroll i 0 4
        count(v[${i}] & 0xffu, copy);
        count((v[${i}] >> 8u) & 0xffu, copy);
        count((v[${i}] >> 16u) & 0xffu, copy);
        count(v[${i}] >> 24u, copy);
#endunroll
    }
    workgroupBarrier();
    for (var bin = lane.x; bin < 256u; bin += LANES) {
        var sum = 0u;
        for (var i = 0u; i < COPIES; i++) {
            sum += counted(bin * COPIES + i);
        }
        if (sum != 0u) {
            atomicAdd(&results[p.slot + bin], sum);
        }
    }
}
#endif
