// For every four consecutive values of a unit (a position's channels, or a row): the width of the largest, and how many are not zero. What
//   all group sizes from 4 up are made of (group_sums), so that a tensor is read once, however many schemes there are.
//     quad = width | non-zeros << 5,   width = max of bit_length(v < 0 ? ~v : v) + sign over v != 0 (0 if there is none);
//   for FLOATS width = raw + max of bit_length(code(exponent field)), code(0) = 0, code(e) = top + 1 - e.
//   The length of the largest is that of all magnitudes joined by or.
//
// Buffers (u32): data, 4 bytes or (HALVES, FLOATS) 2 halves a word, zeros for 32 bytes behind the last value; ALIGNED (units are whole
//   quads) as vectors of four. quads [items]: 4 quads a word, the first in the low bits, units of p.quads_per_unit each, end to end; words
//   behind the last quad are not written, bytes behind it are 0.
// Precision: exact. Undefined: nothing; infinity and NaN are exponent fields like others.
// Geometry: workgroup (64,1,1), grid-stride over words of quads. Races: an invocation writes its own words.
// Bounds: p.items = ceil(quads / 4) words written, and at most 32 bytes read behind the last value.
// Tried: a word a quad; the passes behind it then read four times as much.

struct Params {
    grid: vec4<u32>,
    items: u32, threads: u32, quads: u32, unit: u32,
    quads_per_unit: u32, sign: u32, mantissa: u32, raw: u32,
    top: u32, pad0: u32, pad1: u32, pad2: u32,
}
#ifdef ALIGNED
@group(0) @binding(0) var<storage, read_write> data: array<vec4<u32>>;
#else
@group(0) @binding(0) var<storage, read_write> data: array<u32>;
#endif
@group(0) @binding(1) var<storage, read_write> quads: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

// Four quads, each of the values in one word of v (bytes), or of the same component of a and b (halves).
#ifdef HALVES
fn four(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    let on_a = ((((a & vec4<u32>(0x7fff7fffu)) + 0x7fff7fffu) | a) >> vec4<u32>(15u)) & vec4<u32>(0x10001u);
    let on_b = ((((b & vec4<u32>(0x7fff7fffu)) + 0x7fff7fffu) | b) >> vec4<u32>(15u)) & vec4<u32>(0x10001u);
    let both = on_a + on_b;
    let count = (both + (both >> vec4<u32>(16u))) & vec4<u32>(0xffffu);
#ifdef FLOATS
    let field = vec4<u32>(0x7fffu >> p.mantissa);
    let shift = vec4<u32>(p.mantissa);
    let high = vec4<u32>(p.mantissa + 16u);
    let one = code((a >> shift) & field) | code((a >> high) & field) | code((b >> shift) & field) | code((b >> high) & field);
    let width = 32u - countLeadingZeros(one) + p.raw;
#else
    let flip_a = ((a >> vec4<u32>(15u)) & vec4<u32>(0x10001u * p.sign)) * 0xffffu;
    let flip_b = ((b >> vec4<u32>(15u)) & vec4<u32>(0x10001u * p.sign)) * 0xffffu;
    let one = (a ^ flip_a) | (b ^ flip_b);
    let width = 32u - countLeadingZeros((one | (one >> vec4<u32>(16u))) & vec4<u32>(0xffffu)) + p.sign;
#endif
    return select(width | (count << vec4<u32>(5u)), vec4<u32>(0u), count == vec4<u32>(0u));
}

fn code(field: vec4<u32>) -> vec4<u32> {
    return select(p.top + 1u - field, vec4<u32>(0u), field == vec4<u32>(0u));
}
#else
fn four(v: vec4<u32>) -> vec4<u32> {
    let on = ((((v & vec4<u32>(0x7f7f7f7fu)) + 0x7f7f7f7fu) | v) >> vec4<u32>(7u)) & vec4<u32>(0x01010101u);
    let count = (on * 0x01010101u) >> vec4<u32>(24u);
    let one = v ^ (((v >> vec4<u32>(7u)) & vec4<u32>(0x01010101u * p.sign)) * 0xffu);
    let two = one | (one >> vec4<u32>(16u));
    let width = 32u - countLeadingZeros((two | (two >> vec4<u32>(8u))) & vec4<u32>(0xffu)) + p.sign;
    return select(width | (count << vec4<u32>(5u)), vec4<u32>(0u), count == vec4<u32>(0u));
}
#endif

fn joined(q: vec4<u32>) -> u32 {
    return q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u);
}

#ifdef ALIGNED
fn word(i: u32) -> u32 {
#ifdef HALVES
    let v = data[2u * i];
    let w = data[2u * i + 1u];
    return joined(four(vec4<u32>(v.x, v.z, w.x, w.z), vec4<u32>(v.y, v.w, w.y, w.w)));
#else
    return joined(four(data[i]));
#endif
}
#else
// Values from `first` on, `count` of four, the others 0, in one word (bytes) or two.
#ifdef HALVES
fn some(first: u32, count: u32) -> vec2<u32> {
    let at = first >> 1u;
    let odd = (first & 1u) == 1u;
    let a = select(data[at], (data[at] >> 16u) | (data[at + 1u] << 16u), odd);
    let b = select(data[at + 1u], (data[at + 1u] >> 16u) | (data[at + 2u] << 16u), odd);
    let low = select(select(0u, 0xffffu, count > 0u), 0xffffffffu, count > 1u);
    let high = select(select(0u, 0xffffu, count > 2u), 0xffffffffu, count > 3u);
    return vec2<u32>(a & low, b & high);
}
#else
fn some(first: u32, count: u32) -> u32 {
    let at = first >> 2u;
    let shift = (first & 3u) * 8u;
    let v = select((data[at] >> shift) | (data[at + 1u] << ((32u - shift) & 31u)), data[at], shift == 0u);
    return v & select(0u, 0xffffffffu >> ((32u - 8u * count) & 31u), count > 0u);
}
#endif

fn word(i: u32) -> u32 {
    var unit = (4u * i) / p.quads_per_unit;
    var j = 4u * i - unit * p.quads_per_unit;
#ifdef HALVES
    var a = vec4<u32>(0u);
    var b = vec4<u32>(0u);
#else
    var v = vec4<u32>(0u);
#endif
#unroll k 0 4
    let inside_${k} = 4u * i + ${k}u < p.quads;
    let count_${k} = select(0u, min(4u, p.unit - 4u * j), inside_${k});
    let first_${k} = select(0u, unit * p.unit + 4u * j, inside_${k});
#ifdef HALVES
    let two_${k} = some(first_${k}, count_${k});
    a[${k}] = two_${k}.x;
    b[${k}] = two_${k}.y;
#else
    v[${k}] = some(first_${k}, count_${k});
#endif
    let last_${k} = j + 1u == p.quads_per_unit;
    unit += u32(last_${k});
    j = select(j + 1u, 0u, last_${k});
#endunroll
#ifdef HALVES
    return joined(four(a, b));
#else
    return joined(four(v));
#endif
}
#endif

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var i = (group.x + p.grid.x) * 64u + lane.x; i < p.items; i += p.threads) {
        quads[i] = word(i);
    }
}
