//! Locality-sensitive hashing: labels whose rows are near a hidden vector, without looking at all of them.
//!
//! A [`Hasher`] gives every row a key for each of L tables, by joining K codes. [`LshTables`] keep the labels of each table in the order of
//! their keys, so a bucket is a run of equal keys; a look-up ([`LshTables::record_query`]) finds the runs of a vector's keys by
//! binary search and takes up to `bucket` ids of each, and [`Neighbours`] are the labels that meet in most tables.
//!
//! Rows are looked at without their bias: the first `hidden` elements. **Zeros** (and what is smaller than every normal number) are not
//! looked at by DWTA, as its paper has it: the rows of labels are dense, so this is plain winner-take-all for them, but a hidden
//! vector has zeros wherever its ReLU is shut, and a bin of zeros alone says nothing; it borrows the code of another bin. (The code that was
//! released with SLIDE hashes the zeros of a dense hidden layer as values; such a bin then has code 0 in every vector.)
//!
//! All of it is integer arithmetic, SimHash included, so that every device and the host twin in [`mod@reference`] have the same bits.

mod functions;
mod hasher;
mod neighbours;
mod options;
mod query;
pub mod reference;
mod tables;

pub use functions::{BIN, Functions, PROBES};
pub use hasher::Hasher;
pub use neighbours::Neighbours;
pub use options::{Family, LshOptions, Policy};
pub use query::{Query, QueryWorkspace};
pub use tables::{Drift, LshTables};

use crate::gpu::Kernel;

pub(super) fn catalogue() -> Vec<Kernel> {
    [hasher::catalogue(), tables::catalogue(), query::catalogue(), neighbours::catalogue()].concat()
}
