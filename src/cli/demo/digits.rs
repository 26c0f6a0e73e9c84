//! The demo's data, all inside the program: test digits and two networks.

use std::io::Read as _;

use flate2::read::GzDecoder;
use wavehull::graph::{Graph, onnx};
use wavehull::verify::proof::sha256_hex;
use wavehull::verify::{InputBox, Property, Query, Row};
use wavehull::{Error, Result};

const IMAGES: &[u8] = include_bytes!("../../../data/mnist10k/test-images-idx3-ubyte.gz");
const LABELS: &[u8] = include_bytes!("../../../data/mnist10k/test-labels-idx1-ubyte.gz");
/// Pixels of a row of a digit.
pub const WIDTH: usize = 28;
const PIXELS: usize = WIDTH * WIDTH;
/// Digits on file.
pub const TEST_DIGITS: usize = 2000;
const CLASSES: usize = 10;

/// A network of the demo.
pub struct Network {
    /// `standard` or `robust`.
    pub name: &'static str,
    /// The ONNX file.
    pub file: &'static [u8],
    /// What is in it.
    pub graph: Graph,
    /// Its digest, as proofs name it.
    pub digest: String,
}

/// A test digit.
#[derive(Debug, Clone)]
pub struct Digit {
    /// Its place among the test digits.
    pub index: usize,
    /// What it is.
    pub label: usize,
    /// Its pixels in [0, 1].
    pub pixels: Vec<f64>,
}

/// Both networks.
///
/// # Errors
/// Those of [`onnx::parse`], if the program was built with damaged files.
pub fn networks() -> Result<[Network; 2]> {
    let network =
        |name, file| Ok::<_, Error>(Network { name, file, graph: onnx::parse(file)?, digest: sha256_hex(file) });
    Ok([
        network("standard", include_bytes!("../../../data/mnist-standard.onnx"))?,
        network("robust", include_bytes!("../../../data/mnist-robust.onnx"))?,
    ])
}

/// The first `count` test digits that all networks classify right, evaluated in f64.
///
/// # Errors
/// [`wavehull::ErrorKind::Internal`] if the program was built with damaged files.
pub fn classified_right(networks: &[Network], count: usize) -> Result<Vec<Digit>> {
    let images = idx(IMAGES, 2051, 16)?;
    let labels = idx(LABELS, 2049, 8)?;
    let mut digits = Vec::new();
    for (index, (image, &label)) in images.chunks_exact(PIXELS).zip(&labels).enumerate() {
        let digit =
            Digit { index, label: usize::from(label), pixels: image.iter().map(|&p| f64::from(p) / 255.0).collect() };
        let mut right = digits.len() < count;
        for network in networks {
            right = right && class(&network.graph.eval_f64(&digit.pixels)?) == digit.label;
        }
        if right {
            digits.push(digit);
        }
    }
    Ok(digits)
}

/// The payload of a gzipped IDX file with this magic number and size of header.
fn idx(file: &[u8], magic: u32, header: usize) -> Result<Vec<u8>> {
    let damaged = || Error::internal("the test digits inside this program are damaged");
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).map_err(|e| damaged().with_source(e))?;
    if !bytes.starts_with(&magic.to_be_bytes()) || bytes.len() < header {
        return Err(damaged());
    }
    Ok(bytes.split_off(header))
}

/// The class of the largest output.
pub fn class(outputs: &[f64]) -> usize {
    let largest = outputs.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    largest.map_or(0, |(class, _)| class)
}

impl Digit {
    /// No picture within `radius` of the digit in each pixel, cut to [0, 1], has another class's output at or above
    /// the digit's own.
    pub fn robust_within(&self, radius: f64) -> Property {
        let cut = |step: f64| self.pixels.iter().map(|p| (p + step).clamp(0.0, 1.0)).collect::<Vec<f64>>();
        // p/255, the radius and their sum are each rounded by less than 2^-52; the proof is about the real numbers.
        let outward = |ends: &[f64], step: f64| ends.iter().map(|e| (e + step).clamp(0.0, 1.0)).collect();
        let (lo, hi) = (cut(-radius), cut(radius));
        let input = InputBox { lo_out: outward(&lo, -1e-15), hi_out: outward(&hi, 1e-15), lo, hi };
        let others = (0..CLASSES).filter(|&other| other != self.label);
        let unsafe_if = others.map(|other| {
            let mut coefficients = vec![(self.label, 1.0), (other, -1.0)];
            coefficients.sort_by_key(|&(output, _)| output);
            vec![Row { coefficients, constant: 0.0, slop: 0.0, coefficient_rel: 0.0, strict: false }]
        });
        let query = Query { input, unsafe_if: unsafe_if.collect() };
        Property { inputs: PIXELS, outputs: CLASSES, queries: vec![query] }
    }

    /// The same property as a VNN-LIB file.
    pub fn vnnlib(&self, radius: f64) -> String {
        let mut text = format!("; test digit {}, a {}: robust within {radius} of each pixel\n", self.index, self.label);
        let declare = |name: char, count: usize| {
            (0..count).map(|i| format!("(declare-const {name}_{i} Real)\n")).collect::<String>()
        };
        text += &declare('X', PIXELS);
        text += &declare('Y', CLASSES);
        for (i, pixel) in self.pixels.iter().enumerate() {
            let (lo, hi) = ((pixel - radius).max(0.0), (pixel + radius).min(1.0));
            text += &format!("(assert (>= X_{i} {lo}))\n(assert (<= X_{i} {hi}))\n");
        }
        let others = (0..CLASSES).filter(|&other| other != self.label);
        let worse: String = others.map(|other| format!(" (and (<= Y_{} Y_{other}))", self.label)).collect();
        text + &format!("(assert (or{worse}))\n")
    }
}

/// A digest that tells this property from every other, for its proof: it has no file.
pub fn digest(property: &Property) -> String {
    sha256_hex(format!("{property:?}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vnnlib_file_says_what_the_property_says() {
        let networks = networks().expect("the networks are in the program");
        let digits = classified_right(&networks, 3).expect("the digits are in the program");
        assert_eq!(digits.len(), 3);
        for digit in &digits {
            let (built, read) = (digit.robust_within(0.02), wavehull::verify::vnnlib::parse(&digit.vnnlib(0.02)));
            let read = read.expect("a well-formed property");
            assert_eq!(read.queries[0].unsafe_if, built.queries[0].unsafe_if);
            assert_eq!(
                (&read.queries[0].input.lo, &read.queries[0].input.hi),
                (&built.queries[0].input.lo, &built.queries[0].input.hi)
            );
        }
    }
}
