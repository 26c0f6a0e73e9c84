// Orders that a few words of key give: an alternating Feistel network (Luby and Rackoff, SIAM J. Comput. 1988; Black and Rogaway, CT-RSA
// 2002, for domains of any size by walking). Integers only: devices and the host (hash/active/shuffle.rs) have the same bits.

// All bits of a word depend on all of another (Wellons, hash-prospector, 2018: lowbias32).
fn stir(word: u32) -> u32 {
    var h = (word ^ (word >> 16u)) * 0x7feb352du;
    h = (h ^ (h >> 15u)) * 0x846ca68bu;
    return h ^ (h >> 16u);
}

// One to one on 0 .. 2^bits - 1, bits from 2 to 32. Words of a few bits need more rounds to forget what they were.
fn scramble(x: u32, bits: u32, keys: vec4<u32>, more: vec4<u32>) -> u32 {
    let low = bits / 2u;
    let below = (1u << low) - 1u;
    let above = (1u << (bits - low)) - 1u;
    let turns = select(select(1u, 2u, bits < 8u), 4u, bits < 4u);
    var a = x >> low;
    var b = x & below;
    for (var turn = 0u; turn < turns; turn++) {
        let k = keys + vec4<u32>(turn * 0x9e3779b9u);
        let l = more + vec4<u32>(turn * 0x9e3779b9u);
        a ^= stir(b ^ k.x) & above;
        b ^= stir(a ^ k.y) & below;
        a ^= stir(b ^ k.z) & above;
        b ^= stir(a ^ k.w) & below;
        a ^= stir(b ^ l.x) & above;
        b ^= stir(a ^ l.y) & below;
        a ^= stir(b ^ l.z) & above;
        b ^= stir(a ^ l.w) & below;
    }
    return (a << low) | b;
}

// What stands at place q < n in an order of 0 .. n - 1, for n <= 2^bits: a walk along a cycle that holds q, so it ends; two
// steps in the mean where 2^bits < 2 n.
fn shuffled(q: u32, n: u32, bits: u32, k: vec4<u32>, l: vec4<u32>) -> u32 {
    var x = scramble(q, bits, k, l);
    while (x >= n) {
        x = scramble(x, bits, k, l);
    }
    return x;
}
