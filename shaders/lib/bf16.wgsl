// Four numbers of bf16 (the upper halves of f32) in two words, the first in the low half of the first word.

fn bf16_unpack(words: vec2<u32>) -> vec4<f32> {
    let low = bitcast<vec2<f32>>(words << vec2<u32>(16u));
    let high = bitcast<vec2<f32>>(words & vec2<u32>(0xffff0000u));
    return vec4<f32>(low.x, high.x, low.y, high.y);
}

// Each number rounded to one of its two neighbours, upwards in magnitude with the probability that makes the mean exact: 16 random
// bits are added to the 16 that are dropped. Numbers of bf16 stay as they are. Infinity stays, and NaN stays NaN.
fn bf16_round(x: vec4<f32>, random: vec2<u32>) -> vec2<u32> {
    let bits = bitcast<vec4<u32>>(x);
    let added = bits + (vec4<u32>(random.x, random.x >> 16u, random.y, random.y >> 16u) & vec4<u32>(0xffffu));
    let kept = bits | select(vec4<u32>(0u), vec4<u32>(0x00400000u), (bits & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u));
    let rounded = select(added, kept, (bits & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u));
    return vec2<u32>((rounded.x >> 16u) | (rounded.y & 0xffff0000u), (rounded.z >> 16u) | (rounded.w & 0xffff0000u));
}
