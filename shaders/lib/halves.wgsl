// Four values of 16 bits in two words (the first in the low half), as two words of bytes: what is coded, and what is stored beside it.
// With ROTATE every value is first turned left by one bit, so that the sign of a float comes last: then the high byte is the exponent
// of a bf16, and the exponent and three bits of the mantissa of an fp16.

fn turned(w: vec2<u32>) -> vec2<u32> {
#ifdef ROTATE
    return ((w << vec2<u32>(1u)) & vec2<u32>(0xfffefffeu)) | ((w >> vec2<u32>(15u)) & vec2<u32>(0x00010001u));
#else
    return w;
#endif
}

fn turned_back(w: vec2<u32>) -> vec2<u32> {
#ifdef ROTATE
    return ((w >> vec2<u32>(1u)) & vec2<u32>(0x7fff7fffu)) | ((w << vec2<u32>(15u)) & vec2<u32>(0x80008000u));
#else
    return w;
#endif
}

// The four high bytes, the first in the low bits.
fn high_bytes(values: vec2<u32>) -> u32 {
    let w = turned(values);
    return ((w.x >> 8u) & 0xffu) | ((w.x >> 16u) & 0xff00u) | ((w.y & 0xff00u) << 8u) | (w.y & 0xff000000u);
}

// The four low bytes.
fn low_bytes(values: vec2<u32>) -> u32 {
    let w = turned(values);
    return (w.x & 0xffu) | ((w.x >> 8u) & 0xff00u) | ((w.y & 0xffu) << 16u) | ((w.y << 8u) & 0xff000000u);
}

// The values of four high and four low bytes.
fn joined(high: u32, low: u32) -> vec2<u32> {
    let x = ((high & 0xffu) << 8u) | ((high & 0xff00u) << 16u) | (low & 0xffu) | ((low & 0xff00u) << 8u);
    let y = ((high >> 8u) & 0xff00u) | (high & 0xff000000u) | ((low >> 16u) & 0xffu) | ((low >> 8u) & 0xff0000u);
    return turned_back(vec2<u32>(x, y));
}
