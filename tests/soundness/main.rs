//! The soundness suite: no claimed bound is above what the network really does.
//!
//! `device` asks the verifier itself; `emulated` runs its formulas on a machine that rounds, orders and flushes as badly
//! as WGSL allows, and takes every error term away in turn.

mod arithmetic;
#[path = "../common/mod.rs"]
mod common;
mod crown;
mod device;
mod emulated;
mod emulator;
mod images;
mod layers;
mod lines;
mod nets;
mod smooth;
mod terms;
