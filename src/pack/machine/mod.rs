//! Accelerators: what a layer costs on them when its tensors lie compressed in memory. `docs/machines.md` explains the models.

mod config;
mod cost;
pub mod energy;
pub mod grid;
pub mod memory;
pub mod scalesim;
pub mod scnn;
pub mod systolic;
mod toml_file;

#[cfg(not(target_arch = "wasm32"))]
pub use cost::costs;
pub use cost::{Array, Energies, Machine, Overrides, Question, costs_async};

use crate::gpu::Kernel;

/// The kernels of this room.
pub(super) fn catalogue() -> Vec<Kernel> {
    scnn::catalogue()
}

/// Bits that the tensors of a layer take in memory, compressed or not. Activations are of one sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stored {
    /// All filters.
    pub weights: u64,
    /// The map that is read.
    pub inputs: u64,
    /// The map that is written.
    pub outputs: u64,
}

/// A number for each operand of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct PerOperand {
    /// Of the weights.
    pub weights: f64,
    /// Of the map that is read.
    pub inputs: f64,
    /// Of the map that is written, partial sums included.
    pub outputs: f64,
}

impl PerOperand {
    /// All three.
    pub fn total(&self) -> f64 {
        self.weights + self.inputs + self.outputs
    }
}

/// What a layer costs, for one sample.
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Cost {
    /// Cycles of computing, had memory no limit.
    pub compute_cycles: u64,
    /// Cycles in which the multipliers wait for memory, first fill and last drain included.
    pub stall_cycles: u64,
    /// Products that are needed over products that the multipliers could have done in all cycles.
    pub utilisation: f64,
    /// Bits read from on-chip buffers.
    pub buffer_reads: PerOperand,
    /// Bits written to on-chip buffers.
    pub buffer_writes: PerOperand,
    /// Bits read from DRAM.
    pub dram_reads: PerOperand,
    /// Bits written to DRAM.
    pub dram_writes: PerOperand,
    /// Energy by component, in pJ.
    pub energy: Energy,
    /// Where multipliers were idle, on machines that say.
    pub idle: Option<Idle>,
}

impl Cost {
    /// Computing and waiting.
    pub fn cycles(&self) -> u64 {
        self.compute_cycles + self.stall_cycles
    }
}

/// Energy by component, in pJ.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Energy {
    /// Multipliers and adders.
    pub arithmetic: f64,
    /// On-chip buffers.
    pub buffers: f64,
    /// DRAM.
    pub dram: f64,
    /// Decoding and encoding.
    pub codec: f64,
}

impl Energy {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.arithmetic + self.buffers + self.dram + self.codec
    }
}

/// Multiplier-cycles lost, by cause (a machine of SCNN's kind).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Idle {
    /// Blocks of fewer values than multipliers want.
    pub partial_blocks: u64,
    /// Products that want the same accumulator bank.
    pub bank_conflicts: u64,
    /// Elements that wait for the slowest one.
    pub imbalance: u64,
    /// Exchange of halos.
    pub halos: u64,
}
