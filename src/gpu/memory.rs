//! Device memory: pages with sub-allocation under a budget.
//!
//! A [`Buffer`] that is dropped is free at once: all work goes through one queue in order, so whoever gets the range
//! next runs after whoever used it last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::scope::{exhausted, scoped};
use crate::error::{Error, ErrorKind, Result};

/// What the pages of a pool are for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Class {
    page: u64,
    usage: wgpu::BufferUsages,
    first_id: u64,
}

const COMMON: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);
/// Tensors.
pub(super) const STORAGE: Class = Class { page: 16 << 20, usage: COMMON, first_id: 0 };
/// Arguments of indirect dispatches; page numbers apart from those of [`STORAGE`].
pub(super) const ARGUMENTS: Class =
    Class { page: 64 << 10, usage: COMMON.union(wgpu::BufferUsages::INDIRECT), first_id: 1 << 63 };
const ALIGNMENT: u64 = 256;

/// Bytes that the pool has and had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes in live buffers.
    pub live: u64,
    /// Most bytes in live buffers since the device was opened or the peak was reset.
    pub peak: u64,
    /// Bytes taken from the device, live or kept for reuse.
    pub reserved: u64,
    /// The budget that `reserved` never exceeds.
    pub budget: u64,
}

impl MemoryUse {
    fn hold(&mut self, size: u64) {
        self.live += size;
        self.peak = self.peak.max(self.live);
    }
}

/// Where a new buffer lies: its page, and its offset in it.
type Place = (wgpu::Buffer, u64, u64);

/// A range of device memory; cheap to clone, freed with its last clone.
#[derive(Debug, Clone)]
pub struct Buffer(Arc<Allocation>);

#[derive(Debug)]
struct Allocation {
    raw: wgpu::Buffer,
    page: u64,
    offset: u64,
    size: u64,
    pool: Weak<Mutex<State>>,
}

impl Buffer {
    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// Identity of the page and offset in it: equal for clones, different for live buffers that do not overlap.
    pub(super) fn key(&self) -> (u64, u64) {
        (self.0.page, self.0.offset)
    }

    /// The wgpu buffer that this is a range of, and the range's offset: for hosts that share the device.
    pub fn raw(&self) -> (&wgpu::Buffer, u64) {
        (&self.0.raw, self.0.offset)
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if let Some(state) = self.pool.upgrade() {
            locked(&state).release(self.page, self.offset, self.size);
        }
    }
}

#[derive(Debug)]
struct Page {
    raw: wgpu::Buffer,
    size: u64,
    /// Free ranges: offset to length.
    free: BTreeMap<u64, u64>,
}

impl Page {
    /// Takes `size` bytes from the free range at `offset`.
    fn carve(&mut self, offset: u64, size: u64) -> wgpu::Buffer {
        let rest = self.free.remove(&offset).unwrap_or_default().saturating_sub(size);
        if rest > 0 {
            self.free.insert(offset + size, rest);
        }
        self.raw.clone()
    }
}

#[derive(Debug)]
struct State {
    class: Class,
    pages: BTreeMap<u64, Page>,
    next_page: u64,
    in_use: MemoryUse,
}

#[derive(Debug)]
pub(super) struct Pool {
    state: Arc<Mutex<State>>,
    usage: wgpu::BufferUsages,
    max_buffer: u64,
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn release(&mut self, page: u64, offset: u64, size: u64) {
        self.in_use.live -= size;
        let Some(page) = self.pages.get_mut(&page) else { return };
        let (mut start, mut length) = (offset, size);
        if let Some((&before, &before_length)) = page.free.range(..offset).next_back()
            && before + before_length == offset
        {
            page.free.remove(&before);
            start = before;
            length += before_length;
        }
        if let Some(after_length) = page.free.remove(&(offset + size)) {
            length += after_length;
        }
        page.free.insert(start, length);
    }

    /// Takes from the smallest free range that holds `size`. A large range is not broken up for a small request that
    /// deserves a shared page.
    fn take(&mut self, size: u64) -> Option<Place> {
        let shared = self.class.page;
        let fits = |page: &Page, length: u64| length >= size && (page.size <= shared || length <= size * 2);
        let (id, offset) = self
            .pages
            .iter()
            .flat_map(|(&id, page)| page.free.iter().map(move |(&offset, &length)| (id, page, offset, length)))
            .filter(|(_, page, _, length)| fits(page, *length))
            .min_by_key(|(id, _, offset, length)| (*length, *id, *offset))
            .map(|(id, _, offset, _)| (id, offset))?;
        let page = self.pages.get_mut(&id)?;
        let raw = page.carve(offset, size);
        self.in_use.hold(size);
        Some((raw, id, offset))
    }

    /// Counts a page that holds `size` as taken from the device, and says how large it may be: shared, or less where
    /// the budget or the device does not allow a whole one.
    fn reserve(&mut self, size: u64, max_buffer: u64) -> Result<u64> {
        let MemoryUse { reserved, budget, .. } = self.in_use;
        let shared = self.class.page;
        let page = if size > shared / 2 {
            size
        } else {
            shared.min(max_buffer).min(budget.saturating_sub(reserved)).max(size)
        };
        if reserved + page > budget {
            self.trim();
        }
        let reserved = self.in_use.reserved;
        if reserved + page > budget {
            let message =
                format!("{page} more bytes would exceed the memory budget: {reserved} of {budget} bytes are taken");
            return Err(Error::new(ErrorKind::OutOfMemory, message)
                .with_help("drop tensors that are no longer needed, or raise the memory budget (`--memory`)"));
        }
        self.in_use.reserved += page;
        Ok(page)
    }

    /// Gives wholly free pages back to the device.
    fn trim(&mut self) {
        let reserved = &mut self.in_use.reserved;
        self.pages.retain(|_, page| {
            let keep = page.free.get(&0) != Some(&page.size);
            if !keep {
                *reserved -= page.size;
            }
            keep
        });
    }
}

impl Pool {
    pub(super) fn new(class: Class, budget: u64, max_buffer: u64) -> Self {
        let in_use = MemoryUse { budget, ..MemoryUse::default() };
        let state = State { class, pages: BTreeMap::new(), next_page: class.first_id, in_use };
        Self { state: Arc::new(Mutex::new(state)), usage: class.usage, max_buffer }
    }

    pub(super) fn in_use(&self) -> MemoryUse {
        locked(&self.state).in_use
    }

    pub(super) fn reset_peak(&self) {
        let state = &mut locked(&self.state).in_use;
        state.peak = state.live;
    }

    /// A buffer of at least `bytes` (rounded up to 256).
    pub(super) async fn allocate(&self, device: &wgpu::Device, bytes: u64) -> Result<Buffer> {
        let size = bytes.max(1).checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX);
        self.check_possible(size)?;
        let found = locked(&self.state).take(size);
        let (raw, page, offset) = match found {
            Some(place) => place,
            None => self.grow(device, size).await?,
        };
        Ok(Buffer(Arc::new(Allocation { raw, page, offset, size, pool: Arc::downgrade(&self.state) })))
    }

    fn check_possible(&self, size: u64) -> Result<()> {
        let usage = self.in_use();
        let limit = self.max_buffer;
        if size > limit {
            return Err(Error::new(
                ErrorKind::TooBig,
                format!("a buffer of {size} bytes is larger than any of this adapter ({limit} bytes)"),
            )
            .with_help("use a smaller batch or network, or an adapter with larger buffers (`wavehull devices`)"));
        }
        if size > usage.budget {
            return Err(Error::new(
                ErrorKind::TooBig,
                format!("a buffer of {size} bytes is larger than the whole memory budget ({} bytes)", usage.budget),
            )
            .with_help("raise the memory budget (`--memory`), or use a smaller batch"));
        }
        Ok(())
    }

    /// A new page, and `size` bytes of it: they are taken before another thread sees it.
    async fn grow(&self, device: &wgpu::Device, size: u64) -> Result<Place> {
        let page_size = locked(&self.state).reserve(size, self.max_buffer)?;
        let descriptor = wgpu::BufferDescriptor {
            label: Some("wavehull.page"),
            size: page_size,
            usage: self.usage,
            mapped_at_creation: false,
        };
        let created = scoped(device, || device.create_buffer(&descriptor)).await;
        let mut state = locked(&self.state);
        let raw = created.map_err(|refusal| {
            state.in_use.reserved -= page_size;
            exhausted(format!("the device has no {page_size} bytes to give")).with_source(refusal)
        })?;
        let mut page = Page { raw, size: page_size, free: BTreeMap::from([(0, page_size)]) };
        let raw = page.carve(0, size);
        let id = state.next_page;
        state.next_page += 1;
        state.pages.insert(id, page);
        state.in_use.hold(size);
        Ok((raw, id, 0))
    }
}
