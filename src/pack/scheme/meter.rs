//! Sizes counted on the device: many tensors under many schemes in one go.
//!
//! What schemes want to know of a tensor is boiled down to few tasks (a histogram, sums over groups of a size, runs along a stream), and those
//! share what they can: a tensor is uploaded once, widths of all groups are folded from those of four values, streams are cut into chunks
//! whose carries serve all that follows. Tasks append to one recording; it runs when the batch holds enough memory, and its results come back
//! in one read. Tensors that are too large are counted in parts, whose sums the host joins.

mod batch;
mod kernels;
mod parts;
mod sums;

use crate::error::Result;
use crate::gpu::{Control, Gpu};
use crate::pack::codec::rans;
use crate::pack::values::Values;

use super::width::Widths;
use super::{Scheme, Size, reference};
use batch::Batch;
use sums::{Found, Task};

pub(in crate::pack) use kernels::catalogue;

/// No part of a tensor has more values: then no sum of a part reaches 2^32.
const MOST_VALUES: usize = 1 << 26;

/// Values that the host codes before a device has been asked to.
const FEW: usize = 1 << 15;

/// Counts bits on a device; the same numbers as [`reference::size`].
#[derive(Debug, Clone)]
pub struct Meter {
    gpu: Gpu,
    part: usize,
    batch: u64,
}

/// What is known of a tensor so far.
struct Tensor<'a> {
    values: &'a Values,
    tasks: Vec<(Task, Found)>,
}

impl Meter {
    /// A meter on this device, within its memory budget.
    pub fn new(gpu: &Gpu) -> Self {
        let budget = gpu.memory().budget;
        let part = (budget / 16).min(gpu.caps().max_binding).min(64 << 20);
        Self { gpu: gpu.clone(), part: usize::try_from(part).unwrap_or(64 << 20), batch: (budget / 4).min(256 << 20) }
    }

    /// The same, with tensors cut into parts of at most so many bytes (1 KiB at least). Results do not depend on it.
    #[must_use]
    pub fn with_parts_of(self, bytes: usize) -> Self {
        Self { part: bytes.max(1024).min(self.part), ..self }
    }

    /// The size of each tensor under each scheme: `sizes[tensor][scheme]`. A single stream that does not fit the device in one part (a channel
    /// of more than 2^26 values, EBPC of a tensor of more) is counted on the host.
    ///
    /// # Errors
    /// Those of [`Scheme::check`] and of [`Gpu::run_async`].
    pub async fn measure_async(
        &self,
        tensors: &[&Values],
        schemes: &[Scheme],
        control: &Control,
    ) -> Result<Vec<Vec<Size>>> {
        for values in tensors {
            schemes.iter().try_for_each(|scheme| scheme.check(values.element()))?;
        }
        let mut all: Vec<Tensor<'_>> = tensors.iter().map(|values| Tensor { values, tasks: Vec::new() }).collect();
        let mut batch = Batch::new_async(&self.gpu).await?;
        for index in 0..all.len() {
            control.cancel.check()?;
            control.report("counting bits", index as u64, all.len() as u64, "tensors");
            let parts = self.begin(&mut all[index], schemes);
            let widths = Widths::of(all[index].values);
            for (part, task) in parts {
                if batch.is_full(self.batch) {
                    batch.finish_async(&mut all, control).await?;
                    batch = Batch::new_async(&self.gpu).await?;
                }
                batch.record_async(&all[index], (index, task), part, widths.top).await?;
            }
        }
        batch.finish_async(&mut all, control).await?;
        let mut sizes = Vec::with_capacity(all.len());
        for tensor in &all {
            control.cancel.check()?;
            let mut own = Vec::with_capacity(schemes.len());
            for scheme in schemes {
                own.push(match scheme {
                    // Coded without being written.
                    Scheme::Rans if tensor.values.len() > FEW => {
                        let coded = rans::encoded_bits_async(&self.gpu, tensor.values, control).await?;
                        reference::at_most_plain(tensor.values, coded)
                    }
                    scheme => tensor.size(scheme)?,
                });
            }
            sizes.push(own);
        }
        control.report("counting bits", all.len() as u64, all.len() as u64, "tensors");
        Ok(sizes)
    }

    /// Blocking twin of [`Meter::measure_async`].
    ///
    /// # Errors
    /// Those of [`Meter::measure_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn measure(&self, tensors: &[&Values], schemes: &[Scheme], control: &Control) -> Result<Vec<Vec<Size>>> {
        pollster::block_on(self.measure_async(tensors, schemes, control))
    }

    /// Finds the tasks of a tensor and cuts them, those of the same part next to each other.
    fn begin(&self, tensor: &mut Tensor<'_>, schemes: &[Scheme]) -> Vec<(batch::Part, usize)> {
        let values = tensor.values;
        let mut parts = Vec::new();
        if values.is_empty() {
            return parts;
        }
        for task in schemes.iter().filter_map(|scheme| Task::of(scheme, values.element())) {
            if tensor.tasks.iter().any(|(known, _)| *known == task) {
                continue;
            }
            let Some(own) = self.cut(values, task) else { continue };
            parts.extend(own.into_iter().map(|part| (part, tensor.tasks.len())));
            tensor.tasks.push((task, Found::new(task, values.element())));
        }
        parts.sort_by(|(a, _), (b, _)| a.view().cmp(b.view()));
        parts
    }

    fn cut(&self, values: &Values, task: Task) -> Option<Vec<batch::Part>> {
        let width = if values.halves().is_some() { 2 } else { 1 };
        let most = (self.part / width).min(MOST_VALUES);
        Some(match task {
            Task::Histogram => parts::flat_parts(values, most).into_iter().map(batch::Part::Flat).collect(),
            Task::Groups { restart, .. } => {
                parts::group_parts(values, restart, most).into_iter().map(batch::Part::Groups).collect()
            }
            Task::Runs { .. } => parts::order_parts(values, most)?.into_iter().map(batch::Part::Runs).collect(),
            Task::Planes => {
                // Blocks go on across parts.
                let parts = parts::order_parts(values, most).filter(|parts| parts.len() == 1)?;
                parts.into_iter().map(batch::Part::Runs).collect()
            }
            Task::Scnn { .. } => parts::stream_parts(values, self.part)?.into_iter().map(batch::Part::Runs).collect(),
        })
    }
}

impl Tensor<'_> {
    fn size(&self, scheme: &Scheme) -> Result<Size> {
        let task = Task::of(scheme, self.values.element());
        let found = self.tasks.iter().find(|(known, _)| Some(*known) == task);
        match found.and_then(|(_, found)| sums::size(self.values, scheme, found)) {
            Some(size) => Ok(size),
            // Nothing to count, or nothing that fits the device.
            None => reference::size(self.values, scheme),
        }
    }
}
