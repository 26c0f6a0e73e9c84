// How often each label stands among a sample's candidates: an open hash table a sample, table[s, slot] = (id + 1, times), (0, 0) where free.
// Which slot an id gets depends on who comes first; what a look-up answers does not.
//
// Buffers (u32): candidates [rows, columns], p.ld words a row, from row p.first on; table [rows, mask + 1] pairs, zeros before.
// Precision: exact. Undefined: the places of entries in the table; ids from p.labels on are left out.
// Geometry: workgroup (64,1,1), grid-stride over columns; y covers rows with stride p.row_step.
// Races: a slot is claimed by compare-and-swap; atomic add of integers. Bounds: guarded by rows and columns; the table has
//   twice the room that is needed, so a search ends.
// Not tried: sorting each row: three passes over all entries, where one look-up an entry does.

#import "lib/permute"

struct Params {
    grid: vec4<u32>,
    rows: u32, row_step: u32, columns: u32, threads: u32,
    ld: u32, labels: u32, mask: u32, first: u32,
}
@group(0) @binding(0) var<storage, read_write> candidates: array<u32>;
@group(0) @binding(1) var<storage, read_write> table: array<atomic<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var r = group.y + p.grid.y; r < p.rows; r += p.row_step) {
        let base = r * (p.mask + 1u);
        for (var c = (group.x + p.grid.x) * 64u + lane.x; c < p.columns; c += p.threads) {
            let id = candidates[(p.first + r) * p.ld + c];
            if (id < p.labels) {
                var slot = stir(id) & p.mask;
                loop {
                    let claim = atomicCompareExchangeWeak(&table[(base + slot) * 2u], 0u, id + 1u);
                    if (claim.exchanged || claim.old_value == id + 1u) {
                        break;
                    }
                    // A swap may fail for nothing; the same slot is asked again then.
                    if (claim.old_value != 0u) {
                        slot = (slot + 1u) & p.mask;
                    }
                }
                atomicAdd(&table[(base + slot) * 2u + 1u], 1u);
            }
        }
    }
}
