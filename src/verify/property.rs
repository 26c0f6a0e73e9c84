//! A property as data: boxes over the inputs, and for each box the linear conditions under which an output is a
//! counterexample.

use std::fmt;

/// One bound of an input as written in the property: the decimal, and its roundings.
///
/// A proof uses the outward `f32` (`lo_out`, `hi_out`), which encloses the real number; an attack uses `f64`
/// values (`lo`, `hi`), the decimals to nearest as every other tool reads them, and what it finds is moved between the real ends
/// ([`InputBox::clamp`]). A strict bound (`<`) moves `lo` or `hi`
/// one `f64` inward and leaves the outward end where it was.
#[derive(Debug, Clone, PartialEq)]
pub struct InputBox {
    /// Lower ends, decimal to nearest `f64`.
    pub lo: Vec<f64>,
    /// Upper ends, decimal to nearest `f64`.
    pub hi: Vec<f64>,
    /// Largest `f64` known to be at most the real lower end (equal to `lo` when the decimal is exact).
    pub lo_out: Vec<f64>,
    /// Smallest `f64` known to be at least the real upper end.
    pub hi_out: Vec<f64>,
}

impl InputBox {
    /// The `f64` nearest to `value` that lies within the real ends of input `i`, not only within their roundings; where none
    /// does (the ends are closer than neighbouring `f64`), within the roundings.
    pub fn clamp(&self, i: usize, value: f64) -> f64 {
        let (lo, hi) = (self.lo[i], self.hi[i]);
        // A rounded end is less than one step away from the real one.
        let within_lo = if self.lo_out[i] < lo { lo.next_up() } else { lo };
        let within_hi = if self.hi_out[i] > hi { hi.next_down() } else { hi };
        if within_lo <= within_hi { value.clamp(within_lo, within_hi) } else { value.clamp(lo, hi) }
    }
}

/// The condition `coefficients . Y + constant <= 0` on the outputs.
///
/// `constant` and coefficients are the decimals to nearest `f64`; `slop` bounds the absolute error of `constant`
/// and `coefficient_rel` the error of every coefficient relative to its stored value (both 0 when the decimals are
/// exact in `f64`).
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Output indices and their coefficients, each index at most once, ascending.
    pub coefficients: Vec<(usize, f64)>,
    /// The constant.
    pub constant: f64,
    /// Bound on the absolute error of `constant`.
    pub slop: f64,
    /// Bound on the relative error of each coefficient.
    pub coefficient_rel: f64,
    /// True if the property demands `< 0` instead of `<= 0`.
    pub strict: bool,
}

/// A conjunction of [`Row`]s: an output that fulfils all of them is a counterexample.
pub type Conjunction = Vec<Row>;

/// A box with the disjunction of conditions that make an output of it a counterexample.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The inputs.
    pub input: InputBox,
    /// Any one of these conjunctions, fulfilled, is a counterexample. An empty conjunction is always fulfilled;
    /// an empty list never is.
    pub unsafe_if: Vec<Conjunction>,
}

/// A VNN-LIB property: a counterexample to any query is a counterexample to the property.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    /// Number of declared inputs `X_i`.
    pub inputs: usize,
    /// Number of declared outputs `Y_i`.
    pub outputs: usize,
    /// The queries, in the order of the file's disjunctions.
    pub queries: Vec<Query>,
}

/// How many conditions [`Property::summary`] spells out before it counts the rest.
const SHOWN: usize = 3;
/// Rows with more outputs than this are named, not spelled out, by [`Property::summary`].
const SHOWN_OUTPUTS: usize = 6;

impl Property {
    /// The property in one line of words, for example `784 inputs in a box (widest side 0.06), 10 outputs; violated if
    /// Y_7 <= Y_0 or Y_7 <= Y_1 or Y_7 <= Y_2 or 6 more`.
    ///
    /// Short for any size: it spells out a few conditions and counts the rest.
    pub fn summary(&self) -> String {
        let shape = match self.queries.len() {
            1 => "a box".to_owned(),
            n => format!("{n} boxes"),
        };
        let widest = self.queries.iter().map(|q| q.input.widest()).fold(0.0, f64::max);
        // Three digits are enough to recognise a radius by.
        let widest: f64 = format!("{widest:.2e}").parse().unwrap_or(widest);
        let inputs = counted(self.inputs, "input");
        let outputs = counted(self.outputs, "output");
        let violated = match self.queries.as_slice() {
            [] => "never violated".to_owned(),
            [only] => format!("violated if {}", only.conditions()),
            [first, rest @ ..] if rest.iter().all(|q| q.unsafe_if == first.unsafe_if) => {
                format!("violated if, in any box, {}", first.conditions())
            }
            [first, rest @ ..] => format!(
                "violated if, in the first box, {} (and conditions of their own in {})",
                first.conditions(),
                match rest.len() {
                    1 => "the other box".to_owned(),
                    n => format!("{n} other boxes"),
                }
            ),
        };
        format!("{inputs} in {shape} (widest side {widest}), {outputs}; {violated}")
    }
}

impl InputBox {
    /// The length of the longest side, 0 without inputs.
    pub fn widest(&self) -> f64 {
        self.lo.iter().zip(&self.hi).map(|(lo, hi)| hi - lo).fold(0.0, f64::max)
    }
}

impl Query {
    /// The disjunction in words, shortened.
    fn conditions(&self) -> String {
        if self.unsafe_if.is_empty() {
            return "nothing (no condition is left)".to_owned();
        }
        let alone = self.unsafe_if.len() == 1;
        let spelled: Vec<String> =
            self.unsafe_if.iter().take(SHOWN).map(|conjunction| words(conjunction, alone)).collect();
        listed(&spelled, self.unsafe_if.len(), " or ")
    }
}

/// A conjunction in words, in brackets unless it stands alone.
fn words(conjunction: &[Row], alone: bool) -> String {
    let spelled: Vec<String> = conjunction
        .iter()
        .take(SHOWN)
        .map(|row| match row.coefficients.len() {
            0..=SHOWN_OUTPUTS => row.to_string(),
            n => format!("a condition on {n} outputs"),
        })
        .collect();
    match conjunction.len() {
        0 => "any output at all".to_owned(),
        1 => spelled.concat(),
        n if alone => listed(&spelled, n, " and "),
        n => format!("({})", listed(&spelled, n, " and ")),
    }
}

/// The spelled items, and how many there are beyond them.
fn listed(spelled: &[String], count: usize, joint: &str) -> String {
    let mut list = spelled.join(joint);
    if count > spelled.len() {
        list.push_str(&format!("{joint}{} more", count - spelled.len()));
    }
    list
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The condition as one would write it by hand: `Y_0 <= Y_1`, `Y_0 >= 3.5`, `Y_0 + 2*Y_1 < Y_2 - 1`. The full row,
/// however long; decimals to nearest `f64`.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |sign: f64| {
            let terms: Vec<String> = self
                .coefficients
                .iter()
                .filter(|(_, c)| c * sign > 0.0)
                .map(|&(i, c)| if c * sign == 1.0 { format!("Y_{i}") } else { format!("{}*Y_{i}", c * sign) })
                .collect();
            terms.join(" + ")
        };
        let (left, right) = (side(1.0), side(-1.0));
        let (relation, mirrored) = if self.strict { ("<", ">") } else { ("<=", ">=") };
        // Adding 0 shows -0 as 0.
        let negated = 0.0 - self.constant;
        match (left.is_empty(), right.is_empty()) {
            (true, true) => write!(f, "{} {relation} 0", self.constant),
            (false, true) => write!(f, "{left} {relation} {negated}"),
            (true, false) => write!(f, "{right} {mirrored} {}", self.constant),
            (false, false) if self.constant == 0.0 => write!(f, "{left} {relation} {right}"),
            (false, false) if self.constant > 0.0 => {
                write!(f, "{left} {relation} {right} - {}", self.constant)
            }
            (false, false) => write!(f, "{left} {relation} {right} + {negated}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(coefficients: &[(usize, f64)], constant: f64, strict: bool) -> Row {
        Row { coefficients: coefficients.to_vec(), constant, slop: 0.0, coefficient_rel: 0.0, strict }
    }

    fn query(hi: f64, unsafe_if: Vec<Conjunction>) -> Query {
        let (lo, hi) = (vec![0.0, 0.0], vec![hi, hi / 2.0]);
        let input = InputBox { lo_out: lo.clone(), hi_out: hi.clone(), lo, hi };
        Query { input, unsafe_if }
    }

    #[test]
    fn points_are_moved_between_the_real_ends() {
        let (third, tenth) = (1.0_f64 / 3.0, 0.1_f64);
        let input = InputBox {
            lo: vec![tenth, 0.5, third],
            hi: vec![third, 0.5, third],
            lo_out: vec![tenth.next_down(), 0.5, third.next_down()],
            hi_out: vec![third.next_up(), 0.5, third.next_up()],
        };
        assert_eq!([input.clamp(0, 0.0), input.clamp(0, 1.0)], [tenth.next_up(), third.next_down()]);
        assert_eq!([input.clamp(0, 0.2), input.clamp(1, 7.0)], [0.2, 0.5], "exact ends stay");
        assert_eq!(input.clamp(2, 0.0), third, "no number lies strictly between the ends");
    }

    #[test]
    fn rows_read_like_hand_written_ones() {
        for (row, text) in [
            (row(&[(0, 1.0), (1, -1.0)], 0.0, false), "Y_0 <= Y_1"),
            (row(&[(0, 1.0), (1, -1.0)], 0.5, true), "Y_0 < Y_1 - 0.5"),
            (row(&[(0, 1.0), (1, -1.0)], -0.5, false), "Y_0 <= Y_1 + 0.5"),
            (row(&[(0, 1.0)], -3.5, false), "Y_0 <= 3.5"),
            (row(&[(0, 1.0)], 0.0, false), "Y_0 <= 0"),
            (row(&[(3, -1.0)], 3.5, true), "Y_3 > 3.5"),
            (row(&[(0, 2.0), (1, 1.0), (4, -0.5)], 0.0, false), "2*Y_0 + Y_1 <= 0.5*Y_4"),
            (row(&[], 0.5, false), "0.5 <= 0"),
        ] {
            assert_eq!(row.to_string(), text);
        }
    }

    #[test]
    fn summaries_stay_short() {
        let less = |a, b| row(&[(a, 1.0), (b, -1.0)], 0.0, false);
        let mut property = Property {
            inputs: 2,
            outputs: 9,
            queries: vec![query(0.06 + 1e-12, (1..9).map(|i| vec![less(0, i)]).collect())],
        };
        assert_eq!(
            property.summary(),
            "2 inputs in a box (widest side 0.06), 9 outputs; violated if Y_0 <= Y_1 or Y_0 <= Y_2 or Y_0 <= Y_3 or 5 more"
        );
        property.queries.push(property.queries[0].clone());
        property.queries[1].input.hi[0] = 1.0;
        assert_eq!(
            property.summary(),
            "2 inputs in 2 boxes (widest side 1), 9 outputs; violated if, in any box, Y_0 <= Y_1 or Y_0 <= Y_2 or Y_0 <= Y_3 or 5 more"
        );
        property.queries[0].unsafe_if = vec![vec![less(0, 1), less(0, 2)], vec![]];
        assert_eq!(
            property.summary(),
            "2 inputs in 2 boxes (widest side 1), 9 outputs; violated if, in the first box, (Y_0 <= Y_1 and Y_0 <= Y_2) or any output at all (and conditions of their own in the other box)"
        );
        property.queries.truncate(1);
        property.queries[0].unsafe_if = vec![vec![row(&[0, 1, 2, 3, 4, 5, 6].map(|i| (i, 1.0)), 0.0, false); 4]];
        assert_eq!(
            property.summary(),
            "2 inputs in a box (widest side 0.06), 9 outputs; violated if a condition on 7 outputs and a condition on 7 outputs and a condition on 7 outputs and 1 more"
        );
        property.queries[0].unsafe_if.clear();
        assert!(property.summary().ends_with("; violated if nothing (no condition is left)"), "{}", property.summary());
        property.queries.clear();
        assert!(property.summary().ends_with("in 0 boxes (widest side 0), 9 outputs; never violated"));
    }
}
