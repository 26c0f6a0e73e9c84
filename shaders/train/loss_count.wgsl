// results[b, 2] = how many labels of slot b name a class; the others are ignored. What a mean over counted rows divides by.
//
// Buffers: targets [slots or 1, ...] (u32 labels in rows of p.columns with pitch p.pitch, slots p.stride_targets apart);
//   results [slots, 4] (f32: mean loss, correct, counted, sum of losses), slots p.stride_results apart, of which only the
//   third is written.
// Lane t of 64 takes rows t, t + 64, ...; a tree adds the lanes. Precision: exact below 2^24 rows (the host refuses more).
// Geometry: workgroup (64,1,1), one slot each, x covers slots with stride p.groups. Undefined: nothing.
// Races: a barrier between write and read of each tree level and before workgroup memory is written again; the loop over
//   slots depends on the workgroup alone; lane 0 stores. Bounds: guarded by p.rows and p.slots.

struct Params {
    grid: vec4<u32>,
    rows: u32, classes: u32, columns: u32, pitch: u32,
    slots: u32, groups: u32, stride_targets: u32, stride_results: u32,
}
@group(0) @binding(0) var<storage, read_write> targets: array<u32>;
@group(0) @binding(1) var<storage, read_write> results: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> counts: array<u32, 64>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var b = group.x + p.grid.x; b < p.slots; b += p.groups) {
        var count = 0u;
        for (var row = lane.x; row < p.rows; row += 64u) {
            let label = targets[b * p.stride_targets + row / p.columns * p.pitch + row % p.columns];
            count += select(0u, 1u, label < p.classes);
        }
        counts[lane.x] = count;
#unroll level 0 6
        workgroupBarrier();
        if (lane.x < (32u >> ${level}u)) {
            counts[lane.x] += counts[lane.x + (32u >> ${level}u)];
        }
#endunroll
        if (lane.x == 0u) {
            results[b * p.stride_results + 2u] = f32(counts[0]);
        }
        workgroupBarrier();
    }
}
