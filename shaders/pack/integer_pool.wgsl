// Pools of int8 codes, exactly as TFLite's reference computes them, over what of a window lies inside of the map:
//   MAX: the largest code; AVERAGE: (sum + n / 2) / n for a positive sum, else (sum - n / 2) / n, in C's division;
//   MEAN: zero + rescaled(sum - n in_zero); all cut to low..=high.
//
// Buffers: source [samples, in_h, in_w, quads] and destination [samples, out_h, out_w, quads], words of 4 codes, low bits first.
// Precision: exact, for any batch. Undefined: codes behind the channels.
// Geometry: workgroup (64,1,1), grid-stride over words of the destination.
// Races: every word has one invocation. Bounds: guarded by p.words; a window is cut to the map and never empty.

#import "lib/divide"
#import "lib/requantise"

struct Params {
    grid: vec4<u32>,
    words: u32, threads: u32, out_h: u32, out_w: u32,
    in_h: u32, in_w: u32, quads: u32, pad0: u32,
    filter_h: u32, filter_w: u32, stride_y: u32, stride_x: u32,
    pad_y: u32, pad_x: u32, in_zero: i32, zero: i32,
    low: i32, high: i32, multiplier: u32, left: u32,
    right: u32, pad1: u32, pad2: u32, pad3: u32,
}
@group(0) @binding(0) var<storage, read_write> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> destination: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var n = (group.x + p.grid.x) * 64u + lane.x; n < p.words; n += p.threads) {
        let place = divided(n, p.quads);
        let row = divided(place.x, p.out_w);
        let sample = divided(row.x, p.out_h);
        let y0 = i32(sample.y * p.stride_y) - i32(p.pad_y);
        let x0 = i32(row.y * p.stride_x) - i32(p.pad_x);
        let y1 = min(y0 + i32(p.filter_h), i32(p.in_h));
        let x1 = min(x0 + i32(p.filter_w), i32(p.in_w));
#ifdef MAX
        var found = vec4<i32>(-128);
#else
        var found = vec4<i32>(0);
#endif
        for (var y = max(y0, 0); y < y1; y++) {
            for (var x = max(x0, 0); x < x1; x++) {
                let v = unpack4xI8(source[((sample.x * p.in_h + u32(y)) * p.in_w + u32(x)) * p.quads + place.y]);
#ifdef MAX
                found = max(found, v);
#else
                found += v;
#endif
            }
        }
        let count = vec4<i32>((y1 - max(y0, 0)) * (x1 - max(x0, 0)));
#ifdef MAX
        let code = found;
#else
#ifdef MEAN
        let code = rescaled(found - count * p.in_zero, vec4<u32>(p.multiplier), vec4<u32>(p.left), vec4<u32>(p.right)) + vec4<i32>(p.zero);
#else
        let half = count / 2;
        let code = (found + select(-half, half, found > vec4<i32>(0))) / count;
#endif
#endif
        destination[n] = pack4xI8(clamp(code, vec4<i32>(p.low), vec4<i32>(p.high)));
    }
}
