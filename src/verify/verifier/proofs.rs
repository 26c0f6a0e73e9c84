//! What proofs keep of an analysis: the bounds and slopes of all layers with an activation, read back once a batch.

use super::Verifier;
use crate::error::Result;
use crate::gpu::{Control, Output, ReadTicket, Recording};
use crate::graph::Activation;
use crate::verify::book::{Open, layer_proof};
use crate::verify::bounds::Bounds;
use crate::verify::network::Order;
use crate::verify::proof::{LayerProof, QueryProof};

/// One layer on its way to the host.
struct Pending {
    layer: usize,
    lower: ReadTicket,
    upper: ReadTicket,
    /// Of layers whose neurons were back-substituted.
    refined: Option<ReadTicket>,
    /// Of smooth layers: the slopes of others follow from their bounds.
    lines: Option<ReadTicket>,
}

/// One layer of a batch, `[batch, n]` in the order of the network's file.
struct Kept {
    n: usize,
    lower: Vec<f32>,
    upper: Vec<f32>,
    refined: Option<Vec<u32>>,
    /// Of the lines below and above.
    slopes: Option<[Vec<f32>; 2]>,
}

impl Kept {
    fn of_box(&self, place: usize) -> LayerProof {
        let at = place * self.n..(place + 1) * self.n;
        let refined = self.refined.as_ref().map(|flags| &flags[at.clone()]);
        let slopes = self.slopes.as_ref().map(|[low, high]| [&low[at.clone()], &high[at.clone()]]);
        layer_proof(&self.lower[at.clone()], &self.upper[at.clone()], refined, slopes)
    }
}

impl Verifier {
    /// Reads back slopes and bounds, and makes a proof of every query that held in this batch: `held` has its place in the batch
    /// and its index in `open`.
    pub(super) async fn keep_proofs(
        &self,
        open: &mut [Open<'_>],
        bounds: &Bounds<'_>,
        held: &[(usize, usize)],
        full: bool,
        control: &Control,
    ) -> Result<()> {
        let mut recording = Recording::new();
        let curved = (0..self.net.layers.len()).filter(|&k| self.net.layers[k].activation != Activation::None);
        let pending: Vec<Pending> = curved.map(|k| self.record_kept(&mut recording, bounds, k, full)).collect();
        let mut output = self.gpu.run_async(&recording, control).await?;
        let kept: Vec<Kept> = pending.into_iter().map(|layer| self.take_kept(&mut output, bounds, layer)).collect();
        for &(place, i) in held {
            let layers = kept.iter().map(|layer| layer.of_box(place)).collect();
            let claims = open[i].bounds.iter().flatten().copied().collect();
            open[i].proof = Some(QueryProof { layers, claims });
        }
        Ok(())
    }

    fn record_kept(&self, recording: &mut Recording, bounds: &Bounds<'_>, layer: usize, full: bool) -> Pending {
        let (net, state) = (&self.net.layers[layer], &bounds.layers[layer]);
        let refined = (full && net.is_refinable()).then(|| state.refined.record_read(recording));
        let lines = net.is_smooth().then(|| state.lines.record_read(recording));
        let (lower, upper) = (state.lower.record_read(recording), state.upper.record_read(recording));
        Pending { layer, lower, upper, refined, lines }
    }

    fn take_kept(&self, output: &mut Output, bounds: &Bounds<'_>, pending: Pending) -> Kept {
        let (net, state) = (&self.net.layers[pending.layer], &bounds.layers[pending.layer]);
        let order = Order(net.extent);
        let refined = pending.refined.map(|ticket| order.to_onnx(&state.refined.take(output, ticket)));
        // Two lines a neuron, of which a proof needs the slopes: each is four numbers and starts with it.
        let slopes = pending.lines.map(|ticket| {
            let lines = state.lines.take(output, ticket);
            [0, 4].map(|first| order.to_onnx(&lines.chunks(8).map(|line| line[first]).collect::<Vec<f32>>()))
        });
        let (lower, upper) = (state.lower.take(output, pending.lower), state.upper.take(output, pending.upper));
        Kept { n: net.len(), lower: order.to_onnx(&lower), upper: order.to_onnx(&upper), refined, slopes }
    }
}
