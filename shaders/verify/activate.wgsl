// y = f(z + b), or the gradient on z from the gradient on y, for the values of a layer, one column a candidate of an attack.
//
// p.activation: 0 none, 1 ReLU, 2 logistic, 3 tanh. GRADIENT: g = g * f'(z), written with y = f(z): 1, y > 0, y (1 - y), 1 - y^2.
// Buffers (f32): y [n, p.ld] (in: z without its bias, out: y; with GRADIENT only read), bias [n] or gradient [n, p.ld].
// Precision: none claimed: whatever an attack finds is replayed in f64 before anyone sees it.
// Geometry: workgroup (64,1,1), grid-stride over n * ld. Races: own elements.

struct Params {
    grid: vec4<u32>,
    len: u32, threads: u32, ld: u32, activation: u32,
}
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> other: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

fn f(z: f32) -> f32 {
    switch (p.activation) {
        case 1u: { return max(z, 0.0); }
        case 2u: { return 1.0 / (1.0 + exp(-clamp(z, -60.0, 60.0))); }
        case 3u: { return tanh(clamp(z, -20.0, 20.0)); }
        default: { return z; }
    }
}

fn slope(y: f32) -> f32 {
    switch (p.activation) {
        case 1u: { return select(0.0, 1.0, y > 0.0); }
        case 2u: { return y * (1.0 - y); }
        case 3u: { return 1.0 - y * y; }
        default: { return 1.0; }
    }
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.len; i += p.threads) {
#ifdef GRADIENT
        other[i] *= slope(y[i]);
#else
        y[i] = f(y[i] + other[i / p.ld]);
#endif
    }
}
