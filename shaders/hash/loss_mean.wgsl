// means[p.place] = p.scale * sum over the samples of losses[b]: a step's loss, kept in a list of steps.
//
// Buffers (f32): losses [B], means [steps].
// Lane t of 64 adds t, t + 64, ... in ascending order; lane 0 adds the lanes in order.
// Precision: depth ceil(B / 64) + 65. Undefined: NaN of a sample is the step's.
// Geometry: workgroup (64,1,1), one of them. Races: a barrier between write and read of the lanes' sums; lane 0 stores.
// Bounds: guarded by p.samples; the host checks p.place. Tried: nothing else.

struct Params {
    grid: vec4<u32>,
    samples: u32, place: u32, scale: f32, pad: u32,
}
@group(0) @binding(0) var<storage, read_write> losses: array<f32>;
@group(0) @binding(1) var<storage, read_write> means: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(local_invocation_id) lane: vec3<u32>) {
    var s = 0.0;
    for (var b = lane.x; b < p.samples; b += 64u) {
        s += losses[b];
    }
    partial[lane.x] = s;
    workgroupBarrier();
    if (lane.x == 0u) {
        var total = 0.0;
        for (var t = 0u; t < 64u; t++) {
            total += partial[t];
        }
        means[p.place] = total * p.scale;
    }
}
