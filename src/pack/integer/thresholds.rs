//! Rounding in f64 as a table of sums, which a device compares with: exact for whatever rule, as long as it is monotone.

/// Words of a table.
pub(super) const WORDS: usize = 256;

/// For a filter's rule from sums to codes: the code of the smallest sum, and for each code c = -127..=127 the largest sum whose code is
/// less than c (the largest sum of all if there is no other, the smallest if every sum's code is c or more).
pub(super) fn table(code: impl Fn(i32) -> i8) -> Vec<i32> {
    let mut table = vec![i32::from(code(i32::MIN))];
    for wanted in -127..=127 {
        // Halving: code(low) < wanted throughout, if that holds at all.
        let (mut low, mut high) = (i64::from(i32::MIN), i64::from(i32::MAX) + 1);
        while high - low > 1 {
            let middle = (low + high).div_euclid(2);
            if code(middle as i32) < wanted { low = middle } else { high = middle }
        }
        table.push(low as i32);
    }
    table
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_table_gives_back_its_rule() {
        let rules: [&dyn Fn(i32) -> i8; 5] = [
            &|acc| (f64::from(acc) * 0.013).round().clamp(-128.0, 100.0) as i8,
            &|acc| (f64::from(acc) * 0.7).round().clamp(3.0, 127.0) as i8,
            &|_| 5,
            &|acc| if acc == i32::MAX { 127 } else { -128 },
            &|acc| if acc == i32::MIN { -1 } else { 0 },
        ];
        for rule in rules {
            let table = super::table(rule);
            let sums = (-20_000..20_000).chain([i32::MIN, i32::MIN + 1, i32::MAX - 1, i32::MAX]);
            for acc in sums {
                let above = table[1..].iter().take_while(|&&bound| acc > bound).count();
                assert_eq!(table[0].max(above as i32 - 128), i32::from(rule(acc)), "{acc}");
            }
        }
    }
}
