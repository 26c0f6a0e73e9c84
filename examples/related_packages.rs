//! Trains a network of 25,918 labels on the shipped packages of Debian, and says which packages go with one that it has not seen.
//!
//! `cargo run --release --example related_packages [-- PACKAGE]`

use std::path::Path;

use wavehull::hash::data::{self, Names, ReadOptions};
use wavehull::hash::{Batch, Options, Trainer};
use wavehull::ops::random::{Stream, purpose};
use wavehull::{Control, Gpu, Options as GpuOptions};

fn main() -> wavehull::Result<()> {
    let wanted = std::env::args().nth(1).unwrap_or_else(|| "python3-flask-babel".to_owned());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/debian-relations");
    let (train, _) = data::read(&folder.join("train.txt.gz"), &ReadOptions::default())?;
    let (test, _) = data::read(&folder.join("test.txt.gz"), &ReadOptions::default())?;
    let labels = Names::read(&folder.join("labels.txt.gz"), train.label_count)?;
    let unseen = Names::read(&folder.join("test-names.txt.gz"), test.len())?;
    let Some(sample) = unseen.find(&wanted) else {
        // Names that begin as it does, if only by a letter.
        let begin = wanted.get(..1).unwrap_or_default();
        let some = [unseen.starting(&wanted, 8), unseen.starting(begin, 8)].concat();
        let near: Vec<&str> = some.into_iter().filter_map(|id| unseen.get(id)).take(8).collect();
        println!("'{wanted}' is no package of the test part; try one of {}", near.join(", "));
        return Ok(());
    };

    let gpu = Gpu::open(&GpuOptions::default())?;
    let options = Options { learning_rate: 1e-3, ..Options::default() };
    let (batch, seed) = (options.batch, options.seed);
    let mut trainer = Trainer::new(&gpu, &train, options)?;
    for epoch in 0..2 {
        for chosen in Stream::new(seed).permutation(train.len(), epoch, purpose::SHUFFLE).chunks(batch) {
            pollster::block_on(trainer.step_async(&Batch::new(&train, chosen)?))?;
        }
        let tally = pollster::block_on(trainer.settle_async())?;
        println!("epoch {}: loss {:.3}, {:.0} of 25,918 labels a step", epoch + 1, tally.loss, tally.active);
    }
    pollster::block_on(trainer.read_async())?;
    let one = data::split::select(&test, &[sample])?;
    let best = trainer.network().predict(&one, 8, None, &Control::default())?;
    let named = |&(label, _): &(u32, f32)| labels.get(label).unwrap_or("?").to_owned();
    println!("{wanted} goes with: {}", best[0].iter().map(named).collect::<Vec<_>>().join(", "));
    let truth: Vec<&str> = one.labels.row(0).iter().filter_map(|&label| labels.get(label)).collect();
    println!("it depends on, recommends or suggests: {}", truth.join(", "));
    Ok(())
}
