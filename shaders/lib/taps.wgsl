// Which values of a the taps of a convolution (TRANSPOSED: of its transpose) read, axis by axis.

// Where a tap reads a, for a row (or column) `at` of c and the first tap: (index, rest); a tap reads nothing unless its rest is 0. Found by
// one division here and by subtraction from tap to tap: divisions of integers are slow on every device.
fn first_tap(at: u32, stride: u32, off: i32) -> vec2<i32> {
#ifdef TRANSPOSED
    let moved = i32(at) - off;
    let s = i32(stride);
    // Rounded down for negative numbers as well.
    let index = (moved + 65536 * s) / s - 65536;
    return vec2<i32>(index, moved - index * s);
#else
    return vec2<i32>(i32(at * stride) - off, 0);
#endif
}

// The next tap, d further; `part` = (d / stride, d % stride).
fn next_tap(cursor: vec2<i32>, part: vec2<i32>, stride: u32, dilation: u32) -> vec2<i32> {
#ifdef TRANSPOSED
    let rest = cursor.y - part.y;
    let borrow = rest < 0;
    return vec2<i32>(cursor.x - part.x - select(0, 1, borrow), select(rest, rest + i32(stride), borrow));
#else
    return vec2<i32>(cursor.x + i32(dilation), 0);
#endif
}

fn reads(cursor: vec2<i32>, size: u32) -> bool {
    return cursor.y == 0 && cursor.x >= 0 && cursor.x < i32(size);
}
