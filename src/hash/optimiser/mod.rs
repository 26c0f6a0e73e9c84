//! Optimisers of tables of rows: lazy ones that step the rows a batch touched, dense ones that step every row, and Adam that
//! catches up, which is lazy and equals the dense one bit for bit.
//!
//! Adam moves a weight for many steps after its last gradient, as the mean of gradients fades. A lazy step leaves those moves
//! out, which costs accuracy. Catching up replays them, by the same function of the same kernel part (`shaders/lib/row_step.wgsl`),
//! when the row is next read: [`Optimiser::record_catch_up`] before a forward pass for the rows that it reads, and
//! [`Optimiser::record_sweep`] for whole tables, at least every [`HORIZON`] steps. One step is
//!
//! 1. [`Optimiser::begin`] with the step's learning rate, which gives its number t, from 1 on;
//! 2. `record_catch_up(.., t - 1)` for the rows to be read, in mode [`Mode::CatchUp`] (a no-op in others);
//! 3. forward, loss, backward;
//! 4. [`Optimiser::record_update`] with the touched rows, or [`Optimiser::record_dense`] with a table of gradients;
//! 5. [`Optimiser::record_sweep`] if [`Optimiser::sweep_due`].
//!
//! One optimiser serves all tables of a network. Kernels: `row_update`, `row_dense`, `row_catch_up`.

mod catch_up;
mod rule;
mod update;

pub use catch_up::HORIZON;
pub use rule::{Mode, Rule};
pub use update::{Entries, record_sums};

use crate::Control;
use crate::error::{Error, Result};
use crate::gpu::{Access, Gpu, Kernel, Params, Recording};
use crate::hash::rows::{Rows, Storage, Touched};
use crate::tensor::Tensor;
use rule::{Coefficients, Constants};

/// Which rows a kernel visits. Rows of a list are distinct.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// Those of a list with entries, whose count is on the device.
    Touched(&'a Touched),
    /// Those of a list of ids `[n]`.
    Ids(&'a Tensor<u32>),
    /// All of the table.
    All,
}

impl Which<'_> {
    /// The most rows that are visited.
    fn capacity(&self, rows: &Rows) -> usize {
        match self {
            Self::Touched(touched) => touched.capacity,
            Self::Ids(ids) => ids.len(),
            Self::All => rows.len(),
        }
    }

    /// The kernel's permutation.
    fn flagged(&self, kernel: Kernel) -> Kernel {
        kernel.flag("IDS", matches!(self, Self::Ids(_))).flag("ALL", matches!(self, Self::All))
    }

    /// The binding of the list, if there is one.
    fn list(&self) -> Option<crate::gpu::Binding> {
        match self {
            Self::Touched(touched) => Some(touched.list.binding()),
            Self::Ids(ids) => Some(ids.binding()),
            Self::All => None,
        }
    }
}

/// An optimiser of a network's tables, at some step.
#[derive(Debug, Clone)]
pub struct Optimiser {
    rule: Rule,
    mode: Mode,
    seed: u64,
    constants: Constants,
    step: u32,
    now: Coefficients,
    swept: u32,
    past: Option<catch_up::Past>,
}

impl Optimiser {
    /// At step 0. `seed` keys the stochastic rounding of tables in [`Storage::Bf16`].
    ///
    /// # Errors
    /// Those of [`Rule::check`] and [`Tensor::uninit_async`].
    pub async fn new_async(gpu: &Gpu, rule: Rule, mode: Mode, seed: u64) -> Result<Self> {
        rule.check()?;
        let past = if mode == Mode::CatchUp && rule.moves_alone() {
            Some(catch_up::Past::new_async(gpu).await?)
        } else {
            None
        };
        let (constants, now) = (rule.constants(), Coefficients::default());
        Ok(Self { rule, mode, seed, constants, step: 0, now, swept: 0, past })
    }

    /// Blocking twin of [`Optimiser::new_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn new(gpu: &Gpu, rule: Rule, mode: Mode, seed: u64) -> Result<Self> {
        pollster::block_on(Self::new_async(gpu, rule, mode, seed))
    }

    /// The rule.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Steps begun.
    pub fn step(&self) -> u32 {
        self.step
    }

    /// The step through which all tables were last swept; no row's stamp is older.
    pub fn swept(&self) -> u32 {
        self.swept
    }

    /// Whether all tables must be swept before the next step begins.
    pub fn sweep_due(&self) -> bool {
        self.past.is_some() && self.step - self.swept >= HORIZON
    }

    /// Begins the next step, and gives its number, from 1 on.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a learning rate that is negative or no number, [`crate::ErrorKind::Internal`] if a sweep is overdue.
    pub fn begin(&mut self, gpu: &Gpu, learning_rate: f64) -> Result<u32> {
        if self.past.is_some() && self.step - self.swept > HORIZON {
            return Err(Error::internal(format!("step {} with rows last swept at {}", self.step + 1, self.swept)));
        }
        let number = self.step.checked_add(1).ok_or_else(|| Error::internal("2^32 steps"))?;
        let now = self.rule.coefficients(number, learning_rate)?;
        if let Some(past) = &mut self.past {
            past.push(gpu, number, now)?;
        }
        (self.step, self.now) = (number, now);
        Ok(number)
    }

    /// Goes to the state after step `step`, with tables that were last swept at `swept`, by the learning rate of each step
    /// (asked from 1 on for those that rows may have missed).
    ///
    /// # Errors
    /// Those of [`Optimiser::begin`].
    pub fn resume(
        &mut self,
        gpu: &Gpu,
        step: u32,
        swept: u32,
        learning_rate: impl Fn(u32) -> Result<f64>,
    ) -> Result<()> {
        if swept > step || (self.past.is_some() && step - swept > HORIZON) {
            return Err(Error::bad_input(format!("step {step} with rows last swept at {swept}"))
                .with_help("the checkpoint is damaged, or was written by another version"));
        }
        (self.step, self.swept, self.now) = (step, swept, Coefficients::default());
        if step > 0 {
            self.now = self.rule.coefficients(step, learning_rate(step)?)?;
        }
        if let Some(past) = &mut self.past {
            for number in step.saturating_sub(HORIZON).max(swept) + 1..=step {
                past.push(gpu, number, self.rule.coefficients(number, learning_rate(number)?)?)?;
            }
        }
        Ok(())
    }

    /// Goes to the state after step `step` with tables of which some rows saw no step after `oldest`, which may be more than a horizon ago: an
    /// incremental checkpoint keeps a row as it was when it was last touched. Tables replay horizon by horizon, up to less than one behind.
    ///
    /// # Errors
    /// Those of [`Optimiser::resume`], [`Optimiser::record_sweep`] and [`Gpu::run_async`].
    pub async fn restore_async(
        &mut self,
        gpu: &Gpu,
        tables: &[&Rows],
        oldest: u32,
        step: u32,
        learning_rate: impl Fn(u32) -> Result<f64>,
    ) -> Result<()> {
        let mut seen = oldest.min(step);
        while self.past.is_some() && step - seen > HORIZON {
            self.resume(gpu, seen + HORIZON, seen, &learning_rate)?;
            let mut recording = Recording::new();
            self.record_sweep(&mut recording, gpu.caps(), tables, seen + HORIZON)?;
            gpu.run_async(&recording, &Control::default()).await?;
            seen += HORIZON;
        }
        self.resume(gpu, step, seen, learning_rate)
    }

    /// Blocking twin of [`Optimiser::restore_async`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn restore(
        &mut self,
        gpu: &Gpu,
        tables: &[&Rows],
        oldest: u32,
        step: u32,
        learning_rate: impl Fn(u32) -> Result<f64>,
    ) -> Result<()> {
        pollster::block_on(self.restore_async(gpu, tables, oldest, step, learning_rate))
    }

    /// Refuses tables that are not what the rule and the mode need.
    fn check(&self, rows: &Rows) -> Result<()> {
        if rows.state.len() != self.rule.states() {
            return Err(Error::internal(format!("{} tables of state for {:?}", rows.state.len(), self.rule)));
        }
        self.mode.check(self.rule, rows.storage)
    }
}

/// A kernel with so many bindings before those of the tables, and the book behind them; `ROUNDING` is what random numbers are drawn for.
fn with_tables<P: Params>(
    name: &'static str,
    source: &'static str,
    leading: &[Access],
    rule: Rule,
    storage: Storage,
) -> Kernel {
    let mut bindings = leading.to_vec();
    let place = leading.len();
    let states = rule.states();
    bindings.resize(place + states + 2, Access::Write);
    let mut kernel = Kernel::new::<P>(name, source, &bindings).flag(rule.flag(), true).define("W", place);
    if states == 2 {
        kernel = kernel.define("M", place + 1);
    }
    if states >= 1 {
        kernel = kernel.define("V", place + states);
    }
    if storage == Storage::Bf16 {
        kernel = kernel.flag("BF16", true).define("ROUNDING", crate::ops::random::purpose::ROW_ROUNDING);
    }
    kernel.define("BOOK", place + states + 1)
}

pub(super) fn catalogue() -> Vec<Kernel> {
    [update::catalogue(), catch_up::catalogue()].concat()
}
