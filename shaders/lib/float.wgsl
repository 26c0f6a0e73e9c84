// Bits of f32. NaN, infinity and magnitude are tested by bits only: WGSL may assume that NaN and infinity do not occur,
// so `x != x` is folded away.

// True for |x| >= 2^40, infinity and NaN. Kernels that bound things refuse such values: products of two smaller ones,
// summed over fewer than 2^32 terms, cannot overflow.
fn is_huge(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) >= 0x53800000u;
}

// A representable number below x, for finite x: the next one, or -2^-126 where the next one would be subnormal (and
// might be flushed to zero).
fn step_down(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    if ((bits & 0x7f800000u) == 0u) {
        return bitcast<f32>(0x80800000u);
    }
    return bitcast<f32>(select(bits - 1u, bits + 1u, (bits & 0x80000000u) != 0u));
}

fn step_up(x: f32) -> f32 {
    return -step_down(-x);
}
