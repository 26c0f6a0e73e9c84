//! Result files as VNN-COMP's rules want them: a word, and for `sat` the counterexample.

use std::fmt::Write as _;

use wavehull::verify::{Counterexample, Outcome, Verdict};

/// The file of a finished instance, `result` being its word.
pub fn result_file(result: &str, outcome: Option<&Outcome>) -> String {
    match outcome.map(|o| &o.verdict) {
        Some(Verdict::Violated(found)) => format!("{result}\n{}\n", assignment(found)),
        _ => format!("{result}\n"),
    }
}

/// `((X_0 v)`, one pair a line, `(Y_9 v))`; numbers read back to the same f64.
fn assignment(found: &Counterexample) -> String {
    let mut text = String::from("(");
    for (name, values) in [("X", &found.x), ("Y", &found.y)] {
        for (index, value) in values.iter().enumerate() {
            let gap = if text.len() > 1 { "\n" } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(text, "{gap}({name}_{index} {value:?})");
        }
    }
    text.push(')');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counterexamples_read_back_exactly() {
        let found = Counterexample { query: 0, conjunction: 0, x: vec![0.1, -1e-300], y: vec![2.0] };
        assert_eq!(assignment(&found), "((X_0 0.1)\n(X_1 -1e-300)\n(Y_0 2.0))");
    }
}
