// Softmax of int8 codes, exactly as TFLite's reference computes it (gemmlowp fixed point): with e[d] = exp(-d scale beta) as a fraction of
//   31 bits and m the largest code of a row, sum = sum over codes of e[m - code] / 2^12, and code = -128 + e[m - code] / sum in 1/256, where 1 / sum
//   comes from three steps of Newton's method from 48/17 - 32/17 h.
//
// Buffers: source and destination [rows, quads], words of 4 codes, low bits first, of p.channels codes a row; exponentials [256], e[0] being
//   2^31 - 1 and terms that the reference leaves out 0.
// Precision: exact. Undefined: codes behind the channels in the source; -128 or more in the destination.
// Geometry: workgroup (64,1,1), an invocation a row, grid-stride: rows are few and short.
// Races: every row has one invocation. Bounds: guarded by p.rows; channels are 1 to 4,095 (so that sums fit), m - code 0 to 255.

#import "lib/requantise"

struct Params {
    grid: vec4<u32>,
    rows: u32, threads: u32, quads: u32, channels: u32,
}
@group(0) @binding(0) var<storage, read_write> source: array<u32>;
@group(0) @binding(1) var<storage, read_write> exponentials: array<u32>;
@group(0) @binding(2) var<storage, read_write> destination: array<u32>;
@group(1) @binding(0) var<uniform> p: Params;

// a b of fractions, b not negative.
fn product(a: i32, b: i32) -> i32 {
    return doubling_high(vec4<i32>(a), vec4<u32>(u32(b))).x;
}

fn code_of(row: u32, c: u32) -> i32 {
    return bitcast<i32>(source[row * p.quads + c / 4u] << (24u - (c & 3u) * 8u)) >> 24u;
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var row = (group.x + p.grid.x) * 64u + lane.x; row < p.rows; row += p.threads) {
        var most = -128;
        for (var c = 0u; c < p.channels; c++) {
            most = max(most, code_of(row, c));
        }
        var sum = 0u;
        for (var c = 0u; c < p.channels; c++) {
            // Halves go up: no term is negative.
            sum += (exponentials[u32(most - code_of(row, c))] + 0x800u) >> 12u;
        }
        let zeros = countLeadingZeros(sum);
        let fraction = bitcast<i32>((sum << zeros) - 0x80000000u);
        // Half of (fraction + 1), rounded up.
        let half = bitcast<i32>((bitcast<u32>(fraction) + 0x80000000u) / 2u);
        var x = 1515870810 + product(-1010580540, half);
        for (var i = 0; i < 3; i++) {
            let missing = 0x20000000 - product(x, half);
            // Times 4: far from the ends of the range.
            x += product(missing, x) << 2u;
        }
        let inverse = bitcast<i32>(min(bitcast<u32>(x) << 1u, 0x7fffffffu));
        let exponent = 35u - zeros;
        for (var q = 0u; q < p.quads; q++) {
            var codes = vec4<i32>(0);
#unroll i 0 4
            let c${i} = min(q * 4u + ${i}u, p.channels - 1u);
            codes[${i}] = product(inverse, bitcast<i32>(exponentials[u32(most - code_of(row, c${i}))]));
#endunroll
            // Beyond 31 a share is less than a half; the reference stops there.
            let shares = select(divide_by_power(codes, vec4<u32>(min(exponent, 31u))), vec4<i32>(0), exponent > 31u) - vec4<i32>(128);
            destination[row * p.quads + q] = pack4xI8(clamp(shares, vec4<i32>(-128), vec4<i32>(127)));
        }
    }
}
