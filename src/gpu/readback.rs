//! Bringing bytes to the host: reused staging buffers and a future that a mapping fires.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::{Gpu, locked};
use crate::error::{Error, ErrorKind, Result};

/// A result that a callback sets and a future waits for.
#[derive(Clone, Default)]
pub(super) struct Signal(Arc<Mutex<Pending>>);

#[derive(Default)]
struct Pending {
    result: Option<Result<()>>,
    waker: Option<Waker>,
}

impl Signal {
    pub(super) fn set(&self, value: Result<()>) {
        let mut state = locked(&self.0);
        state.result = Some(value);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Future for Signal {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = locked(&self.0);
        match state.result.take() {
            Some(value) => Poll::Ready(value),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A mapped-read buffer on loan from the ring.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) raw: wgpu::Buffer,
    size: u64,
}

/// Buffers of one usage, kept for reuse, smallest fit first.
#[derive(Debug)]
pub(super) struct Ring {
    usage: wgpu::BufferUsages,
    label: &'static str,
    free: Mutex<Vec<wgpu::Buffer>>,
}

impl Ring {
    /// Most buffers kept; enough for a pipelined caller.
    const KEEP: usize = 8;

    pub(super) fn new(label: &'static str, usage: wgpu::BufferUsages) -> Self {
        Self { usage, label, free: Mutex::default() }
    }

    /// To be called inside a scope.
    fn take_raw(&self, device: &wgpu::Device, size: u64) -> wgpu::Buffer {
        let mut free = locked(&self.free);
        let fitting = (0..free.len()).filter(|&i| free[i].size() >= size).min_by_key(|&i| free[i].size());
        if let Some(index) = fitting {
            return free.swap_remove(index);
        }
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(self.label),
            size: size.next_power_of_two().max(4096).min(device.limits().max_buffer_size).max(size),
            usage: self.usage,
            mapped_at_creation: false,
        })
    }

    fn put_raw(&self, buffer: wgpu::Buffer) {
        let mut free = locked(&self.free);
        free.push(buffer);
        if free.len() > Self::KEEP {
            free.remove(0);
        }
    }
}

/// The ring of parameter arenas.
#[derive(Debug)]
pub(super) struct Arenas(pub(super) Ring);

impl Arenas {
    pub(super) fn take(&self, device: &wgpu::Device, size: u64) -> wgpu::Buffer {
        self.0.take_raw(device, size)
    }

    pub(super) fn put(&self, buffer: wgpu::Buffer) {
        self.0.put_raw(buffer);
    }
}

/// The ring of staging buffers.
#[derive(Debug)]
pub(super) struct StagingRing(pub(super) Ring);

impl StagingRing {
    pub(super) fn take(&self, device: &wgpu::Device, size: u64) -> Staging {
        Staging { raw: self.0.take_raw(device, size), size }
    }
}

fn unread(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::DeviceLost, "a result could not be read back").with_source(error)
}

impl Gpu {
    /// Maps a staging buffer that a submission copies to, takes its bytes and returns it to the ring. Waits for that submission alone.
    pub(super) async fn fetch(&self, staging: Staging, index: wgpu::SubmissionIndex) -> Result<Vec<u8>> {
        let signal = Signal::default();
        let fire = signal.clone();
        self.guarded(|| {
            staging.raw.map_async(wgpu::MapMode::Read, 0..staging.size, move |mapped| {
                fire.set(mapped.map_err(unread));
            });
            Ok(())
        })
        .await?;
        #[cfg(not(target_arch = "wasm32"))]
        self.wait(index).await?;
        #[cfg(target_arch = "wasm32")]
        let _ = index;
        signal.await?;
        let bytes = self
            .guarded(|| {
                let bytes = staging.raw.get_mapped_range(0..staging.size).map_err(unread)?.to_vec();
                staging.raw.unmap();
                Ok(bytes)
            })
            .await?;
        self.0.staging.0.put_raw(staging.raw);
        Ok(bytes)
    }
}
