//! What each form means.

mod errors;
mod files;
mod limits;
mod random;

use super::parse;
use crate::verify::property::{Property, Row};

/// Declarations of inputs and outputs, each input in [0, 1] unless `free`, and then the text.
fn with_header(inputs: usize, outputs: usize, free: bool, text: &str) -> String {
    let mut file: String = (0..inputs).map(|i| format!("(declare-const X_{i} Real)\n")).collect();
    file.extend((0..outputs).map(|i| format!("(declare-const Y_{i} Real)\n")));
    if !free {
        file.extend((0..inputs).map(|i| format!("(assert (>= X_{i} 0))\n(assert (<= X_{i} 1))\n")));
    }
    file + text
}

/// The property of two inputs in [0, 1] and three outputs with these asserts.
fn property(asserts: &str) -> Property {
    parse(&with_header(2, 3, false, asserts)).unwrap_or_else(|e| panic!("{e}\nin\n{asserts}"))
}

/// The conditions of a property with one query, written out.
fn conditions(asserts: &str) -> Vec<Vec<String>> {
    let property = property(asserts);
    assert_eq!(property.queries.len(), 1, "one box in {asserts}");
    let written = |rows: &Vec<Row>| rows.iter().map(Row::to_string).collect();
    property.queries[0].unsafe_if.iter().map(written).collect()
}

#[test]
fn comparisons_of_outputs() {
    for (assert, row) in [
        ("(assert (<= Y_0 Y_1))", "Y_0 <= Y_1"),
        ("(assert (>= Y_0 Y_1))", "Y_1 <= Y_0"),
        ("(assert (< Y_0 Y_1))", "Y_0 < Y_1"),
        ("(assert (> Y_0 Y_1))", "Y_1 < Y_0"),
        ("(assert (<= Y_2 3.5))", "Y_2 <= 3.5"),
        ("(assert (>= Y_2 -3.5))", "Y_2 >= -3.5"),
        ("(assert (<= 3.5 Y_2))", "Y_2 >= 3.5"),
        ("(assert (> (- 3.5) Y_2))", "Y_2 < -3.5"),
        ("(assert (<= (+ Y_0 (* 2 Y_1) 1) (- Y_2 .5)))", "Y_0 + 2*Y_1 <= Y_2 - 1.5"),
        ("(assert (<= (* 2 (- Y_0 Y_1 1) 0.25) (- Y_2)))", "0.5*Y_0 + Y_2 <= 0.5*Y_1 + 0.5"),
        ("(assert (<= (* Y_0 -2) (+ (* (+ 1 2) Y_0) 1.)))", "5*Y_0 >= -1"),
        ("(assert (<= (+ Y_0 Y_1) (+ Y_0 Y_2)))", "Y_1 <= Y_2"),
        ("(assert (<= (* 0.1 Y_0) (+ (* 0.3 Y_0) (- (* 0.2 Y_0)) Y_1)))", "Y_1 >= 0"),
        ("(assert(<=Y_0\r\n\tY_1;comment)\n))", "Y_0 <= Y_1"),
        ("(set-logic QF_LRA)(set-info :source |a ( in text|)(assert (<= Y_0 1e0))(check-sat)", "Y_0 <= 1"),
    ] {
        let assert = assert.replace("(<=Y_0", "(<= Y_0");
        assert_eq!(conditions(&assert), [[row]], "{assert}");
    }
}

#[test]
fn equality_is_two_rows() {
    assert_eq!(conditions("(assert (= Y_0 2))"), [["Y_0 <= 2", "Y_0 >= 2"]]);
    let input = &property("(assert (= X_0 0.25)) (assert (<= Y_0 0))").queries[0].input;
    assert_eq!((&input.lo[..], &input.hi[..]), (&[0.25, 0.0][..], &[0.25, 1.0][..]));
}

#[test]
fn conjunctions_and_disjunctions_keep_the_order_of_the_file() {
    assert_eq!(conditions("(assert (<= Y_0 Y_1)) (assert (<= Y_2 0))"), [["Y_0 <= Y_1", "Y_2 <= 0"]]);
    assert_eq!(
        conditions("(assert (and (<= Y_0 1) (and (<= Y_1 2) (<= Y_2 3))))"),
        [["Y_0 <= 1", "Y_1 <= 2", "Y_2 <= 3"]]
    );
    assert_eq!(
        conditions("(assert (or (<= Y_2 Y_0) (and (<= Y_1 Y_0) (<= Y_1 5)) (or (<= Y_0 1) (<= Y_0 2))))"),
        [vec!["Y_2 <= Y_0"], vec!["Y_1 <= Y_0", "Y_1 <= 5"], vec!["Y_0 <= 1"], vec!["Y_0 <= 2"]]
    );
    assert_eq!(
        conditions("(assert (or (<= Y_0 1) (<= Y_0 2))) (assert (or (<= Y_1 3) (<= Y_1 4))) (assert (<= Y_2 5))"),
        [
            ["Y_2 <= 5", "Y_0 <= 1", "Y_1 <= 3"],
            ["Y_2 <= 5", "Y_0 <= 1", "Y_1 <= 4"],
            ["Y_2 <= 5", "Y_0 <= 2", "Y_1 <= 3"],
            ["Y_2 <= 5", "Y_0 <= 2", "Y_1 <= 4"],
        ]
    );
    assert_eq!(
        conditions("(assert (or (and (<= Y_0 1) (or (<= Y_1 2) (<= Y_1 3))) (<= Y_2 4)))"),
        [vec!["Y_0 <= 1", "Y_1 <= 2"], vec!["Y_0 <= 1", "Y_1 <= 3"], vec!["Y_2 <= 4"]]
    );
}

#[test]
fn boxes_in_groups_become_queries_and_equal_boxes_share_one() {
    let property = property(
        "(assert (or
            (and (<= X_0 0.5) (<= Y_0 1))
            (and (>= X_0 0.5) (<= X_1 2) (<= Y_0 2))
            (<= Y_0 3)
            (and (<= X_0 0.5) (<= X_0 0.75) (<= Y_0 4))
            (and (<= X_1 1) (<= Y_0 5))))",
    );
    let found: Vec<_> = property
        .queries
        .iter()
        .map(|q| {
            let rows: Vec<String> = q.unsafe_if.iter().flatten().map(Row::to_string).collect();
            (q.input.lo.clone(), q.input.hi.clone(), rows.join(", "))
        })
        .collect();
    let expected = [
        (vec![0.0, 0.0], vec![0.5, 1.0], "Y_0 <= 1, Y_0 <= 4".to_owned()),
        (vec![0.5, 0.0], vec![1.0, 1.0], "Y_0 <= 2".to_owned()),
        (vec![0.0, 0.0], vec![1.0, 1.0], "Y_0 <= 3, Y_0 <= 5".to_owned()),
    ];
    assert_eq!(found, expected);
}

#[test]
fn boxes_multiply_with_conditions_and_empty_combinations_vanish() {
    let text = "(assert (or (<= X_0 0.5) (> X_0 0.5)))
        (assert (or (<= Y_0 1) (<= Y_0 2)))
        (assert (or (and (<= X_0 0.25) (<= Y_1 3)) (and (<= X_1 0.5) (<= Y_1 4))))";
    let boxes: Vec<_> = property(text)
        .queries
        .iter()
        .map(|q| (q.input.lo[0], q.input.hi[0], q.input.hi[1], q.unsafe_if.len()))
        .collect();
    // X_0 > 0.5 and X_0 <= 0.25 exclude each other.
    assert_eq!(boxes, [(0.0, 0.25, 1.0, 2), (0.0, 0.5, 0.5, 2), (0.5_f64.next_up(), 1.0, 0.5, 2)]);
}

#[test]
fn a_partition_by_a_strict_bound_has_no_overlap() {
    let split = "(or (< X_0 0.5) (>= X_0 0.5))";
    let property = property(&format!("(assert {split}) (assert {split}) (assert (<= Y_0 0))"));
    let boxes: Vec<_> = property.queries.iter().map(|q| (q.input.lo[0], q.input.hi[0], q.input.hi_out[0])).collect();
    assert_eq!(boxes, [(0.0, 0.5_f64.next_down(), 0.5), (0.5, 1.0, 1.0)]);
}

#[test]
fn a_combination_is_dropped_only_if_no_real_number_is_left() {
    // 0.1 <= X_0 < 0.1 + 1e-30 has no f64, but it has real numbers: dropping it would prove too much.
    let text = "(assert (or (>= X_0 0.1) (>= X_0 0.2)))
        (assert (or (< X_0 0.100000000000000000000000000001) (<= X_0 0.5)))
        (assert (<= Y_0 0))";
    let error = parse(&with_header(2, 3, false, text)).expect_err("no f64 is left");
    assert_eq!(error.message(), "no value is left for X_0: it must be at least 0.1 and at most 0.09999999999999999");
}

#[test]
fn bounds_of_one_input() {
    for (assert, lo, hi) in [
        ("(<= X_0 0.5)", 0.0, 0.5),
        ("(<= 0.5 X_0)", 0.5, 1.0),
        ("(>= 0.5 X_0)", 0.0, 0.5),
        ("(<= (- X_0) -0.5)", 0.5, 1.0),
        ("(<= (+ X_0 0.25) 0.5)", 0.0, 0.25),
        ("(<= 0.5 (- 0.75 X_0))", 0.0, 0.25),
        ("(<= (- (* 2 X_0) X_0) (+ 0.25 0.5))", 0.0, 0.75),
        ("(and (<= X_0 0.5) (<= X_0 0.25) (>= X_0 0.125) (>= X_0 -7))", 0.125, 0.25),
    ] {
        let property = property(&format!("(assert {assert}) (assert (<= Y_0 0))"));
        assert_eq!((property.queries[0].input.lo[0], property.queries[0].input.hi[0]), (lo, hi), "{assert}");
    }
}

#[test]
fn decimals_are_enclosed() {
    let text = "(declare-fun X_0 () Real)(declare-const X_1 Real)(declare-const Y_0 Real)
        (assert (>= X_0 0.1)) (assert (<= X_0 0.3)) (assert (>= X_1 -0.0)) (assert (< X_1 0.3))
        (assert (<= (* 0.1 Y_0) 0.7)) (assert (<= (* 3 Y_0) (+ 0.1 0.2 0.2)))";
    let property = parse(text).unwrap();
    let input = &property.queries[0].input;
    assert_eq!((input.lo[0], input.hi[0]), (0.1, 0.3));
    assert_eq!((input.lo_out[0], input.hi_out[0]), (0.1_f64.next_down(), 0.3_f64.next_up()));
    assert_eq!((input.lo[1].to_bits(), input.lo_out[1].to_bits()), (0, 0), "-0 is 0, and exact");
    assert_eq!((input.hi[1], input.hi_out[1]), (0.3_f64.next_down(), 0.3_f64.next_up()), "strict");
    let half_ulp = f64::EPSILON / 2.0;
    let rows = &property.queries[0].unsafe_if[0];
    assert_eq!((rows[0].coefficient_rel, rows[0].slop), (half_ulp, 0.7 * half_ulp));
    // 0.1 + 0.2 + 0.2 is exactly 0.5 as a decimal, though not in f64.
    assert_eq!((rows[1].coefficient_rel, rows[1].slop, rows[1].constant), (0.0, 0.0, -0.5));
}

#[test]
fn many_alternatives_share_a_wide_box_and_stay_linear() {
    // As wide as the widest benchmark (VGG, 150,528 inputs): a box per alternative would be 4.8 GB.
    let mut text = with_header(150_528, 1000, false, "(assert (or\n");
    text.extend((1..1000).map(|i| format!("(and (>= Y_{i} Y_0))\n")));
    text.push_str("))\n");
    let property = parse(&text).unwrap();
    assert_eq!((property.queries.len(), property.queries[0].unsafe_if.len()), (1, 999));
    // A single alternative, many times over, must not be copied anew each time.
    let text = with_header(1, 1, false, &"(assert (or (and (<= Y_0 1) (<= X_0 0.5))))".repeat(50_000));
    let property = parse(&text).unwrap();
    assert_eq!((property.queries.len(), property.queries[0].unsafe_if[0].len()), (1, 50_000));
}
