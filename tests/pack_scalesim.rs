//! SCALE-Sim's model against SCALE-Sim, and the array without its quirks against a grid of multipliers stepped cycle by cycle.
#![cfg(feature = "pack")]

use proptest::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;
use wavehull::pack::machine::scalesim::{Config, Interface, Reports, Table, parse_topology, read_topology, simulate};
use wavehull::pack::machine::systolic::{Array, Dataflow, run};
use wavehull::pack::{Layer, Shape, Workload};

#[path = "pack_scalesim/grid.rs"]
mod grid;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn machine(rows: usize, columns: usize, dataflow: Dataflow) -> Config {
    let array = Array { rows, columns };
    let interface = Interface::Calc;
    Config { run_name: "run".into(), array, dataflow, ifmap_kb: 64, filter_kb: 64, ofmap_kb: 64, interface }
}

/// Height, width, filter height and width, channels, filters, stride.
fn conv(numbers: [usize; 7]) -> Workload {
    let line = numbers.map(|n| n.to_string()).join(", ");
    parse_topology(&format!("heading\nlayer, {line},\n"), "test", Some(Table::Conv)).expect("a layer")
}

/// Layers, and their cycles output, weight and input stationary, each on 16x16 and 32x8.
#[test]
fn cycles_of_22_runs() {
    let table: &[([usize; 7], &[i64])] = &[
        ([14, 14, 3, 3, 16, 24, 1], &[3131, 2729, 3419, 3209, 5669, 8459]),
        ([28, 28, 3, 3, 8, 40, 2], &[3977, 3849, 3629, 3989]),
        ([7, 7, 1, 1, 64, 64, 1], &[1503, 1631, 1519, 1903, 1759, 1875]),
        ([56, 56, 3, 3, 64, 64, 1], &[443_591, 451_903, 426_527, 429_983]),
    ];
    let mut runs = 0;
    let mut check = |layer: [usize; 7], rows, columns, dataflow: Dataflow, cycles: i64| {
        let reports = simulate(&conv(layer), &machine(rows, columns, dataflow)).expect("a report");
        let what = format!("{layer:?} on {rows}x{columns}, {}", dataflow.name());
        assert_eq!(reports.layers[0].compute.cycles, cycles, "{what}");
        assert_eq!(reports.layers[0].compute.stalls, 0, "{what}");
        runs += 1;
    };
    for (layer, cycles) in table {
        for (i, &cycles) in cycles.iter().enumerate() {
            let (rows, columns) = [(16, 16), (32, 8)][i % 2];
            check(*layer, rows, columns, Dataflow::ALL[i / 2], cycles);
        }
    }
    check([56, 56, 3, 3, 64, 64, 1], 128, 128, Dataflow::Output, 19_089);
    check([56, 56, 3, 3, 64, 64, 1], 128, 128, Dataflow::Weight, 16_489);
    assert_eq!(runs, 22);
}

/// Parts of a fixture: `== NAME` and the lines behind it.
fn parts(text: &str) -> HashMap<&str, String> {
    let mut parts = HashMap::new();
    for part in text.split("== ").skip(1) {
        let (name, rest) = part.split_once('\n').expect("a name");
        parts.insert(name, rest.to_owned());
    }
    parts
}

#[test]
fn reports_are_the_originals_to_the_letter() {
    let mut files: Vec<_> = std::fs::read_dir(folder("tests/fixtures/scalesim/runs"))
        .expect("fixtures")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    assert!(files.len() >= 29);
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a text");
        let parts = parts(&text);
        let config = Config::parse(&parts["run.cfg"]).expect("a machine");
        let workload = parse_topology(&parts["topology.csv"], "test", None).expect("layers");
        let start = Instant::now();
        let reports = simulate(&workload, &config).expect("reports");
        println!("{}: {:.3} s", file.file_stem().expect("a name").display(), start.elapsed().as_secs_f64());
        for (name, ours) in reports.to_csv() {
            compare(&format!("{} {name}", file.display()), &ours, &parts[name]);
        }
    }
}

/// Cell by cell, so that a failure names the cell.
fn compare(what: &str, ours: &str, theirs: &str) {
    let header: Vec<_> = theirs.lines().next().unwrap_or_default().split(',').collect();
    for (row, (a, b)) in ours.lines().zip(theirs.lines()).enumerate() {
        for (column, (a, b)) in a.split(',').zip(b.split(',')).enumerate() {
            assert_eq!(a, b, "{what}, line {}, {}", row + 1, header.get(column).unwrap_or(&""));
        }
    }
    assert_eq!(ours, theirs, "{what}");
}

#[test]
fn odd_machines_and_layers() {
    let text = std::fs::read_to_string(folder("tests/fixtures/scalesim/random.txt")).expect("fixtures");
    let (mut equal, mut failed, mut stalled) = (0, 0, 0);
    for block in text.split("\n\n") {
        let lines: Vec<_> = block.lines().collect();
        let settings: HashMap<_, _> = lines[0].split(' ').filter_map(|pair| pair.split_once('=')).collect();
        let number = |key: &str| settings[key].parse::<u64>().expect("a number");
        let interface = match settings["mode"] {
            "CALC" => Interface::Calc,
            _ => Interface::User {
                ifmap: number("ifmap_bandwidth"),
                filter: number("filter_bandwidth"),
                ofmap: number("bandwidth"),
            },
        };
        let config = Config {
            run_name: "run".into(),
            array: Array { rows: number("rows") as usize, columns: number("columns") as usize },
            dataflow: Dataflow::of_name(settings["dataflow"]).expect("a dataflow"),
            ifmap_kb: number("ifmap"),
            filter_kb: number("filter"),
            ofmap_kb: number("ofmap"),
            interface,
        };
        let layer: Vec<usize> = lines[1].split(' ').map(|n| n.parse().expect("a number")).collect();
        let reports = simulate(&conv(layer.try_into().expect("seven numbers")), &config);
        if lines[2].starts_with("error") {
            assert!(reports.is_err(), "{block}");
            failed += 1;
            continue;
        }
        let reports = reports.unwrap_or_else(|e| panic!("{e}: {block}"));
        for ((name, ours), theirs) in reports.to_csv().iter().zip(&lines[2..]) {
            let ours = ours.lines().nth(1).expect("a row");
            assert_eq!(ours, *theirs, "{name} of\n{}\n{}", lines[0], lines[1]);
        }
        equal += 1;
        stalled += usize::from(reports.layers[0].compute.stalls > 0);
    }
    println!("{equal} layers equal, {stalled} of them with stalls; {failed} where the original fails");
    assert!(equal >= 100 && stalled >= 20 && failed >= 2);
}

/// Seconds that this thread has computed, where the system says so: a busy machine is no slower model.
fn computed() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<f64>().ok()? / 1e9)
}

/// How long everything about ResNet-50 takes.
#[test]
fn resnet_50_on_128_by_128() {
    let workload = read_topology(&folder("examples/machines/resnet50.csv"), None).expect("layers");
    let file = Config::read(&folder("examples/machines/scalesim_128x128.cfg")).expect("a machine");
    assert_eq!(workload.layers.len(), 54);
    let user = Interface::User { ifmap: 64, filter: 64, ofmap: 64 };
    for dataflow in [Dataflow::Weight, Dataflow::Output, Dataflow::Input] {
        for interface in [Interface::Calc, user] {
            let config = Config { dataflow, interface, ..file.clone() };
            let (start, before) = (Instant::now(), computed());
            let reports: Reports = simulate(&workload, &config).expect("reports");
            let wall = start.elapsed().as_secs_f64();
            let seconds = computed().zip(before).map_or(wall, |(after, before)| after - before);
            let cycles: i64 = reports.layers.iter().map(|layer| layer.compute.cycles).sum();
            println!(
                "ResNet-50, {}, {interface:?}: {cycles} cycles, all reports in {seconds:.3} s of {wall:.3} s",
                dataflow.name()
            );
            if !cfg!(debug_assertions) && interface == Interface::Calc {
                assert!(seconds < 1.0, "{} took {seconds} s", dataflow.name());
            }
        }
    }
    // The array alone, as our own machines ask for it.
    let start = Instant::now();
    let cycles: u64 = workload.layers.iter().map(|l| run(&l.shape, file.array, Dataflow::Weight).cycles).sum();
    println!("the array alone: {cycles} cycles in {:.6} s", start.elapsed().as_secs_f64());
}

/// The two models differ by the quirks alone.
#[test]
fn without_quirks() {
    for numbers in [[14, 14, 3, 3, 16, 24, 1], [7, 7, 1, 1, 64, 64, 1], [9, 9, 3, 3, 5, 7, 2]] {
        let workload = conv(numbers);
        for dataflow in Dataflow::ALL {
            let config = machine(8, 5, dataflow);
            let theirs = simulate(&workload, &config).expect("a report").layers.remove(0);
            let ours = run(&workload.layers[0].shape, config.array, dataflow);
            assert_eq!(ours.cycles, theirs.compute.cycles as u64 + 1);
            assert_eq!([ours.reads[1], ours.reads[0]], [theirs.access.sram[0].count, theirs.access.sram[1].count]);
            let twice = if dataflow == Dataflow::Output { ours.folds * (8 + 5) } else { 0 };
            assert_eq!(ours.writes + twice, theirs.access.sram[2].count);
        }
    }
}

#[test]
fn depthwise_layers_are_a_row_for_each_channel() {
    let text = "h\nDP 1, 6, 6, 3, 3, 4, 2, 1,\n";
    let workload = parse_topology(text, "test", None).expect("a layer");
    let shape = workload.layers[0].shape;
    assert_eq!((shape.groups, shape.filters, shape.depth()), (4, 8, 9));
    let reports = simulate(&workload, &machine(4, 4, Dataflow::Weight)).expect("reports");
    assert_eq!(reports.layers.len(), 4);
    assert_eq!(reports.layers[2].name, "DP 1Channel_2");
}

#[test]
fn tables_with_notes_and_ratios() {
    let text = "\u{feff}Layer name, H, W,,,Eh\n,,,,,\nConv1,224,224,7,7,3,64,2,,,110,110,12100\na, 8,8,3,3, 4 , 4,1, 2:4,\r\nb,8,8,3,3,4,4,1\n";
    let workload = parse_topology(text, "test", None).expect("layers");
    let names: Vec<_> = workload.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["Conv1", "a", "b"]);
    assert_eq!(workload.layers[0].shape.stride, [2, 2]);
    let gemm = parse_topology("Layer, M, N, K,\nx, 2, 3, 4,\n", "test", None).expect("a product");
    assert_eq!(gemm.layers[0].shape, Shape::dense(2, 4, 3));
}

#[test]
fn bad_tables_name_the_place() {
    for (text, place, needle) in [
        ("", (1, 1), "no layers"),
        ("h\n\n,,,\n", (1, 1), "no layers"),
        ("h\n\na, 8, 8, 3, 3, 4, 4,\n", (3, 21), "the stride of layer 'a' is ''"),
        ("h\na, 8, 8, 3, x, 4, 4, 1,\n", (2, 13), "filter width of layer 'a' is 'x'"),
        ("h\na, 8, 8, 3, 3, 0, 4, 1,\n", (2, 16), "'0'"),
        ("h\na, 8, 8, 3, 3, 4, -4, 1,\n", (2, 19), "'-4'"),
        ("h\na, 8, 8, 3, 3, 4, 99999999999999999999, 1,\n", (2, 19), "2^24"),
        ("h\na, 8, 2, 3, 3, 4, 4, 1,\n", (2, 4), "larger than its map"),
        ("h\na, 8, 8, 3, 3, 4, 4, 1, 2,\n", (2, 25), "no ratio"),
        ("h\na, 8, 8, 3, 3, 4, 4, 1, 4:2,\n", (2, 25), "no ratio"),
    ] {
        let error = parse_topology(text, "test", Some(Table::Conv)).expect_err(text);
        assert!(error.message().contains(needle), "{error}");
        assert_eq!(error.place().and_then(|place| place.position), Some(place), "{text}: {error}");
    }
    let error = parse_topology("Layer, M, N, K\nx, 2, 3\n", "test", None).expect_err("no K");
    assert!(error.message().contains("the K of layer 'x'"));
    assert!(read_topology(Path::new("/nowhere.csv"), None).is_err());
}

#[test]
fn bad_machines_name_the_line() {
    let good = std::fs::read_to_string(folder("examples/machines/scalesim_128x128.cfg")).expect("a machine");
    assert!(Config::parse(&good).is_ok());
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    for (text, line, needle) in [
        (with("ArrayHeight: 128", "ArrayHeight: 0"), Some(6), "'arrayheight' is '0'"),
        (with("ArrayWidth: 128", "ArrayWidth: 128 # columns"), Some(7), "not a whole number"),
        (with("ArrayHeight: 128\n", ""), None, "no 'arrayheight'"),
        (with("Dataflow: ws", "Dataflow: rs"), Some(15), "no dataflow is called 'rs'"),
        (with("Dataflow: ws", "Dataflow: ws\nDataflow: os"), Some(16), "line 15"),
        (with("Dataflow: ws", "Dataflow ws"), Some(15), "no value"),
        (with("Dataflow: ws", "Dataflow: ws\n  os"), Some(16), "indented"),
        (with("Dataflow: ws", "Dataflows: ws"), Some(15), "no key 'dataflows'"),
        (with("IfmapOffset: 0", "IfmapOffset: -1"), Some(11), "'ifmapoffset'"),
        (with("IfmapCustomLayout: False", "IfmapCustomLayout: True"), Some(20), "layouts of banks"),
        (with("IfmapCustomLayout: False", "IfmapCustomLayout: maybe"), Some(20), "neither"),
        (with("SparsitySupport: false", "SparsitySupport: true"), Some(30), "N:M sparsity"),
        (with("UseRamulatorTrace: False", "UseRamulatorTrace: True"), Some(34), "Ramulator"),
        (with("InterfaceBandwidth: CALC", "InterfaceBandwidth: calc"), Some(33), "'calc'"),
        (
            with("InterfaceBandwidth: CALC", "InterfaceBandwidth: USER").replace("Num: 16", "Num: 7"),
            Some(21),
            "7 banks",
        ),
        (
            with("InterfaceBandwidth: CALC", "InterfaceBandwidth: USER").replace("width: 64", "width: 0"),
            Some(21),
            "'0'",
        ),
        (with("[sparsity]", "[energy]"), Some(29), "[energy]"),
        (with("[sparsity]", "[layout]"), Some(29), "twice"),
        (with("[general]", ""), Some(3), "in no section"),
    ] {
        let error = Config::parse(&text).expect_err(needle);
        assert!(error.message().contains(needle), "{error} lacks {needle}");
        assert_eq!(error.place().and_then(|place| place.position).map(|(line, _)| line), line, "{error}");
    }
    let user =
        with("InterfaceBandwidth: CALC", "InterfaceBandwidth: USER").replace("Bandwidth: 64\n", "Bandwidth = 8, 9\n");
    let user = Config::parse(&user.replace("BankBandwidth = 8, 9", "BankBandwidth: 32")).expect("a machine");
    assert_eq!(user.interface, Interface::User { ifmap: 32, filter: 32, ofmap: 8 });
    let short = "[architecture_presets]\nArrayHeight = 4\narraywidth : 5\nIfmapSramSzkB: 1\nFilterSramSzkB: 2\nOfmapSramSzkB: 3\nDataflow: is\n";
    let short = Config::parse(short).expect("a machine of version 2");
    assert_eq!((short.array, short.interface), (Array { rows: 4, columns: 5 }, Interface::Calc));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    /// Readers of good files with a few bytes replaced, or of anything, end with a value or an error that has a place.
    #[test]
    fn readers_survive_anything(
        which in 0_usize..3, edits in prop::collection::vec((any::<prop::sample::Index>(), any::<char>()), 0..6), any_text: String
    ) {
        let files = ["examples/machines/scalesim_128x128.cfg", "examples/machines/resnet50.csv"];
        let text = files.get(which).map_or(any_text, |file| std::fs::read_to_string(folder(file)).expect("a text"));
        let mut text: Vec<char> = text.chars().collect();
        for (at, with) in edits {
            if !text.is_empty() {
                let at = at.index(text.len());
                text[at] = with;
            }
        }
        let text: String = text.into_iter().collect();
        let _ = Config::parse(&text);
        for table in [Some(Table::Conv), Some(Table::Gemm), None] {
            if let Err(error) = parse_topology(&text, "any", table) {
                prop_assert!(error.place().is_some());
            }
        }
    }
}

#[test]
fn layers_that_cannot_run_say_why() {
    let of = |shape: Shape, config: &Config| {
        let layer = Layer { name: "x".into(), shape, weights: None, inputs: Vec::new(), outputs: Vec::new() };
        let workload = Workload { name: "test".into(), layers: vec![layer], ..Workload::default() };
        simulate(&workload, config).expect_err("an error").to_string()
    };
    let config = machine(4, 4, Dataflow::Output);
    let good = conv([8, 8, 3, 3, 4, 4, 1]).layers[0].shape;
    assert!(of(Shape { dilation: [2, 2], ..good }, &config).contains("layer 'x': SCALE-Sim has no dilated"));
    assert!(of(Shape { filters: 0, ..good }, &config).contains("no values"));
    assert!(of(Shape { filter: [9, 1], ..good }, &config).contains("larger than its map"));
    assert!(of(Shape::dense(1 << 40, 1 << 40, 1 << 40), &config).contains("2^28"));
    assert!(of(Shape { padding: [usize::MAX; 4], ..good }, &config).contains("2^28"));
    assert!(of(Shape::dense(1 << 14, 1 << 14, 1 << 13), &config).contains("2^35"));
    assert!(of(Shape { input: [8, 8, 1 << 17], filters: 1 << 17, groups: 1 << 17, ..good }, &config).contains("2^16"));
    assert!(of(good, &Config { ifmap_kb: 0, ..config.clone() }).contains("from 1 to"));
    assert!(of(good, &machine(1 << 32, 4, Dataflow::Input)).contains("65536 rows"));
    assert!(of(Shape::dense(1, 1, 1), &machine(1, 1, Dataflow::Output)).contains("first cycle"));
    assert!(of(Shape::dense(2, 1, 70_000), &machine(4, 65_536, Dataflow::Weight)).contains("half a buffer"));
}
