//! What moved between two runs.

use std::fmt::Write as _;

use super::report::{Entry, Report, time};

/// A time counts as moved beyond this many times the larger spread: three median absolute deviations are about two
/// standard deviations of a normal distribution.
const SPREADS: f64 = 3.0;

/// Lines about every entry whose time moved beyond the spreads, whose check changed, or that only one run has.
pub fn compare(old: &Report, new: &Report) -> String {
    let mut text = String::new();
    if old.device != new.device {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "not the same device: then {} ({}), now {} ({})",
            old.device.name, old.device.driver, new.device.name, new.device.driver
        );
    }
    if old.quick != new.quick {
        text.push_str("one run is quick and one is full: their sizes differ\n");
    }
    let _ = writeln!(
        text,
        "from version {} to {}; moved: beyond {SPREADS} times the larger spread",
        old.version, new.version
    );
    let mut still = 0;
    for entry in &new.entries {
        match old.entries.iter().find(|o| o.name == entry.name && o.group == entry.group) {
            None => {
                let _ = writeln!(text, "  new      {}", entry.name);
            }
            Some(before) => match change(before, entry) {
                Some(line) => {
                    let _ = writeln!(text, "  {line}");
                }
                None => still += 1,
            },
        }
    }
    let gone = |o: &&Entry| !new.entries.iter().any(|e| e.name == o.name && e.group == o.group);
    let count = old.entries.iter().filter(gone).count();
    let _ = write!(text, "  {still} unchanged within the spreads, {count} not measured this time");
    text
}

fn change(old: &Entry, new: &Entry) -> Option<String> {
    let word = |check: &str| check.split(':').next().unwrap_or_default().to_owned();
    if word(&old.check) != word(&new.check) {
        return Some(format!("check    {}: {} -> {}", new.name, old.check, new.check));
    }
    let (before, now) = (old.seconds?, new.seconds?);
    if old.work != new.work {
        return Some(format!("work     {}: another amount of work, not comparable", new.name));
    }
    let spread = old.spread.unwrap_or(0.0).max(new.spread.unwrap_or(0.0));
    if (now - before).abs() <= SPREADS * spread {
        return None;
    }
    let (word, factor) = if now < before { ("faster", before / now) } else { ("slower", now / before) };
    Some(format!("{word}   {}: {} -> {}, {factor:.2} times", new.name, time(before), time(now)))
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{entry, report};
    use super::compare;

    #[test]
    fn only_what_moved_beyond_the_spreads_is_shown() {
        let old =
            report(vec![entry("a", 0.1, 0.001), entry("b", 0.1, 0.02), entry("c", 0.1, 0.0), entry("gone", 1.0, 0.1)]);
        let mut broken = entry("c", 0.1, 0.0);
        (broken.check, broken.seconds) = ("error: wrong answer".into(), None);
        let new = report(vec![entry("a", 0.05, 0.001), entry("b", 0.13, 0.001), broken, entry("fresh", 1.0, 0.1)]);
        let text = compare(&old, &new);
        assert!(text.contains("faster   a: 100 ms -> 50.0 ms, 2.00 times"), "{text}");
        assert!(!text.contains(" b:"), "0.03 is within three spreads of 0.02\n{text}");
        assert!(text.contains("check    c: ok -> error: wrong answer"), "{text}");
        assert!(text.contains("new      fresh"), "{text}");
        assert!(text.contains("1 unchanged within the spreads, 1 not measured this time"), "{text}");
        let other = {
            let mut other = new.clone();
            other.device.name = "Y".into();
            compare(&new, &other)
        };
        assert!(other.contains("not the same device"), "{other}");
    }
}
