//! The kernels of bound propagation and their parameters; the formulas stand in the headers under `shaders/verify/`.

use crate::gpu::{Access, Kernel, params};

use Access::{Read, Write};

params!(IntervalPrepare { n: u32, ld: u32, len: u32, threads: u32, batch: u32, relu: u32, u: f32, tiny: f32 });
params!(IntervalFinish {
    n: u32,
    ld: u32,
    len: u32,
    threads: u32,
    batch: u32,
    chunks: u32,
    u: f32,
    g: f32,
    weight_rel: f32,
    tiny: f32,
    pad0: u32,
    pad1: u32,
});
params!(RelaxNeurons {
    n: u32,
    ld: u32,
    len: u32,
    threads: u32,
    relu: u32,
    chunk: u32,
    chunks: u32,
    pad0: u32,
    u: f32,
    g_c: f32,
    weight_rel: f32,
    tiny: f32,
});
params!(SelectNeurons { n: u32, ld: u32, len: u32, threads: u32, all: u32, first: u32, end: u32, pad0: u32 });
params!(RowTable { n: u32, ld: u32, sides: u32, tile: u32, chunk: u32, capacity: u32, pad1: u32, pad2: u32 });
params!(RowStart { n: u32, ld: u32, len: u32, threads: u32, weight_rel: f32, u: f32, pad0: u32, pad1: u32 });
params!(RelaxRows {
    n: u32,
    lda: u32,
    ld_out: u32,
    relu: u32,
    plane: u32,
    rows_of_a: u32,
    sides: u32,
    ld_list: u32,
    g_c: f32,
    has_rel: u32,
    pad1: u32,
    pad2: u32,
});
params!(RowFinish { n: u32, ld: u32, sides: u32, keep: u32, store: u32, u: f32, tiny: f32, grow: f32 });
params!(AttackTarget {
    candidates: u32,
    outputs: u32,
    inputs: u32,
    pad0: u32,
    ld_y: u32,
    ld_x: u32,
    ld_spec: u32,
    pad1: u32,
});
params!(AttackStep { n: u32, ld: u32, len: u32, threads: u32, step: f32, pad0: u32, pad1: u32, pad2: u32 });

macro_rules! source {
    ($name:literal) => {
        include_str!(concat!("../../shaders/verify/", $name, ".wgsl"))
    };
}

pub(super) fn interval_prepare() -> Kernel {
    Kernel::new::<IntervalPrepare>("interval_prepare", source!("interval_prepare"), &[Read, Read, Write, Write, Write])
}

pub(super) fn interval_finish() -> Kernel {
    let bindings = [Read, Read, Read, Write, Write, Write, Write];
    Kernel::new::<IntervalFinish>("interval_finish", source!("interval_finish"), &bindings)
}

pub(super) fn relax_neurons() -> Kernel {
    let bindings = [Read, Read, Read, Read, Read, Read, Write];
    Kernel::new::<RelaxNeurons>("relax_neurons", source!("relax_neurons"), &bindings)
}

/// What a neuron is flagged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    Active,
    Unstable,
    StillUnstable,
    StillUndecided,
}

pub(super) fn select_neurons(flag: Flag) -> Kernel {
    Kernel::new::<SelectNeurons>("select_neurons", source!("select_neurons"), &[Read, Read, Write])
        .flag("ACTIVE", flag == Flag::Active)
        .flag("QUERY", flag == Flag::StillUndecided)
        .flag("KEEP", matches!(flag, Flag::StillUnstable | Flag::StillUndecided))
}

pub(super) fn row_table(first: bool) -> Kernel {
    Kernel::new::<RowTable>("row_table", source!("row_table"), &[Read, Read, Read, Write, Write, Read])
        .flag("FIRST", first)
}

pub(super) fn row_start() -> Kernel {
    Kernel::new::<RowStart>("row_start", source!("row_start"), &[Read, Read, Write])
}

/// Where a row stands when it is relaxed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    First,
    Hidden,
    /// The box; for rows of an output also the form itself, the coefficients of its linear bound.
    Input {
        form: bool,
    },
}

pub(super) fn relax_rows(level: Level) -> Kernel {
    let mut bindings = vec![Read, Write, Read, Write, Read, Read];
    match level {
        Level::Input { form: false } => {}
        Level::Input { form: true } => bindings.push(Write),
        _ => bindings.extend([Read, Write]),
    }
    Kernel::new::<RelaxRows>("relax_rows", source!("relax_rows"), &bindings)
        .flag("FIRST", level == Level::First)
        .flag("INPUT", matches!(level, Level::Input { .. }))
        .flag("FORM", level == Level::Input { form: true })
}

pub(super) fn row_finish(level: Level) -> Kernel {
    Kernel::new::<RowFinish>("row_finish", source!("row_finish"), &[Read, Read, Read, Write, Write, Write, Write])
        .flag("INPUT", matches!(level, Level::Input { .. }))
}

pub(super) fn attack_target() -> Kernel {
    let bindings = [Read, Read, Read, Read, Read, Write, Write, Write];
    Kernel::new::<AttackTarget>("attack_target", source!("attack_target"), &bindings)
}

pub(super) fn attack_step() -> Kernel {
    Kernel::new::<AttackStep>("attack_step", source!("attack_step"), &[Write, Read, Read, Read, Read])
}

const INPUT: Level = Level::Input { form: false };

/// One kernel of each permutation, for validation and `doctor`.
pub fn catalogue() -> Vec<Kernel> {
    let flags = [Flag::Active, Flag::Unstable, Flag::StillUnstable, Flag::StillUndecided];
    let mut all = vec![interval_prepare(), interval_finish(), relax_neurons(), row_start()];
    all.extend(flags.map(select_neurons));
    all.extend([true, false].map(row_table));
    all.extend([Level::First, Level::Hidden, INPUT, Level::Input { form: true }].map(relax_rows));
    all.extend([Level::Hidden, INPUT].map(row_finish));
    all.extend([attack_target(), attack_step()]);
    all
}
