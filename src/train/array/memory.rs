//! What an array takes on the device, and how many slots that leaves room for.

use super::{ArrayMemory, ArrayOptions};
use crate::gpu::Gpu;
use crate::train::lower::Plan;
use crate::train::table::Table;

/// What decides on it.
pub(super) struct Sizes<'a> {
    pub gpu: &'a Gpu,
    pub plan: &'a Plan,
    pub table: &'a Table,
    pub statistics: &'a Table,
    /// Bytes of the data set.
    pub data: u64,
    pub options: &'a ArrayOptions,
}

impl Sizes<'_> {
    /// Lengths of a member's rows in the tables.
    pub fn widths(&self) -> Vec<usize> {
        let mut widths = vec![self.table.width; 1 + self.options.optimiser.state_tables()];
        widths.push(self.statistics.width);
        widths
    }

    /// Bytes that are planned with: pages of the pool are not filled to the last byte, and evaluations take memory of their own.
    fn usable(&self) -> u64 {
        self.gpu.memory().budget / 10 * 8
    }

    pub fn memory(&self) -> ArrayMemory {
        let words: usize = self.widths().iter().sum::<usize>() + self.table.width;
        let pass = self.plan.words() + self.options.batch * 16;
        let caps = self.gpu.caps();
        let largest = self.plan.largest().max(self.table.width).max(self.statistics.width).max(1) as u64 * 4;
        let (tables, pass, data) = (words as u64 * 4, pass as u64 * 4, self.data);
        let free = self.usable().saturating_sub(data + tables * self.options.slots as u64);
        let slots_at_once =
            (caps.max_binding / largest).min(free / pass.max(1)).min(u64::from(caps.max_workgroups)) as usize;
        ArrayMemory { tables, pass, data, slots_at_once }
    }

    /// Slots for whose tables there is room, beside the data and one slot's pass.
    pub fn room(&self) -> usize {
        let ArrayMemory { tables, pass, data, .. } = self.memory();
        let slots = self.usable().saturating_sub(data + pass) / tables.max(1);
        usize::try_from(slots).unwrap_or(usize::MAX)
    }

    /// Why there is no array of so many slots, and what would fit.
    pub fn too_big(&self) -> (String, String) {
        let ArrayMemory { tables, pass, data, .. } = self.memory();
        let (slots, budget) = (self.options.slots, self.gpu.memory().budget);
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let what = format!(
            "{slots} slots take {} MiB of tables, {} MiB of data and {} MiB for a pass of one slot, the budget is {} MiB",
            mib(tables * slots as u64),
            mib(data),
            mib(pass),
            mib(budget)
        );
        let help = match self.room() {
            0 => "not even one slot would fit: use a smaller model or batch, or raise the memory budget (`--memory`)"
                .to_owned(),
            room if room < slots => format!(
                "{room} slots would fit (`slots`); or use a smaller batch, or raise the memory budget (`--memory`)"
            ),
            _ => {
                "a tensor of one slot is larger than this device binds at once: use a smaller model or batch".to_owned()
            }
        };
        (what, help)
    }
}
