// Convolution of int8 codes, exactly as TFLite's reference computes it; a dense layer is one whose window is a place or the whole map.
//   sum[f] = bias'[f] + sum over taps t, channels c of w[f, t, c] x[t, c], modulo 2^32, where x is the input's zero point outside of the map and
//   bias' = bias - zero point * (sum of the filter's weights): the reference's sum of w (x - zero point) with padding left out.
//   Fixed point: code = clamp(zero + rescaled(sum)) (lib/requantise). THRESHOLDS: code by comparing the sum with a table of the rule's steps.
//
// Buffers: source [samples, in_h, in_w, in_words] and target [samples, out_h, out_w, quads], words of 4 codes, low bits first; weights
//   [quads, filter_h, filter_w, in_words] of vec4: a word of 4 channels for each of 4 filters, 0 behind the channels and filters; filters
//   [quads, 4] of vec4: bias', multiplier, shift to the left, to the right of 4 filters. bounds [filters or 1, 256] (THRESHOLDS): the smallest
//   code, and the largest sums whose codes are less than -127, -126, .. 127; p.table from one filter's to the next, 0 if all share it.
// Precision: exact, for any batch, tile and variant. Undefined: codes behind the channels, in source and target.
// Geometry: workgroup (64,1,1). An invocation computes 4 filters at 4 places. Plain: places along x, 64 apart, filters along y; a workgroup's
//   weights are the same load for all. ACROSS (few places): filters along x, 4 neighbouring places along y.
//   Places advance by p.step groups, so that any number of them fits a grid.
// Races: every word of target has one invocation. Bounds: places and quads are cut to the last one, whose repetitions are not stored; taps
//   outside of the map read word 0, which is not used. The table's search ends at entry 255.
// Tried: nothing else yet; 4 by 4 because a load of weights then serves 16 products of four.

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
@group(0) @binding(1) var<storage, read_write> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> filters: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> destination: array<u32>;
#ifdef THRESHOLDS
@group(0) @binding(4) var<storage, read_write> bounds: array<i32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

// Sample, row and column of a place.
fn place_of(place: u32) -> vec3<u32> {
    let row = divided(min(place, p.places - 1u), p.out_w);
    let sample = divided(row.x, p.out_h);
    return vec3<u32>(sample.x, sample.y, row.y);
}

#ifdef THRESHOLDS
fn searched(filter_index: u32, sum: i32) -> i32 {
    let base = min(filter_index, p.filters - 1u) * p.table;
    var at = 0u;
    for (var step = 128u; step > 0u; step >>= 1u) {
        at += select(0u, step, sum > bounds[base + at + step]);
    }
    return max(bounds[base], i32(at) - 128);
}
#endif

fn coded(quad: u32, sum: vec4<i32>) -> u32 {
    let f = quad * 4u;
#ifdef THRESHOLDS
    return pack4xI8(vec4<i32>(searched(f, sum.x), searched(f + 1u, sum.y), searched(f + 2u, sum.z), searched(f + 3u, sum.w)));
#else
    let code = rescaled(sum, filters[f + 1u], filters[f + 2u], filters[f + 3u]) + vec4<i32>(p.zero);
    return pack4xI8(clamp(code, vec4<i32>(p.low), vec4<i32>(p.high)));
#endif
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
#ifdef ACROSS
    let wanted = (group.x + p.grid.x) * 64u + lane.x;
    let quad = min(wanted, p.quads - 1u);
    for (var tile = (group.y + p.grid.y) * 4u; tile < p.places; tile += p.step * 4u) {
#unroll i 0 4
        let n${i} = tile + ${i}u;
#endunroll
#else
    let quad = group.y + p.grid.y;
    let wanted = quad;
    for (var tile = (group.x + p.grid.x) * 256u; tile < p.places; tile += p.step * 256u) {
#unroll i 0 4
        let n${i} = tile + lane.x + ${i}u * 64u;
#endunroll
#endif
        let bias = bitcast<vec4<i32>>(filters[quad * 4u]);
#unroll i 0 4
        let place${i} = place_of(n${i});
        var sum${i} = bias;
#endunroll
        var next = quad * p.filter_h * p.filter_w * p.in_words;
        for (var i = 0u; i < p.filter_h; i++) {
            for (var j = 0u; j < p.filter_w; j++) {
#unroll i 0 4
                // Above and on the left of the map these wrap to large numbers.
                let y${i} = place${i}.y * p.stride_y + i * p.dilation_y - p.pad_y;
                let x${i} = place${i}.z * p.stride_x + j * p.dilation_x - p.pad_x;
                let inside${i} = y${i} < p.in_h && x${i} < p.in_w;
                let base${i} = ((place${i}.x * p.in_h + y${i}) * p.in_w + x${i}) * p.in_words;
#endunroll
                for (var k = 0u; k < p.in_words; k++) {
                    let w = weights[next + k];
#unroll i 0 4
                    let v${i} = select(p.outside, source[select(0u, base${i} + k, inside${i})], inside${i});
                    sum${i} += vec4<i32>(dot4I8Packed(v${i}, w.x), dot4I8Packed(v${i}, w.y), dot4I8Packed(v${i}, w.z), dot4I8Packed(v${i}, w.w));
#endunroll
                }
                next += p.in_words;
            }
        }
#unroll i 0 4
        if (n${i} < p.places && wanted < p.quads) {
            destination[n${i} * p.quads + quad] = coded(quad, sum${i});
        }
#endunroll
    }
}
