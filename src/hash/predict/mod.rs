//! The best labels of samples: exactly, or among candidates; and how good they are.
//!
//! [`exact_async`] walks the labels in chunks: the logits of a chunk by one product with the table's rows where they lie, merged into a
//! running ranking on the device, so that never all logits are stored. [`sparse_async`] scores only candidates, each once.
//! Both rank by one total order (larger logits first, the lower label among equals), in integers, so a result depends on the
//! logits alone: not on chunks, windows, the number of samples or the order of candidates. A logit has the same bits in
//! both, where a device rounds a product as it rounds a chain of fused multiply-adds.
//!
//! With catch-up optimisers the tables must be brought up to date before.

mod exact;
mod measures;
mod sparse;
mod top_k;

#[cfg(not(target_arch = "wasm32"))]
pub use exact::exact;
pub use exact::{Exact, exact_async};
pub use measures::{Measures, recall};
#[cfg(not(target_arch = "wasm32"))]
pub use sparse::sparse;
pub use sparse::{Sparse, sparse_async};
pub use top_k::{Ids, MAX_K, Ranking, TopK};

use crate::gpu::Kernel;

pub(super) fn catalogue() -> Vec<Kernel> {
    [top_k::catalogue(), sparse::catalogue()].concat()
}
