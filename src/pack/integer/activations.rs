//! What a run has computed.

use super::{Network, Tensor};
use crate::error::{Error, Result};
use crate::pack::{Element, Kind, Values, Workload};

/// The codes of every tensor of a [`Network`] for every sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activations {
    /// Samples.
    pub(super) samples: usize,
    /// For each tensor, sample after sample.
    pub(super) codes: Vec<Vec<i8>>,
}

impl Activations {
    /// How many samples there are.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Codes of a tensor (numbered as in [`Network::tensors`]), sample after sample, channels innermost.
    pub fn codes(&self, tensor: usize) -> &[i8] {
        self.codes.get(tensor).map_or(&[], Vec::as_slice)
    }

    /// The stored values of a tensor for a sample: code - zero point modulo 256, unsigned where the zero point is the smallest code (as
    /// behind a ReLU), else signed.
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a tensor or sample that is not there.
    pub fn values(&self, network: &Network, tensor: usize, sample: usize) -> Result<Values> {
        let there = network.tensors.get(tensor).filter(|_| sample < self.samples);
        let Some(Tensor { name, shape, zero_point, .. }) = there else {
            return Err(Error::bad_input(format!("no tensor {tensor} of sample {sample} was computed")));
        };
        let len: usize = shape.iter().product();
        let codes = self.codes(tensor).get(sample * len..(sample + 1) * len).unwrap_or_default();
        let centred = codes.iter().map(|&code| (i32::from(code) - zero_point).to_le_bytes()[0]).collect();
        let element = if *zero_point == -128 { Element::U8 } else { Element::I8 };
        Values::from_bytes(name.clone(), Kind::Activations, element, shape, centred)
    }

    /// Puts the maps that layers read and write, for every sample, into the network's [`Workload`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::BadInput`] for a workload or activations of another network.
    pub fn fill(&self, network: &Network, workload: &mut Workload) -> Result<()> {
        let products: Vec<_> = network.products().collect();
        if products.len() != workload.layers.len() || self.codes.len() != network.tensors.len() {
            return Err(Error::bad_input(format!("activations of '{}' for '{}'", network.name, workload.name)));
        }
        for ((product, output), layer) in products.into_iter().zip(&mut workload.layers) {
            let maps = |tensor| -> Result<Vec<Values>> {
                (0..self.samples).map(|sample| self.values(network, tensor, sample)).collect()
            };
            layer.inputs = maps(product.input)?;
            layer.outputs = maps(output)?;
        }
        Ok(())
    }
}
