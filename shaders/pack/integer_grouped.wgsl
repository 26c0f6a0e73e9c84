// Convolution of int8 codes in groups of channels, depthwise ones with several filters a channel among them, exactly as TFLite's reference computes
//   it: filter f of group g = f / (filters a group) sees channels g depth .. (g + 1) depth;
//   sum[f] = bias[f] + sum over taps t inside of the map and d of w[f, t, d] (x[t, g depth + d] - in_zero), modulo 2^32,
//   code = clamp(zero + rescaled(sum)).
//
// Buffers: source [samples, in_h, in_w, in_words] and destination [samples, out_h, out_w, quads], words of 4 codes, low bits first; weights
//   [filters, filter_h, filter_w, depth], 4 a word without gaps; filters [quads, 4] of vec4: bias, multiplier, shift to the left, to the right of 4.
// Precision: exact, for any batch. Undefined: codes behind the channels.
// Geometry: workgroup (64,1,1); an invocation computes a word: 4 filters at a place. Places along x, quads along y; places advance by p.step groups.
// Races: every word of the destination has one invocation. Bounds: places are cut to the last one, filters too; taps outside of the map are left
//   out. Tried: nothing else; such layers are rare and small, so codes are taken one by one.

#import "lib/divide"
#import "lib/requantise"

struct Params {
    grid: vec4<u32>,
    places: u32, step: u32, out_h: u32, out_w: u32,
    in_h: u32, in_w: u32, in_words: u32, quads: u32,
    filter_h: u32, filter_w: u32, stride_y: u32, stride_x: u32,
    pad_y: u32, pad_x: u32, dilation_y: u32, dilation_x: u32,
    in_zero: i32, zero: i32, low: i32, high: i32,
    filters: u32, each: u32, depth: u32, pad0: u32,
}
@group(0) @binding(0) var<storage, read_write> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> weights: array<u32>;
@group(0) @binding(2) var<storage, read_write> filters: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> destination: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

// Code `index` of a word's four, sign-extended.
fn code_of(word: u32, index: u32) -> i32 {
    return bitcast<i32>(word << (24u - (index & 3u) * 8u)) >> 24u;
}

// The sum of one filter without bias; base is the sample's first word.
fn summed(filter_index: u32, base: u32, y0: u32, x0: u32) -> i32 {
    let f = min(filter_index, p.filters - 1u);
    let first = f / p.each * p.depth;
    var sum = 0;
    for (var i = 0u; i < p.filter_h; i++) {
        for (var j = 0u; j < p.filter_w; j++) {
            // Above and on the left of the map these wrap to large numbers.
            let y = y0 + i * p.dilation_y;
            let x = x0 + j * p.dilation_x;
            if (y < p.in_h && x < p.in_w) {
                let at = base + (y * p.in_w + x) * p.in_words;
                let tap = ((f * p.filter_h + i) * p.filter_w + j) * p.depth;
                for (var d = 0u; d < p.depth; d++) {
                    let c = first + d;
                    let v = code_of(source[at + c / 4u], c) - p.in_zero;
                    sum += code_of(weights[(tap + d) / 4u], tap + d) * v;
                }
            }
        }
    }
    return sum;
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let quad = group.y + p.grid.y;
    let f = quad * 4u;
    for (var tile = (group.x + p.grid.x) * 64u; tile < p.places; tile += p.step * 64u) {
        let n = tile + lane.x;
        let row = divided(min(n, p.places - 1u), p.out_w);
        let sample = divided(row.x, p.out_h);
        let base = sample.x * p.in_h * p.in_w * p.in_words;
        let y0 = sample.y * p.stride_y - p.pad_y;
        let x0 = row.y * p.stride_x - p.pad_x;
        let sum = vec4<i32>(
            summed(f, base, y0, x0), summed(f + 1u, base, y0, x0), summed(f + 2u, base, y0, x0), summed(f + 3u, base, y0, x0));
        let code = rescaled(bitcast<vec4<i32>>(filters[f]) + sum, filters[f + 1u], filters[f + 2u], filters[f + 3u]);
        if (n < p.places) {
            destination[n * p.quads + quad] = pack4xI8(clamp(code + vec4<i32>(p.zero), vec4<i32>(p.low), vec4<i32>(p.high)));
        }
    }
}
