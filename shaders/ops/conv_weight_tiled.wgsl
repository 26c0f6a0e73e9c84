// The contract of conv_weight.wgsl, for devices whose workgroup memory is a memory.
//
// A workgroup of 16 x 16 invocations owns a tile of 64 rows x 64 columns of one plane, 4 x 4 an invocation. Blocks of 16
// windows pass through workgroup memory (8 KiB): each invocation brings four rows of one window's x and one vector of its g.
// Windows behind the last of a chunk are zeros in both. Every accumulator walks the windows in ascending order, one fma a
// term: bit-identical to the direct variant wherever the device rounds alike.
// Buffers, precision, undefined: as conv_weight.wgsl.
// Geometry: workgroup (16,16,1); a workgroup takes one item, a tile of a plane: column tiles fastest, then row tiles, then
//   chunks; z covers slots and groups.
// Bounds: rows are clamped to the last one, columns to the last vector of the group; stores are guarded.
// Races: workgroup memory is written before and read after a barrier that all invocations reach (the loop's bounds depend on
//   the workgroup alone); an invocation writes its own outputs only.
// Tried: nothing else yet; not measured on a GPU. On a software device the direct variant is faster.

#import "lib/conv_weight"
#ifdef QUADS
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
#else
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
#endif
@group(0) @binding(1) var<storage, read_write> g: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Params;

// [window][four rows] and [window][vector of columns].
var<workgroup> tile_x: array<vec4<f32>, 256>;
var<workgroup> tile_g: array<vec4<f32>, 256>;

@compute @workgroup_size(16, 16, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let at = group + p.grid.xyz;
    let item = item_of(p.first + at.x);
    let first_column = item.column * 64u;
    let first_row = item.row * 64u;
    let part = at.z % p.parts;
    let slot = at.z / p.parts;
    let last4 = (p.n + 3u) / 4u - 1u;
    // What this invocation brings: four rows and a vector of columns of window lane.y of a block.
#ifdef QUADS
    let row = row_of(min(first_row + lane.x * 4u, p.rows - 4u));
#else
#unroll r 0 4
    let row_${r} = row_of(min(first_row + lane.x * 4u + ${r}u, p.rows - 1u));
#endunroll
#endif
    let x_base = slot * p.slot_x + part * p.c;
    let g_base = (slot * p.slot_g + part * p.n) / 4u + min(first_column / 4u + lane.x, last4);
    let mine = lane.y * 16u + lane.x;
#unroll r 0 4
    var s_${r} = vec4<f32>(0.0);
#endunroll
    let first = item.chunk * p.chunk;
    let end = min(first + p.chunk, p.pixels);
    let step = place_of(16u);
    var place = place_of(first + lane.y);
    for (var pixel = first; pixel < end; pixel += 16u) {
        let used = pixel + lane.y < end;
        let corner = x_base + corner_of(place);
        let y = i32(place.y * p.stride_y);
        let x_ = i32(place.z * p.stride_x);
#ifdef QUADS
        let reads = used && inside(y + row.y, x_ + row.x);
        tile_x[mine] = select(vec4<f32>(0.0), x[select(0u, (corner + row.start) / 4u, reads)], reads);
#else
#unroll r 0 4
        let in_${r} = used && inside(y + row_${r}.y, x_ + row_${r}.x);
        let v_${r} = select(0.0, x[select(0u, corner + row_${r}.start, in_${r})], in_${r});
#endunroll
        tile_x[mine] = vec4<f32>(v_0, v_1, v_2, v_3);
#endif
        tile_g[mine] = select(vec4<f32>(0.0), g[select(0u, g_base + pixel_of(place) / 4u, used)], used);
        workgroupBarrier();
#unroll t 0 16
        {
            let a = tile_x[${t}u * 16u + lane.y];
            let b = tile_g[${t}u * 16u + lane.x];
#unroll r 0 4
            s_${r} = fma(vec4<f32>(a[${r}]), b, s_${r});
#endunroll
        }
#endunroll
        workgroupBarrier();
        place = advance(place, step);
    }
#ifdef TURNED
    let base = slot * p.slot_w + item.chunk * p.plane + part * p.c;
#else
    let base = slot * p.slot_w + item.chunk * p.plane + part * p.n;
#endif
#unroll r 0 4
    store(base, first_row + lane.y * 4u + ${r}u, first_column + lane.x * 4u, s_${r});
#endunroll
}
