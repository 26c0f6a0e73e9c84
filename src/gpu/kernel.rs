//! Kernels as data, and the cache of what they compile to.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::params::Params;
use super::preprocess::preprocess;
use super::scope::{exhausted, scoped};
use crate::error::{Error, ErrorKind, Result};

/// How a kernel uses a bound buffer. All are bound `read_write` (a `read` and a `read_write` binding of one pooled
/// buffer would clash); this is what the recorder checks overlaps against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Only read.
    Read,
    /// Written, perhaps read.
    Write,
}

/// A WGSL kernel in one permutation. Its entry point is `main`; group 0 holds its storage buffers in order, group 1
/// its parameters, a uniform struct whose first member is `grid: vec4<u32>`, the offset of a cut dispatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The name of the file, of the label, of the test and of the bench row.
    pub name: &'static str,
    /// The file's text, before the preprocessor.
    pub source: &'static str,
    /// Defines of this permutation.
    pub defines: Vec<(&'static str, String)>,
    /// The storage buffers.
    pub bindings: Vec<Access>,
    /// Members of the parameter struct with their offsets in bytes.
    pub params: &'static [(&'static str, usize)],
}

/// By name and permutation, for every dispatch looks its kernel up: the text's kilobytes are left to the comparison that follows.
impl Hash for Kernel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.name, self.source.len(), &self.defines, &self.bindings).hash(state);
    }
}

impl Kernel {
    /// The permutation without defines.
    pub fn new<P: Params>(name: &'static str, source: &'static str, bindings: &[Access]) -> Self {
        Self { name, source, defines: Vec::new(), bindings: bindings.to_vec(), params: P::LAYOUT }
    }

    /// Adds a define.
    #[must_use]
    pub fn define(mut self, key: &'static str, value: impl ToString) -> Self {
        self.defines.push((key, value.to_string()));
        self
    }

    /// Adds a define without a value if `on`.
    #[must_use]
    pub fn flag(self, key: &'static str, on: bool) -> Self {
        if on { self.define(key, "") } else { self }
    }

    /// The WGSL text that is compiled.
    ///
    /// # Errors
    /// [`ErrorKind::Shader`] if the preprocessor refuses it.
    pub fn wgsl(&self) -> Result<String> {
        preprocess(self.name, self.source, &self.defines)
    }
}

impl super::Gpu {
    /// Compiles a kernel now, so that its first run need not; one that is compiled already costs nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Shader`] if the preprocessor or the device refuses it.
    pub async fn compile_async(&self, kernel: &Kernel) -> Result<()> {
        self.0.pipelines.get(&self.0.device, kernel).await.map(drop)
    }

    /// Blocking twin of [`Gpu::compile_async`](super::Gpu::compile_async).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn compile(&self, kernel: &Kernel) -> Result<()> {
        pollster::block_on(self.compile_async(kernel))
    }
}

/// Compiled kernels and their layouts.
#[derive(Debug)]
pub(super) struct Pipelines {
    checked: bool,
    layouts: Mutex<HashMap<usize, Arc<wgpu::BindGroupLayout>>>,
    params_layout: OnceLock<wgpu::BindGroupLayout>,
    compiled: Mutex<HashMap<Kernel, Arc<wgpu::ComputePipeline>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn storage_entry(binding: u32, ty: wgpu::BufferBindingType, dynamic: bool) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: dynamic, min_binding_size: None },
        count: None,
    }
}

impl Pipelines {
    pub(super) fn new(checked: bool) -> Self {
        Self { checked, layouts: Mutex::default(), params_layout: OnceLock::new(), compiled: Mutex::default() }
    }

    /// To be called inside a scope, like [`Pipelines::layout`].
    pub(super) fn params_layout(&self, device: &wgpu::Device) -> &wgpu::BindGroupLayout {
        self.params_layout.get_or_init(|| {
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some("wavehull.params"),
                entries: &[storage_entry(0, wgpu::BufferBindingType::Uniform, true)],
            })
        })
    }

    pub(super) fn layout(&self, device: &wgpu::Device, bindings: usize) -> Arc<wgpu::BindGroupLayout> {
        let mut layouts = locked(&self.layouts);
        Arc::clone(layouts.entry(bindings).or_insert_with(|| {
            let storage = wgpu::BufferBindingType::Storage { read_only: false };
            let entries: Vec<_> = (0u32..).take(bindings).map(|i| storage_entry(i, storage, false)).collect();
            Arc::new(device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some("wavehull.storage"),
                entries: &entries,
            }))
        }))
    }

    /// The compiled kernel, from the cache or compiled now inside an error scope.
    pub(super) async fn get(&self, device: &wgpu::Device, kernel: &Kernel) -> Result<Arc<wgpu::ComputePipeline>> {
        if let Some(found) = locked(&self.compiled).get(kernel) {
            return Ok(Arc::clone(found));
        }
        let text = kernel.wgsl()?;
        let compiled = scoped(device, || self.compile(device, kernel, text)).await;
        let pipeline = Arc::new(compiled.map_err(|refusal| {
            let what = if refusal.exhausted {
                exhausted(format!("the device has no memory left for kernel '{}'", kernel.name))
            } else {
                Error::new(ErrorKind::Shader, format!("kernel '{}' does not compile", kernel.name))
                    .with_help("run `wavehull doctor` and report its output")
            };
            what.with_source(refusal)
        })?);
        locked(&self.compiled).insert(kernel.clone(), Arc::clone(&pipeline));
        Ok(pipeline)
    }

    #[expect(unsafe_code, reason = "run-time checks are switched off for kernels that the tests run with them on")]
    fn compile(&self, device: &wgpu::Device, kernel: &Kernel, text: String) -> wgpu::ComputePipeline {
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(kernel.name), source: wgpu::ShaderSource::Wgsl(text.into()) };
        let checks =
            if self.checked { wgpu::ShaderRuntimeChecks::checked() } else { wgpu::ShaderRuntimeChecks::unchecked() };
        // SAFETY: with the checks off, a kernel must not index out of bounds, loop without end or divide an integer
        // by zero. Every shipped kernel states in its header why its indices stay inside its buffers, the recorder
        // checks the sizes of what is bound, and the tests run every kernel with the checks on as well.
        let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
        let storage = self.layout(device, kernel.bindings.len());
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: &[Some(&storage), Some(self.params_layout(device))],
            immediate_size: 0,
        });
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        })
    }
}
