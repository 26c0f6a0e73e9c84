//! What the targets share. `cargo bench` passes `--bench`; anything else runs small sizes, as a test.

use std::path::PathBuf;
use std::process::ExitCode;

use wavehull::bench::{Plan, run};
use wavehull::{Control, Gpu, Options, Result};

/// Measures some groups; the first argument that is no option is a part of an entry's name.
pub fn measure(groups: &[&'static str]) -> ExitCode {
    match report(groups) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failures) => {
            eprintln!("{failures} entries failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error[{}]: {error}", error.kind().code());
            if let Some(help) = error.help() {
                eprintln!("  help: {help}");
            }
            ExitCode::FAILURE
        }
    }
}

fn report(groups: &[&'static str]) -> Result<usize> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plan = Plan {
        only: arguments.iter().find(|a| !a.starts_with('-')).cloned(),
        groups: groups.to_vec(),
        quick: !arguments.iter().any(|a| a == "--bench"),
        shared: std::env::var_os("WAVEHULL_SHARED").map(PathBuf::from),
        open: Options::default(),
    };
    let gpu = Gpu::open(&plan.open)?;
    let report = run(&gpu, &plan, &Control::default())?;
    println!("{}", report.table());
    Ok(report.failures())
}
