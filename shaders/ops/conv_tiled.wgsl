// The contract of conv.wgsl, for devices whose workgroup memory is a memory.
//
// A workgroup of 16 x 16 invocations owns a tile of 64 output pixels x 64 output channels, 4 x 4 an invocation. Blocks of 16
// terms of k, four vectors of four channels, pass through workgroup memory (10 KiB): each invocation brings one vector of x and
// one of w. Channels past the last of a group are zeros in x. Every accumulator walks k in ascending order, one fma a term:
// bit-identical to the direct variant wherever the device rounds alike.
// With TRANS_W neighbours bring neighbouring terms, which then lie side by side in w, instead of neighbouring columns.
// Buffers, precision, undefined: as conv.wgsl.
// Geometry: workgroup (16,16,1); x covers pixels of a phase / 64, y channels of a group / 64, z slots, groups and phases.
// Bounds: pixels are clamped to the last of the phase, channels, taps and vectors to the last ones; stores are guarded.
// Races: workgroup memory is written before and read after a barrier that all invocations reach (the loop's bounds depend on
//   the workgroup alone); an invocation writes its own outputs only.
// Tried: nothing else yet; not measured on a GPU. On a software device the direct variant is faster.

#import "lib/conv"
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
#ifdef TRANS_W
@group(0) @binding(1) var<storage, read_write> w: array<f32>;
#else
@group(0) @binding(1) var<storage, read_write> w: array<vec4<f32>>;
#endif
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> bias: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

// [pixel][vector of channels], rows of 4 + 1 so that pixels a row apart lie on different banks.
var<workgroup> tile_x: array<vec4<f32>, 320>;
// [k][vector of output channels], rows of 16 + 1 for the same reason.
var<workgroup> tile_w: array<vec4<f32>, 272>;

@compute @workgroup_size(16, 16, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let phases = p.spacing_y * p.spacing_x;
    let part = at.z / phases % p.parts;
    let slot = at.z / phases / p.parts;
    let phase_y = (at.z % phases) / p.spacing_x;
    let phase_x = (at.z % phases) % p.spacing_x;
    let taps_y = rows_of(phase_y);
    let taps_x = columns_of(phase_x);
    let first_row = p.first + at.x * 64u;
    let first_column = at.y * 64u;
    let last4 = (p.n + 3u) / 4u - 1u;
    let id = lane.y * 16u + lane.x;
    // Vectors of four channels of one tap, and of all taps of this phase.
    let depth4 = (p.c + 3u) / 4u;
    let vectors = taps_y.count * taps_x.count * depth4;

    // What this invocation brings: one pixel's vector of x, one row's vector of w.
    let pixel = place_of(min(first_row + id / 4u, p.rows - 1u));
    let base = slot * p.slot_x + pixel.x * p.stride_x + part * p.c;
    let y0 = i32(pixel.y * p.read_y) + taps_y.start;
    let x0 = i32(pixel.z * p.read_x) + taps_x.start;
#ifdef TRANS_W
    let k_mine = id % 16u;
    let to_w = k_mine * 17u + id / 16u;
    let channels = min(vec4<u32>(first_column + id / 16u * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.n - 1u));
    let w_from = slot * p.slot_w + part * p.c + channels * p.ld_w;
#else
    let k_mine = id / 16u;
    let to_w = k_mine * 17u + id % 16u;
    let w_from = (slot * p.slot_w + part * p.n) / 4u + min(first_column / 4u + id % 16u, last4);
#endif
#unroll r 0 4
    var s_${r} = vec4<f32>(0.0);
#endunroll
    for (var v0 = 0u; v0 < vectors; v0 += 4u) {
        {
            let v = v0 + id % 4u;
            let tap = v / depth4;
            let c = (v % depth4) * 4u;
            let y = y0 + i32(tap / taps_x.count) * p.move_y;
            let x_ = x0 + i32(tap % taps_x.count) * p.move_x;
            let used = v < vectors && inside(y, x_);
            let from_pixel = bitcast<u32>(y * i32(p.in_w) + x_);
            let value = x[select(0u, (base + from_pixel * p.ld_x + c) / 4u, used)];
            let real = (vec4<u32>(c) + vec4<u32>(0u, 1u, 2u, 3u)) < vec4<u32>(p.c);
            tile_x[(id / 4u) * 5u + id % 4u] = select(vec4<f32>(0.0), value, real & vec4<bool>(used));
        }
        {
            let v = min(v0 + k_mine / 4u, vectors - 1u);
            let tap = v / depth4;
            let c = min((v % depth4) * 4u + k_mine % 4u, p.c - 1u);
            let i = taps_y.first + (tap / taps_x.count) * p.step_y;
            let j = taps_x.first + (tap % taps_x.count) * p.step_x;
#ifdef TRANS_W
            let w_at = w_from + vec4<u32>((i * p.kernel_w + j) * p.n * p.ld_w + c);
            tile_w[to_w] = vec4<f32>(w[w_at.x], w[w_at.y], w[w_at.z], w[w_at.w]);
#else
            tile_w[to_w] = w[((i * p.kernel_w + j) * p.c + c) * (p.ld_w / 4u) + w_from];
#endif
        }
        workgroupBarrier();
#unroll v 0 4
        {
#unroll r 0 4
            let x_${r} = tile_x[(lane.y * 4u + ${r}u) * 5u + ${v}u];
#endunroll
#unroll e 0 4
            let w_${e} = tile_w[(${v}u * 4u + ${e}u) * 17u + lane.x];
#unroll r 0 4
            s_${r} = fma(vec4<f32>(x_${r}[${e}]), w_${e}, s_${r});
#endunroll
#endunroll
        }
#endunroll
        workgroupBarrier();
    }
    let column4 = first_column / 4u + lane.x;
    if (column4 > last4) {
        return;
    }
    if ((p.flags & BIAS) != 0u) {
        let b = slot * p.slot_bias + part * p.n + min(vec4<u32>(column4 * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.n - 1u));
        let value = vec4<f32>(bias[b.x], bias[b.y], bias[b.z], bias[b.w]);
#unroll r 0 4
        s_${r} += value;
#endunroll
    }
    if ((p.flags & RELU) != 0u) {
#unroll r 0 4
        s_${r} = max(s_${r}, vec4<f32>(0.0));
#endunroll
    }
#unroll r 0 4
    {
        let row = first_row + lane.y * 4u + ${r}u;
        let place = place_of(min(row, p.rows - 1u));
        let y = place.y * p.spacing_y + phase_y;
        let x_ = place.z * p.spacing_x + phase_x;
        if (row < p.rows && y < p.out_h && x_ < p.out_w) {
            let to = slot * p.slot_out + place.x * p.stride_out + (y * p.out_w + x_) * p.ld_out;
            out[to / 4u + part * p.n / 4u + column4] = s_${r};
        }
    }
#endunroll
}
