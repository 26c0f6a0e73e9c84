//! The kernels of bound propagation and their parameters; the formulas stand in the headers under `shaders/verify/`.

use crate::gpu::{Access, Caps, Kernel, params};

use Access::{Read, Write};

params!(IntervalPrepare {
    n: u32,
    ld: u32,
    len: u32,
    threads: u32,
    batch: u32,
    activation: u32,
    ldc: u32,
    pad0: u32,
    u: f32,
    tiny: f32,
    pad1: f32,
    pad2: f32,
});
params!(IntervalFinish {
    n: u32,
    ld: u32,
    len: u32,
    threads: u32,
    batch: u32,
    ldc: u32,
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
    activation: u32,
    compact: u32,
    terms: u32,
    writes: u32,
    u: f32,
    g_c: f32,
    weight_rel: f32,
    tiny: f32,
});
params!(BoxLines { n: u32, ld: u32, len: u32, threads: u32, u: f32, g_c: f32, pad0: f32, pad1: f32 });
params!(SelectNeurons { n: u32, ld: u32, len: u32, threads: u32, all: u32, pad0: u32, pad1: u32, pad2: u32 });
params!(RowChunk { n: u32, ld: u32, first: u32, most: u32 });
params!(RowOffsets {
    segments: u32,
    sides: u32,
    tile: u32,
    capacity: u32,
    first_shape: u32,
    grids: u32,
    pad0: u32,
    pad1: u32,
});
params!(RowTable { n: u32, ld: u32, sides: u32, tile: u32, capacity: u32, pad0: u32, pad1: u32, pad2: u32 });
params!(RowStart { n: u32, ld: u32, len: u32, threads: u32, weight_rel: f32, u: f32, pad0: u32, pad1: u32 });
params!(RowGiven { slots: u32, rows: u32, outputs: u32, ld_spec: u32, grow: f32, ld_list: u32, pad0: u32, pad1: u32 });
params!(RowFirst {
    n: u32,
    ldm: u32,
    ldc: u32,
    flags: u32,
    rows_of_m: u32,
    sides: u32,
    c_w: u32,
    c_c: u32,
    taps_h: u32,
    taps_w: u32,
    dilation_y: u32,
    dilation_x: u32,
    off_y: i32,
    off_x: i32,
    slope_y: i32,
    slope_x: i32,
    t_w: u32,
    t_c: u32,
    pad0: u32,
    pad1: u32,
});
params!(RowFirstSparse {
    ldc: u32,
    sides: u32,
    c_w: u32,
    channels: u32,
    c_y: i32,
    c_x: i32,
    c_sy: i32,
    c_sx: i32,
    image_w: u32,
    t_w: u32,
    t_c: u32,
    pad0: u32,
});
params!(RelaxRows {
    n: u32,
    ld: u32,
    slices: u32,
    terms: u32,
    c_h: u32,
    c_w: u32,
    channels: u32,
    ld_list: u32,
    image_h: u32,
    image_w: u32,
    t_w: u32,
    t_c: u32,
    c_y: i32,
    c_x: i32,
    c_sy: i32,
    c_sx: i32,
    ld_form: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});
params!(RowFinish {
    n: u32,
    ld_target: u32,
    sides: u32,
    keep: u32,
    store: u32,
    slices: u32,
    ld: u32,
    pad0: u32,
    d: f32,
    tiny: f32,
    grow: f32,
    pad1: f32,
});
params!(MapDense {
    n: u32,
    columns: u32,
    first: u32,
    end: u32,
    ldw: u32,
    lda: u32,
    ldc: u32,
    ld_list: u32,
    flags: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});
params!(MapConv {
    a_h: u32,
    a_w: u32,
    a_c: u32,
    columns: u32,
    c_h: u32,
    c_w: u32,
    c_c: u32,
    flags: u32,
    taps_h: u32,
    taps_w: u32,
    stride_y: u32,
    stride_x: u32,
    dilation_y: u32,
    dilation_x: u32,
    first: u32,
    end: u32,
    off_y: i32,
    off_x: i32,
    slope_y: i32,
    slope_x: i32,
    t_w: u32,
    t_c: u32,
    ldw: u32,
    lda: u32,
    ldc: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
    step_y: i32,
    step_x: i32,
    index_y: i32,
    index_x: i32,
});
params!(MapSparse { n: u32, columns: u32, lda: u32, ldc: u32, flags: u32, pad0: u32, pad1: u32, pad2: u32 });
params!(MapDiagonal {
    a_h: u32,
    a_w: u32,
    c_h: u32,
    c_w: u32,
    channels: u32,
    image_h: u32,
    image_w: u32,
    flags: u32,
    off_y: i32,
    off_x: i32,
    slope_y: i32,
    slope_x: i32,
    c_y: i32,
    c_x: i32,
    c_sy: i32,
    c_sx: i32,
    t_w: u32,
    t_c: u32,
    lda: u32,
    ldc: u32,
    columns: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});
params!(Activate { len: u32, threads: u32, ld: u32, activation: u32 });
params!(AttackTarget {
    candidates: u32,
    outputs: u32,
    inputs: u32,
    pad0: u32,
    ld: u32,
    ld_spec: u32,
    pad1: u32,
    pad2: u32,
});
params!(AttackStep { n: u32, ld: u32, len: u32, threads: u32, step: f32, ldc: u32, pad0: u32, pad1: u32 });

macro_rules! source {
    ($name:literal) => {
        include_str!(concat!("../../shaders/verify/", $name, ".wgsl"))
    };
}

/// `p.flags`: add to what the destination holds.
pub(super) const ACCUMULATE: u32 = 1;

pub(super) fn interval_prepare(smooth: bool) -> Kernel {
    let mut bindings = vec![Read, Read, Write, Write, Write];
    bindings.extend(smooth.then_some(Read));
    Kernel::new::<IntervalPrepare>("interval_prepare", source!("interval_prepare"), &bindings).flag("SMOOTH", smooth)
}

pub(super) fn interval_finish() -> Kernel {
    let bindings = [Read, Read, Read, Write, Write, Write, Write];
    Kernel::new::<IntervalFinish>("interval_finish", source!("interval_finish"), &bindings)
}

pub(super) fn relax_neurons(smooth: bool) -> Kernel {
    let mut bindings = vec![Read, Read, Read, Read, Read, Read, Write];
    bindings.extend(smooth.then_some(Read));
    Kernel::new::<RelaxNeurons>("relax_neurons", source!("relax_neurons"), &bindings).flag("SMOOTH", smooth)
}

pub(super) fn box_lines() -> Kernel {
    Kernel::new::<BoxLines>("box_lines", source!("box_lines"), &[Read, Read, Write])
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

pub(super) fn row_chunk() -> Kernel {
    Kernel::new::<RowChunk>("row_chunk", source!("row_chunk"), &[Read, Read, Write, Write, Write])
}

pub(super) fn row_offsets() -> Kernel {
    Kernel::new::<RowOffsets>("row_offsets", source!("row_offsets"), &[Read, Write, Write, Write, Read])
}

pub(super) fn row_table(first: bool) -> Kernel {
    Kernel::new::<RowTable>("row_table", source!("row_table"), &[Read, Read, Read, Write, Write]).flag("FIRST", first)
}

pub(super) fn row_start() -> Kernel {
    Kernel::new::<RowStart>("row_start", source!("row_start"), &[Read, Read, Write])
}

pub(super) fn row_given(compact: bool) -> Kernel {
    let mut bindings = vec![Read, Read, Read, Write];
    bindings.resize(4 + 2 * usize::from(compact), Read);
    Kernel::new::<RowGiven>("row_given", source!("row_given"), &bindings).flag("COMPACT", compact)
}

pub(super) fn row_first(conv: bool) -> Kernel {
    Kernel::new::<RowFirst>("row_first", source!("row_first"), &[Read, Write, Read, Read]).flag("CONV", conv)
}

pub(super) fn row_first_sparse(diagonal: bool) -> Kernel {
    let mut bindings = vec![Read, Write, Read, Read];
    bindings.extend((!diagonal).then_some(Read));
    Kernel::new::<RowFirstSparse>("row_first_sparse", source!("row_first_sparse"), &bindings).flag("DIAGONAL", diagonal)
}

/// How a row's coefficients meet a layer's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relax {
    /// A window of the layer.
    Window,
    /// The whole layer.
    Whole,
    /// The whole layer, leaving the active neurons only.
    Compact,
    /// A window of the input.
    InputWindow,
    /// The whole input.
    Input,
    /// The whole input, for rows whose linear form is wanted.
    InputForm,
}

pub(super) fn relax_rows(how: Relax, lanes: u32) -> Kernel {
    let mut bindings = vec![Write, Write, Read, Write, Read];
    match how {
        Relax::Compact => bindings.extend([Read, Read, Write]),
        Relax::InputForm => bindings.push(Write),
        _ => {}
    }
    let input = matches!(how, Relax::InputWindow | Relax::Input | Relax::InputForm);
    if matches!(how, Relax::Window | Relax::InputWindow) {
        return Kernel::new::<RelaxRows>("relax_windows", source!("relax_windows"), &bindings).flag("INPUT", input);
    }
    Kernel::new::<RelaxRows>("relax_rows", source!("relax_rows"), &bindings)
        .define("LANES", lanes)
        .flag("COMPACT", how == Relax::Compact)
        .flag("INPUT", input)
        .flag("FORM", how == Relax::InputForm)
}

pub(super) fn row_finish(input: bool) -> Kernel {
    Kernel::new::<RowFinish>("row_finish", source!("row_finish"), &[Read, Read, Read, Write, Write, Write, Write])
        .flag("INPUT", input)
}

/// Over which columns a map runs, as its kernel sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Over {
    /// Rows of a walk, counted on the device.
    pub walk: bool,
    /// Which stood elsewhere before the last compaction.
    pub moved: bool,
    /// And have terms for active neurons only.
    pub list: bool,
    /// And offsets that differ from row to row.
    pub mixed: bool,
    /// Magnitudes of the map.
    pub abs: bool,
}

/// The part of a product that one invocation and one workgroup compute. It never changes a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tile {
    /// Values, a multiple of 4.
    pub values: u32,
    /// Columns, a multiple of 4.
    pub columns: u32,
    /// Invocations.
    pub lanes: u32,
    /// Of them along the values.
    pub side: u32,
}

impl Tile {
    /// The tile for a product with `n` values (channels) a column. A table: software devices want large tiles in registers and
    /// few lanes, GPUs the opposite. Lanes go along the values where there are many, else along the columns.
    pub fn choose(caps: &Caps, n: usize, columns: Option<usize>, dense: bool) -> Self {
        let few = columns.is_some_and(|columns| columns <= 4);
        if caps.is_software() {
            let values = if n <= 4 {
                4
            } else if n <= 8 || dense && n <= 64 {
                8
            } else {
                16
            };
            return Self { values, columns: if few { 4 } else { 16 }, lanes: 8, side: if dense { 8 } else { 1 } };
        }
        let side = if n <= 8 {
            2
        } else if n <= 16 {
            4
        } else {
            8
        };
        Self { values: 4, columns: if few || !dense { 4 } else { 8 }, lanes: 64, side }
    }

    /// Values and columns of a workgroup.
    pub fn group(self) -> (u32, u32) {
        (self.values * self.side, self.columns * (self.lanes / self.side))
    }

    fn define(self, kernel: Kernel) -> Kernel {
        kernel
            .define("TM", self.values)
            .define("TM4", self.values / 4)
            .define("TN", self.columns)
            .define("TN4", self.columns / 4)
            .define("LANES", self.lanes)
            .define("SIDE", self.side)
    }
}

fn over(kernel: Kernel, over: Over) -> Kernel {
    kernel.flag("WALK", over.walk).flag("MOVED", over.moved).flag("LIST", over.list).flag("ABS", over.abs)
}

pub(super) fn map_dense(how: Over, tile: Tile) -> Kernel {
    let mut bindings = vec![Read, Read, Write];
    bindings.resize(3 + 2 * usize::from(how.walk) + 2 * usize::from(how.list), Read);
    over(tile.define(Kernel::new::<MapDense>("map_dense", source!("map_dense"), &bindings)), how)
}

/// `transposed`: from a layer's z to its source, instead of forward.
pub(super) fn map_conv(how: Over, transposed: bool, tile: Tile) -> Kernel {
    let mut bindings = vec![Read, Read, Write];
    bindings.resize(3 + 2 * usize::from(how.walk), Read);
    let kernel = if how.mixed {
        Kernel::new::<MapConv>("map_conv_mixed", source!("map_conv_mixed"), &bindings)
    } else {
        Kernel::new::<MapConv>("map_conv", source!("map_conv"), &bindings)
    };
    over(tile.define(kernel.flag("TRANSPOSED", transposed)), how)
}

pub(super) fn map_sparse(how: Over) -> Kernel {
    let mut bindings = vec![Read, Read, Read, Write];
    bindings.resize(4 + 2 * usize::from(how.walk), Read);
    over(Kernel::new::<MapSparse>("map_sparse", source!("map_sparse"), &bindings), how)
}

pub(super) fn map_diagonal(how: Over) -> Kernel {
    let mut bindings = vec![Read, Read, Write];
    bindings.resize(3 + 2 * usize::from(how.walk), Read);
    over(Kernel::new::<MapDiagonal>("map_diagonal", source!("map_diagonal"), &bindings), how)
}

pub(super) fn activate(gradient: bool) -> Kernel {
    let bindings = if gradient { [Read, Write] } else { [Write, Read] };
    Kernel::new::<Activate>("activate", source!("activate"), &bindings).flag("GRADIENT", gradient)
}

pub(super) fn attack_target() -> Kernel {
    let bindings = [Read, Read, Read, Read, Read, Write, Write, Write];
    Kernel::new::<AttackTarget>("attack_target", source!("attack_target"), &bindings)
}

pub(super) fn attack_step() -> Kernel {
    Kernel::new::<AttackStep>("attack_step", source!("attack_step"), &[Write, Read, Read, Read, Read])
}

/// One kernel of each permutation, for validation and `doctor`.
pub fn catalogue() -> Vec<Kernel> {
    let flags = [Flag::Active, Flag::Unstable, Flag::StillUnstable, Flag::StillUndecided];
    let relaxes = [Relax::Window, Relax::Whole, Relax::Compact, Relax::InputWindow, Relax::Input, Relax::InputForm];
    let mut all = vec![interval_finish(), box_lines(), row_start(), row_chunk(), row_offsets()];
    all.extend(flags.map(select_neurons));
    for on in [true, false] {
        all.extend([interval_prepare(on), relax_neurons(on), row_table(on), row_first(on), row_first_sparse(on)]);
        all.extend([row_finish(on), row_given(on), activate(on)]);
    }
    all.extend(relaxes.map(|how| relax_rows(how, 8)));
    let walk = Over { walk: true, ..Over::default() };
    let moved = Over { moved: true, ..walk };
    let plain = [Over::default(), Over { abs: true, ..Over::default() }, walk, moved];
    let tile = Tile { values: 16, columns: 16, lanes: 8, side: 8 };
    let mixed_tile = Tile { values: 8, columns: 4, lanes: 8, side: 1 };
    all.extend(plain.map(|how| map_dense(how, tile)));
    all.extend([walk, moved].map(|how| map_dense(Over { list: true, ..how }, tile)));
    for transposed in [true, false] {
        all.extend(plain.map(|how| map_conv(how, transposed, tile)));
    }
    all.extend([walk, moved].map(|how| map_conv(Over { mixed: true, ..how }, true, mixed_tile)));
    all.extend(plain.map(map_sparse));
    all.extend(plain.map(map_diagonal));
    all.extend([attack_target(), attack_step()]);
    all
}
