//! Sizes under every scheme: the device against the host, and both against an independent numpy program.
#![cfg(feature = "pack")]

mod common;

use std::collections::HashMap;
use std::path::PathBuf;

use common::{Random, Words, device, say};
use wavehull::gpu::{Binding, Buffer, Grid, Kernel, Params, Recording};
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

/// Just enough of a flatbuffer to find the int8 weights of a TFLite file.
mod flat {
    fn word(b: &[u8], at: usize) -> usize {
        u32::from_le_bytes(b[at..at + 4].try_into().unwrap()) as usize
    }

    /// Where field `i` of a table lies; none if it is left out.
    fn field(b: &[u8], table: usize, i: usize) -> Option<usize> {
        let back = i32::from_le_bytes(b[table..table + 4].try_into().unwrap());
        let vtable = usize::try_from(table as i64 - i64::from(back)).unwrap();
        let half = |at: usize| usize::from(u16::from_le_bytes([b[at], b[at + 1]]));
        let slot = 4 + 2 * i;
        (slot < half(vtable)).then(|| half(vtable + slot)).filter(|&offset| offset > 0).map(|offset| table + offset)
    }

    fn vector(b: &[u8], table: usize, i: usize) -> (usize, usize) {
        field(b, table, i).map_or((0, 0), |at| (at + word(b, at) + 4, word(b, at + word(b, at))))
    }

    fn tables(b: &[u8], table: usize, i: usize) -> Vec<usize> {
        let (first, n) = vector(b, table, i);
        (0..n).map(|k| first + 4 * k + word(b, first + 4 * k)).collect()
    }

    fn words(b: &[u8], table: usize, i: usize) -> Vec<usize> {
        let (first, n) = vector(b, table, i);
        (0..n).map(|k| word(b, first + 4 * k)).collect()
    }

    /// Name, shape as `[filter, ky, kx, channel]` and bytes of every weight, in the order of operators.
    pub fn weights(b: &[u8]) -> Vec<(String, Vec<usize>, Vec<u8>)> {
        let model = word(b, 0);
        let code =
            |t: usize| field(b, t, 3).map_or(0, |at| word(b, at)).max(field(b, t, 0).map_or(0, |at| b[at].into()));
        let codes: Vec<usize> = tables(b, model, 1).into_iter().map(code).collect();
        let buffers = tables(b, model, 4);
        let graph = tables(b, model, 2)[0];
        let tensors = tables(b, graph, 0);
        let mut found = Vec::new();
        for operator in tables(b, graph, 3) {
            let kind = codes[field(b, operator, 0).map_or(0, |at| word(b, at))];
            if ![3, 4, 9].contains(&kind) {
                continue;
            }
            let tensor = tensors[words(b, operator, 1)[1]];
            let (data, len) = vector(b, buffers[field(b, tensor, 2).map_or(0, |at| word(b, at))], 0);
            let mut shape = words(b, tensor, 0);
            if kind == 9 {
                shape = vec![shape[0], 1, 1, shape[1]];
            }
            let (name, letters) = vector(b, tensor, 3);
            found.push((
                String::from_utf8(b[name..name + letters].to_vec()).unwrap(),
                shape,
                b[data..data + len].to_vec(),
            ));
        }
        found
    }
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
    let rows = table(include_str!("fixtures/pack/schemes.csv"));
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
fn many(element: Element) -> Vec<Scheme> {
    let mut all = Scheme::standard(element);
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
            agree(gpu, &tensors, &many(element), Meter::new);
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
        agree(gpu, &tensors, &many(element), |gpu| Meter::new(gpu).with_parts_of(1024));
    }
}

#[test]
fn long_tensors_are_counted_as_the_host_counts_them() {
    let Some(gpu) = device("long_tensors_are_counted_as_the_host_counts_them", false) else { return };
    let mut random = Random::new(13);
    for (at, element) in ELEMENTS.into_iter().enumerate() {
        let look = [Look::Sparse, Look::Narrow, Look::Outliers][at % 3];
        let tensors = [
            tensor(element, Kind::Weights, &[64, 3, 3, 300], look, &mut random),
            tensor(element, Kind::Activations, &[70, 70, 33], Look::Placeholders, &mut random),
        ];
        agree(gpu, &tensors, &Scheme::standard(element), Meter::new);
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
        agree(gpu, &[tensor(element, kind, shape, look, &mut random)], &Scheme::standard(element), Meter::new);
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

/// The kernel of this name with exactly these defines.
fn kernel(name: &str, defines: &[&str]) -> Kernel {
    let fits =
        |kernel: &Kernel| kernel.name == name && kernel.defines.iter().map(|(key, _)| *key).eq(defines.iter().copied());
    let found = wavehull::pack::catalogue().into_iter().find(fits).unwrap();
    Kernel { params: <Words as Params>::LAYOUT, ..found }
}

/// Seconds of a kernel over buffers, the best of five; params follow the grid's offset.
fn seconds(gpu: &Gpu, kernel: &Kernel, buffers: &[&Buffer], params: &[u32], groups: u32) -> f64 {
    let mut words = Words([0; 64]);
    words.0[4..4 + params.len()].copy_from_slice(params);
    let mut recording = Recording::new();
    let bindings = buffers.iter().map(|buffer| Binding::whole(buffer)).collect();
    recording.dispatch(kernel, bindings, &words, Grid::Direct([groups, 1, 1]), 1.0).unwrap();
    let once = || gpu.profile(&recording, &Control::default()).unwrap();
    (0..5).map(|_| once()).map(|o| o.kernel_times.first().map_or(o.seconds, |t| t.1)).fold(f64::INFINITY, f64::min)
}

#[test]
#[ignore = "a measurement: run it alone"]
fn rates_of_the_kernels_over_64_mib() {
    let Some(gpu) = device("rates_of_the_kernels_over_64_mib", false) else { return };
    let bytes = 64 << 20;
    let mut random = Random::new(23);
    let values: Vec<u8> =
        (0..bytes).map(|i| code(Look::Sparse, Element::I8, &mut random, i).to_le_bytes()[0]).collect();
    let buffer = |size: u64| gpu.allocate(size).unwrap();
    let (data, quads, sums, results) =
        (buffer(bytes as u64 + 256), buffer(bytes as u64 / 4), buffer(256), buffer(1024));
    gpu.upload(&data, &values).unwrap();
    let report = |name: &str, read: f64, seconds: f64| {
        say(&format!("{name}: {:.1} ms, {:.2} GB/s", 1e3 * seconds, read / seconds / 1e9));
    };
    let groups = 1024;
    let histogram = [4 << 20, 256 * groups, 0];
    report(
        "code_histogram",
        67e6,
        seconds(gpu, &kernel("code_histogram", &[]), &[&data, &results], &histogram, groups),
    );
    let groups = 16_384;
    let params = [4 << 20, 64 * groups, 16 << 20, 1 << 20, 1 << 18, 1, 0, 0, 0];
    report("quad_widths", 67e6, seconds(gpu, &kernel("quad_widths", &["ALIGNED"]), &[&data, &quads], &params, groups));
    for group in [4, 16, 256] {
        let count = bytes as u32 / group;
        let params = [
            count / 16,
            64 * groups,
            0,
            1 << 20,
            1 << 18,
            (1 << 20) / group,
            group / 4,
            count,
            (1 << 20) / group,
            (1 << 16) / group,
            16,
            2,
            3,
        ];
        let defines: &[&str] = if group >= 16 { &["WORDS"] } else { &[] };
        let time = seconds(gpu, &kernel("group_sums", defines), &[&quads, &sums, &results], &params, groups);
        report(&format!("group_sums of {group}, {} MB of quads", 17), 16.8e6, time);
    }
    let params = [64 * groups, 1 << 20, 64 << 20, 1 << 16, 1 << 10, 64, 1 << 10, 4, 0];
    let chunks = buffer(16 << 20);
    report("run_chunks", 67e6, seconds(gpu, &kernel("run_chunks", &[]), &[&data, &chunks], &params, groups));
}
