// One step of an optimiser over whole tables [slots, P], a slot's coefficients in [slots, 16]; w parameters, g gradient, s
//   and t state: SGD      d = f g + l2 w                                                     w = decay w - rate d
//   SGD ONE  d = f g + l2 w;  s = keep1 s + add1 d                              w = decay w - rate (a s + b d)
//   ADAM     d = f g + l2 w;  s = keep1 s + add1 d;  t = keep2 t + add2 d^2     w = decay w - rate s / (root sqrt(t) + eps)
//   RMS      d = f g + l2 w;  s = keep2 s + add2 d^2                            w = decay w - rate d / (sqrt(s) + eps)
//   RMS TWO  ...              t = keep1 t + d / (sqrt(s) + eps)                 w = decay w - rate t
// Kingma and Ba (ICLR 2015), Loshchilov and Hutter (ICLR 2019), Sutskever et al. (ICML 2013); the formulas of torch.optim.
// f is the factor of gradient clipping (CLIP: the first of [slots, 4] of gradient_clip), else 1. train/optimiser.rs says
//   what the sixteen are.
//
// Buffers (f32, vectors of four): w, g, s, t tables with strides of their own between slots (in vectors), from slot p.first
//   on; coefficients and factors of all slots, p.stride_c and p.stride_f vectors apart.
// A slot whose live coefficient is 0 is not written at all. Where fresh is 1 the state counts as 0, whatever it holds: a
//   slot is reset by that.
// Precision: one rounding an operation, the quotient 2.5 ulp, sqrt as WGSL's 1 / inverseSqrt; factors come from f64 on the
//   host.
// Undefined: NaN and infinity stay in their element. What lies between fields of a table is updated like everything else.
// Geometry: workgroup (64,1,1), grid-stride over a slot's vectors; y covers slots with stride p.slot_step.
// Races: an invocation reads and writes its own vectors. Bounds: guarded by p.quads and p.slots.
// Tried: nothing else; one pass over five tables is what memory allows.

struct Params {
    grid: vec4<u32>,
    quads: u32, threads: u32, slots: u32, slot_step: u32,
    stride_w: u32, stride_g: u32, stride_s: u32, stride_t: u32,
    stride_c: u32, stride_f: u32, first: u32, pad: u32,
}
@group(0) @binding(0) var<storage, read_write> w: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> g: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> coefficients: array<vec4<f32>>;
#ifdef ONE
@group(0) @binding(3) var<storage, read_write> state_s: array<vec4<f32>>;
#endif
#ifdef TWO
@group(0) @binding(4) var<storage, read_write> state_t: array<vec4<f32>>;
#endif
#ifdef CLIP
@group(0) @binding(${CLIP}) var<storage, read_write> factors: array<vec4<f32>>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var b = group.y + p.grid.y; b < p.slots; b += p.slot_step) {
        // live, rate, decay, l2 | keep1, add1, keep2, add2 | a, b, root, eps | limit, fresh, -, -
        let c = (p.first + b) * p.stride_c;
        let c0 = coefficients[c];
        let c1 = coefficients[c + 1u];
        let c2 = coefficients[c + 2u];
        let fresh = coefficients[c + 3u].y != 0.0;
        if (c0.x == 0.0) {
            continue;
        }
#ifdef CLIP
        let factor = factors[(p.first + b) * p.stride_f].x;
#endif
        for (var q = (group.x + p.grid.x) * 64u + lane.x; q < p.quads; q += p.threads) {
            let old = w[b * p.stride_w + q];
#ifdef CLIP
            let d = fma(vec4<f32>(c0.w), old, factor * g[b * p.stride_g + q]);
#else
            let d = fma(vec4<f32>(c0.w), old, g[b * p.stride_g + q]);
#endif
#ifdef ONE
            var s = select(state_s[b * p.stride_s + q], vec4<f32>(0.0), fresh);
#endif
#ifdef TWO
            var t = select(state_t[b * p.stride_t + q], vec4<f32>(0.0), fresh);
#endif
#ifdef SGD
#ifdef ONE
            s = fma(vec4<f32>(c1.x), s, c1.y * d);
            let u = fma(vec4<f32>(c2.x), s, c2.y * d);
#else
            let u = d;
#endif
#endif
#ifdef ADAM
            s = fma(vec4<f32>(c1.x), s, c1.y * d);
            t = fma(vec4<f32>(c1.z), t, c1.w * (d * d));
            let u = s / fma(vec4<f32>(c2.z), sqrt(t), vec4<f32>(c2.w));
#endif
#ifdef RMS
            s = fma(vec4<f32>(c1.z), s, c1.w * (d * d));
            let scaled = d / (sqrt(s) + c2.w);
#ifdef TWO
            t = fma(vec4<f32>(c1.x), t, scaled);
            let u = t;
#else
            let u = scaled;
#endif
#endif
#ifdef ONE
            state_s[b * p.stride_s + q] = s;
#endif
#ifdef TWO
            state_t[b * p.stride_t + q] = t;
#endif
            w[b * p.stride_w + q] = fma(vec4<f32>(-c0.y), u, c0.z * old);
        }
    }
}
