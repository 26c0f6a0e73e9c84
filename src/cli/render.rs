//! What results look like: colours, tables, numbers and digits.

use std::io::IsTerminal as _;
use std::time::Duration;

/// Whether a stream shows colours: a terminal that is not dumb, and no `NO_COLOR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Escape sequences may be printed.
    pub colour: bool,
}

impl Style {
    /// For stdout.
    pub fn stdout() -> Self {
        Self::of(std::io::stdout().is_terminal())
    }

    /// For stderr.
    pub fn stderr() -> Self {
        Self::of(std::io::stderr().is_terminal())
    }

    fn of(terminal: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { colour: terminal && !set("NO_COLOR") && !dumb }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Bold.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Faint.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Bold red: errors, contradictions, banners.
    pub fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Green: holds, accepted, ok.
    pub fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// Yellow: unknown.
    pub fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Cyan: what to type next.
    pub fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }
}

/// A table: the first column leans left, and so does every column whose cells are not all numbers.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&h| h.to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.line(cells.into());
    }

    /// Adds a row of as many cells as there happen to be columns.
    pub fn line(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Its lines, the headings in bold.
    pub fn render(&self, style: Style) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let layout: Vec<(usize, bool)> = (0..columns).map(|c| self.layout(c)).collect();
        let line =
            |row: &Vec<String>| {
                let cells = row.iter().zip(&layout).map(|(cell, &(width, right))| {
                    if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                });
                cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
            };
        let mut lines: Vec<String> = self.rows.iter().map(line).collect();
        if let Some(headings) = lines.first_mut() {
            *headings = style.bold(headings);
        }
        lines.join("\n")
    }

    /// Width of a column, and whether it leans right.
    fn layout(&self, column: usize) -> (usize, bool) {
        let cells = || self.rows.iter().filter_map(|row| row.get(column));
        let number = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit() || "-<".contains(c));
        let right = column > 0 && self.rows.len() > 1 && cells().skip(1).all(number);
        (cells().map(|cell| cell.chars().count()).max().unwrap_or(0), right)
    }
}

/// Names of fields are at least this wide, so that blocks printed one after the other line up.
const NAME: usize = 8;

/// Lines of `name  value`, the values below each other; a value may have several lines.
pub fn fields(fields: &[(&str, String)], style: Style) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).fold(NAME, usize::max);
    let indent = format!("\n{}", " ".repeat(width + 2));
    let line = |(name, value): &(&str, String)| {
        format!("{}  {}", style.dim(&format!("{name:<width$}")), value.replace('\n', &indent))
    };
    fields.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A count with its noun: `1 box`, `3 digits`.
pub fn counted(count: usize, noun: &str) -> String {
    match (count, noun.ends_with('x')) {
        (1, _) => format!("1 {noun}"),
        (_, true) => format!("{count} {noun}es"),
        (_, false) => format!("{count} {noun}s"),
    }
}

/// A time with three digits: `0.42 ms`, `31.4 ms`, `2.35 s`, `127 s`.
pub fn time(seconds: f64) -> String {
    if seconds < 0.9995 { format!("{} ms", digits(seconds * 1e3)) } else { format!("{} s", digits(seconds)) }
}

/// The time since a start, in seconds.
pub fn since(start: std::time::Instant) -> f64 {
    Duration::as_secs_f64(&start.elapsed())
}

/// Three digits before and after the point together, as many as there are before it.
pub fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// A number of outputs or margins: four significant digits, without zeros at the end.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0".to_owned()
    } else if (1e-3..1e6).contains(&size) {
        let decimals = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
        let text = format!("{value:.decimals$}");
        if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    } else {
        format!("{value:.3e}")
    }
}

/// Bytes in the unit that fits.
pub fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..0x10_0000 => format!("{} KiB", digits(count as f64 / 1024.0)),
        0x10_0000..0x4000_0000 => format!("{} MiB", digits(count as f64 / 1_048_576.0)),
        _ => format!("{} GiB", digits(count as f64 / 1_073_741_824.0)),
    }
}

/// A grey picture of values in [0, 1] in text, two rows of pixels a line: half blocks in 24 greys where colours may be
/// shown, else letters by darkness.
pub fn picture(pixels: &[f64], width: usize, style: Style) -> Vec<String> {
    let rows: Vec<&[f64]> = pixels.chunks(width.max(1)).collect();
    rows.chunks(2)
        .map(|pair| {
            let (top, bottom) = (pair[0], pair.last().copied().unwrap_or_default());
            if style.colour { half_blocks(top, bottom) } else { letters(top, bottom) }
        })
        .collect()
}

/// Colour 232 is the darkest of the terminal's 24 greys.
fn half_blocks(top: &[f64], bottom: &[f64]) -> String {
    let grey = |value: f64| 232 + (value.clamp(0.0, 1.0) * 23.0).round() as u32;
    let cell = |(&t, &b): (&f64, &f64)| format!("\x1b[38;5;{};48;5;{}m▀", grey(t), grey(b));
    top.iter().zip(bottom).map(cell).collect::<String>() + "\x1b[0m"
}

fn letters(top: &[f64], bottom: &[f64]) -> String {
    const RAMP: &[u8] = b" .:-=+*#%@";
    let cell = |(t, b): (&f64, &f64)| {
        let level = ((t + b) / 2.0).clamp(0.0, 1.0) * (RAMP.len() - 1) as f64;
        char::from(RAMP[level.round() as usize])
    };
    top.iter().zip(bottom).map(cell).collect()
}

/// Puts blocks of lines beside each other, each under its title; `width` is what a block's lines show.
pub fn beside(blocks: &[(String, Vec<String>)], width: usize) -> String {
    let height = blocks.iter().map(|(_, lines)| lines.len()).max().unwrap_or(0);
    let width = blocks.iter().map(|(title, _)| title.chars().count()).max().unwrap_or(0).max(width);
    let titles: Vec<String> = blocks.iter().map(|(title, _)| format!("{title:<width$}")).collect();
    let mut text = titles.join("   ").trim_end().to_owned();
    for line in 0..height {
        // Lines of a picture all show the same width, whatever escape sequences are in them.
        let cells = blocks.iter().map(|(_, lines)| lines.get(line).map_or("", String::as_str));
        let cells: Vec<String> = cells.map(|cell| pad(cell, width)).collect();
        text.push('\n');
        text.push_str(cells.join("   ").trim_end());
    }
    text
}

/// Pads to a width of visible characters.
fn pad(text: &str, width: usize) -> String {
    let mut visible = 0_usize;
    let mut escaped = false;
    for c in text.chars() {
        match (escaped, c) {
            (false, '\x1b') => escaped = true,
            (true, 'm') => escaped = false,
            (true, _) => {}
            (false, _) => visible += 1,
        }
    }
    format!("{text}{}", " ".repeat(width.saturating_sub(visible)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { colour: false };

    #[test]
    fn tables_align_numbers_right_and_words_left() {
        let mut table = Table::new(&["network", "count", "state"]);
        table.row(["a".into(), "7".into(), "ok".into()]);
        table.row(["long one".into(), "112".into(), "-".into()]);
        assert_eq!(table.render(PLAIN), "network   count  state\na             7  ok\nlong one    112  -");
    }

    #[test]
    fn values_line_up_under_each_other() {
        let text = fields(&[("a", "1".into()), ("long", "2\n3".into())], PLAIN);
        assert_eq!(text, "a         1\nlong      2\n          3");
    }

    #[test]
    fn numbers_keep_three_or_four_digits() {
        for (seconds, text) in
            [(0.000_42, "0.42 ms"), (0.0314, "31.4 ms"), (0.9994, "999 ms"), (0.9996, "1.00 s"), (127.3, "127 s")]
        {
            assert_eq!(time(seconds), text);
        }
        for (value, text) in [
            (0.0, "0"),
            (1.234_56, "1.235"),
            (-0.012_345_6, "-0.01235"),
            (0.05, "0.05"),
            (1e-7, "1.000e-7"),
            (1200.4, "1200"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!([bytes(12), bytes(1536), bytes(128 << 20)], ["12 B", "1.50 KiB", "128 MiB"]);
    }

    #[test]
    fn pictures_without_colours_have_no_escapes() {
        let lines = picture(&[0.0, 1.0, 0.0, 1.0], 2, PLAIN);
        assert_eq!(lines, [" @"]);
        assert_eq!(
            picture(&[0.0, 1.0], 2, Style { colour: true }),
            ["\x1b[38;5;232;48;5;232m▀\x1b[38;5;255;48;5;255m▀\x1b[0m"]
        );
    }

    #[test]
    fn blocks_line_up_whatever_their_colours() {
        let blocks = [("a".to_owned(), vec!["\x1b[1mxy\x1b[0m".to_owned()]), ("b".to_owned(), vec!["z".to_owned()])];
        assert_eq!(beside(&blocks, 3), "a     b\n\x1b[1mxy\x1b[0m    z");
    }
}
