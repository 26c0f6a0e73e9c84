//! The program from outside, for tests that start it: a folder to work in, and what a run left behind.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value as Json;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_wavehull");

/// What a run of the program left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Panics unless the exit code is this, and stderr has all of these.
    pub fn expect(&self, code: i32, stderr: &[&str]) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in stderr {
            assert!(self.stderr.contains(part), "no '{part}' in {}", self.stderr);
        }
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program writes UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// A folder of one test, empty in the beginning.
pub struct Folder(pub PathBuf);

impl Folder {
    /// `suite` tells test binaries apart, which run at the same time.
    pub fn new(suite: &str, test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(suite).join(test);
        if path.exists() {
            std::fs::remove_dir_all(&path).expect("a folder of an earlier run");
        }
        std::fs::create_dir_all(&path).expect("a folder for this test");
        Self(path)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), contents).expect("a writable folder");
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn read(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).current_dir(&self.0).stdin(Stdio::null());
        // Measured choices of kernels (and the driver's own cache) stay in a folder that the tests share.
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        for variable in ["XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"] {
            command.env(variable, &cache);
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().expect("the program starts").into()
    }

    /// Runs where no Vulkan driver is found.
    pub fn run_without_device(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");
        command.output().expect("the program starts").into()
    }
}

/// Whether there is a device; a named skip, or a failure where one is demanded.
pub fn device(test: &str) -> bool {
    let found = Command::new(PROGRAM).arg("devices").output().expect("the program starts").status.success();
    if !found {
        let required = std::env::var("WAVEHULL_REQUIRE_GPU").is_ok_and(|v| v == "1");
        assert!(!required, "{test}: no adapter, and WAVEHULL_REQUIRE_GPU=1 demands one");
        eprintln!("skipped: {test}: no adapter");
    }
    found
}
