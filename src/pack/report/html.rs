//! Pages: what stands in them.

use super::page::Page;
use super::plot::{Bars, Dot, Dots, Scatter, short};
use super::shape_text;
use crate::error::Result;
use crate::pack::study::{MachineStudy, Point, Role, Study, Sweep};

/// A study as one page that needs no other file.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] if a plot cannot be drawn.
pub fn study_page(study: &Study) -> Result<String> {
    let mut page = Page::new(&format!("{}: what compression buys", study.network));
    page.paragraph(&format!(
        "{} tensors, activations of {} inputs. Sizes count every prefix, zero vector, pad, pointer and table; 1 is uncompressed.",
        study.tensors.len(),
        study.samples
    ));
    page.list(&study.remarks);
    for (role, name) in [(Role::Weights, "Weights"), (Role::Input, "Activations"), (Role::Loose, "Tensors")] {
        if study.total(role).bits > 0 {
            footprint(&mut page, study, role, name)?;
        }
    }
    for machine in &study.machines {
        costs(&mut page, study, machine)?;
    }
    tensors(&mut page, study);
    Ok(page.finish())
}

fn footprint(page: &mut Page, study: &Study, role: Role, name: &str) -> Result<()> {
    let total = study.total(role);
    page.heading(name);
    page.paragraph(&format!(
        "{} values, {:.1} % of them zero, {} uncompressed.",
        total.values,
        100.0 * total.zero_share(),
        bytes(total.bits as f64)
    ));
    let stored: Vec<usize> = (0..study.schemes.len()).filter(|&i| study.schemes[i] != "entropy").collect();
    let part = |of: fn(&crate::pack::Size) -> u64| -> Vec<f64> {
        stored.iter().map(|&i| of(&total.sizes[i]) as f64 / total.bits as f64).collect()
    };
    let bars = Bars {
        title: &format!("{name}: share of uncompressed"),
        unit: "share",
        labels: stored.iter().map(|&i| study.schemes[i].clone()).collect(),
        series: vec![
            ("values", part(|size| size.values)),
            ("widths, vectors, counts", part(|size| size.metadata)),
            ("padding", part(|size| size.padding)),
            ("pointers and tables", part(|size| size.pointers + size.tables)),
        ],
        line: study.schemes.iter().position(|scheme| scheme == "entropy").map(|i| ("order-0 entropy", total.share(i))),
    };
    page.figure(&bars.svg()?);
    let header = ["scheme", "stored", "share", "metadata", "padding", "pointers", "tables"].map(str::to_owned);
    let percent = |bits: u64| format!("{:.2} %", 100.0 * bits as f64 / total.bits as f64);
    let rows = study.schemes.iter().zip(&total.sizes).enumerate().map(|(i, (scheme, size))| {
        let parts = [size.metadata, size.padding, size.pointers, size.tables].map(percent);
        let mut row = vec![scheme.clone(), bytes(size.total() as f64), format!("{:.3}", total.share(i))];
        row.extend(parts);
        (false, row)
    });
    page.table(&header, &rows.collect::<Vec<_>>(), 1);
    Ok(())
}

fn costs(page: &mut Page, study: &Study, machine: &MachineStudy) -> Result<()> {
    page.heading(&format!("On {}", machine.machine));
    let labels = || machine.schemes.iter().map(|cost| cost.scheme.clone()).collect();
    let of =
        |part: fn(&crate::pack::machine::Cost) -> f64| machine.schemes.iter().map(|cost| part(&cost.total)).collect();
    let cycles = Bars {
        title: "Cycles for one input",
        unit: "cycles",
        labels: labels(),
        series: vec![
            ("computing", of(|cost| cost.compute_cycles as f64)),
            ("waiting for memory", of(|cost| cost.stall_cycles as f64)),
        ],
        line: None,
    };
    let energy = Bars {
        title: "Energy for one input",
        unit: "pJ",
        labels: labels(),
        series: vec![
            ("arithmetic", of(|cost| cost.energy.arithmetic)),
            ("buffers", of(|cost| cost.energy.buffers)),
            ("DRAM", of(|cost| cost.energy.dram)),
            ("coding", of(|cost| cost.energy.codec)),
        ],
        line: None,
    };
    page.figure(&cycles.svg()?);
    page.figure(&energy.svg()?);
    totals(page, machine);
    if let Some(idle) = machine.schemes.first().and_then(|cost| cost.total.idle) {
        page.paragraph(&format!(
            "Multiplier-cycles lost: {} to partial blocks, {} to bank conflicts, {} to imbalance, {} to halos.",
            idle.partial_blocks, idle.bank_conflicts, idle.imbalance, idle.halos
        ));
    }
    each_layer(page, study, machine);
    let sources = machine.sources.iter().map(|entry| format!("{}: {}", entry.what, entry.source));
    page.paragraph("Where energies come from:");
    page.list(&sources.collect::<Vec<_>>());
    Ok(())
}

/// A line a scheme.
fn totals(page: &mut Page, machine: &MachineStudy) {
    let header = [
        "scheme",
        "DRAM read",
        "DRAM written",
        "buffers read",
        "compute cycles",
        "stall cycles",
        "utilisation",
        "energy",
    ];
    let rows = machine.schemes.iter().map(|cost| {
        let total = &cost.total;
        let row = vec![
            cost.scheme.clone(),
            bytes(total.dram_reads.total()),
            bytes(total.dram_writes.total()),
            bytes(total.buffer_reads.total()),
            total.compute_cycles.to_string(),
            total.stall_cycles.to_string(),
            format!("{:.1} %", 100.0 * total.utilisation),
            format!("{}pJ", short(total.energy.total())),
        ];
        (false, row)
    });
    page.table(&header.map(str::to_owned), &rows.collect::<Vec<_>>(), 1);
}

fn tensors(page: &mut Page, study: &Study) {
    page.heading("Tensors");
    page.paragraph("Stored bits over uncompressed bits.");
    let mut header: Vec<String> = ["tensor", "role", "element", "shape", "values", "zero"].map(str::to_owned).into();
    header.extend(study.schemes.iter().cloned());
    let rows = study.tensors.iter().map(|tensor| {
        let mut row = vec![
            tensor.name.clone(),
            tensor.role.name().into(),
            tensor.element.name().into(),
            shape_text(&tensor.shape),
            tensor.values.to_string(),
            format!("{:.0} %", 100.0 * tensor.zeros as f64 / tensor.values.max(1) as f64),
        ];
        row.extend(tensor.sizes.iter().map(|size| format!("{:.3}", size.total() as f64 / tensor.bits.max(1) as f64)));
        (false, row)
    });
    page.table(&header, &rows.collect::<Vec<_>>(), 4);
}

/// Cycles of each layer under each scheme, stalls behind a plus.
fn each_layer(page: &mut Page, study: &Study, machine: &MachineStudy) {
    page.paragraph("Cycles of each layer, computing + waiting for memory:");
    let mut header = vec!["layer".to_owned()];
    header.extend(machine.schemes.iter().map(|cost| cost.scheme.clone()));
    let rows = study.layers.iter().enumerate().map(|(place, name)| {
        let cells = machine.schemes.iter().filter_map(|cost| cost.layers.get(place));
        let cells = cells.map(|cost| format!("{} + {}", cost.compute_cycles, cost.stall_cycles));
        (false, std::iter::once(name.clone()).chain(cells).collect())
    });
    page.table(&header, &rows.collect::<Vec<_>>(), 1);
}

/// A sweep as one page that needs no other file.
///
/// # Errors
/// As [`study_page`].
pub fn sweep_page(sweep: &Sweep) -> Result<String> {
    let mut page = Page::new(&format!("{}: sweep", sweep.network));
    page.paragraph(&format!(
        "{} combinations. On the front (bold, filled): no other one of the same storage is at least as good in on-chip memory, cycles and energy, and better \
         in one.",
        sweep.points.len()
    ));
    if sweep.points.iter().any(|point| point.cycles.is_some()) {
        let scatter =
            Scatter { title: "Cycles and energy for one input", x: "cycles", y: "energy, pJ", series: series(sweep) };
        page.figure(&scatter.svg()?);
    }
    let header = ["storage", "machine", "scheme", "weights", "activations", "on chip", "DRAM", "cycles", "energy"]
        .map(str::to_owned);
    let none = || "-".to_owned();
    let rows = sweep.points.iter().map(|point| {
        let row = vec![
            point.storage.clone(),
            point.machine.clone().unwrap_or_else(none),
            point.scheme.clone(),
            point.weights.map_or_else(none, |share| format!("{share:.3}")),
            point.activations.map_or_else(none, |share| format!("{share:.3}")),
            point.buffer_bytes.map_or_else(none, |size| bytes(8.0 * size as f64)),
            point.dram_bits.map_or_else(none, bytes),
            point.cycles.map_or_else(none, |cycles| cycles.to_string()),
            point.energy.map_or_else(none, |pj| format!("{}pJ", short(pj))),
        ];
        (point.front, row)
    });
    page.table(&header, &rows.collect::<Vec<_>>(), 3);
    Ok(page.finish())
}

/// A series a storage and machine.
fn series(sweep: &Sweep) -> Vec<Dots> {
    let mut series: Vec<Dots> = Vec::new();
    for point in &sweep.points {
        let Point { machine: Some(machine), cycles: Some(cycles), energy: Some(energy), .. } = point else { continue };
        let name = format!("{}, {machine}", point.storage);
        let dot = Dot { x: *cycles as f64, y: *energy, front: point.front, label: point.scheme.clone() };
        match series.iter_mut().find(|known| known.name == name) {
            Some(known) => known.dots.push(dot),
            None => series.push(Dots { name, dots: vec![dot] }),
        }
    }
    series
}

/// Bits as bytes in words.
fn bytes(bits: f64) -> String {
    let bytes = bits / 8.0;
    match bytes {
        b if b >= f64::from(1 << 30) => format!("{:.2} GiB", b / f64::from(1 << 30)),
        b if b >= f64::from(1 << 20) => format!("{:.2} MiB", b / f64::from(1 << 20)),
        b if b >= 1024.0 => format!("{:.1} KiB", b / 1024.0),
        b => format!("{b:.0} B"),
    }
}
