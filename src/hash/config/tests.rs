use std::path::Path;

use super::{Config, Length, Mode, SampleChoice, Source, Update};

fn parse(text: &str) -> crate::Result<Config> {
    Config::parse(text, Path::new("there"))
}

fn said(text: &str) -> String {
    let error = parse(text).expect_err(text);
    let place = error.place().and_then(|p| p.position);
    format!("{place:?} {error}")
}

const DATA: &str = "[data]\ntrain = \"a.txt\"\n";

#[test]
fn a_file_says_what_it_wants_and_the_rest_is_the_default() {
    let config =
        parse(&format!("{DATA}[train]\nepochs = 3\n[active]\nmode = \"neighbours\"\n[hash]\ntables = 9")).unwrap();
    assert_eq!(config.length, Length::Epochs(3));
    assert_eq!((config.options.mode, config.options.lsh.tables), (Mode::Neighbours, 9));
    assert_eq!(config.data.source, Source::Files { train: "there/a.txt".into(), test: None });
    assert_eq!(config.folder, Path::new("there/runs/hash"));
}

#[test]
fn slide_says_which_candidates_it_takes() {
    let choice = |text: &str| parse(&format!("{DATA}[active]\nmode = \"slide\"\n{text}")).map(|c| c.options.choice);
    assert_eq!(choice("").unwrap(), SampleChoice::First);
    assert_eq!(choice("choice = \"first\"").unwrap(), SampleChoice::First);
    assert_eq!(choice("choice = \"most\"").unwrap(), SampleChoice::Most);
    assert_eq!(choice("choice = { at_least = 3 }").unwrap(), SampleChoice::AtLeast(3));
    for (wrong, said) in [
        ("choice = \"last\"", "is no choice"),
        ("choice = 3", "is no choice"),
        ("choice = {}", "needs 'at_least'"),
        ("choice = { at_least = 0 }", "from 1 to 1024"),
        ("choice = { at_lest = 1 }", "did you mean 'at_least'?"),
        ("choice = { at_least = 51 }", "50 hash tables"),
    ] {
        let error = choice(wrong).expect_err(wrong);
        assert!(error.to_string().contains(said) && error.place().is_some(), "{wrong}: {error}");
    }
    assert!(said(&format!("{DATA}[active]\nchoice = \"most\"")).contains("'choice' means nothing to the mode"));
}

#[test]
fn recall_is_of_hash_tables() {
    let recall = |mode: &str| parse(&format!("{DATA}[train]\nrecall = true\n[active]\nmode = \"{mode}\""));
    assert!(recall("neighbours").unwrap().recall && !parse(DATA).unwrap().recall);
    let error = recall("uniform").expect_err("no tables");
    assert!(error.to_string().contains("'recall' means nothing to the mode 'uniform'"), "{error}");
    assert_eq!(error.place().and_then(|place| place.position), Some((4, 1)));
}

#[test]
fn a_preset_gives_way_to_what_the_file_says() {
    let config = parse(&format!("preset = \"slide-amazon-670k\"\n{DATA}[train]\nrows = \"catch-up\"")).unwrap();
    let options = config.options;
    assert_eq!((options.mode, options.lsh.codes, options.lsh.tables), (Mode::Slide, 8, 50));
    assert_eq!(options.update, Update::CatchUp);
    assert!((options.learning_rate - 1e-4).abs() < 1e-12);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    assert!(said("").contains("there is no section [data]"));
    assert!(said(&format!("{DATA}[train]\nepohcs = 3")).starts_with("Some((4, 1))"));
    assert!(said(&format!("{DATA}[train]\nepohcs = 3")).contains("did you mean 'epochs'?"));
    assert!(said(&format!("{DATA}[active]\nmode = \"slid\"")).contains("did you mean 'slide'?"));
    assert!(said(&format!("{DATA}[active]\nmode = \"full\"\nnegatives = 5")).contains("'negatives' means nothing"));
    assert!(said(&format!("{DATA}[hash]\ntables = 5")).contains("looks nothing up"));
    assert!(said(&format!("{DATA}[train]\nepochs = 1\nsteps = 5")).contains("exclude one another"));
    assert!(said("preset = \"slide\"\n[data]\ntrain = \"a\"").contains("cannot be 'slide'"));
    assert!(said("[data]\nformat = \"text\"\ntrain = \"a\"").contains("means nothing to format = \"text\""));
    assert!(
        said(&format!("{DATA}[train]\noptimiser = \"sgd\"\nbeta1 = 0.9")).contains("means nothing to this optimiser")
    );
    assert!(said(&format!("{DATA}[model]\nweights = \"bf16\"")).contains("weights in bf16"));
}
