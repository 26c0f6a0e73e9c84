//! Timing an analysis of a whole network, its answer checked first.

use web_time::Instant;

use super::crown::{crown, interval_margin};
use super::measure::{Meter, Profiled, Timing, clock};
use super::oracle::{Random, near, wrong};
use super::verify::margin_at;
use super::{Context, Measured, SEED};
use crate::error::{Error, Result};
use crate::gpu::{Control, Gpu};
use crate::graph::Graph;
use crate::verify::{Property, Soundness, Stage, Verifier, VerifyOptions};

/// Relative distance allowed between margins in f32 and f64 where nothing is charged for rounding: thousands of
/// roundings of 2^-24 through five layers, and neurons near 0 whose slope flips.
const F32_DISTANCE: f64 = 2e-3;

/// How bounds are computed in an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Strict,
    TrustF32,
    /// Strict, but no row is left out or dropped, so that the work is known.
    StrictAllRows,
    /// Every neuron back-substituted, no intersections, no rounding charged: plain CROWN, the work of other tools.
    Plain,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::TrustF32 => "trust_f32",
            Self::StrictAllRows => "strict_all_rows",
            Self::Plain => "plain",
        }
    }

    fn all_rows(self) -> bool {
        matches!(self, Self::StrictAllRows | Self::Plain)
    }

    fn is_strict(self) -> bool {
        matches!(self, Self::Strict | Self::StrictAllRows)
    }

    fn options(self) -> VerifyOptions {
        VerifyOptions {
            soundness: if self.is_strict() { Soundness::Strict } else { Soundness::TrustF32 },
            attack: false,
            early_exit: false,
            all_rows: self.all_rows(),
            intersect: self != Self::Plain,
            ..VerifyOptions::default()
        }
    }
}

/// What f64 says of one property.
#[derive(Debug, Clone)]
pub(super) struct Truth {
    /// Margins at points of the box.
    values: Vec<f64>,
    /// The margin of plain CROWN, where it was worth its time.
    crown: Option<f64>,
    /// The margin of interval bounds.
    intervals: f64,
}

impl Truth {
    /// Tries the centre and `tries - 1` corners of the box; `rows`: with CROWN, of which every matrix is dense.
    pub fn new(graph: &Graph, property: &Property, tries: usize, rows: bool) -> Result<Self> {
        let mut random = Random::new(SEED);
        let input = &property.queries.first().ok_or_else(|| Error::internal("a property without a query"))?.input;
        let mut values = Vec::with_capacity(tries);
        for point in 0..tries {
            let ends = input.lo.iter().zip(&input.hi);
            let x: Vec<f64> =
                ends.map(|(&l, &h)| if point == 0 { 0.5 * (l + h) } else { [l, h][random.below(2)] }).collect();
            values.push(margin_at(graph, property, &x)?);
        }
        let crown = if rows { Some(crown(graph, property)?.margin) } else { None };
        Ok(Self { values, crown, intervals: interval_margin(graph, property)? })
    }

    /// No tried point of the box is below the bound, and the bound is worth something: that of CROWN in f64 where the work is the
    /// same; about as good, or decided, where rows are dropped and rounding is charged; nowhere worse than intervals.
    fn check(&self, margin: f64, mode: Mode, stage: Stage) -> Result<()> {
        for &value in &self.values {
            // f32 bounds that charge nothing may be off by what they do not charge.
            let slack = if mode.is_strict() { 0.0 } else { F32_DISTANCE * value.abs().max(1.0) };
            if margin > value + slack {
                return Err(wrong(format!("a margin of {margin:e} where a point of the box has {value:e}")));
            }
        }
        let reached = |what: &str, bound: f64, share: f64| {
            // Rows are dropped once they are positive, so a decided margin may stay below what is possible.
            if !mode.all_rows() && margin > 0.0 || margin >= bound - share * bound.abs().max(1.0) {
                return Ok(());
            }
            Err(wrong(format!("a margin of {margin:e} where {what} in f64 have {bound:e}")))
        };
        match self.crown {
            Some(crown) if mode == Mode::Plain => {
                near("the margin", margin, crown, F32_DISTANCE * crown.abs().max(1.0))
            }
            Some(crown) if stage == Stage::Full => reached("rows", crown, 0.05),
            _ if mode == Mode::Plain => Ok(()),
            _ => reached("intervals", self.intervals, 0.01),
        }
    }
}

/// An analysis to time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case<'a> {
    pub graph: &'a Graph,
    pub properties: &'a [Property],
    /// What f64 says of the first properties.
    pub truths: &'a [Truth],
    pub mode: Mode,
    pub stage: Stage,
    /// Work is operations of one input, instead of inputs: only where no row is left out.
    pub count: bool,
    /// Run once, with every dispatch timed.
    pub once: bool,
}

impl Case<'_> {
    /// Analyses all properties together; the unit is one input, or its operations.
    pub fn measure(&self, context: &Context<'_>, gpu: &Gpu, control: &Control) -> Result<Measured> {
        let mut verifier = None;
        let transfer = clock(|| {
            verifier = Some(Verifier::new(gpu, self.graph, self.mode.options())?);
            Ok(())
        })?;
        let verifier = verifier.ok_or_else(|| Error::internal("no verifier"))?;
        let all: Vec<&Property> = self.properties.iter().collect();
        let first = Instant::now();
        let found = verifier.measure(&all, self.stage, self.once, control)?;
        let seconds = first.elapsed().as_secs_f64();
        for (truth, margin) in self.truths.iter().zip(&found.margins) {
            truth.check(margin.ok_or_else(|| wrong("no bound was computed".to_owned()))?, self.mode, self.stage)?;
        }
        let once = Profiled { seconds: found.seconds, dispatches: found.kernels };
        let (timing, mut kernels) = if self.once {
            Meter::once(gpu, once)
        } else {
            context.meter.time_profiled(gpu, seconds, |profile| {
                let found = verifier.measure(&all, self.stage, profile, control)?;
                Ok(Profiled { seconds: found.seconds, dispatches: found.kernels })
            })?
        };
        let count = all.len().max(1) as f64;
        kernels.iter_mut().for_each(|kernel| kernel.seconds /= count);
        let rows = conditions(self.properties);
        let (work, unit) = if self.count { (verifier.operations(self.stage, rows), "FLOP") } else { (1.0, "inputs") };
        let timing: Timing = timing.per(count);
        let mut measured = Measured::new(work, unit, timing).note(format!("batch of {count}"));
        (measured.transfer, measured.kernels) = (Some(transfer), kernels);
        Ok(measured)
    }
}

/// Output rows of a property, at most.
pub(super) fn conditions(properties: &[Property]) -> usize {
    let queries = properties.iter().flat_map(|property| &property.queries);
    queries.map(|query| query.unsafe_if.iter().map(Vec::len).sum()).max().unwrap_or(1)
}
