// keys[t, r] = the codes of functions (p.first_table + t) * K .. + K of row r, joined, the first code in the highest bits.
//   DWTA (Chen, Shrivastava: Densified winner take all (DWTA) hashing for sparse datasets. UAI 2018): a code is the place (0 to 7) of
//     the largest of the eight elements of a bin, the lowest place among equals; zeros (and what is smaller than every normal
//     number) are not looked at; a bin of nothing but zeros takes the code of another, which a universal hash names, of up to
//     PROBES in a row; if all those are empty too, its code is 0.
//   SIMHASH: a code is 1 where the sum of a third of the elements with random signs is above 0. Elements are taken as integers of 21
//     bits under the largest exponent of their row, which no sum of up to 339 overflows.
//
// Buffers: rows [rows of the window, p.stride_x vectors] (bits of f32); functions [all codes, p.quads] (two elements a word; SIMHASH: twice
//   the element and a bit for minus); keys [p.tables, n], tables p.stride_keys apart (vectors of four; LISTED: words);
//   LISTED  list: rows to hash as hash::Touched has them. Else rows p.first .. p.first + p.rows, four from a multiple of four on.
//   DRIFT   counts: nothing is written to keys; codes that differ from those there are added to counts[0], keys to counts[1], for
//     each p.every-th four rows.
// Precision: integers only, so all devices and the host have the same bits. What is not finite has some key, the same everywhere.
// Undefined: with neither LISTED nor DRIFT, up to three keys of padding behind a table's last row get the key of that row.
// Geometry: workgroup (LANES,1,1) has four rows in workgroup memory, one a component, and a lane a table at a time; x and y cover
//   fours of rows, p.across in x.
// Bounds: rows are clamped to the window; elements in functions are below ROOM = hash::width(hidden) <= 1020.
// Tried: a loop of probes inside of one of codes: 1.6 times as long on lavapipe, where its body runs once for nothing.
// Races: a barrier between staging and reading; every key has one writer. counts: adds of integers, whose order is free.

struct Params {
    grid: vec4<u32>,
    rows: u32, first: u32, stride_x: u32, hidden: u32,
    tables: u32, first_table: u32, stride_keys: u32, fours: u32,
    across: u32, every: u32, codes: u32, quads: u32,
    all: u32, factor: u32, summand: u32, pad: u32,
}
@group(0) @binding(0) var<storage, read_write> rows: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> functions: array<vec4<u32>>;
#ifdef LISTED
@group(0) @binding(2) var<storage, read_write> keys: array<u32>;
@group(0) @binding(3) var<storage, read_write> list: array<u32>;
#else
@group(0) @binding(2) var<storage, read_write> keys: array<vec4<u32>>;
#ifdef DRIFT
@group(0) @binding(3) var<storage, read_write> counts: array<atomic<u32>>;
#endif
#endif
@group(1) @binding(0) var<uniform> p: Params;

#import "lib/philox"

const LANES = ${LANES}u;
const PROBES = ${PROBES}u;
var<workgroup> x: array<vec4<u32>, ${ROOM}>;

#ifdef SIMHASH
var<workgroup> top: array<atomic<u32>, 4>;

// Bits of floats as integers under the largest exponent.
fn fixed(b: vec4<u32>, largest: vec4<u32>) -> vec4<u32> {
    let exponent = (b >> vec4<u32>(23u)) & vec4<u32>(255u);
    let size = (((b & vec4<u32>(0x7fffffu)) | vec4<u32>(0x800000u)) >> vec4<u32>(3u)) >> min(largest - exponent, vec4<u32>(31u));
    let normal = select(vec4<u32>(0u), size, exponent > vec4<u32>(0u));
    return select(normal, vec4<u32>(0u) - normal, b >= vec4<u32>(0x80000000u));
}

fn code_at(code: u32) -> vec4<u32> {
    var s = vec4<i32>(0);
    for (var q = 0u; q < p.quads; q++) {
        let f = functions[code * p.quads + q];
#unroll j 0 4
        let a_${j} = bitcast<vec4<i32>>(x[(f[${j}] & 0xffffu) >> 1u]);
        s += select(a_${j}, -a_${j}, (f[${j}] & 1u) == 1u);
        let b_${j} = bitcast<vec4<i32>>(x[f[${j}] >> 17u]);
        s += select(b_${j}, -b_${j}, (f[${j}] & 0x10000u) != 0u);
#endunroll
    }
    return select(vec4<u32>(0u), vec4<u32>(1u), s > vec4<i32>(0));
}

fn key_at(first: u32) -> vec4<u32> {
    var key = vec4<u32>(0u);
    for (var k = 0u; k < p.codes; k++) {
        key = (key << vec4<u32>(1u)) | code_at(first + k);
    }
    return key;
}

fn differing(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    return countOneBits(a ^ b);
}
#else
// Bits of floats as integers in the same order, all above 0 but zeros.
fn ordered(b: vec4<u32>) -> vec4<u32> {
    let positive = select(~b, b | vec4<u32>(0x80000000u), b < vec4<u32>(0x80000000u));
    return select(vec4<u32>(0u), positive, (b & vec4<u32>(0x7fffffffu)) >= vec4<u32>(0x800000u));
}

// The place of the largest element, or 8 where all are zeros.
fn winner(bin: u32) -> vec4<u32> {
    let f = functions[bin];
    var best = vec4<u32>(0u);
    var place = vec4<u32>(8u);
#unroll j 0 4
    let a_${j} = x[f[${j}] & 0xffffu];
    place = select(place, vec4<u32>(2u * ${j}u), a_${j} > best);
    best = max(best, a_${j});
    let b_${j} = x[f[${j}] >> 16u];
    place = select(place, vec4<u32>(2u * ${j}u + 1u), b_${j} > best);
    best = max(best, b_${j});
#endunroll
    return place;
}

const BITS = 3u;

// The key of codes first .. first + p.codes. One loop over codes and probes, because a software device runs both sides of a branch: a loop of
// probes inside of one of codes asks another bin even where none is empty.
fn key_at(first: u32) -> vec4<u32> {
    var key = vec4<u32>(0u);
    var place = vec4<u32>(8u);
    var k = 0u;
    var probe = 0u;
    while (k < p.codes) {
        let bin = first + k;
        let other = mul_high((bin * 64u + probe) * p.factor + p.summand, p.all);
        place = select(place, winner(select(other, bin, probe == 0u)), place == vec4<u32>(8u));
        probe++;
        if (probe > PROBES || all(place < vec4<u32>(8u))) {
            key = (key << vec4<u32>(BITS)) | (place & vec4<u32>(7u));
            place = vec4<u32>(8u);
            probe = 0u;
            k++;
        }
    }
    return key;
}

fn differing(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    let d = a ^ b;
    return countOneBits((d | (d >> vec4<u32>(1u)) | (d >> vec4<u32>(2u))) & vec4<u32>(0x09249249u));
}
#endif

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let lane = local.x;
    let four = (group.y + p.grid.y) * p.across + group.x + p.grid.x;
    if (four >= p.fours) {
        return;
    }
    let place = vec4<u32>(four * p.every * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
#ifdef LISTED
    let entry = min(place, vec4<u32>(max(list[0], 1u) - 1u)) * 2u + vec4<u32>(2u);
    let own = vec4<u32>(list[entry.x], list[entry.y], list[entry.z], list[entry.w]) - vec4<u32>(p.first);
    let valid = (place < vec4<u32>(list[0])) & (own < vec4<u32>(p.rows));
#else
    let own = place;
    let valid = own < vec4<u32>(p.rows);
#endif
    let start = min(own, vec4<u32>(p.rows - 1u)) * p.stride_x;
#ifdef SIMHASH
    if (lane < 4u) {
        atomicStore(&top[lane], 0u);
    }
    workgroupBarrier();
#endif
    for (var q = lane; q < ${ROOM}u / 4u; q += LANES) {
        let a = rows[start.x + q];
        let b = rows[start.y + q];
        let c = rows[start.z + q];
        let d = rows[start.w + q];
#ifdef SIMHASH
        var most = vec4<u32>(0u);
#endif
#unroll j 0 4
        let inside_${j} = q * 4u + ${j}u < p.hidden;
        let e_${j} = select(vec4<u32>(0u), vec4<u32>(a[${j}], b[${j}], c[${j}], d[${j}]), inside_${j});
#ifdef SIMHASH
        most = max(most, (e_${j} >> vec4<u32>(23u)) & vec4<u32>(255u));
        x[q * 4u + ${j}u] = e_${j};
#else
        x[q * 4u + ${j}u] = ordered(e_${j});
#endif
#endunroll
#ifdef SIMHASH
#unroll j 0 4
        atomicMax(&top[${j}], most[${j}]);
#endunroll
#endif
    }
    workgroupBarrier();
#ifdef SIMHASH
    let largest = vec4<u32>(atomicLoad(&top[0]), atomicLoad(&top[1]), atomicLoad(&top[2]), atomicLoad(&top[3]));
    for (var i = lane; i < ${ROOM}u; i += LANES) {
        x[i] = fixed(x[i], largest);
    }
    workgroupBarrier();
#endif
#ifdef DRIFT
    var codes = 0u;
    var changed = 0u;
#endif
    let tables = select(0u, p.tables, any(valid));
    for (var t = lane; t < tables; t += LANES) {
        let key = key_at((p.first_table + t) * p.codes);
#ifdef LISTED
#unroll j 0 4
        if (valid[${j}]) {
            keys[t * p.stride_keys + p.first + own[${j}]] = key[${j}];
        }
#endunroll
#else
        let at = t * p.stride_keys + (p.first + place.x) / 4u;
#ifdef DRIFT
        let d = select(vec4<u32>(0u), differing(keys[at], key), valid);
        codes += d.x + d.y + d.z + d.w;
        let n = min(d, vec4<u32>(1u));
        changed += n.x + n.y + n.z + n.w;
#else
        keys[at] = key;
#endif
#endif
    }
#ifdef DRIFT
    if (changed > 0u) {
        atomicAdd(&counts[0], codes);
        atomicAdd(&counts[1], changed);
    }
#endif
}
