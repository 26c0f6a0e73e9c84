//! Work on pieces of a list, on as many threads as the processor has.

use super::rounding::Rounding;
use crate::error::{Error, Result};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;

/// The results of `work` on each piece of `items`, in order; the error of the first piece that has one.
///
/// The calling thread takes part; where no thread can be started (wasm32) it does everything. Threads make sure that their
/// arithmetic rounds as expected before they begin.
pub(super) fn pieces<T: Sync, R: Send>(
    items: &[T],
    size: usize,
    rounding: Rounding,
    work: impl Fn(&[T]) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let pieces: Vec<&[T]> = items.chunks(size.max(1)).collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(pieces.len()));
    let run = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(&piece) = pieces.get(place) else {
                break;
            };
            let entry = (place, rounding.holds_here().and_then(|()| work(piece)));
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(entry);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(pieces.len());
    std::thread::scope(|scope| {
        // Where another thread cannot be started, this one does its work.
        let others: Vec<_> = (1..threads).map_while(|_| Builder::new().spawn_scoped(scope, run).ok()).collect();
        run();
        // A thread that has died is missed below.
        others.into_iter().for_each(|thread| drop(thread.join()));
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|entry| entry.0);
    if done.len() != pieces.len() {
        return Err(Error::internal("a thread of the proof checker has died"));
    }
    done.into_iter().map(|entry| entry.1).collect()
}
