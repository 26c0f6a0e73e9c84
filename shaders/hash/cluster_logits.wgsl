// For every block of this window and every pair (sample, cluster of the block): logits[place + i] = h[sample] . row i of the block, and
//   list[place + i] = its label, where place = places[pair] + 32 (the block's number in its cluster) and sample = places[pair] / p.ld.
//
// Buffers: h [samples, p.width4] (f32, vectors of four, row stride p.ld_h4); blocks [.., p.width4, 32] (f32, vectors of four of a label, the labels of a
//   block side by side); labels [.., 32] (u32, 0xffffffff for none, whose row is zeros) and owners [.., 4] (u32: the cluster, and the block's
//   number in it), both of all blocks, of which this window begins at p.first; keys [p.pairs] (u32, ascending clusters) and places [p.pairs]
//   (u32, flat); logits (f32) and list (u32) [samples, ..], row stride p.ld.
// The pairs of a cluster are a run of the sorted keys, found by two binary searches of p.steps steps. A block's rows are read once for
//   every SAMPLES samples of the run.
// Precision: one fma a term in ascending order from 0, as ops/matmul does it, so that a logit has the same bits as in an exact ranking
//   where the device rounds alike. Depth p.width4 * 4. Undefined: NaN and infinity pass through.
// Geometry: workgroup (LANES,1,1), a block each, a lane 32 / LANES labels; x covers blocks. LANES is 32 and SAMPLES 4 on GPUs, 8 and 8 on software
//   devices, where a load costs about as much as eight multiply-adds. The loops of an invocation have p.pairs / SAMPLES * p.width4 + 2 p.steps
//   turns at most together: callers keep that under 65,535 on software devices.
// Bounds: blocks by the grid; a probe of keys is below p.pairs; the last pairs of a run are repeated, and written once. Races: a pair and a block own
//   their 32 places.
// Tried: a label a lane on software devices (2.5 loads for four multiply-adds of a vector); an invocation a pair and label that reads rows
//   where they lie in the table (candidate_logits).

struct Params {
    grid: vec4<u32>,
    first: u32, pairs: u32, steps: u32, width4: u32,
    ld: u32, ld_h4: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> h: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> blocks: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> owners: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> keys: array<u32>;
@group(0) @binding(5) var<storage, read_write> places: array<u32>;
@group(0) @binding(6) var<storage, read_write> logits: array<f32>;
@group(0) @binding(7) var<storage, read_write> list: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

const LANES = ${LANES}u;
const SAMPLES = ${SAMPLES}u;

// The first place of the sorted keys whose key is not below this one.
fn first_of(key: u32) -> u32 {
    var low = 0u;
    var high = p.pairs;
    for (var i = 0u; i < p.steps; i++) {
        let middle = (low + high) / 2u;
        let below = low < high && keys[min(middle, p.pairs - 1u)] < key;
        high = select(middle, high, below);
        low = select(low, middle + 1u, below);
    }
    return low;
}

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let block = group.x + p.grid.x;
    let owner = owners[p.first + block];
    let start = first_of(owner.x);
    let end = first_of(owner.x + 1u);
    let base = block * p.width4 * 32u + lane.x;
    let own = owner.y * 32u + lane.x;
#unroll i 0 ${LABELS}
    let label_${i} = labels[(p.first + block) * 32u + lane.x + ${i}u * LANES];
#endunroll
    for (var pair = start; pair < end; pair += SAMPLES) {
#unroll q 0 ${SAMPLES}
        let place_${q} = places[min(pair + ${q}u, end - 1u)];
        let h_${q} = place_${q} / p.ld * p.ld_h4;
#unroll i 0 ${LABELS}
        var s_${q}_${i} = 0.0;
#endunroll
#endunroll
        for (var j = 0u; j < p.width4; j++) {
#unroll i 0 ${LABELS}
            let w_${i} = blocks[base + j * 32u + ${i}u * LANES];
#endunroll
#unroll q 0 ${SAMPLES}
            let x_${q} = h[h_${q} + j];
#unroll i 0 ${LABELS}
            s_${q}_${i} = fma(x_${q}.x, w_${i}.x, s_${q}_${i});
            s_${q}_${i} = fma(x_${q}.y, w_${i}.y, s_${q}_${i});
            s_${q}_${i} = fma(x_${q}.z, w_${i}.z, s_${q}_${i});
            s_${q}_${i} = fma(x_${q}.w, w_${i}.w, s_${q}_${i});
#endunroll
#endunroll
        }
#unroll q 0 ${SAMPLES}
        if (pair + ${q}u < end) {
#unroll i 0 ${LABELS}
            logits[place_${q} + own + ${i}u * LANES] = s_${q}_${i};
            list[place_${q} + own + ${i}u * LANES] = label_${i};
#endunroll
        }
#endunroll
    }
}
