//! SCALE-Sim 3.0.0, cell by cell: the same three reports for the same files.
//!
//! [SCALE-Sim](https://github.com/scalesim-project/SCALE-Sim) simulates a systolic array and its double-buffered memories. It writes
//! down which addresses every cycle asks for, and walks them one by one. [`simulate`] makes the same addresses as it goes and keeps of a
//! buffer only which part of it an address came with last; it prints what the original prints, quirks
//! included. All reports of ResNet-50 on 128x128 take 0.2 s of computing in `CALC` mode and about 1.2 s in `USER` mode; the original
//! took 198 s for the first on the same machine. The quirks:
//!
//! * sizes of outputs are rounded up, and taps behind the map are asked for by nobody but counted as reads ([`Config`] has no padding: a
//!   padded layer is given its padded size);
//! * the last cycle's index stands for the number of cycles;
//! * output stationary: writes count the rows and columns of the array once more for each fold;
//! * weight and input stationary: the utilisation of a fold counts the array's columns once more among its cycles;
//! * unfinished sums are written for every fold and never read;
//! * a buffer of `CALC` mode holds a hundred sets of a hundredth of its size, so 24 of 1,024 values are never used, and before a
//!   layer starts it is filled with whole sets at 10 values a cycle;
//! * in `USER` mode the bandwidth of reads is that of an SRAM bank in the section of layouts, `Bandwidth` is that of writes alone; values that
//!   windows share are fetched once for each window; a miss moves the clock of its operand to the end of the last fetch, even backwards;
//! * a row of writes that is drained half full counts as full unless it is the last.
//!
//! Not here, and refused by name: layouts of banks, N:M sparsity, latencies out of Ramulator. Where the original ends in an exception
//! (arrays that ask for more than half a buffer in a cycle) there is an error.

mod config;
mod demand;
mod reads;
mod report;
mod topology;
mod writes;

pub use config::{Config, Interface};
pub use report::{Accesses, Bandwidths, Compute, Report, Reports};
pub use topology::{Table, parse_topology, read_topology};

use crate::error::{Error, ErrorKind, Result};
use crate::pack::{Layer, Shape, Workload};
use demand::{Fold, Geometry, Plan};
use reads::{Fetching, Filling, Lookup};
use report::Counted;
use writes::Writes;

/// What one layer may ask of memory in values and cycles: minutes.
const MOST_REQUESTS: u128 = 1 << 35;
/// Rows of the reports for one layer.
const MOST_GROUPS: usize = 1 << 16;
/// Values of a map, of all filters, or of all windows of a map.
const MOST_VALUES: u128 = 1 << 28;

/// Runs every layer; for one sample. A convolution with groups is a run for each group, as the original has it for depthwise layers.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for dilated filters and where the original itself fails, [`ErrorKind::BadInput`] for layers without outputs,
/// [`ErrorKind::TooBig`] for layers beyond 2^28 values or 2^35 requests.
pub fn simulate(workload: &Workload, config: &Config) -> Result<Reports> {
    config.check()?;
    let mut layers = Vec::new();
    for layer in &workload.layers {
        let geometry = geometry(&layer.shape).map_err(|e| named(layer, &e))?;
        let groups = layer.shape.groups.max(1);
        if groups > MOST_GROUPS {
            return Err(Error::new(ErrorKind::TooBig, format!("layer '{}' has more than 2^16 groups", layer.name)));
        }
        let report = simulate_layer(&geometry, config).map_err(|e| named(layer, &e))?;
        for group in 0..groups {
            let name = if groups == 1 { layer.name.clone() } else { format!("{}Channel_{group}", layer.name) };
            layers.push(Report { name, ..report.clone() });
        }
    }
    Ok(Reports { run_name: config.run_name.clone(), layers })
}

fn named(layer: &Layer, error: &Error) -> Error {
    let named = Error::new(error.kind(), format!("layer '{}': {}", layer.name, error.message()));
    match error.help() {
        Some(help) => named.with_help(help),
        None => named,
    }
}

/// A group of a layer in the original's terms: the map with its padding, and no more than it knows.
fn geometry(shape: &Shape) -> Result<Geometry> {
    let groups = shape.groups.max(1);
    if (0..2).any(|axis| shape.dilation[axis] > 1 && shape.filter[axis] > 1) {
        return Err(Error::unsupported("SCALE-Sim has no dilated filters")
            .with_help("the machines of our own files have them; leave this layer out"));
    }
    let padded = |axis: usize| {
        shape.input[axis].checked_add(shape.padding[axis]).and_then(|n| n.checked_add(shape.padding[axis + 2]))
    };
    let geometry = Geometry {
        map: [padded(0).unwrap_or(usize::MAX), padded(1).unwrap_or(usize::MAX), shape.input[2] / groups],
        filter: shape.filter,
        filters: shape.filters / groups,
        stride: shape.stride.map(|stride| stride.max(1)),
    };
    if geometry.map.contains(&0) || geometry.filter.contains(&0) || geometry.filters == 0 {
        return Err(Error::bad_input("it has no values"));
    }
    if (0..2).any(|axis| geometry.filter[axis] > geometry.map[axis]) {
        return Err(Error::bad_input("its filter is larger than its map"));
    }
    Ok(geometry)
}

fn simulate_layer(geometry: &Geometry, config: &Config) -> Result<Report> {
    check_size(geometry, config)?;
    let plan = Plan::new(geometry, config.array, config.dataflow);
    match config.interface {
        Interface::Calc => {
            let buffer = |operand, kib| Filling::new(operand, kib);
            run(geometry, config, &plan, buffer(&plan.inputs, config.ifmap_kb), buffer(&plan.filters, config.filter_kb))
        }
        Interface::User { ifmap, filter, .. } => {
            let inputs = Fetching::new(&plan.inputs, config.ifmap_kb, ifmap);
            run(geometry, config, &plan, inputs, Fetching::new(&plan.filters, config.filter_kb, filter))
        }
    }
}

fn check_size(geometry: &Geometry, config: &Config) -> Result<()> {
    let [places, filters, depth] = geometry.product().map(u128::from);
    let map: u128 = geometry.reach().iter().fold(1, |size: u128, &n| size.saturating_mul(n as u128));
    let (rows, columns) = (config.array.rows as u128, config.array.columns as u128);
    let windows = places.saturating_mul(depth);
    if map.max(depth.saturating_mul(filters)).max(windows).max(places.saturating_mul(filters)) > MOST_VALUES {
        return Err(Error::new(ErrorKind::TooBig, "it has more than 2^28 values")
            .with_help("SCALE-Sim's model looks at every address; cut the layer, or use a machine of our own files"));
    }
    // An upper bound for all dataflows, in folds of places, filters and sums.
    let folds = |n: u128| n / rows.min(columns).max(1) + 1;
    let steps = [places, filters, depth].into_iter().max().unwrap_or(0) + 2 * rows + columns;
    let cycles = folds(places).max(folds(depth)) * folds(filters).max(folds(places)) * steps;
    if cycles > MOST_REQUESTS || windows * filters / rows.min(columns).max(1) > MOST_REQUESTS {
        return Err(Error::new(ErrorKind::TooBig, "it takes more than 2^35 steps on this array")
            .with_help("SCALE-Sim's model looks at every address; use a larger array, or a machine of our own files"));
    }
    Ok(())
}

/// First and last cycle at which an operand was served.
#[derive(Debug, Clone, Copy, Default)]
struct Served {
    first: Option<i64>,
    last: i64,
}

impl Served {
    fn at(&mut self, cycle: i64) {
        self.first.get_or_insert(cycle);
        self.last = cycle;
    }
}

/// A layer with its buffers.
fn run<L: Lookup>(geometry: &Geometry, config: &Config, plan: &Plan, mut inputs: L, mut filters: L) -> Result<Report> {
    let mut writes = Writes::new(config.ofmap_kb, config.write_bandwidth());
    let mut totals = report::Totals::default();
    let clock = Clock::run(plan, &mut inputs, &mut filters, &mut writes, |fold| totals.add(fold, plan, config.array));
    inputs.finish();
    filters.finish();
    writes.finish(clock.drained);
    if let Some(failure) = inputs.failure().or(filters.failure()) {
        return Err(Error::unsupported(failure)
            .with_help("SCALE-Sim 3.0.0 fails here, too: give the machine larger buffers or a smaller array"));
    }
    if clock.cycles == 0 {
        return Err(Error::unsupported("it ends in its first cycle, and SCALE-Sim 3.0.0 divides by that index"));
    }
    let counted = Counted {
        cycles: clock.cycles,
        stalls: clock.stalls,
        served: clock.served.map(|served| [served.first.unwrap_or(0), served.last]),
        dram: [inputs.traffic(), filters.traffic(), writes.traffic()],
    };
    Ok(report::assemble(geometry, config, &totals, &counted))
}

/// The clock of a layer: every cycle asks for both operands and writes, and the slowest of the three stalls all.
#[derive(Debug, Default)]
struct Clock {
    /// Index of the last cycle.
    cycles: i64,
    stalls: i64,
    /// Cycle in which the last row of results was in.
    drained: i64,
    served: [Served; 3],
}

impl Clock {
    fn run<L: Lookup>(
        plan: &Plan,
        inputs: &mut L,
        filters: &mut L,
        writes: &mut Writes,
        mut each_fold: impl FnMut(&Fold<'_>),
    ) -> Self {
        let (mut clock, mut row) = (Self::default(), 0);
        for fold in plan.folds() {
            for step in 0..plan.cycles {
                let cycle = row + clock.stalls;
                let (late_inputs, asked) = fold.inputs.serve(step, cycle, inputs);
                if asked {
                    clock.served[0].at(cycle + 1 + late_inputs);
                }
                let (late_filters, asked) = fold.filters.serve(step, cycle, filters);
                if asked {
                    clock.served[1].at(cycle + 1 + late_filters);
                }
                let count = fold.writes(step);
                clock.drained = writes.serve(cycle, count);
                if count > 0 {
                    clock.served[2].at(clock.drained);
                }
                clock.cycles = clock.cycles.max(clock.drained);
                clock.stalls += late_inputs.max(late_filters).max(clock.drained - cycle);
                row += 1;
            }
            each_fold(&fold);
        }
        clock
    }
}
