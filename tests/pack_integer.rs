//! Rings 1 and 3: integer inference against TFLite's own reference kernels (`scripts/make_tflite_fixtures.py`), on small networks of ours and, where
//! `WAVEHULL_SHARED` has them, on the MLPerf Tiny networks; and what the reader does with damaged files.
#![cfg(feature = "pack")]

mod common;
#[path = "../fuzz/src/tflite.rs"]
mod demands;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use wavehull::pack::integer::{Activations, Network, Samples};
use wavehull::pack::{Element, Granularity, tflite};
use wavehull::{Control, ErrorKind};

const OURS: [&str; 4] = ["small", "dense", "pads", "ends"];
const TINY: [&str; 6] = [
    "ad01_int8",
    "kws_ref_model",
    "pretrainedResnet_large_int8",
    "pretrainedResnet_quant",
    "str_ww_ref_model",
    "vww_96_int8",
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tflite")
}

/// The folder of the MLPerf Tiny networks, or a named skip.
fn tiny(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("WAVEHULL_SHARED").map(|shared| PathBuf::from(shared).join("data/tinyml"));
    let folder = folder.filter(|folder| folder.join("vww_96_int8.tflite").exists());
    if folder.is_none() {
        common::say(&format!("skipped: {test}: WAVEHULL_SHARED does not name a folder with data/tinyml"));
    }
    folder
}

/// Every network that is here.
fn networks(test: &str) -> Vec<(&'static str, Network)> {
    let read = |folder: &Path, name: &'static str| {
        let file = folder.join(format!("{name}.tflite"));
        (name, tflite::read(&file).unwrap_or_else(|error| panic!("{error}: {}", error.help().unwrap_or_default())))
    };
    let mut all: Vec<_> = OURS.iter().map(|name| read(&fixtures(), name)).collect();
    if let Some(folder) = tiny(test) {
        all.extend(TINY.iter().map(|name| read(&folder, name)));
    }
    all
}

/// lowbias32, as in the script.
fn mix(n: u32) -> u32 {
    let n = (n ^ n >> 16).wrapping_mul(0x7feb_352d);
    let n = (n ^ n >> 15).wrapping_mul(0x846c_a68b);
    n ^ n >> 16
}

fn wave(n: usize) -> i32 {
    let n = (n & 255) as i32;
    if n < 128 { n } else { 255 - n }
}

/// Samples of a kind, as in the script.
fn inputs(network: &Network, kind: &str, samples: usize) -> Vec<i8> {
    let [height, width, channels] = network.input().shape;
    let len = height * width * channels;
    let code = |s: usize, i: usize| {
        let noise = mix((i + (s << 20)) as u32);
        if kind == "random" {
            return (noise >> 24) as u8 as i8;
        }
        let (y, x, c) = (i / channels / width, i / channels % width, i % channels);
        let v = wave(y * 5 + s * 40) + wave(x * 3 + c * 20 + s * 11) - 128 + (noise >> 30) as i32;
        v.clamp(-128, 127) as i8
    };
    if kind == "real" {
        return recording(network, samples);
    }
    (0..samples).flat_map(|s| (0..len).map(move |i| (s, i))).map(|(s, i)| code(s, i)).collect()
}

/// Windows of five frames of the recording for ad01.
fn recording(network: &Network, samples: usize) -> Vec<i8> {
    let folder = tiny("the recording for ad01").unwrap();
    let bytes = std::fs::read(folder.join("normal_id_01_00000000_hist_librosa.bin")).unwrap();
    let numbers: Vec<f32> = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    let windows: Vec<f32> = (0..samples).flat_map(|s| numbers[24 * s * 128..][..640].to_vec()).collect();
    network.quantise(&windows).unwrap()
}

fn fnv(codes: &[i8]) -> u64 {
    let step = |hash: u64, &code: &i8| (hash ^ u64::from(code as u8)).wrapping_mul(0x0100_0000_01b3);
    codes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// For a network: for each kind of input the samples, and hashes by tensor.
type Hashes = BTreeMap<String, (usize, BTreeMap<usize, u64>)>;

fn hashes(name: &str) -> Hashes {
    let text = std::fs::read_to_string(fixtures().join("hashes.txt")).unwrap();
    let mut found = Hashes::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let [network, kind, samples, tensor, hash] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        if network == name {
            let of_kind = found.entry(kind.into()).or_insert((samples.parse().unwrap(), BTreeMap::new()));
            of_kind.1.insert(tensor.parse().unwrap(), u64::from_str_radix(hash, 16).unwrap());
        }
    }
    assert!(!found.is_empty(), "{name}");
    found
}

fn check(name: &str, kind: &str, network: &Network, activations: &Activations, expected: &BTreeMap<usize, u64>) {
    let mut wrong = Vec::new();
    for (i, tensor) in network.tensors().iter().enumerate() {
        let number = network.number_in_file(i).unwrap();
        if expected.get(&number) != Some(&fnv(activations.codes(i))) {
            wrong.push(format!("{number} '{}' {:?}", tensor.name, tensor.shape));
        }
    }
    assert!(wrong.is_empty(), "{name}, {kind}: {} tensors differ: {}", wrong.len(), wrong.join("; "));
    assert_eq!(network.tensors().len(), expected.len(), "{name}: every tensor of the file is computed");
}

#[test]
fn the_twin_equals_the_reference_kernels_on_every_value() {
    for (name, network) in networks("the_twin_equals_the_reference_kernels_on_every_value") {
        for (kind, (samples, expected)) in hashes(name) {
            let input = inputs(&network, &kind, samples);
            let activations = network.run_reference(Samples::Codes(&input)).unwrap();
            check(name, &kind, &network, &activations, &expected);
        }
    }
}

#[test]
fn the_device_equals_the_reference_kernels_on_every_value() {
    let test = "the_device_equals_the_reference_kernels_on_every_value";
    for checked in [false, true] {
        let Some(gpu) = common::device(test, checked) else { return };
        for (name, network) in networks(test) {
            for (kind, (samples, expected)) in hashes(name) {
                let input = inputs(&network, &kind, samples);
                let activations = network.run(gpu, Samples::Codes(&input), &Control::default()).unwrap();
                check(name, &kind, &network, &activations, &expected);
            }
        }
    }
}

#[test]
fn workloads_have_layers_weights_and_maps() {
    let test = "workloads_have_layers_weights_and_maps";
    let Some(gpu) = common::device(test, false) else { return };
    let (_, network) = networks(test).swap_remove(0);
    let input = inputs(&network, "random", 2);
    let work = pollster::block_on(network.workload_async(gpu, Samples::Codes(&input), &Control::default())).unwrap();
    assert_eq!(work.layers.len(), 7);
    for layer in &work.layers {
        let weights = layer.weights.as_ref().unwrap();
        assert_eq!(
            (weights.len(), layer.inputs.len(), layer.outputs.len()),
            (layer.shape.weights(), 2, 2),
            "{}",
            layer.name
        );
        let dense = layer.shape.filter == [1, 1] && layer.shape.input[1] == 1;
        assert!(
            dense || layer.inputs[1].shape() == layer.shape.input && layer.outputs[0].shape() == layer.shape.output()
        );
        let element = if layer.name == "conv relu6" { Element::U8 } else { Element::I8 };
        assert_eq!(layer.outputs[0].element(), element, "{}", layer.name);
    }
    let depthwise = &work.layers[3];
    assert_eq!(depthwise.weights.as_ref().unwrap().shape(), [1, 3, 3, 7]);
    assert_eq!(depthwise.weights.as_ref().unwrap().granularity(), Granularity::Channel);
    assert_eq!(work.layers[5].weights.as_ref().unwrap().granularity(), Granularity::Tensor);
    assert_eq!(network.macs(), work.layers.iter().map(|layer| layer.shape.macs()).sum::<u64>());
}

#[test]
fn the_weights_are_those_of_the_reference_program() {
    let Some(folder) = tiny("the_weights_are_those_of_the_reference_program") else { return };
    let table = std::fs::read_to_string(folder.join("compress_reference.csv")).unwrap();
    for name in TINY {
        let file = format!("{name}.tflite");
        let work = tflite::read(&folder.join(&file)).unwrap().workload();
        let expected = table.lines().filter(|line| line.starts_with(&file) && line.contains(",w,")).map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            (cells[2].to_owned(), cells[3].to_owned(), cells[6].parse::<usize>().unwrap())
        });
        let got = work.layers.iter().map(|layer| {
            let weights = layer.weights.as_ref().unwrap();
            let zeros = (0..weights.len()).filter(|&i| weights.code(i) == 0).count();
            let shape: Vec<String> = weights.shape().iter().map(ToString::to_string).collect();
            (weights.name().replace(',', ";"), shape.join("x"), zeros)
        });
        assert_eq!(got.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn refusals_name_the_place_and_the_next_step() {
    let bytes = std::fs::read(fixtures().join("small.tflite")).unwrap();
    let refused = |bytes: &[u8], words: &[&str]| {
        let error = tflite::parse(bytes, "x").unwrap_err();
        assert!(words.iter().all(|word| error.message().contains(word)), "{error}");
        assert!(
            matches!(error.kind(), ErrorKind::BadInput | ErrorKind::Unsupported) && error.help().is_some(),
            "{error}"
        );
    };
    refused(b"", &["TFL3"]);
    refused(&bytes[..40], &[]);
    let cut = tflite::read(&fixtures().join("hashes.txt")).unwrap_err();
    assert!(cut.to_string().contains("hashes.txt"), "{cut}");
    let network = tflite::parse(&bytes, "small").unwrap();
    let error = network.run_reference(Samples::Codes(&[1, 2, 3])).unwrap_err();
    assert!(error.message().contains("'input'") && error.help().unwrap().contains("715"), "{error}");
    assert!(network.quantise(&[f32::NAN]).is_err());
    assert_eq!(network.quantise(&[0.0, 0.025, 0.075, -1e30, f32::INFINITY]).unwrap(), [3, 3, 5, -128, 127]);
}

#[test]
fn damaged_files_do_no_harm() {
    let test = "damaged_files_do_no_harm";
    let mut files: Vec<PathBuf> = OURS.iter().map(|name| fixtures().join(format!("{name}.tflite"))).collect();
    files.extend(tiny(test).into_iter().flat_map(|f| TINY.map(|name| f.join(format!("{name}.tflite")))));
    let mut random = common::Random::new(5);
    let (mut read, mut refused) = (0, 0);
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        // Tables of these files stand behind their data, and in front of it in others.
        let places = [0..bytes.len(), 0..bytes.len().min(3000), bytes.len().saturating_sub(9000)..bytes.len()];
        let large = bytes.len() > 100_000;
        for round in 0..if large { 150 } else { 700 } {
            let mut damaged = bytes.clone();
            if round % 3 == 0 {
                damaged.truncate(random.below(bytes.len()));
            } else {
                let place = &places[random.below(3)];
                for _ in 0..=random.below(3) {
                    let at = place.start + random.below(place.len());
                    damaged[at] = match random.below(4) {
                        0 => 0,
                        1 => 0xff,
                        2 => damaged[at] ^ 1 << random.below(8),
                        _ => random.bits() as u8,
                    };
                }
            }
            if demands::tflite(&damaged) { read += 1 } else { refused += 1 }
        }
    }
    common::say(&format!("damaged files: {read} read, {refused} refused"));
    assert!(read > 100 && refused > 1000, "{read} read, {refused} refused");
}

#[test]
fn speed_on_eight_samples() {
    let test = "speed_on_eight_samples";
    let (Some(gpu), Some(folder)) = (common::device(test, false), tiny(test)) else { return };
    for name in TINY {
        let network = tflite::read(&folder.join(format!("{name}.tflite"))).unwrap();
        let input = inputs(&network, "smooth", 8);
        let mut seconds = f64::INFINITY;
        for _ in 0..3 {
            let start = Instant::now();
            network.run(gpu, Samples::Codes(&input), &Control::default()).unwrap();
            seconds = seconds.min(start.elapsed().as_secs_f64());
        }
        let macs = network.macs() as f64 / 1e6;
        let rate = macs * 8.0 / 1e3 / seconds;
        common::say(&format!("{name}: 8 samples of {macs:.2} M products in {seconds:.3} s, {rate:.2} G a second"));
    }
}
