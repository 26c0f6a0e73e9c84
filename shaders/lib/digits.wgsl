// Digits of keys, counted by runs: what the two kernels of a radix sort share. A workgroup has a block of LANES * RUN keys, lane t
// the keys from t * RUN on in it; counts[d * LANES + t] is how many of them have digit d.
//
// The importing kernel defines p with n, shift, digits (a power of two) and ld_keys (in vectors), and keys by vectors of four.

const LANES = ${LANES}u;
const RUN = ${RUN}u;

var<workgroup> counts: array<u32, ${COUNTERS}>;

fn digit(key: u32) -> u32 {
    return (key >> p.shift) & (p.digits - 1u);
}

// A lane reads and writes its own counters, so that no barrier is needed before or between.
fn count_run(row: u32, block: u32, lane: u32) {
    for (var d = 0u; d < p.digits; d++) {
        counts[d * LANES + lane] = 0u;
    }
    let first = (block * LANES + lane) * RUN;
    let end = min(first + RUN, p.n);
    for (var i = first; i < end; i += 4u) {
        let key = keys[row * p.ld_keys + i / 4u];
#unroll j 0 4
        if (i + ${j}u < end) {
            counts[digit(key[${j}]) * LANES + lane] += 1u;
        }
#endunroll
    }
}
