// Parameters, geometry and stores of the gradients of convolution weights; src/ops/conv/gradient.rs fills them in.
//
// Two images: windows slide over the wide one, x, and each has one pixel of the narrow one, g. For a forward convolution x
// is what it read and g the gradient of what it wrote; for a transposed one it is the other way round.
// Rows of the result are taps and channels of x, row = tap * per_tap + channel; columns are channels of g; terms are
// windows, numbered in their slot sample by sample and row by row, in chunks of p.chunk, each of which is a plane of its own.
// TURNED stores channels of g as rows and those of x side by side; then per_tap is a multiple of 4, so that padding is
// written as well.
// Padding behind rows of dw is always written as 0.

struct Params {
    grid: vec4<u32>,
    // Windows of a slot and of a chunk; chunks; groups.
    pixels: u32, chunk: u32, chunks: u32, parts: u32,
    // Tiles of a plane, of all planes of a slot and group, and the first one of this dispatch.
    row_tiles: u32, column_tiles: u32, items: u32, first: u32,
    // Rows, columns; rows of a tap, and those of them that are channels.
    rows: u32, n: u32, per_tap: u32, c: u32,
    kernel_w: u32, ld_w: u32, ld_x: u32, ld_g: u32,
    in_h: u32, in_w: u32, out_h: u32, out_w: u32,
    stride_y: u32, stride_x: u32, pad_y: u32, pad_x: u32,
    dilation_y: u32, dilation_x: u32, sample_x: u32, sample_g: u32,
    // Elements from one slot to the next, and from one plane to the next.
    slot_x: u32, slot_g: u32, slot_w: u32, plane: u32,
}
const FOUR: vec4<u32> = vec4<u32>(0u, 1u, 2u, 3u);

// Which tile of which plane.
struct Item {
    column: u32,
    row: u32,
    chunk: u32,
}

fn item_of(number: u32) -> Item {
    let rest = number / p.column_tiles;
    return Item(number % p.column_tiles, rest % p.row_tiles, rest / p.row_tiles);
}

// What a row reads: rows and columns from the corner of a window, and elements from there.
struct Row {
    y: i32,
    x: i32,
    start: u32,
}

fn row_of(row: u32) -> Row {
    let tap = row / p.per_tap;
    let y = i32(tap / p.kernel_w * p.dilation_y) - i32(p.pad_y);
    let x_ = i32(tap % p.kernel_w * p.dilation_x) - i32(p.pad_x);
    let channel = min(row % p.per_tap, p.c - 1u);
    return Row(y, x_, channel + bitcast<u32>(y * i32(p.in_w) + x_) * p.ld_x);
}

// Sample, row and column of a window; or how far so many windows are.
fn place_of(pixel: u32) -> vec3<u32> {
    let row = pixel / p.out_w;
    return vec3<u32>(row / p.out_h, row % p.out_h, pixel % p.out_w);
}

fn advance(at: vec3<u32>, step: vec3<u32>) -> vec3<u32> {
    let x_ = at.z + step.z;
    let next_row = x_ >= p.out_w;
    let y = at.y + step.y + select(0u, 1u, next_row);
    let next_sample = y >= p.out_h;
    return vec3<u32>(
        at.x + step.x + select(0u, 1u, next_sample),
        select(y, y - p.out_h, next_sample),
        select(x_, x_ - p.out_w, next_row),
    );
}

// The element at the corner of a window (modulo 2^32: the corner may lie outside, what is read may not), and its pixel of g.
fn corner_of(at: vec3<u32>) -> u32 {
    return at.x * p.sample_x + (at.y * p.stride_y * p.in_w + at.z * p.stride_x) * p.ld_x;
}

fn pixel_of(at: vec3<u32>) -> u32 {
    return at.x * p.sample_g + (at.y * p.out_w + at.z) * p.ld_g;
}

fn inside(y: i32, x_: i32) -> bool {
    return bitcast<u32>(y) < p.in_h && bitcast<u32>(x_) < p.in_w;
}

#ifdef TURNED
@group(0) @binding(2) var<storage, read_write> dw: array<f32>;
fn store(base: u32, row: u32, column: u32, value: vec4<f32>) {
    if (row >= p.rows) {
        return;
    }
    let channel = row % p.per_tap;
    let kept = select(vec4<f32>(0.0), value, channel < p.c);
    let to = base + (row / p.per_tap * p.n + column) * p.ld_w + channel;
#unroll e 0 4
    if (column + ${e}u < p.n) {
        dw[to + ${e}u * p.ld_w] = kept[${e}];
    }
#endunroll
}
#else
@group(0) @binding(2) var<storage, read_write> dw: array<vec4<f32>>;
fn store(base: u32, row: u32, column: u32, value: vec4<f32>) {
    if (row >= p.rows || column >= p.n) {
        return;
    }
    let real = (vec4<u32>(column) + FOUR) < vec4<u32>(p.n);
    dw[(base + row * p.ld_w + column) / 4u] = select(vec4<f32>(0.0), value, real);
}
#endif
