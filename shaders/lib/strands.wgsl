// Sums of a workgroup of 64 as 4 columns times 16 strands (lane = strand * 4 + column): strands are added in ascending
// order.

const STRANDS = 16u;

var<workgroup> strands: array<vec4<f32>, 64>;

// The sum over the strands of a column; all invocations of the workgroup call it together. Only the first min(count,
// STRANDS) strands hold something.
fn strands_sum(mine: vec4<f32>, lane: u32, count: u32) -> vec4<f32> {
    strands[lane] = mine;
    workgroupBarrier();
    var total = strands[lane % 4u];
    for (var t = 1u; t < min(count, STRANDS); t++) {
        total += strands[t * 4u + lane % 4u];
    }
    workgroupBarrier();
    return total;
}
