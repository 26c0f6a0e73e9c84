//! Comma-separated values: one sample a row, one column the target, with or without a header.

use std::collections::BTreeSet;
use std::path::Path;

use ndarray::{Array2, ArrayD, IxDyn};

use super::{Dataset, Inputs, Targets, classes_of};
use crate::error::{Error, Result};
use crate::files;

/// Which column holds the target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Column {
    /// The first.
    First,
    /// The last.
    #[default]
    Last,
    /// That of a name in the header.
    Named(String),
}

/// How a file of comma-separated values is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CsvOptions {
    /// Which column holds the target.
    pub target: Column,
    /// Whether the first row names the columns; if not said, it does when none of its fields is a number.
    pub header: Option<bool>,
    /// Whether targets are numbers to predict instead of classes.
    pub values: bool,
    /// What separates fields; a comma if not said.
    pub separator: Option<u8>,
    /// How many classes there are, if it is known: labels beyond it are refused with their line.
    pub classes: Option<usize>,
}

/// Reads samples with one target each. Classes are whole numbers from 0, or names: then they are numbered in alphabetical order and kept in
/// [`Dataset::class_names`].
///
/// # Errors
/// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] with the line for a row of another length, with line and column for a field that is no
/// number or not finite and for a label that is none or out of range; also for a column that is not there.
pub fn read_csv(path: &Path, options: &CsvOptions) -> Result<Dataset> {
    parse(&files::text(path)?, options).map_err(|e| e.in_file(path))
}

/// The rows of a file so far.
struct Table<'a> {
    text: &'a str,
    separator: char,
    classes: Option<usize>,
    /// Fields a row, and which of them is the target.
    width: usize,
    target: usize,
    names: Vec<String>,
    numbers: Vec<f32>,
    /// Targets, each with the byte from which its row was read.
    targets: Vec<(String, usize)>,
}

fn parse(text: &str, options: &CsvOptions) -> Result<Dataset> {
    let separator = options.separator.unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .delimiter(separator)
        .from_reader(text.as_bytes());
    let mut table: Option<Table<'_>> = None;
    for record in reader.records() {
        let byte_of = |p: Option<&csv::Position>| p.map_or(0, |p| usize::try_from(p.byte()).unwrap_or(0));
        let record = record.map_err(|e| {
            let (line, column) = place(text, char::from(separator), byte_of(e.position()), 0);
            Error::bad_input("not a row of separated values").at(line, column).with_source(e)
        })?;
        let from = byte_of(record.position());
        match &mut table {
            Some(table) => table.add(&record, from)?,
            None => {
                let looks_like_names = record.iter().all(|field| field.parse::<f64>().is_err());
                let named = options.header.unwrap_or(looks_like_names);
                let mut first = Table::new(text, &record, named, options)?;
                if !named {
                    first.add(&record, from)?;
                }
                table = Some(first);
            }
        }
    }
    let table = table.filter(|t| !t.targets.is_empty()).ok_or_else(|| {
        Error::bad_input("the file has no rows").with_help("write one sample a line, its target in the last column")
    })?;
    table.finish(options.values)
}

/// Line and column, from 1, of a field of the row that was read from a byte of the text on.
fn place(text: &str, separator: char, from: usize, field: usize) -> (usize, usize) {
    // The reader counts line breaks that it skipped before a row, and empty lines, as a part of it.
    let row = text.get(from..).unwrap_or_default().trim_start_matches(['\r', '\n']);
    let mut line = text[..text.len() - row.len()].matches('\n').count() + 1;
    let (mut column, mut quoted, mut left) = (1, false, field);
    for c in row.chars() {
        match c {
            _ if left == 0 && c != ' ' => break,
            '"' => quoted = !quoted,
            '\n' => (line, column) = (line + 1, 0),
            _ if c == separator && !quoted => left = left.saturating_sub(1),
            _ => {}
        }
        column += 1;
    }
    (line, column)
}

impl<'a> Table<'a> {
    fn new(text: &'a str, record: &csv::StringRecord, named: bool, options: &CsvOptions) -> Result<Self> {
        let separator = char::from(options.separator.unwrap_or(b','));
        let (line, _) = place(text, separator, 0, 0);
        let names: Vec<String> = if named { record.iter().map(str::to_owned).collect() } else { vec![] };
        let width = record.len();
        if width < 2 {
            return Err(Error::bad_input("a row needs at least one number and a target")
                .at(line, 1)
                .with_help("are fields separated by something else than a comma? Say so: separator"));
        }
        let target = match &options.target {
            Column::First => 0,
            Column::Last => width - 1,
            Column::Named(name) => names.iter().position(|n| n == name).ok_or_else(|| {
                let fault = Error::bad_input(format!("there is no column '{name}'")).at(line, 1);
                match names.len() {
                    0 => fault.with_help("the first row does not name the columns: use the first or the last"),
                    _ => fault.with_help(format!("the columns are {}", names.join(", "))),
                }
            })?,
        };
        let classes = options.classes;
        Ok(Self { text, separator, classes, width, target, names, numbers: vec![], targets: vec![] })
    }

    /// An error at a field of the row that was read from a byte on.
    fn fault(&self, message: String, from: usize, field: usize) -> Error {
        let (line, column) = place(self.text, self.separator, from, field);
        Error::bad_input(message).at(line, column)
    }

    fn add(&mut self, record: &csv::StringRecord, from: usize) -> Result<()> {
        if record.len() != self.width {
            let what = format!("this row has {} fields, but the first has {}", record.len(), self.width);
            return Err(self
                .fault(what, from, 0)
                .with_help("each row needs the same number of fields; a field with a comma in it needs quotes"));
        }
        for (place, field) in record.iter().enumerate() {
            if place == self.target {
                self.targets.push((field.to_owned(), from));
            } else {
                self.numbers.push(self.number(field, place, from)?);
            }
        }
        Ok(())
    }

    fn number(&self, field: &str, place: usize, from: usize) -> Result<f32> {
        field.parse::<f32>().ok().filter(|x| x.is_finite()).ok_or_else(|| {
            let column = match self.names.get(place) {
                Some(name) => format!("column '{name}'"),
                None => format!("column {}", place + 1),
            };
            let what = if field.is_empty() { "is empty".to_owned() } else { format!("holds '{field}'") };
            let first = self.names.is_empty() && self.numbers.len() + self.targets.len() < self.width;
            let help = match first {
                true => "inputs must be finite numbers; if the first row names the columns, say so: header = true",
                false => "inputs must be finite numbers: fill in a number or remove the row",
            };
            self.fault(format!("{column} {what}, which is no finite number"), from, place).with_help(help)
        })
    }

    fn finish(self, values: bool) -> Result<Dataset> {
        let (rows, features) = (self.targets.len(), self.width - 1);
        let mut class_names = vec![];
        let targets = if values {
            let numbers = self.targets.iter().map(|(field, from)| self.number(field, self.target, *from));
            let numbers = numbers.collect::<Result<Vec<f32>>>()?;
            Targets::Values(Array2::from_shape_vec((rows, 1), numbers).map_err(|e| Error::internal(e.to_string()))?)
        } else if self.targets[0].0.parse::<f64>().is_ok() {
            self.numbered_classes()?
        } else {
            class_names = self.class_names()?;
            classes_of(
                self.targets.iter().filter_map(|(name, _)| class_names.binary_search(name).ok()).map(|i| i as i64),
            )?
        };
        let numbers = ArrayD::from_shape_vec(IxDyn(&[rows, features]), self.numbers);
        let inputs = Inputs::F32(numbers.map_err(|e| Error::internal(e.to_string()))?);
        Ok(Dataset { class_names, ..Dataset::new(inputs, targets)? })
    }

    fn numbered_classes(&self) -> Result<Targets> {
        let label = |(field, from): &(String, usize)| {
            // Programs write labels as 3 or as 3.0.
            let whole = field.strip_suffix(".0").unwrap_or(field);
            let label = whole.parse::<i64>().ok().filter(|l| (0..1_000_000).contains(l)).ok_or_else(|| {
                self.fault(format!("the label '{field}' is no whole number from 0"), *from, self.target).with_help(
                    "for numbers to predict say task = \"values\"; classes are numbered from 0, or all named",
                )
            })?;
            match self.classes {
                Some(classes) if label >= classes as i64 => {
                    let what = format!("the label {label}, but {classes} classes have labels 0 to {}", classes - 1);
                    Err(self
                        .fault(what, *from, self.target)
                        .with_help("correct the label, or say how many classes there are: classes"))
                }
                _ => Ok(label),
            }
        };
        classes_of(self.targets.iter().map(label).collect::<Result<Vec<i64>>>()?)
    }

    /// All names, sorted; a number or nothing among names is a slip of the pen.
    fn class_names(&self) -> Result<Vec<String>> {
        let odd = |name: &str| name.is_empty() || name.parse::<f64>().is_ok();
        if let Some((field, from)) = self.targets.iter().find(|(field, _)| odd(field)) {
            let what = format!("the label '{field}' is no name, but labels before it are");
            return Err(self.fault(what, *from, self.target).with_help("classes are numbered from 0, or all named"));
        }
        let names: BTreeSet<&String> = self.targets.iter().map(|(name, _)| name).collect();
        Ok(names.into_iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn named(column: &str) -> CsvOptions {
        CsvOptions { target: Column::Named(column.to_owned()), ..CsvOptions::default() }
    }

    #[test]
    fn numbers_names_and_values() {
        let set = parse("1, 2, 0\n3,4,2.0\n\n", &CsvOptions::default()).expect("labels");
        assert_eq!(set.inputs, Inputs::F32(array![[1.0, 2.0], [3.0, 4.0]].into_dyn()));
        assert_eq!(set.targets, Targets::Classes { labels: vec![0, 2], classes: 3 });
        let set = parse("kind,length,width\nrose,1,2\nfern,3,4\nrose,5,6\n", &named("kind")).expect("names");
        assert_eq!(set.class_names, ["fern", "rose"]);
        assert_eq!(set.targets, Targets::Classes { labels: vec![1, 0, 1], classes: 2 });
        assert_eq!(set.inputs.shape(), [3, 2]);
        let options =
            CsvOptions { values: true, target: Column::First, separator: Some(b';'), ..CsvOptions::default() };
        let set = parse("0.5;7\n-1e3;8\n", &options).expect("values");
        assert_eq!(set.targets, Targets::Values(array![[0.5], [-1000.0]]));
    }

    #[test]
    fn bad_rows_name_their_line() {
        let named_kind = named("kind");
        let plain = CsvOptions::default();
        let three = CsvOptions { classes: Some(3), ..CsvOptions::default() };
        for (text, options, place, words) in [
            ("1,2,0\n1,0\n", &plain, (2, 1), "this row has 2 fields, but the first has 3"),
            ("a,b,y\n1,2,0\n1, x,1\n", &plain, (3, 4), "column 'b' holds 'x'"),
            ("1,2,0\n1,,1\n", &plain, (2, 3), "column 2 is empty"),
            ("1,2,0\n1,nan,1\n", &plain, (2, 3), "no finite number"),
            ("1,2,0\n1,1e99,1\n", &plain, (2, 3), "no finite number"),
            ("1,2,0\n1,2,0.5\n", &plain, (2, 5), "the label '0.5' is no whole number"),
            ("1,2,0\n1,2,-1\n", &plain, (2, 5), "the label '-1'"),
            ("1,2,0\n1,2,3\n", &three, (2, 5), "the label 3, but 3 classes have labels 0 to 2"),
            // Windows' line breaks, empty lines, fields in quotes.
            ("1,2,0\r\n1,x,1\r\n", &plain, (2, 3), "'x'"),
            ("\n1,2,0\n\n\n1,x,1\n", &plain, (5, 3), "'x'"),
            ("a,b,y\n\"1\",2,0\n\"1\",x,1\n", &plain, (3, 5), "'x'"),
            ("1,2,rose\n1,2,7\n", &plain, (2, 5), "'7' is no name"),
            ("a,b\n1,2\n", &named_kind, (1, 1), "no column 'kind'"),
            ("1\n2\n", &plain, (1, 1), "at least one number and a target"),
        ] {
            let error = parse(text, options).expect_err(text);
            assert_eq!(error.place().and_then(|p| p.position), Some(place), "{text}: {error}");
            assert!(error.message().contains(words), "{error}");
            assert!(error.help().is_some(), "{error}");
        }
        assert_eq!(parse("a,b\n", &plain).expect_err("header alone").message(), "the file has no rows");
        assert!(parse("", &plain).is_err());
    }
}
