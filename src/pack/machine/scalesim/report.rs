//! The three reports, as numbers and as the original prints them.

use super::config::Config;
use super::demand::{Fold, Geometry, Plan};
use super::reads::Traffic;
use crate::pack::machine::systolic::Array;
use std::fmt::Write;

/// The reports of a run.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Reports {
    /// The folder that the original puts them into.
    pub run_name: String,
    /// One for each layer, and for each group of a layer with groups.
    pub layers: Vec<Report>,
}

/// A layer's rows of the three reports.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Report {
    /// Of the layer; the original prints its number.
    pub name: String,
    /// `COMPUTE_REPORT.csv`.
    pub compute: Compute,
    /// `BANDWIDTH_REPORT.csv`.
    pub bandwidth: Bandwidths,
    /// `DETAILED_ACCESS_REPORT.csv`.
    pub access: Accesses,
}

/// Cycles and utilisation.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Compute {
    /// From the first value asked of DRAM to the last one written there.
    pub with_prefetch: i64,
    /// The last cycle's index: computing and stalls.
    pub cycles: i64,
    /// Waiting for a buffer.
    pub stalls: i64,
    /// Products over multipliers and cycles, in percent.
    pub overall_utilisation: f64,
    /// Multipliers with work, averaged over folds, in percent.
    pub mapping_efficiency: f64,
    /// Products over multipliers and cycles of a fold, averaged over folds, in percent.
    pub compute_utilisation: f64,
}

/// Values a cycle, for map, filters and result.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Bandwidths {
    /// Of the buffers, over all cycles.
    pub sram: [f64; 3],
    /// Of DRAM, from its first to its last cycle.
    pub dram: [f64; 3],
}

/// Accesses of an operand to a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Access {
    /// First cycle; negative before the layer starts.
    pub start: i64,
    /// Last cycle.
    pub stop: i64,
    /// Values.
    pub count: u64,
}

/// Accesses of map, filters and result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Accesses {
    /// Of the array to the buffers.
    pub sram: [Access; 3],
    /// Of the buffers to DRAM.
    pub dram: [Access; 3],
}

impl Reports {
    /// All three files: name and text.
    pub fn to_csv(&self) -> [(&'static str, String); 3] {
        [
            ("COMPUTE_REPORT.csv", self.compute_csv()),
            ("BANDWIDTH_REPORT.csv", self.bandwidth_csv()),
            ("DETAILED_ACCESS_REPORT.csv", self.access_csv()),
        ]
    }

    /// The text of `COMPUTE_REPORT.csv`.
    pub fn compute_csv(&self) -> String {
        let header = "LayerID, Total Cycles (incl. prefetch), Total Cycles, Stall Cycles, Overall Util %, Mapping Efficiency %, \
                      Compute Util %,\n";
        self.table(header, |report, row| {
            let compute = &report.compute;
            row.extend([compute.with_prefetch, compute.cycles, compute.stalls].map(|n| n.to_string()));
            let shares = [compute.overall_utilisation, compute.mapping_efficiency, compute.compute_utilisation];
            row.extend(shares.map(number));
        })
    }

    /// The text of `BANDWIDTH_REPORT.csv`.
    pub fn bandwidth_csv(&self) -> String {
        let header = "LayerID, Avg IFMAP SRAM BW, Avg FILTER SRAM BW, Avg OFMAP SRAM BW, Avg IFMAP DRAM BW, Avg FILTER DRAM BW, \
                      Avg OFMAP DRAM BW,\n";
        self.table(header, |report, row| {
            row.extend(report.bandwidth.sram.map(number));
            row.extend(report.bandwidth.dram.map(number));
        })
    }

    /// The text of `DETAILED_ACCESS_REPORT.csv`.
    pub fn access_csv(&self) -> String {
        let columns = |memory: &str| {
            [("IFMAP", "Reads"), ("Filter", "Reads"), ("OFMAP", "Writes")]
                .map(|(name, verb)| {
                    format!("{memory} {name} Start Cycle, {memory} {name} Stop Cycle, {memory} {name} {verb}")
                })
                .join(", ")
        };
        let header = format!("LayerID, {}, {},\n", columns("SRAM"), columns("DRAM"));
        self.table(&header, |report, row| {
            for access in report.access.sram.iter().chain(&report.access.dram) {
                // Cycles have been floating point in the original.
                row.extend([number(access.start as f64), number(access.stop as f64), access.count.to_string()]);
            }
        })
    }

    fn table(&self, header: &str, cells: impl Fn(&Report, &mut Vec<String>)) -> String {
        let mut text = header.to_owned();
        for (id, report) in self.layers.iter().enumerate() {
            let mut row = vec![id.to_string()];
            cells(report, &mut row);
            text += &row.join(", ");
            text += ",\n";
        }
        text
    }
}

/// A number as Python prints it: the shortest digits that give it back, with an exponent below 1e-4 and from 1e16 on.
pub(super) fn number(value: f64) -> String {
    let digits = format!("{value:e}");
    let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) || value == 0.0 {
        let text = format!("{value}");
        return if text.contains('.') { text } else { text + ".0" };
    }
    let mut text = mantissa.to_owned();
    let sign = if exponent < 0 { '-' } else { '+' };
    // Writing to a string does not fail.
    let _ = write!(text, "e{sign}{:02}", exponent.abs());
    text
}

/// Sums over folds, in the order of the original.
#[derive(Debug, Default)]
pub(super) struct Totals {
    folds: u64,
    mapping: f64,
    utilisation: f64,
    reads: [u64; 2],
    writes: u64,
}

impl Totals {
    pub fn add(&mut self, fold: &Fold<'_>, plan: &Plan, array: Array) {
        // Whole numbers below 2^53, as are their products.
        let multipliers = array.rows as f64 * array.columns as f64;
        let used = fold.used[0] as f64 * fold.used[1] as f64;
        self.folds += 1;
        self.mapping += used / multipliers;
        self.utilisation += used * plan.wants[2] as f64 / (multipliers * plan.cycles_of_utilisation() as f64);
        self.reads[0] += fold.inputs.reads();
        self.reads[1] += fold.filters.reads();
        self.writes += plan.writes_of(fold.used);
    }
}

/// What the clock of a layer counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    pub cycles: i64,
    pub stalls: i64,
    /// First and last cycle in which map, filters and result were served.
    pub served: [[i64; 2]; 3],
    pub dram: [Traffic; 3],
}

/// A report without a name.
pub(super) fn assemble(geometry: &Geometry, config: &Config, totals: &Totals, counted: &Counted) -> Report {
    let [places, filters, depth] = geometry.product();
    let products = (places * filters * depth) as f64;
    let multipliers = config.array.rows as f64 * config.array.columns as f64;
    let cycles = counted.cycles as f64;
    let counts = [totals.reads[0], totals.reads[1], totals.writes];
    let dram = counted.dram.map(|t| Access { start: t.start, stop: t.stop, count: t.values });
    let start = dram[0].start.min(dram[1].start);
    Report {
        name: String::new(),
        compute: Compute {
            with_prefetch: dram[2].stop - start,
            cycles: counted.cycles,
            stalls: counted.stalls,
            overall_utilisation: products * 100.0 / (cycles * multipliers),
            mapping_efficiency: totals.mapping / totals.folds as f64 * 100.0,
            compute_utilisation: totals.utilisation / totals.folds as f64 * 100.0,
        },
        bandwidth: Bandwidths {
            sram: counts.map(|count| count as f64 / cycles),
            dram: dram.map(|access| access.count as f64 / (access.stop - access.start + 1) as f64),
        },
        access: Accesses {
            sram: [0, 1, 2].map(|i| {
                let [start, stop] = counted.served[i];
                Access { start, stop, count: counts[i] }
            }),
            dram,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_look_as_in_python() {
        for (value, text) in [
            (0.0, "0.0"),
            (-21.0, "-21.0"),
            (100.0, "100.0"),
            (0.1, "0.1"),
            (9.333_333_333_333_334, "9.333333333333334"),
            (0.000_1, "0.0001"),
            (0.000_05, "5e-05"),
            (1.25e-7, "1.25e-07"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (-2.5e120, "-2.5e+120"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
