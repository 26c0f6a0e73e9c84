// Sums of whole dispatches: invocations add to eight words of the workgroup, and the workgroup once to results[slot ..]. Integers, so no
// order matters; the importing kernel declares results: array<atomic<u32>>. Sums wrap at 2^32: hosts cut tensors so that none does.

var<workgroup> tally: array<atomic<u32>, 8>;

// First thing in main.
fn tally_open(lane: u32) {
    if (lane < 8u) {
        atomicStore(&tally[lane], 0u);
    }
    workgroupBarrier();
}

// Last thing in main.
fn tally_close(lane: u32, slot: u32) {
    workgroupBarrier();
    if (lane < 8u) {
        let sum = atomicLoad(&tally[lane]);
        if (sum != 0u) {
            atomicAdd(&results[slot + lane], sum);
        }
    }
}
