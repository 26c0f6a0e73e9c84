//! Plans and recordings of an analysis that is not run, to see that large networks keep within a device's limits.

use super::bounds::{Bounds, Mode};
use super::network::column_pitch;
use super::state::{Plan, Spec};
use super::verifier::Verifier;
use super::walk::Walks;
use crate::error::Result;
use crate::gpu::{Caps, Command, Grid, Recording};

/// What a recording asks of a device.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Demand {
    /// Recorded dispatches, and those of the largest recording.
    pub dispatches: usize,
    pub at_once: usize,
    /// The largest binding in bytes.
    pub binding: u64,
    /// The largest grid dimension that the host knows.
    pub groups: u32,
}

impl Demand {
    fn add(&mut self, recording: &Recording) {
        self.dispatches += recording.dispatches();
        self.at_once = self.at_once.max(recording.dispatches());
        for command in recording.commands() {
            let Command::Dispatch(dispatch) = command else { continue };
            let largest = dispatch.bindings.iter().map(|binding| binding.size).max().unwrap_or(0);
            self.binding = self.binding.max(largest);
            if let Grid::Direct(grid) = dispatch.grid {
                self.groups = grid.into_iter().fold(self.groups, u32::max);
            }
        }
    }
}

impl Verifier {
    /// Records the analysis of one box with `rows` output rows, layer by layer, in memory that is really taken.
    pub(crate) fn rehearse(&self, rows: usize, full: bool) -> Result<Demand> {
        let plan = Plan::new(&self.gpu, &self.net, 1, rows)?;
        let mode = Mode { all_rows: false, intersect: true };
        let zeros = vec![0.0; self.net.n_in()];
        let outputs = self.net.n_out();
        let coefficients = vec![1.0; rows * outputs];
        let (rel, state, used) = (vec![0.0; rows], vec![0.0; 2 * rows], vec![1; rows]);
        let spec = Spec { rows, outputs, coefficients, rel, state, used };
        let bounds = Bounds::new(&self.gpu, &self.net, self.rounding, (mode, plan), (&zeros, &zeros), &spec);
        let bounds = pollster::block_on(bounds)?;
        let mut demand = Demand::default();
        for layer in 0..self.net.layers.len() {
            let mut recording = Recording::new();
            bounds.record_interval(&mut recording, layer)?;
            if full && self.net.layers[layer].is_refinable() {
                bounds.record_refine(&mut recording, layer)?;
            }
            bounds.record_lines(&mut recording, layer)?;
            demand.add(&recording);
        }
        let mut recording = Recording::new();
        bounds.record_input(&mut recording)?;
        bounds.record_queries(&mut recording)?;
        demand.add(&recording);
        Ok(demand)
    }

    /// Plans `boxes` boxes on another device with `free` bytes, and holds every size against its limits and 32-bit indices. How many boxes it
    /// takes at once.
    pub(crate) fn fits(&mut self, caps: &Caps, free: u64, boxes: usize, rows: usize) -> Result<usize> {
        let walks = Walks::planned_for(&self.gpu, caps, self.net.input, &self.net.layers);
        self.net.walks = pollster::block_on(walks)?;
        let walks = &self.net.walks;
        let shapes: Vec<u32> = walks.shapes.to_array(&self.gpu)?.into_iter().collect();
        let plan = Plan::fit(caps, free, &self.net, boxes, rows)?;
        let binding = |what: &str, elements: usize, bytes: usize| {
            assert!(u32::try_from(elements).is_ok(), "{what}: {elements} elements");
            assert!((elements * bytes) as u64 <= caps.max_binding, "{what}: {} bytes", elements * bytes);
        };
        binding("slot", plan.slot, 4);
        binding("partial sums", plan.partial, 16);
        binding("rows", plan.rows, 16);
        let widest = self.net.widest();
        binding("lines", plan.batch * widest * 8, 4);
        binding("columns", 2 * widest * column_pitch(plan.batch), 4);
        binding("states", 2 * plan.batch * 2 * widest, 4);
        binding("forms", plan.batch * rows * self.net.n_in(), 4);
        for walk in walks.all() {
            let n = walk.target.map_or(rows, |layer| self.net.layers[layer].len());
            let capacity = plan.capacity(&self.net, walk, n);
            binding("a walk's slot", capacity * walk.widest, 4);
            for shape in shapes[4 * walk.first_shape..4 * (walk.first_shape + walk.grids)].chunks(4) {
                let [x, y, z] = [capacity.div_ceil(shape[0] as usize), shape[1] as usize, shape[2] as usize];
                let largest = x.max(y).max(z);
                assert!(largest <= caps.max_workgroups as usize, "a grid of {x} x {y} x {z} workgroups");
            }
        }
        Ok(plan.batch)
    }
}
