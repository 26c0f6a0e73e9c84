// Parameters and geometry of convolutions, shared by their kernels; src/ops/conv.rs fills them in.
//
// Forward: output pixel (y, x) reads source pixel (y s - p + i d, x s - p + j d) at tap (i, j); s stride, p padding, d dilation.
// Transposed: it reads source pixel (y', x') wherever the forward convolution would write y' from y: y' s - p + i d = y.
//   Only every few taps fit a pixel, always the same ones for pixels of one phase (y mod s, x mod s): phases are computed apart,
//   so that no tap is tried in vain. Forward has one phase.
// Pixels of a phase are numbered sample by sample and row by row, for each slot from 0 on, so that no tile straddles slots;
//   `place_of` gives sample, row and column in the phase. The slot comes from the grid: z = (slot * parts + group) * phases
//   + phase.

#import "lib/divide"

struct Params {
    grid: vec4<u32>,
    // Pixels of a phase in all samples of a slot; the first one of this dispatch; rows and columns of a phase in a sample.
    rows: u32, first: u32, grid_h: u32, grid_w: u32,
    in_h: u32, in_w: u32, out_h: u32, out_w: u32,
    // Taps; channels that a group reads and writes.
    kernel_h: u32, kernel_w: u32, c: u32, n: u32,
    // Elements from one pixel, tap channel and sample to the next.
    ld_x: u32, ld_w: u32, ld_out: u32, flags: u32,
    stride_x: u32, stride_out: u32,
    // Output pixels from one of a phase to the next, source pixels likewise.
    spacing_y: u32, spacing_x: u32, read_y: u32, read_x: u32,
    pad_y: u32, pad_x: u32, dilation_y: u32, dilation_x: u32,
    // Taps from one of a phase to the next, and the source pixels between them.
    step_y: u32, step_x: u32, move_y: i32, move_x: i32,
    // Invocations of a workgroup that stand side by side along the channels; groups.
    lanes: u32, parts: u32,
    // Elements from one slot to the next, 0 where slots share an operand.
    slot_x: u32, slot_w: u32, slot_out: u32, slot_bias: u32,
}
const BIAS = 1u;
const RELU = 2u;
const TRANSPOSED = 4u;

// The taps of a phase along one axis: the first, how many, and the source pixel that the first one reads for pixel 0.
struct Taps {
    first: u32,
    count: u32,
    start: i32,
}

fn taps_of(phase: u32, spacing: u32, pad: u32, dilation: u32, kernel: u32, step: u32) -> Taps {
    if ((p.flags & TRANSPOSED) == 0u) {
        return Taps(0u, kernel, -i32(pad));
    }
    for (var i = 0u; i < min(step, kernel); i++) {
        let distance = i32(phase + pad) - i32(i * dilation);
        if (distance % i32(spacing) == 0) {
            return Taps(i, (kernel - i + step - 1u) / step, distance / i32(spacing));
        }
    }
    return Taps(0u, 0u, 0);
}

fn rows_of(phase: u32) -> Taps {
    return taps_of(phase, p.spacing_y, p.pad_y, p.dilation_y, p.kernel_h, p.step_y);
}

fn columns_of(phase: u32) -> Taps {
    return taps_of(phase, p.spacing_x, p.pad_x, p.dilation_x, p.kernel_w, p.step_x);
}

fn place_of(pixel: u32) -> vec3<u32> {
    let row = divided(pixel, p.grid_w);
    let sample = divided(row.x, p.grid_h);
    return vec3<u32>(sample.x, sample.y, row.y);
}

fn inside(y: i32, x: i32) -> bool {
    return bitcast<u32>(y) < p.in_h && bitcast<u32>(x) < p.in_w;
}
