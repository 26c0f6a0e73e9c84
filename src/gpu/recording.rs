//! Recordings: what the device shall do, as plain data that can be printed, tested without a device and replayed.

use std::fmt;

use super::kernel::{Access, Kernel};
use super::memory::Buffer;
use super::params::Params;
use crate::error::{Error, Result};

/// A bound range of a buffer.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The buffer.
    pub buffer: Buffer,
    /// Offset in it in bytes, a multiple of 256.
    pub offset: u64,
    /// Bytes from there.
    pub size: u64,
}

impl Binding {
    /// A whole buffer.
    pub fn whole(buffer: &Buffer) -> Self {
        Self { buffer: buffer.clone(), offset: 0, size: buffer.size() }
    }

    /// Page and byte range on the device.
    pub(super) fn range(&self) -> (u64, std::ops::Range<u64>) {
        let (page, start) = self.buffer.key();
        (page, start + self.offset..start + self.offset + self.size)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let ((page, a), (other_page, b)) = (self.range(), other.range());
        page == other_page && a.start < b.end && b.start < a.end
    }
}

/// How many workgroups.
#[derive(Debug, Clone)]
pub enum Grid {
    /// Known when recording.
    Direct([u32; 3]),
    /// Three words on the device, written by an earlier dispatch.
    Indirect(Binding),
}

/// One dispatch of a kernel.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// What runs.
    pub kernel: Kernel,
    /// Its storage buffers, in the kernel's order.
    pub bindings: Vec<Binding>,
    /// Its parameter struct; the first 16 bytes are the grid offset, which the device layer fills in.
    pub params: Vec<u8>,
    /// Its workgroups.
    pub grid: Grid,
    /// Estimated operations, for cutting work into short submissions. Never changes results.
    pub work: f64,
}

/// One step of a recording.
#[derive(Debug, Clone)]
pub enum Command {
    /// Run a kernel.
    Dispatch(Box<Dispatch>),
    /// Fill a range with zero bytes.
    Clear(Binding),
    /// Copy a range; both of the same size.
    Copy {
        /// Source.
        from: Binding,
        /// Destination.
        to: Binding,
    },
    /// Bring a range to the host at the end of the run.
    Read(Binding),
}

/// Names one [`Command::Read`] of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadTicket(pub(super) usize);

/// A list of commands.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    commands: Vec<Command>,
    reads: usize,
}

impl Recording {
    /// An empty recording.
    pub fn new() -> Self {
        Self::default()
    }

    /// The commands so far.
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// Number of dispatches so far.
    pub fn dispatches(&self) -> usize {
        self.commands.iter().filter(|c| matches!(c, Command::Dispatch(_))).count()
    }

    /// Adds a dispatch; an empty grid adds nothing.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] if the bindings are not what the kernel declares, or if a written range
    /// overlaps another range of the same dispatch.
    pub fn dispatch<P: Params>(
        &mut self,
        kernel: &Kernel,
        bindings: Vec<Binding>,
        params: &P,
        grid: Grid,
        work: f64,
    ) -> Result<()> {
        check_bindings(kernel, &bindings)?;
        if kernel.params != P::LAYOUT {
            return Err(Error::internal(format!("kernel '{}' was given another kernel's parameters", kernel.name)));
        }
        if let Grid::Direct(size) = &grid
            && size.contains(&0)
        {
            return Ok(());
        }
        let params = bytemuck::bytes_of(params).to_vec();
        let dispatch = Dispatch { kernel: kernel.clone(), bindings, params, grid, work };
        self.commands.push(Command::Dispatch(Box::new(dispatch)));
        Ok(())
    }

    /// Adds a fill with zero bytes.
    pub fn clear(&mut self, target: Binding) {
        self.commands.push(Command::Clear(target));
    }

    /// Adds a copy.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] if the sizes differ, or if both ranges lie in one page of the pool: wgpu copies between
    /// different buffers only.
    pub fn copy(&mut self, from: Binding, to: Binding) -> Result<()> {
        if from.size != to.size || from.range().0 == to.range().0 {
            let what = format!("a copy of {} bytes into {} bytes, or inside one page", from.size, to.size);
            return Err(Error::internal(what));
        }
        self.commands.push(Command::Copy { from, to });
        Ok(())
    }

    /// Adds a read; the bytes come with the run's output.
    pub fn read(&mut self, from: Binding) -> ReadTicket {
        self.commands.push(Command::Read(from));
        self.reads += 1;
        ReadTicket(self.reads - 1)
    }
}

fn check_bindings(kernel: &Kernel, bindings: &[Binding]) -> Result<()> {
    if kernel.bindings.len() != bindings.len() {
        return Err(Error::internal(format!(
            "kernel '{}' has {} bindings, {} were given",
            kernel.name,
            kernel.bindings.len(),
            bindings.len()
        )));
    }
    for (i, a) in bindings.iter().enumerate() {
        if a.offset % 256 != 0 || a.size == 0 || a.offset + a.size > a.buffer.size() {
            return Err(Error::internal(format!("binding {i} of kernel '{}' leaves its buffer", kernel.name)));
        }
        for (j, b) in bindings.iter().enumerate().skip(i + 1) {
            let written = kernel.bindings[i] == Access::Write || kernel.bindings[j] == Access::Write;
            if written && a.overlaps(b) {
                return Err(Error::internal(format!(
                    "bindings {i} and {j} of kernel '{}' overlap and one is written",
                    kernel.name
                )));
            }
        }
    }
    Ok(())
}

impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for command in &self.commands {
            match command {
                Command::Dispatch(d) => {
                    let defines: Vec<String> = d.kernel.defines.iter().map(|(k, v)| format!("{k}={v}")).collect();
                    let grid = match &d.grid {
                        Grid::Direct([x, y, z]) => format!("{x}x{y}x{z}"),
                        Grid::Indirect(_) => "indirect".to_owned(),
                    };
                    writeln!(f, "dispatch {} [{}] {grid}", d.kernel.name, defines.join(" "))?;
                }
                Command::Clear(b) => writeln!(f, "clear {} bytes", b.size)?,
                Command::Copy { from, .. } => writeln!(f, "copy {} bytes", from.size)?,
                Command::Read(b) => writeln!(f, "read {} bytes", b.size)?,
            }
        }
        Ok(())
    }
}
