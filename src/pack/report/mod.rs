//! Studies and sweeps as files: CSV for spreadsheets, one HTML page with plots for people. JSON is `serde`'s.

mod html;
mod page;
mod plot;

pub use html::{study_page, sweep_page};

use super::machine::Cost;
use super::study::{Footprint, Study, Sweep};
use crate::error::{Error, Result};

/// Every tensor under every scheme, a row each: sizes in bits.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] if it cannot be written as CSV.
pub fn footprints_csv(study: &Study) -> Result<String> {
    let header = [
        "layer",
        "name",
        "role",
        "element",
        "shape",
        "values",
        "zeros",
        "bits",
        "scheme",
        "stored_bits",
        "value_bits",
        "metadata_bits",
        "padding_bits",
        "pointer_bits",
        "table_bits",
    ];
    let rows = study.tensors.iter().flat_map(|tensor| {
        study.schemes.iter().zip(&tensor.sizes).map(|(scheme, size)| {
            let parts = [size.total(), size.values, size.metadata, size.padding, size.pointers, size.tables];
            let mut row = described(tensor);
            row.push(scheme.clone());
            row.extend(parts.map(|bits| bits.to_string()));
            row
        })
    });
    table(&header, rows)
}

fn described(tensor: &Footprint) -> Vec<String> {
    vec![
        tensor.layer.map_or_else(String::new, |layer| (layer + 1).to_string()),
        tensor.name.clone(),
        tensor.role.name().into(),
        tensor.element.name().into(),
        shape_text(&tensor.shape),
        tensor.values.to_string(),
        tensor.zeros.to_string(),
        tensor.bits.to_string(),
    ]
}

/// Every layer on every machine under every scheme, and a line `total` each: cycles, bits of traffic and pJ of one sample.
///
/// # Errors
/// As [`footprints_csv`].
pub fn costs_csv(study: &Study) -> Result<String> {
    let header = [
        "machine",
        "scheme",
        "layer",
        "compute_cycles",
        "stall_cycles",
        "utilisation",
        "buffer_read_weights",
        "buffer_read_inputs",
        "buffer_read_outputs",
        "buffer_write_weights",
        "buffer_write_inputs",
        "buffer_write_outputs",
        "dram_read_weights",
        "dram_read_inputs",
        "dram_read_outputs",
        "dram_write_weights",
        "dram_write_inputs",
        "dram_write_outputs",
        "energy_arithmetic",
        "energy_buffers",
        "energy_dram",
        "energy_codec",
        "idle_partial_blocks",
        "idle_bank_conflicts",
        "idle_imbalance",
        "idle_halos",
    ];
    let rows = study.machines.iter().flat_map(|machine| {
        machine.schemes.iter().flat_map(|cost| {
            let layers = study.layers.iter().map(String::as_str).zip(&cost.layers);
            let named = layers.chain([("total", &cost.total)]);
            named.map(|(layer, of)| {
                let mut row = vec![machine.machine.clone(), cost.scheme.clone(), layer.to_owned()];
                row.extend(figures(of));
                row
            })
        })
    });
    table(&header, rows)
}

/// The cells of a cost.
fn figures(cost: &Cost) -> Vec<String> {
    let mut cells =
        vec![cost.compute_cycles.to_string(), cost.stall_cycles.to_string(), format!("{:.6}", cost.utilisation)];
    for part in [cost.buffer_reads, cost.buffer_writes, cost.dram_reads, cost.dram_writes] {
        cells.extend([part.weights, part.inputs, part.outputs].map(|bits| format!("{bits:.0}")));
    }
    let energy = [cost.energy.arithmetic, cost.energy.buffers, cost.energy.dram, cost.energy.codec];
    cells.extend(energy.map(|pj| format!("{pj:.3}")));
    let idle = cost.idle.map(|idle| [idle.partial_blocks, idle.bank_conflicts, idle.imbalance, idle.halos]);
    cells.extend(idle.map_or_else(|| [const { String::new() }; 4], |idle| idle.map(|count| count.to_string())));
    cells
}

/// Every point of a sweep, a row each.
///
/// # Errors
/// As [`footprints_csv`].
pub fn sweep_csv(sweep: &Sweep) -> Result<String> {
    let header = [
        "storage",
        "machine",
        "scheme",
        "weights_share",
        "activations_share",
        "weight_bits",
        "buffer_bytes",
        "dram_bits",
        "cycles",
        "energy_pj",
        "front",
    ];
    let optional = |value: Option<String>| value.unwrap_or_default();
    let rows = sweep.points.iter().map(|point| {
        vec![
            point.storage.clone(),
            optional(point.machine.clone()),
            point.scheme.clone(),
            optional(point.weights.map(|share| format!("{share:.6}"))),
            optional(point.activations.map(|share| format!("{share:.6}"))),
            point.weight_bits.to_string(),
            optional(point.buffer_bytes.map(|bytes| bytes.to_string())),
            optional(point.dram_bits.map(|bits| format!("{bits:.0}"))),
            optional(point.cycles.map(|cycles| cycles.to_string())),
            optional(point.energy.map(|pj| format!("{pj:.3}"))),
            point.front.to_string(),
        ]
    });
    table(&header, rows)
}

fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Result<String> {
    let failed = |e: csv::Error| Error::internal("a table cannot be written as CSV").with_source(e);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(header).map_err(failed)?;
    for row in rows {
        writer.write_record(&row).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|e| Error::internal("a table cannot be written as CSV").with_source(e))?;
    String::from_utf8(bytes).map_err(|e| Error::internal("a table cannot be written as CSV").with_source(e))
}

/// `8x3x3x16`.
fn shape_text(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::machine::{Energy, PerOperand};
    use crate::pack::study::{MachineStudy, Point, Role, SchemeCost};
    use crate::pack::{Element, Granularity, Size};

    fn study() -> Study {
        let size = |values| Size { values, metadata: 96, padding: 8, pointers: 32, tables: 0 };
        let tensor = |role, name: &str| Footprint {
            layer: Some(0),
            name: name.into(),
            role,
            element: Element::I8,
            granularity: Granularity::Channel,
            shape: vec![8, 3, 3, 3],
            values: 216,
            zeros: 20,
            bits: 1728,
            sizes: vec![Size { values: 1728, ..Size::default() }, size(1000), size(700)],
        };
        let cost = |stall| Cost {
            compute_cycles: 1000,
            stall_cycles: stall,
            utilisation: 0.5,
            dram_reads: PerOperand { weights: 1136.0, inputs: 500.0, outputs: 0.0 },
            energy: Energy { arithmetic: 5.0, buffers: 10.0, dram: 70.0, codec: 1.0 },
            ..Cost::default()
        };
        let scheme =
            |name: &str, stall| SchemeCost { scheme: name.into(), layers: vec![cost(stall)], total: cost(stall) };
        Study {
            network: "a <small> network".into(),
            schemes: ["none", "fixed16", "entropy"].map(str::to_owned).into(),
            samples: 2,
            layers: vec!["conv, first".into()],
            tensors: vec![tensor(Role::Weights, "conv, first"), tensor(Role::Input, "conv, first")],
            machines: vec![MachineStudy {
                machine: "array".into(),
                sources: vec![],
                schemes: vec![scheme("none", 300), scheme("fixed16", 100)],
            }],
            remarks: vec!["3 < 4".into()],
        }
    }

    /// Tags that are opened are closed, in order.
    fn balanced(page: &str) -> bool {
        let mut open = Vec::new();
        for tag in page.split('<').skip(1) {
            let tag = &tag[..tag.find('>').expect("a tag ends")];
            let name = tag.split_whitespace().next().unwrap_or_default();
            if let Some(name) = name.strip_prefix('/') {
                if open.pop() != Some(name) {
                    return false;
                }
            } else if !tag.ends_with('/') && !name.starts_with('!') && name != "meta" {
                open.push(name);
            }
        }
        open.is_empty()
    }

    #[test]
    fn a_page_stands_alone_and_is_well_formed() {
        let point = Point {
            storage: "i8".into(),
            scheme: "fixed16".into(),
            machine: Some("array".into()),
            weights: Some(0.7),
            activations: None,
            weight_bits: 1136,
            buffer_bytes: Some(1 << 20),
            dram_bits: Some(3e6),
            cycles: Some(1100),
            energy: Some(86.0),
            front: true,
        };
        let none = Point {
            scheme: "none".into(),
            weights: Some(1.0),
            cycles: Some(1300),
            energy: Some(99.0),
            front: false,
            ..point.clone()
        };
        let sweep = Sweep { network: "n".into(), points: vec![none, point] };
        for page in [study_page(&study()).unwrap(), sweep_page(&sweep).unwrap()] {
            assert!(balanced(&page), "{page}");
            let outside = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!outside.contains("http") && !outside.contains("<script") && outside.contains("<svg"), "{page}");
        }
        assert!(study_page(&study()).unwrap().contains("a &lt;small&gt; network"));
    }

    #[test]
    fn tables_have_a_row_for_everything() {
        let footprints = footprints_csv(&study()).unwrap();
        let lines: Vec<&str> = footprints.lines().collect();
        assert_eq!(lines.len(), 1 + 2 * 3);
        assert_eq!(lines[2], "1,\"conv, first\",weights,i8,8x3x3x3,216,20,1728,fixed16,1136,1000,96,8,32,0");
        let costs = costs_csv(&study()).unwrap();
        assert_eq!(costs.lines().count(), 1 + 2 * 2);
        let last = "array,fixed16,total,1000,100,0.500000,0,0,0,0,0,0,1136,500,0,0,0,0,5.000,10.000,70.000,1.000,,,,";
        assert_eq!(costs.lines().last(), Some(last));
    }
}
