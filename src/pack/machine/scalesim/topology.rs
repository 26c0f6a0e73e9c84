//! SCALE-Sim's tables of layers.
//!
//! The first line is a heading, whatever it says. A layer is a line, `name, map height, map width, filter height, filter width, channels,
//! filters, stride,` or `name, M, N, K,`, and behind it perhaps a ratio `N:M` of sparsity, which has no effect while sparsity is off. The
//! comma at the end may be missing here (the original would lose the last number); columns behind the ratio are notes. `DP` in a name makes
//! a layer depthwise.

use crate::error::{Error, Result};
use crate::files;
use crate::pack::{Layer, Shape, Workload};
use std::path::Path;

/// What the lines of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Convolutions.
    Conv,
    /// Products of `[M, K]` and `[K, N]`.
    Gemm,
}

/// Numbers beyond this are a slip of the pen.
const MOST: usize = 1 << 24;

/// Reads a table; without a kind, the heading decides: `M` behind the name makes it products.
///
/// # Errors
/// [`crate::ErrorKind::Io`], and [`crate::ErrorKind::BadInput`] with the line.
pub fn read_topology(path: &Path, table: Option<Table>) -> Result<Workload> {
    let text = files::text(path)?;
    let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    parse_topology(&text, &name, table).map_err(|error| error.in_file(path))
}

/// Reads the text of a table.
///
/// # Errors
/// [`crate::ErrorKind::BadInput`] with the line.
pub fn parse_topology(text: &str, name: &str, table: Option<Table>) -> Result<Workload> {
    let mut lines = text.trim_start_matches('\u{feff}').lines().zip(1..);
    let heading = lines.next().map_or("", |(heading, _)| heading);
    let table = table.unwrap_or_else(|| {
        let second = heading.split(',').nth(1).unwrap_or_default().trim();
        if second.eq_ignore_ascii_case("m") { Table::Gemm } else { Table::Conv }
    });
    let mut layers = Vec::new();
    for (line, number) in lines {
        if line.split(',').all(|field| field.trim().is_empty()) {
            continue;
        }
        layers.push(layer_of(line, number, table)?);
    }
    if layers.is_empty() {
        return Err(Error::bad_input("this table has no layers")
            .with_help(
                "the first line is a heading; every other one is a layer: NAME, H, W, h, w, CHANNELS, FILTERS, STRIDE,",
            )
            .at(1, 1));
    }
    Ok(Workload { name: name.to_owned(), layers, ..Workload::default() })
}

impl Table {
    /// What stands behind the name.
    const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Conv => {
                &["map height", "map width", "filter height", "filter width", "channels", "filters", "stride"]
            }
            Self::Gemm => &["M", "N", "K"],
        }
    }
}

/// A line's layer.
fn layer_of(line: &str, number: usize, table: Table) -> Result<Layer> {
    let mut at = 1;
    let fields: Vec<(usize, &str)> = line
        .split(',')
        .map(|field| {
            let column = at + field.len() - field.trim_start().len();
            at += field.len() + 1;
            (column, field.trim())
        })
        .collect();
    let (name, columns) = (fields[0].1, table.columns());
    let mut sizes = Vec::new();
    for (i, &what) in columns.iter().enumerate() {
        let (column, text) = fields.get(i + 1).copied().unwrap_or((line.len() + 1, ""));
        let size = text.parse().ok().filter(|size| (1..=MOST).contains(size)).ok_or_else(|| {
            Error::bad_input(format!("the {what} of layer '{name}' is '{text}': not a number from 1 to 2^24"))
                .with_help(format!("a line is NAME, {},", columns.join(", ")))
                .at(number, column)
        })?;
        sizes.push(size);
    }
    if let Some(&(column, ratio)) = fields.get(columns.len() + 1).filter(|(_, field)| !field.is_empty()) {
        check_ratio(ratio).map_err(|error| error.at(number, column))?;
    }
    let shape = match table {
        Table::Conv => convolution(name, &sizes),
        Table::Gemm => product(&sizes),
    };
    let shape = shape.map_err(|error| error.at(number, fields[1].0))?;
    Ok(Layer { name: name.to_owned(), shape, weights: None, inputs: Vec::new(), outputs: Vec::new() })
}

/// `N:M` with N up to M.
fn check_ratio(text: &str) -> Result<()> {
    let parts = text.split_once(':').and_then(|(n, m)| Some((n.trim().parse().ok()?, m.trim().parse().ok()?)));
    match parts {
        Some((n, m)) if 0_u32 < n && n <= m => Ok(()),
        _ => Err(Error::bad_input(format!("'{text}' is no ratio of sparsity"))
            .with_help("N:M as 2:4, or nothing; one stride is for both directions")),
    }
}

fn convolution(name: &str, numbers: &[usize]) -> Result<Shape> {
    let &[height, width, down, right, channels, filters, stride] = numbers else {
        return Err(Error::internal("a convolution has seven numbers"));
    };
    if down > height || right > width {
        return Err(Error::bad_input(format!("the filter of layer '{name}' is larger than its map"))
            .with_help("maps are given with their padding"));
    }
    let groups = if name.contains("DP") { channels } else { 1 };
    Ok(Shape {
        input: [height, width, channels],
        filter: [down, right],
        // The original runs a layer of all filters for each channel.
        filters: filters.saturating_mul(groups),
        stride: [stride, stride],
        padding: [0; 4],
        dilation: [1, 1],
        groups,
    })
}

fn product(numbers: &[usize]) -> Result<Shape> {
    let &[rows, outputs, inputs] = numbers else { return Err(Error::internal("a product has three numbers")) };
    Ok(Shape::dense(rows, inputs, outputs))
}
