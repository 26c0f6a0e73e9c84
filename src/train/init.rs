//! How parameters start.

/// How a parameter starts: drawn for each member from its own seed, with the fan of one member.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Init {
    /// What the graph's constant holds.
    Given,
    /// One value everywhere.
    Constant(f32),
    /// Uniform in `-bound..bound` with `bound = gain sqrt(3 / fan_in)`: with gain `sqrt(2)` He et al. (ICCV 2015) for ReLU, with
    /// `1 / sqrt(3)` what torch gives weights and biases of linear layers and convolutions.
    Uniform {
        /// The gain.
        gain: f32,
        /// Values that one output adds up.
        fan_in: usize,
    },
    /// Normal with standard deviation `gain / sqrt(fan_in)`.
    Normal {
        /// The gain.
        gain: f32,
        /// Values that one output adds up.
        fan_in: usize,
    },
}
