// Value i of a tensor with 4 bytes or (HALVES) 2 halves a word, in data: array<u32> of the importing kernel.

#ifdef HALVES
const CONTAINER_MASK: u32 = 0xffffu;
const SIGN_PLACE: u32 = 15u;

fn stored(i: u32) -> u32 {
    return (data[i >> 1u] >> ((i & 1u) * 16u)) & 0xffffu;
}
#else
const CONTAINER_MASK: u32 = 0xffu;
const SIGN_PLACE: u32 = 7u;

fn stored(i: u32) -> u32 {
    return (data[i >> 2u] >> ((i & 3u) * 8u)) & 0xffu;
}
#endif
