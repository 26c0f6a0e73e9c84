//! Configurations that are right, and the words for those that are not.

use super::*;
use crate::train::search::Goal;

const HEAD: &str = "[model]\nkind = \"mlp\"\n[data]\nformat = \"blobs\"\n";

fn parse(rest: &str) -> Result<Config> {
    Config::parse(&format!("{HEAD}{rest}"), Path::new("here"))
}

/// Line (within the part after HEAD, from 1) and message of what is refused.
fn said(rest: &str) -> (usize, String) {
    let error = parse(rest).expect_err(rest);
    let line = error.place().and_then(|p| p.position).map_or(0, |p| p.0);
    (line.saturating_sub(4), error.message().to_owned())
}

#[test]
fn defaults_and_everything() {
    let config = parse("").expect("a small file");
    assert_eq!(config.members, [Member { seed: 0, hyper: Hyper::new() }]);
    assert_eq!((config.train.length, config.train.optimiser), (Length::Epochs(10), Optimiser::Adam));
    assert_eq!(config.data.load(0).expect("a set").train.len(), 1000);
    let text = "[model]\nkind = \"mlp\"\nhidden = [32, 16]\n[data]\nformat = \"idx\"\ninputs = \"a\"\ntargets = \"b\"\n\
        validation = 0.1\naugment = { shift = 2, noise = 0.1 }\n[train]\nsteps = 50\noptimiser = \"sgd\"\nmomentum = 0.9\n\
        schedule = \"step\"\nevery = 5\nseed = 3\n\
        [members]\nlearning_rate = { from = 1e-4, to = 1e-1, count = 4, scale = \"log\" }\nbatch = [32, 64]\nseeds = 2\n";
    let config = Config::parse(text, Path::new("here")).expect("a large file");
    assert_eq!(config.data.source, Source::Idx("here/a".into(), "here/b".into()));
    assert_eq!((config.members.len(), config.shape_classes().len()), (16, 2));
    let last = &config.members[15];
    assert_eq!((last.seed, last.hyper.number("learning_rate"), last.hyper.count("batch")), (4, 0.1, 64));
    assert_eq!((last.hyper.widths("hidden"), last.hyper.number("noise")), (vec![32, 16], 0.1));
    assert!((config.members[4].hyper.number("learning_rate") - 1e-3).abs() < 1e-15);
}

#[test]
fn lists_side_by_side() {
    let zip = "[members]\ncombine = \"zip\"\nlearning_rate = [0.1, 0.2]\nhidden = [[8], [8, 8]]\nbeta1 = 0.5\n";
    let config = parse(zip).expect("lists of one length");
    assert_eq!(config.members.len(), 2);
    assert_eq!(config.members[1].hyper.widths("hidden"), [8, 8]);
    assert_eq!(config.members[1].hyper.number("beta1"), 0.5);
    let (line, words) = said("[members]\ncombine = \"zip\"\nlearning_rate = [0.1, 0.2]\nbeta1 = [0.1, 0.2, 0.3]\n");
    assert_eq!((line, words.as_str()), (4, "'learning_rate' has 2 values, but 'beta1' has 3"));
}

#[test]
fn a_search() {
    let text = "[train]\nepochs = 81\n[search]\nmethod = \"asha\"\nmetric = \"accuracy\"\n\
        [search.space]\nlearning_rate = { from = 1e-4, to = 0.1, scale = \"log\" }\nhidden = [[8], [16]]\n";
    let config = parse(text).expect("a search");
    let search = config.search.as_ref().expect("a search");
    assert_eq!((search.ladder.most, search.goal, search.trials), (81, Goal::Maximise, 81));
    assert_eq!(config.searcher().expect("rungs").expect("a search").ask(5).len(), 5);
    assert!(said(&format!("{text}[members]\nseeds = 2\n")).1.contains("exclude one another"));
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (rest, line, words) in [
        ("[members]\nlearning_rat = 1\n", 2, "unknown key 'learning_rat' in [members]: did you mean 'learning_rate'?"),
        ("[train]\nepoch = 1\n", 2, "unknown key 'epoch' in [train]: did you mean 'epochs'?"),
        ("[membrs]\n", 1, "unknown section [membrs]: did you mean [members]?"),
        ("classes = \"ten\"\n", 1, "'classes' in [data] is a text, but must be a whole number from 1 to 1073741824"),
        ("featurs = 3\n", 1, "unknown key 'featurs' in [data]: did you mean 'features'?"),
        ("validation = 1.5\n", 1, "'validation' in [data] is 1.5, but must be a share below 1"),
        ("augment = { flop = true }\n", 1, "unknown key 'flop' in [data] augment: did you mean 'flip'?"),
        ("[train]\nepochs = 0\n", 2, "'epochs' in [train] is 0, but must be a whole number from 1 to 2147483648"),
        ("[train]\nepochs = 1\nsteps = 1\n", 3, "[train] has both 'epochs' and 'steps'"),
        ("[train]\noptimiser = \"adma\"\n", 2, "'optimiser' in [train] cannot be 'adma': did you mean 'adam'?"),
        ("[train]\nmomentum = 0.9\n", 2, "'momentum' means nothing to the optimiser 'adam'"),
        ("[train]\nlearning_rate = -1\n", 2, "'learning_rate' is -1, but must be a number above 0"),
        ("[members]\nwidth = [1, 2]\n", 2, "'width' means nothing to a model of kind 'mlp'"),
        ("[members]\nbatch = [16,\n 0.5]\n", 3, "'batch' is 0.5, but must be a whole number"),
        ("[members]\nseeds = [1, -1]\n", 2, "a seed is a whole number"),
        ("[members]\nbeta1 = { from = 0.1, to = 0.9 }\n", 2, "the range of 'beta1' needs 'count'"),
        ("[search]\neta = 1\n", 2, "'eta' in [search] is 1"),
        ("[train]\nseed = \n", 2, "this is no TOML"),
        ("[members]\nradius = [0.1, 0.2]\n", 2, "'radius' means nothing to this loss; it is for loss = \"certified\""),
        ("[train]\nloss = \"certified\"\nlabel_smoothing = 0.1\n", 3, "'label_smoothing' means nothing to loss"),
        ("[train]\nloss = \"certified\"\nradius = 1.5\n", 3, "'radius' is 1.5, but must be a number at least 0"),
        ("[train]\nloss = \"certifed\"\n", 2, "did you mean 'certified'?"),
    ] {
        let (at, message) = said(rest);
        assert!(message.contains(words), "{rest}: {message}");
        assert_eq!(at, line, "{rest}: {message}");
    }
    let error = Config::parse("[data]\nformat = \"blobs\"\n", Path::new("")).expect_err("no model");
    assert_eq!(error.message(), "there is no section [model]");
}

#[test]
fn certified_training() {
    let text = "[train]\nloss = \"certified\"\nradius_ramp = 0.4\n[members]\nradius = [0.05, 0.1]\nkappa = 0.3\n";
    let config = parse(text).expect("two radii");
    let hyper = &config.members[1].hyper;
    assert_eq!(["radius", "radius_ramp", "kappa", "certify_at"].map(|k| hyper.number(k)), [0.1, 0.4, 0.3, 0.0]);
    for (more, words) in
        [("normalise = \"standard\"", "normalise = \"standard\""), ("augment = { noise = 0.1 }", "noise")]
    {
        let (_, message) = said(&format!("{more}\n{text}"));
        assert!(message.contains("from 0 to 1") && message.contains(words), "{message}");
    }
    for (model, words) in [
        ("kind = \"mlp\"\nactivation = \"tanh\"", "this activation"),
        ("kind = \"mlp\"\ndropout = 0.2", "'dropout'"),
        ("kind = \"lenet\"", "'lenet'"),
    ] {
        let text = format!("[model]\n{model}\n[data]\nformat = \"images\"\n{text}");
        let error = Config::parse(&text, Path::new("")).expect_err("no bounds");
        assert!(error.message().contains("no bounds for") && error.message().contains(words), "{error}");
        assert!(error.help().is_some_and(|help| help.contains("relu")));
    }
    for example in ["robust", "standard", "lenet", "blobs"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/configs");
        Config::read(&folder.join(format!("{example}.toml"))).expect(example);
    }
}

/// The example of the reference is read as it stands there, and the reference has every hyper-parameter.
#[test]
fn the_reference_holds() {
    let page = include_str!("../../../docs/train.md");
    let examples: Vec<&str> = page.split("```toml").skip(1).filter_map(|t| t.split("```").next()).collect();
    let [first, search, example] = examples[..] else { panic!("{} examples", examples.len()) };
    assert_eq!(Config::parse(first, Path::new("")).expect("the first training").members.len(), 16);
    assert!(Config::parse(&format!("{HEAD}{search}"), Path::new("")).expect("a search").search.is_some());
    let config = Config::parse(example, &Path::new(env!("CARGO_MANIFEST_DIR")).join("data")).expect("the example");
    assert_eq!((config.members.len(), config.shape_classes().len()), (16, 1));
    let loaded = config.data.load(0).expect("the shipped digits");
    let parts = [Some(&loaded.train), loaded.validation.as_ref(), loaded.test.as_ref()].map(|p| p.map(|p| p.len()));
    assert_eq!(parts, [Some(7200), Some(800), Some(2000)]);
    assert!(KEYS.iter().all(|key| page.contains(&format!("`{}`", key.name))));
    assert!(schedule::KNOWN.iter().all(|key| page.contains(&format!("`{key}`"))));
}
