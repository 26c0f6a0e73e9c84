// Bounds and lines of the logistic function s(x) = 1 / (1 + exp(-x)) from a table that the host computes in f64 and rounds outward
// (verify/logistic.rs). The importing kernel binds the table as `logistic` (f32) and has u, the unit roundoff charged, in `p.u`.
//
// Entries 0 ..= SPAN * STEP: at x_i = i / STEP a number at or below s(x_i); entries GAP + i, 0 <= i <= SLOPES: a number at or below
//   g(k_i), k_i = i / (4 SLOPES), g(k) = min over x <= 0 of s(x) - k x.
// s is concave for x >= 0, so its chords lie below it, by at most BEND = max |s''| / (8 STEP^2); s(-x) = 1 - s(x). g is concave (a minimum of
//   functions linear in k), so its chords lie below it too. A chord costs 4 roundings of numbers of at most 1.

const STEP = 512.0;
const LAST = 8192u;
const GAP = 8200u;
const SLOPES = 4096.0;
const BEND = 6.0e-8;
const ROUND = 1.0e-6;

// A number at or below s(x) for x >= 0.
fn logistic_positive(x: f32) -> f32 {
    let t = min(x, 15.999) * STEP;
    let i = min(u32(t), LAST - 1u);
    let low = logistic[i];
    return low + (t - floor(t)) * (logistic[i + 1u] - low);
}

// (a number at or below s(x), a number at or above s(x)), both in [0, 1].
fn logistic_bounds(x: f32) -> vec2<f32> {
    let low = logistic_positive(abs(x));
    // The table's own outward rounding is part of ROUND; beyond the table s stays between its last entry and 1.
    let high = select(low + BEND + ROUND, 1.0, abs(x) >= 15.5);
    let up = vec2<f32>(max(low - ROUND, 0.5 - ROUND), min(high, 1.0));
    return clamp(select(up, vec2<f32>(1.0 - up.y - ROUND, 1.0 - up.x + ROUND), x < 0.0), vec2<f32>(0.0), vec2<f32>(1.0));
}

// An approximation, for choices that need not be sound.
fn logistic_near(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(-clamp(x, -30.0, 30.0)));
}

// The slope of a good lower line on [l, h]: of the chord where s is concave, of the tangent at the middle where it is convex, else of the
// tangent from (h, s(h)) to the convex part, or of that at the middle if it lies further left. (The last is auto_LiRPA's remedy against lines
// that jump as an interval grows past 0; without it bounds of a six-layer network were worse by two orders of magnitude.)
// Any slope is sound: the offset is computed for it.
fn logistic_lower_slope(l: f32, h: f32) -> f32 {
    let sl = logistic_near(l);
    let sh = logistic_near(h);
    let chord = select((sh - sl) / (h - l), sl * (1.0 - sl), h - l < 1.0e-3);
    if (l >= 0.0) {
        return chord;
    }
    if (h <= 0.0) {
        let mid = logistic_near(0.5 * (l + h));
        return mid * (1.0 - mid);
    }
    // The line through (d, s(d)) with slope s'(d) meets (h, s(h)) for one d < 0; bisection. Left of l the chord is the tightest.
    var left = l;
    var right = 0.0;
    if (chord <= sl * (1.0 - sl)) {
        return chord;
    }
    for (var step = 0; step < 16; step++) {
        let d = 0.5 * (left + right);
        let sd = logistic_near(d);
        if (sd * (1.0 - sd) * (h - d) < sh - sd) {
            left = d;
        } else {
            right = d;
        }
    }
    let sd = logistic_near(0.5 * min(left + right, l + h));
    return sd * (1.0 - sd);
}

// An offset t such that s(x) >= k x + t on [l, h], for any k in [0, 1/4].
//
// The minimum of s(x) - k x lies at an end, or where s' = k and s is convex, x <= 0: there it is g(k), whatever l and h. g is taken
// into account unless s' >= k all over [l, min(h, 0)] (the function rises: its left end is least) or s' <= k (its right end is).
fn logistic_lower_offset(k: f32, l: f32, h: f32) -> f32 {
    var t = min(logistic_bounds(l).x - k * l, logistic_bounds(h).x - k * h);
    let wide = 4.0 * p.u * k * max(abs(l), abs(h)) + ROUND;
    if (l < 0.0) {
        let low = logistic_bounds(l).x;
        let rises = low * (1.0 - low) - ROUND > k;
        let high = logistic_bounds(min(h, 0.0)).y;
        let falls = h < 0.0 && high * (1.0 - high) + ROUND < k;
        if (!rises && !falls) {
            let at = clamp(k, 0.0, 0.25) * (4.0 * SLOPES);
            let i = min(u32(at), u32(SLOPES) - 1u);
            let g = logistic[GAP + i];
            t = min(t, g + (at - f32(i)) * (logistic[GAP + i + 1u] - g));
        }
    }
    return t - wide;
}
