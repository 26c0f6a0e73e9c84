//! The kernels of the meter. Kernels: `code_histogram`, `quad_widths`, `group_sums`, `segment_sums`, `run_chunks`, `run_carry`,
//! `scnn_groups`, `stream_sums`, `bit_planes`.

use crate::gpu::{Access, Kernel, params};
use crate::pack::values::Element;

const CODE_HISTOGRAM: &str = include_str!("../../../../shaders/pack/code_histogram.wgsl");
const QUAD_WIDTHS: &str = include_str!("../../../../shaders/pack/quad_widths.wgsl");
const GROUP_SUMS: &str = include_str!("../../../../shaders/pack/group_sums.wgsl");
const SEGMENT_SUMS: &str = include_str!("../../../../shaders/pack/segment_sums.wgsl");
const RUN_CHUNKS: &str = include_str!("../../../../shaders/pack/run_chunks.wgsl");
const RUN_CARRY: &str = include_str!("../../../../shaders/pack/run_carry.wgsl");
const SCNN_GROUPS: &str = include_str!("../../../../shaders/pack/scnn_groups.wgsl");
const STREAM_SUMS: &str = include_str!("../../../../shaders/pack/stream_sums.wgsl");
const BIT_PLANES: &str = include_str!("../../../../shaders/pack/bit_planes.wgsl");

params!(HistogramParams { vectors: u32, threads: u32, slot: u32, pad0: u32 });

params!(QuadParams {
    items: u32,
    threads: u32,
    quads: u32,
    unit: u32,
    quads_per_unit: u32,
    sign: u32,
    mantissa: u32,
    raw: u32,
    top: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});

params!(GroupParams {
    items: u32,
    threads: u32,
    slot: u32,
    unit: u32,
    quads_per_unit: u32,
    groups_per_unit: u32,
    quads_per_group: u32,
    groups: u32,
    segment: u32,
    blocks: u32,
    block: u32,
    least: u32,
    container_log2: u32,
    pad0: u32,
    pad1: u32,
    pad2: u32,
});

params!(SegmentParams { items: u32, threads: u32, slot: u32, container_log2: u32 });

params!(ChunkParams {
    threads: u32,
    chunks: u32,
    values: u32,
    positions: u32,
    channels: u32,
    length: u32,
    per_channel: u32,
    run_bits: u32,
    add: u32,
    sign: u32,
    pad0: u32,
    pad1: u32,
});

params!(CarryParams {
    threads: u32,
    streams: u32,
    per_stream: u32,
    run_bits: u32,
    add: u32,
    cuts: u32,
    pad0: u32,
    pad1: u32,
});

params!(ScnnParams {
    threads: u32,
    chunks: u32,
    values: u32,
    positions: u32,
    channels: u32,
    length: u32,
    per_channel: u32,
    run_bits: u32,
    sign: u32,
    mantissa: u32,
    raw: u32,
    top: u32,
    slot: u32,
    group_log2: u32,
    least: u32,
    pad0: u32,
});

params!(StreamParams { items: u32, threads: u32, slot: u32, group_log2: u32 });

params!(PlaneParams {
    threads: u32,
    chunks: u32,
    values: u32,
    positions: u32,
    channels: u32,
    length: u32,
    per_channel: u32,
    container_log2: u32,
    slot: u32,
    sign: u32,
    pad0: u32,
    pad1: u32,
});

/// How a kernel reads values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Bytes,
    Halves,
    /// Halves whose exponents are coded.
    Floats,
}

impl Format {
    pub(super) fn of(element: Element) -> Self {
        match element.bits() {
            16 if element.is_float() => Self::Floats,
            16 => Self::Halves,
            _ => Self::Bytes,
        }
    }

    fn define(self, kernel: Kernel) -> Kernel {
        kernel.flag("HALVES", self != Self::Bytes).flag("FLOATS", self == Self::Floats)
    }

    /// For kernels that take halves for what they are.
    fn define_container(self, kernel: Kernel) -> Kernel {
        kernel.flag("HALVES", self != Self::Bytes)
    }
}

/// With bins of its own for each lane of a workgroup, as software devices like them, or with atomics; the same for halves.
pub(super) fn histogram(format: Format, own: bool) -> Kernel {
    let bindings = [Access::Read, Access::Write];
    let kernel = Kernel::new::<HistogramParams>("code_histogram", CODE_HISTOGRAM, &bindings);
    format.define_container(kernel).flag("OWN", own && format == Format::Bytes)
}

pub(super) fn quads(format: Format, aligned: bool) -> Kernel {
    let bindings = [Access::Read, Access::Write];
    format.define(Kernel::new::<QuadParams>("quad_widths", QUAD_WIDTHS, &bindings)).flag("ALIGNED", aligned)
}

/// For groups of so many values, in units of so many quads.
pub(super) fn groups(group: usize, quads_per_unit: usize) -> Kernel {
    let bindings = [Access::Read, Access::Write, Access::Write];
    let kernel = Kernel::new::<GroupParams>("group_sums", GROUP_SUMS, &bindings);
    match group {
        0..16 => kernel.define("QUADS", group / 4),
        _ if quads_per_unit.is_multiple_of(4) => kernel.define("WORDS", group / 16),
        _ => kernel,
    }
}

pub(super) fn segments() -> Kernel {
    Kernel::new::<SegmentParams>("segment_sums", SEGMENT_SUMS, &[Access::Read, Access::Write])
}

pub(super) fn chunks(format: Format) -> Kernel {
    let bindings = [Access::Read, Access::Write];
    format.define_container(Kernel::new::<ChunkParams>("run_chunks", RUN_CHUNKS, &bindings))
}

pub(super) fn carry(wide: bool) -> Kernel {
    let bindings = [Access::Read, Access::Write, Access::Write];
    Kernel::new::<CarryParams>("run_carry", RUN_CARRY, &bindings).flag("WIDE", wide)
}

pub(super) fn scnn(format: Format) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Read, Access::Write, Access::Write];
    format.define(Kernel::new::<ScnnParams>("scnn_groups", SCNN_GROUPS, &bindings))
}

pub(super) fn streams() -> Kernel {
    Kernel::new::<StreamParams>("stream_sums", STREAM_SUMS, &[Access::Read, Access::Write])
}

pub(super) fn planes(format: Format) -> Kernel {
    let bindings = [Access::Read, Access::Read, Access::Read, Access::Write];
    format.define_container(Kernel::new::<PlaneParams>("bit_planes", BIT_PLANES, &bindings))
}

pub(in crate::pack) fn catalogue() -> Vec<Kernel> {
    let containers = [Format::Bytes, Format::Halves];
    let formats = [Format::Bytes, Format::Halves, Format::Floats];
    let mut all = vec![segments(), streams(), groups(16, 1), carry(false), carry(true)];
    all.extend([4, 8, 16, 32, 64, 128, 256].map(|group| groups(group, 4)));
    all.extend([histogram(Format::Bytes, true), histogram(Format::Bytes, false), histogram(Format::Halves, false)]);
    all.extend(containers.map(chunks));
    all.extend(containers.map(planes));
    all.extend(formats.map(scnn));
    all.extend(formats.into_iter().flat_map(|format| [quads(format, false), quads(format, true)]));
    all
}
