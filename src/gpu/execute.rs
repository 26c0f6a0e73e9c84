//! Running a recording: few passes, few submissions, each bounded in time, with cancellation between them.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;
use web_time::Instant;

use super::control::Control;
use super::profile::Clock;
use super::readback::Staging;
use super::recording::{Command, Dispatch, Grid, ReadTicket, Recording};
use super::{Gpu, locked};
use crate::error::{Error, Result};

/// Aimed time of one submission. Operating systems reset a device that is busy for about two seconds.
const SUBMISSION: f64 = 0.1;
/// Submissions in flight: one runs while the next is encoded.
const IN_FLIGHT: usize = 2;
/// A device that has not finished a submission after this long counts as lost.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a run gave back.
#[derive(Debug)]
pub struct Output {
    reads: Vec<Vec<u8>>,
    /// Submissions that the run was cut into.
    pub submissions: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Device seconds of each dispatch with its kernel's name, in order; empty unless asked for.
    pub kernel_times: Vec<(&'static str, f64)>,
}

impl Output {
    /// The elements behind a ticket.
    pub fn take<T: bytemuck::Pod>(&mut self, ticket: ReadTicket) -> Vec<T> {
        bytemuck::pod_collect_to_vec(&std::mem::take(&mut self.reads[ticket.0]))
    }
}

/// Bind groups by what they bind: page, first and last byte of each binding.
pub(super) type BindGroups = HashMap<Vec<(u64, u64, u64)>, wgpu::BindGroup>;

type Pipeline = std::sync::Arc<wgpu::ComputePipeline>;

/// A submission that the device works on.
#[derive(Debug)]
struct Flying {
    index: wgpu::SubmissionIndex,
    work: f64,
    submitted: Instant,
}

/// A recording on its way through the device, which the host need not wait for before it submits the next.
#[derive(Debug)]
#[must_use = "what the recording reads comes from `finish_async`"]
pub struct Flight {
    gpu: Gpu,
    start: Instant,
    arena: wgpu::Buffer,
    flying: VecDeque<Flying>,
    /// Reads in order, each with the submission that copies it.
    staging: Vec<(Staging, wgpu::SubmissionIndex)>,
    submissions: usize,
    kernel_times: Vec<(&'static str, f64)>,
}

impl Flight {
    /// Waits for the device, and brings back what the recording reads.
    ///
    /// # Errors
    /// [`crate::ErrorKind::DeviceLost`].
    pub async fn finish_async(mut self) -> Result<Output> {
        while !self.flying.is_empty() {
            self.land().await?;
        }
        let mut reads = Vec::with_capacity(self.staging.len());
        for (buffer, index) in self.staging {
            reads.push(self.gpu.fetch(buffer, index).await?);
        }
        self.gpu.0.arenas.put(self.arena);
        self.gpu.check_alive()?;
        let seconds = self.start.elapsed().as_secs_f64();
        Ok(Output { reads, submissions: self.submissions, seconds, kernel_times: self.kernel_times })
    }

    /// Waits for the oldest submission and learns from it how fast this device works.
    async fn land(&mut self) -> Result<()> {
        let Some(Flying { index, work, submitted }) = self.flying.pop_front() else { return Ok(()) };
        self.gpu.wait(index).await?;
        let now = Instant::now();
        // The device began with it when the one before, perhaps of another recording, had landed.
        let before = locked(&self.gpu.0.landed).replace(now);
        let seconds = (now - before.map_or(submitted, |before| before.max(submitted))).as_secs_f64();
        if work > 1e7 && seconds > 0.0 {
            // Half old, half new, and not much faster at once: a host that comes late sees submissions end in no time, and one odd
            // submission must not make the next cut wild.
            let seen = (work / seconds).min(4.0 * self.gpu.rate());
            let rate = 0.5 * self.gpu.rate() + 0.5 * seen;
            self.gpu.0.rate.store(rate.to_bits(), Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A dispatch (or a part of one that was cut) with all that encoding needs.
struct Part {
    pipeline: Pipeline,
    group: wgpu::BindGroup,
    params: u32,
    grid: PartGrid,
    seconds: f64,
    work: f64,
    name: &'static str,
}

enum PartGrid {
    Direct([u32; 3]),
    Indirect(wgpu::Buffer, u64),
}

enum Step<'a> {
    Part(Part),
    Other(&'a Command),
}

/// A recording that is ready to be encoded.
struct Prepared<'a> {
    steps: Vec<Step<'a>>,
    arena: wgpu::Buffer,
    params: wgpu::BindGroup,
}

impl Gpu {
    /// Runs a recording to its end and brings back what it reads.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Cancelled`] between submissions if the token says so, [`crate::ErrorKind::DeviceLost`],
    /// [`crate::ErrorKind::Shader`] for a kernel that does not compile, [`crate::ErrorKind::OutOfMemory`].
    pub async fn run_async(&self, recording: &Recording, control: &Control) -> Result<Output> {
        self.submit_async(recording, control).await?.finish_async().await
    }

    /// Blocking twin of [`Gpu::run_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn run(&self, recording: &Recording, control: &Control) -> Result<Output> {
        pollster::block_on(self.run_async(recording, control))
    }

    /// Runs a recording with one pass a dispatch and the device's clock around each, so that
    /// [`Output::kernel_times`] is filled (it stays empty where the device has no clock).
    pub async fn profile_async(&self, recording: &Recording, control: &Control) -> Result<Output> {
        self.submit(recording, control, true).await?.finish_async().await
    }

    /// Blocking twin of [`Gpu::profile_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn profile(&self, recording: &Recording, control: &Control) -> Result<Output> {
        pollster::block_on(self.profile_async(recording, control))
    }

    /// Hands a recording to the device and returns while it still works on the last submission. Recordings run in the order in which they
    /// were handed over, so a caller may have the next one ready before the results of this one are there.
    ///
    /// # Errors
    /// Those of [`Gpu::run_async`].
    pub async fn submit_async(&self, recording: &Recording, control: &Control) -> Result<Flight> {
        self.submit(recording, control, false).await
    }

    /// What [`Gpu::submit_async`] does, with the device's clock around each dispatch if `profile` says so (it then waits for all of it).
    pub(crate) async fn submit(&self, recording: &Recording, control: &Control, profile: bool) -> Result<Flight> {
        self.check_alive()?;
        let profile = profile && self.caps().timestamps;
        let start = Instant::now();
        let Prepared { steps, arena, params } = self.prepare(recording).await?;
        let mut flight = Flight {
            gpu: self.clone(),
            start,
            arena,
            flying: VecDeque::new(),
            staging: Vec::new(),
            submissions: 0,
            kernel_times: Vec::new(),
        };
        self.submit_all(&steps, &params, control, profile, &mut flight).await?;
        Ok(flight)
    }

    async fn prepare<'a>(&self, recording: &'a Recording) -> Result<Prepared<'a>> {
        let mut pipelines = Vec::with_capacity(recording.commands().len());
        for command in recording.commands() {
            if let Command::Dispatch(dispatch) = command {
                pipelines.push(self.0.pipelines.get(&self.0.device, &dispatch.kernel).await?);
            }
        }
        let prepared = self.guarded(|| self.lay_out(recording, pipelines)).await;
        if prepared.is_err() {
            // A group that the device refused must not be found again.
            locked(&self.0.groups).clear();
        }
        prepared
    }

    /// Binds, cuts, and uploads all parameters into one arena. `pipelines` are those of the dispatches, in order.
    fn lay_out<'a>(&self, recording: &'a Recording, pipelines: Vec<Pipeline>) -> Result<Prepared<'a>> {
        let mut pipelines = pipelines.into_iter();
        let mut steps = Vec::with_capacity(recording.commands().len());
        let mut arena: Vec<u8> = Vec::new();
        let alignment = usize::try_from(self.caps().uniform_alignment).unwrap_or(256).max(16);
        for command in recording.commands() {
            let Command::Dispatch(dispatch) = command else {
                steps.push(Step::Other(command));
                continue;
            };
            let pipeline = pipelines.next().ok_or_else(|| Error::internal("a dispatch without a pipeline"))?;
            self.check_bindings(dispatch)?;
            let group = self.bind(dispatch);
            for (offset, size) in self.cut(dispatch)? {
                arena.resize(arena.len().next_multiple_of(alignment), 0);
                let params = u32::try_from(arena.len()).map_err(|_| Error::internal("the parameter arena is full"))?;
                arena.extend_from_slice(bytemuck::cast_slice(&[offset[0], offset[1], offset[2], 0]));
                arena.extend_from_slice(dispatch.params.get(16..).unwrap_or_default());
                let (grid, share) = match &dispatch.grid {
                    Grid::Indirect(args) => {
                        let (raw, base) = args.buffer.raw();
                        (PartGrid::Indirect(raw.clone(), base + args.offset), 1.0)
                    }
                    Grid::Direct(whole) => (PartGrid::Direct(size), volume(size) / volume(*whole)),
                };
                let work = dispatch.work * share;
                let seconds = work / self.rate();
                let name = dispatch.kernel.name;
                steps.push(Step::Part(Part {
                    pipeline: pipeline.clone(),
                    group: group.clone(),
                    params,
                    grid,
                    seconds,
                    work,
                    name,
                }));
            }
        }
        // A dynamic offset binds PARAMS bytes from it, so the last block needs that much behind it.
        arena.resize(arena.len() + super::PARAMS as usize, 0);
        let buffer = self.0.arenas.take(&self.0.device, arena.len() as u64);
        self.0.queue.write_buffer(&buffer, 0, &arena);
        let params = self.params_group(&buffer);
        Ok(Prepared { steps, arena: buffer, params })
    }

    /// A buffer may be larger than what the device binds at once; operators that do not walk windows find out here.
    fn check_bindings(&self, dispatch: &Dispatch) -> Result<()> {
        let most = self.caps().max_binding;
        let Some(large) = dispatch.bindings.iter().map(|b| b.size).find(|&size| size > most) else { return Ok(()) };
        let name = dispatch.kernel.name;
        Err(Error::new(
            crate::ErrorKind::TooBig,
            format!("kernel '{name}' was given {large} bytes at once, this adapter binds {most}"),
        )
        .with_help("use a smaller batch or network, or an adapter with larger bindings (`wavehull devices`)"))
    }

    fn bind(&self, dispatch: &Dispatch) -> wgpu::BindGroup {
        let key: Vec<(u64, u64, u64)> = dispatch
            .bindings
            .iter()
            .map(|b| {
                let (page, range) = b.range();
                (page, range.start, range.end)
            })
            .collect();
        let mut groups = locked(&self.0.groups);
        if let Some(found) = groups.get(&key) {
            return found.clone();
        }
        if groups.len() >= 4096 {
            // Groups keep their pages alive; a full cache mostly holds groups of buffers that are gone.
            groups.clear();
        }
        let entries: Vec<wgpu::BindGroupEntry<'_>> = (0u32..)
            .zip(&dispatch.bindings)
            .map(|(binding, b)| {
                let (raw, base) = b.buffer.raw();
                let size = std::num::NonZeroU64::new(b.size);
                let resource = wgpu::BufferBinding { buffer: raw, offset: base + b.offset, size };
                wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(resource) }
            })
            .collect();
        let group = self.0.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(dispatch.kernel.name),
            layout: &self.0.pipelines.layout(&self.0.device, entries.len()),
            entries: &entries,
        });
        groups.insert(key, group.clone());
        group
    }

    /// Cuts a dispatch that would take longer than a submission may, along its longest dimension. An indirect one is
    /// never cut, for the host does not know its grid: whoever records one bounds its work.
    fn cut(&self, dispatch: &Dispatch) -> Result<Vec<([u32; 3], [u32; 3])>> {
        let Grid::Direct(grid) = dispatch.grid else { return Ok(vec![([0; 3], [0; 3])]) };
        if let Some(&most) = grid.iter().find(|&&d| d > self.caps().max_workgroups) {
            return Err(Error::internal(format!(
                "kernel '{}' wants {most} workgroups in one dimension, the device allows {}",
                dispatch.kernel.name,
                self.caps().max_workgroups
            )));
        }
        let axis = (0..3).max_by_key(|&axis| grid[axis]).unwrap_or(0);
        let wanted = (dispatch.work / self.rate() / SUBMISSION).ceil().max(1.0);
        let pieces = if wanted < f64::from(grid[axis]) { wanted as u32 } else { grid[axis] };
        let length = grid[axis].div_ceil(pieces.max(1));
        let starts = (0..grid[axis]).step_by(length as usize);
        Ok(starts
            .map(|start| {
                let (mut offset, mut size) = ([0; 3], grid);
                offset[axis] = start;
                size[axis] = length.min(grid[axis] - start);
                (offset, size)
            })
            .collect())
    }

    async fn submit_all(
        &self,
        steps: &[Step<'_>],
        params: &wgpu::BindGroup,
        control: &Control,
        profile: bool,
        flight: &mut Flight,
    ) -> Result<()> {
        let mut rest = steps;
        while !rest.is_empty() {
            control.cancel.check()?;
            let count = submission_length(rest, profile);
            let (now, later) = rest.split_at(count);
            rest = later;
            let mut staging = Vec::new();
            let submit = || {
                let mut clock = profile.then(|| Clock::new(&self.0.device, now.len()));
                let (commands, work) = self.encode(now, params, clock.as_mut(), &mut staging);
                Ok((self.0.queue.submit([commands]), work, clock))
            };
            let (index, work, clock) = self.guarded(submit).await?;
            flight.staging.extend(staging.into_iter().map(|buffer| (buffer, index.clone())));
            flight.flying.push_back(Flying { index, work, submitted: Instant::now() });
            flight.submissions += 1;
            while flight.flying.len() >= IN_FLIGHT || (profile && !flight.flying.is_empty()) {
                flight.land().await?;
            }
            if let Some(clock) = clock {
                let names = now.iter().filter_map(|s| if let Step::Part(p) = s { Some(p.name) } else { None });
                flight.kernel_times.extend(names.zip(clock.read(self).await?));
            }
            control.report("device", (steps.len() - rest.len()) as u64, steps.len() as u64, "dispatches");
        }
        Ok(())
    }

    fn params_group(&self, arena: &wgpu::Buffer) -> wgpu::BindGroup {
        let resource = wgpu::BufferBinding { buffer: arena, offset: 0, size: std::num::NonZeroU64::new(super::PARAMS) };
        self.0.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("wavehull.params"),
            layout: self.0.pipelines.params_layout(&self.0.device),
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(resource) }],
        })
    }

    fn encode(
        &self,
        steps: &[Step<'_>],
        params: &wgpu::BindGroup,
        mut clock: Option<&mut Clock>,
        staging: &mut Vec<Staging>,
    ) -> (wgpu::CommandBuffer, f64) {
        let mut encoder =
            self.0.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("wavehull") });
        let mut pass: Option<wgpu::ComputePass<'static>> = None;
        let mut work = 0.0;
        for step in steps {
            match step {
                Step::Part(part) => {
                    if clock.is_some() {
                        pass = None;
                    }
                    let pass = pass.get_or_insert_with(|| {
                        let writes = clock.as_mut().map(|c| c.writes());
                        let descriptor =
                            wgpu::ComputePassDescriptor { label: Some("wavehull"), timestamp_writes: writes };
                        encoder.begin_compute_pass(&descriptor).forget_lifetime()
                    });
                    pass.set_pipeline(&part.pipeline);
                    pass.set_bind_group(0, &part.group, &[]);
                    pass.set_bind_group(1, params, &[part.params]);
                    match &part.grid {
                        PartGrid::Direct([x, y, z]) => pass.dispatch_workgroups(*x, *y, *z),
                        PartGrid::Indirect(buffer, offset) => pass.dispatch_workgroups_indirect(buffer, *offset),
                    }
                    work += part.work;
                }
                Step::Other(command) => {
                    pass = None;
                    self.encode_other(&mut encoder, command, staging);
                }
            }
        }
        drop(pass);
        if let Some(clock) = clock {
            clock.resolve(&mut encoder);
        }
        (encoder.finish(), work)
    }

    fn encode_other(&self, encoder: &mut wgpu::CommandEncoder, command: &Command, staging: &mut Vec<Staging>) {
        let place = |b: &super::Binding| {
            let (raw, base) = b.buffer.raw();
            (raw.clone(), base + b.offset)
        };
        match command {
            Command::Clear(target) => {
                let (raw, at) = place(target);
                encoder.clear_buffer(&raw, at, Some(target.size));
            }
            Command::Copy { from, to } => {
                let ((source, s), (target, t)) = (place(from), place(to));
                encoder.copy_buffer_to_buffer(&source, s, &target, t, from.size);
            }
            Command::Read(from) => {
                let (source, s) = place(from);
                let slot = self.0.staging.take(&self.0.device, from.size);
                encoder.copy_buffer_to_buffer(&source, s, &slot.raw, 0, from.size);
                staging.push(slot);
            }
            Command::Dispatch(_) => {}
        }
    }

    pub(super) async fn wait(&self, index: wgpu::SubmissionIndex) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        {
            let poll = wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(PATIENCE) };
            if let Err(error) = self.0.device.poll(poll) {
                self.check_alive()?;
                return Err(Error::new(crate::ErrorKind::DeviceLost, "the device did not finish its work")
                    .with_help("the driver may have reset it; run again, and report it with `wavehull doctor`")
                    .with_source(error));
            }
        }
        #[cfg(target_arch = "wasm32")]
        {
            let _ = (index, PATIENCE);
            let done = super::readback::Signal::default();
            let fire = done.clone();
            self.0.queue.on_submitted_work_done(move || fire.set(Ok(())));
            done.await?;
        }
        self.check_alive()
    }

    fn rate(&self) -> f64 {
        f64::from_bits(self.0.rate.load(Ordering::Relaxed))
    }
}

fn volume(grid: [u32; 3]) -> f64 {
    grid.iter().map(|&d| f64::from(d)).product()
}

/// How many steps go into the next submission.
fn submission_length(steps: &[Step<'_>], profile: bool) -> usize {
    let mut seconds = 0.0;
    for (count, step) in steps.iter().enumerate() {
        if let Step::Part(part) = step {
            if count > 0 && seconds + part.seconds > SUBMISSION {
                return count;
            }
            seconds += part.seconds;
        }
        if profile && count + 1 >= super::profile::MOST {
            return count + 1;
        }
    }
    steps.len()
}
