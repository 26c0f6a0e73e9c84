//! What a batch that held leaves for a proof: the choices that were made on the device.

use super::book::Open;
use super::bounds::Bounds;
use super::network::Order;
use super::proof::{LayerProof, QueryProof};
use super::verifier::Verifier;
use crate::error::Result;
use crate::gpu::{Control, Output, ReadTicket, Recording};
use crate::graph::Activation;

/// Reads of one layer on their way.
struct Tickets {
    lower: ReadTicket,
    upper: ReadTicket,
    refined: Option<ReadTicket>,
    lines: Option<ReadTicket>,
}

/// One layer's bounds and choices for all boxes of a batch, `[batch, n]` each, in the network's order.
struct Evidence {
    n: usize,
    lower: Vec<f32>,
    upper: Vec<f32>,
    /// Which neurons were bounded by rows.
    refined: Option<Vec<u32>>,
    /// Slopes of the lower and of the upper line, where they do not follow from the bounds.
    slopes: Option<[Vec<f32>; 2]>,
}

impl Verifier {
    /// Reads back slopes and bounds, and makes a proof of every query that held in this batch: `held` has the place in the batch and
    /// the index among all queries of each.
    pub(super) async fn keep_proofs(
        &self,
        open: &mut [Open<'_>],
        bounds: &Bounds<'_>,
        held: &[(usize, usize)],
        full: bool,
        control: &Control,
    ) -> Result<()> {
        let mut recording = Recording::new();
        let curved: Vec<usize> =
            (0..self.net.layers.len()).filter(|&k| self.net.layers[k].activation != Activation::None).collect();
        let tickets: Vec<Tickets> = curved.iter().map(|&k| self.request(&mut recording, bounds, k, full)).collect();
        let mut output = self.gpu.run_async(&recording, control).await?;
        let layers: Vec<Evidence> =
            curved.iter().zip(tickets).map(|(&k, tickets)| self.receive(&mut output, bounds, k, tickets)).collect();
        for &(place, i) in held {
            let claims = open[i].bounds.iter().flatten().copied().collect();
            open[i].proof = Some(QueryProof { layers: layers.iter().map(|l| l.of_box(place)).collect(), claims });
        }
        Ok(())
    }

    fn request(&self, recording: &mut Recording, bounds: &Bounds<'_>, k: usize, full: bool) -> Tickets {
        let (layer, state) = (&self.net.layers[k], &bounds.layers[k]);
        Tickets {
            lower: state.lower.record_read(recording),
            upper: state.upper.record_read(recording),
            refined: (full && layer.is_refinable()).then(|| state.refined.record_read(recording)),
            lines: layer.is_smooth().then(|| state.lines.record_read(recording)),
        }
    }

    fn receive(&self, output: &mut Output, bounds: &Bounds<'_>, k: usize, tickets: Tickets) -> Evidence {
        let (layer, state) = (&self.net.layers[k], &bounds.layers[k]);
        let order = Order(layer.extent);
        // Two lines a neuron, of four numbers each, of which the first is the slope.
        let slopes = tickets.lines.map(|ticket| state.lines.take(output, ticket)).map(|lines| {
            [0, 4].map(|first| order.to_onnx(&lines.chunks(8).map(|line| line[first]).collect::<Vec<f32>>()))
        });
        Evidence {
            n: layer.len(),
            lower: order.to_onnx(&state.lower.take(output, tickets.lower)),
            upper: order.to_onnx(&state.upper.take(output, tickets.upper)),
            refined: tickets.refined.map(|ticket| order.to_onnx(&state.refined.take(output, ticket))),
            slopes,
        }
    }
}

impl Evidence {
    /// What one box of the batch contributes: slopes as the device chose them (for a ReLU relax_neurons.wgsl chooses the lower one by
    /// the bounds), and the bounds of neurons that rows bounded.
    fn of_box(&self, place: usize) -> LayerProof {
        let mine = place * self.n..(place + 1) * self.n;
        let (lower, upper) = (&self.lower[mine.clone()], &self.upper[mine.clone()]);
        let bounds = |j: usize| (j, f64::from(lower[j]), f64::from(upper[j]));
        let refined = self.refined.as_ref().map_or_else(Vec::new, |flags| {
            let flags = &flags[mine.clone()];
            (0..self.n).filter(|&j| flags[j] != 0).map(bounds).collect()
        });
        let wide = |slopes: &[f32]| slopes.iter().map(|&slope| f64::from(slope).clamp(0.0, 1.0)).collect();
        if let Some([low, high]) = &self.slopes {
            return LayerProof { slopes: wide(&low[mine.clone()]), upper: wide(&high[mine]), refined };
        }
        let slopes = lower.iter().zip(upper).map(|(&l, &h)| if l >= 0.0 || h > -l { 1.0 } else { 0.0 }).collect();
        LayerProof { slopes, upper: vec![], refined }
    }
}
