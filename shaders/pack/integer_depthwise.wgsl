// Depthwise convolution of int8 codes with one filter a channel, exactly as TFLite's reference computes it:
//   sum[c] = bias'[c] + sum over taps t of w[t, c] x[t, c], modulo 2^32, code[c] = clamp(zero + rescaled(sum[c])); as in integer_conv.wgsl x is the
//   zero point outside of the map and bias' makes up for it.
//
// Buffers: source [samples, in_h, in_w, quads], destination [samples, out_h, out_w, quads] and weights [quads, filter_h, filter_w], words of 4
//   codes, low bits first; filters [quads, 4] of vec4: bias', multiplier, shift to the left, to the right of 4 channels.
// Precision: exact, for any batch. Undefined: codes behind the channels.
// Geometry: workgroup (64,1,1); an invocation computes 4 channels at 4 places 64 apart. Places along x, quads of channels along y; places advance
//   by p.step groups.
// Races: every word of the destination has one invocation. Bounds: places are cut to the last one, whose repetitions are not stored; taps outside
//   of the map read word 0, which is not used; y covers quads exactly.

#import "lib/divide"
#import "lib/requantise"

struct Params {
    grid: vec4<u32>,
    places: u32, step: u32, out_h: u32, out_w: u32,
    in_h: u32, in_w: u32, in_words: u32, quads: u32,
    filter_h: u32, filter_w: u32, stride_y: u32, stride_x: u32,
    pad_y: u32, pad_x: u32, dilation_y: u32, dilation_x: u32,
    outside: u32, zero: i32, low: i32, high: i32,
    table: u32, filters: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> weights: array<u32>;
@group(0) @binding(2) var<storage, read_write> filters: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> destination: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

// Sample, row and column of a place.
fn place_of(place: u32) -> vec3<u32> {
    let row = divided(min(place, p.places - 1u), p.out_w);
    let sample = divided(row.x, p.out_h);
    return vec3<u32>(sample.x, sample.y, row.y);
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let quad = group.y + p.grid.y;
    for (var tile = (group.x + p.grid.x) * 256u; tile < p.places; tile += p.step * 256u) {
        let bias = bitcast<vec4<i32>>(filters[quad * 4u]);
#unroll i 0 4
        let n${i} = tile + lane.x + ${i}u * 64u;
        let place${i} = place_of(n${i});
        var sum${i} = bias;
#endunroll
        var next = quad * p.filter_h * p.filter_w;
        for (var i = 0u; i < p.filter_h; i++) {
            for (var j = 0u; j < p.filter_w; j++) {
                let w = unpack4xI8(weights[next]);
                next++;
#unroll i 0 4
                let y${i} = place${i}.y * p.stride_y + i * p.dilation_y - p.pad_y;
                let x${i} = place${i}.z * p.stride_x + j * p.dilation_x - p.pad_x;
                let inside${i} = y${i} < p.in_h && x${i} < p.in_w;
                let at${i} = ((place${i}.x * p.in_h + y${i}) * p.in_w + x${i}) * p.quads + quad;
                sum${i} += w * unpack4xI8(select(p.outside, source[select(0u, at${i}, inside${i})], inside${i}));
#endunroll
            }
        }
        let multiplier = filters[quad * 4u + 1u];
        let left = filters[quad * 4u + 2u];
        let right = filters[quad * 4u + 3u];
#unroll i 0 4
        if (n${i} < p.places) {
            let code = rescaled(sum${i}, multiplier, left, right) + vec4<i32>(p.zero);
            destination[n${i} * p.quads + quad] = pack4xI8(clamp(code, vec4<i32>(p.low), vec4<i32>(p.high)));
        }
#endunroll
    }
}
