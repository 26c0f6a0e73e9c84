//! Which kernel computes a convolution, or the gradient of its weight.

use super::{BINDINGS, CONV, CONV_TILED, ConvParams, LANES, ROWS};
use crate::gpu::{Caps, Kernel};

/// Which kernel computes a convolution that is not depthwise. The choice never changes a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// `conv`: 16 pixels x `columns` channels an invocation.
    Direct {
        /// Channels of the tile: 4, 8 or 16.
        columns: u32,
    },
    /// `conv_tiled`: 64 pixels x 64 channels a workgroup of 256.
    Tiled,
}

impl Variant {
    /// The variant for `n` output channels a group on this device: software devices want registers only, GPUs workgroup
    /// memory; few channels want narrow tiles.
    pub fn choose(caps: &Caps, n: usize) -> Self {
        if !caps.is_software() && caps.max_invocations >= 256 && n > 8 {
            return Self::Tiled;
        }
        Self::Direct {
            columns: match n {
                0..=4 => 4,
                5..=8 => 8,
                _ => 16,
            },
        }
    }

    pub(super) fn kernel(self, trans_weight: bool) -> Kernel {
        let kernel = match self {
            Self::Direct { columns } => Kernel::new::<ConvParams>("conv", CONV, &BINDINGS)
                .define("TM", ROWS)
                .define("TN", columns)
                .define("TN4", columns / 4)
                .define("LANES", LANES),
            Self::Tiled => Kernel::new::<ConvParams>("conv_tiled", CONV_TILED, &BINDINGS),
        };
        kernel.flag("TRANS_W", trans_weight)
    }

    /// Pixels and channels of a workgroup, and its lanes along the channels, for `n` channels.
    pub(super) fn tile(self, n: u32) -> (u32, u32, u32) {
        match self {
            Self::Direct { columns } => {
                let lanes = n.div_ceil(columns).next_power_of_two().clamp(1, LANES);
                (ROWS * (LANES / lanes), columns * lanes, lanes)
            }
            Self::Tiled => (64, 64, 16),
        }
    }
}
