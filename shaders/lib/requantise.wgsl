// From sums to codes as TFLite's reference kernels do it (gemmlowp), four at a time. Exact: 64-bit products from 16-bit halves.

// The upper 32 bits of 2 a b to nearest, for 0 <= b < 2^31: (a b + 2^30) / 2^31, and for a b < 0 the same of -a b with 2^30 - 1.
fn doubling_high(a: vec4<i32>, b: vec4<u32>) -> vec4<i32> {
    let negative = a < vec4<i32>(0);
    // Also right for -2^31, whose negative is itself: as an unsigned number it is 2^31.
    let m = bitcast<vec4<u32>>(select(a, -a, negative));
    let half = vec4<u32>(0xffffu);
    let low_low = (m & half) * (b & half);
    // m >> 16 is at most 2^15 and b >> 16 less than 2^15: the sum fits.
    let middle = (m & half) * (b >> vec4<u32>(16u)) + (m >> vec4<u32>(16u)) * (b & half);
    let low = low_low + (middle << vec4<u32>(16u));
    let carry = select(vec4<u32>(0u), vec4<u32>(1u), low < low_low);
    let high = (m >> vec4<u32>(16u)) * (b >> vec4<u32>(16u)) + (middle >> vec4<u32>(16u)) + carry;
    let nudged = low + select(vec4<u32>(0x40000000u), vec4<u32>(0x3fffffffu), negative);
    let more = high + select(vec4<u32>(0u), vec4<u32>(1u), nudged < low);
    let r = bitcast<vec4<i32>>((more << vec4<u32>(1u)) | (nudged >> vec4<u32>(31u)));
    return select(r, -r, negative);
}

// x / 2^e to nearest, halves away from zero; e up to 31.
fn divide_by_power(x: vec4<i32>, e: vec4<u32>) -> vec4<i32> {
    let mask = bitcast<vec4<i32>>((vec4<u32>(1u) << e) - vec4<u32>(1u));
    let threshold = (mask >> vec4<u32>(1u)) + select(vec4<i32>(0), vec4<i32>(1), x < vec4<i32>(0));
    return (x >> e) + select(vec4<i32>(0), vec4<i32>(1), (x & mask) > threshold);
}

// MultiplyByQuantizedMultiplier with double rounding: x times a fraction of 31 bits, shifted to the left before and to the right after.
fn rescaled(x: vec4<i32>, multiplier: vec4<u32>, left: vec4<u32>, right: vec4<u32>) -> vec4<i32> {
    return divide_by_power(doubling_high(x << left, multiplier), right);
}
