//! `wavehull train` from outside: what is wrong is named with its place and a next step, and nothing on disk is lost.
#![cfg(feature = "cli")]

#[path = "common/program.rs"]
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use program::{Folder, Ran, device};
use serde_json::Value as Json;

/// Two small members on points that a formula makes.
const BLOBS: &str = "[model]\nkind = \"mlp\"\nhidden = [8]\n[data]\nformat = \"blobs\"\nsamples = 96\nfeatures = 4\nvalidation = 16\n\
    [train]\nsteps = 20\nbatch = 8\nevaluate_every = 10\n[members]\nlearning_rate = [1e-3, 1e-2]\n";

/// Every file of a folder, by its path.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).expect("a readable file"));
        }
    }
    found
}

/// Trains `text` where there is no device: it must be refused before one is looked for, with this place, these words and a next step, and
/// without a trace on disk.
fn refused(folder: &Folder, text: &str, place: &str, words: &[&str]) {
    folder.write("c.toml", text);
    let before = files(&folder.0);
    for check in [&["train", "c.toml"][..], &["train", "c.toml", "--check"]] {
        let ran = folder.run_without_device(check);
        ran.expect(2, &[&[&format!(" {place}"), "\n  help: "], words].concat());
        assert_eq!(ran.stdout, "", "{text}");
        assert!(!ran.stderr.contains("verify"), "the help of another command: {}", ran.stderr);
    }
    assert!(files(&folder.0) == before, "files were written for {text}");
}

#[test]
fn slips_in_the_configuration_are_named_with_their_place() {
    let folder = Folder::new("train", "slips");
    let changed = |from: &str, to: &str| {
        assert!(BLOBS.contains(from), "{from}");
        BLOBS.replace(from, to)
    };
    let zip = "combine = \"zip\"\nlearning_rate = [0.1, 0.2]\nbeta1 = [0.1, 0.2, 0.3]";
    let search = "[search]\nmethod = \"ahsa\"\n";
    for (text, place, words) in [
        (
            changed("learning_rate", "learning_rat"),
            "c.toml:14:1: ",
            &["'learning_rat'", "did you mean 'learning_rate'?"][..],
        ),
        (changed("samples", "sample"), "c.toml:6:1: ", &["in [data]", "did you mean 'samples'?"]),
        (changed("[train]", "[trian]"), "c.toml:9:2: ", &["unknown section [trian]", "did you mean [train]?"]),
        (changed("\"mlp\"", "\"mpl\""), "c.toml:2:8: ", &["'kind' in [model] cannot be 'mpl'", "did you mean 'mlp'?"]),
        (changed("\"blobs\"", "\"cvs\""), "c.toml:5:10: ", &["did you mean 'csv'?"]),
        (changed("steps", "optimiser = \"adma\"\nsteps"), "c.toml:10:13: ", &["did you mean 'adam'?"]),
        (changed("[members]\nlearning_rate", &format!("{search}learning_rate")), "c.toml:15:1: ", &["in [search]"]),
        (changed("[members]\nlearning_rate = [1e-3, 1e-2]\n", search), "c.toml:14:10: ", &["did you mean 'asha'?"]),
        (changed("batch", "momentum = 0.9\nbatch"), "c.toml:11:1: ", &["means nothing to the optimiser 'adam'"]),
        (changed("hidden = [8]", "width = 8"), "c.toml:3:1: ", &["unknown key 'width' in [model]"]),
        (changed("features", "target"), "c.toml:7:1: ", &["unknown key 'target' in [data]"]),
        (changed("batch", "gamma = 0.5\nbatch"), "c.toml:11:1: ", &["schedule = \"step\""]),
        (
            changed("learning_rate = [1e-3, 1e-2]", zip),
            "c.toml:16:1: ",
            &["'learning_rate' has 2 values, but 'beta1' has 3"],
        ),
        (changed("[1e-3, 1e-2]", "[]"), "c.toml:14:17: ", &["'learning_rate' is an empty list"]),
        (changed("[1e-3, 1e-2]", "-1"), "c.toml:14:17: ", &["must be a number above 0"]),
        (changed("batch = 8", "batch = 81"), "c.toml:11:1: ", &["80 samples", "a batch of 81"]),
        (changed("[members]", "[members]\nbatch = [8, 81]"), "c.toml:14:1: ", &["80 samples", "a batch of 81"]),
        (
            changed("batch = 8", "loss = \"mse\""),
            "c.toml:11:1: ",
            &["this loss is for values, but the targets are classes"],
        ),
        (
            changed("validation = 16", "augment = { shift = 2 }"),
            "c.toml:8:1: ",
            &["shift, flip, crop and noise are for images", "[4]"],
        ),
        (changed("kind = \"mlp\"\nhidden = [8]", "kind = \"lenet\""), "c.toml: ", &["samples of shape [4]", "28 x 28"]),
        (
            changed("validation = 16\n", "").replace("[members]", "[search]\n[search.space]"),
            "c.toml: ",
            &["a search compares trials on a validation part"],
        ),
        (changed("validation = 16", "validation = 96"), "c.toml:8:1: ", &["96 of 96 samples for validation"]),
        (changed("validation = 16", "validation = 0.001"), "c.toml:8:1: ", &["leave one part empty"]),
        (changed("validation = 16", "validation = "), "c.toml:8:", &["this is no TOML"]),
        (
            format!("{BLOBS}[search]\n[search.space]\nlearning_rate = [0.1]\n"),
            "c.toml:13:",
            &["[members] and [search] exclude one another"],
        ),
    ] {
        refused(&folder, &text, place, &[&["error[E0201]"], words].concat());
    }
    folder.run_without_device(&["train", "none.toml"]).expect(2, &["error[E0301]: none.toml: ", "help: "]);
    for wrong in [&["train"][..], &["train", "c.toml", "--slots", "0"], &["train", "c.toml", "--check", "--json"]] {
        folder.run_without_device(wrong).expect(2, &["error:", "--help"]);
    }
}

/// A configuration whose data are files.
fn config_of(data: &str) -> String {
    format!("[model]\nkind = \"mlp\"\nhidden = [8]\n[data]\n{data}\n[train]\nsteps = 2\n")
}

/// An NPY file, version 1.
fn npy(descr: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = u16::try_from(header.len()).expect("a short header").to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), elements].concat()
}

fn idx(shape: &[u32], elements: &[u8]) -> Vec<u8> {
    let axes = u8::try_from(shape.len()).expect("few axes");
    [&[0, 0, 8, axes], &shape.iter().flat_map(|d| d.to_be_bytes()).collect::<Vec<_>>()[..], elements].concat()
}

#[test]
fn bad_data_is_named_with_file_and_place() {
    let folder = Folder::new("train", "data");
    folder.write("ragged.csv", "a,b,y\n1,2,0\n3,4\n");
    folder.write("words.csv", "a,b,y\r\n1,2,0\r\n\r\n3,four,1\r\n");
    folder.write("labels.csv", "1,2,0\n3,4,2\n5,6,3\n");
    folder.write("good.csv", "1,2,0\n3,4,2\n5,6,1\n");
    folder.write("wide.csv", "1,2,3,0\n3,4,5,2\n");
    folder.write("more.csv", "1,2,0\n3,4,7\n");
    folder.write("latin.csv", b"1,2,ros\xe9\n");
    let floats: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    folder.write("x.npy", npy("<f4", "(2, 2)", &floats));
    folder.write("y.npy", npy("|u1", "(2,)", &[0, 5]));
    folder.write("three.npy", npy("|u1", "(3,)", &[0, 1, 1]));
    folder.write("bool.npy", npy("|b1", "(2, 2)", &[0, 1, 1, 0]));
    folder.write("cut.npy", npy("<f4", "(2, 2)", &floats[..13]));
    folder.write("x.idx", idx(&[2, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 8]));
    folder.write("cut.idx", idx(&[2, 2, 2], &[1, 2, 3, 4, 5, 6, 7]));
    folder.write("y.idx", idx(&[2], &[0, 4]));
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mnist10k/test-images-idx3-ubyte.gz");
    let packed = std::fs::read(packed).expect("the shipped digits");
    folder.write("damaged.gz", &packed[..packed.len() / 2]);
    let csv = |rest: &str| config_of(&format!("format = \"csv\"\n{rest}"));
    let two = |format: &str, x: &str, y: &str, rest: &str| {
        config_of(&format!("format = \"{format}\"\ninputs = \"{x}\"\ntargets = \"{y}\"\n{rest}"))
    };
    for (text, place, words) in [
        (csv("file = \"ragged.csv\""), "ragged.csv:3:1: ", &["2 fields, but the first has 3"][..]),
        (csv("file = \"words.csv\""), "words.csv:4:3: ", &["column 'b' holds 'four'"]),
        (
            csv("file = \"labels.csv\"\nclasses = 3"),
            "labels.csv:3:5: ",
            &["the label 3, but 3 classes have labels 0 to 2"],
        ),
        (csv("file = \"good.csv\"\ntarget = \"y\""), "good.csv:1:1: ", &["no column 'y'"]),
        (csv("file = \"latin.csv\""), "latin.csv:1:8: ", &["not UTF-8"]),
        (csv("file = \"good.csv\"\ntest_file = \"wide.csv\""), "wide.csv: ", &["shape [3]", "have [2]"]),
        (csv("file = \"good.csv\"\ntest_file = \"more.csv\""), "more.csv: ", &["8 classes", "have 3"]),
        (csv("file = \"none.csv\""), "none.csv: ", &["error[E0301]"]),
        (
            "[model]\nkind = \"transformer\"\n[data]\nformat = \"text\"\nfile = \"words.csv\"\n[members]\ncontext = [4, 8]\n".into(),
            "c.toml:7:1: ",
            &["windows of one length"],
        ),
        (
            two("npy", "x.npy", "y.npy", "classes = 3"),
            "y.npy: ",
            &["the label of sample 1 (from 0) is 5", "labels 0 to 2"],
        ),
        (two("npy", "x.npy", "three.npy", ""), "three.npy: ", &["2 samples, but 3 targets"]),
        (two("npy", "bool.npy", "y.npy", ""), "bool.npy: ", &["error[E0202]", "type that is not read", "float32"]),
        (two("npy", "cut.npy", "y.npy", ""), "cut.npy: ", &["fewer numbers than its header promises"]),
        (two("npy", "x.npy", "y.npy", "layout = \"nchw\""), "x.npy: ", &["[samples, channels, height, width]"]),
        (two("idx", "cut.idx", "y.idx", ""), "cut.idx: ", &["promises [2, 2, 2] bytes, but 7 follow"]),
        (two("idx", "x.idx", "y.idx", "classes = 4"), "y.idx: ", &["the label of sample 1 (from 0) is 4"]),
        (two("idx", "y.idx", "x.idx", ""), "y.idx: ", &["are the two files swapped?"]),
        (two("idx", "damaged.gz", "y.idx", ""), "damaged.gz: ", &["the compressed data is damaged"]),
    ] {
        refused(&folder, &text, place, words);
    }
}

#[test]
fn a_check_trains_nothing_and_needs_no_device() {
    let folder = Folder::new("train", "check");
    folder.write("c.toml", BLOBS);
    let before = files(&folder.0);
    let ran = folder.run_without_device(&["train", "c.toml", "--check", "--folder", "elsewhere"]);
    ran.expect(0, &[]);
    for part in
        ["2 members of 'mlp' into elsewhere", "80 samples to train on, 16 for validation, 0 to test on", "20 steps"]
    {
        assert!(ran.stdout.contains(part), "no '{part}' in {}", ran.stdout);
    }
    folder.run_without_device(&["train", "c.toml"]).expect(4, &["error[E0101]: ", "help: "]);
    assert!(files(&folder.0) == before, "nothing is written before a device is there");
}

fn trained(folder: &Folder, text: &str, arguments: &[&str]) -> Ran {
    folder.write("c.toml", text);
    let ran = folder.run(&[&["train", "c.toml"], arguments].concat());
    ran.expect(0, &[]);
    ran
}

#[test]
fn one_by_one_is_the_same_as_all_at_once() {
    if !device("one_by_one_is_the_same_as_all_at_once") {
        return;
    }
    let folder = Folder::new("train", "slots");
    let table = trained(&folder, BLOBS, &[]);
    for word in [
        "member",
        "learning_rate",
        "correct",
        "finished",
        "40 steps of all members",
        "100 % of the steps",
        "the best network: runs/member-0",
    ] {
        assert!(table.stdout.contains(word), "no '{word}' in {}", table.stdout);
    }
    trained(&folder, BLOBS, &["--slots", "1", "--folder", "alone", "-q"]);
    for member in ["member-0000", "member-0001"] {
        for file in ["model.safetensors", "model.onnx", "checkpoint.safetensors"] {
            let [many, one] = ["runs", "alone"].map(|run| folder.bytes(&format!("{run}/{member}/{file}")));
            assert!(many == one, "{member}/{file}");
        }
    }
    let feed: Json = serde_json::from_str(&folder.read("runs/inputs.json")).expect("JSON");
    assert_eq!(keys(&feed), documented("`inputs.json`")[0]);
    assert_eq!(feed["shape"], Json::from(vec![1, 4]));
    assert_eq!((&feed["outputs"], &feed["scale"]), (&Json::from(4), &Json::from(vec![1.0; 4])));
    for (log, slots) in [("runs/log.jsonl", "\"slots\":2"), ("alone/log.jsonl", "\"slots\":1")] {
        assert!(folder.read(log).contains(slots), "{log}");
    }
}

/// One step of each kind of network on data of its own: what the program puts together fits.
#[test]
fn every_kind_of_network_is_trained() {
    if !device("every_kind_of_network_is_trained") {
        return;
    }
    let folder = Folder::new("train", "kinds");
    folder.write("song.txt", "la la lei lo la la ".repeat(20));
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/mnist10k");
    let digit = |name: &str| format!("{:?}", digits.join(name));
    let idx = format!(
        "format = \"idx\"\ninputs = {}\ntargets = {}\naugment = {{ shift = 1, noise = 0.1 }}",
        digit("test-images-idx3-ubyte.gz"),
        digit("test-labels-idx1-ubyte.gz")
    );
    let text = "format = \"text\"\nfile = \"song.txt\"";
    for (name, model, data, shape) in [
        ("lenet", "kind = \"lenet\"", idx.as_str(), [1, 1, 28, 28].as_slice()),
        ("resnet18", "kind = \"resnet18\"\nwidth = 4", "format = \"images\"\nsamples = 8", &[1, 3, 32, 32]),
        ("pointnet", "kind = \"pointnet\"", "format = \"points\"\npoints = 16\nsamples = 8", &[1, 3, 16]),
        ("transformer", "kind = \"transformer\"\nwidth = 8\nheads = 2\nlayers = 1\ncontext = 8", text, &[1, 8]),
        ("onnx", "kind = \"onnx\"\nfile = \"lenet/member-0000/model.onnx\"", idx.as_str(), &[1, 1, 28, 28]),
    ] {
        let config = format!("[model]\n{model}\n[data]\n{data}\n[train]\nsteps = 1\nbatch = 4\nfolder = \"{name}\"\n");
        let json = trained(&folder, &config, &["--json"]).json();
        assert_eq!((&json["members"][0]["state"], &json["steps"]), (&Json::from("finished"), &Json::from(1)), "{name}");
        let feed: Json = serde_json::from_str(&folder.read(&format!("{name}/inputs.json"))).expect("JSON");
        assert_eq!(feed["shape"], Json::from(shape.to_vec()), "{name}");
        let onnx = wavehull::graph::onnx::read(&folder.0.join(name).join("member-0000/model.onnx"));
        let (network, _) = onnx.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(network.value(network.input).shape, shape, "{name}");
    }
}

#[test]
fn checkpoints_that_do_not_fit_are_refused_and_kept() {
    if !device("checkpoints_that_do_not_fit_are_refused_and_kept") {
        return;
    }
    let folder = Folder::new("train", "checkpoints");
    trained(&folder, BLOBS, &[]);
    // Of all files only the log may grow.
    let but_the_log = || {
        let mut all = files(&folder.0.join("runs"));
        let log = all.remove(&folder.0.join("runs/log.jsonl")).expect("a log");
        (all, log)
    };
    let other = BLOBS.replace("[8]", "[9]");
    let faster = BLOBS.replace("1e-2]", "2e-2]");
    let sgd = BLOBS.replace("batch", "optimiser = \"sgd\"\nbatch");
    let refused = |text: &str, place: &str, words: &[&str]| {
        folder.write("c.toml", text);
        let before = but_the_log();
        let ran = folder.run(&["train", "c.toml"]);
        ran.expect(2, &[&[&format!(" {place}"), "\n  help: "], words].concat());
        let after = but_the_log();
        assert!(after.0 == before.0 && after.1.starts_with(&before.1), "{place}: files were changed");
    };
    let file = |member: &str| format!("runs/{member}/checkpoint.safetensors");
    refused(&other, &file("member-0000"), &["error[E0201]", "another model"]);
    refused(&sgd, &file("member-0000"), &["error[E0201]", "another model"]);
    refused(&faster, &file("member-0001"), &["error[E0201]", "other hyper-parameters"]);
    let whole = folder.bytes(&file("member-0001"));
    let mut torn = whole.clone();
    let at = torn.windows(8).position(|w| w == b"wavehull").expect("the name of the header") + 14;
    torn[at] = b'?';
    for damaged in [&whole[..whole.len() - 3], &whole[..5], &torn[..], b"".as_slice(), b"parameters".as_slice()] {
        folder.write(&file("member-0001"), damaged);
        refused(BLOBS, &file("member-0001"), &["error[E02"]);
    }
    // Another number of steps is another end, not another member: it goes on.
    folder.write(&file("member-0001"), &whole);
    let longer = BLOBS.replace("steps = 20", "steps = 30");
    let json = trained(&folder, &longer, &["--json"]).json();
    assert_eq!(json["steps"], 20, "ten for each");
}

#[test]
fn what_cannot_be_written_or_cannot_fit_is_said_before_training() {
    if !device("what_cannot_be_written_or_cannot_fit_is_said_before_training") {
        return;
    }
    let folder = Folder::new("train", "room");
    folder.write("c.toml", BLOBS);
    folder.write("taken", "not a folder");
    for place in ["taken", "taken/runs"] {
        folder.run(&["train", "c.toml", "--folder", place]).expect(2, &["error[E0301]: taken", "help: "]);
    }
    assert_eq!(folder.read("taken"), "not a folder");
    // Parameters, gradient and two moments of a member take 17 MiB.
    let large = BLOBS.replace("[8]", "[1024, 1024]").replace("steps = 20", "steps = 1");
    let large = large.replace("[members]", "[members]\nseeds = 8");
    folder.write("c.toml", large);
    let arguments = ["train", "c.toml", "--memory", "100", "--slots"];
    let ran = folder.run(&[&arguments[..], &["16"]].concat());
    ran.expect(4, &["error[E0103]: ", "16 slots take", "the budget is 100 MiB", " slots would fit", "--memory"]);
    let fits = ran.stderr.split(" slots would fit").next().and_then(|text| text.split_whitespace().last());
    let fits = fits.expect("a number of slots").to_owned();
    assert!((1..16).contains(&fits.parse::<usize>().expect("a number")), "{fits}");
    folder.run(&[&arguments[..], &[fits.as_str()]].concat()).expect(0, &[]);
    // Unless it is said how many, as many as fit.
    folder.run(&["train", "c.toml", "--memory", "100", "--folder", "fitting"]).expect(0, &[]);
    assert!(folder.read("fitting/log.jsonl").contains(&format!("\"slots\":{fits}")));
    let ran = folder.run(&["train", "c.toml", "--memory", "8", "--slots", "1", "--folder", "none"]);
    ran.expect(4, &["error[E01", "help: ", "--memory"]);
}

/// Names in the first column of the tables of a section of docs/json.md: those of the document, and those of the table in a list.
fn documented(section: &str) -> [BTreeSet<String>; 2] {
    let page = include_str!("../docs/json.md");
    let part =
        page.split("\n## ").find(|part| part.starts_with(section)).unwrap_or_else(|| panic!("no section {section}"));
    ["| `", "  | `"].map(|start| {
        let rows = part.lines().filter(|line| line.starts_with(start));
        let names = rows.filter_map(|line| line.split('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2));
        names.map(str::to_owned).collect()
    })
}

fn keys(json: &Json) -> BTreeSet<String> {
    json.as_object().unwrap_or_else(|| panic!("no object: {json}")).keys().cloned().collect()
}

#[test]
fn json_and_log_are_as_documented() {
    if !device("json_and_log_are_as_documented") {
        return;
    }
    let folder = Folder::new("train", "json");
    let [mut document, member] = documented("`train CONFIG.toml --json`");
    document.insert("schema".to_owned());
    let json = trained(&folder, BLOBS, &["--json"]).json();
    assert_eq!(json["schema"], 1);
    assert_eq!(keys(&json), document);
    let members = json["members"].as_array().expect("members");
    assert_eq!(members.len(), 2);
    for found in members {
        assert_eq!(keys(found), member);
        assert_eq!((&found["state"], &found["steps"]), (&Json::from("finished"), &Json::from(20)));
        assert!(found["loss"].is_f64() && found["test_loss"].is_null(), "{found}");
    }
    // The log: a row of the table an event, its fields in the second column.
    let page = include_str!("../docs/json.md");
    let log = folder.read("runs/log.jsonl");
    let mut events = BTreeSet::new();
    for line in log.lines() {
        let line: Json = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let event = line["event"].as_str().expect("an event");
        let row =
            page.lines().find(|row| row.starts_with(&format!("| `{event}` |"))).unwrap_or_else(|| panic!("{event}"));
        for key in keys(&line).iter().filter(|key| !["event", "time"].contains(&key.as_str())) {
            assert!(row.contains(&format!("`{key}`")), "'{key}' of {event}");
        }
        events.insert(event.to_owned());
    }
    let all = ["start", "member", "scalars", "checkpoint", "left", "end"].map(str::to_owned);
    assert_eq!(events, BTreeSet::from(all));

    folder.write("c.toml", BLOBS.replace("\"blobs\"", "\"blob\""));
    let fault = folder.run(&["train", "c.toml", "--json"]).expect(2, &[]).json();
    assert_eq!((&fault["error"]["code"], &fault["error"]["line"]), (&Json::from("E0201"), &Json::from(5)), "{fault}");
}

#[test]
#[cfg(unix)]
fn ctrl_c_leaves_checkpoints_from_which_the_same_command_goes_on() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};
    if !device("ctrl_c_leaves_checkpoints_from_which_the_same_command_goes_on") {
        return;
    }
    let folder = Folder::new("train", "ctrl-c");
    // Long enough to be stopped on any machine.
    let text = BLOBS.replace("steps = 20", "steps = 200000");
    folder.write("c.toml", &text);
    let mut command = folder.command(&["train", "c.toml", "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let start = Instant::now();
    let log = folder.0.join("runs/log.jsonl");
    while !std::fs::read_to_string(&log).is_ok_and(|text| text.contains("scalars")) {
        assert!(start.elapsed() < Duration::from_secs(120), "it does not begin");
        std::thread::sleep(Duration::from_millis(50));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().is_ok_and(|s| s.success()), "kill -INT {id}");
    let ran: Ran = child.wait_with_output().expect("the program ends").into();
    let json = ran.expect(130, &["stopped: "]).json();
    assert_eq!(json["stopped"], true);
    let reached = json["members"][0]["steps"].as_u64().expect("steps");
    assert!((10..200_000).contains(&reached), "{json}");
    assert!(json["members"].as_array().is_some_and(|m| m.iter().all(|m| m["checkpoint"].is_string())), "{json}");
    // As many steps again, and those that were done are not done twice.
    let ends = reached.next_multiple_of(10) + 10;
    let json = trained(&folder, &BLOBS.replace("steps = 20", &format!("steps = {ends}")), &["--json"]).json();
    let done = json["steps"].as_u64().expect("steps");
    assert!(json["stopped"] == false && done < 2 * ends, "{json}");
    assert!(json["members"].as_array().is_some_and(|m| m.iter().all(|m| m["steps"] == ends)), "{json}");
}
