//! Rows that catch up with the steps that they missed. Kernel: `row_catch_up`.

use std::ops::Range;

use super::update::plane;
use super::{Coefficients, Optimiser, Rule, Which};
use crate::error::{Error, Result};
use crate::gpu::{Access, Caps, Gpu, Grid, Kernel, Recording, params};
use crate::hash::rows::{Rows, SHARED, vectors};
use crate::ops::{bindable, word};
use crate::tensor::Tensor;

const ROW_CATCH_UP: &str = include_str!("../../../shaders/hash/row_catch_up.wgsl");
/// Most steps that a row may miss; a power of two.
pub const HORIZON: u32 = 4096;
/// Steps whose coefficients the device has: one more horizon, so that the host may run ahead of the device.
const RING: usize = 2 * HORIZON as usize;
/// Powers of two up to the horizon.
const POWERS: usize = HORIZON.ilog2() as usize + 1;

params!(RowCatchUpParams {
    first: u32,
    rows: u32,
    quads: u32,
    stride_w: u32,
    capacity: u32,
    across: u32,
    through: u32,
    zero: f32,
    keep1: f32,
    add1: f32,
    keep2: f32,
    add2: f32,
    epsilon: f32,
    root_last: f32,
    share: u32,
    pad1: u32,
    reach: [[f32; 4]; 7],
    recent: [[f32; 4]; 4],
});

/// Coefficients of past steps: step t stands at t modulo [`RING`], with step t + 1 behind it (two for one load of a vector).
#[derive(Debug, Clone)]
pub(super) struct Past {
    ring: Tensor,
    steps: Vec<Coefficients>,
}

impl Past {
    pub(super) async fn new_async(gpu: &Gpu) -> Result<Self> {
        let ring = Tensor::from_slice_async(gpu, &[4 * RING], &[0.0; 4 * RING]).await?;
        Ok(Self { ring, steps: vec![Coefficients::default(); RING] })
    }

    pub(super) fn push(&mut self, gpu: &Gpu, number: u32, now: Coefficients) -> Result<()> {
        let place = number as usize % RING;
        self.steps[place] = now;
        let (own, put) = ([now.rate, now.root], |at: usize, what: &[f32]| {
            gpu.upload_at(self.ring.buffer(), at as u64, bytemuck::cast_slice(what))
        });
        // Behind the step before it, and at its own place, which follows unless the ring starts anew.
        match place.checked_sub(1) {
            Some(before) => put(16 * before + 8, &[own, own].concat()),
            None => put(16 * RING - 8, &own).and_then(|()| put(0, &own)),
        }
    }

    /// Of the last steps through `through`: eight, two a vector.
    fn recent(&self, through: u32) -> [[f32; 4]; 4] {
        let step = |back: u32| self.steps[through.wrapping_sub(back) as usize % RING];
        [7, 5, 3, 1].map(|back| {
            let [one, two] = [step(back), step(back - 1)];
            [one.rate, one.root, two.rate, two.root]
        })
    }
}

/// For each power of two n: the largest rate of the n steps through `through`, and by what factor a mean square that keeps
/// `keep2` at a step may fall in as many, rounded down.
fn reach(steps: &[Coefficients], through: u32, keep2: f32) -> [[f32; 4]; 7] {
    let mut reach = [[0.0; 4]; 7];
    let (mut peak, mut seen) = (0.0_f32, 0);
    for power in 0..POWERS {
        let length = 1_u32 << power;
        for back in seen..length.min(through) {
            peak = peak.max(steps[(through - back) as usize % RING].rate);
        }
        seen = length.min(through);
        let unit = 2.0_f64.powi(-23);
        let fall = (f64::from(keep2) * (1.0 - unit)).powf(f64::from(length)) * (1.0 - 8.0 * unit);
        reach[power / 2][power % 2 * 2] = peak;
        reach[power / 2][power % 2 * 2 + 1] = fall as f32;
    }
    reach
}

impl Optimiser {
    /// Records that rows replay the steps they missed through step `through`: of the last begun step t, `t - 1` before rows are read for
    /// it, t to read them after it. Nothing is recorded in other modes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] for steps that were not begun or shapes that do not fit, [`crate::ErrorKind::TooBig`] beyond what kernels
    /// address or bind, [`crate::ErrorKind::Unsupported`] for weights that cannot.
    pub fn record_catch_up(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        rows: &Rows,
        which: Which<'_>,
        through: u32,
    ) -> Result<()> {
        self.record_replay(recording, caps, rows, (which, through), true)
    }

    /// As [`Optimiser::record_catch_up`], for rows that the update of the same step lists as well: that stamps them.
    ///
    /// # Errors
    /// Those of [`Optimiser::record_catch_up`].
    pub(in crate::hash) fn record_catch_up_to_update(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        rows: &Rows,
        which: Which<'_>,
        through: u32,
    ) -> Result<()> {
        self.record_replay(recording, caps, rows, (which, through), false)
    }

    fn record_replay(
        &self,
        recording: &mut Recording,
        caps: &Caps,
        rows: &Rows,
        (which, through): (Which<'_>, u32),
        stamps: bool,
    ) -> Result<()> {
        self.check(rows)?;
        let Some(past) = &self.past else { return Ok(()) };
        if through > self.step || self.step - through > HORIZON {
            return Err(Error::internal(format!("rows that catch up through {through} at step {}", self.step)));
        }
        if through <= self.swept {
            return Ok(());
        }
        let reach = reach(&past.steps, through, self.constants.keep2);
        let vectors = vectors(caps);
        let share = rows.quads().div_ceil(vectors);
        for window in rows.windows(caps)? {
            let params = RowCatchUpParams { reach, ..self.catch_up_params(past, rows, &window, through)? };
            let count = if matches!(which, Which::All) { window.len() } else { which.capacity(rows) };
            let params = RowCatchUpParams { capacity: word(count)?, share: word(share)?, ..params };
            let (grid, across) = plane(count * share, caps)?;
            // Few rows are far behind; a table that is swept rarely has many that are.
            let steps = f64::from((through - self.swept).min(256)).sqrt();
            let work = (count * rows.columns()) as f64 * 20.0 * steps;
            let [tables @ .., book] = &rows.bindings(&window)?[..] else { return Err(Error::internal("no book")) };
            let list: Vec<_> = which.list().into_iter().collect();
            let bindings = [&list[..], &[past.ring.binding()], tables, std::slice::from_ref(book)].concat();
            bindable(caps, &bindings)?;
            let replay = which.flagged(replay_kernel(list.len(), vectors));
            recording.dispatch(&replay, bindings, &RowCatchUpParams { across, ..params }, Grid::Direct(grid), work)?;
            if !stamps {
                continue;
            }
            let (grid, across) = plane(count, caps)?;
            let bindings = [&list[..], std::slice::from_ref(book)].concat();
            let stamp = which.flagged(stamp_kernel(list.len()));
            recording.dispatch(
                &stamp,
                bindings,
                &RowCatchUpParams { across, ..params },
                Grid::Direct(grid),
                count as f64,
            )?;
        }
        Ok(())
    }

    /// Records that all rows of all tables catch up, and takes note of it. Give it every table of the network. Nothing in other modes.
    ///
    /// # Errors
    /// Those of [`Optimiser::record_catch_up`].
    pub fn record_sweep(
        &mut self,
        recording: &mut Recording,
        caps: &Caps,
        tables: &[&Rows],
        through: u32,
    ) -> Result<()> {
        for rows in tables {
            self.record_catch_up(recording, caps, rows, Which::All, through)?;
        }
        self.swept = self.swept.max(through);
        Ok(())
    }

    fn catch_up_params(
        &self,
        past: &Past,
        rows: &Rows,
        window: &Range<usize>,
        through: u32,
    ) -> Result<RowCatchUpParams> {
        Ok(RowCatchUpParams {
            first: word(window.start)?,
            rows: word(window.len())?,
            quads: word(rows.quads())?,
            stride_w: word(rows.weight_vectors())?,
            through,
            keep1: self.constants.keep1,
            add1: self.constants.add1,
            keep2: self.constants.keep2,
            add2: self.constants.add2,
            epsilon: self.constants.epsilon,
            root_last: past.steps[through as usize % RING].root,
            recent: past.recent(through),
            ..Default::default()
        })
    }
}

fn replay_kernel(lists: usize, vectors: usize) -> Kernel {
    let mut bindings = vec![Access::Read; lists + 1];
    bindings.extend([Access::Write, Access::Write, Access::Write, Access::Read]);
    Kernel::new::<RowCatchUpParams>("row_catch_up", ROW_CATCH_UP, &bindings)
        .flag(Rule::adam().flag(), true)
        .define("HORIZON", HORIZON)
        .define("VECTORS", vectors)
        .define("RING", lists)
        .define("W", lists + 1)
        .define("M", lists + 2)
        .define("V", lists + 3)
        .define("BOOK", lists + 4)
}

fn stamp_kernel(lists: usize) -> Kernel {
    let mut bindings = vec![Access::Read; lists];
    bindings.push(Access::Write);
    Kernel::new::<RowCatchUpParams>("row_catch_up", ROW_CATCH_UP, &bindings).flag("STAMP", true).define("BOOK", lists)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    let lists = [(1, None), (1, Some("IDS")), (0, Some("ALL"))];
    let all = lists.into_iter().flat_map(|(lists, flag)| {
        [replay_kernel(lists, 1), replay_kernel(lists, SHARED), stamp_kernel(lists)]
            .map(|k| if let Some(flag) = flag { k.flag(flag, true) } else { k })
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Coefficients, HORIZON, POWERS, RING, reach};

    proptest! {
        /// For every gap that ends at a step: no rate in it is above what the kernel finds for it, no mean square falls lower.
        #[test]
        fn reaches_bound_every_gap(
            rates in prop::collection::vec(0.0_f32..1.0, 64), through in 1_u32..20_000, left in 1..=HORIZON, keep2 in 0.5_f32..1.0,
        ) {
            prop_assert!(HORIZON.is_power_of_two() && POWERS <= 14);
            let rate = |t: u32| rates[t as usize / 7 % 64] * if t.is_multiple_of(301) { 50.0 } else { 1.0 };
            let left = left.min(through);
            let mut steps = vec![Coefficients::default(); RING];
            for t in through.saturating_sub(HORIZON - 1).max(1)..=through {
                steps[t as usize % RING] = Coefficients { rate: rate(t), root: 1.0 };
            }
            let table = reach(&steps, through, keep2);
            // As the kernel looks it up.
            let j = (32 - (left - 1).leading_zeros()) as usize;
            let [peak, fall] = [0, 1].map(|i| table[j / 2][j % 2 * 2 + i]);
            prop_assert!((through - left + 1..=through).all(|t| rate(t) <= peak));
            prop_assert!(f64::from(fall) <= (f64::from(keep2) * (1.0 - 2.0_f64.powi(-23))).powf(f64::from(left)));
        }
    }
}
