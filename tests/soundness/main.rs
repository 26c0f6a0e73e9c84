//! The soundness suite: no claimed bound is above what the network really does.
//!
//! `device` asks the verifier itself about chains whose least values are known exactly. `layers` asks about random networks over
//! images, against sampled points and against CROWN in f64 (`crown`), and `lines` about the lines of smooth functions.
//! `emulated` runs the verifier's formulas on a machine that rounds, orders and flushes as badly as WGSL allows, and `terms` takes
//! every error term away in turn.

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
