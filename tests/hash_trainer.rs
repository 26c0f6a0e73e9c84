//! Training as a whole: every mode learns, modes agree where their sets do, catching up is the dense optimiser, and nothing depends on looks, waits or
//! stops.
#![cfg(feature = "hash")]

mod common;

use common::device;
use wavehull::hash::checkpoint::Store;
use wavehull::hash::data::generate::{Recipe, generate};
use wavehull::hash::lsh::LshOptions;
use wavehull::hash::optimiser::{Mode as Update, Rule};
use wavehull::hash::options::{MODES, Mode, Rebuild};
use wavehull::hash::{Batch, Network, Options, SparseSet, Trainer};
use wavehull::{Control, Gpu};

/// More than shared sets have, so that these are no full layers.
const LABELS: usize = 600;

fn set() -> SparseSet {
    let recipe = Recipe { features: 300, median_non_zeros: 12.0, most_non_zeros: 40, ..Recipe::with_labels(LABELS, 5) };
    generate(&recipe, 0..640, 1).unwrap()
}

fn options(mode: Mode) -> Options {
    Options {
        hidden: 30,
        batch: 32,
        mode,
        negatives: 40,
        active: 48,
        learning_rate: 3e-3,
        deviation: 0.05,
        lsh: LshOptions { codes: 2, tables: 10, ..LshOptions::default() },
        rebuild: Rebuild::Samples(160),
        neighbours: 4,
        ..Options::default()
    }
}

fn steps(trainer: &mut Trainer, set: &SparseSet, batch: usize, range: std::ops::Range<usize>) {
    for step in range {
        let chosen: Vec<u32> = (0..batch).map(|i| u32::try_from((step * batch + i) % set.len()).unwrap()).collect();
        pollster::block_on(trainer.step_async(&Batch::new(set, &chosen).unwrap())).unwrap();
    }
}

/// Bits of both tables, all rows up to date.
fn bits(trainer: &mut Trainer, gpu: &Gpu) -> Vec<u32> {
    pollster::block_on(trainer.settle_async()).unwrap();
    pollster::block_on(trainer.read_async()).unwrap();
    let Network { input, output, .. } = trainer.network();
    let part = |rows: &wavehull::hash::Rows| rows.read(gpu, 0..rows.len()).unwrap();
    let tables = [part(input), part(output)];
    tables.iter().flat_map(|p| p.weights.iter().chain(p.state.iter().flatten())).map(|v| v.to_bits()).collect()
}

fn trained(gpu: &Gpu, set: &SparseSet, options: &Options, count: usize) -> Vec<u32> {
    let mut trainer = Trainer::new(gpu, set, options.clone()).unwrap();
    steps(&mut trainer, set, options.batch, 0..count);
    bits(&mut trainer, gpu)
}

#[test]
fn every_mode_learns() {
    let Some(gpu) = device("every_mode_learns", false) else { return };
    let set = set();
    for &(name, mode) in MODES {
        let options = options(mode);
        let mut trainer = Trainer::new(gpu, &set, options.clone()).unwrap();
        steps(&mut trainer, &set, options.batch, 0..20);
        let first = pollster::block_on(trainer.settle_async()).unwrap();
        steps(&mut trainer, &set, options.batch, 20..200);
        pollster::block_on(trainer.settle_async()).unwrap();
        let all: Vec<u32> = (0..640).collect();
        let precision = pollster::block_on(trainer.evaluate_async(&set, &all, &Control::default())).unwrap();
        steps(&mut trainer, &set, options.batch, 200..220);
        let last = pollster::block_on(trainer.settle_async()).unwrap();
        assert!(last.loss < 0.7 * first.loss, "{name}: {} then {}", first.loss, last.loss);
        assert!(precision.at[0].1 > 0.6, "{name}: P@1 {}", precision.at[0].1);
        let sum = first.from_labels + first.from_candidates + first.from_fill;
        assert!((sum - first.active).abs() < 1e-6, "{name}: {first:?}");
        assert_eq!(first.from_candidates > 0.0, mode.hashes() || mode == Mode::LogUniform, "{name}: {first:?}");
        assert_eq!(first.rebuilds > 0, mode.hashes(), "{name}");
    }
}

#[test]
fn modes_agree_bit_for_bit_where_their_sets_are_equal() {
    let Some(gpu) = device("modes_agree_bit_for_bit_where_their_sets_are_equal", false) else { return };
    let set = set();
    let all = |mode| Options { negatives: LABELS, active: LABELS, ..options(mode) };
    let full = trained(gpu, &set, &all(Mode::Full), 8);
    for &(name, mode) in MODES {
        let other = trained(gpu, &set, &all(mode), 8);
        let differing = full.iter().zip(&other).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 0, "{name}: {differing} of {} words differ from full", full.len());
    }
    let fewer = trained(gpu, &set, &options(Mode::Uniform), 8);
    assert!(fewer != full, "a smaller set changes nothing");
}

#[test]
fn catching_up_is_the_dense_optimiser_bit_for_bit() {
    let Some(gpu) = device("catching_up_is_the_dense_optimiser_bit_for_bit", false) else { return };
    let set = set();
    for mode in [Mode::Slide, Mode::Neighbours] {
        let with = |update| trained(gpu, &set, &Options { update, ..options(mode) }, 60);
        let (dense, caught) = (with(Update::Dense), with(Update::CatchUp));
        assert!(dense == caught, "{}: catching up differs", mode.name());
        assert!(dense != with(Update::Lazy), "{}: lazy Adam is dense Adam?", mode.name());
    }
    let sgd = |update| trained(gpu, &set, &Options { update, rule: Rule::Sgd, ..options(Mode::Slide) }, 20);
    assert!(sgd(Update::Lazy) == sgd(Update::CatchUp), "rows without a gradient moved without momentum");
}

#[test]
fn runs_repeat_and_looks_and_waits_change_nothing() {
    let Some(gpu) = device("runs_repeat_and_looks_and_waits_change_nothing", false) else { return };
    let set = set();
    for &(name, mode) in MODES {
        let options = options(mode);
        let options = match mode {
            Mode::HashMost => Options { rebuild: Rebuild::Changed { share: 0.2, every: 160 }, ..options },
            _ => options,
        };
        let once = trained(gpu, &set, &options, 30);
        let mut trainer = Trainer::new(gpu, &set, options.clone()).unwrap();
        for step in 0..30 {
            steps(&mut trainer, &set, options.batch, step..step + 1);
            if step % 7 == 3 {
                pollster::block_on(trainer.evaluate_async(&set, &[0, 1, 2], &Control::default())).unwrap();
            }
        }
        assert!(once == bits(&mut trainer, gpu), "{name}: a look changed the training");
        let other = trained(gpu, &set, &Options { seed: 2, ..options }, 30);
        assert!(once != other, "{name}: the seed changes nothing");
    }
}

#[test]
fn a_training_goes_on_from_its_checkpoint_with_the_same_bits() {
    let Some(gpu) = device("a_training_goes_on_from_its_checkpoint_with_the_same_bits", false) else { return };
    let set = set();
    let folder = std::env::temp_dir().join(format!("wavehull-hash-trainer-{}", std::process::id()));
    for (mode, update) in [
        (Mode::Uniform, Update::CatchUp),
        (Mode::Neighbours, Update::CatchUp),
        (Mode::Slide, Update::Lazy),
        (Mode::HashMost, Update::Dense),
        (Mode::HashUnion, Update::CatchUp),
    ] {
        let mut options = Options { update, ..options(mode) };
        if mode == Mode::HashUnion {
            // Every count asks for new tables.
            options.rebuild = Rebuild::Changed { share: 1e-9, every: 160 };
        }
        let whole = trained(gpu, &set, &options, 25);
        let _ = std::fs::remove_dir_all(&folder);
        let mut store = Store::open(&folder).unwrap();
        let mut trainer = Trainer::new(gpu, &set, options.clone()).unwrap();
        for part in [0..5, 5..10, 10..15] {
            assert!(trainer.at_rest(), "a rebuild every five steps");
            let end = part.end;
            steps(&mut trainer, &set, options.batch, part);
            let meta = format!("step {end}");
            pollster::block_on(trainer.save_async(&mut store, meta.as_bytes(), &Control::default())).unwrap();
        }
        drop(trainer);
        let mut store = Store::open(&folder).unwrap();
        let mut trainer = Trainer::new(gpu, &set, Options { seed: 1, ..options.clone() }).unwrap();
        let meta = pollster::block_on(trainer.load_async(&mut store, &Control::default())).unwrap();
        assert_eq!(meta.as_deref(), Some("step 15".as_bytes()));
        assert_eq!(trainer.step(), 15);
        steps(&mut trainer, &set, options.batch, 15..25);
        assert!(whole == bits(&mut trainer, gpu), "{}: other bits after a stop", mode.name());
    }
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn rows_that_rest_keep_their_keys() {
    let Some(gpu) = device("rows_that_rest_keep_their_keys", false) else { return };
    let set = set();
    let folder = std::env::temp_dir().join(format!("wavehull-hash-keys-{}", std::process::id()));
    let few = Options { batch: 4, active: 16, rebuild: Rebuild::Samples(8), ..options(Mode::Slide) };
    for options in [
        Options { update: Update::Lazy, ..few.clone() },
        Options { update: Update::Lazy, renew: 40, ..few.clone() },
        Options { rule: Rule::adagrad(), learning_rate: 0.05, ..few.clone() },
    ] {
        let _ = std::fs::remove_dir_all(&folder);
        let mut store = Store::open(&folder).unwrap();
        let mut trainer = Trainer::new(gpu, &set, options.clone()).unwrap();
        steps(&mut trainer, &set, options.batch, 0..30);
        let tally = pollster::block_on(trainer.settle_async()).unwrap();
        let hashed = tally.rehashed as f64 / (tally.rebuilds * LABELS as u64) as f64;
        assert!(
            tally.rebuilds == 15 && (0.1..0.7).contains(&hashed),
            "{tally:?}: a rebuild hashes {hashed} of the rows"
        );
        let whole = bits(&mut trainer, gpu);
        // A trainer that is told to load at every rebuild knows no keys.
        let mut again = Trainer::new(gpu, &set, options.clone()).unwrap();
        for step in (0..30).step_by(2) {
            pollster::block_on(again.save_async(&mut store, b"", &Control::default())).unwrap();
            pollster::block_on(again.load_async(&mut store, &Control::default())).unwrap();
            steps(&mut again, &set, options.batch, step..step + 2);
        }
        let tally = pollster::block_on(again.settle_async()).unwrap();
        assert_eq!(tally.rehashed, tally.rebuilds * LABELS as u64);
        assert!(whole == bits(&mut again, gpu), "kept keys are not those of a whole build");
    }
    let moving = Options { update: Update::CatchUp, ..few };
    let mut trainer = Trainer::new(gpu, &set, moving.clone()).unwrap();
    steps(&mut trainer, &set, moving.batch, 0..10);
    let tally = pollster::block_on(trainer.settle_async()).unwrap();
    assert_eq!(tally.rehashed, tally.rebuilds * LABELS as u64, "rows that move without a gradient keep keys");
    let _ = std::fs::remove_dir_all(&folder);
}

/// Seconds that the processor spent on this process, where the system says so: others may use it meanwhile.
fn processor_time() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let spent = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("schedstat")).ok();
    let nanoseconds = |text: String| text.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    tasks.flatten().filter_map(spent).filter_map(nanoseconds).sum::<f64>() / 1e9
}

/// Where the time of a step goes on the shipped set: `cargo test --release --test hash_trainer -- --ignored --nocapture kernels`.
#[test]
#[ignore = "a measurement"]
fn kernels_of_a_step() {
    let Some(gpu) = device("kernels_of_a_step", false) else { return };
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/debian-relations/train.txt.gz");
    let (set, _) = wavehull::hash::data::read(&path, &wavehull::hash::data::ReadOptions::default()).unwrap();
    for mode in [Mode::Uniform, Mode::Neighbours, Mode::Slide] {
        let options = Options { mode, ..Options::default() };
        let mut trainer = Trainer::new(gpu, &set, options.clone()).unwrap();
        let order = wavehull::ops::random::Stream::new(1).permutation(set.len(), 0, 2);
        for chosen in order.chunks(256).take(30) {
            pollster::block_on(trainer.step_async(&Batch::new(&set, chosen).unwrap())).unwrap();
        }
        // Of each kernel the least of all steps: others may use the processor meanwhile.
        let mut least: Vec<(&str, f64, usize)> = Vec::new();
        let start = processor_time();
        for chosen in order.chunks(256).skip(30).take(10) {
            let mut own: Vec<(&str, f64, usize)> = Vec::new();
            for (name, seconds) in
                pollster::block_on(trainer.profile_async(&Batch::new(&set, chosen).unwrap())).unwrap()
            {
                match own.iter_mut().find(|(known, ..)| *known == name) {
                    Some(sum) => (sum.1, sum.2) = (sum.1 + seconds, sum.2 + 1),
                    None => own.push((name, seconds, 1)),
                }
            }
            for (name, seconds, count) in own {
                match least.iter_mut().find(|(known, ..)| *known == name) {
                    Some(known) => known.1 = known.1.min(seconds),
                    None => least.push((name, seconds, count)),
                }
            }
        }
        let cpu = (processor_time() - start) / 10.0;
        least.sort_by(|a, b| b.1.total_cmp(&a.1));
        let whole: f64 = least.iter().map(|known| known.1).sum();
        println!("{}: {:.1} ms a step, {:.1} ms of processor", mode.name(), 1e3 * whole, 1e3 * cpu);
        for (name, seconds, count) in least.iter().take(14) {
            println!("  {name:<20} {:>7.2} ms in {count:>2} dispatches", 1e3 * seconds);
        }
        let start = processor_time();
        let now = std::time::Instant::now();
        let chunks: Vec<_> = order.chunks(256).skip(40).take(40).collect();
        for chosen in &chunks {
            pollster::block_on(trainer.step_async(&Batch::new(&set, chosen).unwrap())).unwrap();
        }
        pollster::block_on(trainer.settle_async()).unwrap();
        let (wall, cpu) = (now.elapsed().as_secs_f64(), processor_time() - start);
        println!("  not looked at: {:.1} ms a step, {:.1} ms of processor", 1e3 * wall / 40.0, 1e3 * cpu / 40.0);
        let start = processor_time();
        for chosen in &chunks {
            std::hint::black_box(Batch::new(&set, chosen).unwrap());
        }
        println!("  a batch: {:.3} ms of processor", 1e3 * (processor_time() - start) / 40.0);
    }
}
