// dh[b, j] = sum over the planes, ascending, of planes[t, b, j] where the hidden element j is open, else 0: the end of the products
//   dz rows, cut into planes along the active labels, and the gradient of the ReLU. Open is h[b, j] > 0, or with LINEAR every j < p.hidden;
//   column p.hidden, which is the constant 1, and what lies behind it take no gradient.
//
// Buffers (f32, vectors of four): planes [planes, B, hidden] with rows of p.plane4 vectors, h and dh [B, width] with rows of p.width4.
// Precision: one rounding a plane. Undefined: NaN and infinity stay in their element; padding of planes is not used.
// Geometry: workgroup (64,1,1), an invocation has a vector of dh; x covers p.len of them.
// Races: an invocation writes its own vector. Bounds: guarded by p.len; reads of planes are clamped to the row.
// Tried: nothing else; it reads 32 planes at most.

struct Params {
    grid: vec4<u32>,
    len: u32, width4: u32, plane4: u32, planes: u32,
    hidden: u32, samples: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> planes: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> h: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> dh: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let item = (group.x + p.grid.x) * 64u + lane.x;
    if (item >= p.len) {
        return;
    }
    let sample = item / p.width4;
    let q = item - sample * p.width4;
    let first = sample * p.plane4 + min(q, p.plane4 - 1u);
    var s = planes[first];
    for (var t = 1u; t < p.planes; t++) {
        s += planes[first + t * p.samples * p.plane4];
    }
    let column = vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
#ifdef LINEAR
    let open = column < vec4<u32>(p.hidden);
#else
    let open = (column < vec4<u32>(p.hidden)) & (h[item] > vec4<f32>(0.0));
#endif
    dh[item] = select(vec4<f32>(0.0), s, open);
}
