//! Rows on their way back to the input: `row_given`, `row_start`, `row_first`, `relax_rows`, `row_finish` and the maps.

use wavehull::graph::{Activation, Edge, Map};

use super::{Emulator, LayerBounds, Row, Start, Term, constant_depth, is_huge, place, slices, step_down, weights};
use crate::arithmetic::Site;

impl Emulator<'_> {
    /// A row that is given on the outputs, on its way back to the input; its best bound.
    pub(super) fn query(&mut self, start: &Start) -> f32 {
        let last = self.net.layers.len();
        self.a.site = Site::Costs;
        let mut cost = vec![start.error];
        for line in &self.bounds[last - 1].lines.clone() {
            let m = line.sides[0].bound.abs().max(line.sides[1].bound.abs());
            let rel = self.charge(Term::Coefficients, start.rel);
            let part = self.a.mul(rel, start.coefficients[line.neuron].abs());
            cost.push(self.a.mul(part, m));
        }
        let cost = self.a.sum(&cost);
        let grow = self.grow(Term::GivenGrow, start.coefficients.len() + 8);
        let error = self.a.mul(cost, grow);
        let mut row = Row { coefficients: vec![None; last + 1], constant: start.constant, error };
        row.coefficients[last] = Some(start.coefficients.clone());
        let mut best = -(2.0_f32.powi(39));
        for at in (0..=last).rev() {
            let Some((bound, cut)) = self.level(&mut row, at) else { continue };
            best = if cut { best.max(bound) } else { best };
            if cut && best > 0.0 {
                break;
            }
            self.pushes(&mut row, at);
        }
        best
    }

    /// Back-substitutes the unstable neurons of a layer.
    pub(super) fn refine(&mut self, index: usize) {
        let layer = &self.net.layers[index];
        let smooth = matches!(layer.activation, Activation::Sigmoid | Activation::Tanh);
        let weight_rel = layer.edges.iter().fold(0.0_f32, |rel, edge| edge.rel.max(rel));
        let writes = self.charge(Term::StartWrites, self.gamma(self.depths[index].start_writes));
        let start = self.charge(Term::StartWeight, weight_rel) + writes;
        for j in 0..layer.extent.len() {
            let open = |state: &LayerBounds| smooth || state.lower[j] < 0.0 && state.upper[j] > 0.0;
            if !open(&self.bounds[index]) {
                continue;
            }
            self.a.site = Site::Costs;
            let weight = self.a.mul(start, self.bounds[index].weight_sum[j]);
            let error = self.a.add(self.charge(Term::StartBias, layer.bias_abs[j]), weight);
            let error = self.a.mul(error, 1.0 + 4.0 * self.u);
            let mut rows = [1.0, -1.0].map(|sign| {
                let mut row = Row { coefficients: vec![None; index + 1], constant: sign * layer.bias[j], error };
                layer.edges.iter().for_each(|edge| self.first(&mut row, edge, j, sign));
                row
            });
            for at in (0..=index).rev() {
                let [low, high] = &mut rows;
                let (Some(low_bound), Some(high_bound)) = (self.level(low, at), self.level(high, at)) else { continue };
                let state = &mut self.bounds[index];
                if low_bound.1 {
                    state.lower[j] = state.lower[j].max(low_bound.0);
                    state.upper[j] = state.upper[j].min(-high_bound.0);
                    if !open(state) {
                        break;
                    }
                }
                rows.iter_mut().for_each(|row| self.pushes(row, at));
            }
        }
    }

    /// row_first: a row of an edge's map is added to what stands there.
    fn first(&mut self, row: &mut Row, edge: &Edge, j: usize, sign: f32) {
        self.a.site = Site::Product;
        let mut mine = match &edge.map {
            Map::Dense(weight) => weight.row(j).iter().map(|w| sign * w).collect(),
            map => {
                let all = weights(map);
                (0..all.len()).map(|i| if i == j { sign * all[j] } else { 0.0 }).collect::<Vec<f32>>()
            }
        };
        if let Some(held) = row.coefficients[place(edge.source)].take() {
            mine = mine.into_iter().zip(held).map(|(a, b)| self.a.add(a, b)).collect();
        }
        row.coefficients[place(edge.source)] = Some(mine);
    }

    /// Relaxes a row at the input (0) or behind a layer and finishes it; the bound, and whether it is one of all that is pending.
    fn level(&mut self, row: &mut Row, at: usize) -> Option<(f32, bool)> {
        let cut = row.coefficients.iter().flatten().count() == 1;
        let values = row.coefficients[at].take()?;
        let lines = match at.checked_sub(1) {
            Some(index) => self.bounds[index].lines.clone(),
            None => self.box_lines(),
        };
        let parts = slices(values.len());
        let share = lines.len().div_ceil(parts).max(1);
        let mut next = vec![0.0; values.len()];
        let mut partial: [Vec<f32>; 3] = Default::default();
        for slice in lines.chunks(share) {
            let mut pairs: [Vec<(f32, f32)>; 3] = Default::default();
            for line in slice {
                let value = values[line.neuron];
                self.bad |= is_huge(value);
                let side = line.sides[usize::from(value < 0.0)];
                pairs[0].push((value, side.offset));
                pairs[1].push((value.abs(), side.cost));
                pairs[2].push((value, side.bound));
                self.a.site = Site::Relax;
                next[line.neuron] = self.a.mul(value, side.slope);
            }
            for ((pairs, partial), site) in
                pairs.iter().zip(&mut partial).zip([Site::Constants, Site::Costs, Site::Bounds])
            {
                self.a.site = site;
                partial.push(self.a.dot(pairs));
            }
        }
        row.coefficients[at] = Some(next);
        Some((self.finish(row, &partial, values.len(), at), cut))
    }

    /// row_finish: the bound that this level gives.
    fn finish(&mut self, row: &mut Row, [x, z, w]: &[Vec<f32>; 3], n: usize, at: usize) -> f32 {
        let (c, error) = (row.constant, row.error);
        let d = self.u * (slices(n) + 8) as f32;
        self.a.site = Site::Costs;
        let (size_x, size_w) = (self.a.sum(x).abs(), self.a.sum(w).abs());
        let sizes = self.a.add(c.abs(), size_x);
        let own = self.a.mul(self.charge(Term::Constant, d), sizes);
        let cost = self.a.sum(&[&[error][..], z, &[own, self.tiny]].concat());
        let grow = self.grow(Term::Grow, constant_depth(n));
        let cost = self.a.mul(cost, grow);
        let sizes = self.a.add(c.abs(), size_w);
        let own = self.a.mul(self.charge(Term::Bound, d), sizes);
        let slack = self.a.sum(&[self.charge(Term::Carried, error), own, self.tiny]);
        let grow = self.a.add(1.0, self.charge(Term::BoundGrow, 2.0 * d));
        let slack = self.a.mul(slack, grow);
        self.a.site = Site::Bounds;
        let bound = self.a.sum(&[&[c][..], w, &[-slack]].concat());
        let bound = if self.off == Some(Term::Step) { bound } else { step_down(bound) };
        if at > 0 {
            self.a.site = Site::Constants;
            row.constant = self.a.sum(&[&[c][..], x].concat());
            row.error = cost;
            self.bad |= is_huge(row.constant) || is_huge(cost);
        }
        self.bad |= is_huge(bound) && bound > 0.0;
        if is_huge(bound) { f32::MIN } else { bound }
    }

    /// The relaxed coefficients of a layer go through all of its edges and are added to what stands at their sources.
    fn pushes(&mut self, row: &mut Row, at: usize) {
        let Some(index) = at.checked_sub(1) else { return };
        let Some(from) = row.coefficients[at].take() else { return };
        self.a.site = Site::Product;
        let list: Vec<usize> = self.bounds[index].lines.iter().map(|line| line.neuron).collect();
        for edge in &self.net.layers[index].edges {
            let to = place(edge.source);
            let held = row.coefficients[to].take();
            let count = self.net.extent(edge.source).len();
            let pushed = (0..count).map(|i| {
                let pairs: Vec<(f32, f32)> = match &edge.map {
                    Map::Dense(weight) => list.iter().map(|&j| (from[j], weight[[j, i]])).collect(),
                    map => vec![(from[i], weights(map)[i])],
                };
                self.added(&pairs, held.as_ref().map(|held| held[i]))
            });
            let pushed = pushed.collect();
            row.coefficients[to] = Some(pushed);
        }
    }
}
