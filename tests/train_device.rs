//! What a device sets an end to. Lost while an array is trained on it: an error value, and snapshots that go on on another device. Too small: the
//! number of slots that fit.
#![cfg(feature = "train")]

mod common;

use common::Random;
use ndarray::{ArrayD, IxDyn};
use wavehull::train::{ArrayOptions, Builder, DeviceSet, Labels, Member, Model, Snapshot, TrainingArray};
use wavehull::{Control, ErrorKind, Gpu, Options};

const SAMPLES: usize = 64;

/// A network with dropout, so that random streams have to be gone on with too.
fn model(width: usize) -> Model {
    let mut net = Builder::new("small", &[6]);
    let x = net.input();
    let x = net.linear(x, width);
    let x = net.relu(x);
    let x = net.dropout(x, 0.25);
    let x = net.linear(x, width);
    let x = net.relu(x);
    let x = net.linear(x, 3);
    net.finish(x).expect("a model")
}

fn data(gpu: &Gpu) -> DeviceSet {
    let mut random = Random::new(7);
    let inputs = ArrayD::from_shape_vec(IxDyn(&[SAMPLES, 6]), random.floats(SAMPLES * 6)).expect("inputs");
    let labels = (0..SAMPLES).map(|_| random.below(3) as u32).collect();
    DeviceSet::new(gpu, &inputs, Labels::Classes { labels, classes: 3 }).expect("a set")
}

/// Eight steps an epoch, four a block.
fn options(slots: usize) -> ArrayOptions {
    ArrayOptions { slots, batch: 8, turns: 4, ..ArrayOptions::default() }
}

fn array(gpu: &Gpu) -> TrainingArray {
    TrainingArray::new(gpu, &model(12), data(gpu), options(2)).expect("an array")
}

fn begin(array: &mut TrainingArray) {
    for slot in 0..2 {
        let member = Member { seed: 40 + slot as u64, learning_rate: 0.01, ..Member::default() };
        array.start(slot, member).expect("a member");
    }
}

fn train(array: &mut TrainingArray, steps: u64) {
    array.run(steps, &Control::default(), &mut |_| ()).expect("steps");
}

fn snapshots(array: &TrainingArray) -> Vec<Snapshot> {
    (0..2).map(|slot| array.snapshot(slot).expect("a snapshot")).collect()
}

#[test]
fn a_device_lost_in_mid_epoch_is_an_error_and_snapshots_go_on_elsewhere() {
    let Some(other) = common::device("a_device_lost_in_mid_epoch", false) else { return };
    let mut whole = array(other);
    begin(&mut whole);
    train(&mut whole, 30);

    let gpu = common::open(false).expect("the same adapter again");
    let mut lost = array(&gpu);
    begin(&mut lost);
    train(&mut lost, 12);
    let saved = snapshots(&lost);
    let device = gpu.device().clone();
    let mut heard = 0;
    // The device goes while the second block is told: step 14 of epochs of 8.
    let failed = lost.run(18, &Control::default(), &mut |progress| {
        heard += 1;
        if progress.step == 14 {
            device.destroy();
        }
    });
    let error = failed.expect_err("the device is gone");
    assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
    assert!(error.help().is_some(), "{error}");
    assert!((2..36).contains(&heard), "{heard} steps were told");
    // Whatever is asked of it now is an error too, and what the host knows is still there.
    for _ in 0..2 {
        let error = lost.run(1, &Control::default(), &mut |_| ()).expect_err("the device is gone");
        assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
        assert_eq!(lost.snapshot(0).expect_err("the device is gone").kind(), ErrorKind::DeviceLost);
        assert_eq!(lost.export(1).expect_err("the device is gone").kind(), ErrorKind::DeviceLost);
    }
    assert!(lost.state(1).is_some_and(|(_, step)| (14..30).contains(&step)), "{:?}", lost.state(1));
    // Whether a mere write notices is the driver's affair; the next step says it.
    let _ = lost.start(0, Member::default());
    assert_eq!(lost.run(1, &Control::default(), &mut |_| ()).expect_err("gone").kind(), ErrorKind::DeviceLost);
    drop(lost);

    let mut again = array(other);
    for (slot, snapshot) in saved.iter().enumerate() {
        assert_eq!(snapshot.step, 12);
        again.restore(slot, snapshot).expect("a member as it was");
    }
    train(&mut again, 18);
    let bits = |snapshot: &Snapshot| snapshot.tables.concat().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for (found, wanted) in snapshots(&again).iter().zip(&snapshots(&whole)) {
        assert_eq!((found.step, found.state), (wanted.step, wanted.state));
        assert!(bits(found) == bits(wanted), "the bits of a member that was never interrupted");
    }
}

#[test]
fn as_many_slots_as_are_said_to_fit_do() {
    if common::device("as_many_slots_as_are_said_to_fit_do", false).is_none() {
        return;
    }
    let open = |mib: u64| {
        let mut options = Options::default();
        options.memory_budget = Some(mib << 20);
        Gpu::open(&options).expect("the same adapter again")
    };
    // Parameters, gradient and two moments of a member take about a megabyte.
    let (gpu, model) = (open(24), model(256));
    let fit = TrainingArray::fitting(&gpu, &model, &data(&gpu), &options(1000)).expect("a number");
    assert!((10..24).contains(&fit), "{fit}");
    assert_eq!(TrainingArray::fitting(&gpu, &model, &data(&gpu), &options(3)).expect("a number"), 3);
    let error = TrainingArray::new(&gpu, &model, data(&gpu), options(fit + 1)).expect_err("one more");
    assert_eq!(error.kind(), ErrorKind::TooBig);
    assert!(error.help().is_some_and(|help| help.starts_with(&format!("{fit} slots would fit"))), "{:?}", error.help());
    let mut array = TrainingArray::new(&gpu, &model, data(&gpu), options(fit)).expect("as many as fit");
    (0..fit).for_each(|slot| array.start(slot, Member::default()).expect("a member"));
    train(&mut array, 5);
    array.evaluate(&data(&gpu), &Control::default()).expect("scores");
    assert!(array.snapshot(fit - 1).is_ok() && gpu.memory().peak <= 24 << 20, "{:?}", gpu.memory());
    drop(array);
    let small = open(1);
    assert_eq!(TrainingArray::fitting(&small, &model, &data(&small), &options(4)).expect("a number"), 0);
    let error = TrainingArray::new(&small, &model, data(&small), options(4)).expect_err("a megabyte");
    assert!(error.help().is_some_and(|help| help.starts_with("not even one slot")), "{:?}", error.help());
}
