//! Comma-separated values: one sample a row, one column the target, with or without a header.

use std::collections::BTreeSet;
use std::path::Path;

use ndarray::{Array2, ArrayD, IxDyn};

use super::{Dataset, Inputs, Targets, classes_of, read};
use crate::error::{Error, Result};

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
}

/// Reads samples with one target each. Classes are whole numbers from 0, or names: then they are numbered in alphabetical order and kept in
/// [`Dataset::class_names`].
///
/// # Errors
/// [`crate::ErrorKind::Io`]; [`crate::ErrorKind::BadInput`] with the line for a row of another length, a field that is no number or not
/// finite, a label that is none, and for a column that is not there.
pub fn read_csv(path: &Path, options: &CsvOptions) -> Result<Dataset> {
    parse(&read::text(path)?, options).map_err(|e| e.in_file(path))
}

/// The rows of a file so far.
struct Table {
    /// Fields a row, and which of them is the target.
    width: usize,
    target: usize,
    names: Vec<String>,
    numbers: Vec<f32>,
    /// Targets with their lines.
    targets: Vec<(String, usize)>,
}

fn parse(text: &str, options: &CsvOptions) -> Result<Dataset> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .delimiter(options.separator.unwrap_or(b','))
        .from_reader(text.as_bytes());
    let mut table: Option<Table> = None;
    for record in reader.records() {
        let line_of = |p: Option<&csv::Position>| p.map_or(1, |p| usize::try_from(p.line()).unwrap_or(1));
        let record = record.map_err(|e| {
            let line = line_of(e.position());
            Error::bad_input("not a row of separated values").at(line, 1).with_source(e)
        })?;
        let line = line_of(record.position());
        match &mut table {
            Some(table) => table.add(&record, line)?,
            None => {
                let looks_like_names = record.iter().all(|field| field.parse::<f64>().is_err());
                let named = options.header.unwrap_or(looks_like_names);
                let mut first = Table::new(&record, named, options, line)?;
                if !named {
                    first.add(&record, line)?;
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

impl Table {
    fn new(record: &csv::StringRecord, named: bool, options: &CsvOptions, line: usize) -> Result<Self> {
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
        Ok(Self { width, target, names, numbers: vec![], targets: vec![] })
    }

    fn add(&mut self, record: &csv::StringRecord, line: usize) -> Result<()> {
        if record.len() != self.width {
            return Err(Error::bad_input(format!(
                "this row has {} fields, but the first has {}",
                record.len(),
                self.width
            ))
            .at(line, 1)
            .with_help("each row needs the same number of fields; a field with a comma in it needs quotes"));
        }
        for (place, field) in record.iter().enumerate() {
            if place == self.target {
                self.targets.push((field.to_owned(), line));
            } else {
                self.numbers.push(self.number(field, place, line)?);
            }
        }
        Ok(())
    }

    fn number(&self, field: &str, place: usize, line: usize) -> Result<f32> {
        field.parse::<f32>().ok().filter(|x| x.is_finite()).ok_or_else(|| {
            let column = match self.names.get(place) {
                Some(name) => format!("column '{name}'"),
                None => format!("column {}", place + 1),
            };
            let what = if field.is_empty() { "is empty".to_owned() } else { format!("holds '{field}'") };
            let help = match line {
                1 => "inputs must be finite numbers; if the first row names the columns, say so: header = true",
                _ => "inputs must be finite numbers: fill in a number or remove the row",
            };
            Error::bad_input(format!("{column} {what}, which is no finite number")).at(line, 1).with_help(help)
        })
    }

    fn finish(self, values: bool) -> Result<Dataset> {
        let (rows, features) = (self.targets.len(), self.width - 1);
        let mut class_names = vec![];
        let targets = if values {
            let numbers = self.targets.iter().map(|(field, line)| self.number(field, self.target, *line));
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
        let label = |(field, line): &(String, usize)| {
            // Programs write labels as 3 or as 3.0.
            let whole = field.strip_suffix(".0").unwrap_or(field);
            whole.parse::<i64>().ok().filter(|l| (0..1_000_000).contains(l)).ok_or_else(|| {
                Error::bad_input(format!("the label '{field}' is no whole number from 0")).at(*line, 1).with_help(
                    "for numbers to predict say task = \"values\"; classes are numbered from 0, or all named",
                )
            })
        };
        classes_of(self.targets.iter().map(label).collect::<Result<Vec<i64>>>()?)
    }

    /// All names, sorted; a number or nothing among names is a slip of the pen.
    fn class_names(&self) -> Result<Vec<String>> {
        let odd = |name: &str| name.is_empty() || name.parse::<f64>().is_ok();
        if let Some((field, line)) = self.targets.iter().find(|(field, _)| odd(field)) {
            return Err(Error::bad_input(format!("the label '{field}' is no name, but labels before it are"))
                .at(*line, 1)
                .with_help("classes are numbered from 0, or all named"));
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
        for (text, options, line, words) in [
            ("1,2,0\n1,0\n", &plain, 2, "this row has 2 fields, but the first has 3"),
            ("a,b,y\n1,2,0\n1,x,1\n", &plain, 3, "column 'b' holds 'x'"),
            ("1,2,0\n1,,1\n", &plain, 2, "column 2 is empty"),
            ("1,2,0\n1,nan,1\n", &plain, 2, "no finite number"),
            ("1,2,0\n1,1e99,1\n", &plain, 2, "no finite number"),
            ("1,2,0\n1,2,0.5\n", &plain, 2, "the label '0.5' is no whole number"),
            ("1,2,0\n1,2,-1\n", &plain, 2, "the label '-1'"),
            ("1,2,rose\n1,2,7\n", &plain, 2, "'7' is no name"),
            ("a,b\n1,2\n", &named_kind, 1, "no column 'kind'"),
            ("1\n2\n", &plain, 1, "at least one number and a target"),
        ] {
            let error = parse(text, options).expect_err(text);
            assert_eq!(error.place().and_then(|p| p.position), Some((line, 1)), "{text}: {error}");
            assert!(error.message().contains(words), "{error}");
            assert!(error.help().is_some(), "{error}");
        }
        assert_eq!(parse("a,b\n", &plain).expect_err("header alone").message(), "the file has no rows");
        assert!(parse("", &plain).is_err());
    }
}
