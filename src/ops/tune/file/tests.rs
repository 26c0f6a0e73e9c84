use super::{Reader, choices, path, read, text, write};
use crate::gpu::Caps;
use std::path::PathBuf;

fn caps(name: &str) -> Caps {
    Caps { name: name.to_owned(), ..Caps::of_nothing() }
}

fn folder(test: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("wavehull-tuning-{}-{test}", std::process::id()));
    // Of an earlier process with this number.
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

#[test]
fn a_table_comes_back_from_its_file() {
    let folder = folder("a_table_comes_back_from_its_file");
    let caps = caps("A \"GPU\" \\ of \u{b5}s\twith a tab");
    let file = path(&folder, &caps);
    assert_eq!(read(&file, &caps), [], "there is no file yet");
    caps.tuning.set("matmul/large", "tiled 128x128");
    caps.tuning.set("matmul/narrow", "direct 16x4");
    write(&file, &caps);
    assert_eq!(read(&file, &caps), caps.tuning.entries());
    caps.tuning.set("matmul/large", "tiled 64x64");
    write(&file, &caps);
    assert_eq!(read(&file, &caps), caps.tuning.entries(), "a second write replaces the first");
    assert_eq!(std::fs::read_dir(&folder).expect("the folder").count(), 1, "nothing else is left behind");
    std::fs::remove_dir_all(&folder).expect("ours");
}

#[test]
fn a_file_of_another_device_driver_or_version_does_not_count() {
    let ours = caps("ours");
    ours.tuning.set("matmul/large", "tiled 128x128");
    let text = text(&ours);
    assert_eq!(choices(&text, &ours).map(|found| found.len()), Ok(1));
    let newer = Caps { driver: "newer".to_owned(), ..ours.clone() };
    let other = Caps { backend: "other".to_owned(), ..ours.clone() };
    for caps in [caps("theirs"), newer, other] {
        assert!(choices(&text, &caps).is_err(), "{caps}");
    }
    let version = format!("\"wavehull\": \"{}\"", crate::VERSION);
    assert!(text.contains(&version), "{text}");
    assert!(choices(&text.replace(&version, "\"wavehull\": \"0.0.0\""), &ours).is_err());
    assert!(choices(&text.replace("\"schema\": \"1\"", "\"schema\": \"2\""), &ours).is_err());
}

#[test]
fn corrupt_files_are_no_choices() {
    let folder = folder("corrupt_files_are_no_choices");
    let caps = caps("ours");
    caps.tuning.set("matmul/large", "tiled 128x128");
    let (file, good) = (path(&folder, &caps), text(&caps));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    for end in (0..good.trim_end().len()).filter(|&end| good.is_char_boundary(end)) {
        assert!(choices(&good[..end], &caps).is_err(), "cut at {end}");
    }
    for bad in ["", "{}", "[]", "{\"a\": 1}", "{\"a\": \"b\"} x", "{\"a\": \"\\q\"}", "{\"a\": \"\\u12\"}", "\u{0}"] {
        std::fs::write(&file, bad).expect("a temporary file");
        assert_eq!(read(&file, &caps), [], "{bad:?}");
    }
    std::fs::write(&file, [0xff, 0xfe, 0x00]).expect("a temporary file");
    assert_eq!(read(&file, &caps), [], "no UTF-8");
    std::fs::write(&file, " ".repeat(70_000) + &good).expect("a temporary file");
    assert_eq!(read(&file, &caps), [], "too long");
    write(&file, &caps);
    assert_eq!(read(&file, &caps), caps.tuning.entries(), "a bad file is rewritten");
    std::fs::remove_dir_all(&folder).expect("ours");
}

#[test]
fn a_folder_that_cannot_be_made_is_no_failure() {
    let folder = folder("a_folder_that_cannot_be_made_is_no_failure");
    std::fs::write(&folder, "a file where the folder should be").expect("a temporary file");
    let caps = caps("ours");
    let file = path(&folder, &caps);
    write(&file, &caps);
    assert_eq!(read(&file, &caps), []);
    std::fs::remove_file(&folder).expect("ours");
}

#[test]
fn strings_are_read_with_their_escapes() {
    let read = |text: &str| Reader { rest: text }.object();
    let expected = vec![("a\"b".to_owned(), "\u{e9}\n/\\".to_owned()), (String::new(), "x".to_owned())];
    assert_eq!(read("{ \"a\\\"b\" : \"\\u00e9\\n\\/\\\\\" , \"\":\"x\" }"), Ok(expected));
    assert_eq!(read(" { } "), Ok(Vec::new()));
}
