//! All proofs re-checked on the CPU, on all cores.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use wavehull::verify::Property;
use wavehull::verify::check::check;
use wavehull::verify::proof::Proof;
use wavehull::{CancelToken, Error, Result};

use super::digits::Network;
use crate::cli::progress::Bar;
use crate::cli::render::since;

/// A proof, as the text that `verify --proof` would write, and what it is about.
pub struct Job<'a> {
    /// The network.
    pub network: &'a Network,
    /// The property.
    pub property: &'a Property,
    /// Its digest.
    pub digest: String,
    /// The proof.
    pub text: String,
}

/// What re-checking came to.
pub struct Rechecked {
    /// Proofs accepted.
    pub accepted: usize,
    /// Why others were refused.
    pub refused: Vec<Error>,
    /// Threads that worked.
    pub threads: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// Re-checks all proofs.
///
/// # Errors
/// [`wavehull::ErrorKind::Cancelled`].
pub fn recheck(jobs: &[Job<'_>], bar: &Bar, cancel: &CancelToken) -> Result<Rechecked> {
    let start = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(jobs.len().max(1));
    let next = AtomicUsize::new(0);
    let refused = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if cancel.is_cancelled() {
                        return;
                    }
                    if let Err(error) = accept(job) {
                        refused.lock().unwrap_or_else(PoisonError::into_inner).push(error);
                    }
                    bar.advance();
                }
            });
        }
    });
    cancel.check()?;
    let refused = refused.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Rechecked { accepted: jobs.len() - refused.len(), refused, threads, seconds: since(start) })
}

fn accept(job: &Job<'_>) -> Result<()> {
    let proof = Proof::parse(&job.text)?;
    check(&proof, &job.network.graph, &job.network.digest, job.property, &job.digest).map(drop)
}
