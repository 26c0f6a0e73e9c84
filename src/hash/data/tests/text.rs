use super::{Scratch, set_of};
use crate::hash::data::text::{Corpus, SkipGram};

fn plain(min_count: u64, window: usize) -> SkipGram {
    SkipGram { min_count, window, subsample: None, seed: 0 }
}

fn corpus(text: &str, options: &SkipGram) -> Corpus {
    Corpus::read_from(text.as_bytes(), options).unwrap()
}

fn words(corpus: &Corpus) -> Vec<&str> {
    corpus.tokens.iter().map(|&t| corpus.words.get(t).unwrap()).collect()
}

#[test]
fn a_word_is_a_run_of_letters_in_lower_case() {
    let read = corpus("The cat's 2nd\nHAT, the Éclair—the e\u{301}nd", &plain(1, 1));
    assert_eq!(words(&read), ["the", "cat", "s", "nd", "hat", "the", "éclair", "the", "e", "nd"]);
    // By falling frequency, then by the alphabet.
    let all: Vec<_> = (0..7).map(|id| read.words.get(id).unwrap()).collect();
    assert_eq!(all, ["the", "nd", "cat", "e", "hat", "s", "éclair"]);
    assert_eq!(read.counts, [3, 2, 1, 1, 1, 1, 1]);
    assert_eq!((read.read, read.rare, read.thinned), (10, 0, 0));
    let long = format!("{} {}", "a".repeat(150), "a".repeat(100));
    assert_eq!(corpus(&long, &plain(1, 1)).counts, [2]);
}

#[test]
fn labels_are_the_distinct_words_of_the_window() {
    // Ids: a 0, b 1, c 2.
    let kept = corpus("a b a c a c rare b a", &plain(2, 2));
    assert_eq!(kept.tokens, [0, 1, 0, 2, 0, 2, 1, 0], "what is rare leaves no gap");
    assert_eq!((kept.read, kept.rare), (9, 1));
    let sample = |word: u32, labels: &[u32]| (vec![(word, 1.0)], labels.to_vec());
    let expected = set_of(
        &[
            sample(0, &[0, 1]),
            sample(1, &[0, 2]),
            sample(0, &[0, 1, 2]),
            sample(2, &[0, 1, 2]),
            sample(0, &[0, 1, 2]),
            sample(2, &[0, 1, 2]),
            sample(1, &[0, 2]),
            sample(0, &[1, 2]),
        ],
        3,
        3,
    );
    let set = kept.samples(0..kept.len());
    set.check().unwrap();
    assert_eq!(set, expected);
    // A part is that part of the whole.
    let part = kept.samples(3..6);
    assert_eq!(part.labels.row(0), set.labels.row(3));
    assert_eq!((part.len(), kept.samples(7..99).len(), kept.samples(9..9).len()), (3, 1, 0));
    assert!(kept.bytes(8) >= 8 * (8 + 4 + 4 + 8 + 4 * 3));
}

#[test]
fn frequent_words_are_thinned_as_word2vec_does() {
    // "the" is half of 40,000 words; the others are 2,000 words of ten each.
    let name = |i: usize| format!("w{}{}{}", letter(i / 676), letter(i / 26 % 26), letter(i % 26));
    let text: Vec<String> = (0..20_000).map(|i| format!("the {}", name(i % 2000))).collect();
    let text = text.join(" ");
    let options = SkipGram { min_count: 1, window: 2, subsample: Some(1e-3), seed: 5 };
    let read = corpus(&text, &options);
    let kept = read.tokens.iter().filter(|&&t| t == 0).count() as f64;
    // (sqrt(500) + 1) / 500 = 0.0467; five standard deviations of a binomial of 20,000.
    let expected = ((0.5_f64 / 1e-3).sqrt() + 1.0) * 1e-3 / 0.5 * 20_000.0;
    assert!((kept - expected).abs() < 5.0 * expected.sqrt(), "{kept} of {expected}");
    assert_eq!(read.tokens.len() as f64 - kept, 20_000.0, "words below the share stay");
    assert_eq!(read.thinned, 40_000 - read.tokens.len() as u64);
    assert_eq!(read, corpus(&text, &options));
    assert_ne!(read.tokens, corpus(&text, &SkipGram { seed: 6, ..options }).tokens);
}

fn letter(i: usize) -> char {
    char::from(b'a' + u8::try_from(i % 26).unwrap())
}

#[test]
fn characters_across_the_cuts_of_reading_stay_whole() {
    let text = format!("x{} yy {}", "é ".repeat(700_000), "yy ".repeat(10));
    let read = corpus(&text, &plain(1, 1));
    assert_eq!(read.counts, [699_999, 11, 1]);
    assert_eq!(read.words.find("xé"), Some(2));
}

#[test]
fn bad_texts_are_told() {
    let error = |bytes: &[u8], options: &SkipGram| Corpus::read_from(bytes, options).unwrap_err();
    let no_text = error(b"one two\nth\xe9e four", &plain(1, 1));
    assert_eq!(no_text.place().and_then(|p| p.position), Some((2, 3)));
    assert!(no_text.help().unwrap().contains("iconv"));
    assert_eq!(error(b"one two \xc3", &plain(1, 1)).place().and_then(|p| p.position), Some((1, 9)));
    assert!(error(b"", &plain(1, 1)).message().contains("0 are left"));
    assert!(error(b"a b c d", &plain(5, 1)).message().contains("of 4 words 0 are left"));
    assert!(Corpus::read_from(&b"a b"[..], &plain(1, 0)).is_err());
    assert!(error(b"a b", &SkipGram { subsample: Some(f64::NAN), ..plain(1, 1) }).help().is_some());
    let scratch = Scratch::new();
    let path = scratch.file("t.gz", [0x1f, 0x8b, 8, 0, 0]);
    assert!(
        Corpus::read(&path, &plain(1, 1)).unwrap_err().to_string().contains("t.gz:1:1: the compressed data is cut off")
    );
}
