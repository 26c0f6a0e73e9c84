//! What README says is run: every `wavehull` and `cargo run` line of its code blocks must end with the exit code it names.

mod common;

use std::path::Path;
use std::process::Command;

/// The program's arguments in a line of a code block, and the exit code it names behind `# exit code`.
fn arguments(line: &str) -> Option<(Vec<&str>, i32)> {
    let (command, comment) = line.split_once('#').unwrap_or((line, ""));
    let code = comment.trim().strip_prefix("exit code ").and_then(|c| c.split(',').next()?.trim().parse().ok());
    let rest = command.strip_prefix("cargo run --release -- ").or_else(|| command.strip_prefix("wavehull "))?;
    Some((rest.split_whitespace().collect(), code.unwrap_or(0)))
}

#[test]
fn commands_of_the_readme_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("README.md")).expect("README.md");
    let work = std::env::temp_dir().join(format!("wavehull-readme-{}", std::process::id()));
    std::fs::create_dir_all(&work).expect("a folder to write to");
    let mut in_block = false;
    let mut commands = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = line == "```sh" && !in_block;
        } else if in_block {
            commands.extend(arguments(line.trim()));
        }
    }
    assert!(commands.len() >= 5, "README has only {} commands", commands.len());
    if common::device("commands_of_the_readme_run", false).is_none() {
        return;
    }
    for (arguments, code) in commands {
        // What commands name lies beside README.
        for named in arguments.iter().filter(|named| named.contains('/') && root.join(named).is_file()) {
            let copy = work.join(named);
            std::fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder to write to");
            std::fs::copy(root.join(named), &copy).expect("a copy of the example");
            // And what a configuration names beside itself.
            if named.ends_with(".toml") {
                let text = std::fs::read_to_string(root.join(named)).expect("a configuration");
                for word in text.split('"').filter(|word| word.contains('/')) {
                    let from = root.join(named).with_file_name(word);
                    if from.is_file() {
                        let to = copy.with_file_name(word);
                        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder to write to");
                        std::fs::copy(from, to).expect("a copy of the data");
                    }
                }
            }
        }
        let run = Command::new(env!("CARGO_BIN_EXE_wavehull"))
            .args(&arguments)
            .current_dir(&work)
            .output()
            .expect("it starts");
        let talk = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(code), "wavehull {}\n{talk}", arguments.join(" "));
    }
    std::fs::remove_dir_all(&work).expect("the folder can go");
}
