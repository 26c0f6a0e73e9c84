// The rows that a kernel visits, at binding 0 of the importing kernel unless they are ALL rows of its window: IDS, or a list of touched
// rows [number of rows, number of entries], [row, first entry] .., [-, number of entries] (src/hash/rows.rs, Touched). Rows are distinct.
// The kernel has the parameters first and rows (its window), capacity and across.

#import "lib/divide"

const NO_ROW = 0xffffffffu;

#ifdef ALL
fn listed(i: u32) -> u32 {
    return select(NO_ROW, p.first + i, i < p.rows);
}
#else
#ifdef IDS
@group(0) @binding(0) var<storage, read_write> list: array<u32>;

fn listed(i: u32) -> u32 {
    if (i >= p.capacity) {
        return NO_ROW;
    }
    return list[i];
}
#else
@group(0) @binding(0) var<storage, read_write> list: array<vec2<u32>>;

fn listed(i: u32) -> u32 {
    if (i >= min(list[0].x, p.capacity)) {
        return NO_ROW;
    }
    return list[i + 1u].x;
}
#endif
#endif

// Number of an invocation among all of a dispatch whose groups of 64 lie in a plane p.across wide.
fn place_of(group: vec3<u32>, lane: u32) -> u32 {
    return ((group.y + p.grid.y) * p.across + group.x + p.grid.x) * 64u + lane;
}
