// The order in which candidates of a shared set are preferred, as two words (major, minor) of which smaller ones come first.
//   MOST   major: CAP - times returned (all from CAP on alike); minor: the label's place in the step's order
//   FIRST  major: 0; minor: where it was first returned; values hold p.total - that
//   else   major: 0; minor: the label's place in the step's order
// No two labels share a key.

#import "lib/permute"

struct Params {
    grid: vec4<u32>,
    words: u32, threads: u32, bits: u32, total: u32,
    level: u32, shift: u32, width: u32, size: u32,
    k: vec4<u32>,
    l: vec4<u32>,
}

const CAP = 2047u;

fn major_key(value: u32) -> u32 {
#ifdef MOST
    return CAP - min(value, CAP);
#else
    return 0u;
#endif
}

fn minor_key(id: u32, value: u32) -> u32 {
#ifdef FIRST
    return p.total - value;
#else
    return scramble(id, p.bits, p.k, p.l);
#endif
}
