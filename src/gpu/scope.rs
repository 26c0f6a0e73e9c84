//! Error scopes: what the device refuses is an error of its caller, never a panic and never news for the host that
//! lent the device.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::Gpu;
use crate::error::{Error, ErrorKind, Result};

/// What the device refused: wgpu's error, which is not [`Send`] on the web, as text.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Refusal {
    /// For want of memory.
    pub(super) exhausted: bool,
    text: String,
}

impl From<wgpu::Error> for Refusal {
    fn from(error: wgpu::Error) -> Self {
        Self { exhausted: matches!(error, wgpu::Error::OutOfMemory { .. }), text: error.to_string() }
    }
}

/// Does `work` inside scopes of its own for every kind of error. They lie around synchronous code only: a scope belongs
/// to its thread, and a future may wake up on another one.
pub(super) async fn scoped<T>(device: &wgpu::Device, work: impl FnOnce() -> T) -> Result<T, Refusal> {
    let (value, answers) = {
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let value = work();
        let (validation, internal) = (validation.pop(), internal.pop());
        (value, (memory.pop(), internal, validation))
    };
    // What is out of memory is invalid later: the cause goes first.
    let (memory, internal, validation) = (answers.0.await, answers.1.await, answers.2.await);
    memory.or(internal).or(validation).map_or(Ok(value), |error| Err(error.into()))
}

/// The device itself is out of memory, whatever the budget says.
pub(super) fn exhausted(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::OutOfMemory, message)
        .with_help("close other programs that use the GPU, or lower the memory budget (`--memory`)")
}

impl Gpu {
    /// Does `work` inside scopes; what the device refused outranks what the work itself says.
    pub(super) async fn guarded<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        scoped(&self.0.device, work).await.map_err(|refusal| self.refused(refusal))?
    }

    /// [`Gpu::guarded`] for a caller that cannot wait. Natively the answer is there at once; on the web it comes later
    /// and is not heard.
    pub(super) fn guarded_now(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        match pin!(self.guarded(work)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    fn refused(&self, refusal: Refusal) -> Error {
        self.listen();
        let what = match self.check_alive() {
            Err(failure) => failure,
            Ok(()) if refusal.exhausted => exhausted("the device has no memory left for this run"),
            Ok(()) => Error::internal("the device refused a command"),
        };
        what.with_source(refusal)
    }
}
