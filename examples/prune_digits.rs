//! Trains LeNets on the shipped digits and prunes each to a share of zeros of its own, all at once: a dense one, and some of 50 to 95 % zeros.
//!
//! `cargo run --release --example prune_digits [-- EPOCHS [FOLDER]]`
//!
//! Magnitude pruning with the cubic schedule of Zhu and Gupta (arXiv 1710.01878): every 20 steps the smallest weights of each tensor are set to
//! zero. Between two cuts they may grow again (iterative hard thresholding), so that what was cut wrongly comes back. With a folder, each
//! network is written there as ONNX; `data/lenet-*.onnx` are those of 14 epochs.

use std::io::Read as _;
use std::path::Path;

use ndarray::{ArrayD, IxDyn};
use wavehull::train::{ArrayOptions, Augment, DeviceSet, Labels, Member, Schedule, TrainingArray, models};
use wavehull::{Control, Gpu, Options, graph};

/// Shares of zeros, a member each.
const ZEROS: [f64; 5] = [0.0, 0.5, 0.8, 0.9, 0.95];
/// Steps between two cuts.
const PERIOD: u64 = 20;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let epochs: u64 = std::env::args().nth(1).map_or(Ok(14), |text| text.parse())?;
    let folder = std::env::args().nth(2);
    let gpu = Gpu::open(&Options::default())?;
    let (train, test) = (digits(&gpu, "train", 8000)?, digits(&gpu, "test", 2000)?);

    let steps = epochs * 8000 / 50;
    let augment = Augment { shift: 2, ..Augment::default() };
    let options = ArrayOptions { slots: ZEROS.len(), batch: 50, augment, ..ArrayOptions::default() };
    let mut array = TrainingArray::new(&gpu, &models::lenet(10)?, train, options)?;
    for slot in 0..ZEROS.len() {
        let schedule = Schedule::Cosine { steps, least: 0.0 };
        array.start(slot, Member { seed: 1, learning_rate: 2e-3, schedule, ..Member::default() })?;
    }
    for done in (0..steps).step_by(PERIOD as usize) {
        array.run(PERIOD.min(steps - done), &Control::default(), &mut |_| {})?;
        // No zeros in the first tenth, all of them after six tenths, cubically in between.
        let ramp = ((done + PERIOD) as f64 / steps as f64 - 0.1) / 0.5;
        let grown = 1.0 - (1.0 - ramp.clamp(0.0, 1.0)).powi(3);
        for (slot, zeros) in ZEROS.iter().enumerate() {
            cut(&mut array, slot, zeros * grown)?;
        }
    }
    let scores = array.evaluate(&test, &Control::default())?;
    for (slot, zeros) in ZEROS.iter().enumerate() {
        println!("{:>2.0} % zeros: {:.2} % of the test digits right", 100.0 * zeros, 100.0 * scores[slot].correct);
        if let Some(folder) = &folder {
            let name = format!("lenet-{:02.0}.onnx", 100.0 * zeros);
            std::fs::write(Path::new(folder).join(name), graph::onnx::write(&array.export(slot)?)?)?;
        }
    }
    Ok(())
}

/// Sets the smallest weights of a member to zero, such a share of each tensor; biases stay.
fn cut(array: &mut TrainingArray, slot: usize, share: f64) -> wavehull::Result<()> {
    array.edit(slot, &mut |_, weights| {
        let mut sizes: Vec<f32> = weights.iter().map(|w| w.abs()).collect();
        let cut = (share * sizes.len() as f64).round() as usize;
        if weights.ndim() > 1 && cut > 0 {
            let (_, &mut most, _) = sizes.select_nth_unstable_by(cut - 1, f32::total_cmp);
            weights.mapv_inplace(|w| if w.abs() <= most { 0.0 } else { w });
        }
    })
}

/// The shipped digits, pixels from 0 to 1.
fn digits(gpu: &Gpu, part: &str, count: usize) -> Result<DeviceSet, Box<dyn std::error::Error>> {
    let read = |name: String, header: usize| -> std::io::Result<Vec<u8>> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mnist10k").join(name);
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(std::fs::File::open(file)?).read_to_end(&mut bytes)?;
        Ok(bytes.split_off(header))
    };
    let images = read(format!("{part}-images-idx3-ubyte.gz"), 16)?;
    let images = ArrayD::from_shape_vec(IxDyn(&[count, 1, 28, 28]), images)?;
    let labels = read(format!("{part}-labels-idx1-ubyte.gz"), 8)?.into_iter().map(u32::from).collect();
    Ok(DeviceSet::from_bytes(gpu, &images, &[(0.0, 1.0)], Labels::Classes { labels, classes: 10 })?)
}
