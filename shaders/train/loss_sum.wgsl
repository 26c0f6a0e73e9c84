// results[b] = (L / max(n, 1), correct, n, L): sums over a slot's rows of loss (L), of what is correct and of what counts
//   (n).
//
// Buffers (f32): scratch [slots, 3, rows], slots p.stride_scratch elements apart, in planes of p.plane elements, by vectors
//   of four; results [slots, 4], slots p.stride_results elements apart.
// Lane t of 64 adds vectors t, t + 64, ... in ascending order, then its four partial sums, then a tree adds the lanes: the
//   order depends on the number of rows alone.
// Precision: L has depth ceil(rows / 256) + 8; counts are exact below 2^24 (the host refuses more). The mean one division,
//   2.5 ulp.
// Undefined: NaN of a row is NaN of its slot and of no other; padding is not used.
// Geometry: workgroup (64,1,1), one slot each, x covers slots with stride p.groups.
// Races: a barrier between write and read of each tree level and before workgroup memory is written again; the loop over
//   slots depends on the workgroup alone; lane 0 stores. Bounds: guarded by p.rows and p.slots.

struct Params {
    grid: vec4<u32>,
    rows: u32, plane: u32, slots: u32, groups: u32,
    stride_scratch: u32, stride_results: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> scratch: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> results: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

var<workgroup> partial: array<vec4<f32>, 64>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let quads = (p.rows + 3u) / 4u;
    for (var b = group.x + p.grid.x; b < p.slots; b += p.groups) {
        let base = b * p.stride_scratch / 4u;
#unroll k 0 3
        var s_${k} = vec4<f32>(0.0);
#endunroll
        for (var q = lane.x; q < quads; q += 64u) {
            let inside = vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.rows);
#unroll k 0 3
            s_${k} += select(vec4<f32>(0.0), scratch[base + ${k}u * (p.plane / 4u) + q], inside);
#endunroll
        }
        partial[lane.x] = vec4<f32>(
            (s_0.x + s_0.y) + (s_0.z + s_0.w),
            (s_1.x + s_1.y) + (s_1.z + s_1.w),
            (s_2.x + s_2.y) + (s_2.z + s_2.w),
            0.0,
        );
#unroll level 0 6
        workgroupBarrier();
        if (lane.x < (32u >> ${level}u)) {
            partial[lane.x] += partial[lane.x + (32u >> ${level}u)];
        }
#endunroll
        if (lane.x == 0u) {
            let s = partial[0];
            let to = b * p.stride_results;
            results[to] = s.x / max(s.z, 1.0);
            results[to + 1u] = s.y;
            results[to + 2u] = s.z;
            results[to + 3u] = s.x;
        }
        workgroupBarrier();
    }
}
