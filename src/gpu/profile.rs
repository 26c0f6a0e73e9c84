//! Device time of single dispatches, by timestamps at pass boundaries (the form that every backend has).

use super::Gpu;
use crate::error::Result;

/// Most dispatches timed in one submission (a query set holds 4,096 timestamps).
pub(super) const MOST: usize = 512;

/// A query set for one submission.
pub(super) struct Clock {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    passes: u32,
}

impl Clock {
    /// To be called inside a scope.
    pub(super) fn new(device: &wgpu::Device, dispatches: usize) -> Self {
        let count = u32::try_from(dispatches.clamp(1, MOST) * 2).unwrap_or(2);
        let set = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("wavehull.clock"),
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let resolved = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("wavehull.clock"),
            size: u64::from(count) * 8,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        Self { set, resolved, passes: 0 }
    }

    /// For the next pass.
    pub(super) fn writes(&mut self) -> wgpu::ComputePassTimestampWrites<'_> {
        let pass = self.passes;
        self.passes += 1;
        wgpu::ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: Some(pass * 2),
            end_of_pass_write_index: Some(pass * 2 + 1),
        }
    }

    pub(super) fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        if self.passes > 0 {
            encoder.resolve_query_set(&self.set, 0..self.passes * 2, &self.resolved, 0);
        }
    }

    /// Seconds of each pass, in order.
    pub(super) async fn read(self, gpu: &Gpu) -> Result<Vec<f64>> {
        let bytes = u64::from(self.passes) * 16;
        if bytes == 0 {
            return Ok(Vec::new());
        }
        let copy = || {
            let staging = gpu.0.staging.take(&gpu.0.device, bytes);
            let mut encoder = gpu.0.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
            encoder.copy_buffer_to_buffer(&self.resolved, 0, &staging.raw, 0, bytes);
            Ok((staging, gpu.0.queue.submit([encoder.finish()])))
        };
        let (staging, index) = gpu.guarded(copy).await?;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&gpu.fetch(staging, index).await?);
        let period = f64::from(gpu.0.queue.get_timestamp_period()) * 1e-9;
        Ok(ticks.chunks_exact(2).map(|pair| pair[1].saturating_sub(pair[0]) as f64 * period).collect())
    }
}
