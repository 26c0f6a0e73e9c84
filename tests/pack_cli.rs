//! `wavehull pack` from outside: numbers that must hold together, files that stand alone, and errors with a place and a next step.
#![cfg(feature = "cli")]

#[path = "common/program.rs"]
mod program;

use program::{Folder, device};
use serde_json::Value as Json;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn at(path: &str) -> String {
    format!("{ROOT}/{path}")
}

/// An NPY file of version 1.0.
fn npy(kind: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let mut text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    while (text.len() + 11) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend(u16::try_from(text.len()).expect("a short header").to_le_bytes());
    file.extend(text.as_bytes());
    file.extend(values);
    file
}

/// Stored bits of all tensors of a role under a scheme.
fn bits(study: &Json, role: &str, scheme: &str) -> u64 {
    let schemes = study["schemes"].as_array().expect("schemes");
    let place = schemes.iter().position(|name| name == scheme).expect("a scheme that was measured");
    let tensors = study["tensors"].as_array().expect("tensors").iter().filter(|tensor| tensor["role"] == role);
    let parts = ["values", "metadata", "padding", "pointers", "tables"];
    tensors
        .map(|tensor| parts.map(|part| tensor["sizes"][place][part].as_u64().expect("bits")).iter().sum::<u64>())
        .sum()
}

#[test]
fn an_analysis_holds_together() {
    if !device("an_analysis_holds_together") {
        return;
    }
    let folder = Folder::new("pack", "analysis");
    let (model, inputs) = (at("data/lenet-80.onnx"), at("data/mnist10k/test-images-idx3-ubyte.gz"));
    let machines = ["tpu", "tensorcore", "scnn"].map(|name| at(&format!("examples/machines/{name}.toml")));
    let mut arguments =
        vec!["pack", "analyze", &model, "--inputs", &inputs, "--samples", "3", "--out", "report", "--json"];
    machines.iter().for_each(|machine| arguments.extend(["--machine", machine]));
    let ran = folder.run(&arguments);
    let study = ran.expect(0, &["written to report"]).json();
    assert_eq!((study["schema"].as_u64(), study["samples"].as_u64()), (Some(1), Some(3)));
    let weights: Vec<&Json> =
        study["tensors"].as_array().expect("tensors").iter().filter(|tensor| tensor["role"] == "weights").collect();
    let sum = |field: &str| weights.iter().map(|tensor| tensor[field].as_u64().expect("a count")).sum::<u64>();
    // LeNet-5: 150 + 2400 + 48000 + 10080 + 840 weights, four fifths of them cut.
    assert_eq!((weights.len(), sum("values"), sum("bits")), (5, 61_470, 8 * 61_470));
    assert!(sum("zeros") >= 61_470 * 4 / 5, "{}", sum("zeros"));
    for role in ["weights", "input", "output"] {
        let of = |scheme: &str| bits(&study, role, scheme);
        assert!(of("entropy") <= of("huffman") && of("entropy") <= of("rans"), "{role}: nothing is below the entropy");
        assert!(of("zvc") < of("none"), "{role}");
    }
    let machines = study["machines"].as_array().expect("machines");
    assert_eq!(machines.len(), 3);
    for machine in machines {
        let schemes = machine["schemes"].as_array().expect("schemes");
        let dram = |cost: &Json| {
            let of = |part: &str| {
                ["weights", "inputs", "outputs"].map(|name| cost["total"][part][name].as_f64().expect("bits"))
            };
            of("dram_reads").iter().chain(&of("dram_writes")).sum::<f64>()
        };
        let [none, fixed] =
            ["none", "fixed16"].map(|name| schemes.iter().find(|cost| cost["scheme"] == name).expect("there"));
        assert!(dram(fixed) < dram(none), "{}", machine["machine"]);
        assert!(schemes.iter().all(|cost| cost["scheme"] != "entropy"), "a bound is stored nowhere");
        let cycles =
            |of: &Json| of["compute_cycles"].as_u64().expect("cycles") + of["stall_cycles"].as_u64().expect("cycles");
        let layers: u64 = fixed["layers"].as_array().expect("layers").iter().map(cycles).sum();
        assert_eq!(layers, cycles(&fixed["total"]), "the sum of its layers");
    }
    let page = folder.read("report/report.html");
    assert!(page.contains("<svg") && !page.contains("<script") && !page.contains("src="), "one page, no other file");
    let saved: Json = serde_json::from_str(&folder.read("report/study.json")).expect("JSON");
    assert_eq!(saved, study);
    let schemes = study["schemes"].as_array().expect("schemes").len();
    let tensors = study["tensors"].as_array().expect("tensors").len();
    assert_eq!(folder.read("report/footprints.csv").lines().count(), 1 + schemes * tensors);
    assert_eq!(folder.read("report/costs.csv").lines().count(), 1 + 3 * (schemes - 1) * 6);
}

#[test]
fn storages_are_compared_in_a_sweep() {
    if !device("storages_are_compared_in_a_sweep") {
        return;
    }
    let folder = Folder::new("pack", "sweep");
    let model = at("data/lenet-80.onnx");
    let arguments = ["pack", "sweep", &model, "--weights", "i16,i8,i8/channel,i4/32", "--groups", "8,32", "--json"];
    let sweep = folder.run(&arguments).expect(0, &[]).json();
    let points = sweep["points"].as_array().expect("points");
    let share = |storage: &str, scheme: &str| {
        let point = points.iter().find(|point| point["storage"] == storage && point["scheme"] == scheme);
        point.expect("a combination")["weights"].as_f64().expect("a share")
    };
    for storage in ["i16", "i8", "i8/channel", "i4/32"] {
        assert_eq!(share(storage, "none"), 1.0);
        assert!(share(storage, "entropy") < 0.5, "four fifths are zeros");
        assert!(share(storage, "fixed32") > 0.0 && share(storage, "fixed8") < 1.0);
    }
    let machine = at("examples/machines/tpu.toml");
    let small = folder.run(&[
        "pack",
        "sweep",
        &model,
        "--machine",
        &machine,
        "--buffers",
        "16,64",
        "--bandwidths",
        "4,64",
        "--scheme",
        "none",
        "--scheme",
        "fixed16",
        "--out",
        "out",
    ]);
    small.expect(0, &["sweep.html"]);
    assert_eq!(folder.read("out/sweep.csv").lines().count(), 1 + 2 * 2 * 2);
    assert!(small.stdout.contains("16 KiB, 4 B/cycle"), "{}", small.stdout);
}

#[test]
fn scalesim_reports_come_out_as_files() {
    let folder = Folder::new("pack", "scalesim");
    let (table, config) = (at("examples/machines/resnet50.csv"), at("examples/machines/scalesim_128x128.cfg"));
    // No device is needed.
    let ran = folder.run_without_device(&["pack", "simulate", &table, "--machine", &config, "--out", "reports"]);
    ran.expect(0, &["COMPUTE_REPORT.csv"]);
    assert_eq!(ran.stdout.lines().count(), 1 + 54 + 1);
    assert_eq!(folder.read("reports/COMPUTE_REPORT.csv").lines().count(), 1 + 54);
}

#[test]
fn a_machine_of_ours_shows_each_layer() {
    if !device("a_machine_of_ours_shows_each_layer") {
        return;
    }
    let folder = Folder::new("pack", "simulate");
    let (table, machine) = (at("examples/machines/resnet50.csv"), at("examples/machines/tpu.toml"));
    let ran = folder.run(&["pack", "simulate", &table, "--machine", &machine, "--json"]);
    let document = ran.expect(0, &[]).json();
    assert_eq!(document["layers"].as_array().map(Vec::len), Some(54));
    let scnn = at("examples/machines/scnn.toml");
    // Shapes alone are not enough for a machine whose cycles depend on values.
    folder.run(&["pack", "simulate", &table, "--machine", &scnn]).expect(2, &["error[E0201]", "help: "]);
}

#[test]
fn arrays_go_into_a_file_and_come_back() {
    let folder = Folder::new("pack", "files");
    let values: Vec<u8> = (0..60_000_u32).map(|i| ((i * i) % 7) as u8).collect();
    folder.write("a.npy", npy("|i1", "200, 300", &values));
    let ran = folder.run_without_device(&["pack", "encode", "a.npy", "a.whpk", "--host", "--chunk", "4096", "--json"]);
    let written = ran.expect(0, &[]).json();
    assert!(written["bytes"].as_u64().expect("bytes") < 30_000, "{written}");
    folder.run_without_device(&["pack", "decode", "a.whpk", "b.npy", "--host"]).expect(0, &["every checksum right"]);
    assert_eq!(folder.bytes("a.npy"), folder.bytes("b.npy"));
    if device("arrays_go_into_a_file_and_come_back") {
        folder.run(&["pack", "encode", "a.npy", "c.whpk", "--chunk", "4096"]).expect(0, &[]);
        assert_eq!(folder.bytes("a.whpk"), folder.bytes("c.whpk"), "the device makes the same bytes");
    }
    let mut damaged = folder.bytes("a.whpk");
    damaged[5000] ^= 4;
    folder.write("damaged.whpk", damaged);
    folder.write("d.npy", "of an earlier day");
    folder
        .run_without_device(&["pack", "decode", "a.whpk", "--check", "--host"])
        .expect(0, &["every checksum is right"]);
    folder.run_without_device(&["pack", "decode", "damaged.whpk", "--check", "--host"]).expect(2, &["tensor 'a'"]);
    let ran = folder.run_without_device(&["pack", "decode", "damaged.whpk", "d.npy", "--host"]);
    ran.expect(2, &["damaged.whpk", "tensor 'a'", "chunk", "help: "]);
    assert_eq!(folder.read("d.npy"), "of an earlier day", "what was there stays until there is something whole");
    folder.run_without_device(&["pack", "encode", "a.npy", "./a.npy", "--host"]).expect(2, &["its own result"]);
    assert_eq!(folder.bytes("a.npy"), folder.bytes("b.npy"));
    let left: Vec<_> =
        std::fs::read_dir(&folder.0).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains(".part")), "{left:?}");
    let listed = folder.run_without_device(&["pack", "decode", "a.whpk", "--list"]);
    assert!(listed.expect(0, &[]).stdout.contains("[200, 300]"), "{}", listed.stdout);
}

#[test]
fn what_is_wrong_is_named() {
    let folder = Folder::new("pack", "wrong");
    let model = at("data/lenet-80.onnx");
    folder.write("floats.npy", npy("<f4", "3,", &[0; 12]));
    folder.write("text.onnx", "this is no network");
    folder.write("slip.toml", "name = \"m\"\nkind = \"systolic\"\n[array]\nrows = 8\ncolums = 8\n");
    folder.write("slip.cfg", "[general]\nrun_name = a\n[architecture_presets]\nArrayHeight: tall\n");
    let table = at("examples/machines/resnet50.csv");
    for (arguments, words) in [
        (&["pack", "analyze", &model, "--scheme", "fixed7x"][..], &["fixed7x"][..]),
        (&["pack", "analyze", &model, "--weights", "i7"], &["i7", "i8/channel"]),
        (&["pack", "analyze", &model, "--machine", "slip.toml"], &["slip.toml:5:", "colums", "help: "]),
        (&["pack", "analyze", &model, "--machine", "none.toml"], &["none.toml"]),
        (&["pack", "simulate", &table, "--machine", "slip.cfg"], &["slip.cfg:4", "help: "]),
        (&["pack", "encode", "floats.npy", "f.whpk", "--host"], &["floats.npy", "float32", "help: "]),
        (&["pack", "encode", "none.npy", "f.whpk", "--host"], &["none.npy"]),
        (&["pack", "decode", "floats.npy", "f.npy", "--host"], &["floats.npy", "help: "]),
    ] {
        folder.run_without_device(arguments).expect(2, words);
    }
    if !device("what_is_wrong_is_named") {
        return;
    }
    let short = npy("<f4", "2, 5", &[0; 40]);
    folder.write("short.npy", short);
    let nan: Vec<u8> = (0..784).flat_map(|i| if i == 7 { f32::NAN } else { 0.5 }.to_le_bytes()).collect();
    folder.write("nan.npy", npy("<f4", "1, 1, 28, 28", &nan));
    for (arguments, words) in [
        (&["pack", "analyze", "text.onnx"][..], &["text.onnx"][..]),
        (&["pack", "analyze", "absent.onnx"], &["absent.onnx"]),
        (&["pack", "analyze", &model, "--inputs", "short.npy"], &["short.npy", "[1, 1, 28, 28]"]),
        (&["pack", "analyze", &model, "--inputs", "nan.npy"], &["nan.npy"]),
        (&["pack", "analyze", &model, "--inputs", "slip.toml"], &["slip.toml", "help: "]),
    ] {
        folder.run(arguments).expect(2, words);
    }
}
