// What lies before each chunk of a stream (run_chunks): carry[o] = (items before it, zeros since the last one), and for the stream
//   total = (non-zero values, sum of (gap + p.add) >> p.run_bits over all gaps but that at the end, zeros at the end, zeros before the first
//   non-zero value, or all of them). Items are non-zero values, with p.cuts = 1 the cuts of long gaps too.
//
// Buffers (u32): chunk [streams, p.per_stream] by vectors of four; carry [streams, p.per_stream] of two; total [streams] of four.
// Precision: exact. Undefined: nothing. Bounds: guarded by p.streams.
// Geometry: WIDE: workgroup (64,1,1) a stream, each lane a contiguous piece of its chunks: it sums up, takes over what the lanes before it
//   summed up (in workgroup memory), and walks again. Else an invocation a stream, for streams of few chunks.
// Races: a barrier between write and read of the lanes' sums, one more before the next stream; chunks, carries and totals have one writer.

struct Params {
    grid: vec4<u32>,
    threads: u32, streams: u32, per_stream: u32, run_bits: u32,
    add: u32, cuts: u32, pad0: u32, pad1: u32,
}
@group(0) @binding(0) var<storage, read_write> chunk: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> carry: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> total: array<vec4<u32>>;
@group(1) @binding(0) var<uniform> p: Params;

// Two neighbouring stretches as one, each as a chunk is written. An empty one is 0.
fn join(a: vec4<u32>, b: vec4<u32>) -> vec4<u32> {
    let gap = a.y + b.x;
    let inside = a.w + b.w + ((gap + p.add) >> p.run_bits);
    let both = vec4<u32>(a.x, b.y, a.z + b.z, inside);
    let only_a = vec4<u32>(select(a.x, a.x + b.x, a.z == 0u), a.y + b.x, a.z, a.w);
    let only_b = vec4<u32>(a.x + b.x, b.y, b.z, b.w);
    return select(select(both, only_b, a.z == 0u), only_a, b.z == 0u);
}

// The first gap counts too; it has no non-zero value before it.
fn with_first(s: vec4<u32>) -> vec4<u32> {
    let first = (s.x + p.add) >> p.run_bits;
    return vec4<u32>(s.z, select(s.w + first, 0u, s.z == 0u), s.y, s.x);
}

fn walk(base: u32, first: u32, end: u32, before: vec4<u32>) -> vec4<u32> {
    var s = before;
    for (var k = first; k < end; k++) {
        let t = with_first(s);
        carry[base + k] = vec2<u32>(t.x + p.cuts * t.y, t.z);
        s = join(s, chunk[base + k]);
    }
    return s;
}

#ifdef WIDE
var<workgroup> sums: array<vec4<u32>, 64>;

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var stream = group.x + p.grid.x; stream < p.streams; stream += p.threads) {
        let base = stream * p.per_stream;
        let piece = (p.per_stream + 63u) / 64u;
        let first = min(lane.x * piece, p.per_stream);
        let end = min(first + piece, p.per_stream);
        var own = vec4<u32>(0u);
        for (var k = first; k < end; k++) {
            own = join(own, chunk[base + k]);
        }
        sums[lane.x] = own;
        workgroupBarrier();
        var before = vec4<u32>(0u);
        for (var t = 0u; t < lane.x; t++) {
            before = join(before, sums[t]);
        }
        let all = walk(base, first, end, before);
        if (lane.x == 63u) {
            total[stream] = with_first(all);
        }
        workgroupBarrier();
    }
}
#else
@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    for (var stream = (group.x + p.grid.x) * 64u + lane.x; stream < p.streams; stream += p.threads) {
        total[stream] = with_first(walk(stream * p.per_stream, 0u, p.per_stream, vec4<u32>(0u)));
    }
}
#endif
