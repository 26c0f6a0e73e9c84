//! The benchmarks themselves: that they choose, measure, and notice wrong answers.

use std::collections::BTreeSet;

use super::*;

fn spec(name: &str, group: &'static str, roof: Option<&'static str>) -> Spec {
    Spec::new(group, name, roof, |_| Ok(Done::Skipped(String::new())))
}

fn names(plan: &Plan) -> Result<Vec<String>> {
    let all = vec![
        spec("copy", "device", None),
        spec("fma_rate", "device", None),
        spec("reduce_sum", "memory", Some("copy")),
    ];
    Ok(chosen(plan, all)?.into_iter().map(|s| s.name).collect())
}

#[test]
fn a_plan_brings_the_roofs_of_what_it_names() {
    let only = |pattern: &str| Plan { only: Some(pattern.to_owned()), ..Plan::default() };
    assert_eq!(names(&only("sum")).expect("one"), ["copy", "reduce_sum"]);
    assert_eq!(names(&only("memory")).expect("a group"), ["copy", "reduce_sum"]);
    assert_eq!(names(&Plan { groups: vec!["device"], ..Plan::default() }).expect("a group"), ["copy", "fma_rate"]);
    assert_eq!(names(&Plan::default()).expect("all").len(), 3);
    let error = names(&only("nothing")).expect_err("no entry");
    assert!(error.help().is_some_and(|h| h.contains("device, memory")), "{error}");
}

/// A device, or a named skip; a missing one is a failure where `WAVEHULL_REQUIRE_GPU` is 1.
pub(super) fn device(test: &str) -> Option<Gpu> {
    match Gpu::open(&Options { checked: true, ..Options::default() }) {
        Ok(gpu) => {
            eprintln!("{test}: on {}", gpu.caps());
            Some(gpu)
        }
        Err(error) => {
            let required = std::env::var_os("WAVEHULL_REQUIRE_GPU").is_some_and(|v| v == "1");
            assert!(!required, "{test}: {error}");
            eprintln!("skipped: {test}: {error}");
            None
        }
    }
}

#[test]
fn quick_entries_are_right_on_this_device() {
    let Some(gpu) = device("quick_entries_are_right_on_this_device") else { return };
    for group in ["device", "memory", "kernels", "pack", "hash"] {
        let plan = Plan { groups: vec![group], quick: true, ..Plan::default() };
        let report = run(&gpu, &plan, &Control::default()).expect("a report");
        for entry in &report.entries {
            assert_eq!(entry.check, "ok", "{}", entry.name);
            assert!(entry.rate.is_some_and(|rate| rate > 0.0), "{entry:?}");
        }
        assert!(report.entries.iter().any(|e| e.group == group && e.name != "copy"), "{}", report.table());
    }
}

/// Names in the first column of a section's table of docs/json.md, and the groups that it lists.
fn documented() -> (BTreeSet<String>, Vec<String>) {
    let page = include_str!("../../docs/json.md");
    let part = page.split("\n## ").find(|part| part.starts_with("`bench --json`")).expect("a section");
    let words = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows: Vec<&str> = part.lines().filter(|line| line.starts_with("| `")).collect();
    let names = rows.iter().filter_map(|row| row.split('|').nth(1)).flat_map(words).collect();
    let groups = rows.iter().find_map(|row| row.split("groups: ").nth(1)).map(words).expect("groups");
    (names, groups)
}

#[test]
fn every_key_of_an_entry_and_every_group_is_documented() {
    let kernel = KernelTime { name: "k".into(), seconds: 1.0, dispatches: 1 };
    let entry = Entry { bound: Some(1.0), kernels: vec![kernel], ..report::tests::entry("x", 1.0, 0.0) };
    let json = serde_json::to_value(entry).expect("JSON");
    let keys: BTreeSet<String> = json.as_object().expect("an object").keys().cloned().collect();
    let (names, groups) = documented();
    assert_eq!((keys, groups.iter().map(String::as_str).collect::<Vec<_>>()), (names, GROUPS.to_vec()));
    let Some(gpu) = device("every_key_of_an_entry_and_every_group_is_documented") else { return };
    let (control, plan) = (Control::default(), Plan { quick: true, ..Plan::default() });
    let meter = Meter::new(&gpu, &control, Effort::new(true));
    let context = Context { gpu: &gpu, plan: &plan, meter, rates: RefCell::default() };
    let mut found: Vec<&str> = all(&context).iter().map(|spec| spec.group).collect();
    found.dedup();
    let order: Vec<&str> = GROUPS.iter().copied().filter(|group| found.contains(group)).collect();
    let known: BTreeSet<&str> = found.iter().copied().collect();
    assert_eq!(order.len(), known.len(), "{found:?}");
}

/// What a step must move stands beside samples a second, and the roof is that of bytes.
#[test]
fn steps_of_very_many_labels_say_what_they_move() {
    let Some(gpu) = device("steps_of_very_many_labels_say_what_they_move") else { return };
    let plan = Plan { only: Some("step_uniform".to_owned()), quick: true, ..Plan::default() };
    let report = run(&gpu, &plan, &Control::default()).expect("a report");
    let entry = |name: &str| report.entries.iter().find(|e| e.name.starts_with(name)).expect("an entry");
    let [lazy, half, dense] = ["step_uniform_lazy_1", "step_uniform_lazy_bf16", "step_uniform_dense"].map(entry);
    for one in [lazy, half, dense] {
        let (bound, share) = (one.bound.expect("bytes"), one.share.expect("a share"));
        let copy = entry("copy").rate.expect("a rate");
        assert!((share - bound / one.seconds.expect("seconds") / copy).abs() <= 1e-9 * share, "{one:?}");
        assert_eq!((one.unit.as_str(), one.work), ("samples", Some(32.0)));
    }
    // Rows in bf16 are a sixth shorter, read and written with their state; a dense step takes all rows.
    let bytes = |e: &Entry| e.bound.expect("bytes");
    assert!(bytes(half) < 0.9 * bytes(lazy) && bytes(lazy) < 0.9 * bytes(dense), "{}", report.table());
    // Weights and two tables of state of all 1,501 rows of 36 columns, read and written.
    assert!(bytes(dense) >= 1501.0 * 36.0 * 24.0, "{dense:?}");
}

#[test]
fn quick_analyses_are_right_and_say_where_the_time_went() {
    let Some(gpu) = device("quick_analyses_are_right_and_say_where_the_time_went") else { return };
    for only in ["resnet", "input_splits"] {
        let plan = Plan { only: Some(only.to_owned()), quick: true, ..Plan::default() };
        let report = run(&gpu, &plan, &Control::default()).expect("a report");
        eprintln!("{}\n{}", report.table(), report.kernel_table());
        for entry in report.entries.iter().filter(|entry| entry.group == "verify") {
            if entry.name.starts_with("resnet34") {
                assert!(entry.check.starts_with("n/a: "), "{entry:?}");
                continue;
            }
            assert_eq!(entry.check, "ok", "{}", entry.name);
            let timed = gpu.caps().timestamps && only == "resnet";
            assert_eq!(entry.kernels.iter().any(|kernel| kernel.name == "map_conv" && kernel.dispatches > 0), timed);
            assert!(entry.rate.is_some_and(|rate| rate > 0.0), "{entry:?}");
        }
    }
}

#[test]
fn a_wrong_answer_is_an_error_row_and_the_run_goes_on() {
    let Some(gpu) = device("a_wrong_answer_is_an_error_row_and_the_run_goes_on") else { return };
    let control = Control::default();
    let plan = Plan { quick: true, ..Plan::default() };
    let meter = Meter::new(&gpu, &control, Effort::new(true));
    let context = Context { gpu: &gpu, plan: &plan, meter, rates: RefCell::default() };
    let out = oracle::poisoned(&gpu, &[64]).expect("64 numbers");
    // Nothing is recorded that writes `out`, so its poison must be noticed.
    let check = || oracle::near("element 0", f64::from(out.to_array(&gpu)?[[0]]), 0.0, 1e30);
    let done = context.measure(1.0, "FLOP", &|_| Ok(()), check).and_then(Measured::done);
    let entry = context.entry(&spec("broken", "memory", None), done);
    assert!(entry.failed() && entry.seconds.is_none(), "{entry:?}");
    assert!(entry.check.contains("wrong answer"), "{}", entry.check);
}

#[test]
fn a_cancelled_run_reports_what_it_has() {
    let Some(gpu) = device("a_cancelled_run_reports_what_it_has") else { return };
    let control = Control::default();
    control.cancel.cancel();
    let report = run(&gpu, &Plan { quick: true, ..Plan::default() }, &control).expect("a report");
    assert!(report.stopped && report.entries.is_empty());
    assert!(report.table().contains("stopped before the end"));
}
