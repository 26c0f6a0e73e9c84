//! Property tests: no text makes the parser panic, decimals are enclosed, and a printed property parses back.

use proptest::prelude::*;

use crate::verify::property::{InputBox, Property, Query, Row};
use crate::verify::vnnlib::number::Number;
use crate::verify::vnnlib::parse;

/// A decimal with digits on both sides of the point, and its text.
fn decimal() -> impl Strategy<Value = String> {
    prop_oneof![
        (-1_000_000_i64..1_000_000, 0_u32..12).prop_map(|(n, k)| format!("{}e-{k}", n)),
        (-4096_i64..4096, 0_u32..10).prop_map(|(n, k)| format!("{}", n as f64 / f64::from(1 << k))),
        "-?[0-9]{1,25}\\.[0-9]{0,25}",
        "-?[0-9]{0,3}\\.[0-9]{1,3}[eE][+-]?[0-9]{1,3}",
        any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(|x| format!("{x:e}")),
        any::<f64>().prop_filter("finite", |x| x.is_finite()).prop_map(|x| format!("{x:.40}")),
    ]
}

/// Digits and power of ten of a decimal text, without zeros at either end: equal if and only if the real numbers are.
/// Shares nothing with the parser's own arithmetic.
fn canonical(text: &str) -> (bool, String, i64) {
    let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all: String = format!("{whole}{fraction}").replace(['-', '+'], "");
    let digits = all.trim_start_matches('0').trim_end_matches('0');
    if digits.is_empty() {
        return (false, String::new(), 0);
    }
    let zeros = all.len() - all.trim_end_matches('0').len();
    let power: i64 = power.parse().unwrap();
    (mantissa.starts_with('-'), digits.to_owned(), power - fraction.len() as i64 + zeros as i64)
}

/// True if the `f64` nearest to a decimal is that decimal: its full expansion (at most 1,074 places) says so.
fn is_exact(text: &str) -> bool {
    let value: f64 = text.parse().unwrap();
    canonical(text) == canonical(&format!("{value:.1100}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn literals_are_nearest_and_exactness_is_recognised(text in decimal()) {
        let value: f64 = text.parse().unwrap();
        let number = Number::parse(&text).unwrap();
        prop_assert_eq!(number.value, value);
        if !value.is_finite() {
            prop_assert!(!number.is_finite());
        } else if number.error == 0.0 {
            prop_assert!(is_exact(&text), "{} taken for exact", text);
            prop_assert_eq!((number.below(), number.above()), (value, value));
        } else {
            // More than 38 digits may be exact without being recognised; fewer must be.
            prop_assert!(!is_exact(&text) || canonical(&text).1.len() > 38, "{} taken for inexact", text);
            prop_assert_eq!((number.below(), number.above()), (value.next_down(), value.next_up()));
        }
    }

    #[test]
    fn integers_are_computed_exactly(a in any::<i64>(), b in any::<i64>(), k in 0_u32..9) {
        let number = |n: i64| Number::parse(&format!("{n}e-{k}")).unwrap();
        let (sum, product) = (number(a).plus(number(b)), number(a).times(number(b)));
        let (a, b) = (i128::from(a), i128::from(b));
        prop_assert_eq!(sum, Number::parse(&format!("{}e-{k}", a + b)).unwrap());
        prop_assert_eq!(product, Number::parse(&format!("{}e-{}", a * b, 2 * k)).unwrap());
        prop_assert_eq!(number(0).plus(sum.negated()), Number::parse(&format!("{}e-{k}", -a - b)).unwrap());
    }

    #[test]
    fn forgotten_decimals_stay_enclosed(a in WIDE, b in WIDE, (da, db) in (-9_i64..9, -9_i64..9), y in -99_i64..99, k in 0_u32..9, mirrored in any::<bool>()) {
        // (a b - (a + da) (b + db)) y cancels nearly all digits: every error term of the f64 path shows in its result.
        let number = |n: i64| Number::parse(&format!("{n}e-{k}")).unwrap();
        let compute = |keep: fn(Number) -> Number| {
            let [a, b, c, d, y] = [a, b, a + da, b + db, y].map(|n| keep(number(n)));
            let difference = keep(keep(a.times(b)).plus(keep(c.times(d)).negated()));
            if mirrored { y.times(difference) } else { difference.times(y) }
        };
        let (exact, rounded) = (compute(|n| n), compute(Number::forgotten));
        let real = |n: i64| i128::from(n);
        let product = (real(a) * real(b) - real(a + da) * real(b + db)) * real(y);
        prop_assert_eq!(exact.value, format!("{product}e-{}", 3 * k).parse::<f64>().unwrap());
        prop_assert!((exact.value - rounded.value).abs() <= (exact.error + rounded.error).next_up());
        prop_assert!(rounded.below() <= exact.above() && exact.below() <= rounded.above());
    }

    #[test]
    fn lost_digits_of_a_sum_stay_enclosed(a in WIDE, n in 1_i64..1 << 20) {
        // ((a + b) - a) - b is 0, but in f64 the low digits of b are lost in the first sum: all of them are exact inputs.
        let (a, b) = (Number::parse(&format!("{a}")).unwrap(), Number::parse(&format!("{}", n as f64 / 1024.0)).unwrap());
        let keep = Number::forgotten;
        let left = keep(keep(keep(keep(a).plus(keep(b))).plus(keep(a).negated())).plus(keep(b).negated()));
        prop_assert!(left.below() <= 0.0 && 0.0 <= left.above(), "{:?}", left);
        prop_assert!(a.plus(b).plus(a.negated()).plus(b.negated()).is_zero());
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn no_tokens_make_it_panic(tokens in prop::collection::vec(prop::sample::select(TOKENS), 0..200)) {
        let _ = parse(&tokens.join(" "));
    }

    #[test]
    fn no_damage_makes_it_panic(at in 0_usize..400, cut in 0_usize..8, put in prop::sample::select(TOKENS)) {
        let file = print(&damage_example());
        let (at, end) = (at.min(file.len()), (at + cut).min(file.len()));
        if let Err(error) = parse(&format!("{}{put}{}", &file[..at], &file[end..])) {
            prop_assert!(error.place().is_some_and(|p| p.position.is_some()), "{}", error);
            prop_assert!(error.help().is_some(), "{}", error);
        }
    }

    #[test]
    fn a_printed_property_parses_back(property in properties()) {
        let text = print(&property);
        let parsed = parse(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(parsed, property);
    }
}

/// Integers whose products have 29 to 31 digits: beyond `f64`, within decimals.
const WIDE: std::ops::Range<i64> = 100_000_000_000_000..900_000_000_000_000;

const TOKENS: &[&str] = &[
    "(",
    "(",
    "(",
    ")",
    ")",
    ")",
    "(assert",
    "(declare-const X_0 Real)",
    "(declare-const Y_0 Real)",
    "(declare-fun",
    "(and",
    "(or",
    "(<= ",
    "(>=",
    "(<",
    "(=",
    "(+",
    "(-",
    "(*",
    "X_0",
    "Y_0",
    "X_7",
    "-1.5e-3",
    ".5",
    "1.",
    "1e309",
    "1e-400",
    "nan",
    "; é\n",
    "\"",
    "|",
    "(<= X_0 1)",
    "(>= X_0 0)",
    "(<= Y_0 Y_0)",
    "(assert (<= X_0 1))",
    "99999999999999999999999999999999999999999999",
    "\u{feff}",
    "\0",
    "\r\n",
    "(set-logic",
    "Real",
    "e",
    "-",
];

fn damage_example() -> Property {
    let input = InputBox { lo: vec![0.0, 0.1], hi: vec![1.0, 0.3], lo_out: vec![], hi_out: vec![] };
    let row =
        Row { coefficients: vec![(0, 1.0), (1, -2.0)], constant: 0.5, slop: 0.0, coefficient_rel: 0.0, strict: true };
    let query = Query { input, unsafe_if: vec![vec![row.clone()], vec![row.clone(), row]] };
    Property { inputs: 2, outputs: 2, queries: vec![query.clone(), query] }
}

/// Properties as the parser makes them: different boxes, fields rounded outward from the shortest decimals of their `f64`s.
fn properties() -> impl Strategy<Value = Property> {
    (1_usize..5, 1_usize..5).prop_flat_map(|(inputs, outputs)| {
        let query = (boxes(inputs), prop::collection::vec(prop::collection::vec(row(outputs), 1..4), 1..4));
        prop::collection::vec(query.prop_map(|(input, unsafe_if)| Query { input, unsafe_if }), 1..4).prop_map(
            move |queries| {
                let mut kept: Vec<Query> = Vec::new();
                for query in queries {
                    if kept.iter().all(|k| k.input != query.input) {
                        kept.push(query);
                    }
                }
                Property { inputs, outputs, queries: kept }
            },
        )
    })
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-4096_i64..4096).prop_map(|n| n as f64 / 64.0),
        -1e3..1e3_f64,
        (-1e3..1e3_f64, -200_i32..200).prop_map(|(x, e)| x * 10.0_f64.powi(e)),
    ]
    .prop_map(|x| x + 0.0)
}

fn boxes(inputs: usize) -> impl Strategy<Value = InputBox> {
    prop::collection::vec((number(), number()), inputs).prop_map(|ends| {
        let (lo, hi): (Vec<f64>, Vec<f64>) = ends.into_iter().map(|(a, b)| (a.min(b), a.max(b))).unzip();
        let out = |x: &f64, step: fn(f64) -> f64| {
            if is_exact(&format!("{x:?}")) { *x } else { step(*x) }
        };
        let lo_out = lo.iter().map(|x| out(x, f64::next_down)).collect();
        let hi_out = hi.iter().map(|x| out(x, f64::next_up)).collect();
        InputBox { lo, hi, lo_out, hi_out }
    })
}

fn row(outputs: usize) -> impl Strategy<Value = Row> {
    let coefficients = prop::collection::vec(number(), outputs);
    (coefficients, number(), any::<bool>()).prop_map(|(coefficients, constant, strict)| {
        let half_ulp = f64::EPSILON / 2.0;
        let exact = |x: f64| is_exact(&format!("{x:?}"));
        let coefficients: Vec<(usize, f64)> = coefficients.into_iter().enumerate().filter(|&(_, c)| c != 0.0).collect();
        let coefficient_rel = if coefficients.iter().all(|&(_, c)| exact(c)) { 0.0 } else { half_ulp };
        let slop = if exact(constant) { 0.0 } else { constant.abs() * half_ulp };
        Row { coefficients, constant, slop, coefficient_rel, strict }
    })
}

/// A property as VNN-LIB: one `or` with a group for each conjunction of each query.
fn print(property: &Property) -> String {
    let mut text: String = (0..property.inputs).map(|i| format!("(declare-const X_{i} Real)\n")).collect();
    text.extend((0..property.outputs).map(|i| format!("(declare-const Y_{i} Real)\n")));
    text.push_str("(assert (or\n");
    for query in &property.queries {
        for conjunction in &query.unsafe_if {
            text.push_str("  (and");
            for (i, (lo, hi)) in query.input.lo.iter().zip(&query.input.hi).enumerate() {
                text.push_str(&format!(" (>= X_{i} {lo:?}) (<= X_{i} {hi:?})"));
            }
            for row in conjunction {
                let terms: String = row.coefficients.iter().map(|(i, c)| format!(" (* {c:?} Y_{i})")).collect();
                let relation = if row.strict { "<" } else { "<=" };
                text.push_str(&format!(" ({relation} (+ (* 0 Y_0){terms} {:?}) 0)", row.constant));
            }
            text.push_str(")\n");
        }
    }
    text + "))\n"
}
