// Codes moved from one tensor to another, byte by byte.
//   JOIN: the source stands at (at_y, at_x, at_c) of the destination, codes outside of it are left as they are, or become p.fill's if FILL.
//   Else: the same codes in the same order in places of another number of channels.
//
// Buffers: source [samples, in_h, in_w, in_words] and destination [samples, out_h, out_w, quads], words of 4 codes, low bits first; in_c
//   and out_c channels a place.
// Precision: exact. Undefined: codes behind the channels.
// Geometry: workgroup (64,1,1), grid-stride over words of the destination.
// Races: every word has one invocation, which reads it before it writes it. Bounds: guarded by p.words; codes behind the channels read the
//   sample's first word; other indices lie inside by the shapes that the host has checked.

#import "lib/divide"

struct Params {
    grid: vec4<u32>,
    words: u32, threads: u32, out_h: u32, out_w: u32,
    in_h: u32, in_w: u32, in_c: u32, out_c: u32,
    in_words: u32, quads: u32, at_y: u32, at_x: u32,
    at_c: u32, fill: u32, pad0: u32, pad1: u32,
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
        let base = sample.x * p.in_h * p.in_w * p.in_words;
#ifdef FILL
        var found = p.fill;
#else
        var found = destination[n];
#endif
#unroll i 0 4
        let c${i} = place.y * 4u + ${i}u;
#ifdef JOIN
        // In front of the part these wrap to large numbers.
        let y${i} = sample.y - p.at_y;
        let x${i} = row.y - p.at_x;
        let from${i} = c${i} - p.at_c;
        let inside${i} = y${i} < p.in_h && x${i} < p.in_w && from${i} < p.in_c && c${i} < p.out_c;
        let at${i} = y${i} * p.in_w + x${i};
#else
        let flat${i} = divided((sample.y * p.out_w + row.y) * p.out_c + c${i}, p.in_c);
        let at${i} = flat${i}.x;
        let from${i} = flat${i}.y;
        let inside${i} = c${i} < p.out_c;
#endif
        if (inside${i}) {
            let code = (source[base + at${i} * p.in_words + from${i} / 4u] >> (8u * (from${i} & 3u))) & 255u;
            found = (found & ~(255u << (8u * ${i}u))) | (code << (8u * ${i}u));
        }
#endunroll
        destination[n] = found;
    }
}
