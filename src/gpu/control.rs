//! What a caller passes into a long call: a progress sink and a cancel token.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// A cheap, clonable switch that stops a long call at its next cut (between submissions).
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that is not yet cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every call that holds this token to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`CancelToken::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error of kind [`ErrorKind::Cancelled`] if the token was cancelled.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "stopped on request"));
        }
        Ok(())
    }
}

/// What a long call is doing now.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// What is being done, in words for the user.
    pub phase: &'a str,
    /// How much of it is done, in `unit`s.
    pub done: u64,
    /// How much there is, in `unit`s.
    pub total: u64,
    /// What is counted.
    pub unit: &'static str,
}

/// Receives progress.
pub trait ProgressSink: Send + Sync {
    /// Called at every cut; must return quickly.
    fn update(&self, progress: Progress<'_>);
}

/// Progress sink and cancel token of one call. The default reports to nobody and is never cancelled.
#[derive(Clone, Default)]
pub struct Control {
    /// Stops the call.
    pub cancel: CancelToken,
    /// Hears what the call does.
    pub progress: Option<Arc<dyn ProgressSink>>,
}

impl Control {
    /// Tells the sink, if there is one.
    pub fn report(&self, phase: &str, done: u64, total: u64, unit: &'static str) {
        if let Some(sink) = &self.progress {
            sink.update(Progress { phase, done, total, unit });
        }
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("cancel", &self.cancel).field("progress", &self.progress.is_some()).finish()
    }
}
