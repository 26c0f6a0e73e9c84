//! Snapshots there and back, and the ways in which files disappoint.

use std::path::PathBuf;

use super::*;
use crate::error::ErrorKind;
use crate::train::hyper::Setting;
use ndarray::array;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("wavehull-checkpoint-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        Self(folder)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn snapshot() -> Snapshot {
    let mut hyper = Hyper::new().with("learning_rate", 0.1 + 0.2).expect("a rate");
    hyper.set("hidden", Setting::Widths(vec![3, 2])).expect("widths");
    let state = State {
        fingerprint: "mlp-4-3-2".into(),
        member: 5,
        step: u64::MAX - 1,
        epoch: 3,
        cursor: 64,
        seed: (1 << 63) + 1,
        hyper,
        notes: BTreeMap::from([("best".into(), "0.5".into())]),
    };
    let tables = BTreeMap::from([
        ("parameters/fc1.weight".into(), array![[1.0, -0.0], [f32::from_bits(1), f32::MAX]].into_dyn()),
        ("parameters/fc1.bias".into(), array![0.5].into_dyn()),
        ("moments".into(), array![[0.25f32, 3.0, 4.0]].t().to_owned().into_dyn()),
    ]);
    Snapshot { state, tables }
}

fn bits(snapshot: &Snapshot) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    let table = |(name, t): (&String, &ArrayD<f32>)| {
        (name.clone(), t.shape().to_vec(), t.iter().map(|x| x.to_bits()).collect())
    };
    snapshot.tables.iter().map(table).collect()
}

#[test]
fn a_snapshot_comes_back_bit_for_bit() {
    let folder = Folder::new("bits");
    let (path, again) = (folder.join("deep/member-5.safetensors"), folder.join("again.safetensors"));
    let mut first = snapshot();
    first.tables.insert("odd".into(), array![f32::from_bits(0x7fc0_1234), f32::NEG_INFINITY].into_dyn());
    first.save(&path).expect("written");
    let read = Snapshot::load_for(&path, &first.expected()).expect("the same model");
    assert_eq!(read.state, first.state);
    assert_eq!(bits(&read), bits(&first));
    read.save(&again).expect("written");
    assert_eq!(fs::read(&path).expect("a file"), fs::read(&again).expect("a file"));
    // Nothing is left of the name that it was written under, and an old file is replaced.
    snapshot().save(&path).expect("written over");
    assert_eq!(Snapshot::load(&path).expect("the second"), snapshot());
    assert_eq!(fs::read_dir(folder.join("deep")).expect("the folder").count(), 1);
}

#[test]
fn every_cut_is_noticed() {
    let folder = Folder::new("cut");
    let path = folder.join("a.safetensors");
    snapshot().save(&path).expect("written");
    let whole = fs::read(&path).expect("a file");
    for length in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        fs::write(&path, &whole[..length]).expect("written");
        let error = Snapshot::load(&path).expect_err("cut off");
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert!(error.to_string().contains("a.safetensors: "), "{error}");
    }
    assert_eq!(Snapshot::load(&folder.join("none")).expect_err("missing").kind(), ErrorKind::Io);
}

#[test]
fn other_models_are_refused_by_the_name_of_the_tensor() {
    let folder = Folder::new("other");
    let path = folder.join("a.safetensors");
    snapshot().save(&path).expect("written");
    let said = |change: &dyn Fn(&mut Expected)| {
        let mut expected = snapshot().expected();
        change(&mut expected);
        Snapshot::load_for(&path, &expected).expect_err("another model").to_string()
    };
    let end = |text: String| text.rsplit("safetensors: ").next().map(str::to_owned).expect("a message");
    let shape = said(&|e| drop(e.shapes.insert("moments".into(), vec![4, 1])));
    assert_eq!(end(shape), "tensor 'moments' has shape [3, 1], but the model's has [4, 1]");
    let missing = said(&|e| drop(e.shapes.insert("parameters/fc2.weight".into(), vec![1])));
    assert_eq!(end(missing), "tensor 'parameters/fc2.weight' of the model is missing in the checkpoint");
    let foreign = said(&|e| drop(e.shapes.remove("moments")));
    assert_eq!(end(foreign), "the checkpoint holds tensor 'moments', which the model has not");
    assert!(said(&|e| e.fingerprint.push('x')).contains("'mlp-4-3-2', but this one is 'mlp-4-3-2x'"));
}

#[test]
fn newer_formats_and_plain_tensors_are_told_apart() {
    let folder = Folder::new("format");
    let path = folder.join("a.safetensors");
    let tables = snapshot().tables;
    replace(&path, &packed(&tables, ENTRY, r#"{"format": 2, "new": []}"#.into()).expect("packed")).expect("written");
    assert_eq!(Snapshot::load(&path).expect_err("newer").kind(), ErrorKind::Unsupported);
    replace(&path, &packed(&tables, ENTRY, r#"{"format": 1}"#.into()).expect("packed")).expect("written");
    assert!(Snapshot::load(&path).expect_err("no state").message().contains("header is damaged"));
    export_parameters(&path, &tables).expect("written");
    assert!(Snapshot::load(&path).expect_err("parameters").message().contains("no checkpoint of wavehull"));
    let back = read_parameters(&path).expect("tensors");
    assert_eq!(back["parameters.fc1.bias"], tables["parameters/fc1.bias"]);
    assert_eq!(back.len(), 3);
}

#[test]
fn names_as_torch_writes_them() {
    assert_eq!(torch_name("/layers/0/weight"), "layers.0.weight");
    assert_eq!(torch_name("fc1.bias"), "fc1.bias");
    let folder = Folder::new("names");
    let twice =
        BTreeMap::from([("a/b".to_owned(), array![1.0f32].into_dyn()), ("a.b".to_owned(), array![2.0f32].into_dyn())]);
    assert!(export_parameters(&folder.join("x"), &twice).expect_err("one name").message().contains("'a.b'"));
}

#[test]
fn a_write_that_fails_leaves_the_old_file() {
    let folder = Folder::new("fails");
    let path = folder.join("taken");
    fs::create_dir_all(path.join("inside")).expect("a folder in the way");
    assert_eq!(snapshot().save(&path).expect_err("a folder is there").kind(), ErrorKind::Io);
    assert_eq!(fs::read_dir(&folder.0).expect("the folder").count(), 1);
}
