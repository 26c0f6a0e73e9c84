//! The cache file: a flat JSON object of strings.
#![cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "there are no files"))]

use std::path::{Path, PathBuf};

use crate::fnv::fnv1a;
use crate::gpu::Caps;

/// Version of the file's form.
const SCHEMA: &str = "1";
/// A file longer than this is none of ours.
#[cfg(not(target_arch = "wasm32"))]
const MOST: u64 = 64 << 10;

/// What must be the same for a file to count.
fn key(caps: &Caps) -> [(&'static str, &str); 5] {
    [
        ("schema", SCHEMA),
        ("wavehull", crate::VERSION),
        ("adapter", &caps.name),
        ("backend", &caps.backend),
        ("driver", &caps.driver),
    ]
}

/// The file of a device: one for each adapter, backend and driver. The version stands inside, so that a new one rewrites it.
pub(super) fn path(folder: &Path, caps: &Caps) -> PathBuf {
    // A name, not a key: what is inside decides. Should two devices share a name, they rewrite each other's file.
    let text = [caps.name.as_str(), &caps.backend, &caps.driver].join("\n");
    folder.join(format!("tuning-{:016x}.json", fnv1a(&text)))
}

/// The choices of a file; none if there is no such file, or if it is not this device's.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn read(path: &Path, caps: &Caps) -> Vec<(String, String)> {
    let text = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Ok(data) if data.len() > MOST => Err(format!("{} bytes are too many", data.len())),
        _ => std::fs::read_to_string(path).map_err(|error| error.to_string()),
    };
    text.and_then(|text| choices(&text, caps)).unwrap_or_else(|why| {
        log::warn!("{}: ignored, and rewritten after measuring: {why}", path.display());
        Vec::new()
    })
}

#[cfg(target_arch = "wasm32")]
pub(super) fn read(_: &Path, _: &Caps) -> Vec<(String, String)> {
    Vec::new()
}

/// Writes the choices of a device, through a file beside it, so that nobody reads half of one.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn write(path: &Path, caps: &Caps) {
    let own = path.with_extension(format!("{}.part", std::process::id()));
    let folder = path.parent().unwrap_or(Path::new("."));
    let done = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&own, text(caps)))
        .and_then(|()| std::fs::rename(&own, path));
    match done {
        Ok(()) => log::info!("measured choices of kernels are kept in {}", path.display()),
        Err(error) => {
            // The part, if there is one, is of no use to anybody.
            let _ = std::fs::remove_file(&own);
            log::warn!("{}: measured choices of kernels are not kept: {error}", path.display());
        }
    }
}

#[cfg(target_arch = "wasm32")]
pub(super) fn write(_: &Path, _: &Caps) {}

fn text(caps: &Caps) -> String {
    let quoted = |text: &str| {
        let mut out = String::from("\"");
        for c in text.chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => out.push(c),
            }
        }
        out + "\""
    };
    let chosen = caps.tuning.entries();
    let pairs = key(caps).into_iter().chain(chosen.iter().map(|(class, variant)| (class.as_str(), variant.as_str())));
    let lines: Vec<String> = pairs.map(|(name, value)| format!("  {}: {}", quoted(name), quoted(value))).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

/// The choices in a text, without the members of the key, which must be this device's.
fn choices(text: &str, caps: &Caps) -> Result<Vec<(String, String)>, String> {
    let mut members = Reader { rest: text.trim() }.object()?;
    for (name, expected) in key(caps) {
        let found = members.iter().position(|(member, _)| member == name).map(|at| members.remove(at).1);
        if found.as_deref() != Some(expected) {
            return Err(format!("its {name} is {found:?}, not {expected:?}"));
        }
    }
    Ok(members)
}

/// Reads an object whose members are all strings.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn object(mut self) -> Result<Vec<(String, String)>, String> {
        let mut members = Vec::new();
        self.expect('{')?;
        if self.take('}') {
            return self.end(members);
        }
        loop {
            let name = self.string()?;
            self.expect(':')?;
            members.push((name, self.string()?));
            if self.take('}') {
                return self.end(members);
            }
            self.expect(',')?;
        }
    }

    fn end<T>(self, value: T) -> Result<T, String> {
        if self.rest.trim_start().is_empty() { Ok(value) } else { Err("something follows the object".to_owned()) }
    }

    fn take(&mut self, wanted: char) -> bool {
        let rest = self.rest.trim_start().strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.take(wanted) { Ok(()) } else { Err(format!("no '{wanted}' where JSON has one")) }
    }

    fn string(&mut self) -> Result<String, String> {
        self.expect('"')?;
        let mut out = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next() {
                Some('"') => break,
                Some('\\') => out.push(escaped(&mut chars)?),
                Some(c) if c >= ' ' => out.push(c),
                _ => return Err("a string does not end".to_owned()),
            }
        }
        self.rest = chars.as_str();
        Ok(out)
    }
}

fn escaped(chars: &mut std::str::Chars<'_>) -> Result<char, String> {
    let found = match chars.next() {
        Some(c @ ('"' | '\\' | '/')) => Some(c),
        Some('n') => Some('\n'),
        Some('t') => Some('\t'),
        Some('r') => Some('\r'),
        Some('u') => {
            let digits: String = chars.take(4).collect();
            u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4).and_then(char::from_u32)
        }
        _ => None,
    };
    found.ok_or_else(|| "an unknown escape in a string".to_owned())
}

#[cfg(test)]
mod tests;
