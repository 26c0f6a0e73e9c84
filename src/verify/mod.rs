//! Sound verification: is there an input in a box for which the network's outputs fulfil an unsafe condition?
//!
//! [`Verifier`] answers for many properties of one network at once: a gradient attack, an early exit on interval
//! bounds, then layer-by-layer back-substitution. Bounds account for every rounding that WGSL allows
//! ([`Soundness::Strict`]); what holds can be written down as a [`proof`] and [`check`]ed on the CPU alone.

mod attack;
mod book;
mod bounds;
pub mod check;
mod evidence;
pub mod instances;
pub mod kernels;
mod logistic;
mod maps;
mod measure;
mod network;
pub mod proof;
pub mod property;
#[cfg(test)]
mod rehearsal;
mod soundness;
mod split;
mod state;
mod verifier;
pub mod vnnlib;
mod walk;

pub use measure::{Measurement, Stage};
pub use property::{Conjunction, InputBox, Property, Query, Row};
pub use soundness::Soundness;
pub use split::Boxes;
pub use verifier::{Counterexample, Outcome, Reason, Verdict, Verifier, VerifyOptions};
