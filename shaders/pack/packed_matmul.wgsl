// y[c, m, n] = scale[n] * sum over the k of chunk c of x[m, k] W[n, k]: a product with a matrix of bytes, which with PACKED lies in memory
// as groups of 32 values at the width of each (`width_pack`) and is decoded on its way into the sum.
//
// Buffers: x (f32, by vectors) [p.m, p.depth], finite; scale (f32) [p.n]; y (f32) [chunks, p.m, p.n], rows p.ld_y apart, planes p.plane; the matrix
//   [p.n, p.depth] of signed bytes, 4 a word: by vectors as `weights`, or with PACKED (u32) as `widths` (nibbles, 8 a word), `data` and starts
//   [p.n, chunks], the word of data where the part of a row that belongs to a chunk begins. p.depth is a multiple of 32.
// Chunks: 256 k each, a function of the depth alone; whoever adds the planes is another dispatch (ops/matmul, `split_sum`).
// Precision: within a chunk one accumulator, ascending k, explicit fma: at most 256 roundings on any term, and one by the scale; bytes are
//   exact as f32. With and without PACKED every bit of y is the same, and for any MT, ROWS and LANES.
// Undefined: NaN and infinity in x.
// Geometry: workgroup (LANES,1,1); an invocation has ROWS neighbouring rows of W times MT rows of x. x covers the rows of W, y the chunks, z rows of
//   x. With few rows of x the matrix is what memory has to bring: each of its bytes comes once for MT of them.
// Races: an invocation writes its own sums. Bounds: rows are clamped when loading and stores guarded; reads of data follow from widths and starts,
//   which the host has checked, and reach one word behind a group.
// Tried (2 cores, Mesa 22.3): see pack/codec/matmul.rs.

struct Params {
    grid: vec4<u32>,
    m: u32, n: u32, depth: u32, chunks: u32,
    ld_x: u32, ld_y: u32, plane: u32, pad0: u32,
}
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> scale: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#ifdef PACKED
@group(0) @binding(3) var<storage, read_write> widths: array<u32>;
@group(0) @binding(4) var<storage, read_write> data: array<u32>;
@group(0) @binding(5) var<storage, read_write> starts: array<u32>;
#else
@group(0) @binding(3) var<storage, read_write> weights: array<vec4<u32>>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(${LANES}, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let row = (at.x * ${LANES}u + lane.x) * ${ROWS}u;
    let chunk = at.y;
    let first_m = at.z * ${MT}u;
    if (row >= p.n) {
        return;
    }
    let groups = p.depth / 32u;
    let end = min(chunk * 8u + 8u, groups);
#unroll r 0 ${ROWS}
    let row_${r} = min(row + ${r}u, p.n - 1u);
#ifdef PACKED
    var from_${r} = starts[row_${r} * p.chunks + chunk];
#endif
#endunroll
#unroll i 0 ${MT}
    let x_${i} = min(first_m + ${i}u, p.m - 1u) * p.ld_x;
#unroll r 0 ${ROWS}
    var s_${i}_${r} = 0.0;
#endunroll
#endunroll
    for (var g = chunk * 8u; g < end; g++) {
#unroll r 0 ${ROWS}
        let of_${r} = row_${r} * groups + g;
#ifdef PACKED
        let width_${r} = (widths[of_${r} / 8u] >> (of_${r} % 8u * 4u)) & 15u;
        // A field of four values, its sign bit moved to the top and back; of width 0 there is nothing to move.
        let left_${r} = (vec4<u32>(32u) - width_${r} * vec4<u32>(1u, 2u, 3u, 4u)) & vec4<u32>(31u);
        let right_${r} = vec4<u32>((32u - width_${r}) & 31u);
        let some_${r} = select(0u, 0xffffffffu, width_${r} != 0u);
        var bit_${r} = 0u;
        var low_${r} = data[from_${r}];
#else
        let eight_${r} = of_${r} * 2u;
#endif
#endunroll
#unroll h 0 2
#ifndef PACKED
#unroll r 0 ${ROWS}
        let four_${h}_${r} = weights[eight_${r} + ${h}u];
#endunroll
#endif
#unroll j 0 4
#unroll r 0 ${ROWS}
#ifdef PACKED
        let high_${h}_${j}_${r} = data[from_${r} + (bit_${r} + 4u * width_${r}) / 32u];
        let word_${h}_${j}_${r} = ((low_${r} >> (bit_${r} % 32u)) | ((high_${h}_${j}_${r} << 1u) << (31u - bit_${r} % 32u))) & some_${r};
        low_${r} = high_${h}_${j}_${r};
        bit_${r} += 4u * width_${r};
        let w_${h}_${j}_${r} = vec4<f32>(vec4<i32>(vec4<u32>(word_${h}_${j}_${r}) << left_${r}) >> right_${r});
#else
        let w_${h}_${j}_${r} = vec4<f32>(vec4<i32>(vec4<u32>(four_${h}_${r}[${j}]) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
#endif
#endunroll
#unroll i 0 ${MT}
        let v_${h}_${j}_${i} = x[x_${i} + g * 8u + ${h}u * 4u + ${j}u];
#unroll r 0 ${ROWS}
        s_${i}_${r} = fma(v_${h}_${j}_${i}.x, w_${h}_${j}_${r}.x, s_${i}_${r});
        s_${i}_${r} = fma(v_${h}_${j}_${i}.y, w_${h}_${j}_${r}.y, s_${i}_${r});
        s_${i}_${r} = fma(v_${h}_${j}_${i}.z, w_${h}_${j}_${r}.z, s_${i}_${r});
        s_${i}_${r} = fma(v_${h}_${j}_${i}.w, w_${h}_${j}_${r}.w, s_${i}_${r});
#endunroll
#endunroll
#endunroll
#endunroll
#ifdef PACKED
#unroll r 0 ${ROWS}
        from_${r} += width_${r};
#endunroll
#endif
    }
#unroll r 0 ${ROWS}
    if (row + ${r}u < p.n) {
#unroll i 0 ${MT}
        if (first_m + ${i}u < p.m) {
            y[chunk * p.plane + (first_m + ${i}u) * p.ld_y + row + ${r}u] = scale[row_${r}] * s_${i}_${r};
        }
#endunroll
    }
#endunroll
}
