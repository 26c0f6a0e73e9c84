//! `wavehull` without arguments: the device, and three things to try.

use std::process::ExitCode;

use wavehull::gpu::adapters;
use wavehull::{Gpu, Options, Result};

use super::Global;
use super::device::{banner, line};
use super::render::fields;

const TO_TRY: [(&str, &str); 3] = [
    ("wavehull demo", "prove a hundred digits robust, see one that is not, re-check every proof"),
    ("wavehull verify NET.onnx PROPERTY.vnnlib", "decide a property of your own network"),
    ("wavehull train CONFIG.toml", "train an array of networks at once, or search for the best of many"),
];

/// Shows the device and what to try.
///
/// # Errors
/// [`wavehull::ErrorKind::NoAdapter`] if there is none.
pub fn run(global: &Global) -> Result<ExitCode> {
    match adapters().first() {
        Some(best) => {
            global.print(line(best, global.out));
            if let Some(banner) = banner(best, global.out) {
                global.print(banner);
            }
        }
        // Opening says what to do about it.
        None => drop(Gpu::open(&Options::default())?),
    }
    global.print("\nThree things to try (wavehull --help lists all):");
    let tries = TO_TRY.map(|(command, what)| (command, global.out.dim(what)));
    global.print(fields(&tries, super::render::Style { colour: false }));
    global.print("\nwavehull doctor tests this machine: every kernel against f64");
    Ok(ExitCode::SUCCESS)
}
