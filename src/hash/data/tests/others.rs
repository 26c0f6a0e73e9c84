use super::{Scratch, set_of};
use crate::hash::data::split::{select, split};
use crate::hash::data::{Names, Spread, Statistics, Unseen, frequencies, propensities};

fn labelled(n: u32) -> crate::hash::SparseSet {
    let samples: Vec<_> = (0..n).map(|i| (vec![(i, i as f32)], vec![i])).collect();
    set_of(&samples, n as usize, n as usize)
}

#[test]
fn parts_are_disjoint_complete_and_repeatable() {
    let set = labelled(100);
    let (train, test) = split(&set, 20, 7).unwrap();
    assert_eq!((train.len(), test.len()), (80, 20));
    train.check().unwrap();
    let mut all = [train.labels.ids.clone(), test.labels.ids.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    assert!(test.labels.ids.is_sorted() && test.features.ids == test.labels.ids, "samples keep their order and labels");
    assert_eq!(test.values, test.labels.ids.iter().map(|&i| i as f32).collect::<Vec<_>>());
    assert_eq!(split(&set, 20, 7).unwrap().1, test);
    assert_ne!(split(&set, 20, 8).unwrap().1, test);
    assert!(split(&set, 0, 1).is_err() && split(&set, 100, 1).unwrap_err().help().is_some());
    assert_eq!(select(&set, &[5, 5, 2]).unwrap().labels.ids, [5, 5, 2]);
    assert!(select(&set, &[100]).is_err());
}

#[test]
fn names_are_found_both_ways() {
    let scratch = Scratch::new();
    let path = scratch.file("names", "libc6\r\nperl\nbash\nperl-base\n\n");
    let names = Names::read(&path, 4).unwrap();
    assert_eq!(
        (names.get(1), names.get(4), names.find("bash"), names.find("per")),
        (Some("perl"), None, Some(2), None)
    );
    assert_eq!(
        (names.starting("perl", 9), names.starting("perl", 1), names.starting("x", 1)),
        (vec![1, 3], vec![1], vec![])
    );
    let twice = Names::new(["b", "a", "b"].map(str::to_owned).to_vec());
    assert_eq!(twice.find("b"), Some(0));
    let again = scratch.0.join("again");
    names.write(&again).unwrap();
    assert_eq!(Names::read(&again, 4).unwrap(), names);
}

#[test]
fn names_that_do_not_fit_are_told_with_the_line() {
    let scratch = Scratch::new();
    for (text, count, place, what) in [
        (&b"a\nb\n"[..], 3, (3, 1), "2 names for 3 ids"),
        (b"a\nb\nc", 2, (3, 1), "3 names for 2 ids"),
        (b"a\n\nc", 3, (2, 1), "an empty line"),
        (b"a\n\xff\n", 2, (2, 1), "not UTF-8"),
        (b"", 1, (1, 1), "0 names for 1 ids"),
    ] {
        let error = Names::read(&scratch.file("n", text), count).unwrap_err();
        assert!(error.message().contains(what) && error.help().is_some(), "{error}");
        assert_eq!(error.place().and_then(|p| p.position), Some(place), "{error}");
    }
}

#[test]
fn figures_of_a_set() {
    let set =
        set_of(&[(vec![(0, 1.0), (1, 1.0)], vec![0, 1, 3]), (vec![(1, 1.0)], vec![]), (vec![(1, 2.0)], vec![1])], 3, 5);
    let figures = Statistics::of(&set);
    assert_eq!((figures.samples, figures.features_seen, figures.labels_seen), (3, 2, 3));
    assert_eq!(figures.labels_a_sample, Spread { mean: 4.0 / 3.0, median: 1, max: 3 });
    assert_eq!(figures.bytes, 4 * (4 + 4 + 4) + 8 * (4 + 4));
    assert_eq!(Spread::of(&crate::hash::set::Lists::default()), Spread::default());
    let seen = frequencies(&set.labels, 5);
    assert_eq!(seen, [1, 2, 0, 1, 0]);
    let test = set_of(&[(vec![], vec![2, 4]), (vec![], vec![0, 2]), (vec![], vec![])], 3, 5);
    assert_eq!(Unseen::of(&seen, &test), Unseen { labels: 2, occurrences: 3, samples: 1 });
}

#[test]
fn propensities_of_the_paper() {
    // N = 10,000, a = 0.55, b = 1.5: C = 8.2103 * 2.5^0.55 = 13.590; n = 0: 1 / (1 + 13.590 * 1.5^-0.55).
    let p = propensities(&[0, 1, 100, 10_000], 10_000, 0.55, 1.5);
    let c = (10_000_f64.ln() - 1.0) * 2.5_f64.powf(0.55);
    assert!((c - 13.590).abs() < 1e-3);
    assert!((p[0] - 1.0 / (1.0 + c / 1.5_f64.powf(0.55))).abs() < 1e-12 && (p[0] - 0.0842).abs() < 1e-4, "{}", p[0]);
    assert!(p.windows(2).all(|w| w[0] < w[1]) && p[3] < 1.0);
}
