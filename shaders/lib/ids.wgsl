// Row numbers that are stored as f32.

const NO_ROW = 0xffffffffu;

// The row that a number names, NO_ROW where it is none of 0 .. v - 1. Compared by bits: those of numbers that are not
// negative stand in their order, those of negative numbers and NaN behind all finite ones.
fn row_of(id: f32, v: u32) -> u32 {
    let bits = bitcast<u32>(id);
    // -0 is row 0.
    let inside = bits < bitcast<u32>(f32(v)) || bits == 0x80000000u;
    let number = select(0.0, id, inside);
    return select(NO_ROW, u32(number), inside && floor(number) == number);
}
