// How many f32 multiply-adds a second this device does from registers: the roof of every kernel that mostly computes.
//
// Each invocation i iterates x <- a x + b on 4 CHAINS independent numbers, 16 steps a round, and writes their sum:
//   out[i] = sum over chain c and component e of the p.rounds * 16 -th iterate from x0 = (i mod 64) / 64 + c + e / 4 + salt.
// a and b come at run time, so nothing can be folded. With |a| < 1 the result can be checked: an early stop shows, and the
// error stays below 2 u M / (1 - |a|) a number, M = |x0| + 2 |b|, u = 2^-23 (one product and one sum a step; bench/roofs.rs).
// Rate: 2 FLOP a number and step. CHAINS is the number of vec4 chains; the host takes the fastest of several.
// SALT / 2^30 is added to x0: a number never used before makes a kernel that no driver's cache has seen.
//
// Buffers: out [64 * workgroups] (f32). Geometry: workgroup (64,1,1), one number of out an invocation, exact grid.
// Races: an invocation writes its own element.

struct Params {
    grid: vec4<u32>,
    a: f32, b: f32, rounds: u32, pad: u32,
}
@group(0) @binding(0) var<storage, read_write> out: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let start = f32(lane.x) * 0.015625 + f32(${SALT}u) * 9.313225746154785e-10;
    let a = vec4<f32>(p.a);
    let b = vec4<f32>(p.b);
#unroll c 0 ${CHAINS}
    var x_${c} = vec4<f32>(start) + vec4<f32>(${c}.0, ${c}.25, ${c}.5, ${c}.75);
#endunroll
    for (var round = 0u; round < p.rounds; round++) {
#unroll step 0 16
        // step ${step}
#unroll c 0 ${CHAINS}
        x_${c} = fma(a, x_${c}, b);
#endunroll
#endunroll
    }
    var sum = vec4<f32>(0.0);
#unroll c 0 ${CHAINS}
    sum += x_${c};
#endunroll
    out[(group.x + p.grid.x) * 64u + lane.x] = sum.x + sum.y + sum.z + sum.w;
}
