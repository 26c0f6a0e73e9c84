//! Trains eight LeNets with different learning rates on the shipped digits, all at once, and saves the best as ONNX.
//!
//! `cargo run --release --example train_digits [-- EPOCHS]`

use std::io::Read as _;
use std::path::Path;

use ndarray::{ArrayD, IxDyn, s};
use wavehull::train::{ArrayOptions, Augment, DeviceSet, Labels, Member, Schedule, TrainingArray, models};
use wavehull::{Control, Gpu, Options, graph};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let epochs: u64 = std::env::args().nth(1).map_or(Ok(2), |text| text.parse())?;
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mnist10k");
    let read = |name: &str, header: usize| -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(data.join(name))?).read_to_end(&mut bytes)?;
        Ok(bytes.split_off(header))
    };
    let images = ArrayD::from_shape_vec(IxDyn(&[8000, 1, 28, 28]), read("train-images-idx3-ubyte.gz", 16)?)?;
    let labels: Vec<u32> = read("train-labels-idx1-ubyte.gz", 8)?.into_iter().map(u32::from).collect();

    // The last thousand choose the best member.
    let gpu = Gpu::open(&Options::default())?;
    let normal = [(0.1307, 0.3081)];
    let part = |range: std::ops::Range<usize>| {
        let images = images.slice(s![range.clone(), .., .., ..]).to_owned().into_dyn();
        DeviceSet::from_bytes(&gpu, &images, &normal, Labels::Classes { labels: labels[range].to_vec(), classes: 10 })
    };
    let (train, valid) = (part(0..7000)?, part(7000..8000)?);

    let augment = Augment { shift: 2, ..Augment::default() };
    let options = ArrayOptions { slots: 8, batch: 50, augment, ..ArrayOptions::default() };
    let steps = epochs * 7000 / 50;
    let mut array = TrainingArray::new(&gpu, &models::lenet(10)?, train, options)?;
    for slot in 0..8 {
        let learning_rate = 3e-4 * 1.6_f64.powi(slot as i32);
        let schedule = Schedule::Cosine { steps, least: 0.0 };
        array.start(slot, Member { seed: slot as u64, learning_rate, schedule, ..Member::default() })?;
    }
    array.run(steps, &Control::default(), &mut |p| {
        if p.slot == 0 && p.step % 140 == 0 {
            println!("epoch {}: loss {:.4}", p.step / 140, p.loss);
        }
    })?;
    let scores = array.evaluate(&valid, &Control::default())?;
    let best = (0..8).max_by(|&a, &b| scores[a].correct.total_cmp(&scores[b].correct)).unwrap_or(0);
    println!("member {best} has {:.2} % of the validation digits right", 100.0 * scores[best].correct);
    std::fs::write("digits.onnx", graph::onnx::write(&array.export(best)?)?)?;
    Ok(())
}
