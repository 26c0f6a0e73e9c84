//! The device layer: the only room that names wgpu.
//!
//! [`Gpu::open`] picks an adapter and opens a device; [`Gpu::from_wgpu`] borrows the host's. Work is written down as
//! a [`Recording`] (plain data) and run with [`Gpu::run_async`] or its blocking twin: in few passes and few
//! submissions of about a tenth of a second, with cancellation between them. Memory comes from a pool with a
//! budget. Nothing here prints, reads the environment or keeps global state.

mod adapter;
mod control;
mod execute;
mod kernel;
mod memory;
mod params;
mod preprocess;
mod profile;
mod readback;
mod recording;
mod scope;
mod tuning;

#[cfg(not(target_arch = "wasm32"))]
pub use adapter::adapters;
pub use adapter::{AdapterChoice, Caps, DeviceKind, Options, adapters_async};
pub use control::{CancelToken, Control, Progress, ProgressSink};
pub use execute::{Flight, Output};
pub use kernel::{Access, Kernel};
pub use memory::{Buffer, MemoryUse};
pub use params::Params;
pub(crate) use params::params;
pub use preprocess::preprocess;
pub use recording::{Binding, Command, Dispatch, Grid, ReadTicket, Recording};
pub use tuning::Tuning;
pub use wgpu;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use web_time::Instant;

use crate::error::{Error, ErrorKind, Result};

/// Bytes of the largest parameter struct.
const PARAMS: u64 = 256;
/// Default memory budget.
const BUDGET: u64 = 1 << 30;

/// A device to compute on; cheap to clone.
#[derive(Debug, Clone)]
pub struct Gpu(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    caps: Caps,
    pipelines: kernel::Pipelines,
    groups: Mutex<execute::BindGroups>,
    pool: memory::Pool,
    arguments: memory::Pool,
    arenas: readback::Arenas,
    staging: readback::StagingRing,
    /// Work units a second, as `f64` bits: only for cutting work into short submissions.
    rate: AtomicU64,
    /// When the last submission was seen to have ended.
    landed: Mutex<Option<Instant>>,
    failure: Arc<Mutex<Option<(ErrorKind, String)>>>,
}

#[cfg(not(target_arch = "wasm32"))]
const _: () = {
    const fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Gpu>();
    fn _assert_send(gpu: &Gpu, options: &Options, recording: &Recording, control: &Control, kernel: &Kernel) {
        fn assert_send(_: impl Send) {}
        assert_send(Gpu::open_async(options));
        assert_send(gpu.allocate_async(1));
        assert_send(gpu.compile_async(kernel));
        assert_send(gpu.run_async(recording, control));
        assert_send(gpu.profile_async(recording, control));
    }
};

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The wgpu features that a host should offer where its adapter has them; none is required.
pub fn required_features() -> wgpu::Features {
    wgpu::Features::TIMESTAMP_QUERY
}

/// The wgpu limits that a host should ask for: all that the adapter has, so that buffers are not cut to the
/// portable 128 MiB a binding.
pub fn required_limits(adapter: &wgpu::Adapter) -> wgpu::Limits {
    adapter.limits()
}

impl Gpu {
    /// Opens a device.
    ///
    /// # Errors
    /// [`ErrorKind::NoAdapter`] if none fits; [`ErrorKind::Limit`] if the driver refuses the device.
    pub async fn open_async(options: &Options) -> Result<Self> {
        let instance = adapter::instance();
        let adapter = adapter::choose(&instance, &options.adapter).await?;
        let features = required_features() & adapter.features();
        let limits = required_limits(&adapter);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("wavehull"),
            required_features: features,
            required_limits: limits.clone(),
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|error| {
            Error::new(ErrorKind::Limit, format!("the driver of '{}' refuses a device", adapter.get_info().name))
                .with_help("choose another adapter (`wavehull devices`)")
                .with_source(error)
        })?;
        let caps = Caps::new(&adapter.get_info(), &limits, features).limited(options);
        log::info!("opened {caps}");
        let gpu = Self::new(device, queue, caps, options);
        gpu.watch();
        Ok(gpu)
    }

    /// Blocking twin of [`Gpu::open_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(options: &Options) -> Result<Self> {
        pollster::block_on(Self::open_async(options))
    }

    /// Borrows a device that the host opened. No handler is installed on it and nothing of it is destroyed; the
    /// host should have asked for [`required_features`] and [`required_limits`].
    pub fn from_wgpu(
        device: wgpu::Device,
        queue: wgpu::Queue,
        adapter_info: &wgpu::AdapterInfo,
        options: &Options,
    ) -> Self {
        let caps = Caps::new(adapter_info, &device.limits(), device.features()).limited(options);
        Self::new(device, queue, caps, options)
    }

    fn new(device: wgpu::Device, queue: wgpu::Queue, caps: Caps, options: &Options) -> Self {
        let usage = |usage| usage | wgpu::BufferUsages::COPY_DST;
        let rate: f64 = if caps.is_software() { 4e9 } else { 4e11 };
        Self(Arc::new(Inner {
            pipelines: kernel::Pipelines::new(options.checked),
            groups: Mutex::default(),
            pool: memory::Pool::new(memory::STORAGE, options.memory_budget.unwrap_or(BUDGET), caps.max_buffer),
            arguments: memory::Pool::new(memory::ARGUMENTS, 1 << 20, caps.max_buffer),
            arenas: readback::Arenas(readback::Ring::new("wavehull.arena", usage(wgpu::BufferUsages::UNIFORM))),
            staging: readback::StagingRing(readback::Ring::new("wavehull.read", usage(wgpu::BufferUsages::MAP_READ))),
            rate: AtomicU64::new(rate.to_bits()),
            landed: Mutex::default(),
            failure: Arc::default(),
            device,
            queue,
            caps,
        }))
    }

    /// On a device of our own: remember the first uncaptured error and a loss, instead of panicking.
    fn watch(&self) {
        let failure = Arc::clone(&self.0.failure);
        self.0.device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let kind = match error {
                wgpu::Error::OutOfMemory { .. } => ErrorKind::OutOfMemory,
                _ => ErrorKind::Internal,
            };
            locked(&failure).get_or_insert((kind, error.to_string()));
        }));
        let failure = Arc::clone(&self.0.failure);
        self.0.device.set_device_lost_callback(move |reason, message| {
            let text = format!("{reason:?}: {message}");
            // A loss outranks whatever else was seen: it is the cause.
            *locked(&failure) = Some((ErrorKind::DeviceLost, text));
        });
    }

    /// The first failure that the device reported outside any scope, as an error; every run starts and ends with it.
    pub(crate) fn check_alive(&self) -> Result<()> {
        if locked(&self.0.failure).is_some() {
            self.listen();
        }
        match &*locked(&self.0.failure) {
            None => Ok(()),
            Some((ErrorKind::DeviceLost, text)) => {
                Err(Error::new(ErrorKind::DeviceLost, format!("the device was lost ({text})"))
                    .with_help("open the device again and repeat the call: nothing on the host was lost"))
            }
            Some((kind, text)) => Err(Error::new(*kind, text.clone())
                .with_help("open the device again; if it repeats, report it with `wavehull doctor --json`")),
        }
    }

    /// A lost device is first seen as something invalid; the loss itself is told by a poll.
    fn listen(&self) {
        #[cfg(not(target_arch = "wasm32"))]
        let _ = self.0.device.poll(wgpu::PollType::Poll);
    }

    /// What the device is and grants.
    pub fn caps(&self) -> &Caps {
        &self.0.caps
    }

    /// The wgpu device, to share buffers with.
    pub fn device(&self) -> &wgpu::Device {
        &self.0.device
    }

    /// The wgpu queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }

    /// Bytes that the pool has, had and may have.
    pub fn memory(&self) -> MemoryUse {
        self.0.pool.in_use()
    }

    /// Starts a new peak for [`Gpu::memory`].
    pub fn reset_peak(&self) {
        self.0.pool.reset_peak();
    }

    /// Takes memory from the pool. Its contents are whatever was there before.
    ///
    /// # Errors
    /// [`ErrorKind::TooBig`] if it can never fit this adapter or budget, [`ErrorKind::OutOfMemory`] if not now.
    pub async fn allocate_async(&self, bytes: u64) -> Result<Buffer> {
        let MemoryUse { reserved, budget, .. } = self.memory();
        if reserved.saturating_add(bytes) > budget {
            // Cached bind groups hold on to pages that the pool is about to give back.
            locked(&self.0.groups).clear();
        }
        self.0.pool.allocate(&self.0.device, bytes).await
    }

    /// Blocking twin of [`Gpu::allocate_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn allocate(&self, bytes: u64) -> Result<Buffer> {
        pollster::block_on(self.allocate_async(bytes))
    }

    /// Memory for the arguments of `grids` indirect dispatches, four words each. wgpu tracks whole buffers, and
    /// one that a dispatch reads its grid from may not be bound to it, so these live in pages of their own.
    ///
    /// # Errors
    /// Those of [`Gpu::allocate_async`].
    pub async fn allocate_arguments_async(&self, grids: usize) -> Result<Buffer> {
        self.0.arguments.allocate(&self.0.device, 16 * grids.max(1) as u64).await
    }

    /// Blocking twin of [`Gpu::allocate_arguments_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn allocate_arguments(&self, grids: usize) -> Result<Buffer> {
        pollster::block_on(self.allocate_arguments_async(grids))
    }

    /// Writes bytes into a buffer, before everything that is run after this call.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if they do not fit, [`ErrorKind::OutOfMemory`] if the device has no room to pass them on.
    pub fn upload(&self, buffer: &Buffer, bytes: &[u8]) -> Result<()> {
        self.upload_at(buffer, 0, bytes)
    }

    /// [`Gpu::upload`] from byte `offset` on, a multiple of 4.
    ///
    /// # Errors
    /// Those of [`Gpu::upload`].
    pub fn upload_at(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        if offset + bytes.len() as u64 > buffer.size() || !offset.is_multiple_of(4) {
            let size = buffer.size();
            return Err(Error::internal(format!("{} bytes written to {size} from {offset} on", bytes.len())));
        }
        let (raw, base) = buffer.raw();
        let base = base + offset;
        let whole = bytes.len() / 4 * 4;
        self.guarded_now(|| {
            self.0.queue.write_buffer(raw, base, &bytes[..whole]);
            if whole < bytes.len() {
                let mut word = [0; 4];
                word[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
                self.0.queue.write_buffer(raw, base + whole as u64, &word);
            }
            Ok(())
        })
    }
}
