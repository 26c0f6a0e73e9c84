// Parameters and windows of pools, shared by their kernels; src/ops/pool.rs fills them in.
//
// Along one axis window v begins at v s - p and has `kernel` taps d apart. ADAPTIVE: of n windows over a size h it begins at
// floor(v h / n) and ends before ceil((v + 1) h / n), as in PyTorch; windows may overlap by one. An axis is (kernel, s, p,
// d), sizes are (h, n). A tap's number in its window is row * taps of a row + column.

#import "lib/divide"

struct Params {
    grid: vec4<u32>,
    len: u32, threads: u32, width4: u32, flags: u32,
    in_h: u32, in_w: u32, out_h: u32, out_w: u32,
    kernel_h: u32, kernel_w: u32, stride_y: u32, stride_x: u32,
    pad_y: u32, pad_x: u32, dilation_y: u32, dilation_x: u32,
}
const WHOLE = 1u;
// The winner of a window without any tap inside.
const NONE = 0xffffffffu;

// First place of a window, and its taps.
fn span_of(window: u32, sizes: vec2<u32>, axis: vec4<u32>) -> vec2<i32> {
#ifdef ADAPTIVE
    let start = quotient(window * sizes.x, sizes.y);
    let end = quotient((window + 1u) * sizes.x + sizes.y - 1u, sizes.y);
    return vec2<i32>(i32(start), i32(end - start));
#else
    return vec2<i32>(i32(window * axis.y) - i32(axis.z), i32(axis.x));
#endif
}

fn span_y(window: u32) -> vec2<i32> {
    return span_of(window, vec2<u32>(p.in_h, p.out_h), vec4<u32>(p.kernel_h, p.stride_y, p.pad_y, p.dilation_y));
}

fn span_x(window: u32) -> vec2<i32> {
    return span_of(window, vec2<u32>(p.in_w, p.out_w), vec4<u32>(p.kernel_w, p.stride_x, p.pad_x, p.dilation_x));
}

// Vector of channels, column, row and sample of the vector with this number in images [batch, height, width, width4 vectors].
fn place_of(item: u32, height: u32, width: u32) -> vec4<u32> {
    let pixel = divided(item, p.width4);
    let row = divided(pixel.x, width);
    let sample = divided(row.x, height);
    return vec4<u32>(pixel.y, row.y, sample.y, sample.x);
}
