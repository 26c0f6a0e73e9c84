//! Finding adapters, choosing one, and what it can do.

use super::tuning::Tuning;
use crate::error::{Error, ErrorKind, Result};

/// Which adapter to open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AdapterChoice {
    /// Discrete before integrated before virtual; a software device only if there is nothing else.
    #[default]
    Best,
    /// The first whose name contains this text, ignoring case.
    Name(String),
    /// By position in [`adapters`].
    Index(usize),
}

impl std::fmt::Display for AdapterChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Best => f.write_str("at all"),
            Self::Name(name) => write!(f, "whose name contains '{name}'"),
            Self::Index(index) => write!(f, "number {index}"),
        }
    }
}

/// How to open a device.
#[non_exhaustive]
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which adapter.
    pub adapter: AdapterChoice,
    /// Compile kernels with bounds checks and bounded loops (slower; every test runs in both modes).
    pub checked: bool,
    /// Most bytes that the memory pool may take from the device; `None` for the default (1 GiB).
    pub memory_budget: Option<u64>,
    /// Bind at most this many bytes at once, less than the adapter allows: larger tensors are walked in windows. A multiple
    /// of 256, at least 64 KiB; for tests and for plans made for a smaller device.
    pub max_binding: Option<u64>,
}

/// The kind of device behind an adapter.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub enum DeviceKind {
    /// A card of its own.
    Discrete,
    /// A GPU that shares memory with the processor.
    Integrated,
    /// A GPU seen through a virtual machine.
    Virtual,
    /// The processor posing as a GPU: good for correctness, not for speed.
    Software,
    /// The driver does not say.
    Other,
}

/// What an adapter is and what it grants: everything a plan may depend on.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct Caps {
    /// The adapter's name.
    pub name: String,
    /// `vulkan`, `metal`, `dx12` or `webgpu`.
    pub backend: String,
    /// Driver name and version.
    pub driver: String,
    /// The kind of device.
    pub kind: DeviceKind,
    /// Largest storage binding in bytes.
    pub max_binding: u64,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// Most workgroups in one dimension of a dispatch.
    pub max_workgroups: u32,
    /// Alignment of a storage binding's offset in bytes.
    pub storage_alignment: u64,
    /// Alignment of a uniform binding's dynamic offset in bytes.
    pub uniform_alignment: u64,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Most invocations in a workgroup.
    pub max_invocations: u32,
    /// Most storage buffers that one kernel may bind.
    pub max_storage_buffers: u32,
    /// Kernels can be timed by the device's own clock.
    pub timestamps: bool,
    /// Kernel variants that were measured to be the fastest on this device; empty unless somebody measured
    /// (`ops::tune`). No result depends on them.
    pub tuning: Tuning,
}

impl Caps {
    /// Whether the device is the processor posing as a GPU.
    pub fn is_software(&self) -> bool {
        self.kind == DeviceKind::Software
    }

    pub(super) fn new(info: &wgpu::AdapterInfo, limits: &wgpu::Limits, features: wgpu::Features) -> Self {
        Self {
            name: info.name.clone(),
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            kind: kind_of(info.device_type),
            max_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            max_workgroups: limits.max_compute_workgroups_per_dimension,
            storage_alignment: u64::from(limits.min_storage_buffer_offset_alignment),
            uniform_alignment: u64::from(limits.min_uniform_buffer_offset_alignment),
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            max_invocations: limits.max_compute_invocations_per_workgroup,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            tuning: Tuning::default(),
        }
    }

    /// With the limits that the host asks for.
    pub(super) fn limited(mut self, options: &Options) -> Self {
        if let Some(most) = options.max_binding {
            self.max_binding = self.max_binding.min(most.max(64 << 10) / 256 * 256);
        }
        self
    }
}

#[cfg(test)]
impl Caps {
    /// A device that grants nothing, for tests without one.
    pub(crate) fn of_nothing() -> Self {
        Self::new(
            &wgpu::AdapterInfo::new(wgpu::DeviceType::Other, wgpu::Backend::Noop),
            &wgpu::Limits::default(),
            wgpu::Features::empty(),
        )
    }
}

impl std::fmt::Display for Caps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.backend, self.driver)
    }
}

fn kind_of(device_type: wgpu::DeviceType) -> DeviceKind {
    match device_type {
        wgpu::DeviceType::DiscreteGpu => DeviceKind::Discrete,
        wgpu::DeviceType::IntegratedGpu => DeviceKind::Integrated,
        wgpu::DeviceType::VirtualGpu => DeviceKind::Virtual,
        wgpu::DeviceType::Cpu => DeviceKind::Software,
        wgpu::DeviceType::Other => DeviceKind::Other,
    }
}

pub(super) fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    // Indirect arguments are written by our own kernel verify/row_offsets, which clamps them; validating them would
    // cost a dispatch each.
    descriptor.flags = wgpu::InstanceFlags::default() - wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL;
    wgpu::Instance::new(descriptor)
}

/// All adapters of this machine, best first.
pub async fn adapters_async() -> Vec<Caps> {
    let found = sorted(&instance()).await;
    found.iter().map(|a| Caps::new(&a.get_info(), &a.limits(), a.features())).collect()
}

/// Blocking twin of [`adapters_async`].
#[cfg(not(target_arch = "wasm32"))]
pub fn adapters() -> Vec<Caps> {
    pollster::block_on(adapters_async())
}

async fn sorted(instance: &wgpu::Instance) -> Vec<wgpu::Adapter> {
    let mut found = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
    found.sort_by_key(|adapter| match kind_of(adapter.get_info().device_type) {
        DeviceKind::Discrete => 0,
        DeviceKind::Integrated => 1,
        DeviceKind::Virtual => 2,
        DeviceKind::Other => 3,
        DeviceKind::Software => 4,
    });
    found
}

pub(super) async fn choose(instance: &wgpu::Instance, choice: &AdapterChoice) -> Result<wgpu::Adapter> {
    let found = sorted(instance).await;
    if found.is_empty() {
        return Err(Error::new(ErrorKind::NoAdapter, "no Vulkan, Metal or DX12 adapter on this machine").with_help(
            "install a GPU driver, or a software device (Debian and Ubuntu: mesa-vulkan-drivers); \
             `./scripts/demo.sh` fetches one into this folder by itself",
        ));
    }
    let chosen = match choice {
        AdapterChoice::Best => found.first(),
        AdapterChoice::Index(index) => found.get(*index),
        AdapterChoice::Name(name) => {
            let wanted = name.to_lowercase();
            found.iter().find(|a| a.get_info().name.to_lowercase().contains(&wanted))
        }
    };
    chosen.cloned().ok_or_else(|| {
        let names = found.iter().map(|a| a.get_info().name).collect::<Vec<_>>().join("', '");
        Error::new(ErrorKind::NoAdapter, format!("there is no adapter {choice}"))
            .with_help(format!("this machine has '{names}' (see `wavehull devices`)"))
    })
}
