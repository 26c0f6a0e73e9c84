// Softmax cross-entropy with label smoothing s (Szegedy et al., CVPR 2016; torch's formula) of every row, and its gradient:
//   loss_r = log sum_j exp(d_j) - (1 - s) d_t - s / C sum_j d_j,   d_j = x_j - max x,   t the row's label,
//   gradient_rj = (exp(d_j) / sum exp(d) - s / C - (1 - s) [j = t]) / n,   n = rows of the slot that count (at least 1).
//
// Buffers: logits, gradient (f32 [slots, rows, C] with pitch p.pitch, by vectors of four); targets (u32 labels [slots or 1,
//   ...], rows of p.columns with pitch p.target_pitch); scratch f32 [slots, 3, rows]: loss, 1 if correct, 1 if counted, in
//   planes of p.plane elements; results f32 [slots, 4] of which the third is n (with GRADIENT; written by loss_count unless
//   WHOLE); with SMOOTHING table [slots, ...], s in column p.column. Strides between slots in elements.
// A label that is no class (u32::MAX by custom) is ignored: loss 0, gradient 0, not counted, whatever the logits hold.
//   Correct is a row whose label has the largest logit, the first of equal ones; a row with NaN is not.
// By default an invocation has a row: four partial sums take j = 4 q + lane in ascending order. WIDE: a workgroup has a row,
//   lane t takes vectors t, t + 64, ..., and a tree adds the lanes. WHOLE: a workgroup has all rows of a slot, lane t rows t,
//   t + 64, ..., counts them itself, and a tree adds the lanes for results, which it writes instead of the scratch: one
//   dispatch for small batches instead of three. The host chooses by rows and C alone, so the order of sums depends on
//   them alone.
// Precision: exp of d has 3 + 2 |d| ulp (WGSL), the sum depth ceil(C / 4) + 2, WIDE ceil(C / 256) + 8; no exponent is
//   positive, so nothing overflows and the sum is at least 1 up to rounding. log: 2^-21 near 1, 3 ulp elsewhere.
// Undefined: NaN and infinity in logits give NaN in their row. Padding of logits is not used; in the gradient it becomes 0.
// Geometry: workgroup (64,1,1); x covers rows with a stride (64 rows a workgroup; 1 if WIDE; all if WHOLE), y slots with
//   stride p.slot_step.
// Races: an invocation writes its own vectors and rows; a barrier between write and read of each tree level and before
//   workgroup memory is written again, in loops that depend on the workgroup alone. Bounds: guarded by rows, C and slots;
//   labels are clamped.
// Tried: three dispatches for small batches too: 0.15 ms a slot of 64 x 10 against 0.09 WHOLE on a busy software device, the
//   same at 64 slots. exp is taken twice rather than stored.

struct Params {
    grid: vec4<u32>,
    rows: u32, classes: u32, pitch: u32, row_step: u32,
    slots: u32, slot_step: u32, stride_logits: u32, stride_gradient: u32,
    stride_targets: u32, columns: u32, target_pitch: u32, stride_scratch: u32,
    plane: u32, stride_results: u32, stride_table: u32, column: u32,
    smoothing: f32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> logits: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> targets: array<u32>;
#ifdef WHOLE
@group(0) @binding(2) var<storage, read_write> results: array<f32>;
#else
@group(0) @binding(2) var<storage, read_write> scratch: array<f32>;
#ifdef GRADIENT
@group(0) @binding(4) var<storage, read_write> results: array<f32>;
#endif
#endif
#ifdef GRADIENT
@group(0) @binding(3) var<storage, read_write> gradient: array<vec4<f32>>;
#endif
#ifdef SMOOTHING
@group(0) @binding(${SMOOTHING}) var<storage, read_write> table: array<f32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

#ifdef WIDE
const STEP = 64u;
#else
const STEP = 1u;
#endif
#ifdef TREE
var<workgroup> partial: array<vec4<f32>, 64>;
#endif

fn element(v: vec4<f32>, i: u32) -> f32 {
    return select(select(v.x, v.y, i == 1u), select(v.z, v.w, i == 3u), i >= 2u);
}

fn label_of(b: u32, row: u32) -> u32 {
    return targets[b * p.stride_targets + row / p.columns * p.target_pitch + row % p.columns];
}

fn indices(q: u32) -> vec4<u32> {
    return vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
}

// Not a number, or infinite.
fn is_broken(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) == 0x7f800000u;
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let quads = (p.classes + 3u) / 4u;
#ifdef WIDE
    let mine = lane.x;
    let first_row = group.x + p.grid.x;
#else
    let mine = 0u;
    let first_row = (group.x + p.grid.x) * 64u + lane.x;
#endif
    for (var b = group.y + p.grid.y; b < p.slots; b += p.slot_step) {
#ifdef SMOOTHING
        let smoothing = table[b * p.stride_table + p.column];
#else
        let smoothing = p.smoothing;
#endif
        let spread = smoothing / f32(p.classes);
#ifdef WHOLE
        var totals = vec4<f32>(0.0);
#ifdef GRADIENT
        for (var row = lane.x; row < p.rows; row += 64u) {
            totals.z += select(0.0, 1.0, label_of(b, row) < p.classes);
        }
        partial[lane.x] = totals;
#unroll level 0 6
        workgroupBarrier();
        if (lane.x < (32u >> ${level}u)) {
            partial[lane.x] += partial[lane.x + (32u >> ${level}u)];
        }
#endunroll
        workgroupBarrier();
        let rows = max(partial[0].z, 1.0);
        workgroupBarrier();
        totals = vec4<f32>(0.0);
#endif
#else
#ifdef GRADIENT
        let rows = max(results[b * p.stride_results + 2u], 1.0);
#endif
#endif
        for (var row = first_row; row < p.rows; row += p.row_step) {
            let base = (b * p.stride_logits + row * p.pitch) / 4u;
            let label = label_of(b, row);
            let counted = label < p.classes;
            let t = min(label, p.classes - 1u);
            let of_label = element(logits[base + t / 4u], t % 4u);
            // Elements behind the row repeat its first: harmless for a maximum.
            let front = vec4<f32>(logits[base].x);
            var top = front;
            for (var q = mine; q < quads; q += STEP) {
                top = max(top, select(front, logits[base + q], indices(q) < vec4<u32>(p.classes)));
            }
#ifdef WIDE
            partial[lane.x] = top;
#unroll level 0 6
            workgroupBarrier();
            if (lane.x < (32u >> ${level}u)) {
                partial[lane.x] = max(partial[lane.x], partial[lane.x + (32u >> ${level}u)]);
            }
#endunroll
            workgroupBarrier();
            top = partial[0];
            workgroupBarrier();
#endif
            let largest = max(max(top.x, top.y), max(top.z, top.w));
            var sum = vec4<f32>(0.0);
            var linear = vec4<f32>(0.0);
            var ahead = vec4<f32>(0.0);
            for (var q = mine; q < quads; q += STEP) {
                let x = logits[base + q];
                let j = indices(q);
                let inside = j < vec4<u32>(p.classes);
                let d = select(vec4<f32>(0.0), x - largest, inside);
                sum += select(vec4<f32>(0.0), exp(d), inside);
                linear += d;
                let better = (x > vec4<f32>(of_label)) | ((x == vec4<f32>(of_label)) & (j < vec4<u32>(t)));
                ahead += select(vec4<f32>(0.0), vec4<f32>(1.0), better & inside);
            }
            var sums = vec4<f32>(
                (sum.x + sum.y) + (sum.z + sum.w),
                (linear.x + linear.y) + (linear.z + linear.w),
                (ahead.x + ahead.y) + (ahead.z + ahead.w),
                0.0,
            );
#ifdef WIDE
            partial[lane.x] = sums;
#unroll level 0 6
            workgroupBarrier();
            if (lane.x < (32u >> ${level}u)) {
                partial[lane.x] += partial[lane.x + (32u >> ${level}u)];
            }
#endunroll
            workgroupBarrier();
            sums = partial[0];
            workgroupBarrier();
#endif
            if (mine == 0u) {
                let loss = log(sums.x) - (1.0 - smoothing) * (of_label - largest) - spread * sums.y;
                let correct = sums.z == 0.0 && !is_broken(loss);
                let of_row = select(vec3<f32>(0.0), vec3<f32>(loss, select(0.0, 1.0, correct), 1.0), counted);
#ifdef WHOLE
                totals += vec4<f32>(of_row, 0.0);
#else
                let to = b * p.stride_scratch + row;
                scratch[to] = of_row.x;
                scratch[to + p.plane] = of_row.y;
                scratch[to + 2u * p.plane] = of_row.z;
#endif
            }
#ifdef GRADIENT
            let to = (b * p.stride_gradient + row * p.pitch) / 4u;
            for (var q = mine; q < quads; q += STEP) {
                let j = indices(q);
                let hit = select(vec4<f32>(0.0), vec4<f32>(1.0 - smoothing), j == vec4<u32>(t));
                let g = (exp(logits[base + q] - largest) / sums.x - spread - hit) / rows;
                gradient[to + q] = select(vec4<f32>(0.0), g, vec4<bool>(counted) & (j < vec4<u32>(p.classes)));
            }
#endif
        }
#ifdef WHOLE
        partial[lane.x] = totals;
#unroll level 0 6
        workgroupBarrier();
        if (lane.x < (32u >> ${level}u)) {
            partial[lane.x] += partial[lane.x + (32u >> ${level}u)];
        }
#endunroll
        if (lane.x == 0u) {
            let s = partial[0];
            let to = b * p.stride_results;
            results[to] = s.x / max(s.z, 1.0);
            results[to + 1u] = s.y;
            results[to + 2u] = s.z;
            results[to + 3u] = s.x;
        }
        workgroupBarrier();
#endif
    }
}
