//! What a program waits for before its first result.

use std::cell::Cell;

use super::measure::{Timing, clock};
use super::oracle::wrong;
use super::roofs::first_answer;
use super::{Context, Done, Measured, Spec};
use crate::error::Result;
use crate::gpu::Gpu;

const GROUP: &str = "startup";

pub(super) fn specs() -> Vec<Spec> {
    vec![
        Spec::new(GROUP, "device_open", None, open),
        Spec::new(GROUP, "first_answer_new_kernel", None, |context| first(context, true)),
        Spec::new(GROUP, "first_answer_known_kernel", None, |context| first(context, false)),
    ]
}

/// Finds the adapters and opens the device once more.
fn open(context: &Context<'_>) -> Result<Done> {
    let timing = context.meter.time_calls(|| {
        clock(|| {
            let gpu = Gpu::open(&context.plan.open)?;
            let same = gpu.caps().name == context.gpu.caps().name;
            if same { Ok(()) } else { Err(wrong(format!("another device was opened: {}", gpu.caps()))) }
        })
    })?;
    Measured::new(1.0, "devices", Timing { first: None, ..timing }).done()
}

/// On a device just opened: compile one small kernel, run it, read and check its answer.
fn first(context: &Context<'_>, new: bool) -> Result<Done> {
    // A number that no earlier run used, so that the driver's cache on disk does not know the kernel either.
    let since_1970 = web_time::SystemTime::now().duration_since(web_time::UNIX_EPOCH).unwrap_or_default();
    let salt = Cell::new(since_1970.subsec_nanos() % (1 << 20));
    let timing = context.meter.time_calls(|| {
        let gpu = Gpu::open(&context.plan.open)?;
        if new {
            salt.set((salt.get() + 1) % (1 << 20));
        }
        clock(|| first_answer(&gpu, &context.meter.control, if new { salt.get() } else { 0 }))
    })?;
    let note = if new { "compiled for the first time ever" } else { "the driver may have it in its cache" };
    Measured::new(1.0, "answers", Timing { first: None, ..timing }).note(note).done()
}
