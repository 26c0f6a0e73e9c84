//! The exact text and place of each error.

use crate::error::ErrorKind::{self, BadInput, Unsupported};
use crate::verify::vnnlib::parse;

/// Two lines of declarations, so that the text under test starts on line 3.
pub(super) const HEADER: &str = "(declare-const X_0 Real)(declare-const X_1 Real)
(declare-const Y_0 Real)(declare-const Y_1 Real)
";
/// Bounds for both inputs, on one line.
pub(super) const BOX: &str = "(assert (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1)))\n";

const FILE: &str = "a file consists of `(declare-const X_0 Real)`, `(declare-const Y_0 Real)` and `(assert ...)`";
const NAMES: &str = "inputs are named X_0, X_1, ... and outputs Y_0, Y_1, ...";
const LINEAR: &str =
    "bound each input by constants, and put the conditions on the outputs into comparisons of their own";

/// Text, place, message, help.
pub(super) type Case<'a> = (&'a str, (usize, usize), &'a str, &'a str);

pub(super) fn check(kind: ErrorKind, header: &str, cases: &[Case<'_>]) {
    for &(text, position, message, help) in cases {
        let error = parse(&format!("{header}{text}")).expect_err(text);
        let text: String = text.chars().take(200).collect();
        assert_eq!(error.message(), message, "{text}");
        assert_eq!(error.help(), Some(help), "{text}");
        assert_eq!(error.place().and_then(|p| p.position), Some(position), "{text}");
        assert_eq!(error.kind(), kind, "{text}");
    }
}

#[test]
fn brackets_and_commands() {
    let closes = "remove it, or look before it for a `)` too many";
    let missing = "add the missing `)`";
    let join = "join several conditions by `(and ...)`, or write several asserts";
    let condition = "a condition is a comparison, `(and ...)` or `(or ...)`";
    check(
        BadInput,
        HEADER,
        &[
            ("(assert (<= Y_0 0)))", (3, 20), "this `)` closes nothing", closes),
            ("; é (\n é", (4, 2), "expected a command such as `(assert ...)`, found `é`", FILE),
            ("(assert (<= Y_0 0)", (3, 1), "this `(` is never closed", missing),
            ("(assert (or (<= Y_0 0)\n(<= Y_1 0)\n", (3, 9), "this `(` is never closed", missing),
            ("(assert (<= Y_0", (3, 9), "this `(` is never closed", missing),
            ("(assert (<= Y_0 (+ 1", (3, 17), "this `(` is never closed", missing),
            (
                "(assert (or (<= Y_0 0)\n(assert (<= Y_1 0))",
                (4, 2),
                "`assert` inside a condition",
                "a `)` is missing before it",
            ),
            ("(assert)", (3, 8), "expected a condition such as `(<= Y_0 Y_1)`, found `)`", condition),
            ("(assert Y_0)", (3, 9), "expected a condition such as `(<= Y_0 Y_1)`, found `Y_0`", condition),
            ("(assert (<= Y_0 0) (<= Y_1 0))", (3, 20), "expected `)`: `assert` takes one condition, found `(`", join),
            ("(maximize Y_0)", (3, 2), "unknown command `maximize`", FILE),
            ("()", (3, 2), "expected a command, found `)`", FILE),
            ("(\"assert\")", (3, 2), "expected a command, found quoted text", FILE),
            ("(assert \"Y_0\")", (3, 9), "expected a condition such as `(<= Y_0 Y_1)`, found quoted text", condition),
            ("(assert (<= Y_0 0))\n(set-info :x (y", (4, 1), "this `(` is never closed", missing),
        ],
    );
    let help = "use the VNN-LIB 1.0 form of the property (`declare-const X_0 Real`)";
    check(
        Unsupported,
        "",
        &[("(vnnlib-version <2.0>)", (1, 2), "`vnnlib-version` belongs to VNN-LIB 2.0, which is not read yet", help)],
    );
}

#[test]
fn declarations() {
    let gaps = "without gaps, before their first use";
    check(
        BadInput,
        HEADER,
        &[
            ("(declare-const X_0 Real)", (3, 16), "X_0 is declared twice", "remove one of the declarations"),
            (
                "(declare-const X_01 Real)",
                (3, 16),
                "`X_01` is neither a number nor a name of an input or output",
                NAMES,
            ),
            ("(declare-const x_2 Real)", (3, 16), "`x_2` is neither a number nor a name of an input or output", NAMES),
            (
                "(declare-const X_99999999999 Real)",
                (3, 16),
                "`X_99999999999` is neither a number nor a name of an input or output",
                NAMES,
            ),
            ("(declare-const (X_2) Real)", (3, 16), "expected a name such as X_0, found `(`", NAMES),
            ("(declare-const X_2 Int)", (3, 20), "expected `Real`, found `Int`", "the sort of every variable is Real"),
            (
                "(declare-const X_2 Real 1)",
                (3, 25),
                "expected `)`, found `1`",
                "a declaration is a name and the sort Real",
            ),
            (
                "(declare-fun X_2 (Real) Real)",
                (3, 19),
                "expected `)`: a variable has no arguments, found `Real`",
                "declare a constant: `(declare-const X_0 Real)`",
            ),
            (
                "(declare-fun X_2 Real)",
                (3, 18),
                "expected `()`, found `Real`",
                "declare a constant: `(declare-const X_0 Real)`",
            ),
            (
                "(declare-const X_4 Real)",
                (3, 16),
                "X_4 is declared but X_2 is not",
                &format!("declare X_0, X_1, ... {gaps}"),
            ),
            (
                "(declare-const Y_3 Real)(assert (<= Y_3 0))",
                (3, 16),
                "Y_3 is declared but Y_2 is not",
                &format!("declare Y_0, Y_1, ... {gaps}"),
            ),
            (
                "(assert (<= Y_2 0))",
                (3, 13),
                "`Y_2` is not declared",
                "Y_0 to Y_1 are declared; declare others before their first use",
            ),
            ("(assert (<= Z_2 0))", (3, 13), "`Z_2` is neither a number nor a name of an input or output", NAMES),
            (
                "(assert (<= X_0 0))",
                (2, 16),
                "no assertion speaks of an output",
                "add the condition that makes an output a counterexample, for example `(assert (<= Y_0 0))`",
            ),
        ],
    );
    check(
        BadInput,
        "",
        &[
            ("", (1, 1), "the file declares no input", "add `(declare-const X_0 Real)`"),
            ("(declare-const X_0 Real)\n", (2, 1), "the file declares no output", "add `(declare-const Y_0 Real)`"),
            (
                "(assert (<= Y_0 0))",
                (1, 13),
                "`Y_0` is not declared",
                "declare it before its first use: `(declare-const Y_0 Real)`",
            ),
        ],
    );
}

#[test]
fn comparisons_and_expressions() {
    let expression = "an expression is a number, a variable, or a list such as `(+ Y_0 (* 2 Y_1))`";
    let operands = "write it like `(<= Y_0 Y_1)` or `(<= X_0 0.5)`";
    let decimals = "write numbers as decimals, such as -1.5 or 2e-3";
    check(
        BadInput,
        HEADER,
        &[
            ("(assert (<= Y_0))", (3, 9), "`<=` takes two operands", operands),
            (
                "(assert (<= Y_0 1 2))",
                (3, 19),
                "expected `)`: a comparison takes two operands, found `2`",
                "write one comparison for each pair",
            ),
            (
                "(assert (and))",
                (3, 9),
                "`and` has no conditions",
                "put at least one condition into it, or remove the `(and)`",
            ),
            (
                "(assert (or))",
                (3, 9),
                "`or` has no conditions",
                "put at least one condition into it, or remove the `(or)`",
            ),
            (
                "(assert (nand (<= Y_0 0)))",
                (3, 10),
                "unknown condition `nand`",
                "conditions start with `<=`, `>=`, `<`, `>`, `=`, `and` or `or`",
            ),
            ("(assert (<= Y_0 (+)))", (3, 17), "`+` has no operands", expression),
            ("(assert (<= Y_0 (^ 2 3)))", (3, 18), "unknown operator `^`", expression),
            ("(assert (<= Y_0 nan))", (3, 17), "`nan` is not a real number", decimals),
            ("(assert (<= Y_0 -INF))", (3, 17), "`-INF` is not a real number", decimals),
            (
                "(assert (<= Y_0 1e400))",
                (3, 17),
                "`1e400` is beyond the range of f64 (1.8e308)",
                "leave the bound out, or choose one that the network can reach",
            ),
            (
                "(assert (<= (* 1e200 1e200 Y_0) 0))",
                (3, 9),
                "a number in this condition is beyond the range of f64 (1.8e308)",
                "scale the condition down",
            ),
            (
                "(assert (<= X_0 (* 1e200 1e200)))",
                (3, 9),
                "a number in this condition is beyond the range of f64 (1.8e308)",
                "scale the condition down",
            ),
            ("(assert (<= Y_0 1.5.5))", (3, 17), "`1.5.5` is neither a number nor a name of an input or output", NAMES),
            ("(assert (<= Y_0 .))", (3, 17), "`.` is neither a number nor a name of an input or output", NAMES),
            ("(assert (<= Y_0 1e))", (3, 17), "`1e` is neither a number nor a name of an input or output", NAMES),
            (
                "(assert (<= Y_0 a\u{7}b))",
                (3, 17),
                "`a\\u{7}b` is neither a number nor a name of an input or output",
                NAMES,
            ),
        ],
    );
    let conditions = "write the condition with `and`, `or` and comparisons";
    check(
        Unsupported,
        HEADER,
        &[
            ("(assert (not (<= Y_0 0)))", (3, 10), "`not` is not supported in conditions", conditions),
            (
                "(assert (<= Y_0 (/ 1 3)))",
                (3, 18),
                "`/` is not supported",
                "write the quotient as a decimal, or multiply the comparison by the divisor",
            ),
            (
                "(assert (<= (* Y_0 Y_1) 1))",
                (3, 13),
                "this product of two variables is not linear",
                "at most one factor of a product may contain variables",
            ),
            (
                "(assert (<= (* 1e-400 Y_0) 1))",
                (3, 9),
                "the factor of Y_0 in this condition is lost in rounding to f64",
                "simplify the condition by hand: factors that are 0 or at least 1e-300 in size are kept",
            ),
            (
                "(assert (and\n  (<= Y_0 X_1)))",
                (4, 3),
                "this condition relates the input X_1 and the output Y_0",
                LINEAR,
            ),
            ("(assert (<= (+ X_0 X_1) 1))", (3, 9), "this condition relates the inputs X_0 and X_1", LINEAR),
            (
                "(assert (<= (* 2 X_0) 1))",
                (3, 9),
                "X_0 has a factor in this bound",
                "divide by hand and write `(<= X_0 c)` with the quotient for c, rounded outward",
            ),
        ],
    );
}

#[test]
fn boxes() {
    let swap = "swap the two bounds, or remove the one that does not belong";
    let y = "(assert (<= Y_0 0))\n";
    let lower = "add `(assert (>= X_1 c))` with a number for c";
    let upper = "add `(assert (<= X_1 c))` with a number for c";
    let half = "(assert (and (>= X_0 0) (<= X_0 1) (>= X_1 0)))";
    let header = format!("{HEADER}{y}");
    check(
        BadInput,
        &header,
        &[
            (
                "(assert (>= X_0 1))\n(assert (<= X_0 0.5))",
                (5, 9),
                "no value is left for X_0: it must be at least 1 and at most 0.5",
                swap,
            ),
            ("(assert (and (>= X_0 0) (<= X_0 1) (<= X_1 0)))", (1, 40), "X_1 has no lower bound", lower),
            (half, (1, 40), "X_1 has no upper bound", upper),
            (
                &format!("{half}\n(assert (or (<= X_1 1)\n  (<= X_0 0.5)))"),
                (6, 3),
                "X_1 has no upper bound in this part of the `or`",
                upper,
            ),
        ],
    );
    let header = format!("{header}{BOX}");
    let contradict = "the input bounds of the `or`s contradict each other in every combination";
    check(
        BadInput,
        &header,
        &[
            (
                "(assert (or (<= X_0 0.5)\n (and (>= X_0 0.5) (<= X_0 0.25))))",
                (6, 20),
                "no value is left for X_0: it must be at least 0.5 and at most 0.25",
                swap,
            ),
            (
                "(assert (or (<= X_0 0.5)\n (>= X_0 2)))",
                (6, 2),
                "no value is left for X_0: it must be at least 2 and at most 1",
                swap,
            ),
            (
                "(assert (or (<= X_0 0.25) (<= X_0 0.125)))\n(assert (or (>= X_0 0.5) (>= X_0 0.75)))",
                (6, 9),
                contradict,
                "check the bounds on the inputs: no input is left to look at",
            ),
        ],
    );
}
