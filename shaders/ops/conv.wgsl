// out[b, y, x, m] = act(bias[m] + sum over taps (i, j) and channels c of x[b, source(y, i), source(x, j), c] w[i, j, c, m]),
// forward and transposed (lib/conv.wgsl has both maps); what lies outside of x counts as 0. With groups, output channels of a
// group read the channels of that group.
//
// Implicit GEMM, direct variant: no workgroup memory, no barrier. Rows are output pixels, columns output channels, k runs over
// (i, j, c). Each invocation owns a tile of TM pixels x TN channels in registers (TN a multiple of 4) and walks k in
// ascending order with one accumulator an output: bit-identical to conv_tiled.wgsl wherever the device rounds alike.
//
// Buffers (f32, channels last, pixels and weight rows start at multiples of 4):  x [slots, batch, in_h, in_w, groups c];
//   w [slots, kernel_h, kernel_w, c, groups n] or, with TRANS_W, the weight of the transposed map, [.., n, groups c];
//   out [slots, batch, out_h, out_w, groups n];  bias [slots, groups n] if p.flags & BIAS.
//   More than one group needs c and n to be multiples of 4. A slot stride of 0 shares an operand.
// Precision: at most kernel_h kernel_w c roundings of unit 2^-23 on any one term, and one of the bias; terms outside of x are
//   exact zeros. No value depends on the slots, the batch size, the grid or TM, TN: bit-identical
//   along both; TRANS_W changes no bit either.
// Undefined: contents of padding channels; NaN and infinity in the operands.
// Geometry: workgroup (LANES,1,1), p.lanes of them along the channels, the others along the pixels; x covers pixels of a phase,
//   y channels of a group, z slots, groups and phases.
// Bounds: pixels are clamped to the last one of the phase and channels to the last vector of the group when loading; stores are
//   guarded by out_h, out_w and that vector.
// Races: an invocation writes its own tile only; phases interleave, they do not overlap.
// Tried: tiles of 16 x 16, 16 x 8 and 16 x 4, chosen by the number of channels, after the direct matrix product (matmul.wgsl
//   has the measured times of its tiles). TRANS_W by scalars of w and x 27 GFLOP/s, by fours 33 (Mesa 22.3; the other order
//   35). Not measured on a GPU.

#import "lib/conv"
#ifdef TRANS_W
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
#else
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
#endif
@group(0) @binding(1) var<storage, read_write> w: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> bias: array<f32>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let column = (at.y * p.lanes + lane.x % p.lanes) * ${TN}u;
    let row = p.first + (at.x * (${LANES}u / p.lanes) + lane.x / p.lanes) * ${TM}u;
    if (column >= p.n || row >= p.rows) {
        return;
    }
    let phases = p.spacing_y * p.spacing_x;
    let part = at.z / phases % p.parts;
    let slot = at.z / phases / p.parts;
    let phase_y = (at.z % phases) / p.spacing_x;
    let phase_x = (at.z % phases) % p.spacing_x;
    let taps_y = rows_of(phase_y);
    let taps_x = columns_of(phase_x);
    let last4 = (p.n + 3u) / 4u - 1u;
#unroll j 0 ${TN4}
    let column_${j} = part * p.n / 4u + min(column / 4u + ${j}u, last4);
#ifdef TRANS_W
    // Four channels written are four rows of w; one past n repeats the last.
    let channels_${j} = min(vec4<u32>(column + ${j}u * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.n - 1u));
    let w_from_${j} = slot * p.slot_w + part * p.c + channels_${j} * p.ld_w;
#else
    let w_from_${j} = slot * p.slot_w / 4u + column_${j};
#endif
#endunroll
#unroll r 0 ${TM}
    let place_${r} = place_of(min(row + ${r}u, p.rows - 1u));
    let base_${r} = slot * p.slot_x + place_${r}.x * p.stride_x + part * p.c;
    let y_${r} = i32(place_${r}.y * p.read_y) + taps_y.start;
    let x_${r} = i32(place_${r}.z * p.read_x) + taps_x.start;
#endunroll
#unroll r 0 ${TM}
#unroll j 0 ${TN4}
    var s_${r}_${j} = vec4<f32>(0.0);
#endunroll
#endunroll
    for (var ti = 0u; ti < taps_y.count; ti++) {
        for (var tj = 0u; tj < taps_x.count; tj++) {
            let dy = i32(ti) * p.move_y;
            let dx = i32(tj) * p.move_x;
#unroll r 0 ${TM}
            let in_${r} = inside(y_${r} + dy, x_${r} + dx);
            let from_${r} = select(0u, base_${r} + bitcast<u32>((y_${r} + dy) * i32(p.in_w) + x_${r} + dx) * p.ld_x, in_${r});
#endunroll
            let tap = (taps_y.first + ti * p.step_y) * p.kernel_w + taps_x.first + tj * p.step_x;
#ifdef TRANS_W
            let w_tap = tap * p.n * p.ld_w;
#else
            let w_tap = tap * p.c * (p.ld_w / 4u);
#endif
#ifdef TRANS_W
            // Four terms at once: those of an output channel lie side by side in w. Behind the last both factors are 0.
            for (var c = 0u; c < p.c; c += 4u) {
                let real = (vec4<u32>(c) + vec4<u32>(0u, 1u, 2u, 3u)) < vec4<u32>(p.c);
#unroll j 0 ${TN4}
                let at_${j} = (w_from_${j} + vec4<u32>(w_tap + c)) / 4u;
#unroll e 0 4
                let row_${j}_${e} = select(vec4<f32>(0.0), w[at_${j}[${e}]], real);
#endunroll
#unroll k 0 4
                let w_${j}_${k} = vec4<f32>(row_${j}_0[${k}], row_${j}_1[${k}], row_${j}_2[${k}], row_${j}_3[${k}]);
#endunroll
#endunroll
#unroll r 0 ${TM}
                let v_${r} = select(vec4<f32>(0.0), x[(from_${r} + c) / 4u], real & vec4<bool>(in_${r}));
#unroll k 0 4
#unroll j 0 ${TN4}
                s_${r}_${j} = fma(vec4<f32>(v_${r}[${k}]), w_${j}_${k}, s_${r}_${j});
#endunroll
#endunroll
#endunroll
            }
#else
            for (var c = 0u; c < p.c; c++) {
#unroll j 0 ${TN4}
                let w_${j} = w[w_tap + c * (p.ld_w / 4u) + w_from_${j}];
#endunroll
#unroll r 0 ${TM}
                let v_${r} = vec4<f32>(select(0.0, x[from_${r} + c], in_${r}));
#unroll j 0 ${TN4}
                s_${r}_${j} = fma(v_${r}, w_${j}, s_${r}_${j});
#endunroll
#endunroll
            }
#endif
        }
    }
    if ((p.flags & BIAS) != 0u) {
#unroll j 0 ${TN4}
        let at_${j} = slot * p.slot_bias + part * p.n + min(vec4<u32>(column + ${j}u * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.n - 1u));
        let bias_${j} = vec4<f32>(bias[at_${j}.x], bias[at_${j}.y], bias[at_${j}.z], bias[at_${j}.w]);
#unroll r 0 ${TM}
        s_${r}_${j} += bias_${j};
#endunroll
#endunroll
    }
    if ((p.flags & RELU) != 0u) {
#unroll r 0 ${TM}
#unroll j 0 ${TN4}
        s_${r}_${j} = max(s_${r}_${j}, vec4<f32>(0.0));
#endunroll
#endunroll
    }
#unroll r 0 ${TM}
    let out_y_${r} = place_${r}.y * p.spacing_y + phase_y;
    let out_x_${r} = place_${r}.z * p.spacing_x + phase_x;
    if (row + ${r}u < p.rows && out_y_${r} < p.out_h && out_x_${r} < p.out_w) {
        let to_${r} = (slot * p.slot_out + place_${r}.x * p.stride_out + (out_y_${r} * p.out_w + out_x_${r}) * p.ld_out) / 4u;
#unroll j 0 ${TN4}
        if (column / 4u + ${j}u <= last4) {
            out[to_${r} + column_${j}] = s_${r}_${j};
        }
#endunroll
    }
#endunroll
}
