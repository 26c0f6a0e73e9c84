// Where the logits of sample s go for the cluster of rank r: keys[s, r] = the cluster, places[s, r] = s p.ld + 32 (blocks of the clusters of
//   lower ranks). Where a sample has fewer clusters, the key is p.clusters. columns[s] = 32 times the blocks of all, scored[s] = their labels.
//
// Buffers (u32): best [samples, p.probes, 2] (row stride p.ld_best): words of a ranking, key (0: an empty place) and cluster; clusters
//   [p.clusters, 4]: first block, blocks, labels; keys and places [p.samples * p.probes]; columns and scored [p.samples].
// Precision: exact. Undefined: nothing.
// Geometry: workgroup (64,1,1), an invocation a sample. Bounds: guarded by p.samples, ids of clusters clamped; callers have room for the largest clusters. Races: own elements.
// Tried: nothing else; 256 samples of 16 probes are 4,096 turns.

struct Params {
    grid: vec4<u32>,
    samples: u32, probes: u32, ld_best: u32, clusters: u32,
    ld: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> best: array<u32>;
@group(0) @binding(1) var<storage, read_write> clusters: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> keys: array<u32>;
@group(0) @binding(3) var<storage, read_write> places: array<u32>;
@group(0) @binding(4) var<storage, read_write> columns: array<u32>;
@group(0) @binding(5) var<storage, read_write> scored: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let sample = (group.x + p.grid.x) * 64u + lane.x;
    if (sample >= p.samples) {
        return;
    }
    var blocks = 0u;
    var labels = 0u;
    for (var rank = 0u; rank < p.probes; rank++) {
        let word = sample * p.ld_best + 2u * rank;
        let cluster = min(best[word + 1u], p.clusters - 1u);
        let size = clusters[cluster];
        let found = best[word] != 0u;
        keys[sample * p.probes + rank] = select(p.clusters, cluster, found);
        places[sample * p.probes + rank] = sample * p.ld + 32u * blocks;
        blocks += select(0u, size.y, found);
        labels += select(0u, size.z, found);
    }
    columns[sample] = 32u * blocks;
    scored[sample] = labels;
}
