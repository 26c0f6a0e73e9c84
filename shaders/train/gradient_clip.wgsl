// out[b] = (f, norm, 0, 0): norm = sqrt(sum over k of partial[b, k]), f = 1 where norm + 1e-6 <= limit or no limit is set,
//   else limit / (norm + 1e-6): clipping by global norm (Pascanu, Mikolov, Bengio, ICML 2013; torch's clip_grad_norm_), one
//   norm a slot.
//
// Buffers (f32): partial [slots, count], slots p.stride_partial elements apart; coefficients [slots, 16], slots p.stride_c
//   elements apart, the limit in column 12 (0: none); out [slots, 4], slots p.stride_out elements apart.
// Lane t of 64 adds t, t + 64, ... in ascending order, a tree adds the lanes: the order depends on the count alone.
// Precision: depth ceil(count / 64) + 6, sqrt, one sum, one quotient. Undefined: NaN of a slot with a limit gives NaN.
// Geometry: workgroup (64,1,1), one slot each, x covers slots with stride p.groups.
// Races: a barrier between write and read of each tree level and before workgroup memory is written again; the loop over
//   slots depends on the workgroup alone; lane 0 stores. Bounds: guarded by p.count and p.slots.

struct Params {
    grid: vec4<u32>,
    count: u32, slots: u32, groups: u32, stride_partial: u32,
    stride_c: u32, stride_out: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> coefficients: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> sums: array<f32, 64>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var b = group.x + p.grid.x; b < p.slots; b += p.groups) {
        var s = 0.0;
        for (var k = lane.x; k < p.count; k += 64u) {
            s += partial[b * p.stride_partial + k];
        }
        sums[lane.x] = s;
#unroll level 0 6
        workgroupBarrier();
        if (lane.x < (32u >> ${level}u)) {
            sums[lane.x] += sums[lane.x + (32u >> ${level}u)];
        }
#endunroll
        if (lane.x == 0u) {
            let norm = sqrt(sums[0]);
            let limit = coefficients[b * p.stride_c + 12u];
            let factor = select(limit / (norm + 1e-6), 1.0, limit <= 0.0 || norm + 1e-6 <= limit);
            out[b * p.stride_out / 4u] = vec4<f32>(factor, norm, 0.0, 0.0);
        }
        workgroupBarrier();
    }
}
