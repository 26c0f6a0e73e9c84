//! The choice of kernels by measurement: it is kept, read back, and changes no result.

use std::path::{Path, PathBuf};

use wavehull::gpu::Recording;
use wavehull::ops::matmul::{Class, Matmul, Variant};
use wavehull::ops::tune::{self, TuneOptions};
use wavehull::{CancelToken, Control, ErrorKind, Gpu};

use crate::common::{self, Random};

fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tuning").join(test);
    // What an earlier run left.
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn options(folder: Option<PathBuf>) -> TuneOptions {
    let mut options = TuneOptions::default();
    (options.folder, options.seconds) = (folder, Some(0.1));
    options
}

fn product(gpu: &Gpu) -> Vec<u32> {
    let mut random = Random::new(5);
    let (a, b) = (
        common::tensor(gpu, &[70, 200], &random.floats(14_000)),
        common::tensor(gpu, &[200, 90], &random.floats(18_000)),
    );
    let c = common::poisoned(gpu, &[70, 90]);
    let mut recording = Recording::new();
    Matmul::default().record(&mut recording, gpu.caps(), &a, &b, &c).unwrap();
    common::run::<f32>(gpu, &recording, &c, true).iter().map(|v| v.to_bits()).collect()
}

#[test]
fn choices_are_measured_once_and_kept() {
    if common::device("choices_are_measured_once_and_kept", false).is_none() {
        return;
    }
    let folder = folder("choices_are_measured_once_and_kept");
    let (first, control) = (common::open(false).unwrap(), Control::default());
    let before = product(&first);
    let tuned = tune::tune(&first, &options(Some(folder.clone())), &control).unwrap();
    assert_eq!((tuned.measured, tuned.kept), (Class::ALL.len(), 0));
    let file = tune::cache_file(&folder, first.caps());
    assert_eq!(tuned.file.as_ref(), Some(&file));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(&first.caps().name), "{text}");
    for class in Class::ALL {
        let name = first.caps().tuning.get(class.name()).unwrap();
        assert!(Variant::from_name(&name).is_some() && text.contains(&name), "{name} in {text}");
    }
    assert!(product(&first) == before, "a measured choice changed a result");

    let second = common::open(false).unwrap();
    let again = tune::tune(&second, &options(Some(folder.clone())), &control).unwrap();
    assert_eq!((again.measured, again.kept), (0, Class::ALL.len()), "nothing is measured twice");
    assert_eq!(second.caps().tuning.entries(), first.caps().tuning.entries());

    std::fs::write(&file, "not JSON").unwrap();
    let third = common::open(false).unwrap();
    let anew = tune::tune(&third, &options(Some(folder)), &control).unwrap();
    assert_eq!((anew.measured, anew.kept), (Class::ALL.len(), 0), "a corrupt file is measured anew");
    assert!(std::fs::read_to_string(&file).unwrap().contains("matmul/large"), "and rewritten");
}

#[test]
fn a_choice_that_nobody_knows_is_the_shipped_one() {
    if common::device("a_choice_that_nobody_knows_is_the_shipped_one", false).is_none() {
        return;
    }
    let gpu = common::open(false).unwrap();
    let caps = gpu.caps();
    let before = product(&gpu);
    for (class, name, known) in [(Class::Small, "tiled 7x7", false), (Class::Small, "direct 4x4", true)] {
        caps.tuning.set(class.name(), name);
        let chosen = Variant::tuned(caps, class);
        assert_eq!(chosen.to_string() == name, known, "{name}");
        assert!(known || chosen == Variant::shipped(caps, class));
        assert!(product(&gpu) == before, "{name} gives other bits");
    }
}

#[test]
fn nothing_is_measured_or_written_unasked() {
    if common::device("nothing_is_measured_or_written_unasked", false).is_none() {
        return;
    }
    let (gpu, folder) = (common::open(false).unwrap(), folder("nothing_is_measured_or_written_unasked"));
    assert!(gpu.caps().tuning.entries().is_empty(), "a device opens with the shipped choice");
    let mut cached = options(Some(folder.clone()));
    cached.cached_only = true;
    assert_eq!(tune::tune(&gpu, &cached, &Control::default()).unwrap().measured, 0);
    assert!(gpu.caps().tuning.entries().is_empty() && !folder.exists());
    let control = Control { cancel: CancelToken::new(), progress: None };
    control.cancel.cancel();
    let error = tune::tune(&gpu, &options(Some(folder.clone())), &control).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(!folder.exists(), "a cancelled measurement leaves nothing");
}
