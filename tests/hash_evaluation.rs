//! What evaluation looks at, and what a step leaves alone: defects of released code that no other test asks for.
#![cfg(feature = "hash")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{Random, device};
use wavehull::gpu::{Progress, ProgressSink};
use wavehull::hash::clusters::ClusterOptions;
use wavehull::hash::config::Config;
use wavehull::hash::data::generate::{Recipe, generate};
use wavehull::hash::lsh::LshOptions;
use wavehull::hash::options::Mode;
use wavehull::hash::quality::Precision;
use wavehull::hash::session::{Loaded, Look, Session};
use wavehull::hash::set::Lists;
use wavehull::hash::{Batch, Options, Shortlist, SparseSet, Trainer};
use wavehull::{CancelToken, Control, Gpu};

const LABELS: usize = 600;
/// More than two of the batches that evaluation makes, and a rest.
const SAMPLES: usize = 640;

fn set() -> SparseSet {
    let recipe = Recipe { features: 300, median_non_zeros: 12.0, most_non_zeros: 40, ..Recipe::with_labels(LABELS, 5) };
    generate(&recipe, 0..SAMPLES, 1).unwrap()
}

/// A trainer after some steps, none of which sweeps a table.
fn trained(gpu: &Gpu, set: &SparseSet, steps: usize) -> Trainer {
    let options = Options {
        hidden: 30,
        batch: 32,
        mode: Mode::Uniform,
        negatives: 40,
        learning_rate: 3e-3,
        deviation: 0.05,
        ..Options::default()
    };
    let mut trainer = Trainer::new(gpu, set, options).unwrap();
    for step in 0..steps {
        let chosen: Vec<u32> = (0..32).map(|i| ((step * 32 + i) % set.len()) as u32).collect();
        pollster::block_on(trainer.step_async(&Batch::new(set, &chosen).unwrap())).unwrap();
    }
    pollster::block_on(trainer.wait_async()).unwrap();
    trainer
}

/// A row's stamp, how far it has been brought, is the last step that touched it: nothing moves other rows, nor reads them.
#[test]
fn a_step_leaves_rows_alone_that_it_does_not_touch() {
    let Some(gpu) = device("a_step_leaves_rows_alone_that_it_does_not_touch", false) else { return };
    let trainer = trained(gpu, &set(), 8);
    for (name, rows) in trainer.network().tables() {
        let book = rows.book(gpu).unwrap();
        assert!(book.iter().all(|line| line[0] == line[1]), "{name}: rows were brought further than their last step");
        let old = book.iter().filter(|line| line[1] < 8).count();
        assert!(0 < old && old < book.len(), "{name}: {old} of {} rows are behind", book.len());
    }
}

#[test]
fn evaluation_looks_at_every_sample_once_in_any_order() {
    let Some(gpu) = device("evaluation_looks_at_every_sample_once_in_any_order", false) else { return };
    let mut set = set();
    // Some samples without labels.
    let mut labels = Lists { offsets: vec![0], ids: Vec::new() };
    for i in 0..set.len() {
        labels.ids.extend_from_slice(if i % 50 == 7 { &[] } else { set.labels.row(i) });
        labels.offsets.push(labels.ids.len());
    }
    set.labels = labels;
    let mut trainer = trained(gpu, &set, 60);
    pollster::block_on(trainer.read_async()).unwrap();
    let best = trainer.network().predict(&set, 5, None, &Control::default()).unwrap();
    assert_eq!(best.len(), SAMPLES);
    let hits = |sample: usize, k: usize| {
        best[sample].iter().take(k).filter(|(label, _)| set.labels.row(sample).contains(label)).count()
    };
    let all: Vec<u32> = (0..SAMPLES as u32).collect();
    let mut shuffled = all.clone();
    Random::new(4).shuffle(&mut shuffled);
    let mut sorted = all.clone();
    sorted.sort_by_key(|&i| set.labels.row(i as usize).first().copied());
    let backwards: Vec<u32> = all.iter().rev().copied().collect();
    for chosen in [&all[..], &shuffled, &sorted, &backwards, &[9], &[7], &all[..3], &shuffled[..255], &shuffled[..257]]
    {
        let got = pollster::block_on(trainer.evaluate_async(&set, chosen, &Control::default())).unwrap();
        let own: Vec<usize> = chosen.iter().map(|&i| i as usize).filter(|&i| !set.labels.row(i).is_empty()).collect();
        assert_eq!((got.labelled, got.unlabelled), (own.len(), chosen.len() - own.len()));
        for (k, precision) in got.at {
            let right: usize = own.iter().map(|&i| hits(i, k)).sum();
            let expected = if own.is_empty() { 0.0 } else { right as f64 / (k * own.len()) as f64 };
            assert!((precision - expected).abs() < 1e-12, "P@{k} of {}: {precision}, not {expected}", chosen.len());
        }
    }
}

#[test]
fn hash_tables_score_a_part_of_the_labels_and_both_ways_are_timed() {
    const NAME: &str = "hash_tables_score_a_part_of_the_labels_and_both_ways_are_timed";
    let Some(gpu) = device(NAME, false) else { return };
    let set = set();
    let mut trainer = trained(gpu, &set, 60);
    pollster::block_on(trainer.read_async()).unwrap();
    let all: Vec<u32> = (0..SAMPLES as u32).collect();
    let lsh = Shortlist::Tables(LshOptions { codes: 3, tables: 10, ..LshOptions::default() });
    let quality = trainer.network().quality(&set, &all, Some(&lsh), &Control::default()).unwrap();
    let sparse = quality.sparse.unwrap();
    assert_eq!((quality.samples, quality.labels), (SAMPLES, LABELS));
    assert!(0.0 < sparse.candidates && sparse.candidates < 0.5 * LABELS as f64, "{sparse:?}");
    assert!(sparse.recall_10 < 1.0 && sparse.recall_1 > 2.0 * sparse.candidates / LABELS as f64, "{sparse:?}");
    assert!([quality.exact_seconds, sparse.seconds, sparse.build_seconds].iter().all(|&s| s > 0.0), "{sparse:?}");
    // Hidden elements that overflow are told of, whichever way is asked, and whose they are.
    let mut large = set;
    let own = large.features.offsets[300]..;
    large.values[own].fill(f32::MAX);
    let clusters = Shortlist::Clusters(ClusterOptions::default());
    for way in [None, Some(&lsh), Some(&clusters)] {
        let error = trainer.network().predict(&large, 3, way, &Control::default()).unwrap_err();
        let (_, sample) = error.message().split_once("for sample ").unwrap();
        let (sample, rest) = sample.split_once(' ').unwrap();
        assert!(sample.parse().is_ok_and(|n: usize| n >= 300) && rest.starts_with("is not finite"), "{way:?}: {error}");
    }
}

/// A device whose bindings are too small for the candidates of as many samples as others ask at once.
#[test]
fn as_many_samples_are_asked_at_once_as_the_device_can_bind() {
    let Some(gpu) = device("as_many_samples_are_asked_at_once_as_the_device_can_bind", false) else { return };
    let mut limits = wavehull::Options::default();
    limits.max_binding = Some(256 << 10);
    let small = Gpu::open(&limits).unwrap();
    let set = set();
    let lsh = Shortlist::Tables(LshOptions { codes: 3, tables: 10, ..LshOptions::default() });
    let [first, second] = [gpu, &small].map(|gpu| {
        let mut trainer = trained(gpu, &set, 10);
        pollster::block_on(trainer.read_async()).unwrap();
        trainer.network().predict(&set, 3, Some(&lsh), &Control::default())
    });
    assert!(second.is_ok(), "more is asked at once than can be bound");
    assert!(first.unwrap() == second.unwrap(), "other answers from smaller bindings");
    let deep = Shortlist::Tables(LshOptions { codes: 3, tables: 300, bucket: 256, ..LshOptions::default() });
    let error = trained(&small, &set, 1).network().predict(&set, 3, Some(&deep), &Control::default()).unwrap_err();
    assert!(error.message().contains("76800 candidates") && error.help().is_some(), "{error}");
}

/// Tells a training to stop as soon as it looks at its test part.
struct StopAtLook(CancelToken);

impl ProgressSink for StopAtLook {
    fn update(&self, progress: Progress<'_>) {
        if progress.phase == "asking" {
            self.0.cancel();
        }
    }
}

/// The step and the precision of each look until a training ends or is stopped, and whether it was.
fn heard(gpu: &Gpu, config: &Config, loaded: &Loaded, control: &Control) -> (Vec<(u64, Option<Precision>)>, bool) {
    let mut looks = Vec::new();
    let session = Session::new(gpu, config, loaded, control).unwrap();
    let outcome = session.run(control, &mut |look| looks.push((look.step, look.precision.clone()))).unwrap();
    (looks, outcome.stopped)
}

#[test]
fn a_look_in_which_a_training_is_told_to_stop_is_not_lost() {
    let Some(gpu) = device("a_look_in_which_a_training_is_told_to_stop_is_not_lost", false) else { return };
    let folder = std::env::temp_dir().join(format!("wavehull-hash-looks-{}", std::process::id()));
    let loaded = Loaded { train: set(), test: set(), label_names: None, notes: Vec::new() };
    // A training through hash tables stops where these are made anew alone: in the middle of an epoch it does not.
    let hashing = "mode = \"slide\"\nsize = 40\n\n[hash]\ncodes = 2\ntables = 4\nrebuild = 640";
    for mode in ["mode = \"uniform\"\nnegatives = 8", hashing] {
        let text = CONFIG.replace("mode = \"uniform\"\nnegatives = 8", mode).replace("steps = 4", "steps = 8");
        // More than are asked at once: a look can be stopped in its middle.
        let text = text.replace("look_samples = 100", "look_samples = 600");
        let mut config = Config::parse(&text, Path::new(".")).unwrap();
        config.folder.clone_from(&folder);
        let _ = std::fs::remove_dir_all(&folder);
        let whole = heard(gpu, &config, &loaded, &Control::default());
        assert_eq!(whole.0.iter().map(|look| look.0).collect::<Vec<_>>(), [2, 4, 6, 8]);
        let _ = std::fs::remove_dir_all(&folder);
        let cancel = CancelToken::default();
        let control = Control { cancel: cancel.clone(), progress: Some(Arc::new(StopAtLook(cancel))) };
        let (mut looks, stopped) = heard(gpu, &config, &loaded, &control);
        assert!(stopped && looks.len() < 3, "{mode}: {looks:?}");
        looks.extend(heard(gpu, &config, &loaded, &Control::default()).0);
        assert!(looks == whole.0, "{mode}: {looks:?}, not {:?}", whole.0);
    }
    let _ = std::fs::remove_dir_all(&folder);
}

const CONFIG: &str = "\
[data]
train = \"none\"
test = \"none\"

[model]
hidden = 8

[train]
steps = 4
batch = 160
looks = 2
look_samples = 100

[active]
mode = \"uniform\"
negatives = 8
";

/// A set's parts are often sorted: the first half of this test part has no labels at all.
#[test]
fn looks_at_a_part_take_it_from_everywhere() {
    let Some(gpu) = device("looks_at_a_part_take_it_from_everywhere", false) else { return };
    let train = set();
    let mut test = train.clone();
    let kept = test.labels.ids.split_off(test.labels.offsets[SAMPLES / 2]);
    let before = test.labels.ids.len();
    test.labels.offsets.iter_mut().for_each(|offset| *offset = offset.saturating_sub(before));
    test.labels.ids = kept;
    let folder = std::env::temp_dir().join(format!("wavehull-hash-evaluation-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let mut config = Config::parse(CONFIG, Path::new(".")).unwrap();
    config.folder.clone_from(&folder);
    let loaded = Loaded { train, test, label_names: None, notes: Vec::new() };
    let mut looks: Vec<Look> = Vec::new();
    let session = Session::new(gpu, &config, &loaded, &Control::default()).unwrap();
    session.run(&Control::default(), &mut |look| looks.push(look.clone())).unwrap();
    let _ = std::fs::remove_dir_all(&folder);
    let seen: Vec<(usize, usize)> =
        looks.iter().filter_map(|look| look.precision.as_ref()).map(|p| (p.labelled, p.unlabelled)).collect();
    // 50 of 100 in the mean, with a deviation below 5.
    assert!(seen.len() == 2 && seen[0].0 + seen[0].1 == 100 && (25..75).contains(&seen[0].0), "{seen:?}");
    assert_eq!(seen[1], (SAMPLES / 2, SAMPLES / 2), "the last look is at all of it");
}
