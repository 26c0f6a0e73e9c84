// Sum or product of two tensors of int8 codes, element by element, exactly as TFLite's reference computes it, with x = a - zero_a, y = b - zero_b:
//   ADD:      code = clamp(zero + rescaled_out(rescaled_a(x 2^20) + rescaled_b(y 2^20)));
//   MULTIPLY: code = clamp(zero + rescaled_out(x y)).
//
// Buffers: a, b and destination, words of 4 codes, low bits first: destination [samples, places, quads]; an operand may have one place for all
//   (its step from place to place is 0) and may be shared by all samples (step 0).
// Precision: exact, for any batch. Undefined: codes behind the channels.
// Geometry: workgroup (64,1,1), grid-stride over words of the destination.
// Races: every word has one invocation. Bounds: guarded by p.words.

#import "lib/divide"
#import "lib/requantise"

struct Params {
    grid: vec4<u32>,
    words: u32, threads: u32, places: u32, quads: u32,
    sample_a: u32, place_a: u32, sample_b: u32, place_b: u32,
    zero_a: i32, zero_b: i32, zero: i32, low: i32,
    high: i32, multiplier_a: u32, left_a: u32, right_a: u32,
    multiplier_b: u32, left_b: u32, right_b: u32, multiplier: u32,
    left: u32, right: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> a: array<u32>;
@group(0) @binding(1) var<storage, read_write> b: array<u32>;
@group(0) @binding(2) var<storage, read_write> destination: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

fn scaled(x: vec4<i32>, multiplier: u32, left: u32, right: u32) -> vec4<i32> {
    return rescaled(x, vec4<u32>(multiplier), vec4<u32>(left), vec4<u32>(right));
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var n = (group.x + p.grid.x) * 64u + lane.x; n < p.words; n += p.threads) {
        let place = divided(n, p.quads);
        let sample = divided(place.x, p.places);
        let x = unpack4xI8(a[sample.x * p.sample_a + sample.y * p.place_a + place.y]) - vec4<i32>(p.zero_a);
        let y = unpack4xI8(b[sample.x * p.sample_b + sample.y * p.place_b + place.y]) - vec4<i32>(p.zero_b);
#ifdef MULTIPLY
        let sum = x * y;
#else
        let sum = scaled(x << vec4<u32>(20u), p.multiplier_a, p.left_a, p.right_a)
            + scaled(y << vec4<u32>(20u), p.multiplier_b, p.left_b, p.right_b);
#endif
        let code = scaled(sum, p.multiplier, p.left, p.right) + vec4<i32>(p.zero);
        destination[n] = pack4xI8(clamp(code, vec4<i32>(p.low), vec4<i32>(p.high)));
    }
}
