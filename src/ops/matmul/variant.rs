//! The kernels that compute a product, which of them a device gets, and their names in tables and files.

use std::fmt;

use super::{MATMUL, MATMUL_TILED, MatmulParams, PERMUTATIONS};
use crate::gpu::{Access, Caps, Kernel};

/// Which kernel computes a product, and its tile. The choice never changes a result.
///
/// GFLOP/s at 512^3 on a 2-core software device (Mesa 22.3): direct 4x4 12, 8x8 22, 16x16 38; tiles through workgroup
/// memory lose there, for a barrier is a change of context. Not measured on a GPU yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// `matmul`: `rows` x `columns` outputs an invocation, `lanes` invocations a workgroup, as many of them side by side along the columns as
    /// the product has columns for.
    Direct {
        /// Rows of the tile.
        rows: u32,
        /// Columns of the tile, a multiple of 4.
        columns: u32,
        /// Invocations of a workgroup.
        lanes: u32,
    },
    /// `matmul_tiled`: 64 x 64 outputs a workgroup of 128, 8 x 4 an invocation.
    Tiled,
    /// `matmul_tiled`: as [`Variant::Tiled`] with two stages of workgroup memory (16 KiB), one barrier a block.
    TiledDouble,
    /// `matmul_tiled`: 64 x 64 outputs a workgroup of 64, 8 x 8 an invocation, two stages.
    TiledWave,
    /// `matmul_tiled`: 128 x 128 outputs a workgroup of 256, 8 x 8 an invocation (16 KiB): the least traffic.
    TiledLarge,
    /// `matmul_tiled`: 32 x 32 outputs a workgroup of 64, 4 x 4 an invocation, two stages: more workgroups for small products.
    TiledSmall,
}

/// A product by what decides which variant is fastest: how many outputs there are to share out, and how wide a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// At most 32 columns.
    Narrow,
    /// At most 2^18 outputs: too few large tiles to keep a GPU busy.
    Small,
    /// At most 2^21 outputs.
    Medium,
    /// More.
    Large,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Narrow, Self::Small, Self::Medium, Self::Large];

    /// The class of `outputs` (of the whole batch) in rows of `n`.
    pub fn of(outputs: usize, n: usize) -> Self {
        match outputs {
            _ if n <= 32 => Self::Narrow,
            0..=0x4_0000 => Self::Small,
            0x4_0001..=0x20_0000 => Self::Medium,
            _ => Self::Large,
        }
    }

    /// Its name in tables of measured choices (see [`crate::gpu::Tuning`]).
    pub fn name(self) -> &'static str {
        match self {
            Self::Narrow => "matmul/narrow",
            Self::Small => "matmul/small",
            Self::Medium => "matmul/medium",
            Self::Large => "matmul/large",
        }
    }
}

/// Multiply-adds that take as long as loading a term: software devices load lane by lane. Processor time of [256, 132] x [132, 2304] there: 16x16 15 ms,
/// 16x8 21, 8x8 22, 16x4 26.
const LOAD: u32 = 8;

const fn direct(rows: u32, columns: u32) -> Variant {
    Variant::Direct { rows, columns, lanes: 8 }
}

/// What `matmul_tiled` is compiled with.
struct Shape {
    side: u32,
    depth: u32,
    /// Quads of rows and of columns of one invocation.
    quads: (u32, u32),
    stages: u32,
}

impl Shape {
    fn invocations(&self) -> u32 {
        self.side * self.side / (16 * self.quads.0 * self.quads.1)
    }

    /// Bytes of workgroup memory.
    fn memory(&self) -> u32 {
        8 * self.side * self.depth * self.stages
    }
}

impl Variant {
    /// What suits all operands of all devices.
    pub(super) const DIRECT: Self = direct(16, 8);

    /// Every variant that is shipped, the simplest first.
    pub const ALL: [Self; 11] = [
        direct(16, 16),
        direct(16, 8),
        direct(16, 4),
        direct(12, 8),
        direct(8, 8),
        direct(4, 4),
        Self::Tiled,
        Self::TiledDouble,
        Self::TiledWave,
        Self::TiledLarge,
        Self::TiledSmall,
    ];

    /// The variant for a product of this class: what was measured on this device, else the shipped table's.
    pub fn tuned(caps: &Caps, class: Class) -> Self {
        let known = caps.tuning.get_with(class.name(), Self::from_name).filter(|variant| variant.fits(caps));
        // Of direct variants, a narrow product gets the one that fits it.
        let measured = known.filter(|variant| class != Class::Narrow || variant.wants_quads());
        measured.unwrap_or_else(|| Self::shipped(caps, class))
    }

    /// The shipped table: where a probe starts, and what stands without one. Software devices want registers only, GPUs want
    /// workgroup memory.
    pub fn shipped(caps: &Caps, class: Class) -> Self {
        let tiled = match class {
            Class::Narrow | Class::Medium => Self::Tiled,
            Class::Small => Self::TiledSmall,
            Class::Large => Self::TiledLarge,
        };
        let among = if caps.is_software() { [None, None] } else { [Some(tiled), Some(Self::Tiled)] };
        among.into_iter().flatten().find(|variant| variant.fits(caps)).unwrap_or(direct(16, 16))
    }

    /// Whether the device grants what the kernel needs.
    pub fn fits(self, caps: &Caps) -> bool {
        match self.shape() {
            None => true,
            Some(shape) => shape.invocations() <= caps.max_invocations && shape.memory() <= caps.workgroup_memory,
        }
    }

    /// Invocations of a workgroup that stand side by side along the columns of an `m` x `n` product: as many as leave fewest without outputs.
    pub(super) fn lanes(self, m: usize, n: usize) -> u32 {
        let Self::Direct { lanes, .. } = self else { return 1 };
        let workgroups = |&across: &u32| {
            let (down, across) = self.spread(across);
            m.div_ceil(down as usize) * n.div_ceil(across as usize)
        };
        let powers = (0..=lanes.ilog2()).rev().map(|power| 1 << power);
        powers.min_by_key(workgroups).unwrap_or(lanes)
    }

    /// Rows and columns of outputs of one workgroup with so many invocations side by side.
    fn spread(self, side_by_side: u32) -> (u32, u32) {
        match self {
            Self::Direct { rows, columns, lanes } => (rows * (lanes / side_by_side), columns * side_by_side),
            _ => self.shape().map_or((64, 64), |shape| (shape.side, shape.side)),
        }
    }

    /// Rows and columns of outputs of one workgroup, for products of `m` rows and `n` columns.
    pub fn tile(self, m: usize, n: usize) -> (u32, u32) {
        self.spread(self.lanes(m, n))
    }

    /// The direct variant that costs least on an `m` x `n` product, among those no larger than this one; others stay what they are. An invocation loads
    /// rows and columns of terms for each step along k and multiplies each with each; lanes outside of the product work in vain.
    pub(super) fn fitted(self, m: usize, n: usize) -> Self {
        let Self::Direct { rows, columns, .. } = self else { return self };
        let cost = |variant: &Self| {
            let Self::Direct { rows, columns, .. } = *variant else { return usize::MAX };
            let (down, across) = variant.tile(m, n);
            let workgroups = m.div_ceil(down as usize) * n.div_ceil(across as usize);
            workgroups * (rows * columns + LOAD * (rows + columns)) as usize
        };
        let smaller =
            |variant: &Self| matches!(*variant, Self::Direct { rows: r, columns: c, .. } if r <= rows && c <= columns);
        Self::ALL.into_iter().filter(smaller).min_by_key(cost).unwrap_or(self)
    }

    /// Whether rows of `a`, and chunks of terms, must start at multiples of 4.
    pub(super) fn wants_quads(self) -> bool {
        self.shape().is_some()
    }

    /// The shipped variant of this name (the inverse of its `Display`), if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variant| variant.to_string() == name)
    }

    fn shape(self) -> Option<Shape> {
        let shape = |side, depth, quads, stages| Some(Shape { side, depth, quads, stages });
        match self {
            Self::Direct { .. } => None,
            Self::Tiled => shape(64, 16, (2, 1), 1),
            Self::TiledDouble => shape(64, 16, (2, 1), 2),
            Self::TiledWave => shape(64, 8, (2, 2), 2),
            Self::TiledLarge => shape(128, 16, (2, 2), 1),
            Self::TiledSmall => shape(32, 16, (1, 1), 2),
        }
    }

    pub(super) fn kernel(self, flags: &[&'static str]) -> Kernel {
        let bindings = [Access::Read, Access::Read, Access::Write, Access::Read];
        let kernel = match (self, self.shape()) {
            (_, Some(shape)) => Kernel::new::<MatmulParams>("matmul_tiled", MATMUL_TILED, &bindings)
                .define("SIDE", shape.side)
                .define("DEPTH", shape.depth)
                .define("QR", shape.quads.0)
                .define("QC", shape.quads.1)
                .define("INVOCATIONS", shape.invocations())
                .define("VECTORS", shape.memory() / 32)
                .flag("DOUBLE", shape.stages == 2),
            (Self::Direct { rows, columns, lanes }, None) => Kernel::new::<MatmulParams>("matmul", MATMUL, &bindings)
                .define("TM", rows)
                .define("TM4", rows / 4)
                .define("TN", columns)
                .define("TN4", columns / 4)
                .define("LANES", lanes),
            // Every tiled variant has a shape.
            (_, None) => Kernel::new::<MatmulParams>("matmul_tiled", MATMUL_TILED, &bindings),
        };
        flags.iter().fold(kernel, |kernel, flag| kernel.flag(flag, true))
    }

    /// Every permutation that [`super`] records.
    pub(super) fn catalogue() -> Vec<Kernel> {
        Self::ALL.into_iter().flat_map(|variant| PERMUTATIONS.map(|flags| variant.kernel(flags))).collect()
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Direct { rows, columns, .. } => return write!(f, "direct {rows}x{columns}"),
            Self::Tiled => "tiled 64x64",
            Self::TiledDouble => "tiled 64x64 double",
            Self::TiledWave => "tiled 64x64 wave",
            Self::TiledLarge => "tiled 128x128",
            Self::TiledSmall => "tiled 32x32",
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::{Class, Variant};

    #[test]
    fn names_lead_back_to_their_variants() {
        for variant in Variant::ALL {
            assert_eq!(Variant::from_name(&variant.to_string()), Some(variant));
        }
        assert_eq!(Variant::from_name("direct 3x3"), None);
    }

    #[test]
    fn workgroups_stay_within_what_every_device_has() {
        for variant in Variant::ALL {
            let Some(shape) = variant.shape() else { continue };
            assert!(shape.invocations() <= 256 && shape.memory() <= 16 << 10, "{variant}");
            // One 4 x 4 group of a block for every invocation: half of them bring a, half bring b.
            assert_eq!(shape.invocations(), 2 * shape.side * shape.depth / 16, "{variant}");
        }
    }

    #[test]
    fn classes_have_borders() {
        let of = |m: usize, n: usize| Class::of(m * n, n);
        assert_eq!([of(4096, 32), of(512, 512), of(513, 512)], [Class::Narrow, Class::Small, Class::Medium]);
        assert_eq!([of(2048, 1024), of(2049, 1024)], [Class::Medium, Class::Large]);
    }
}
