//! Sessions on small sets that a formula makes: members, slots, stops and returns, searches.
#![cfg(all(feature = "train", feature = "config"))]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wavehull::gpu::{Progress, ProgressSink};
use wavehull::train::checkpoint::read_parameters;
use wavehull::train::config::Config;
use wavehull::train::events::Reason;
use wavehull::train::session::{Outcome, Session, Standing};
use wavehull::{CancelToken, Control, Gpu, Result};

/// A folder that is gone with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("wavehull-session-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const BLOBS: &str = "[model]\nkind = \"mlp\"\nhidden = [8]\n[data]\nformat = \"blobs\"\nsamples = 96\nfeatures = 4\n\
    validation = 16\n";

fn train(gpu: &Gpu, text: &str, folder: &Path, control: &Control) -> Result<Outcome> {
    let mut config = Config::parse(text, folder)?;
    config.train.folder = folder.join("runs");
    let loaded = config.load()?;
    Session::new(gpu, &config)?.run(&loaded, control)
}

fn whole(gpu: &Gpu, text: &str, folder: &Path) -> Outcome {
    train(gpu, text, folder, &Control::default()).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn model(folder: &Path, member: usize) -> Vec<u8> {
    std::fs::read(folder.join(format!("runs/member-{member:04}/model.safetensors"))).expect("a trained model")
}

/// Cancels at the n-th sign of life.
struct After(AtomicU64, CancelToken);

impl ProgressSink for After {
    fn update(&self, _: Progress<'_>) {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.1.cancel();
        }
    }
}

fn stopping(after: u64) -> Control {
    let cancel = CancelToken::new();
    Control { progress: Some(Arc::new(After(AtomicU64::new(after), cancel.clone()))), cancel }
}

#[test]
fn slots_and_stops_change_no_bit() {
    let Some(gpu) = common::device("slots_and_stops_change_no_bit", false) else { return };
    let text = |slots: usize| {
        format!(
            "{BLOBS}[train]\nepochs = 6\nschedule = \"cosine\"\nslots = {slots}\n[members]\nbatch = 8\n\
             learning_rate = {{ from = 1e-3, to = 1e-1, count = 3, scale = \"log\" }}\n"
        )
    };
    let (many, few, halted) = (Folder::new("many"), Folder::new("few"), Folder::new("halted"));
    let outcome = whole(gpu, &text(3), &many.0);
    assert_eq!((outcome.members.len(), outcome.steps, outcome.stopped), (3, 180, false));
    assert!((outcome.occupancy - 1.0).abs() < 1e-9, "{}", outcome.occupancy);
    assert!(outcome.members.iter().all(|m| m.state == Reason::Finished && m.steps == 60 && m.loss.is_some()));
    assert!(outcome.members.windows(2).all(|pair| pair[0].correct >= pair[1].correct), "the best first");
    let refilled = whole(gpu, &text(2), &few.0);
    // The third member is alone, and the second slot costs nothing.
    assert!((refilled.occupancy - 1.0).abs() < 1e-9, "{}", refilled.occupancy);
    let stopped = train(gpu, &text(2), &halted.0, &stopping(35)).expect("it stops in order");
    assert!(stopped.stopped && stopped.members.iter().all(|m| m.state == Reason::Cancelled && m.checkpoint.is_some()));
    assert!(stopped.members.iter().all(|m| m.steps < 60));
    assert!(!whole(gpu, &text(2), &halted.0).stopped);
    for member in 0..3 {
        let expected = model(&many.0, member);
        assert!(model(&few.0, member) == expected, "member {member}: fewer slots");
        assert!(model(&halted.0, member) == expected, "member {member}: stopped");
    }
    // A second call finds all of it done.
    let again = whole(gpu, &text(3), &many.0);
    assert_eq!(again.steps, 0);
    assert!(again.members.iter().all(|m| m.state == Reason::Finished && m.loss.is_some()));
    let log = std::fs::read_to_string(many.at("runs/log.jsonl")).expect("a log");
    assert!(log.contains("\"resumed\":false") && log.contains("\"resumed\":true"), "{log}");
}

#[test]
fn steps_of_a_schedule_are_counted_as_the_training_is() {
    let Some(gpu) = common::device("steps_of_a_schedule", false) else { return };
    let text = |train: &str| {
        format!("{BLOBS}[train]\noptimiser = \"sgd\"\nbatch = 8\n{train}[members]\nlearning_rate = 0.1\n")
    };
    let (short, long) = (Folder::new("short"), Folder::new("long"));
    whole(gpu, &text("epochs = 2\n"), &short.0);
    // From the third epoch on next to nothing is learned.
    whole(gpu, &text("epochs = 4\nschedule = \"step\"\nevery = 2\ngamma = 1e-7\n"), &long.0);
    let parameters = |folder: &Folder| {
        let file = folder.at("runs/member-0000/model.safetensors");
        read_parameters(&file).expect("parameters").into_values().flat_map(|a| a.into_iter()).collect::<Vec<f32>>()
    };
    let (short, long) = (parameters(&short), parameters(&long));
    assert!(short.iter().zip(&long).all(|(a, b)| (a - b).abs() < 1e-5), "{short:?}\n{long:?}");
    assert!(short != long);
}

#[test]
fn a_stop_within_an_epoch() {
    let Some(gpu) = common::device("a_stop_within_an_epoch", false) else { return };
    let text = format!("{BLOBS}[train]\nsteps = 50\n[members]\nbatch = 2\nlearning_rate = 0.01\nseeds = 2\n");
    let (full, halted) = (Folder::new("full"), Folder::new("mid"));
    whole(gpu, &text, &full.0);
    // 16 steps of an epoch of 40.
    let stopped = train(gpu, &text, &halted.0, &stopping(1)).expect("it stops in order");
    assert_eq!(stopped.members.iter().map(|m| m.steps).collect::<Vec<_>>(), [16, 16]);
    whole(gpu, &text, &halted.0);
    (0..2).for_each(|member| assert!(model(&full.0, member) == model(&halted.0, member), "member {member}"));
}

#[test]
fn shapes_and_those_who_diverge() {
    let Some(gpu) = common::device("shapes_and_those_who_diverge", false) else { return };
    let members = |list: &str| {
        format!("{BLOBS}[train]\nepochs = 3\noptimiser = \"sgd\"\n[members]\nbatch = [8, 16]\nlearning_rate = {list}\n")
    };
    let (good, mixed) = (Folder::new("good"), Folder::new("mixed"));
    whole(gpu, &members("[0.05]"), &good.0);
    let outcome = whole(gpu, &members("[0.05, 1e30]"), &mixed.0);
    let state = |member: usize| outcome.members.iter().find(|m| m.member == member).map(|m| m.state);
    assert_eq!(
        [0, 1, 2, 3].map(state),
        [Some(Reason::Finished), Some(Reason::Diverged), Some(Reason::Finished), Some(Reason::Diverged)]
    );
    assert!(model(&good.0, 0) == model(&mixed.0, 0) && model(&good.0, 1) == model(&mixed.0, 2));
    assert_eq!(outcome.members[3].state, Reason::Diverged, "the worst last");
}

#[test]
fn foreign_and_damaged_checkpoints_are_refused_and_kept() {
    let Some(gpu) = common::device("foreign_and_damaged_checkpoints", false) else { return };
    let folder = Folder::new("foreign");
    let text = |hidden: usize, rate: f64| {
        BLOBS.replace("[8]", &format!("[{hidden}]"))
            + &format!("[train]\nepochs = 1\nslots = 1\n[members]\nlearning_rate = {rate}\nseeds = 2\nbatch = 8\n")
    };
    whole(gpu, &text(8, 0.01), &folder.0);
    let file = folder.at("runs/member-0001/checkpoint.safetensors");
    let kept = std::fs::read(&file).expect("a checkpoint");
    for other in [text(9, 0.01), text(8, 0.02)] {
        let error = train(gpu, &other, &folder.0, &Control::default()).expect_err("another model");
        assert!(error.to_string().contains("a checkpoint of another model"), "{error}");
        assert!(std::fs::read(&file).expect("still there") == kept);
    }
    std::fs::write(&file, &kept[..kept.len() / 2]).expect("half of it");
    let error = train(gpu, &text(8, 0.01), &folder.0, &Control::default()).expect_err("half a checkpoint");
    assert!(error.to_string().contains("cut off"), "{error}");
    assert_eq!(std::fs::read(&file).expect("still there").len(), kept.len() / 2);
}

const SPACE: &str = "[search.space]\nlearning_rate = { from = 1e-4, to = 1e-1, scale = \"log\" }\n";

#[test]
fn searches_pause_and_go_on_without_a_trace() {
    let Some(gpu) = common::device("searches_pause_and_go_on", false) else { return };
    for method in ["asha", "successive-halving"] {
        let folder = Folder::new(method);
        let text = format!(
            "{BLOBS}[train]\nepochs = 9\nbatch = 8\nslots = 9\n[search]\nmethod = \"{method}\"\ntrials = 27\n{SPACE}"
        );
        let outcome = whole(gpu, &text, &folder.0);
        assert_eq!(outcome.members.len(), 27);
        let best = &outcome.members[0];
        assert_eq!((best.state, best.steps), (Reason::Finished, 90), "{method}");
        assert!(outcome.occupancy > 0.5 && outcome.occupancy <= 1.0, "{}", outcome.occupancy);
        let sum: u64 = outcome.members.iter().map(|m| m.steps).sum();
        assert_eq!(outcome.steps, sum, "{method}: no step was done twice or for nobody");
        // The best trial, trained alone without a pause.
        let alone = Folder::new(&format!("{method}-alone"));
        let rate = &best.hyper["learning_rate"];
        let plain =
            format!("{BLOBS}[train]\nepochs = 9\nbatch = 8\nseed = {}\n[members]\nlearning_rate = {rate}\n", best.seed);
        whole(gpu, &plain, &alone.0);
        assert!(model(&folder.0, best.member) == model(&alone.0, 0), "{method}");
        // Stopped in its middle, it goes on to the same end; the whole one is found done.
        let halted = Folder::new(&format!("{method}-halted"));
        let stopped = train(gpu, &text, &halted.0, &stopping(25)).expect("it stops in order");
        assert!(stopped.stopped && stopped.members.iter().any(|m| m.state == Reason::Cancelled), "{method}");
        for (again, what) in [(whole(gpu, &text, &halted.0), "halted"), (whole(gpu, &text, &folder.0), "whole")] {
            assert_eq!(again.members.len(), 27, "{method}, {what}");
            for (m, expected) in again.members.iter().zip(&outcome.members) {
                let of = |m: &Standing| (m.member, m.state, m.steps, m.loss.map(f64::to_bits), m.test_loss);
                assert_eq!(of(m), of(expected), "{method}, {what}");
            }
        }
        assert!(model(&halted.0, best.member) == model(&folder.0, best.member), "{method}");
        let other = text.replace("trials = 27", "trials = 26");
        let error = train(gpu, &other, &folder.0, &Control::default()).expect_err("another search");
        assert!(error.to_string().contains("a search with other settings"), "{error}");
    }
}

#[test]
fn searches_that_cannot_be_are_refused() {
    let Some(gpu) = common::device("searches_that_cannot_be", false) else { return };
    let folder = Folder::new("refused");
    let said = |text: &str| train(gpu, text, &folder.0, &Control::default()).expect_err(text).to_string();
    let search = |space: &str| format!("{BLOBS}[search]\ntrials = 3\n[search.space]\n{space}\n");
    for (key, values) in [("batch", "[8, 16]"), ("noise", "[0.0, 0.1]"), ("label_smoothing", "[0.0, 0.1]")] {
        let message = said(&search(&format!("{key} = {values}")));
        assert!(message.contains(&format!("'{key}' in [search.space]")), "{message}");
    }
    let blind = search("learning_rate = [0.1, 0.2]").replace("validation = 16\n", "");
    assert!(said(&blind).contains("validation part"));
}

#[test]
fn certified_members_have_radii_of_their_own() {
    let Some(gpu) = common::device("certified_members_have_radii_of_their_own", false) else { return };
    let text = |members: &str| {
        format!(
            "[model]\nkind = \"mlp\"\nhidden = [12]\n[data]\nformat = \"images\"\nsamples = 120\nside = 6\nchannels = 1\n\
             validation = 24\n[train]\nepochs = 12\nbatch = 16\nloss = \"certified\"\nradius_ramp = 0.4\ncertify_at = 0.02\n\
             schedule = \"cosine\"\n[members]\nlearning_rate = 0.02\n{members}"
        )
    };
    let (both, alone) = (Folder::new("certified"), Folder::new("certified-alone"));
    let outcome = whole(gpu, &text("radius = [0.0, 0.03]\nkappa = [0.5, 0.25]\ncombine = \"zip\"\n"), &both.0);
    let share = |member: usize| outcome.members.iter().find(|m| m.member == member).and_then(|m| m.certified);
    assert!(share(0).is_some() && share(1).is_some());
    assert!(outcome.members.windows(2).all(|pair| pair[0].certified >= pair[1].certified), "the best first");
    whole(gpu, &text("radius = 0.03\nkappa = 0.25\n"), &alone.0);
    assert!(model(&both.0, 1) == model(&alone.0, 0), "the second member, alone");
    assert!(model(&both.0, 0) != model(&alone.0, 0));
    let log = std::fs::read_to_string(both.at("runs/log.jsonl")).expect("a log");
    assert!(log.contains("\"certified\":"), "{log}");
    let blobs = format!("{BLOBS}[train]\nloss = \"certified\"\n");
    let error = train(gpu, &blobs, &alone.0, &Control::default()).expect_err("not in 0..1");
    assert!(error.to_string().contains("outside 0..1"), "{error}");
}

#[test]
fn values_and_texts() {
    let Some(gpu) = common::device("values_and_texts", false) else { return };
    let folder = Folder::new("values");
    let rows: String = (0..40).map(|i| format!("{},{},{}\n", i % 7, i % 5, i % 7 + 2 * (i % 5))).collect();
    std::fs::write(folder.at("sums.csv"), rows).expect("a file");
    let text = "[model]\nkind = \"mlp\"\nhidden = [8]\n[data]\nformat = \"csv\"\nfile = \"sums.csv\"\ntask = \"values\"\n\
        validation = 8\n[train]\nepochs = 20\nbatch = 8\nloss = \"mse\"\n[members]\nlearning_rate = [1e-6, 1e-2]\n";
    let outcome = whole(gpu, text, &folder.0);
    assert!(outcome.members.iter().all(|m| m.correct.is_none() && m.loss.is_some()));
    assert_eq!(outcome.members[0].member, 1, "the one that learns");
    let folder = Folder::new("text");
    std::fs::write(folder.at("song.txt"), "la la lei lo la la ".repeat(40)).expect("a file");
    let text = "[model]\nkind = \"transformer\"\nwidth = 8\nheads = 2\nlayers = 1\ncontext = 8\n[data]\nformat = \"text\"\n\
        file = \"song.txt\"\nvalidation = 8\n[train]\nepochs = 2\nbatch = 8\n[members]\nseeds = 2\n";
    let outcome = whole(gpu, text, &folder.0);
    assert!(outcome.members.iter().all(|m| m.state == Reason::Finished && m.loss.is_some_and(f64::is_finite)));
}
