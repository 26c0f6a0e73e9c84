// out[b, n, y, x, c] = scale[c] v + shift[c] (+ noise N(0, 1)), v = image ids[b, n] at (y + oy - padding, x' + ox - padding, c),
//   or 0 outside of it; x' = x, or the mirrored x where the sample is flipped. Zeros where ids[b, n] is no image.
//
// Buffers: table [p.rows, height * width * channels] (f32, or with BYTES u8, four in a word, the first in the lowest byte),
//   rows p.pitch words apart; ids [slots or 1, samples] (u32); out [slots, samples, out_height, out_width, channels] (f32,
//   by vectors of four, p.places channel places a pixel), with FLAT [slots, samples, out_height * out_width * channels];
//   with AUGMENT or NOISE streams [slots, 4] (u32: key low, key high, step, live). scale and shift are of one channel each,
//   for more than four channels the same four times.
// With AUGMENT the offsets are uniform over all places of the crop in the padded image, and p.flip flips half of the
//   samples: Philox4x32-10 at counter (n, 0, step, 4) gives oy, ox and the flip in its first three words. Without, the crop
//   is in the middle. NOISE: the vector q of a slot has the four normal numbers (Box and Muller) of counter (q, 0, step, 5).
//   Both depend on the member's key and step and the sample's place alone.
// Precision: choices exact; value one fma, byte values exact; noise by WGSL's log (2^-21 near 1) and cos (2^-11): not the
//   same on all devices.
// Undefined: NaN in a table stays in its elements; padding of pixels becomes anything.
// Geometry: workgroup (64,1,1) as p.across lanes along a sample times 64 / p.across samples, so that a sample's draw is made
//   once a lane and not once a pixel; x covers samples with stride p.sample_step, y slots with stride p.slot_step.
// Races: an invocation writes its own vectors. Bounds: ids and places in an image are clamped before they are used.
// Tried: integer division for the place of a pixel, slow on software devices; (q + 0.5) * (1 / n) is exact below 2^20 (the
//   host refuses more).

#import "lib/philox"

struct Params {
    grid: vec4<u32>,
    samples: u32, quads: u32, across: u32, sample_step: u32,
    slots: u32, slot_step: u32, stride_ids: u32, stride_out: u32,
    rows: u32, pitch: u32, height: u32, width: u32,
    channels: u32, out_height: u32, out_width: u32, places: u32,
    padding: u32, flip: u32, stride_streams: u32, elements: u32,
    middle_y: u32, middle_x: u32, per_row: f32, per_pixel: f32,
    scale: vec4<f32>,
    shift: vec4<f32>,
    noise: f32, pad0: u32, pad1: u32, pad2: u32,
}
#ifdef BYTES
@group(0) @binding(0) var<storage, read_write> table: array<u32>;
#else
@group(0) @binding(0) var<storage, read_write> table: array<f32>;
#endif
@group(0) @binding(1) var<storage, read_write> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
#ifdef STREAMS
@group(0) @binding(3) var<storage, read_write> streams: array<u32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

struct Place {
    oy: i32, ox: i32, mirror: bool, first: u32,
}

fn quotient(q: u32, per: f32) -> u32 {
    return u32((f32(q) + 0.5) * per);
}

fn of_channel(v: vec4<f32>, c: u32) -> f32 {
    let i = c % 4u;
    return select(select(v.x, v.y, i == 1u), select(v.z, v.w, i == 3u), i >= 2u);
}

fn value(place: Place, y: u32, x: u32, c: u32) -> f32 {
    let column = select(x, p.out_width - 1u - x, place.mirror);
    let sy = i32(y) + place.oy;
    let sx = i32(column) + place.ox;
    let inside = sy >= 0 && sy < i32(p.height) && sx >= 0 && sx < i32(p.width) && c < p.channels;
    let at = min((u32(max(sy, 0)) * p.width + u32(max(sx, 0))) * p.channels + c, p.elements - 1u);
#ifdef BYTES
    let v = f32((table[place.first + at / 4u] >> (at % 4u * 8u)) & 255u);
#else
    let v = table[place.first + at];
#endif
    return fma(select(0.0, v, inside), of_channel(p.scale, c), of_channel(p.shift, c));
}

#ifdef NOISE
fn normals(bits: vec4<u32>) -> vec4<f32> {
    let u = (vec4<f32>(bits >> vec4<u32>(8u)) + 0.5) * (1.0 / 16777216.0);
    let radius = sqrt(-2.0 * log(u.xz));
    let angle = 6.283185307 * (u.yw - 0.5);
    return vec4<f32>(radius.x * cos(angle.x), radius.x * sin(angle.x), radius.y * cos(angle.y), radius.y * sin(angle.y));
}
#endif

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let begin = (group.x + p.grid.x) * (64u / p.across) + lane.x / p.across;
    for (var b = group.y + p.grid.y; b < p.slots; b += p.slot_step) {
#ifdef STREAMS
        let stream = b * p.stride_streams;
        let key = vec2<u32>(streams[stream], streams[stream + 1u]);
        let step = streams[stream + 2u];
#endif
        for (var n = begin; n < p.samples; n += p.sample_step) {
            let id = ids[b * p.stride_ids + n];
            let known = id < p.rows;
            var place = Place(i32(p.middle_y), i32(p.middle_x), false, min(id, p.rows - 1u) * p.pitch);
#ifdef AUGMENT
            let draw = philox(vec4<u32>(n, 0u, step, 4u), key);
            place.oy = i32(mul_high(draw.x, p.height + 2u * p.padding - p.out_height + 1u));
            place.ox = i32(mul_high(draw.y, p.width + 2u * p.padding - p.out_width + 1u));
            place.mirror = p.flip != 0u && (draw.z >> 31u) != 0u;
#endif
            place.oy -= i32(p.padding);
            place.ox -= i32(p.padding);
            for (var q = lane.x % p.across; q < p.quads; q += p.across) {
                var v = vec4<f32>(0.0);
#ifdef FLAT
#unroll i 0 4
                let y_${i} = quotient(q * 4u + ${i}u, p.per_row);
                let in_row_${i} = q * 4u + ${i}u - y_${i} * p.out_width * p.places;
                let x_${i} = quotient(in_row_${i}, p.per_pixel);
                v[${i}] = value(place, y_${i}, x_${i}, in_row_${i} - x_${i} * p.places);
#endunroll
#else
                let y = quotient(q * 4u, p.per_row);
                let in_row = q * 4u - y * p.out_width * p.places;
                let x = quotient(in_row, p.per_pixel);
                let c = in_row - x * p.places;
#unroll i 0 ${LANES}
                v[${i}] = value(place, y, x, c + ${i}u);
#endunroll
#endif
#ifdef NOISE
                v = fma(vec4<f32>(p.noise), normals(philox(vec4<u32>(n * p.quads + q, 0u, step, 5u), key)), v);
#endif
                out[b * p.stride_out + n * p.quads + q] = select(vec4<f32>(0.0), v, known);
            }
        }
    }
}
