//! Proves that no change of up to 0.1 in any pixel makes the shipped network see another digit.
//!
//! `cargo run --release --example verify_digit [-- NUMBER]`

use std::io::Read as _;
use std::path::Path;

use wavehull::graph::onnx;
use wavehull::verify::{InputBox, Property, Query, Row, Verdict, Verifier, VerifyOptions};
use wavehull::{Control, Gpu, Options};

const RADIUS: f64 = 0.1;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let number: usize = std::env::args().nth(1).map_or(Ok(0), |text| text.parse())?;
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");

    // The file holds a header of 16 bytes, then 784 bytes a picture.
    let mut images = Vec::new();
    let file = std::fs::File::open(data.join("mnist10k/test-images-idx3-ubyte.gz"))?;
    flate2::read::GzDecoder::new(file).read_to_end(&mut images)?;
    let bytes = images[16..].chunks_exact(784).nth(number).ok_or("there are 2000 digits, from 0 to 1999")?;
    let pixels: Vec<f64> = bytes.iter().map(|&byte| f64::from(byte) / 255.0).collect();

    let (network, _) = onnx::read(&data.join("mnist-robust.onnx"))?;
    let outputs = network.eval_f64(&pixels)?;
    let digit = (0..10).max_by(|&a, &b| outputs[a].total_cmp(&outputs[b])).unwrap_or(0);

    // The question: is there a point of this box where some other output is at least as large?
    let lo: Vec<f64> = pixels.iter().map(|p| (p - RADIUS).max(0.0)).collect();
    let hi: Vec<f64> = pixels.iter().map(|p| (p + RADIUS).min(1.0)).collect();
    let input = InputBox { lo_out: lo.clone(), hi_out: hi.clone(), lo, hi };
    let beaten_by = |other| {
        let coefficients = vec![(digit.min(other), sign(digit < other)), (digit.max(other), -sign(digit < other))];
        vec![Row { coefficients, constant: 0.0, slop: 0.0, coefficient_rel: 0.0, strict: false }]
    };
    let unsafe_if = (0..10).filter(|&other| other != digit).map(beaten_by).collect();
    let property = Property { inputs: 784, outputs: 10, queries: vec![Query { input, unsafe_if }] };

    let gpu = Gpu::open(&Options::default())?;
    let verifier = Verifier::new(&gpu, &network, VerifyOptions::default())?;
    let outcome = verifier.verify(&[&property], &Control::default())?.remove(0);
    match outcome.verdict {
        Verdict::Holds => print!("digit {number} is a {digit}, and so is every picture within {RADIUS} of it"),
        Verdict::Violated(found) => {
            print!("digit {number} is a {digit}, but a picture within {RADIUS} gives {:?}", found.y)
        }
        Verdict::Unknown(why) => print!("digit {number} is a {digit}; whether that is robust is not known: {why}"),
    }
    println!(" (margin {}, on {})", outcome.margin.map_or("none".to_owned(), |m| format!("{m:.4}")), gpu.caps());
    Ok(())
}

fn sign(positive: bool) -> f64 {
    if positive { 1.0 } else { -1.0 }
}
