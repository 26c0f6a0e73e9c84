// Division of integers by way of floats: processors without a vector instruction for it (and software devices on them)
// divide lane by lane, which costs a kernel that mostly decodes positions half of its time or more (measured:
// pool_gradient.wgsl). Exact for a < 2^31 and 0 < b < 2^30.
//
// Why: every rounding may go either way by 2^-23, the reciprocal by 2.5 units, so q is off by at most 1 + a 2^-20 / b and
// |r| <= b + 2^11; f32(r) inv is then off by less than 1/2 and its floor by at most one, which the last comparison sees.

fn quotient(a: u32, b: u32) -> u32 {
    let inverse = 1.0 / f32(b);
    let q = i32(f32(a) * inverse);
    let r = i32(a) - q * i32(b);
    let c = i32(floor(f32(r) * inverse));
    let rest = r - c * i32(b);
    return bitcast<u32>(q + c + select(0, 1, rest >= i32(b)) - select(0, 1, rest < 0));
}

// Quotient and remainder.
fn divided(a: u32, b: u32) -> vec2<u32> {
    let q = quotient(a, b);
    return vec2<u32>(q, a - q * b);
}
