//! Sizes under every scheme: the device against the host, and both against an independent numpy program.
#![cfg(feature = "pack")]

#[path = "../common/mod.rs"]
mod common;
mod flat;
mod rates;

use std::collections::HashMap;
use std::path::PathBuf;

use common::{Random, device, say};
use wavehull::pack::scheme::reference;
use wavehull::pack::{Element, FixedLane, Kind, Meter, Restart, Scheme, Size, Values};
use wavehull::{Control, Gpu};

const ELEMENTS: [Element; 6] = [Element::I4, Element::I8, Element::U8, Element::I16, Element::F16, Element::Bf16];
/// The networks of shared/data/tinyml, one of which shows every kind of layer.
const NETWORKS: [&str; 6] = [
    "vww_96_int8.tflite",
    "pretrainedResnet_quant.tflite",
    "pretrainedResnet_large_int8.tflite",
    "ad01_int8.tflite",
    "kws_ref_model.tflite",
    "str_ww_ref_model.tflite",
];

/// Columns of the reference under their names here; where two schemes stand, the better one counts.
const COLUMNS: [(&str, &[&str]); 23] = [
    ("raw", &["none"]),
    ("fixed", &["one-width"]),
    ("ZVC", &["zvc"]),
    ("RLE4", &["rle4"]),
    ("EBPC", &["ebpc"]),
    ("SS16", &["ss16"]),
    ("SS3", &["ss16:prefix=3"]),
    ("SS3dense", &["ss16:prefix=3,dense"]),
    ("SS16best", &["ss16:prefix=3", "ss16:prefix=3,dense"]),
    ("SS4g32", &["ss32"]),
    ("Bov16pos", &["fixed16:restart=position"]),
    ("Bov16row", &["fixed16"]),
    ("Bov16rowD", &["fixed16:same"]),
    ("Bov8row", &["fixed8"]),
    ("Bov32row", &["fixed32"]),
    ("Bov4rowZ", &["fixed4:zero"]),
    ("Bov16tensor", &["fixed16:restart=tensor"]),
    ("Bov8posD", &["fixed8:same,restart=position"]),
    ("SCNN4", &["scnn4"]),
    ("SCNN4B", &["scnn4w"]),
    ("SCNN8B3", &["scnn8w:run=3"]),
    ("Huffman", &["huffman"]),
    ("H0", &["entropy"]),
];

fn schemes() -> Vec<Scheme> {
    COLUMNS.iter().flat_map(|(_, names)| *names).map(|name| name.parse().unwrap()).collect()
}

/// A table of the reference: each row by column.
fn table(text: &str) -> Vec<HashMap<&str, &str>> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines.map(|line| names.iter().copied().zip(line.split(',')).collect()).collect()
}

/// Compares sizes, in the order of [`schemes`], with a row of the reference.
fn compare(row: &HashMap<&str, &str>, sizes: &[Size], whose: &str) -> usize {
    let (mut at, mut compared) = (0, 0);
    for (column, names) in COLUMNS {
        let best = sizes[at..at + names.len()].iter().map(Size::total).min().unwrap();
        at += names.len();
        if let Some(expected) = row.get(column) {
            let tensor = row.get("tensor").or(row.get("shape")).unwrap();
            assert_eq!(best.to_string(), *expected, "{column} of {tensor}, {whose}");
            compared += 1;
        }
    }
    compared
}

fn on_device(gpu: &Gpu, tensors: &[Values], schemes: &[Scheme]) -> Vec<Vec<Size>> {
    let tensors: Vec<&Values> = tensors.iter().collect();
    Meter::new(gpu).measure(&tensors, schemes, &Control::default()).unwrap()
}

fn on_host(values: &Values, schemes: &[Scheme]) -> Vec<Size> {
    schemes.iter().map(|scheme| reference::size(values, scheme).unwrap()).collect()
}

fn shared(file: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("WAVEHULL_SHARED")?).join("data/tinyml").join(file);
    path.exists().then_some(path)
}

#[test]
fn weights_of_six_networks_take_the_bits_of_the_reference() {
    let Some(csv) = shared("compress_reference.csv") else {
        return say(
            "skipped: weights_of_six_networks_take_the_bits_of_the_reference: WAVEHULL_SHARED has no data/tinyml",
        );
    };
    let text = std::fs::read_to_string(csv).unwrap();
    let rows = table(&text);
    let (mut tensors, mut of_row) = (Vec::new(), Vec::new());
    for network in NETWORKS {
        let bytes = std::fs::read(shared(network).unwrap()).unwrap();
        let of_network: Vec<_> = rows.iter().filter(|row| row["model"] == network).collect();
        let weights = flat::weights(&bytes);
        assert_eq!(weights.len(), of_network.len(), "{network}");
        for (row, (name, shape, data)) in of_network.into_iter().zip(weights) {
            assert_eq!(row["tensor"], name.replace(',', ";"));
            tensors.push(Values::from_bytes(name, Kind::Weights, Element::I8, &shape, data).unwrap());
            of_row.push(row);
        }
    }
    let schemes = schemes();
    let mut compared = 0;
    for (values, row) in tensors.iter().zip(&of_row) {
        compared += compare(row, &on_host(values, &schemes), "host");
    }
    say(&format!("{} tensors, {compared} sizes equal those of the reference", tensors.len()));
    for checked in [false, true] {
        let Some(gpu) = device("weights_of_six_networks_take_the_bits_of_the_reference", checked) else { return };
        for (sizes, row) in on_device(gpu, &tensors, &schemes).iter().zip(&of_row) {
            compare(row, sizes, "device");
        }
    }
}

#[test]
fn small_tensors_of_both_kinds_take_the_bits_of_the_reference() {
    let rows = table(include_str!("../fixtures/pack/schemes.csv"));
    let schemes = schemes();
    let tensors: Vec<Values> = rows
        .iter()
        .map(|row| {
            let shape: Vec<usize> = row["shape"].split('x').map(|n| n.parse().unwrap()).collect();
            let hex = row["values"];
            let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
            let kind = if row["kind"] == "w" { Kind::Weights } else { Kind::Activations };
            let element = if row["dtype"] == "u8" { Element::U8 } else { Element::I8 };
            Values::from_bytes("t", kind, element, &shape, bytes).unwrap()
        })
        .collect();
    for (values, row) in tensors.iter().zip(&rows) {
        assert_eq!(compare(row, &on_host(values, &schemes), "host"), 21);
    }
    let Some(gpu) = device("small_tensors_of_both_kinds_take_the_bits_of_the_reference", false) else { return };
    for (sizes, row) in on_device(gpu, &tensors, &schemes).iter().zip(&rows) {
        compare(row, sizes, "device");
    }
}

/// What values look like.
#[derive(Debug, Clone, Copy)]
enum Look {
    Uniform,
    Narrow,
    Sparse,
    AllZero,
    One,
    Alternating,
    /// A large value in every group of 16, the rest small.
    Outliers,
    /// Non-zero values so far apart that only zeros that carry counts lie between.
    Placeholders,
}

const LOOKS: [Look; 8] = [
    Look::Uniform,
    Look::Narrow,
    Look::Sparse,
    Look::AllZero,
    Look::One,
    Look::Alternating,
    Look::Outliers,
    Look::Placeholders,
];

fn code(look: Look, element: Element, random: &mut Random, i: usize) -> u16 {
    let any = random.bits() as u16;
    let small = if element.is_float() { (element.bits() as u16) << 10 | any & 0x83ff } else { any & 3 };
    let signed_small = if !element.is_float() && element.is_signed() && any & 8 != 0 { !small } else { small };
    match look {
        Look::Uniform => any,
        Look::Narrow => signed_small,
        Look::Sparse if random.below(6) > 0 => 0,
        Look::Sparse => any,
        Look::AllZero => 0,
        Look::One => 0x3f85,
        Look::Alternating => [0, 0x7fff, 0x8000, 0xffff][i % 4],
        Look::Outliers if i % 16 == 5 => 0x7fff,
        Look::Outliers => signed_small,
        Look::Placeholders if i % 997 == 300 => any | 1,
        Look::Placeholders => 0,
    }
}

fn tensor(element: Element, kind: Kind, shape: &[usize], look: Look, random: &mut Random) -> Values {
    let codes = (0..shape.iter().product()).map(|i| code(look, element, random, i));
    if element.bits() > 8 {
        return Values::from_halves("t", kind, element, shape, codes.collect()).unwrap();
    }
    let byte = |code: u16| {
        let byte = code.to_le_bytes()[0];
        if element == Element::I4 { ((byte << 4).cast_signed() >> 4).cast_unsigned() } else { byte }
    };
    Values::from_bytes("t", kind, element, shape, codes.map(byte).collect()).unwrap()
}

/// About `len` values, of either kind, with all sorts of channels.
fn shape(kind: Kind, len: usize, random: &mut Random) -> Vec<usize> {
    let channels = [1, 3, 4, 16, 17, 64, 255, 256, len.max(1)][random.below(9)].min(len.max(1));
    let positions = len.div_ceil(channels);
    let taps = [1, 3, 9][random.below(3)].min(positions.max(1));
    let rows = positions.div_ceil(taps);
    match kind {
        Kind::Weights => [vec![rows, 1, taps, channels], vec![1, taps, rows, channels]][random.below(2)].clone(),
        Kind::Activations => vec![taps, rows, channels],
    }
}

/// Standard schemes and groups of all sizes.
fn many() -> Vec<Scheme> {
    let mut all = Scheme::standard();
    for group in [4, 8, 32, 64, 128, 256] {
        for restart in [Restart::Position, Restart::Row, Restart::Tensor] {
            let same_as_previous = group % 3 == 1;
            all.push(Scheme::FixedLane(FixedLane { group, restart, same_as_previous, ..Default::default() }));
        }
        all.push(Scheme::ShapeShifter { group, prefix: 0, zero_vector: group < 64 });
        all.push(Scheme::FixedLane(FixedLane { group, zero_width: true, ..Default::default() }));
    }
    all.extend([1, 3, 8].map(|run_bits| Scheme::ZeroRuns { run_bits }));
    all.extend([(1, 1), (8, 2), (256, 6)].map(|(group, run_bits)| Scheme::Scnn { group, run_bits, widths: true }));
    all
}

fn agree(gpu: &Gpu, tensors: &[Values], schemes: &[Scheme], meter: impl Fn(&Gpu) -> Meter) {
    let references: Vec<&Values> = tensors.iter().collect();
    let counted = meter(gpu).measure(&references, schemes, &Control::default()).unwrap();
    for (values, sizes) in tensors.iter().zip(counted) {
        for (scheme, size) in schemes.iter().zip(sizes) {
            let expected = reference::size(values, scheme).unwrap();
            let what = format!("{scheme} of {:?} {:?} {:?}", values.element(), values.kind(), values.shape());
            assert_eq!(size, expected, "{what}");
        }
    }
}

#[test]
fn the_device_counts_what_the_host_counts() {
    for checked in [true, false] {
        let Some(gpu) = device("the_device_counts_what_the_host_counts", checked) else { return };
        let mut random = Random::new(7);
        for element in ELEMENTS {
            let mut tensors = Vec::new();
            for look in LOOKS {
                for kind in [Kind::Weights, Kind::Activations] {
                    // Log-uniform, up to 2^13; longer ones have a test of their own.
                    let len = (13.0 * (random.unit() + 1.0) / 2.0).exp2() as usize;
                    let shape = shape(kind, len, &mut random);
                    tensors.push(tensor(element, kind, &shape, look, &mut random));
                }
            }
            tensors.push(tensor(element, Kind::Weights, &[3, 1, 0, 4], Look::AllZero, &mut random));
            tensors.push(tensor(element, Kind::Activations, &[0, 3, 4], Look::AllZero, &mut random));
            agree(gpu, &tensors, &many(), Meter::new);
        }
    }
}

#[test]
fn parts_of_tensors_add_up_to_the_whole() {
    let Some(gpu) = device("parts_of_tensors_add_up_to_the_whole", false) else { return };
    let mut random = Random::new(11);
    for element in [Element::I8, Element::Bf16] {
        let mut tensors = Vec::new();
        for look in [Look::Uniform, Look::Sparse, Look::Placeholders, Look::AllZero] {
            for shape in
                [&[1, 1, 1, 5000][..], &[5, 3, 3, 70], &[1, 3, 3, 700], &[40, 1, 1, 90], &[4, 900, 3], &[1, 2, 2600]]
            {
                let kind = if shape.len() == 4 { Kind::Weights } else { Kind::Activations };
                tensors.push(tensor(element, kind, shape, look, &mut random));
            }
        }
        agree(gpu, &tensors, &many(), |gpu| Meter::new(gpu).with_parts_of(1024));
    }
}

#[test]
fn long_tensors_are_counted_as_the_host_counts_them() {
    let Some(gpu) = device("long_tensors_are_counted_as_the_host_counts_them", false) else { return };
    let mut random = Random::new(13);
    for (at, element) in ELEMENTS.into_iter().enumerate() {
        let look = [Look::Sparse, Look::Narrow, Look::Outliers][at % 3];
        let mut tensors = vec![tensor(element, Kind::Activations, &[70, 70, 33], Look::Placeholders, &mut random)];
        for kind in [Kind::Weights, Kind::Activations] {
            let len = (17.5 + 2.5 * random.unit()).exp2() as usize;
            tensors.push(tensor(element, kind, &shape(kind, len, &mut random), look, &mut random));
        }
        agree(gpu, &tensors, &Scheme::standard(), Meter::new);
    }
}

#[test]
#[ignore = "half a minute: tensors of 2^24 values"]
fn the_longest_tensors_are_counted_as_the_host_counts_them() {
    let Some(gpu) = device("the_longest_tensors_are_counted_as_the_host_counts_them", false) else { return };
    let mut random = Random::new(17);
    for (element, look, shape) in [
        (Element::I8, Look::Sparse, &[1 << 10, 1, 1, 1 << 14][..]),
        (Element::U8, Look::Placeholders, &[1 << 12, 1 << 12, 1]),
        (Element::Bf16, Look::Narrow, &[1 << 7, 1 << 8, 1 << 9]),
    ] {
        let kind = if shape.len() == 4 { Kind::Weights } else { Kind::Activations };
        agree(gpu, &[tensor(element, kind, shape, look, &mut random)], &Scheme::standard(), Meter::new);
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let values = Values::from_bytes("t", Kind::Activations, Element::I8, &[1, 1, 4], vec![0; 4]).unwrap();
    let scheme: Scheme = "fixed12".parse().unwrap();
    assert_eq!(reference::size(&values, &scheme).unwrap_err().kind(), wavehull::ErrorKind::BadInput);
    let Some(gpu) = device("options_that_make_no_sense_are_refused", false) else { return };
    let error = Meter::new(gpu).measure(&[&values], &[scheme], &Control::default()).unwrap_err();
    assert_eq!(error.kind(), wavehull::ErrorKind::BadInput);
}
