//! The known word that an unknown one was meant to be, for messages.

/// The name that a mistyped word was most likely meant to be: at most a third of its letters (at least one) inserted, left out, changed, or
/// swapped with the next.
pub(crate) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (word.chars().count() / 3).max(1);
    names.into_iter().map(|name| (distance(word, name), name)).filter(|&(d, _)| d <= most).min().map(|(_, name)| name)
}

/// Optimal string alignment (Damerau, CACM 1964, without edits of what was swapped).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut d = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            d[i][j] = match (i, j) {
                (0, _) => j,
                (_, 0) => i,
                _ => {
                    let other = usize::from(a[i - 1] != b[j - 1]);
                    let plain = (d[i - 1][j] + 1).min(d[i][j - 1] + 1).min(d[i - 1][j - 1] + other);
                    let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    if swapped { plain.min(d[i - 2][j - 2] + 1) } else { plain }
                }
            };
        }
    }
    d[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_of_the_pen() {
        let names = ["epochs", "steps", "batch", "seed"];
        assert_eq!(nearest("epoch", names), Some("epochs"));
        assert_eq!(nearest("bacth", names), Some("batch"));
        assert_eq!(nearest("sede", names), Some("seed"));
        assert_eq!(nearest("optimiser", names), None);
    }
}
