// Certified loss of every row (Gowal et al., 2018): s CE(x, t) + (1 - s) CE(z, t), with x the logits, t the label and z the worst
//   logits that interval bounds allow, z_j = c_j + r_j for j != t and z_t = c_t - r_t; CE(v, t) = log sum_j exp(v_j - v_t).
//   Gradients: s (softmax(x) - [j = t]) / n for x; (1 - s) (softmax(z) - [j = t]) / n for c; for r the same, at t with the
//   other sign; n = rows of the slot that count (at least 1).
//
// Buffers (f32, vectors of four, rows of p.classes with pitch p.pitch): logits, gradient [slots, 2 rows, C], x and then c; radii,
//   g_radii [slots, rows, C]; targets (u32 labels [slots or 1, rows]); scratch f32 [slots, 3, rows]: loss, 1 if right, 1 if
//   counted, in planes of p.plane elements; coefficients [slots, ...], s in column p.column; with GRADIENT results f32
//   [slots, 4], of which the third is n (loss_count). Strides between slots in elements.
// Right is a row whose label has the largest logit, the first of equal ones; with p.bounds 1 one whose z has its one largest
//   element at the label, which is what interval bounds prove (here in f32, without error terms). A row with NaN is neither.
// A label that is no class is ignored, whatever the logits hold.
// An invocation has a row: four partial sums take j = 4 q + lane in ascending order.
// Precision: one rounding for z, then as loss_classes: exp of d has 3 + 2 |d| ulp, the sum depth ceil(C / 4) + 2, log 2^-21
//   near 1, 3 ulp elsewhere. No exponent is positive, so nothing overflows.
// Undefined: NaN and infinity in logits or radii give NaN in their row. Padding is not used; that of the gradients becomes 0.
// Geometry: workgroup (64,1,1), grid-stride over rows; y covers slots with stride p.slot_step.
// Races: an invocation writes its own vectors and rows. Bounds: guarded by rows, C and slots; a label is clamped before it
//   is an index.
// Tried: nothing else; networks that are certified have few classes.

struct Params {
    grid: vec4<u32>,
    rows: u32, classes: u32, pitch: u32, threads: u32,
    slots: u32, slot_step: u32, stride_logits: u32, stride_radii: u32,
    stride_gradient: u32, stride_g_radii: u32, stride_targets: u32, stride_scratch: u32,
    plane: u32, stride_results: u32, stride_c: u32, column: u32,
    bounds: u32, pad0: u32, pad1: u32, pad2: u32,
}
@group(0) @binding(0) var<storage, read_write> logits: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> radii: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> coefficients: array<f32>;
@group(0) @binding(4) var<storage, read_write> scratch: array<f32>;
#ifdef GRADIENT
@group(0) @binding(5) var<storage, read_write> gradient: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> g_radii: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> results: array<f32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

fn element(v: vec4<f32>, i: u32) -> f32 {
    return select(select(v.x, v.y, i == 1u), select(v.z, v.w, i == 3u), i >= 2u);
}

fn indices(q: u32) -> vec4<u32> {
    return vec4<u32>(q * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
}

// Not a number, or infinite.
fn is_broken(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) == 0x7f800000u;
}

// Four logits, or worst logits.
fn value(at: u32, at_radius: u32, q: u32, t: u32, worst: bool) -> vec4<f32> {
    let r = select(vec4<f32>(0.0), radii[at_radius + q], worst);
    return logits[at + q] + select(r, -r, indices(q) == vec4<u32>(t));
}

@compute @workgroup_size(64, 1, 1)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) lane: vec3<u32>) {
    let quads = (p.classes + 3u) / 4u;
    let classes = vec4<u32>(p.classes);
    for (var b = group.y + p.grid.y; b < p.slots; b += p.slot_step) {
        let share = coefficients[b * p.stride_c + p.column];
#ifdef GRADIENT
        let rows = max(results[b * p.stride_results + 2u], 1.0);
#endif
        for (var row = (group.x + p.grid.x) * 64u + lane.x; row < p.rows; row += p.threads) {
            let label = targets[b * p.stride_targets + row];
            let counted = label < p.classes;
            let t = min(label, p.classes - 1u);
            let at_radius = (b * p.stride_radii + row * p.pitch) / 4u;
            var loss = 0.0;
            var right = false;
            for (var part = 0u; part < 2u; part++) {
                let worst = part == 1u;
                let at = (b * p.stride_logits + (row + part * p.rows) * p.pitch) / 4u;
                let of_label = element(value(at, at_radius, t / 4u, t, worst), t % 4u);
                // Elements behind the row repeat the label's: harmless for a maximum.
                var top = vec4<f32>(of_label);
                for (var q = 0u; q < quads; q++) {
                    let v = value(at, at_radius, q, t, worst);
                    top = max(top, select(vec4<f32>(of_label), v, indices(q) < classes));
                }
                let largest = max(max(top.x, top.y), max(top.z, top.w));
                var sum = vec4<f32>(0.0);
                var ahead = vec4<f32>(0.0);
                for (var q = 0u; q < quads; q++) {
                    let v = value(at, at_radius, q, t, worst);
                    let j = indices(q);
                    let inside = j < classes;
                    sum += select(vec4<f32>(0.0), exp(select(vec4<f32>(0.0), v - largest, inside)), inside);
                    let first = (j < vec4<u32>(t)) | (vec4<bool>(worst) & (j > vec4<u32>(t)));
                    let better = (v > vec4<f32>(of_label)) | ((v == vec4<f32>(of_label)) & first);
                    ahead += select(vec4<f32>(0.0), vec4<f32>(1.0), better & inside);
                }
                let total = (sum.x + sum.y) + (sum.z + sum.w);
                let of_part = log(total) - (of_label - largest);
                let weight = select(share, 1.0 - share, worst);
                loss += weight * of_part;
                let beaten = (ahead.x + ahead.y) + (ahead.z + ahead.w) > 0.0;
                right = select(right, !beaten && !is_broken(of_part), part == p.bounds);
#ifdef GRADIENT
                let to = (b * p.stride_gradient + (row + part * p.rows) * p.pitch) / 4u;
                let to_radius = (b * p.stride_g_radii + row * p.pitch) / 4u;
                for (var q = 0u; q < quads; q++) {
                    let j = indices(q);
                    let hit = select(vec4<f32>(0.0), vec4<f32>(1.0), j == vec4<u32>(t));
                    let e = exp(value(at, at_radius, q, t, worst) - largest) / total;
                    let g = select(vec4<f32>(0.0), weight * (e - hit) / rows, vec4<bool>(counted) & (j < classes));
                    gradient[to + q] = g;
                    if (worst) {
                        g_radii[to_radius + q] = select(g, -g, j == vec4<u32>(t));
                    }
                }
#endif
            }
            let to = b * p.stride_scratch + row;
            scratch[to] = select(0.0, loss, counted);
            scratch[to + p.plane] = select(0.0, 1.0, counted && right);
            scratch[to + 2u * p.plane] = select(0.0, 1.0, counted);
        }
    }
}
