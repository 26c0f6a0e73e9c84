//! Workloads from files: quantised ONNX networks against numpy and onnxruntime, float ones, arrays, and what is wrong with files.
#![cfg(feature = "pack")]

mod common;

use std::path::{Path, PathBuf};

use ndarray::{Array, Array4, array};
use ndarray_npy::{WritableElement, WriteNpyExt};
use wavehull::pack::input::{ReadOptions, read, samples};
use wavehull::pack::quantise::Storage;
use wavehull::pack::{Element, Granularity, Kind, Values, Workload};
use wavehull::{Control, ErrorKind, Gpu, Result};

fn root(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn fixture(file: &str) -> PathBuf {
    root("tests/fixtures/quantised").join(file)
}

/// What a file holds, where no device is needed for it; the test is skipped without one all the same.
fn weights(gpu: &Gpu, path: &Path) -> Result<Workload> {
    read(gpu, path, &ReadOptions::default(), &Control::default())
}

fn storage(text: &str) -> Storage {
    text.parse().expect("a storage")
}

fn integers(values: &Values) -> Vec<i32> {
    (0..values.len()).map(|i| values.integer(i)).collect()
}

/// A folder for files of a test, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("wavehull-pack-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the test");
        Self(folder)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a file for the test");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const QUANTISED: [&str; 6] = ["qdq_channel", "qdq_tensor", "qlinear", "dynamic", "hand_made", "half"];

/// The arrays that numpy and onnxruntime made for a fixture.
fn expected(gpu: &Gpu, name: &str, kind: Kind) -> Vec<Values> {
    let arrays = weights(gpu, &fixture(&format!("{name}.npz"))).expect("arrays").loose;
    arrays.into_iter().filter(|values| values.kind() == kind).collect()
}

#[test]
fn quantised_files_keep_their_weights_bit_for_bit() {
    let Some(gpu) = common::device("quantised_files_keep_their_weights_bit_for_bit", false) else { return };
    for name in QUANTISED {
        let workload = weights(gpu, &fixture(&format!("{name}.onnx"))).unwrap_or_else(|e| panic!("{name}: {e}"));
        let expected = expected(gpu, name, Kind::Weights);
        assert_eq!(workload.layers.len(), expected.len(), "{name}: {:?}", workload.notes);
        for want in expected {
            let called = |layer: &&wavehull::pack::Layer| layer.name.trim_end_matches("_quant") == want.name();
            let layer = workload.layers.iter().find(called).unwrap_or_else(|| panic!("{name}: no {}", want.name()));
            let have = layer.weights.as_ref().expect("weights");
            assert_eq!(have.shape(), want.shape(), "{name}, {}", layer.name);
            assert_eq!(integers(have), integers(&want), "{name}, {}", layer.name);
            if have.element() != Element::I4 {
                assert_eq!(have.element(), want.element(), "{name}, {}", layer.name);
            }
            let granularity = match (name, want.name()) {
                ("half", _) => Granularity::Unknown,
                ("qdq_tensor" | "dynamic", _) => Granularity::Tensor,
                ("hand_made", "blocks") => Granularity::Group(4),
                _ => Granularity::Channel,
            };
            assert_eq!(have.granularity(), granularity, "{name}, {}", layer.name);
        }
    }
}

#[test]
fn a_network_that_is_not_read_gives_its_weights() {
    let Some(gpu) = common::device("a_network_that_is_not_read_gives_its_weights", false) else { return };
    let file = fixture("unread.onnx");
    let workload = weights(gpu, &file).expect("weights");
    assert!(workload.layers.is_empty() && workload.notes[0].contains("HardSwish"), "{:?}", workload.notes);
    let of = |name: &str| workload.loose.iter().find(|v| v.name() == name).expect("a tensor");
    for want in expected(gpu, "unread", Kind::Weights) {
        let have = of(want.name());
        assert_eq!((have.shape(), integers(have)), (want.shape(), integers(&want)), "{}", want.name());
    }
    let granularities = ["w0", "w1", "table"].map(|name| of(name).granularity());
    assert_eq!(granularities, [Granularity::Channel, Granularity::Channel, Granularity::Tensor]);
    assert_eq!((of("w0").shape(), of("w0").element()), (&[1, 3, 3, 3][..], Element::I8));
    let options = ReadOptions { inputs: Some(fixture("sample.npy")), ..ReadOptions::default() };
    let error = read(gpu, &file, &options, &Control::default()).expect_err("it cannot run");
    assert!(error.help().is_some_and(|help| help.contains("weights alone")), "{error}");
}

/// Ring 3: published networks.
#[test]
fn published_networks_have_layers() {
    let test = "published_networks_have_layers";
    let Some(shared) = std::env::var_os("WAVEHULL_SHARED") else {
        common::say(&format!("skipped: {test}: WAVEHULL_SHARED is not set"));
        return;
    };
    let Some(gpu) = common::device(test, false) else { return };
    let mut read = 0;
    for folder in std::fs::read_dir(Path::new(&shared).join("vnncomp")).expect("a folder of benchmarks").flatten() {
        let Ok(files) = std::fs::read_dir(folder.path().join("onnx")) else { continue };
        let mut files: Vec<_> = files.flatten().map(|f| f.path()).collect();
        files.sort();
        for file in files.iter().take(2) {
            let workload = weights(gpu, file).unwrap_or_else(|e| panic!("{e}"));
            let stored: usize = workload.layers.iter().filter_map(|l| l.weights.as_ref()).map(Values::len).sum();
            let shaped: usize = workload.layers.iter().map(|l| l.shape.weights()).sum();
            assert!(stored == shaped && (stored > 0 || !workload.loose.is_empty()), "{}", file.display());
            read += 1;
        }
    }
    common::say(&format!("{test}: {read} networks"));
}

#[test]
fn activations_are_those_of_onnxruntime_within_a_step() {
    let Some(gpu) = common::device("activations_are_those_of_onnxruntime_within_a_step", false) else { return };
    assert_eq!(samples(&fixture("sample.npy"), 9).expect("a sample").shape(), [1, 3, 8, 9]);
    let options = ReadOptions { inputs: Some(fixture("sample.npy")), ..ReadOptions::default() };
    for name in ["qdq_channel", "qdq_tensor", "qlinear"] {
        let workload = read(gpu, &fixture(&format!("{name}.onnx")), &options, &Control::default()).expect(name);
        let expected = expected(gpu, name, Kind::Activations);
        let (mut compared, mut differ) = (0, 0);
        for want in &expected {
            let (layer, what) = want.name().rsplit_once('.').expect("layer.what");
            let found = workload.layers.iter().find(|l| l.name.trim_end_matches("_quant") == layer).expect("a layer");
            let have = if what == "input" { &found.inputs } else { &found.outputs };
            let [have] = have.as_slice() else { panic!("{name}: {} maps for one sample", have.len()) };
            assert_eq!((have.shape(), have.element()), (want.shape(), want.element()), "{name}, {}", want.name());
            assert_eq!(have.granularity(), Granularity::Tensor);
            for (a, b) in integers(have).into_iter().zip(integers(want)) {
                // Modulo 256, as they are stored.
                let steps = (a - b).rem_euclid(256).min((b - a).rem_euclid(256));
                assert!(steps <= 1, "{name}, {}: {a} where onnxruntime has {b}", want.name());
                compared += 1;
                differ += usize::from(steps > 0);
            }
        }
        assert_eq!(expected.len(), 8, "{name}");
        // A sum of f32 beside a tie may fall on its other side.
        assert!(differ * 100 < compared, "{name}: {differ} of {compared} differ");
    }
    // Scales that only a run knows: calibrated.
    let workload = read(gpu, &fixture("dynamic.onnx"), &options, &Control::default()).expect("dynamic");
    assert_eq!(workload.layers[1].inputs[0].element(), Element::U8);
    assert_eq!(workload.layers[1].inputs[0].shape(), [8, 9, 6]);
    let largest = integers(&workload.layers[1].inputs[0]).into_iter().max();
    assert_eq!(largest, Some(255), "the largest number has the largest code");
}

#[test]
fn a_float_network_is_quantised_as_asked() {
    let Some(gpu) = common::device("a_float_network_is_quantised_as_asked", false) else { return };
    let of = |text: &str| {
        let options = ReadOptions { weights: storage(text), ..ReadOptions::default() };
        read(gpu, &fixture("float.onnx"), &options, &Control::default()).expect("a network")
    };
    let workload = of("i8/channel");
    assert_eq!(workload.name, "float");
    assert!(workload.notes.is_empty(), "{:?}", workload.notes);
    let shapes: Vec<_> = workload.layers.iter().map(|l| (l.name.as_str(), l.shape.input, l.shape.groups)).collect();
    let (first, depthwise) = (("first", [8, 9, 3], 1), ("depthwise", [8, 9, 6], 6));
    assert_eq!(shapes, [first, depthwise, ("product", [1, 1, 24], 1), ("last", [1, 1, 10], 1)]);
    assert_eq!(workload.layers[1].shape.padding, [0, 1, 1, 0]);
    // onnxruntime's per-channel weights are symmetric, too, and its scales differ by at most a rounding.
    for (layer, want) in workload.layers.iter().zip(expected(gpu, "qdq_channel", Kind::Weights)) {
        let have = layer.weights.as_ref().expect("weights");
        assert_eq!((have.shape(), have.granularity()), (want.shape(), Granularity::Channel));
        let far = integers(have).into_iter().zip(integers(&want)).filter(|(a, b)| (a - b).abs() > 1).count();
        assert_eq!(far, 0, "{}", layer.name);
    }
    let first = |text: &str| of(text).layers.remove(0).weights.expect("weights");
    assert_eq!((first("bf16").element(), first("i16").element()), (Element::Bf16, Element::I16));
    let group = first("i4/8");
    assert_eq!((group.element(), group.granularity()), (Element::I4, Granularity::Group(8)));
}

#[test]
fn digits_become_the_bytes_that_they_were() {
    let Some(gpu) = common::device("digits_become_the_bytes_that_they_were", false) else { return };
    let file = root("data/mnist10k/test-images-idx3-ubyte.gz");
    let images = samples(&file, 70).expect("digits");
    assert_eq!(images.shape(), [70, 28, 28]);
    let pixels: Vec<i32> = images.iter().map(|x| (x * 255.0).round() as i32).collect();
    let options = ReadOptions { inputs: Some(file), samples: 70, ..ReadOptions::default() };
    let workload = read(gpu, &root("data/mnist-standard.onnx"), &options, &Control::default()).expect("a network");
    assert_eq!(workload.layers.len(), 4);
    let first = &workload.layers[0];
    assert_eq!((first.shape.macs(), first.inputs.len(), first.outputs.len()), (784 * 128, 70, 70));
    for (map, pixels) in first.inputs.iter().zip(pixels.chunks(784)) {
        assert_eq!((map.element(), map.shape()), (Element::U8, &[1, 1, 784][..]));
        assert_eq!(integers(map), pixels);
    }
    // What a layer writes the next one reads.
    assert_eq!(first.outputs[69].bytes(), workload.layers[1].inputs[69].bytes());
    assert!(first.outputs.iter().all(|map| map.element() == Element::U8), "behind a ReLU");
    assert_eq!(workload.layers[3].outputs[0].element(), Element::I8, "logits have both signs");
    // A percentile cuts large values off; 16 bits are symmetric.
    let other = |text: &str| {
        let options = ReadOptions { activations: storage(text), ..options.clone() };
        read(gpu, &root("data/mnist-standard.onnx"), &options, &Control::default()).expect("a network").layers.remove(1)
    };
    let zeros = |layer: &wavehull::pack::Layer| {
        layer.inputs.iter().map(|m| integers(m).iter().filter(|&&v| v == 0).count()).sum::<usize>()
    };
    let cut = other("u8@99");
    assert!(zeros(&cut) < zeros(&workload.layers[1]), "finer steps leave fewer zeros");
    assert!(integers(&cut.inputs[0]).iter().all(|v| (0..=255).contains(v)));
    assert_eq!(other("i16").inputs[0].element(), Element::I16);
    assert_eq!(other("f16").inputs[0].element(), Element::F16);
}

fn npy<A: WritableElement, D: ndarray::Dimension>(a: &Array<A, D>) -> Vec<u8> {
    let mut bytes = Vec::new();
    a.write_npy(&mut bytes).expect("memory");
    bytes
}

fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    use std::io::Write;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in arrays {
        writer.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).expect("memory");
        writer.write_all(bytes).expect("memory");
    }
    writer.finish().expect("memory").into_inner()
}

#[test]
fn arrays_are_tensors_by_name_or_by_axes() {
    let Some(gpu) = common::device("arrays_are_tensors_by_name_or_by_axes", false) else { return };
    let s = Scratch::new("arrays");
    let four = Array4::from_shape_fn((2, 3, 1, 4), |(a, b, _, d)| (a * 12 + b * 4 + d) as u8);
    let file = s.file(
        "all.npz",
        npz(&[
            ("w/conv", npy(&four)),
            ("a/maps", npy(&four)),
            ("w/dense", npy(&array![[1_i8, -2, 3], [4, 5, -128]])),
            ("map", npy(&Array::from_shape_vec((1, 2, 2), vec![1_i16, -1, 300, 0]).expect("a shape"))),
            ("a/row", npy(&array![0.0_f32, 1.0, 2.55])),
            ("list", npy(&array![127.0_f64, -63.5, 0.25])),
            ("number", npy(&ndarray::arr0(1.0_f32))),
        ]),
    );
    let workload = weights(gpu, &file).expect("arrays");
    let found: Vec<_> = workload.loose.iter().map(|v| (v.name(), v.kind(), v.element(), v.shape().to_vec())).collect();
    let (w, a) = (Kind::Weights, Kind::Activations);
    let want = [
        ("conv", w, Element::U8, vec![2, 3, 1, 4]),
        ("maps[0]", a, Element::U8, vec![3, 1, 4]),
        ("maps[1]", a, Element::U8, vec![3, 1, 4]),
        ("dense", w, Element::I8, vec![2, 1, 1, 3]),
        ("map", a, Element::I16, vec![1, 2, 2]),
        ("row", a, Element::U8, vec![1, 1, 3]),
        ("list", w, Element::I8, vec![1, 1, 1, 3]),
    ];
    assert_eq!(found, want);
    assert_eq!(integers(&workload.loose[2]), (12..24).collect::<Vec<_>>());
    assert_eq!(integers(&workload.loose[5]), [0, 100, 255]);
    assert_eq!(integers(&workload.loose[6]), [127, -64, 0]);
    assert!(workload.notes.len() == 1 && workload.notes[0].contains("'number'"), "{:?}", workload.notes);
    let one = weights(gpu, &s.file("alone.npy", npy(&array![[1_u8, 2]]))).expect("an array");
    assert_eq!((one.name.as_str(), one.loose[0].name()), ("alone", "alone"));
    let error = weights(gpu, &s.file("wide.npz", npz(&[("ids", npy(&array![1_i64]))]))).expect_err("no values");
    assert!(error.to_string().contains("wide.npz") && error.to_string().contains("'ids'"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error =
        weights(gpu, &s.file("nan.npz", npz(&[("w/bad", npy(&array![[1.0_f32, f32::NAN]]))]))).expect_err("no number");
    assert!(error.to_string().contains("nan.npz: tensor 'bad' holds NaN at value 1"), "{error}");
}

fn tensors(list: &[(&str, safetensors::Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let views = list.iter().map(|(name, dtype, shape, bytes)| {
        (*name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).expect("a tensor"))
    });
    safetensors::serialize(views, None).expect("memory")
}

#[test]
fn safetensors_are_weights_in_torchs_layout() {
    let Some(gpu) = common::device("safetensors_are_weights_in_torchs_layout", false) else { return };
    use safetensors::Dtype;
    let s = Scratch::new("safetensors");
    let floats = |n: usize| (0..n).flat_map(|i| (i as f32 - 3.0).to_le_bytes()).collect::<Vec<u8>>();
    let bytes = tensors(&[
        ("conv", Dtype::I8, vec![2, 3, 1, 2], (0..12).collect()),
        ("depthwise", Dtype::U8, vec![3, 1, 2, 1], (0..6).collect()),
        ("linear", Dtype::F32, vec![2, 3], floats(6)),
        ("bias", Dtype::BF16, vec![2], vec![0x80, 0x3f, 0, 0xc0]),
        ("half", Dtype::F16, vec![1, 2], vec![0, 0x3c, 1, 0]),
        ("ids", Dtype::I64, vec![1], vec![0; 8]),
        ("none", Dtype::F32, vec![0, 4], vec![]),
    ]);
    let workload = weights(gpu, &s.file("net.safetensors", &bytes)).expect("tensors");
    let of = |name: &str| workload.loose.iter().find(|v| v.name() == name).expect("a tensor");
    assert_eq!(of("conv").shape(), [2, 1, 2, 3]);
    assert_eq!(integers(of("conv")), [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    assert_eq!((of("depthwise").shape(), integers(of("depthwise"))), (&[1, 2, 1, 3][..], vec![0, 2, 4, 1, 3, 5]));
    // Rows -3 -2 -1 and 0 1 2, a scale each.
    assert_eq!(integers(of("linear")), [-127, -85, -42, 0, 64, 127]);
    assert_eq!((of("bias").element(), of("bias").halves()), (Element::Bf16, Some(&[0x3f80, 0xc000][..])));
    assert_eq!(of("half").halves(), Some(&[0x3c00, 1][..]));
    assert_eq!(workload.notes.len(), 2, "{:?}", workload.notes);
    for length in [0, 4, 9, 40, bytes.len() - 1] {
        let error = weights(gpu, &s.file("cut.safetensors", &bytes[..length])).expect_err("cut off");
        assert!(error.to_string().contains("cut.safetensors") && error.kind() != ErrorKind::Internal, "{error}");
    }
    let mut huge = u64::from(u32::MAX).to_le_bytes().to_vec();
    huge.extend(b"{}");
    assert!(weights(gpu, &s.file("huge.safetensors", huge)).is_err());
}

#[test]
fn what_cannot_be_read_says_why() {
    let Some(gpu) = common::device("what_cannot_be_read_says_why", false) else { return };
    let s = Scratch::new("faults");
    let error = weights(gpu, &s.file("notes.txt", "hello")).expect_err("no kind of file");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("notes.txt") && error.help().is_some(), "{error}");
    assert_eq!(weights(gpu, &s.0.join("none.onnx")).expect_err("no file").kind(), ErrorKind::Io);
    assert!(weights(gpu, &s.file("empty.npy", "")).expect_err("empty").to_string().contains("empty"));
    let file = s.file("odd.npy", npy(&array![true]));
    assert_eq!(samples(&file, 1).expect_err("no numbers").kind(), ErrorKind::Unsupported);
    assert!(samples(&s.file("text", "hello"), 1).is_err());
    let wrong = [
        (npy(&Array::<f32, _>::zeros((2, 5))), "takes [1, 3, 8, 9]"),
        (npy(&Array::from_elem((1, 216), f32::NAN)), "NaN"),
    ];
    for (wrong, said) in wrong {
        let options = ReadOptions { inputs: Some(s.file("wrong.npy", wrong)), ..ReadOptions::default() };
        let error = read(gpu, &fixture("float.onnx"), &options, &Control::default()).expect_err("must be refused");
        assert!(error.to_string().contains("wrong.npy") && error.to_string().contains(said), "{error}");
    }
}

/// Quantised files cut off or with flipped bits: an error or a workload, never a panic.
#[test]
fn damaged_networks_do_not_panic() {
    let Some(gpu) = common::device("damaged_networks_do_not_panic", false) else { return };
    let s = Scratch::new("damage");
    let mut random = common::Random::new(3);
    for name in ["qdq_channel", "hand_made", "dynamic", "qlinear"] {
        let bytes = std::fs::read(fixture(&format!("{name}.onnx"))).expect("a fixture");
        for _ in 0..60 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + random.below(3) {
                let at = random.below(damaged.len());
                damaged[at] ^= 1 << random.below(8);
            }
            damaged.truncate(if random.coin() { damaged.len() } else { random.below(damaged.len()) });
            let _ = weights(gpu, &s.file("damaged.onnx", damaged));
        }
    }
}
